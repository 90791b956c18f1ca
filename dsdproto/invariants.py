"""What must always hold, as predicates over role machines: used by tests, the simulator and the conformance suite.

Each function raises :class:`InvariantBroken` with the values that show the fault, and returns nothing otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from dsdproto.errors import DsdpError
from dsdproto.node import NodeMachine
from dsdproto.roles.client import Client, Clients
from dsdproto.roles.drafter import Drafter
from dsdproto.roles.leader import Leader
from dsdproto.roles.leader_session import BlockRecord, EndRecord, Session
from dsdproto.roles.verifier import Verifier


class InvariantBroken(DsdpError, AssertionError):
    """A machine is in a state that must never be."""


def _must(holds: bool, what: str) -> None:
    if not holds:
        raise InvariantBroken(what)


def check_node(node: NodeMachine) -> None:
    """Check every role machine of a node."""
    for machine in node.roles.values():
        match machine:
            case Leader():
                check_leader(machine)
            case Drafter():
                check_drafter(machine)
            case Verifier():
                check_verifier(machine)
            case Clients():
                for client in machine.sessions.values():
                    check_client(client)


def check_leader(leader: Leader) -> None:
    """The trie hangs off the verified prefix, its books balance, nobody exceeds a bound."""
    for session in leader.sessions.values():
        _check_session(session, leader)


def _check_session(session: Session, leader: Leader) -> None:
    trie, chain = session.trie, session.chain
    _must(
        (trie.position, trie.digest) == (chain.position, chain.digest),
        f"the trie's root is at {trie.position}, the verified prefix at {chain.position}",
    )
    drafted, used = trie.drafted.total(), trie.accepted.total() + trie.waste.total() + len(trie) + trie.parked
    _must(drafted == used, f"drafted {drafted} tokens, but accepted + waste + live + parked is {used}")
    _must(len(trie) <= trie.max_nodes, f"{len(trie)} nodes in a trie of {trie.max_nodes}")
    generated = chain.position - len(session.contract.prompt)
    _must(0 <= generated <= session.contract.max_tokens, f"{generated} tokens of {session.contract.max_tokens}")
    _must(len(session.drafters) <= session.max_drafters, f"{len(session.drafters)} drafters attached")
    for seat in session.drafters.values():
        _must(len(seat.known) <= seat.credit, f"drafter {seat.entry.number}: {len(seat.known)} of {seat.credit} nodes")
        for node, (number, _, _) in seat.known.items():
            _must(trie.node(node) is not None, f"drafter {seat.entry.number}: node {number} is not in the trie")
            _must(0 < number <= seat.sent, f"drafter {seat.entry.number}: node {number} of {seat.sent} sent")
    if session.in_flight is not None:
        _must(
            session.in_flight.subtree.position == chain.position,
            f"a verification at {session.in_flight.subtree.position} is in flight, the prefix is at {chain.position}",
        )
        _must(session.verifier is not None and session.verifier.ready, "a verification is in flight without a verifier")
    _must(session.id in leader.sessions, "a session that its leader does not know")


def check_drafter(drafter: Drafter) -> None:
    """Within credit, node numbers are unique, every node names the prefix that leads to it."""
    for session in drafter.sessions.values():
        tree = session.tree
        _must(len(tree.nodes) <= max(session.credit, 0) or session.credit == 0, "more live nodes than credit")
        seen: set[int] = set()
        for node in tree.nodes:
            _must(node.live, f"node {node.number} is in the tree, but not live")
            _must(node.parent is tree.root or (node.parent is not None and node.parent.live), "a node hangs loose")
            if node.number is not None:
                _must(node.number not in seen and node.number <= tree.sent, f"node number {node.number} twice")
                seen.add(node.number)
        _must(tree.root.position == len(session.tokens), "the root is not at the end of the prefix")


def check_verifier(verifier: Verifier) -> None:
    """One pending request per session at most, and sessions within their bounds."""
    _must(len(verifier.sessions) <= verifier.config.max_sessions, f"{len(verifier.sessions)} sessions")
    for session in verifier.sessions.values():
        _must(session.cached <= session.chain.position, "more positions computed than the prefix has")
        _must(session.pending is not None or not session.in_job, "a session in a job without a request")


def check_client(client: Client) -> None:
    """What the client holds is prompt and committed tokens, never more than asked for."""
    _must(len(client.tokens) <= client.contract.max_tokens, f"{len(client.tokens)} tokens received")


def check_stream(seen: Sequence[int], expected: Sequence[int], complete: bool) -> None:
    """What a client saw is the target's own stream: a prefix of it at any time, all of it at the end.

    Says at which token the two part.
    """
    for index, (got, want) in enumerate(zip(seen, expected)):
        _must(got == want, f"token {index} of the stream is {got}, the target alone says {want}")
    _must(len(seen) <= len(expected), f"{len(seen)} tokens, the target alone gives {len(expected)}")
    if complete:
        _must(len(seen) == len(expected), f"the stream ended after {len(seen)} of {len(expected)} tokens")


def check_records(records: Sequence[BlockRecord | EndRecord]) -> None:
    """Stored records of one session chain up: heights count, each block extends the one before, the end is last."""
    _must(not any(isinstance(record, EndRecord) for record in records[:-1]), "a record after the end of the stream")
    blocks = [record for record in records if isinstance(record, BlockRecord)]
    if blocks and isinstance(records[-1], EndRecord):
        _must(records[-1].digest == blocks[-1].digest, "the end names another prefix than the last block")
    for before, after in pairwise(blocks):
        _must(after.height == before.height + 1, f"height {after.height} after {before.height}")
        _must(after.base == before.digest, f"block {after.height} does not extend block {before.height}")
        _must(
            after.position == before.position + len(before.tokens),
            f"block {after.height} starts at {after.position}, block {before.height} ended at "
            f"{before.position + len(before.tokens)}",
        )
