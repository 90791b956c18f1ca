"""What cases of rung 4 are given: a town of nodes of the testee, every link between them a wire of the suite.

async def case(t: Town) -> None:
    leader = await t.node("a", Role.LEADER)
    verifier = await t.node("v", Role.VERIFIER, to=(leader,))
    reader = await t.read(t.session(), leader)
    await reader.reached(8)
    await verifier.crash()
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import trio

from conformance.chaos.network import Way, Wire
from conformance.chaos.pool import Mortal, Pool
from conformance.chaos.reader import Reader
from conformance.door.dial import Dial, Refused, Unreachable, parse_address
from conformance.door.exec import SHOWN_STDERR, START_SECONDS
from conformance.door.pki import Identity, key_pem, pem
from conformance.door.process import DoorBroken
from conformance.live.hello import hello_of
from conformance.live.peer import Peer
from conformance.live.sessions import Model, Session, make_session
from conformance.trial import Trial
from conformance.verdict import DOOR, Failed, Inconclusive, Unsupported
from dsdproto.registry import CommitProfile, Role
from dsdproto.wire.messages import ModelOffer

VOCABULARY = 256
HEARTBEAT_MS = 3000
"""So long that a busy machine does not look like a dead one."""
QUICK_MS = 500
"""Where the case is about links that fall silent: they are noticed after four of these."""
LINK_SECONDS = 5.0
FORMING_SECONDS = 30.0
"""For the nodes of a case to find each other; beyond it the case proves nothing."""


@dataclass
class Node:
    """A node of the testee. It keeps its identity and its store when it is started again."""

    town: Town
    name: str
    roles: tuple[Role, ...]
    identity: Identity
    to: tuple[Node, ...]
    config: dict[str, Any]
    wires: dict[str, Wire] = field(default_factory=dict)
    """to those that it dials, by name"""
    process: Mortal | None = None
    shared: bool = True
    handle: str = ""
    address: tuple[str, int] | None = None
    """None: it is down"""

    @property
    def node_id(self) -> bytes:
        return self.identity.node_id

    @property
    def up(self) -> bool:
        return self.address is not None

    async def start(self) -> None:
        """Also after :meth:`crash` or :meth:`stop`: with the same identity and store, at another address."""
        if self.process is None:
            self.process = self.town.process(self.shared)
        answer = await self.town.ask(self.process, "start", **self.request())
        self.handle = answer["node"]
        try:
            self.address = parse_address(answer["address"])
        except (KeyError, ValueError) as error:
            raise Failed(DOOR, f"start of {self.name} gave no address", "an address", answer) from error
        self.town.tell(self.name, f"started ({', '.join(role.name.lower() for role in self.roles)})")

    def request(self) -> dict[str, Any]:
        return {
            "roles": [role.name.lower() for role in self.roles],
            "listen": True,
            "peers": ["{}:{}".format(*wire.address) for wire in self.wires.values()],
            "identity": {
                "certificate": pem(self.identity.certificate).decode(),
                "key": key_pem(self.identity.key).decode(),
                "authority": pem(self.identity.authority).decode(),
            },
            "config": self.config,
        }

    async def crash(self) -> None:
        """Its process is killed: nothing is said, nothing is finished. The case asked for a process of its own."""
        assert not self.shared and self.process is not None
        self.address = None
        self.town.tell(self.name, "killed")
        await trio.to_thread.run_sync(self.process.kill)

    async def stop(self, wait: float = 0.0) -> dict[str, Any]:
        """In good order. Gives what the testee answers: of a client, how its sessions went.

        :param wait: seconds that a client's sessions may still take.
        """
        assert self.process is not None
        self.town.tell(self.name, "stopped")
        more = {"wait_ms": round(1000 * wait)} if wait else {}
        answer = await self.town.ask(self.process, "stop", START_SECONDS + wait, node=self.handle, **more)
        self.address = None
        return answer

    def target(self) -> tuple[str, int] | None:
        return self.address

    def around(self) -> list[Wire]:
        """All its wires to other nodes, whoever dials."""
        mine = list(self.wires.values())
        return mine + [node.wires[self.name] for node in self.town.nodes.values() if self.name in node.wires]

    def ways_out(self) -> list[tuple[Wire, Way]]:
        """Everything that it says to others travels on these."""
        return [(wire, wire.there if wire in self.wires.values() else wire.back) for wire in self.around()]

    def isolate(self) -> None:
        """Its links stay up and silent, both ways."""
        for wire in self.around():
            wire.hold()

    def rejoin(self) -> None:
        """What was held arrives."""
        for wire in self.around():
            wire.free()


class Town:
    """One case's nodes, links, readers."""

    def __init__(self, trial: Trial, pool: Pool, nursery: trio.Nursery) -> None:
        self.trial = trial
        self.pool = pool
        self.nursery = nursery
        self.rng = random.Random(f"{trial.seed}/{trial.case.id}/chaos")
        self.model = Model(VOCABULARY, s=self.rng.randrange(1, 1000))
        self.nodes: dict[str, Node] = {}
        self.wires: list[Wire] = []
        self.peers: list[Peer] = []
        self.readers: list[str] = []
        self._processes: list[Mortal] = []
        self._common: Mortal | None = None

    def tell(self, who: str, text: str) -> None:
        self.trial.wire.event(who, text)

    # ------------------------------------------------------------ nodes

    async def node(
        self,
        name: str,
        *roles: Role,
        to: tuple[Node, ...] = (),
        crashes: bool = False,
        start: bool = True,
        **config: Any,
    ) -> Node:
        """A node that dials those in ``to``, each over a wire of its own.

        :param crashes: the case may kill it: it gets a process of its own.
        :param config: of verb `start`, beyond the usual.
        """
        have = self.pool.about.roles
        missing = [role.name.lower() for role in roles if role.name.lower() not in have]
        if missing:
            raise Unsupported(f"it has no {missing[0]} role")
        usual: dict[str, Any] = {"heartbeat_ms": HEARTBEAT_MS}
        if Role.VERIFIER in roles or Role.CLIENT in roles:
            usual["target"] = self.model.name
        if Role.DRAFTER in roles:
            usual["draft"] = self.model.drafter().name
        if Role.LEADER in roles:
            usual["group_size"] = 3
        if Role.VOTER in roles:
            usual["store"] = str(self.pool.store())
        identity = self.pool.authority.identity(name)
        made = Node(self, name, tuple(roles), identity, tuple(to), {**usual, **config}, shared=not crashes)
        for other in to:
            made.wires[other.name] = await self.wire(f"{name}->{other.name}", other)
        self.nodes[name] = made
        if start:
            await made.start()
        return made

    async def voters(self, names: str = "abc", *, crashes: str = "", **config: Any) -> tuple[Node, ...]:
        """Nodes that lead and vote, each linked with all the others. ``crashes``: those that the case may kill."""
        made: tuple[Node, ...] = ()
        for name in names:
            mortal = name in crashes
            node = await self.node(name, Role.LEADER, Role.VOTER, to=made, crashes=mortal, start=False, **config)
            made = (*made, node)
        await self.start(*made)
        return made

    async def start(self, *nodes: Node) -> None:
        """All of them side by side."""
        async with trio.open_nursery() as nursery:
            for node in nodes:
                nursery.start_soon(node.start)

    async def wire(self, name: str, far: Node) -> Wire:
        """A new way to ``far``."""
        made = Wire(name, far.target, random.Random(self.rng.random()), self.trial)
        await made.open()
        self.nursery.start_soon(made.serve)
        self.wires.append(made)
        return made

    def all_is_well(self) -> None:
        """The faults are over: every link works, as fast as it goes."""
        for wire in self.wires:
            wire.slow()
            wire.free()

    # ------------------------------------------------------------ the door

    def process(self, shared: bool) -> Mortal:
        if shared and self._common is not None:
            return self._common
        process = self.pool.take()
        self._processes.append(process)
        if shared:
            self._common = process
        return process

    async def ask(self, process: Mortal, verb: str, within: float = START_SECONDS, **parameters: Any) -> dict[str, Any]:
        """One request; the answer's ``ok``. Raises Failed, or Unsupported where the testee says so."""
        seconds = self.trial.seconds(within)
        try:
            answer = await trio.to_thread.run_sync(process.ask, {"verb": verb, **parameters}, seconds, self.trial.wire)
        except DoorBroken as error:
            for line in list(process.stderr)[-SHOWN_STDERR:]:
                self.trial.note(f"stderr: {line}")
            raise Failed(DOOR, str(error), "an answer", "none") from error
        if answer.unsupported is not None:
            raise Unsupported(answer.unsupported or f"{verb}: no reason given")
        if answer.ok is None:
            why = answer.refusal.text if answer.refusal else ""
            raise Failed(DOOR, f"{verb} was refused", "an answer", f"{answer.refusal} {why}")
        return answer.ok

    # ------------------------------------------------------------ what the suite plays

    async def link(
        self, wire: Wire, *roles: Role, identity: Identity, models: tuple[ModelOffer, ...] = (), name: str = ""
    ) -> Peer | None:
        """A connection over ``wire``, handshake done. None: the network, or the other end, did not let it come about;
        where neither was disturbed, that is the node's fault."""
        faults, target = wire.faults, wire.target()
        host, port = wire.address
        try:
            stream = await Dial(host, port, self.pool.authority).tls(identity, seconds=LINK_SECONDS)
        except (Unreachable, Refused):
            return None
        name = name or identity.name
        peer = Peer(name, self.trial, stream, identity, hello_of(identity, self.rng, tuple(map(int, roles)), models))
        self.peers.append(peer)
        self.nursery.start_soon(peer.read)
        try:
            await peer.greet()
        except Failed:
            peer.check()
            disturbed = wire.bent or wire.faults != faults or wire.target() != target
            if disturbed or peer.ended:
                await trio.aclose_forcefully(peer.stream)
                return None
            raise
        return peer

    def session(self, *, quorum: bool = False, **changes: Any) -> Session:
        """A session on this town's target, with a random prompt and seed."""
        changes.setdefault("max_tokens", 60)
        profile = CommitProfile.QUORUM if quorum else CommitProfile.SOLO
        return make_session(self.rng, self.model, commit_profile=int(profile), **changes)

    def twin(self, session: Session) -> Session:
        """A new session of the same contract (clause S-20)."""
        return Session(self.rng.randbytes(16), session.contract, session.model, session.max_context)

    def reader(self, session: Session, **options: Any) -> Reader:
        """A client, see :class:`conformance.chaos.reader.Reader`."""
        return Reader(self, session, **options)

    async def begin(self, reader: Reader, at: Node) -> Reader:
        """Open its session at ``at`` and read on in the background; OPENED has come."""
        await reader.open(at)
        self.nursery.start_soon(reader.run)
        return reader

    async def read(self, session: Session, at: Node, **options: Any) -> Reader:
        """Both: a client of its own for ``session``."""
        return await self.begin(self.reader(session, **options), at)

    @asynccontextmanager
    async def within(self, seconds: float, what: str) -> AsyncIterator[None]:
        """A bound of time; beyond it the case proves nothing."""
        with trio.move_on_after(self.trial.seconds(seconds)) as scope:
            yield
        if scope.cancelled_caught:
            raise Inconclusive(f"{what}: not within {seconds * self.trial.patience:.0f} s; --patience gives more")

    async def close(self) -> None:
        for peer in self.peers:
            await trio.aclose_forcefully(peer.stream)
        for process in self._processes:
            await self.pool.give(process)


@asynccontextmanager
async def chaos_trial(trial: Trial, pool: Pool) -> AsyncIterator[Town]:
    """For doors: what a case of rung 4 is given. All that it started ends with it."""
    async with trio.open_nursery() as nursery:
        town = Town(trial, pool, nursery)
        try:
            yield town
            for peer in town.peers:
                peer.check()
        finally:
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                await town.close()
