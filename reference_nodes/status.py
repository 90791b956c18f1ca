"""The status document: what a node tells people and monitors about itself (message STATUS; JSON, not normative)."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import trio

from dsdproto.identity import node_id_text
from dsdproto.registry import Role
from dsdproto.roles.drafter import Drafter
from dsdproto.roles.leader import Leader
from dsdproto.roles.leader_session import WASTE_CAUSES
from dsdproto.roles.leader_session import Session as LeaderSession
from dsdproto.roles.verifier import Verifier

if TYPE_CHECKING:
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
    for section, key in (("leader", "sessions"), (None, "links")):
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


def _session(session: LeaderSession) -> dict[str, Any]:
    stats = session.stats()
    return {
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
