"""Neighbours that just do their work, for cases about a leader: verifiers and drafters. Clients: `streams`.

Each judges what the leader sends to it by everything that binds a leader there, and raises
:class:`~conformance.verdict.Failed` in its own task, which ends the case. ``twist`` functions let a case make one of
them lie, lag or die at the point that it is about.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import trio

from conformance.live.peer import Peer, described
from conformance.live.sessions import NO_PROFILE, Model, Session, of_contract
from conformance.live.testee import LiveTestee
from conformance.verdict import Failed
from dsdproto.registry import DetachReason, Feature, Role
from dsdproto.wire.codec import encode_payload
from dsdproto.wire.messages import (
    Advance,
    Assign,
    Assigned,
    Attach,
    Attached,
    Detach,
    Error,
    Propose,
    Release,
    Verdict,
    Verify,
)

Twist = Callable[["VerifierHand", int, Session, Verify, Verdict], Awaitable[Verdict | None]]
"""(hand, channel, session, request, right answer) -> what to answer; None: nothing."""
MAX_NODES = 31


@dataclass
class VerifierHand:
    """A verifier on TM-1. ``twist`` may replace its answers."""

    t: LiveTestee
    peer: Peer
    model: Model
    max_nodes: int = MAX_NODES
    max_context: int = 4096
    profile: bytes | None = None
    twist: Twist | None = None
    strict: bool = True
    """whether VERIFY before the VERDICT is a fault; not where a twist has answered already"""
    take: Callable[[Assign], Awaitable[Any]] | None = None
    """Called with each ASSIGN before it is answered; what it returns is sent in place of ASSIGNED, if anything."""
    assigns: list[Assign] = field(default_factory=list)
    requests: list[Verify] = field(default_factory=list)
    released: list[int] = field(default_factory=list)
    """channels that RELEASE came on"""
    errors: list[Error] = field(default_factory=list)
    change: trio.Event = field(default_factory=trio.Event)

    async def serve(self) -> None:
        """Takes every ASSIGN. Runs until the case ends."""
        async with trio.open_nursery() as nursery:
            while (opened := await self.peer.next_opening(Assign)) is not None:
                nursery.start_soon(self._session, *opened)

    def note(self) -> None:
        self.change.set()
        self.change = trio.Event()

    async def until(self, what: Callable[[], bool], clause: str, said: str, within: float | None = None) -> None:
        """Wait until ``what`` holds; :class:`Failed` if it does not in time."""
        with trio.move_on_after(self.t.trial.seconds(within or 5.0)):
            while not what():
                self.peer.check()
                await self.change.wait()
            return
        raise Failed(clause, said)

    async def _session(self, channel: int, assign: Assign) -> None:
        self.assigns.append(assign)
        self.note()
        answer = await self.take(assign) if self.take else None
        if isinstance(answer, Error):
            await self.peer.send(answer, channel)
            return
        session = of_contract(assign.session, assign.contract, self.model, self.max_context)
        session.extend(assign.committed)
        await self.peer.send(answer or self.assigned(), channel)
        round_ = 0
        while (arrival := await self.peer.next(channel)) is not None:
            message = arrival.message
            match message:
                case Verify():
                    round_ += 1
                    self._judge(session, message, round_)
                    self.requests.append(message)
                    self.note()
                    if not await self._answer(channel, session, message):
                        return
                case Release():
                    self.released.append(channel)
                    self.note()
                    return
                case Error():
                    self.errors.append(message)
                    self.note()
                    return
                case _:
                    raise Failed(
                        "V-1",
                        "a leader says something else on a verify channel",
                        "VERIFY or RELEASE",
                        described(message),
                    )

    def assigned(self) -> Assigned:
        profile = self.model.profile if self.profile is None else self.profile
        text = self.model.profile_text if self.profile is None else ""
        return Assigned(
            model=self.model.name,
            profile=profile,
            profile_text=text,
            max_nodes=self.max_nodes,
            max_context=self.max_context,
        )

    def _judge(self, session: Session, message: Verify, round_: int) -> None:
        if message.round != round_:
            raise Failed("V-2", "rounds do not count up by one", round_, message.round)
        if (message.position, message.base) != (session.position, session.short):
            said = "VERIFY names another base than the prefix after the last verdict"
            raise Failed("V-4", said, (session.position, session.short), (message.position, message.base))
        if len(message.tokens) > self.max_nodes:
            raise Failed("V-5", "more nodes than max_nodes of ASSIGNED", self.max_nodes, len(message.tokens))
        if message.parents is not None and Feature.TREES not in self.peer.features:
            raise Failed("V-5", "`parents` without TREES", "a chain", described(message))
        parents = tuple(range(len(message.tokens))) if message.parents is None else tuple(message.parents)
        pairs = list(zip(parents, message.tokens))
        if len(set(pairs)) != len(pairs):
            raise Failed("V-5", "the same token twice below one node", "siblings differ", described(message))
        if any(token >= self.model.v for token in message.tokens):
            raise Failed("V-5", "a draft token outside the vocabulary", self.model.v, max(message.tokens))
        depths = [0]
        for parent in parents:
            depths.append(depths[parent] + 1)
        if session.position + max(depths) > self.max_context:
            raise Failed("V-5", "a path reaches beyond max_context", self.max_context, session.position + max(depths))
        if session.finish_at(session.tokens) is not None:
            raise Failed("V-3", "VERIFY after the end of the stream", "RELEASE", described(message))

    async def _answer(self, channel: int, session: Session, message: Verify) -> bool:
        parents = None if message.parents is None else tuple(message.parents)
        right = session.walk(message.tokens, parents)
        verdict: Verdict | None = Verdict(
            round=message.round,
            accepted=right.accepted,
            token=right.own,
            digest=right.digest[:16],
            margin=right.margin,
            finish=None if right.finish is None else int(right.finish),
            compute_us=100,
            rows=1 + len(message.tokens),
        )
        if self.twist is not None:
            verdict = await self.twist(self, channel, session, message, verdict)
            if verdict is None:
                return False
        waiting = self.peer.waiting(channel) if self.strict else []
        if any(isinstance(m, Verify) for m in waiting):
            raise Failed(
                "V-3", "a second VERIFY before the VERDICT of the first", "one at a time", described(waiting[0])
            )
        session.extend(right.tokens)
        await self.peer.send(verdict, channel, wild=self.twist is not None)
        return True


async def verifier(
    t: LiveTestee, model: Model, *, connect: dict[str, Any] | None = None, **options: Any
) -> VerifierHand:
    """A verifier of ``model``, connected and at work."""
    offer = model.offer(options.get("max_context", 4096))
    if options.get("profile") is not None:
        claimed = options["profile"]
        offer = replace(offer, profile=None if claimed == NO_PROFILE else claimed, profile_text="")
    peer = await t.connect(Role.VERIFIER, models=(offer,), **(connect or {}))
    hand = VerifierHand(t, peer, model, **options)
    t.nursery.start_soon(hand.serve)
    await peer.alive("H-2")
    return hand


# ---------------------------------------------------------------- drafter


@dataclass
class DraftSession:
    """One session at a drafter's hand: what was announced, what it has sent."""

    peer: Peer
    channel: int
    attach: Attach
    session: Session
    credit: int
    nodes: list[tuple[int, ...]] = field(default_factory=list)
    """prefix of each node; number 1 comes first"""
    detached: int | None = None

    @property
    def outstanding(self) -> int:
        root = self.session.tokens
        return sum(len(node) > len(root) and node[: len(root)] == root for node in self.nodes)

    async def propose(
        self, tokens: tuple[int, ...], parents: tuple[int, ...] | None = None, base: tuple[int, ...] | None = None
    ) -> None:
        """Nodes below ``base``, a whole prefix; by default the announced one."""
        base = self.session.tokens if base is None else base
        paths = [base]
        for token, parent in zip(tokens, parents or range(len(tokens))):
            paths.append((*paths[parent], token))
        self.nodes += paths[1:]
        await self.peer.send(
            Propose(
                position=len(base),
                base=self.session.digest_of(base)[:16],
                tokens=tokens,
                parents=None if parents is None else bytes(parents),
                scores=bytes(4 for _ in tokens) if Feature.SCORES in self.peer.features else None,
            ),
            self.channel,
        )

    def take(self, advance: Advance) -> None:
        """Follow an ADVANCE, which has to fit (clause D-7) and to say what the target says (clause S-17)."""
        root = self.session.tokens
        path = root
        if advance.ref:
            if advance.ref > len(self.nodes):
                raise Failed("D-7", "`ref` is no node of this channel", f"1 to {len(self.nodes)}", advance.ref)
            path = self.nodes[advance.ref - 1]
            if len(path) <= len(root) or path[: len(root)] != root:
                raise Failed("D-7", "`ref` does not hang below the last announced prefix", len(root), advance.ref)
        path = (*path, *advance.tokens)
        if advance.position != len(path):
            raise Failed("D-7", "`position` is not where the path ends", len(path), advance.position)
        for position in range(len(root), len(path)):
            if path[position] != self.session.say(path[:position]):
                said = f"the verified prefix holds another token at position {position} than the target says"
                raise Failed("S-17", said, self.session.say(path[:position]), path[position])
        self.session.extend(path[len(root) :])
        if advance.credit is not None:
            self.credit = advance.credit


Style = Callable[["DrafterHand", DraftSession], Awaitable[None]]
"""What a drafter does after ATTACH and after each ADVANCE."""


async def honest(hand: DrafterHand, seat: DraftSession) -> None:
    """A chain of what its own model says, as far as credit and stream allow."""
    session = seat.session
    end = len(session.prompt) + session.contract.max_tokens
    room = min(seat.attach.window, seat.credit - seat.outstanding, end - session.position)
    tokens: tuple[int, ...] = ()
    for _ in range(room):
        tokens = (*tokens, session.choose(session.tokens + tokens, hand.model)["token"])
    if tokens and (*session.tokens, tokens[0]) not in seat.nodes:
        await seat.propose(tokens)


async def lying(hand: DrafterHand, seat: DraftSession) -> None:
    """Only tokens that the target does not say, with the best scores."""
    session = seat.session
    if seat.credit - seat.outstanding >= 3:
        await seat.propose((*session.other(session.tokens), 4, 5))


async def silent(hand: DrafterHand, seat: DraftSession) -> None:
    """Never a word after ATTACHED."""


@dataclass
class DrafterHand:
    """A drafter with a style of its own."""

    t: LiveTestee
    peer: Peer
    model: Model
    style: Style = honest
    refuse: Error | None = None
    """said in place of ATTACHED"""
    seats: list[DraftSession] = field(default_factory=list)
    errors: list[Error] = field(default_factory=list)
    change: trio.Event = field(default_factory=trio.Event)

    async def serve(self) -> None:
        async with trio.open_nursery() as nursery:
            while (opened := await self.peer.next_opening(Attach)) is not None:
                nursery.start_soon(self._session, *opened)

    def note(self) -> None:
        self.change.set()
        self.change = trio.Event()

    until = VerifierHand.until

    async def _session(self, channel: int, attach: Attach) -> None:
        session = of_contract(attach.session, attach.contract, self.model.target)
        self._judge(session, attach)
        session.extend(attach.committed)
        seat = DraftSession(self.peer, channel, attach, session, attach.credit)
        self.seats.append(seat)
        self.note()
        if self.refuse is not None:
            await self.peer.send(self.refuse, channel)
            return
        await self.peer.send(Attached(model=self.model.name), channel)
        await self.style(self, seat)
        while (arrival := await self.peer.next(channel)) is not None:
            match arrival.message:
                case Advance() as advance:
                    seat.take(advance)
                    self.note()
                    await self.style(self, seat)
                case Detach(reason=reason):
                    seat.detached = reason
                    self.note()
                    return
                case Error() as error:
                    self.errors.append(error)
                    self.note()
                    return
                case other:
                    raise Failed(
                        "D-1",
                        "a leader says something else on a draft channel",
                        "ADVANCE or DETACH",
                        described(other),
                    )

    def _judge(self, session: Session, attach: Attach) -> None:
        tokens = session.prompt
        for token in attach.committed:
            if token != session.say(tokens):
                raise Failed("S-17", "`committed` of ATTACH is not what the target says", session.say(tokens), token)
            tokens = (*tokens, token)
        if attach.width > 1 and Feature.TREES not in self.peer.features:
            raise Failed("D-15", "ATTACH asks for trees without the feature TREES", 1, attach.width)


async def drafter(
    t: LiveTestee, model: Model, style: Style = honest, *, connect: dict[str, Any] | None = None, **options: Any
) -> DrafterHand:
    """A drafter of ``model`` (not its target), connected and at work."""
    peer = await t.connect(Role.DRAFTER, models=(model.offer(),), **(connect or {}))
    hand = DrafterHand(t, peer, model, style, **options)
    t.nursery.start_soon(hand.serve)
    await peer.alive("H-2")
    return hand


def same_contract(assign: Assign | Attach, session: Session) -> None:
    """The contract is handed on unchanged (clause S-12)."""
    if encode_payload(assign.contract) != session.contract_bytes:
        raise Failed(
            "S-12", "the contract was changed on its way", session.contract_bytes, encode_payload(assign.contract)
        )
    if assign.session != session.id:
        raise Failed("S-13", "the session has another id at another plane", session.id, assign.session)


ENDED = int(DetachReason.SESSION_ENDED)
