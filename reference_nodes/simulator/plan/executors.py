"""What stands in place of backends: the work's result from the oracles, its duration from the device's model."""

from __future__ import annotations

from collections.abc import Callable, Hashable

from dsdproto.roles.work import DraftDone, DraftWork, VerifyDone, VerifyWork
from reference_nodes.simulator.plan.devices import DeviceModel
from reference_nodes.simulator.plan.measure import Meter
from reference_nodes.simulator.plan.memory import KvMemory
from reference_nodes.simulator.plan.oracle import DraftOracle, walk


class VerifyExecutor:
    """One verifier's device and its memory.

    :param capacity: of the memory, tokens; 0: no limit.
    """

    def __init__(self, device: DeviceModel, luck: Callable[[], float], meter: Meter, capacity: int) -> None:
        self._device, self._luck, self._meter = device, luck, meter
        self.memory = KvMemory(capacity)

    def run(self, work: VerifyWork) -> tuple[VerifyDone, float]:
        """(result with the seconds that the node reports, seconds of the whole job)."""
        memory, verified = self.memory, self._meter.window.verified
        for session in work.release:
            memory.forget(session)
        rows = context = nodes_in_all = accepted = 0
        evictions = memory.evictions
        walks = []
        for item in work.score:
            nodes, length = len(item.tokens), len(item.prefix)
            # The last position of the prefix belongs to the score itself.
            rows += max(1, length - memory.held(item.session)) + nodes
            context += length
            walked, path = walk(item)
            walks.append(walked)
            # The target's own last token is not computed yet.
            memory.keep(item.session, length + path)
            accepted += path
            verified.tokens += len(walked.tokens)
            nodes_in_all += nodes
            verified.with_drafts += nodes > 0
        prefilled = None
        positions = 0
        if work.prefill is not None:
            item = work.prefill
            before = memory.held(item.session)
            prefilled = min(len(item.prefix), before + item.budget)
            positions = max(0, prefilled - before)
            memory.keep(item.session, prefilled)
        sessions = len(walks)
        beyond = rows - sessions - nodes_in_all
        device, scored, alone = self._device, 0.0, 0.0
        if positions and not (sessions and device.fused):
            alone = device.seconds(0, 0, prefilled, positions, self._luck)
        if sessions:
            if not alone:
                scored = device.seconds(rows, sessions, context + (prefilled or 0), positions, self._luck, beyond)
            else:
                scored = device.seconds(rows, sessions, context, 0, self._luck, beyond)
            verified.nodes += nodes_in_all
            verified.forwards += 1
            verified.rounds += sessions
            verified.accepted += accepted
            verified.sessions.add(sessions)
            verified.rows.add(rows)
        verified.prefill += positions
        verified.beyond += beyond
        verified.evictions += memory.evictions - evictions
        took = alone + scored
        verified.busy += took
        return VerifyDone(tuple(walks), prefilled, rows, scored), took + device.between(sessions) if took else 0.0


class DraftExecutor:
    """One drafter's device."""

    def __init__(self, device: DeviceModel, oracle: DraftOracle, luck: Callable[[], float], meter: Meter) -> None:
        self._device, self._oracle, self._luck, self._meter = device, oracle, luck, meter
        self._known: set[Hashable] = set()
        """sessions whose prompt it has computed"""

    def run(self, work: DraftWork) -> tuple[DraftDone, float]:
        """(result with the seconds that the node reports, seconds of the whole job)."""
        expand = self._oracle.expand
        children = tuple([expand(item) for item in work.expand])
        rows = sum([len(item.nodes) for item in work.expand])
        known = self._known
        known.difference_update(work.release)
        took = 0.0
        if rows:
            context = prompt = 0
            for item in work.expand:
                context += len(item.prefix)
                if item.session not in known:
                    known.add(item.session)
                    prompt += len(item.prefix) - 1
            took = self._device.seconds(rows, len(children), context, prompt, self._luck)
        drafted = self._meter.window.drafted
        drafted.forwards += rows > 0
        drafted.expanded += rows
        drafted.busy += took
        return DraftDone(children, took), took + self._device.between(len(children)) if rows else 0.0
