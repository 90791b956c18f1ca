"""One node of an exhaustive exploration: its machine, its disk and its timers, moved one step at a time.

The machines are the real ones: a :class:`~dsdproto.node.NodeMachine` with leader and voter. The verifier on board is
scripted (:class:`~reference_nodes.simulator.small_setting.OnBoard`): each life of each node says other tokens, so that
two leaders never agree by chance. Time stands still; a timer fires when the exploration says so, and whose patience
ends then is its choice as well.

What depends on one node alone is checked here, at each step: nothing is promised or voted for before it is durable,
durable promises never go down, and what a voter serves or a client is given is what is committed.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from dsdproto.commit.quorum import next_view
from dsdproto.commit.records import VoterRecord
from dsdproto.effects import (
    CancelTimer,
    CloseLink,
    Compute,
    Computed,
    Deliver,
    Effect,
    LinkDown,
    LinkUp,
    Persist,
    Received,
    Refuse,
    Send,
    SetTimer,
    TimerFired,
)
from dsdproto.errors import PeerError
from dsdproto.invariants import check_node
from dsdproto.node import NodeMachine
from dsdproto.registry import ErrorCode, Role, Scope
from dsdproto.roles.client import Client, ClientState
from dsdproto.roles.leader_session import Session
from dsdproto.roles.voter import Seat, Voter
from dsdproto.wire.messages import Enlist, Enlisted, Vote
from reference_nodes.simulator.small_setting import (
    END,
    GROUP,
    LEADER_CONFIG,
    NAMES,
    NODES,
    OFFER,
    PROMPT,
    SESSION,
    VOTER_CONFIG,
    Broken,
    OnBoard,
    Setting,
    hello_of,
)

CLIENT_LINK = 100
NOW = 0.0
LONG_AGO = -1e9
Send3 = tuple[int, int, Any]
"""(number of the receiver, channel, message)"""


@dataclass(slots=True)
class Member:
    """All that the next step of one node depends on."""

    setting: Setting
    number: int
    machine: NodeMachine
    durable: Voter
    """what the records that are durable say, replayed as after a restart"""
    records: list[VoterRecord] = field(default_factory=list)
    pending: list[Persist] = field(default_factory=list)
    """asked for, not durable yet, in order"""
    life: int = 0
    alive: bool = True
    suspects: bool = False
    """the voter's timer runs"""
    tells: bool = False
    """the leader's timer for the news of a commit runs"""
    jobs: list[Any] = field(default_factory=list)
    """work of the verifier on board"""
    asked: dict[tuple[int, int], int] = field(default_factory=dict)
    """by channel, the view of an ENLIST that was not answered yet"""
    client: Client | None = None
    """the one who opened the session here"""

    # ------------------------------------------------------------ life

    @classmethod
    def new(cls, setting: Setting, number: int) -> Member:
        """A node in its first life, with an empty disk."""
        member = cls(setting, number, NodeMachine(hello_of(number, (OFFER,))), Voter(VOTER_CONFIG, GROUP[number]))
        member._boot([])
        return member

    def _boot(self, out: list[Send3]) -> None:
        machine = self.machine = NodeMachine(hello_of(self.number, (OFFER,)))
        token = 1 + self.number + NODES * self.life
        machine.roles[Role.VERIFIER] = OnBoard(token, self.setting.verify_apart)
        machine.roles[Role.LEADER] = self.setting.makers.leader(LEADER_CONFIG, machine.channel)
        voter = machine.roles[Role.VOTER] = self.setting.makers.voter(VOTER_CONFIG, GROUP[self.number])
        voter.restore(self.records)
        self._perform(machine.start(NOW), out)
        self._perform(machine.perform(Role.VOTER, voter.wake(NOW), NOW), out)

    @property
    def voter(self) -> Voter:
        return self.machine.roles[Role.VOTER]  # type: ignore[return-value]

    @property
    def session(self) -> Session | None:
        """The one that this node leads."""
        return self.machine.roles[Role.LEADER].sessions.get(SESSION)  # type: ignore[attr-defined]

    # ------------------------------------------------------------ steps

    def step(self, event: tuple[Any, ...]) -> list[Send3]:
        """Take one step; returns what leaves the node, in order. Raises :class:`Broken`."""
        out: list[Send3] = []
        kind, *about = event
        getattr(self, f"_step_{kind}")(out, *about)
        if self.alive:
            check_node(self.machine)
            self._check_ballot()
        return out

    def _step_recv(self, out: list[Send3], peer: int, channel: int, message: Any) -> None:
        if isinstance(message, Enlist):
            self.asked[(peer + 1, channel)] = message.view
        self._handle(Received(peer + 1, channel, message), out)

    def _step_up(self, out: list[Send3], peer: int) -> None:
        self._handle(LinkUp(peer + 1, hello_of(peer), frozenset(), self.number < peer), out)

    def _step_down(self, out: list[Send3], peer: int) -> None:
        self.asked = {key: view for key, view in self.asked.items() if key[0] != peer + 1}
        # A link that comes up again has the same number here; what waited to be sent on the old one never leaves.
        self.pending = [replace(effect, then=_without(effect.then, peer + 1)) for effect in self.pending]
        self._handle(LinkDown(peer + 1, "lost"), out)

    def _step_sync(self, out: list[Send3]) -> None:
        effect = self.pending.pop(0)
        _, record = effect.record
        before = self.durable.seats.get(SESSION)
        promised = before.ledger.promised if before else 0
        self.records.append(record)
        self.durable.restore([record])
        after = self.durable.seats.get(SESSION)  # none: the session is forgotten
        if after is not None and after.ledger.promised < promised:
            text = f"{self.name} stored the promise of view {after.ledger.promised} after that of view {promised}"
            raise Broken("promise", text)
        self._perform(self.machine.persisted(effect, NOW), out)

    def _step_suspect(self, out: list[Send3]) -> None:
        self.suspects = False
        self._handle(TimerFired((Role.VOTER, ("suspect", SESSION))), out)

    def _step_tell(self, out: list[Send3]) -> None:
        self.tells = False
        self._handle(TimerFired((Role.LEADER, ("tell", SESSION))), out)

    def _step_patience(self, out: list[Send3], member: int) -> None:
        """The leader has waited too long for one member, and not for another."""
        self._tick(out, since=NOW, late=GROUP[member])

    def _step_resign(self, out: list[Send3]) -> None:
        """The leader has been without a majority for too long."""
        self._tick(out, since=LONG_AGO, late=None)

    def _step_ask(self, out: list[Send3]) -> None:
        """The leader asks again those that have no channel."""
        self._tick(out, since=NOW, late=None)

    def _tick(self, out: list[Send3], since: float, late: bytes | None) -> None:
        assert self.session is not None and self.session.ballot is not None
        ballot = self.session.ballot
        ballot.since = since
        for member in ballot.members.values():
            if member.waiting is not None:
                member.waiting = LONG_AGO if member.node_id == late else NOW
        self._handle(TimerFired((Role.LEADER, ("commit", SESSION))), out)
        ballot.since = NOW

    def _step_verdict(self, out: list[Send3]) -> None:
        self._handle(Computed(self.jobs.pop(0)), out)

    def _step_crash(self, out: list[Send3]) -> None:
        """All that is not durable is gone."""
        self.alive = self.suspects = self.tells = False
        self.machine = NodeMachine(hello_of(self.number))
        self.pending, self.jobs, self.asked, self.client = [], [], {}, None

    def _step_restart(self, out: list[Send3]) -> None:
        self.alive, self.life = True, self.life + 1
        self._boot(out)

    def _step_open(self, out: list[Send3]) -> None:
        """A client asks this node to lead the session."""
        if CLIENT_LINK not in self.machine.links:
            self._handle(LinkUp(CLIENT_LINK, hello_of(NODES), frozenset(), False), out)
        client = self.client = Client(SESSION, self.setting.contract, max_drafters=0, origins=False)
        channel = 1
        while (CLIENT_LINK, channel) in self.machine._owner:
            channel += 2
        for effect in client.open(CLIENT_LINK, channel):
            assert isinstance(effect, Send)
            self._handle(Received(CLIENT_LINK, channel, effect.message), out)

    # ------------------------------------------------------------ effects

    def _handle(self, event: Any, out: list[Send3]) -> None:
        self._perform(self.machine.handle(event, NOW), out)

    def _perform(self, effects: list[Effect], out: list[Send3]) -> None:
        for effect in effects:
            match effect:
                case Send(link, channel, message):
                    self._send(link, channel, message, out)
                case Refuse(link, channel, error):
                    self._check_refusal(link, error)
                    self._send(link, channel, error.reply, out)
                case Persist():
                    self.pending.append(effect)
                case Compute(job):
                    self.jobs.append(job)
                case SetTimer((Role.VOTER, ("suspect", _))):
                    self.suspects = True
                case CancelTimer((Role.VOTER, ("suspect", _))):
                    self.suspects = False
                case SetTimer((Role.LEADER, ("tell", _))):
                    self.tells = True
                case CancelTimer((Role.LEADER, ("tell", _))):
                    self.tells = False
                case SetTimer() | CancelTimer() | Deliver():
                    continue  # times pass when the exploration says so; notes are for people
                case CloseLink():
                    raise Broken("honest", f"{self.name} hangs up: {effect.reason}")

    def _send(self, link: int, channel: int, message: Any, out: list[Send3]) -> None:
        if link == CLIENT_LINK:
            if self.client is not None:
                self.client.handle(Received(link, channel, message), NOW)
            return
        match message:
            case Vote():
                self._check_durable(message.view, message.height, message.digest)
            case Enlisted():
                self._check_promised(self.asked.pop((link, channel)))
        out.append((link - 1, channel, message))

    # ------------------------------------------------------------ what must hold here

    @property
    def name(self) -> str:
        return NAMES[self.number]

    def _check_refusal(self, link: int, error: PeerError) -> None:
        """Nodes that follow the rules never contradict each other's ledgers, nor break a connection's rules."""
        if error.clause == "Q-12":
            return  # a second founding under one name may well get another group
        if error.code is ErrorCode.LEDGER_MISMATCH or error.scope is Scope.CONNECTION:
            raise Broken("honest", f"{self.name} refuses {NAMES[link - 1] if link > 0 else 'itself'}: {error}")

    def _check_durable(self, view: int, height: int, digest: bytes | None = None) -> None:
        seat = self.durable.seats.get(SESSION)
        label = (seat.ledger.view, seat.ledger.height) if seat else (0, 0)
        if label < (view, height):
            said, held = f"{height} of view {view}", f"{label[1]} of view {label[0]}"
            raise Broken("stored-first", f"{self.name} votes for height {said}; durable there is {held}")
        if digest is not None and seat is not None:
            chain = seat.ledger.chain
            if not any(chain.names(position, digest) for position in range(chain.position + 1)):
                raise Broken("stored-first", f"{self.name} votes for a block that its durable log does not hold")

    def _check_promised(self, view: int) -> None:
        seat = self.durable.seats.get(SESSION)
        if seat is None or seat.ledger.promised < view:
            durable = "none" if seat is None else f"that of view {seat.ledger.promised}"
            raise Broken("stored-first", f"{self.name} says that it promised view {view}; durable there is {durable}")

    def _check_ballot(self) -> None:
        """What the leader counts of its own voter is durable: between the two nothing is seen from outside."""
        if self.session is None or self.session.ballot is None:
            return
        own = self.session.ballot.members[GROUP[self.number]]
        if own.report is not None:
            self._check_promised(self.session.ballot.view)
        if own.voted:
            self._check_durable(self.session.ballot.view, own.voted)

    def visible(self) -> list[tuple[int, ...]]:
        """The prefixes that somebody can see to be committed here: :data:`END` behind a stream that has ended."""
        seen = []
        seat = self.voter.seats.get(SESSION) if self.alive else None
        if seat is not None:
            seen.append(committed_of(seat))
        if self.client is not None:
            seen.append(self.client.tokens + (END,) * (self.client.state is ClientState.ENDED))
        return [prefix for prefix in seen if prefix]

    def log(self) -> tuple[int, ...]:
        """The durable log, :data:`END` behind a block that ends the stream."""
        seat = self.durable.seats.get(SESSION)
        if seat is None:
            return ()
        return seat.ledger.chain.tokens_from(len(PROMPT)) + (END,) * (seat.ledger.finish is not None)

    # ------------------------------------------------------------ what may come next

    def channels(self, peer: int) -> frozenset[int]:
        """Channels of a link that this node still listens to."""
        return frozenset(channel for link, channel in self.machine._owner if link == peer + 1)

    def next_view(self) -> int | None:
        """The view that this node would take up if its voter's timer fired."""
        seat = self.voter.seats.get(SESSION) if self.alive and self.suspects else None
        if seat is None or seat.leader is not None or seat.ledger.finished:
            return None
        return next_view(max(seat.ledger.promised, seat.tried), seat.number, NODES)

    def timeouts(self) -> list[tuple[Any, ...]]:
        """What the leader's patience may do."""
        ballot = self.session.ballot if self.alive and self.session is not None else None
        if ballot is None:
            return []
        others = [member for member in ballot.members.values() if member.node_id != ballot.own]
        found: list[tuple[Any, ...]] = [
            ("patience", GROUP.index(member.node_id))
            for member in others
            if member.key is not None and member.waiting is not None
        ]
        if not ballot.adopted or len(ballot.enlisted) < ballot.majority:
            found.append(("resign",))
        if any(member.key is None and GROUP.index(member.node_id) + 1 in self.machine.links for member in others):
            found.append(("ask",))
        return found

    def check_readers(self) -> None:
        """Clients that resume here now, from every prefix that is committed, get the rest of it and nothing else."""
        seat = self.voter.seats.get(SESSION) if self.alive else None
        if seat is None:
            return
        whole = committed_of(seat)
        tokens = tuple(token for token in whole if token != END)
        link = CLIENT_LINK + 1
        for held in range(len(tokens) + 1):
            client = Client(SESSION, self.setting.contract, max_drafters=0, origins=False)
            client.group, client.state = GROUP, ClientState.INTERRUPTED
            client.chain.extend(tokens[:held])
            channel = 2 * held + 1
            self.voter.handle(LinkUp(link, hello_of(NODES), frozenset(), False), NOW)
            for ask in client.resume(link, channel):
                assert isinstance(ask, Send)
                for effect in self.voter.handle(Received(link, channel, ask.message), NOW):
                    message = effect.error.reply if isinstance(effect, Refuse) else getattr(effect, "message", None)
                    client.handle(Received(link, channel, message), NOW)
            got = client.tokens + (END,) * (client.state is ClientState.ENDED)
            if got != whole:
                raise Broken("stream", f"resuming at {self.name} with {held} tokens gives {got}, committed is {whole}")
            self.voter.handle(LinkDown(link, "done"), NOW)


def committed_of(seat: Seat) -> tuple[int, ...]:
    """What a voter knows to be committed, after the prompt."""
    ledger = seat.ledger
    tokens = ledger.chain.tokens_from(len(PROMPT))[: ledger.committed - len(PROMPT)]
    return tokens + (END,) * ledger.finished


def _without(effects: tuple[Effect, ...], link: int) -> tuple[Effect, ...]:
    return tuple(effect for effect in effects if getattr(effect, "link", None) != link)
