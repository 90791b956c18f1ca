"""What cases of rung 3 are given: one live testee, to be dialed as often as a case likes, as whoever it likes.

Cases run side by side against one node. They do not disturb each other because each has identities, sessions and, where
it brings models of its own, a vocabulary of its own: a leader under test then never gives one case's drafter a
session of another. What cannot be kept apart so (who votes) is done one case at a time, see :meth:`LiveTestee.alone`.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import trio

from conformance.case import ALONE
from conformance.door.dial import Dial, Refused, Unreachable, why
from conformance.door.pki import Identity
from conformance.live.hello import hello_of
from conformance.live.peer import Peer
from conformance.live.sessions import Model, NotTestModel, Session, make_session
from conformance.trial import Trial
from conformance.verdict import Failed, Inconclusive, Skipped, Unsupported
from dsdproto.errors import PeerError
from dsdproto.registry import Role
from dsdproto.wire.codec import decode_message
from dsdproto.wire.frames import FrameDecoder
from dsdproto.wire.messages import Hello, ModelOffer

NEIGHBOURS = {
    Role.CLIENT: Role.LEADER,
    Role.LEADER: Role.CLIENT,
    Role.DRAFTER: Role.LEADER,
    Role.VERIFIER: Role.LEADER,
    Role.VOTER: Role.LEADER,
}
"""Role under test -> the neighbour that opens its channels, or is opened one by it."""
OWN_VOCABULARIES = range(1024, 1 << 16, 4)


KNOCK = 12.0
"""Seconds within which a testee is expected to dial again."""
SETTLE = 0.1
"""Seconds for the testee to notice that connections are closed."""


class Gate:
    """Lets any number of trials in, or a single one that wants to be alone. Who wants that goes first."""

    def __init__(self) -> None:
        self._inside = 0
        self._closed = 0
        self._alone = trio.Lock()
        self._change = trio.Event()

    def _tell(self) -> None:
        self._change.set()
        self._change = trio.Event()

    @asynccontextmanager
    async def enter(self, alone: bool) -> AsyncIterator[None]:
        if alone:
            self._closed += 1
            try:
                async with self._alone:
                    while self._inside:
                        await self._change.wait()
                    yield
            finally:
                self._closed -= 1
                self._tell()
            return
        while self._closed:
            await self._change.wait()
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1
            self._tell()


@dataclass
class Site:
    """What all trials of a run share.

    :param hello: what the testee says of itself; None: nobody asked yet.
    """

    dial: Dial
    hello: Hello | None = None
    listen: tuple[tuple[str, int], ...] = ()
    """addresses that the testee was told to dial"""
    gate: Gate = field(default_factory=lambda: Gate())
    free: list[tuple[str, int]] | None = None
    changed: trio.Event = field(default_factory=trio.Event)
    locks: dict[str, trio.Lock] = field(default_factory=dict)
    made: int = 0
    drafts: bool | None = None
    """whether a drafter under test has proposed anything in this run; None: nobody waited for it yet"""

    def lock(self, name: str) -> trio.Lock:
        return self.locks.setdefault(name, trio.Lock())

    async def place(self) -> tuple[str, int]:
        """An address of :attr:`listen` that no other case uses now; give it back with :meth:`leave`."""
        if self.free is None:
            self.free = list(self.listen)
        while not self.free:
            await self.changed.wait()
        return self.free.pop()

    def leave(self, place: tuple[str, int]) -> None:
        assert self.free is not None
        self.free.insert(0, place)
        self.changed.set()
        self.changed = trio.Event()

    def vocabulary(self) -> int:
        """A size that no other trial uses."""
        self.made += 1
        return OWN_VOCABULARIES[self.made % len(OWN_VOCABULARIES)]


class LiveTestee:
    """One case's view of the testee."""

    def __init__(self, trial: Trial, site: Site, role: Role, nursery: trio.Nursery) -> None:
        self.trial = trial
        self.site = site
        self.role = role
        self.nursery = nursery
        self.peers: list[Peer] = []
        self.rng = random.Random(f"{trial.seed}/{trial.case.id}/live")
        self._own: Model | None = None
        self._kept: list[trio.Lock] = []
        self._place: tuple[str, int] | None = None

    @property
    def usual_role(self) -> Role:
        """Of the neighbour that has most to do with the role under test."""
        return NEIGHBOURS[self.role]

    # ------------------------------------------------------------ connections

    def identity(self, name: str = "peer") -> Identity:
        """A new node of the testee's cluster."""
        return self.site.dial.authority.identity(name)

    async def connect(
        self,
        *roles: Role,
        name: str = "",
        models: tuple[ModelOffer, ...] = (),
        identity: Identity | None = None,
        greet: bool = True,
        **hello: Any,
    ) -> Peer:
        """Dial the testee as a new node with these roles (default: the usual neighbour's).

        :param greet: do the handshake; else the case does it by hand.
        :param hello: fields of HELLO that differ from the usual ones, see :func:`conformance.live.hello.hello_of`.
        """
        roles = roles or (NEIGHBOURS[self.role],)
        name = self._name(name, roles)
        identity = identity or self.identity(name)
        return await self._met(await self._dialed(identity), identity, roles, name, models, greet, hello, dialer=True)

    def _name(self, name: str, roles: tuple[Role, ...]) -> str:
        name = name or "-".join(role.name.lower() for role in roles)
        return f"{name}-{sum(p.name.rpartition('-')[0] == name or p.name == name for p in self.peers) + 1}"

    async def _met(
        self,
        stream: trio.SSLStream[trio.SocketStream],
        identity: Identity,
        roles: tuple[Role, ...],
        name: str,
        models: tuple[ModelOffer, ...],
        greet: bool,
        hello: dict[str, Any],
        *,
        dialer: bool,
    ) -> Peer:
        spoken = hello.pop("roles", tuple(int(role) for role in roles))
        said = hello_of(identity, self.rng, spoken, models, **hello)
        peer = Peer(name, self.trial, stream, identity, said, dialer=dialer)
        what = "connected" if dialer else "was dialed"
        self.trial.wire.event(name, f"{what} as {name}, node {identity.node_id.hex()[:8]}")
        peer.site = self.site
        self.peers.append(peer)
        self.nursery.start_soon(peer.read)
        if greet:
            await peer.greet()
        return peer

    async def _dialed(self, identity: Identity) -> trio.SSLStream[trio.SocketStream]:
        """Whoever takes good certificates no more fails the case at hand."""
        try:
            return await self.site.dial.tls(identity, seconds=self.trial.seconds())
        except Refused as error:
            said = f"a certificate of the cluster is refused: {error}"
            raise Failed("T-3", said, "a TLS connection", "none") from error

    async def knock(self, within: float = KNOCK) -> trio.SocketStream:
        """The testee dials the suite: a TCP connection, nothing said yet. Nobody listens before and after."""
        if self._place is None:
            self._place = await self.site.place()
        host, port = self._place
        with trio.move_on_after(self.trial.seconds(within)):
            (listener,) = await trio.open_tcp_listeners(port, host=host)
            async with listener:
                return await listener.accept()
        raise Inconclusive(f"the testee did not dial {host}:{port} within {within:g} s")

    async def accept(
        self,
        *roles: Role,
        name: str = "",
        models: tuple[ModelOffer, ...] = (),
        identity: Identity | None = None,
        greet: bool = True,
        **hello: Any,
    ) -> Peer:
        """Be dialed by the testee, as a new node with these roles: as :meth:`connect`, from the other side."""
        roles = roles or (NEIGHBOURS[self.role],)
        name = self._name(name, roles)
        identity = identity or self.identity(name)
        stream = trio.SSLStream(await self.knock(), identity.context(True), server_side=True, https_compatible=True)
        try:
            with trio.fail_after(self.trial.seconds()):
                await stream.do_handshake()
        except (trio.BrokenResourceError, trio.TooSlowError, OSError) as error:
            await trio.aclose_forcefully(stream)
            said = f"the testee dials the suite and then refuses its certificate: {why(error)[0]}"
            raise Failed("T-3", said, "a TLS connection", "none") from error
        return await self._met(stream, identity, roles, name, models, greet, hello, dialer=False)

    # ------------------------------------------------------------ what the testee has

    async def hello(self) -> Hello:
        """What the testee says of itself."""
        if self.site.hello is None:
            peer = await self.connect(greet=False, name="asker")
            self.site.hello = await peer.meet()
            await peer.hang_up()
        return self.site.hello

    async def need_role(self, role: Role) -> None:
        """Raises Unsupported where the testee has not declared it besides the role under test."""
        if role not in (await self.hello()).roles:
            raise Unsupported(f"the testee has not the role {role.name.lower()}")

    async def model(self) -> Model:
        """The TM-1 model that the testee offers in its role under test."""
        for offer in (await self.hello()).models:
            if offer.role == self.role:
                try:
                    return Model.parse(offer.name)
                except NotTestModel:
                    continue
        said = f"the testee offers no TM-1 model as a {self.role.name.lower()} in HELLO"
        raise Failed("S-TM1-5", said, "tm-1:v=...,s=...", [offer.name for offer in (await self.hello()).models])

    async def max_context(self) -> int:
        model = await self.model()
        return next(offer.max_context for offer in (await self.hello()).models if offer.name == model.name)

    def own_model(self) -> Model:
        """A target of a vocabulary that only this trial uses."""
        if self._own is None:
            self._own = Model(self.site.vocabulary())
        return self._own

    async def session(self, **changes: Any) -> Session:
        """A session for the testee's model: see :func:`conformance.live.sessions.make_session`."""
        changes.setdefault("max_context", await self.max_context())
        return make_session(self.rng, await self.model(), **changes)

    # ------------------------------------------------------------ brackets

    async def happy_path(self) -> None:
        """On a fresh connection, as a stranger to all that was before: the testee does its work."""
        from conformance.live.happy import HAPPY

        await HAPPY[self.role](self)

    @asynccontextmanager
    async def alone(self, what: str = "voters") -> AsyncIterator[None]:
        """Keep other cases out that say the same ``what``."""
        async with self.site.lock(what):
            yield

    async def keep(self, what: str = "voters") -> None:
        """As :meth:`alone`, to the end of the case."""
        lock = self.site.lock(what)
        await lock.acquire()
        self._kept.append(lock)

    async def let_go(self) -> None:
        """At the very end, when the connections are closed: whom this case kept out may come in."""
        if self._kept:
            await trio.sleep(SETTLE)
        for lock in self._kept:
            lock.release()
        if self._place is not None:
            self.site.leave(self._place)

    def finish(self) -> None:
        """At the end of a case: raises what the peers' readers found."""
        for peer in self.peers:
            peer.check()


async def ask(dial: Dial, seconds: float = 10.0) -> Hello:
    """What the testee at ``dial`` says of itself, read off its HELLO.

    Raises :class:`conformance.door.dial.Unreachable`, :class:`conformance.door.dial.Refused`.
    """
    stream = await dial.tls(dial.authority.identity("asker"), seconds=seconds)
    decoder = FrameDecoder()
    try:
        with trio.fail_after(seconds):
            while data := await stream.receive_some(1 << 16):
                for frame in decoder.feed(data):
                    message = decode_message(frame)
                    if isinstance(message, Hello):
                        return message
                    raise Unreachable(
                        f"{dial.address} does not begin with HELLO (clause C-3), but with {message!r:.80}"
                    )
    except trio.TooSlowError:
        raise Unreachable(f"{dial.address} said no HELLO within {seconds:g} s (clause C-3)") from None
    except PeerError as error:
        raise Unreachable(f"what {dial.address} says first is no HELLO: {error}") from error
    except (trio.BrokenResourceError, OSError) as error:
        text, alert = why(error)
        raise Refused(f"{dial.address} refuses the suite's certificate: {text}", alert) from error
    finally:
        await trio.aclose_forcefully(stream)
    raise Unreachable(f"{dial.address} hung up without HELLO")


@asynccontextmanager
async def live_trial(trial: Trial, site: Site) -> AsyncIterator[LiveTestee]:
    """For doors: what a case of rung 3 is given. All its connections end with it."""
    role = trial.case.role
    if role is None:
        raise Skipped("the case names no role")
    async with site.gate.enter(trial.case.serial == ALONE), trio.open_nursery() as nursery:
        testee = LiveTestee(trial, site, role, nursery)
        try:
            yield testee
            testee.finish()
        finally:
            for peer in testee.peers:
                await trio.aclose_forcefully(peer.stream)
            with trio.CancelScope(shield=True):
                await testee.let_go()
            nursery.cancel_scope.cancel()
