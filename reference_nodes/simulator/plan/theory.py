"""What theory says of speculative decoding at a distance, to hold the simulator against.

Acceptance is independent and identical at each position, times are constants, nobody queues. Tokens per round, best
window and break-even round trip are policies as well and stand in :mod:`dsdproto.policy.windows`. Seconds and tokens
throughout; ``acceptance`` is the chance that the drafter's first choice is the target's token.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

from dsdproto.policy.windows import tokens_per_round

NEGLIGIBLE = 1e-12


def synchronous_time_per_token(acceptance: float, size: int, round_trip: float, draft: float, verify: float) -> float:
    """Drafter and target by turns: (RTT + g t_d + t_v) / tokens per round. A window of 0 needs no drafter: t_v.

    :param draft: seconds of one draft token.
    :param verify: seconds of a forward with the window's rows.
    """
    if size == 0:
        return verify
    return (round_trip + size * draft + verify) / tokens_per_round(acceptance, size)


def kappa_of(round_trip: float, draft: float, base: float, per_row: float = 0.0, queue: float = 0.0) -> float:
    """What :func:`dsdproto.policy.windows.optimal_window` asks for: what a round takes without any draft, in units of
    what one draft token adds to it.

    :param base: seconds of a forward besides its rows. The target's own token takes one row too.
    """
    return (round_trip + queue + base + per_row) / (draft + per_row)


def ahead_time_per_token(acceptance: float, size: int, round_trip: float, draft: float, verify: float) -> float:
    """Drafting goes on during verification: max(t_d, t_v/g) + (1 - a) (RTT + t_v).

    A wrong draft costs what is on the road and in the verifier. Three things are left out that
    :func:`ahead_time_in_blocks` has: a wrong draft is found out only when its block is full, the drafter then ends the
    useless step that it is at, and a verdict brings one token more than were drafted.
    """
    return max(draft, verify / size) + (1.0 - acceptance) * (round_trip + verify)


def ahead_time_in_blocks(acceptance: float, size: int, round_trip: float, draft: float, verify: float) -> float:
    """Draft-ahead with blocks of exactly ``size`` tokens and one verification at a time: the mean time from one wrong
    draft to the next, over the 1/(1 - a) tokens between.

    Verdict k covers positions up to k (g + 1), the last of which is the target's own; its drafts are complete
    (k (g + 1) - 1) t_d after drafting began anew, and it begins when they are there and verdict k - 1 is out. The wrong
    draft lies below verdict m with chance (1 - q) q^(m-1), q = a^(g+1). So it takes

        RTT + max(g t_d + m t_v, (m (g + 1) - 1) t_d + t_v), rounded up to whole steps of t_d,

    until the drafter begins anew: it is always at a step, which it ends first.
    """
    every = acceptance ** (size + 1)
    total, chance, number = 0.0, 1.0 - every, 1
    while chance > NEGLIGIBLE * (1.0 - every):
        slow_verifier = size * draft + number * verify
        slow_drafter = (number * (size + 1) - 1) * draft + verify
        total += chance * _whole_steps(round_trip + max(slow_verifier, slow_drafter), draft)
        chance *= every
        number += 1
    return (1.0 - acceptance) * total


def capacity_gain(size: int, draft: float, verify: float) -> float:
    """How many times more clients a saturated verifier serves when they draft for themselves: 1 + g t_d / t_v.

    arXiv 2606.25091. An upper bound: a batch of several sessions drafts at little more than the cost of one.
    """
    return 1.0 + size * draft / verify


@dataclass(frozen=True, slots=True)
class Course:
    """What an answer takes for one given course of luck."""

    rounds: int
    seconds: float
    """from the first round's beginning to the answer's end"""


def draft_ahead_course(
    hit: Callable[[int], bool], tokens: int, size: int, round_trip: float, draft: float, verify: float
) -> Course:
    """The process behind :func:`ahead_time_in_blocks`, token by token, for an answer of ``tokens``.

    :param hit: whether the drafter's first choice at a position of the answer is the target's token.
    """
    position = rounds = 0
    now = 0.0
    while position < tokens:
        # The drafter begins anew at `position`; its tokens come one by one.
        begun, start, out = position, now, now
        right = True
        while right and position < tokens:
            wanted = min(size, tokens - position)
            complete = start + round_trip + (position + wanted - begun) * draft
            out = max(out, complete) + verify
            rounds += 1
            end = min(position + size + 1, tokens)
            while position < end and right:
                right = hit(position)
                position += 1
        now = out if position == tokens else start + _whole_steps(out - start, draft)
    return Course(rounds, now)


def _whole_steps(seconds: float, step: float) -> float:
    return ceil(seconds / step - 1e-9) * step


def rounds_needed(hit: Callable[[int], bool], tokens: int, size: int) -> int:
    """Rounds until an answer of ``tokens`` is complete, for one given course of luck.

    :param hit: whether the drafter's first choice at a position of the answer is the target's token.
    """
    position = rounds = 0
    while position < tokens:
        most = min(size, tokens - position)
        accepted = 0
        while accepted < most and hit(position + accepted):
            accepted += 1
        position += min(accepted + 1, tokens - position)
        rounds += 1
    return rounds
