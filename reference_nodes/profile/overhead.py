"""What a node itself costs, besides its model: time between two jobs, and time taken from a job that runs.

A target and a drafter run as two processes, as they do on a LAN, and leave a line for each job (`dsdp serve
--trace-jobs`). Sessions are served without and with the drafter, one at a time and several at once. Then

- between two verifications lie verdict, leader, blocks and the next VERIFY: a part for the step, and a part for each
  session in it;
- between two expansions lie the new nodes, what is proposed, and the next choice;
- a message that comes in while a job runs takes the interpreter from it for as long as it is handled.

What the event loop still has to do once the next job has begun counts as time between the two. All of it is measured
around the models themselves: what runs after a forward finds its caches filled with weights, and takes twice as long as
between two steps of a model that takes microseconds.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import trio

from dsdproto.wire.messages import Contract
from reference_nodes.bench.distant import Distant, open_distant
from reference_nodes.cli.generation import generate
from reference_nodes.cli.options import Prompt
from reference_nodes.cli.texts import Vocabulary
from reference_nodes.client import make_contract
from reference_nodes.job_trace import Job, read_jobs
from reference_nodes.profile.document import ProfileError

TEXT = Prompt("one two three four, one two three four, one two three four, one two")
"""Any drafter has something to say to that, also one that looks things up in the prompt."""
TOKENS = 64
SESSIONS = 4
"""At once, where there are several."""
TIMES = 2
TRIMMED = 0.05
"""Share of the shortest, and of the longest, that count for nothing: what else the machine did."""
LEAST = 8
"""Jobs of a kind without which nothing can be said."""


@dataclass(frozen=True, slots=True)
class Span:
    """Between two times, sessions of one kind were served; seconds as in a trace."""

    begin: float
    end: float

    def of(self, jobs: Sequence[Job]) -> list[Job]:
        """Those that ran within, in order."""
        return [job for job in jobs if self.begin <= job.begin and job.end <= self.end]


@dataclass(frozen=True, slots=True)
class Served:
    """The sessions, by kind."""

    alone: Span
    together: Span
    drafted: Span
    crowded: Span
    """several with the drafter"""
    spent: float
    """processor seconds of this process while there were drafts"""
    taken: int
    """messages that its client took meanwhile"""

    def with_drafts(self, jobs: Sequence[Job]) -> list[Job]:
        return [*self.drafted.of(jobs), *self.crowded.of(jobs)]


@dataclass(frozen=True, slots=True)
class PairCosts:
    """Of a target and a drafter on this machine."""

    verifier: dict[str, float]
    """``node`` of its profile"""
    drafter: dict[str, float]
    passing: float
    """processor seconds of this process, client and road between the two, for each message that a node takes"""


async def pair_costs(target: str, draft: str, say: Callable[[str], None]) -> PairCosts:
    """Start a pair and measure. Raises ModelError, BackendError, NodeError, ProfileError."""
    with tempfile.TemporaryDirectory(prefix="dsdp-") as name:
        folder = Path(name)
        async with open_distant(target, draft, say, folder, traces=folder) as distant:
            served = await serve(distant, target)
        return costs_of(distant, folder, served)


def costs_of(distant: Distant, traces: Path, served: Served) -> PairCosts:
    """Of nodes that have ended, so that their traces are complete. Raises ProfileError, TraceError."""
    verifying, drafting = (read_jobs(traces / f"{child.name}.jsonl") for child in (distant.target, distant.drafter))
    taken = sum(job.messages + job.messages_before for job in served.with_drafts([*verifying, *drafting]))
    passing = round(served.spent / (served.taken + taken), 6)
    return PairCosts(verifier_costs(verifying, served), drafter_costs(drafting, served), passing)


def middle(found: Sequence[PairCosts]) -> PairCosts:
    """Of several measurements the median of each figure."""

    def each(values: Sequence[Mapping[str, float]]) -> dict[str, float]:
        return {name: statistics.median(value[name] for value in values) for name in values[0]}

    passing = statistics.median(costs.passing for costs in found)
    return PairCosts(each([costs.verifier for costs in found]), each([costs.drafter for costs in found]), passing)


def node_costs(role: str, target: str, draft: str, say: Callable[[str], None]) -> dict[str, float]:
    """``node`` of a profile of ``role``: blocks until measured; not to be called from a Trio task. Raises as above."""
    costs = trio.run(pair_costs, target, draft, say)
    return costs.verifier if role == "verifier" else costs.drafter


def _contract(target: str) -> Contract:
    vocabulary = Vocabulary(target)
    return make_contract((vocabulary.size, vocabulary.digest), vocabulary.encode(TEXT), max_tokens=TOKENS)


async def serve(distant: Distant, target: str, times: int = TIMES) -> Served:
    """Sessions of every kind, each ``times`` times."""
    contract = _contract(target)

    async def span(sessions: int, drafters: int) -> Span:
        begin = time.perf_counter()
        for _ in range(times):
            async with trio.open_nursery() as nursery:
                for _ in range(sessions):
                    nursery.start_soon(_generate, distant, contract, drafters)
        return Span(begin, time.perf_counter())

    await span(1, 1)  # whatever happens for the first time
    alone, together = await span(1, 0), await span(SESSIONS, 0)
    spent, taken = time.process_time(), distant.node.host.messages
    drafted, crowded = await span(1, 1), await span(SESSIONS, 1)
    spent, taken = time.process_time() - spent, distant.node.host.messages - taken
    return Served(alone, together, drafted, crowded, spent, taken)


async def _generate(distant: Distant, contract: Contract, drafters: int) -> None:
    await generate(distant.node, contract, max_drafters=drafters, leader=distant.leader)


# ---------------------------------------------------------------- from jobs to figures


def verifier_costs(jobs: Sequence[Job], served: Served) -> dict[str, float]:
    """``verify_overhead_s`` of a step, ``verify_session_s`` of each session in it, ``verify_message_s`` of each message
    that a leader takes meanwhile. Raises ProfileError.
    """
    scoring = [job for job in jobs if job.role == "verifier"]
    one, several = (
        _between([pair for pair in pairwise(span.of(scoring)) if _alike(*pair, sessions)], "verifications")
        for span, sessions in ((served.alone, 1), (served.together, SESSIONS))
    )
    # Neither part is below nothing, however the two measurements were disturbed, and together they are what was seen.
    session = min(max(several - one, 0.0) / (SESSIONS - 1), several / SESSIONS)
    quiet = [job for job in served.alone.of(scoring) if not job.prefill]
    return {
        "verify_overhead_s": round(max(one - session, 0.0), 6),
        "verify_session_s": round(session, 6),
        "verify_message_s": _message([job for job in served.with_drafts(scoring) if not job.prefill], quiet),
    }


def drafter_costs(jobs: Sequence[Job], served: Served) -> dict[str, float]:
    """``draft_overhead_s`` of a step and ``draft_message_s`` of each message. Raises ProfileError."""
    expanding = [job for job in jobs if job.role == "drafter" and job.rows]
    pairs, drafting = list(pairwise(served.drafted.of(expanding))), served.with_drafts(expanding)
    # Behind a message a drafter may have waited for just that.
    at_once = [pair for pair in pairs if not pair[1].messages_before and not pair[1].messages]
    if len(at_once) >= LEAST:
        between = _between(at_once, "expansions")
    else:
        # One that always is done before the next message waits nearly every time, but not for long every time.
        shortest = sorted(pairs, key=lambda pair: pair[1].begin - pair[0].end)[: max(LEAST, len(pairs) // 10)]
        between = _between(shortest, "expansions")
    return {
        "draft_overhead_s": round(between, 6),
        "draft_message_s": _message(drafting, [job for job in drafting if not job.messages]),
    }


def _alike(before: Job, after: Job, sessions: int) -> bool:
    return before.sessions == after.sessions == sessions and not before.prefill and not after.prefill


def _between(pairs: Sequence[tuple[Job, Job]], what: str) -> float:
    """Seconds from the end of a job to the beginning of the next, and of the event loop within that: a trimmed mean."""
    if len(pairs) < LEAST:
        raise ProfileError(f"{len(pairs)} {what} to look at, {LEAST} are needed; is the machine too busy?")
    found = sorted(after.begin - before.end + after.loop_s for before, after in pairs)
    off = int(TRIMMED * len(found))
    return statistics.fmean(found[off : len(found) - off])


def _message(jobs: Sequence[Job], quiet: Sequence[Job]) -> float:
    """Seconds of the event loop for each message during ``jobs``, above those that it takes without any."""
    usual = statistics.fmean([job.loop_s for job in quiet]) if quiet else 0.0
    messages = sum(job.messages for job in jobs)
    extra = sum(job.loop_s - usual for job in jobs)
    return round(max(extra, 0.0) / messages, 6) if messages else 0.0
