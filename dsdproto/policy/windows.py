"""Window policies: how many draft tokens to verify next, whether to wait for them, how far drafters may run ahead.

::

    Outlook (what is there, what may come) --> choose --> Choice: verify so many now, or wait so long
    Round (what a verdict brought)         --> observe --> limits: credit and window that drafters are told

:class:`Adaptive` is what a leader does by default. The others are what is known from elsewhere, to compare with: they
fix a size and wait for it, as synchronous speculative decoding does. One object serves one session.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import log
from typing import Protocol

from dsdproto.policy.window import best_count, worth_waiting

MOST = 12
"""Largest window of the policies that choose one themselves, as in the DSD paper (arXiv 2511.21669)."""
GAIN = 0.1
"""Weight of a new round in what a policy remembers of the past."""
CROWDED = 0.5
"""Share of a verifier in others' hands from which on it does not pay to keep it waiting."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A drafter's next proposal, which may be on its way; seconds and tokens."""

    remaining: float
    patience: float
    """after which it is not to be expected any more"""
    tokens: float
    """accepted nodes that it usually brings"""


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a leader knows when it may ask for the next verification."""

    reach: Sequence[float]
    """probability of each node at hand to be accepted, in the order in which they would be taken"""
    seconds: Sequence[float]
    """predicted duration of a forward by number of rows, up to 1 + len(reach)"""
    overhead: float
    """seconds of a round besides the forward, smoothed"""
    price: float
    """seconds that each row takes from the other sessions of the verifier"""
    crowd: float
    """share of the verifier that others have, 0 to 1, smoothed"""
    arrivals: Sequence[Arrival]
    drafters: int
    """attached, and not given up"""
    room: int
    """tokens that the stream may still grow by"""
    elapsed: float
    """seconds since this round could have begun"""
    rounds: int
    """verdicts so far"""
    waited: bool
    """waiting was in vain in this round"""


@dataclass(frozen=True, slots=True)
class Choice:
    count: int
    """nodes to verify"""
    wait: float | None = None
    """seconds to wait for more first; asked again when something arrives, and at the latest when they are over"""


@dataclass(frozen=True, slots=True)
class Round:
    """What a verdict brought."""

    verified: int
    accepted: int
    compute: float
    """seconds of the forward"""
    queue: float
    """seconds that the request waited at the verifier"""
    took: float
    """seconds since the verdict before; 0: it is the first one"""
    lag: float | None = None
    """seconds from the last ADVANCE to the first useful proposal, of the drafter that was first; None: not known"""


class WindowPolicy(Protocol):
    def choose(self, outlook: Outlook) -> Choice: ...

    def observe(self, round: Round) -> None:
        """Learn from a verdict."""
        ...

    def limits(self, credit: int, window: int) -> tuple[int, int]:
        """Credit and window for drafters, given those that the leader is configured with."""
        ...


@dataclass(frozen=True, slots=True)
class Adaptive:
    """The most tokens per second, from estimated acceptance of each node and the measured time of a forward.

    It verifies what raises the rate, may verify nothing but the target's own token, waits only if that pays, and lets
    drafters run ahead within the whole credit: a slow or far drafter costs nothing while it is not waited for. It does
    not run away: each node's share is weighed against what one more row takes (SwarmLLM's took that as constant), from
    this session and, where requests queue, from the others. At a verifier that others have the greater part of it does
    not wait: the time of a forward is shared, and who comes later only joins a later one.
    """

    def choose(self, outlook: Outlook) -> Choice:
        priced = [seconds + outlook.price * rows for rows, seconds in enumerate(outlook.seconds)]
        count = best_count(outlook.reach, priced, outlook.overhead)
        if not outlook.rounds or outlook.waited or outlook.crowd > CROWDED:
            return Choice(count)
        gain, duration = sum(outlook.reach[:count]), outlook.seconds[1 + count] + outlook.overhead
        waits = [
            arrival.patience
            for arrival in outlook.arrivals
            if worth_waiting(gain, max(gain, arrival.tokens), arrival.remaining, duration)
        ]
        return Choice(count, max(waits, default=None))

    def observe(self, round: Round) -> None:
        """Nothing: the estimators of drafters and verifier learn for it."""

    def limits(self, credit: int, window: int) -> tuple[int, int]:
        return credit, window


@dataclass(slots=True)
class Sized:
    """Waits until ``size`` draft tokens are there, verifies these, and begins again: synchronous speculation.

    :param size: tokens; 0 is the target alone.
    :param ahead: draft tokens that a drafter may have outstanding beyond the window: 0 drafts nothing while a
        verification is under way, as in the paper.
    :param patience: seconds after which a round goes on with what there is.
    """

    size: int = 4
    ahead: int = 0
    patience: float = 5.0

    def __post_init__(self) -> None:
        if self.size < 0 or self.ahead < 0 or self.patience <= 0.0:
            raise ValueError(f"window of {self.size} tokens, {self.ahead} ahead, patience {self.patience:g} s")

    def choose(self, outlook: Outlook) -> Choice:
        size = min(self.size, outlook.room)
        count = min(size, len(outlook.reach))
        if count < size and outlook.drafters and not outlook.waited and outlook.elapsed < self.patience:
            return Choice(count, self.patience - outlook.elapsed)
        return Choice(count)

    def observe(self, round: Round) -> None:
        """Nothing changes: subclasses do."""

    def limits(self, credit: int, window: int) -> tuple[int, int]:
        # Ahead of the window messages may be smaller: the next window seldom begins where a message does, because each
        # verdict adds a token of its own, and waiting for the rest of a large message is time lost.
        return self.size + self.ahead, max(min(self.size, window) if self.ahead else self.size, 1)


@dataclass(slots=True)
class Threshold(Sized):
    """A window that grows by one while the recent acceptance is high, and shrinks by one while it is low."""

    low: float = 0.5
    high: float = 0.8
    least: int = 1
    most: int = MOST
    recent: float = 0.65
    """share of verified tokens that were accepted, smoothed"""

    def observe(self, round: Round) -> None:
        if not round.verified:
            return
        self.recent += GAIN * (round.accepted / round.verified - self.recent)
        if self.recent > self.high:
            self.size = min(self.size + 1, self.most)
        elif self.recent < self.low:
            self.size = max(self.size - 1, self.least)


def tokens_per_round(acceptance: float, size: int) -> float:
    """(1 - a^(g+1)) / (1 - a): tokens of a round with a window of ``size`` (Leviathan et al. 2023, eq. 1)."""
    if acceptance >= 1.0:
        return size + 1.0
    return (1.0 - acceptance ** (size + 1)) / (1.0 - acceptance)


def optimal_window(acceptance: float, kappa: float, most: int = MOST) -> int:
    """The window with the most tokens per second for i.i.d. acceptance, 0 allowed.

    With L = -ln a the optimum over real g solves exp(-L (g + 1)) (1 + L (g + kappa)) = 1, that is
    g* = [-W(-exp(-(1 + L (kappa - 1)))) - 1] / L - kappa on the branch W below -1.

    :param kappa: (round trip + queue + fixed part of a forward) / (seconds of one more draft token, row included).
    """
    if not 0.0 < acceptance < 1.0:
        return 0 if acceptance <= 0.0 else most
    if kappa <= 0.0:
        return 0
    rate = -log(acceptance)
    root = _lambert_below(-(1.0 + rate * (kappa - 1.0)))
    best = max((-root - 1.0) / rate - kappa, 0.0)
    sizes = {min(int(best), most), min(int(best) + 1, most), 0}
    return max(sorted(sizes), key=lambda size: tokens_per_round(acceptance, size) / (kappa + size))


def _lambert_below(exponent: float) -> float:
    """W below -1 of -exp(``exponent``): w + ln(-w) = exponent; -1 where there is none."""
    if exponent >= -1.0:
        return -1.0
    low, high = exponent * 2.0 - 2.0, -1.0
    for _ in range(80):
        middle = (low + high) / 2.0
        if middle + log(-middle) < exponent:
            low = middle
        else:
            high = middle
    return (low + high) / 2.0


@dataclass(slots=True)
class Optimum(Sized):
    """The closed-form window for the acceptance seen so far, with stated or measured times.

    Acceptance is estimated as accepts / (accepts + early stops).

    :param draft: seconds of one draft token, and of a row more in the forward.
    :param fixed: seconds of a round that do not depend on the window besides queue and forward: the round trip.
    """

    draft: float = 0.01
    fixed: float = 0.0
    most: int = MOST
    forward: float = 0.0
    queue: float = 0.0
    accepts: float = 4.0
    stops: float = 1.0

    def observe(self, round: Round) -> None:
        self.accepts = 0.98 * self.accepts + round.accepted
        self.stops = 0.98 * self.stops + (round.accepted < round.verified)
        self.forward += GAIN * (round.compute - self.forward) if self.forward else round.compute
        self.queue += GAIN * (round.queue - self.queue)
        acceptance = self.accepts / (self.accepts + self.stops)
        kappa = (self.fixed + self.queue + self.forward) / self.draft
        self.size = optimal_window(acceptance, kappa, self.most)


@dataclass(frozen=True, slots=True)
class AwcState:
    """What the paper's adaptive window controller looks at."""

    queue: float
    """share of a request's time at the verifier that it waited, 0 to 1"""
    acceptance: float
    """of the recent verified tokens"""
    rtt: float
    """seconds"""
    tpot: float
    """seconds per token lately"""
    size: float
    """the window before"""


class Predictor(Protocol):
    """The window that a learned controller would take next; a real number."""

    def __call__(self, state: AwcState) -> float: ...


@dataclass(slots=True)
class Awc(Sized):
    """The DSD paper's adaptive window controller (arXiv 2511.21669) around a learned ``predict``.

    Clamped to 1..12, smoothed with factor 0.4, rounded. Two predictions of 1 or less in a row mean that the target goes
    on alone; it tries a window again after ``rest`` rounds, since a controller that sees no drafts learns nothing.
    """

    predict: Predictor | None = None
    rtt: float = 0.0
    smooth: float = 0.4
    rest: int = 32
    state: AwcState = field(default_factory=lambda: AwcState(0.0, 0.7, 0.0, 0.05, 4.0))
    raw: float = 4.0
    small: int = 0
    alone: int = 0

    def observe(self, round: Round) -> None:
        before = self.state
        spent = round.queue + round.compute
        queue = round.queue / spent if spent > 0.0 else 0.0
        accepted = round.accepted / round.verified if round.verified else before.acceptance
        tpot = round.took / (1 + round.accepted) if round.took else before.tpot
        self.state = AwcState(
            queue=before.queue + GAIN * (queue - before.queue),
            acceptance=before.acceptance + GAIN * (accepted - before.acceptance),
            rtt=self.rtt,
            tpot=before.tpot + GAIN * (tpot - before.tpot),
            size=self.raw,
        )
        if self.alone:
            self.alone -= 1
            if not self.alone:
                self.size = max(round_half_up(self.raw), 1)
            return
        assert self.predict is not None, "AWC needs a predictor"
        wanted = self.predict(self.state)
        self.small = self.small + 1 if wanted <= 1.0 else 0
        self.raw += self.smooth * (min(max(wanted, 1.0), float(MOST)) - self.raw)
        self.size = round_half_up(self.raw)
        if self.small >= 2:
            self.size, self.small, self.alone = 0, 0, self.rest


def round_half_up(number: float) -> int:
    """To the nearest whole number; halves go up."""
    return int(number + 0.5)


def break_even(acceptance: float, size: int, verify: float, draft: float, alone: float) -> float:
    """Round trip, seconds, above which synchronous speculation loses against the target alone.

    RTT + t_v + g t_d < t_T (1 - a^(g+1)) / (1 - a).

    :param verify: seconds of a forward with the window's rows.
    :param alone: seconds of a forward of the target alone.
    """
    return alone * tokens_per_round(acceptance, size) - verify - size * draft
