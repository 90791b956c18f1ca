"""The status document: what a node tells people and monitors about itself (message STATUS; JSON, not normative)."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import trio

from dsdproto.commit.quorum import leader_of
from dsdproto.identity import node_id_text
from dsdproto.registry import Role
from dsdproto.roles.drafter import Drafter
from dsdproto.roles.leader import Leader
from dsdproto.roles.leader_session import WASTE_CAUSES
from dsdproto.roles.leader_session import Session as LeaderSession
from dsdproto.roles.verifier import Verifier
from dsdproto.roles.voter import Seat, Voter

if TYPE_CHECKING:
    from dsdproto.commit.ballot import Ballot
    from reference_nodes.link import Link
    from reference_nodes.node import Node

FORMAT = 1
MAX_DOCUMENT = 1 << 18
"""Bytes that STATUS can carry."""


def role_names(roles: tuple[int, ...] | frozenset[Role]) -> list[str]:
    """Names in the order of their numbers; an unknown role is its number."""
    known = {int(role): role.name.lower() for role in Role}
    return [known.get(int(role), str(int(role))) for role in sorted(roles)]


def status_document(node: Node) -> dict[str, Any]:
    """All that there is to say, as JSON values. Times in seconds, sizes in bytes."""
    machines = node.host.machine.roles
    now = trio.current_time()
    document: dict[str, Any] = {
        "format": FORMAT,
        "node": node_id_text(node.node_id),
        "name": node.config.name,
        "agent": node.hello.agent,
        "roles": role_names(node.hello.roles),
        "models": [
            {"role": role_names((offer.role,))[0], "name": offer.name, "max_context": offer.max_context}
            for offer in node.hello.models
        ],
        "address": node.address,
        "uptime_s": round(now - node.since, 3),
        "mailbox": node.host.waiting,
        "links": [_link(link, now) for link in node.peers.links.values()],
        "dialing": node.peers.dialing(),
    }
    leader = machines.get(Role.LEADER)
    if isinstance(leader, Leader):
        document["leader"] = {
            "sessions": [_session(session) for session in leader.sessions.values()],
            "finished": leader.finished,
            "refused": leader.refused,
        }
    voter = machines.get(Role.VOTER)
    if isinstance(voter, Voter):
        document["voter"] = {
            "sessions": [_seat(session, seat) for session, seat in voter.seats.items()],
            "readers": len(voter.readers.at),
        }
        if node.votes is not None:
            document["voter"]["journal"] = {
                "bytes": node.votes.size,
                "records": node.votes.stored,
                "syncs": node.votes.syncs,
            }
    verifier = machines.get(Role.VERIFIER)
    if isinstance(verifier, Verifier):
        document["verifier"] = {"sessions": len(verifier.sessions), **dataclasses.asdict(verifier.counters)}
    drafter = machines.get(Role.DRAFTER)
    if isinstance(drafter, Drafter):
        document["drafter"] = {"sessions": len(drafter.sessions), **dataclasses.asdict(drafter.counters)}
    return document


def status_text(node: Node) -> str:
    """The document as STATUS carries it. Sessions and links are cut where it would not fit."""
    document = status_document(node)
    text = json.dumps(document, separators=(",", ":"))
    for section, key in (("leader", "sessions"), ("voter", "sessions"), (None, "links")):
        if len(text) <= MAX_DOCUMENT:
            return text
        holder = document.get(section, {}) if section else document
        holder[f"{key}_left_out"] = len(holder.get(key, ()))
        holder[key] = []
        text = json.dumps(document, separators=(",", ":"))
    return text


def _link(link: Link, now: float) -> dict[str, Any]:
    peer = link.peer
    return {
        "link": link.number,
        "node": None if peer is None else node_id_text(peer.node_id),
        "roles": [] if peer is None else role_names(peer.roles),
        "models": [] if peer is None else [offer.name for offer in peer.models],
        "address": link.address,
        "dialed": link.dialer,
        "age_s": round(now - link.since, 3),
        "rtt_ms": None if link.rtt is None else round(1000 * link.rtt, 3),
        "queued": link.queued,
        **link.traffic.document(),
    }


def _seat(session: bytes, seat: Seat) -> dict[str, Any]:
    """One session at the voter. Positions count the prompt's tokens too."""
    ledger = seat.ledger
    return {
        "session": session.hex(),
        "view": ledger.promised,
        "leader": node_id_text(ledger.group[leader_of(ledger.promised, len(ledger.group))]),
        "group": [node_id_text(member) for member in ledger.group],
        "state": "finished" if ledger.finished else "following" if seat.leader is not None else "suspecting",
        "committed": ledger.committed,
        "end": ledger.chain.position,
        "lag": ledger.chain.position - ledger.committed,
        "height": ledger.height,
        "tries": seat.tries,
    }


def _ballot(ballot: Ballot) -> dict[str, Any]:
    """A leader's view of the voters of one session."""
    return {
        "view": ballot.view,
        "adopted": ballot.adopted,
        "committed": ballot.committed,
        "height": ballot.height,
        "pending": len(ballot.pending),
        "members": [
            {
                "node": node_id_text(member.node_id),
                "enlisted": member.enlisted,
                "sent": member.sent,
                "voted": member.voted,
                "lag": ballot.height - member.voted,
            }
            for member in ballot.members.values()
        ],
    }


def _session(session: LeaderSession) -> dict[str, Any]:
    stats = session.stats()
    quorum = {} if session.ballot is None else {"quorum": _ballot(session.ballot)}
    return {
        **quorum,
        "session": session.id.hex(),
        "position": session.chain.position,
        "prompt": len(session.contract.prompt),
        "verifier": None if session.verifier is None else session.verifier.key[0],
        "drafters": [
            {
                "number": seat.entry.number,
                "link": seat.key[0],
                "model": seat.entry.model,
                "outstanding": len(seat.known),
                "rounds": seat.rounds,
                "lag_ms": round(1000 * seat.lag.lag, 3),
            }
            for seat in session.drafters.values()
        ],
        "rounds": stats.rounds,
        "drafted": stats.drafted,
        "verified": stats.verified,
        "accepted": stats.accepted,
        "waste": {cause.name.lower(): count for cause, count in zip(WASTE_CAUSES, stats.waste)},
    }
