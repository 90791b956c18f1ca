"""The verifier: many sessions, one target model, one forward at a time (SPEC.md, section "Verify plane").

A session lives in one channel::

              ASSIGN                      VERIFY
    (none) ------------> PREFILLING ------------------+
                             |  prefix computed       |
                             v                        v
                           IDLE ---- VERIFY ----> WAITING ----> in a batch ----> VERDICT ----> IDLE
                             |                                                       |
                             +---- RELEASE, ERROR, link lost: forgotten <------------+ stream ended: ENDED

There is one job in flight at most. When it ends, the next is formed from everybody who waits by then: continuous
batching. With several sessions the verdicts go out first, and the next job begins only when what is at hand by then has
been taken: a leader on this very node answers at once, and its sessions would otherwise miss every other forward.
A prompt is computed in chunks beside the others' verifications, so a long one delays nobody much.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from dsdproto.effects import (
    Compute,
    Computed,
    Effect,
    Event,
    LinkDown,
    LinkUp,
    Received,
    Refuse,
    Send,
    SetTimer,
    TimerFired,
)
from dsdproto.errors import LocalError, PeerError
from dsdproto.policy.batching import PREFILL_CHUNK, Batching, Fifo, next_prefill
from dsdproto.prefix import PrefixChain
from dsdproto.registry import ErrorCode, Scope
from dsdproto.roles.work import PrefillItem, ScoreItem, VerifyDone, VerifyWork, Walked
from dsdproto.session import (
    chain_of,
    check_method,
    check_siblings,
    check_token_ids,
    check_vocabulary,
    finish_of,
    parents_of,
    path_to,
    tree_depth,
)
from dsdproto.wire.messages import Assign, Assigned, Contract, Error, ModelOffer, Release, Verdict, Verify

Key = tuple[int, int]
"""(link, channel)"""
BEGIN = "begin"
"""Timer: what answered the last verdicts at once has been taken."""


@dataclass(frozen=True, slots=True)
class VerifierConfig:
    offer: ModelOffer
    """what HELLO says of the target; ``profile`` and ``profile_text`` are set"""
    max_nodes: int = 63
    """largest tree of one VERIFY"""
    max_rows: int = 64
    """rows of one forward"""
    max_sessions: int = 64
    batching: Callable[[int], Batching] = Fifo
    """makes what forms batches of at most ``max_rows``"""


@dataclass(slots=True)
class _Session:
    key: Key
    contract: Contract
    chain: PrefixChain
    cached: int = 0
    round: int = 0
    pending: Verify | None = None
    pending_since: float = 0.0
    in_job: bool = False
    ended: bool = False

    @property
    def missing(self) -> int:
        """Prefix positions not computed yet; the last one always belongs to the next score."""
        return max(0, self.chain.position - 1 - self.cached)

    @property
    def context(self) -> int:
        return self.chain.position

    @property
    def rows(self) -> int:
        return self.missing + 1 + (len(self.pending.tokens) if self.pending else 0)


@dataclass(slots=True)
class _Job:
    number: int
    started: float
    sessions: list[_Session]
    prefill: _Session | None


@dataclass(slots=True)
class VerifierCounters:
    """For status and benchmarks. ``forwards`` counts jobs that scored at least one session."""

    forwards: int = 0
    prefills: int = 0
    verdicts: int = 0
    rows: int = 0
    nodes: int = 0
    refused: int = 0


@dataclass(slots=True)
class Verifier:
    """``handle(event, now) -> effects`` for the verifier role of one node."""

    config: VerifierConfig
    counters: VerifierCounters = field(default_factory=VerifierCounters)
    sessions: dict[Key, _Session] = field(default_factory=dict)
    batching: Batching = field(init=False)
    _queue: list[_Session] = field(default_factory=list)
    _job: _Job | None = None
    _jobs: int = 0
    _last_prefill: Key | None = None
    _forget: list[Key] = field(default_factory=list)
    _gathering: bool = False
    """between the verdicts of a job and the beginning of the next"""

    def __post_init__(self) -> None:
        self.batching = self.config.batching(self.config.max_rows)

    def handle(self, event: Event, now: float) -> list[Effect]:
        """Take one event; ``now`` in seconds. Never raises for anything that a peer did."""
        effects: list[Effect] = []
        match event:
            case Received():
                try:
                    self._received(event, now, effects)
                except PeerError as error:
                    self.counters.refused += 1
                    self._drop((event.link, event.channel))
                    effects.append(Refuse(event.link, event.channel, error))
            case LinkDown():
                for key in [key for key in self.sessions if key[0] == event.link]:
                    self._drop(key)
            case Computed():
                self._computed(event, now, effects)
                self._gathering = len(self.sessions) > 1
                if self._gathering:
                    effects.append(SetTimer(BEGIN, now))
            case TimerFired():
                self._gathering = False
            case LinkUp():
                return []
        self._start(now, effects)
        return effects

    # ------------------------------------------------------------ messages

    def _received(self, event: Received, now: float, effects: list[Effect]) -> None:
        key = (event.link, event.channel)
        match event.message:
            case Assign() as assign:
                self._assign(key, assign, effects)
            case Verify() as verify:
                self._verify(key, verify, now)
            case Release() | Error():
                self._drop(key)
            case other:
                raise PeerError(
                    ErrorCode.MESSAGE_UNEXPECTED,
                    "V-1",
                    f"{type(other).__name__} is not for a verifier",
                    scope=Scope.SESSION,
                )

    def _assign(self, key: Key, assign: Assign, effects: list[Effect]) -> None:
        contract, offer = assign.contract, self.config.offer
        check_vocabulary(contract, offer, "verifier")
        check_method(contract)
        for wanted in (contract.model, assign.model):
            if wanted and wanted != offer.name:
                raise PeerError(
                    ErrorCode.MODEL_UNAVAILABLE, "S-5", f"model {wanted!r} asked for, this verifier has {offer.name!r}"
                )
        if contract.profile is not None and contract.profile != offer.profile:
            raise PeerError(
                ErrorCode.PROFILE_MISMATCH,
                "S-6",
                f"numeric profile {contract.profile.hex()[:16]} asked for, this verifier has "
                f"{(offer.profile or b'').hex()[:16]} ({offer.profile_text})",
            )
        if len(self.sessions) >= self.config.max_sessions:
            raise PeerError(
                ErrorCode.OVERLOADED, "V-9", f"{len(self.sessions)} sessions, which is this verifier's limit"
            )
        check_token_ids(assign.committed, contract, "ASSIGN.committed", "V-1")
        chain = chain_of(contract, assign.committed)
        if chain.position >= offer.max_context:
            raise PeerError(
                ErrorCode.CONTEXT_TOO_LONG,
                "S-7",
                f"the prefix has {chain.position} tokens, this verifier's context holds {offer.max_context} "
                "and one must be free",
            )
        finish = finish_of(contract, chain, offer.max_context)
        if finish is not None:
            raise PeerError(
                ErrorCode.CONTRACT_INVALID,
                "V-9",
                f"the stream has ended already ({finish.name}) with the {len(assign.committed)} committed tokens",
            )
        self.sessions[key] = _Session(key, contract, chain)
        effects.append(
            Send(
                *key,
                Assigned(
                    model=offer.name,
                    profile=offer.profile or bytes(32),
                    profile_text=offer.profile_text or "",
                    max_nodes=self.config.max_nodes,
                    max_context=offer.max_context,
                ),
            )
        )

    def _verify(self, key: Key, verify: Verify, now: float) -> None:
        session = self.sessions.get(key)
        if session is None:
            raise PeerError(ErrorCode.SESSION_UNKNOWN, "V-1", "VERIFY in a channel without ASSIGN")
        if session.pending is not None or session.in_job:
            raise PeerError(ErrorCode.OVERLOADED, "V-3", "a VERIFY of this session is waiting for its verdict already")
        if session.ended:
            raise PeerError(
                ErrorCode.MESSAGE_UNEXPECTED, "V-3", "the stream of this session has ended", scope=Scope.SESSION
            )
        if verify.round != session.round + 1:
            raise PeerError(
                ErrorCode.MESSAGE_INVALID,
                "V-2",
                f"round {verify.round} after round {session.round}; it counts up by one",
                scope=Scope.SESSION,
            )
        if (verify.position, verify.base) != (session.chain.position, session.chain.short):
            raise PeerError(
                ErrorCode.PREFIX_UNKNOWN,
                "V-4",
                f"base {verify.base.hex()[:16]} at position {verify.position} is not this verifier's prefix, "
                f"{session.chain.short.hex()[:16]} at {session.chain.position}; ASSIGN the session anew",
            )
        if len(verify.tokens) > self.config.max_nodes:
            raise PeerError(
                ErrorCode.PROPOSAL_INVALID,
                "V-5",
                f"{len(verify.tokens)} nodes; ASSIGNED allowed {self.config.max_nodes}",
            )
        check_token_ids(verify.tokens, session.contract, "VERIFY.tokens", "V-5")
        check_siblings(verify.tokens, parents_of(verify.tokens, verify.parents), "VERIFY", "V-5")
        depth = tree_depth(verify.tokens, verify.parents)
        if verify.position + depth > self.config.offer.max_context:
            raise PeerError(
                ErrorCode.PROPOSAL_INVALID,
                "V-5",
                f"a path reaches position {verify.position + depth}, the context holds {self.config.offer.max_context}",
            )
        session.round = verify.round
        session.pending = verify
        session.pending_since = now
        self._queue.append(session)

    def _drop(self, key: Key) -> None:
        session = self.sessions.pop(key, None)
        if session is None:
            return
        session.pending = None
        if session in self._queue:
            self._queue.remove(session)
        self._forget.append(key)

    # ------------------------------------------------------------ compute

    def _start(self, now: float, effects: list[Effect]) -> None:
        if self._job is not None or self._gathering:
            return
        ready = [session for session in self._queue if session.missing < PREFILL_CHUNK]
        batch = self.batching.form(ready)
        behind = {
            session.key: session for session in self.sessions.values() if session.missing and session not in batch
        }
        prefill_key = next_prefill(behind, self._last_prefill)
        prefill = behind[prefill_key] if prefill_key is not None else None
        if not batch and prefill is None:
            if self._forget:
                self._submit([], None, now, effects)
            return
        for session in batch:
            self._queue.remove(session)
            session.in_job = True
        if prefill is not None:
            self._last_prefill = prefill.key
        self._submit(batch, prefill, now, effects)

    def _submit(self, batch: list[_Session], prefill: _Session | None, now: float, effects: list[Effect]) -> None:
        self._jobs += 1
        self._job = _Job(self._jobs, now, batch, prefill)
        work = VerifyWork(
            score=tuple(_score_item(session, self.config.offer.max_context) for session in batch),
            prefill=None if prefill is None else PrefillItem(prefill.key, prefill.chain.tokens[:-1], PREFILL_CHUNK),
            release=tuple(self._forget),
        )
        self._forget.clear()
        effects.append(Compute(self._jobs, work))

    def _computed(self, event: Computed, now: float, effects: list[Effect]) -> None:
        job = self._job
        if job is None or event.job != job.number:
            raise LocalError(f"job {event.job} ended, but the one in flight is {job.number if job else None}")
        self._job = None
        if event.error is not None:
            for session in job.sessions:
                self._fail(session, event.error, effects)
            if job.prefill is not None:
                self._fail(job.prefill, event.error, effects)
            return
        done: VerifyDone = event.result
        if job.prefill is not None and isinstance(done.prefilled, int):
            job.prefill.cached = max(job.prefill.cached, done.prefilled)
        elif job.prefill is not None:
            self._fail(job.prefill, str(done.prefilled), effects)
        self.counters.prefills += job.prefill is not None
        self.counters.forwards += bool(job.sessions)
        self.counters.rows += done.rows
        for session, walk in zip(job.sessions, done.walks, strict=True):
            if self.sessions.get(session.key) is not session:
                continue  # released or lost while its forward ran
            if isinstance(walk, str):
                self._fail(session, walk, effects)
            else:
                effects.append(Send(*session.key, self._verdict(session, walk, done, job)))

    def _verdict(self, session: _Session, walk: Walked, done: VerifyDone, job: _Job) -> Verdict:
        request = session.pending
        assert request is not None
        depth = len(path_to(walk.accepted, parents_of(request.tokens, request.parents)))
        own = walk.tokens[depth] if len(walk.tokens) > depth else None
        session.cached = session.chain.position + depth
        session.chain.extend(walk.tokens)
        session.pending = None
        session.in_job = False
        finish = finish_of(session.contract, session.chain, self.config.offer.max_context)
        session.ended = finish is not None
        self.counters.verdicts += 1
        self.counters.nodes += len(request.tokens)
        return Verdict(
            round=request.round,
            accepted=walk.accepted,
            token=own,
            digest=session.chain.short,
            margin=walk.margin,
            finish=None if finish is None else int(finish),
            compute_us=round(done.seconds * 1e6),
            rows=done.rows,
            queue_us=max(0, round((job.started - session.pending_since) * 1e6)),
        )

    def _fail(self, session: _Session, text: str, effects: list[Effect]) -> None:
        if self.sessions.get(session.key) is not session:
            return
        self._drop(session.key)
        effects.append(Refuse(*session.key, PeerError(ErrorCode.COMPUTE_FAILED, "V-8", text)))


def _score_item(session: _Session, max_context: int) -> ScoreItem:
    request, contract = session.pending, session.contract
    assert request is not None
    left = len(contract.prompt) + contract.max_tokens - session.chain.position
    return ScoreItem(
        session=session.key,
        prefix=session.chain.tokens,
        tokens=request.tokens,
        parents=parents_of(request.tokens, request.parents),
        sampling=contract.sampling,
        stop_tokens=contract.stop_tokens,
        limit=min(left, max_context - session.chain.position),
    )
