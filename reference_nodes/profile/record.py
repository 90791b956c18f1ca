"""What a drafter gets right: for each token of a target's stream, where the drafter had it among its choices.

A record file has one stream a line, as JSON; ``dsdp record`` writes it::

    {"v": 1, "target": "smollm2", "drafter": "smollm2-draft", "temperature": 0.0, "prompt_tokens": 57, "tokens": 128,
     "width": 3, "ranks": [0, 0, 255, 1, ...], "scores": [[3, 40, 60], ...]}

``ranks[i]`` is the place of the target's i-th token among the drafter's choices given the true prefix, 0 for the first,
255 where it was not among them; ``scores[i]`` is what the drafter reported for its choices, best first. Both come from
the executors that nodes run, under the session's own noise, so a live session with the same prompt, temperature and
seed meets the same luck.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dsdproto.errors import DsdpError
from dsdproto.roles.work import Child, DraftWork, ExpandItem, ScoreItem, VerifyWork
from dsdproto.wire.messages import Contract
from reference_nodes.backends.base import BackendError
from reference_nodes.executors import DraftExecutor, VerifyExecutor

VERSION = 1
ABSENT = 255
"""Rank of a token that is not among the choices."""
KEY = "record"


class RecordError(DsdpError):
    """A record file cannot be used. The text names file and line, what was found and what is expected."""

    code = "record"


@dataclass(frozen=True, slots=True)
class StreamRecord:
    """One line of a record file."""

    v: int
    target: str
    drafter: str
    temperature: float
    prompt_tokens: int
    tokens: int
    width: int
    ranks: tuple[int, ...]
    scores: tuple[tuple[int, ...], ...]

    @property
    def acceptance(self) -> float:
        """Share of the tokens that were the drafter's first choice."""
        return sum(rank == 0 for rank in self.ranks) / len(self.ranks)

    @property
    def among(self) -> float:
        """Share of the tokens that were any of its choices."""
        return sum(rank != ABSENT for rank in self.ranks) / len(self.ranks)

    def line(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"))


def record_stream(
    target: VerifyExecutor, drafter: DraftExecutor, contract: Contract, width: int, names: tuple[str, str]
) -> StreamRecord:
    """Decode ``contract`` on the target alone and ask the drafter at every position.

    :param width: choices that it is asked for, at least 1.
    :param names: of target and drafter, for the file.

    Raises BackendError.
    """
    prompt = tuple(contract.prompt)
    room = min(target.backend.max_context, drafter.backend.max_context) - len(prompt)
    if room < 1:
        raise BackendError(
            f"a prompt of {len(prompt)} tokens leaves no room in a context of {room + len(prompt)}; shorten the prompt"
        )
    said: list[int] = []
    ranks: list[int] = []
    scores: list[tuple[int, ...]] = []
    try:
        while len(said) < min(contract.max_tokens, room) and (not said or said[-1] not in contract.stop_tokens):
            prefix = (*prompt, *said)
            choices = _choices(drafter, prefix, contract, width)
            said.append(_token(target, prefix, contract))
            found = [rank for rank, choice in enumerate(choices) if choice.token == said[-1]]
            ranks.append(found[0] if found else ABSENT)
            scores.append(tuple(choice.score for choice in choices))
    finally:
        target.run(VerifyWork((), None, (KEY,)))
        drafter.run(DraftWork((), (KEY,)))
    temperature = contract.sampling.temperature / 65536
    return StreamRecord(VERSION, *names, temperature, len(prompt), len(said), width, tuple(ranks), tuple(scores))


def _token(target: VerifyExecutor, prefix: tuple[int, ...], contract: Contract) -> int:
    item = ScoreItem(KEY, prefix, (), (), contract.sampling, contract.stop_tokens, 1)
    (walk,) = target.run(VerifyWork((item,), None, ())).walks
    if isinstance(walk, str):
        raise BackendError(walk)
    return walk.tokens[0]


def _choices(drafter: DraftExecutor, prefix: tuple[int, ...], contract: Contract, width: int) -> tuple[Child, ...]:
    item = ExpandItem(KEY, prefix, (), (), (0,), contract.sampling, width)
    (children,) = drafter.run(DraftWork((item,), ())).children
    if isinstance(children, str):
        raise BackendError(children)
    return children[0]


# ---------------------------------------------------------------- files


def write_records(path: Path, records: Iterable[StreamRecord]) -> None:
    """Raises :class:`RecordError`."""
    try:
        path.write_text("".join(record.line() + "\n" for record in records), "utf-8")
    except OSError as error:
        raise RecordError(f"cannot write the record {path}: {error}") from error


def read_records(path: Path) -> list[StreamRecord]:
    """Every stream of a file. Raises :class:`RecordError` that names the line."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"cannot read the record {path}: {error}. `dsdp record` writes one") from error
    records = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                found = json.loads(line)
            except ValueError as error:
                raise RecordError(f"{path}, line {number}: is no JSON: {error}") from error
            records.append(record_of(found, f"{path}, line {number}"))
    if not records:
        raise RecordError(f"{path} holds no streams. `dsdp record` writes one a line")
    return records


def record_of(found: Any, where: str) -> StreamRecord:
    """From JSON. Raises :class:`RecordError`."""
    if not isinstance(found, dict) or found.get("v") != VERSION:
        version = found.get("v") if isinstance(found, dict) else found
        raise RecordError(f"{where}: v is {version!r}, this program reads {VERSION}; write it anew with `dsdp record`")
    ranks, scores = found.get("ranks"), found.get("scores")
    if not _bytes(ranks) or not ranks:
        raise RecordError(f"{where}: ranks must be a list of numbers from 0 to 255, one for each token, and not empty")
    if not isinstance(scores, list) or len(scores) != len(ranks) or not all(map(_bytes, scores)):
        raise RecordError(f"{where}: scores must be a list of lists of numbers from 0 to 255, as many as ranks")
    for index, (rank, choices) in enumerate(zip(ranks, scores)):
        if rank != ABSENT and rank >= len(choices):
            raise RecordError(f"{where}: ranks[{index}] is {rank}, but there are {len(choices)} scores")
    prompt, width, temperature = found.get("prompt_tokens"), found.get("width"), found.get("temperature")
    if not _count(prompt) or not _count(width):
        text = f"prompt_tokens and width must be whole numbers from 1 on, not {prompt!r}, {width!r}"
        raise RecordError(f"{where}: {text}")
    if not isinstance(temperature, int | float) or temperature < 0:
        raise RecordError(f"{where}: temperature is {temperature!r}; expected a number from 0 on")
    if found.get("tokens") != len(ranks):
        raise RecordError(f"{where}: tokens is {found.get('tokens')!r}, but there are {len(ranks)} ranks")
    return StreamRecord(
        VERSION,
        str(found.get("target", "")),
        str(found.get("drafter", "")),
        float(temperature),
        prompt,
        len(ranks),
        width,
        tuple(ranks),
        tuple(map(tuple, scores)),
    )


def _bytes(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and 0 <= value <= ABSENT for value in values)


def _count(value: Any) -> bool:
    return type(value) is int and value >= 1


def summary(records: Sequence[StreamRecord]) -> dict[str, Any]:
    """Figures over all tokens; at least one record."""
    ranks = [rank for record in records for rank in record.ranks]
    width = max(record.width for record in records)
    return {
        "target": records[0].target,
        "drafter": records[0].drafter,
        "temperature": records[0].temperature,
        "streams": len(records),
        "tokens": len(ranks),
        "first_choice": round(sum(rank == 0 for rank in ranks) / len(ranks), 4),
        "by_rank": [round(sum(rank == place for rank in ranks) / len(ranks), 4) for place in range(width)],
        "run_length": round(_runs(records), 3),
    }


def _runs(records: Sequence[StreamRecord]) -> float:
    """Mean number of first choices in a row between two that were wrong: what a long chain would have brought."""
    hits = sum(rank == 0 for record in records for rank in record.ranks)
    misses = sum(rank != 0 for record in records for rank in record.ranks)
    return hits / (misses + len(records))
