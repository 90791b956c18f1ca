"""Neighbours that the suite plays itself in a town: a second voice of the target, and drafters that lie.

TM-1 says the same wherever it runs, so a token that was lost and computed again would look as if it had been kept.
A *voice* makes the difference visible: two verifiers with one model name and two numeric profiles that say different
things. A view goes on with the profile it began with, a later one may come from the other (clause Q-45); what was
delivered must stay, though the new target would have said something else.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import trio

from conformance.chaos.network import Wire
from conformance.live import hands
from conformance.live.peer import Peer
from conformance.live.sessions import Model, Session
from dsdproto.registry import Role
from dsdproto.wire.messages import ModelOffer, Verdict, Verify

if TYPE_CHECKING:
    from conformance.chaos.town import Node, Town

AGAIN = 0.1


@dataclass(frozen=True)
class Voice(Model):
    """What `public` is called, and something else is: its own seed decides what it says."""

    public: Model | None = None

    @property
    def name(self) -> str:
        assert self.public is not None
        return self.public.name

    @property
    def profile_text(self) -> str:
        return f"weights=none\ndtype=integers\nkernels=voice {self.s}\nthreads=any\n"

    @property
    def profile(self) -> bytes:
        return sha256(self.profile_text.encode()).digest()

    @property
    def target(self) -> Model:
        return self

    def offer(self, max_context: int = 4096) -> ModelOffer:
        assert self.public is not None
        return replace(self.public.offer(max_context), profile=self.profile, profile_text=self.profile_text)


def voices(town: Town, count: int = 2) -> list[Voice]:
    """Different ones, all under the name of the town's target."""
    return [Voice(town.model.v, s=1000 + number, public=town.model) for number in range(count)]


def either(session: Session, spoken: list[Voice]) -> Callable[[tuple[int, ...]], tuple[int, ...]]:
    """What may follow a prefix if any of the voices may be the target."""

    def says(prefix: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(session.choose(prefix, voice)["token"] for voice in spoken)

    return says


@dataclass
class Player:
    """A neighbour that dials again whenever its link is lost."""

    town: Town
    name: str
    wire: Wire
    peer: Peer | None = None
    hand: Any = None

    async def keep(self, roles: tuple[Role, ...], offer: ModelOffer, work: Callable[[Peer], Awaitable[None]]) -> None:
        identity = self.town.pool.authority.identity(self.name)
        while True:
            peer = await self.town.link(self.wire, *roles, identity=identity, models=(offer,), name=self.name)
            if peer is not None:
                self.peer = peer
                await work(peer)
            await trio.sleep(AGAIN)


async def verifier(town: Town, name: str, node: Node, model: Model, pace: float = 0.0) -> Player:
    """A verifier of ``model`` at ``node``; each verdict takes ``pace`` seconds."""
    player = Player(town, name, await town.wire(f"{name}->{node.name}", node))

    async def slowly(hand: Any, channel: int, session: Session, request: Verify, right: Verdict) -> Verdict:
        await trio.sleep(pace)
        return right

    async def work(peer: Peer) -> None:
        player.hand = hands.VerifierHand(town, peer, model, twist=slowly if pace else None)  # type: ignore[arg-type]
        await player.hand.serve()

    town.nursery.start_soon(player.keep, (Role.VERIFIER,), model.offer(), work)
    return player


async def drafter(town: Town, name: str, node: Node, style: hands.Style) -> Player:
    """A drafter at ``node`` that proposes by ``style``."""
    model = town.model.drafter(60_000, 9)
    player = Player(town, name, await town.wire(f"{name}->{node.name}", node))

    async def work(peer: Peer) -> None:
        player.hand = hands.DrafterHand(town, peer, model, style)  # type: ignore[arg-type]
        await player.hand.serve()

    town.nursery.start_soon(player.keep, (Role.DRAFTER,), model.offer(), work)
    return player
