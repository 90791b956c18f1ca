"""Acceptance as a real pair had it, from the files of ``dsdp record``."""

from __future__ import annotations

from pathlib import Path

from reference_nodes.profile.record import RecordError, read_records
from reference_nodes.simulator.plan.luck import uniform
from reference_nodes.simulator.plan.scenario import Recorded
from reference_nodes.simulator.plan.schema import ScenarioError


class RecordedProcess:
    """Follows recorded streams position by position; a session that is longer than its stream goes on with the next.

    :param key: of the run's luck, for sessions that draw their stream.
    """

    def __init__(self, given: Recorded, key: int, folder: Path, where: str) -> None:
        try:
            streams = read_records(folder / given.file)
        except RecordError as error:
            raise ScenarioError(f"{where}.file", str(error)) from None
        self.lengths = tuple((stream.prompt_tokens, stream.tokens) for stream in streams)
        """(prompt tokens, output tokens) of each stream"""
        self._ranks = tuple(stream.ranks for stream in streams)
        self._scores = tuple(stream.scores for stream in streams)
        self._key, self._random = key, given.order == "random"

    def stream_of(self, session: int) -> int:
        """Number of the stream that a session begins with."""
        count = len(self._ranks)
        return int(uniform(self._key, session) * count) if self._random else session % count

    def rank_at(self, session: int, position: int) -> tuple[int, tuple[int, ...]]:
        stream = self.stream_of(session)
        ranks = self._ranks[stream]
        while position >= len(ranks):
            position -= len(ranks)
            stream = (stream + 1) % len(self._ranks)
            ranks = self._ranks[stream]
        return ranks[position], self._scores[stream][position]
