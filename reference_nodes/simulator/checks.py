"""What must hold in every run, judged from outside the machines: by what is durable, said, committed and delivered.

Each check has a name, which the table of planted bugs refers to:

=============  =====================================================================================================
agreement      no two nodes ever hold different tokens to be committed at a position
one-writer     no two different blocks are accepted at one height of one view
promise        a voter promises no view older than one it has promised, and stores no block of one
stored-first   no VOTE leaves a voter before what it speaks of is durable there
stream         what a client is given has no gap, repetition or change, and is the target's own where numbers are equal
durability     what a client was given is durable at a majority of its session's voters, then and ever after
progress       with a majority healed the stream reaches its end in time
bounds         queues and tables stay within their limits
invariant      predicates of :mod:`dsdproto.invariants` over the machines
exception      no machine raises
=============  =====================================================================================================
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dsdproto.commit.quorum import majority
from dsdproto.commit.records import Accepted, Forgotten, Founded, Promised
from dsdproto.invariants import InvariantBroken, check_node
from dsdproto.prefix import PrefixChain
from dsdproto.registry import Finish, Role
from dsdproto.session import chain_of
from dsdproto.wire.groups import split_group
from dsdproto.wire.messages import Contract, Enlist, Vote
from reference_nodes.simulator.cluster import name_of
from reference_nodes.simulator.host import SimNode
from reference_nodes.simulator.network import MAX_HELD, FaultyWorld

CHECKS = (
    "agreement",
    "one-writer",
    "promise",
    "stored-first",
    "stream",
    "durability",
    "progress",
    "bounds",
    "invariant",
    "exception",
)
MACHINES_EVERY = 32
"""Events between two looks at all machines."""
MAX_HEAP = 20_000


class Violation(Exception):
    """A run broke a rule."""

    def __init__(self, check: str, text: str) -> None:
        super().__init__(f"{check}: {text}")
        self.check = check
        self.text = text


@dataclass(slots=True)
class DurableLog:
    """What one voter's disk says of one session: read from the records, not with the voter's own code."""

    tokens: PrefixChain
    promised: int = 0
    votes: dict[int, int] = field(default_factory=dict)
    """by view, the largest height stored"""


@dataclass(slots=True)
class Checker:
    """Watches one run; raises :class:`Violation`."""

    world: FaultyWorld
    contract: Contract
    expected: tuple[int, ...] | None
    """the target alone, where every member computes like it"""
    streams: dict[bytes, PrefixChain] = field(default_factory=dict)
    """by session, what the client was given"""
    groups: dict[bytes, tuple[str, ...]] = field(default_factory=dict)
    logs: dict[tuple[str, bytes], DurableLog] = field(default_factory=dict)
    views: int = 0
    """highest view in which a block was accepted"""
    overwritten: int = 0
    """blocks that took the place of other tokens"""
    incomplete: dict[bytes, None] = field(default_factory=dict)
    """sessions that were founded while some of their voters were away"""
    _committed: dict[bytes, dict[int, bytes]] = field(default_factory=dict)
    """by session and position, the digest that someone holds to be committed"""
    _written: dict[tuple[bytes, int, int], bytes] = field(default_factory=dict)
    """by session, view and height, the digest accepted"""
    _seen: dict[tuple[str, int, bytes], int] = field(default_factory=dict)
    """by node, life and session, how far its committed prefix was compared"""
    _countdown: int = MACHINES_EVERY

    # ------------------------------------------------------------ the client

    def delivered(self, session: bytes, position: int, tokens: tuple[int, ...]) -> None:
        """The client was given tokens."""
        stream = self.streams.setdefault(session, chain_of(self.contract))
        if position != stream.position:
            raise Violation("stream", f"the client is at {stream.position} and was given tokens from {position} on")
        stream.extend(tokens)
        first = len(self.contract.prompt)
        if self.expected is not None:
            seen = stream.tokens_from(first)
            if seen != self.expected[: len(seen)]:
                raise Violation("stream", f"the client was given {seen}, the target alone says {self.expected}")
        if stream.position - first > self.contract.max_tokens:
            raise Violation("stream", f"{stream.position - first} tokens, {self.contract.max_tokens} were asked for")
        self._agree("the client", session, stream, position + 1, stream.position)
        self._check_durable(session, "when the client was given it")

    def completed(self, session: bytes, finish: int, closing: bool) -> None:
        """The client was told that the stream is complete.

        :param closing: it has asked for no more.
        """
        if finish == Finish.CLOSED and closing:
            return
        if finish != Finish.LENGTH:
            raise Violation("stream", f"the stream ended with finish {finish!r}")
        stream = self.streams.setdefault(session, chain_of(self.contract))
        count = stream.position - len(self.contract.prompt)
        if count != self.contract.max_tokens:
            raise Violation("stream", f"the stream ended after {count} of {self.contract.max_tokens} tokens")

    # ------------------------------------------------------------ disks

    def durable(self, node: SimNode, tagged: tuple[Role, Any]) -> None:
        """A record is on a node's disk."""
        role, record = tagged
        if role is not Role.VOTER:
            return
        key = (node.name, record.session)
        match record:
            case Founded():
                self.groups.setdefault(record.session, tuple(map(name_of, split_group(record.group))))
                self.logs.setdefault(key, DurableLog(chain_of(record.contract)))
            case Promised():
                log = self.logs[key]
                if record.view < log.promised:
                    raise Violation("promise", f"{node.name} promises view {record.view} after {log.promised}")
                log.promised = record.view
            case Accepted():
                self._accepted(node.name, record, self.logs[key])
            case Forgotten():
                self.logs.pop(key, None)

    def _accepted(self, name: str, record: Accepted, log: DurableLog) -> None:
        if record.view < log.promised:
            raise Violation("promise", f"{name} accepted a block of view {record.view} after promising {log.promised}")
        slot = (record.session, record.view, record.height)
        other = self._written.setdefault(slot, record.digest)
        if other != record.digest:
            text = f"two blocks at height {record.height} of view {record.view}: {name} accepted the second"
            raise Violation("one-writer", text)
        self.views = max(self.views, record.view)
        old = log.tokens.tokens_from(min(record.position, log.tokens.position))
        self.overwritten += old[: len(record.tokens)] != record.tokens[: len(old)]
        log.tokens.truncate(min(record.position, log.tokens.position))
        log.tokens.extend(record.tokens)
        log.votes[record.view] = max(log.votes.get(record.view, 0), record.height)
        if record.session in self.streams:
            self._check_durable(record.session, f"after {name} stored a block of view {record.view}")

    def _check_durable(self, session: bytes, when: str) -> None:
        group, stream = self.groups.get(session), self.streams[session]
        if group is None:
            return
        position, digest = stream.position, stream.digest
        holders = [
            name
            for name in group
            if (log := self.logs.get((name, session))) is not None and log.tokens.names(position, digest)
        ]
        if len(holders) < majority(len(group)):
            held = ", ".join(holders) or "nobody"
            text = f"position {position}, {when}, is durable at {held}; the group is {', '.join(group)}"
            raise Violation("durability", text)

    # ------------------------------------------------------------ nodes

    def sent(self, node: SimNode, message: Any) -> None:
        """A message left a node."""
        if type(message) is Vote:
            logs = (log for (name, _), log in self.logs.items() if name == node.name)
            best = max((log.votes.get(message.view, 0) for log in logs), default=0)
            if best < message.height:
                text = f"{node.name} votes for height {message.height} of view {message.view}, stored is {best}"
                raise Violation("stored-first", text)
        elif type(message) is Enlist and message.view == 0 and message.session not in self.groups:
            linked = [up.peer.node_id for up in node.machine.links.values()]
            if any(member not in linked for member in split_group(message.group) if name_of(member) != node.name):
                self.incomplete[message.session] = None

    def observed(self, node: SimNode, event: Any) -> None:
        """A node's machine handled an event."""
        voter = node.machine.roles.get(Role.VOTER)
        if voter is not None and voter.seats:
            for session, seat in voter.seats.items():
                ledger = seat.ledger
                key = (node.name, node.life, session)
                seen = self._seen.get(key, 0)
                if ledger.committed > seen:
                    self._agree(node.name, session, ledger.chain, max(seen, 1), ledger.committed)
                    self._seen[key] = ledger.committed
        self._countdown -= 1
        if not self._countdown:
            self._countdown = MACHINES_EVERY
            self.machines()

    def _agree(self, who: str, session: bytes, chain: PrefixChain, first: int, last: int) -> None:
        known = self._committed.setdefault(session, {})
        for position in range(first, last + 1):
            digest = chain.digest_at(position)
            if known.setdefault(position, digest) != digest:
                text = f"{who} holds other tokens to be committed at position {position} than somebody before"
                raise Violation("agreement", text)

    def machines(self) -> None:
        """Look at every machine and queue."""
        for node in self.world.nodes.values():
            if node.alive:
                try:
                    check_node(node.machine)
                except InvariantBroken as error:
                    raise Violation("invariant", f"{node.name}: {error}") from error
        if len(self.world._heap) > MAX_HEAP:
            raise Violation("bounds", f"{len(self.world._heap)} things are about to happen")
        for road in self.world.roads:
            if len(road.held) > MAX_HELD + 1:
                text = f"{len(road.held)} messages wait on {road.sender.name} -> {road.receiver.name}"
                raise Violation("bounds", text)
