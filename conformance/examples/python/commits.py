"""Functions of `compute`: turns, majorities, the best log, a voter (SPEC.md, 16)."""

from __future__ import annotations

from typing import Any

from conformance.examples.python.answers import from_json, to_json
from conformance.examples.python.drafts import chain_given
from dsdproto.commit.ballot import Ballot
from dsdproto.commit.quorum import distance, leader_of, majority, next_view, reached_by_majority
from dsdproto.effects import Effect, LinkDown, LinkUp, Persist, Received, Refuse, Send
from dsdproto.errors import PeerError
from dsdproto.registry import MessageType
from dsdproto.roles.voter import Voter, VoterConfig
from dsdproto.wire.codec import type_of
from dsdproto.wire.messages import Enlisted, Hello, Limits
from dsdproto.wire.schema import MESSAGES

Input = dict[str, Any]


def turn(given: Input) -> dict[str, Any]:
    promised, number, n = given["promised"], given["number"], given["n"]
    return {
        "leader": leader_of(promised, n),
        "distance": distance(promised, number, n),
        "view": next_view(promised, number, n),
    }


def committed(given: Input) -> dict[str, Any]:
    return {"majority": majority(given["n"]), "height": reached_by_majority(given["heights"], given["n"])}


def adopt(given: Input) -> dict[str, Any]:
    chain = chain_given(given)
    ids = tuple(bytes([number]) * 32 for number in range(given["n"]))
    ballot = Ballot.open(given["view"], ids[given["own"]], ids, chain.position, 0.0)
    for report in given["reports"]:
        member = ballot.members[ids[report["member"]]]
        member.key = (report["member"], 2)
        try:
            ballot.enlist(member, from_json(Enlisted, report["enlisted"]), chain)
        except PeerError:
            ballot.lost(member.key)  # its channel ends, and it counts for nothing (clause Q-31)
    if not ballot.ready_to_adopt:
        return {"ready": False}
    known = chain.position
    finish = ballot.adopt(chain)
    for member in ballot.enlisted:
        assert member.report is not None
        ballot.check_known(member.report, chain)
    if chain.position > known or finish is not None:
        ballot.propose(chain, finish, (), 0.0)
    prepares = [(ids.index(member.node_id), ballot.catch_up(member, chain, finish)) for member in ballot.enlisted]
    out = {
        "ready": True,
        "position": chain.position,
        "digest": chain.digest.hex(),
        "height": ballot.height,
        "prepares": [{"member": n, "prepare": to_json(message)} for n, message in prepares if message is not None],
    }
    return out if finish is None else {**out, "finish": finish}


def hello(node_id: bytes) -> Hello:
    limits = Limits(max_payload=1 << 20, max_channels=64, heartbeat_ms=1000)
    more = {"cluster": bytes(16), "nonce": bytes(16), "agent": "", "models": (), "features": (1, 3, 5), "roles": (2, 5)}
    return Hello(version_min=1, version_max=1, node_id=node_id, instance=node_id[:8], limits=limits, **more)


def voter(given: Input) -> dict[str, Any]:
    """The voter's machine; what it stores is stored at once. Every channel has a link of its own."""
    machine = Voter(VoterConfig(), bytes.fromhex(given["own"]))
    links: dict[str, int] = {}
    results = []
    for step in given["steps"]:
        label = step.get("lost") or step["channel"]
        sent: list[dict[str, Any]] = []
        if label not in links:
            links[label] = len(links) + 1
            up = LinkUp(links[label], hello(bytes.fromhex(step["from"])), frozenset({1, 3, 5}), False)
            machine.handle(up, 0.0)
        if "lost" in step:
            effects = machine.handle(LinkDown(links.pop(label), "lost"), 0.0)
        else:
            message = from_json(MESSAGES[MessageType[step["type"]]], step["fields"])
            effects = machine.handle(Received(links[label], 2, message), 0.0)
        perform(effects, {number: name for name, number in links.items()}, sent)
        results.append(sent)
    return {"results": results}


def perform(effects: list[Effect] | tuple[Effect, ...], names: dict[int, str], sent: list[dict[str, Any]]) -> None:
    for effect in effects:
        match effect:
            case Persist(_, then):
                perform(then, names, sent)
            case Send(link, _, message):
                kind = MessageType(type_of(message)).name
                sent.append({"channel": names[link], "type": kind, "fields": to_json(message)})
            case Refuse(link, _, error):
                sent.append({"channel": names[link], "type": "ERROR", "code": error.code.name})


FUNCTIONS = {"turn": turn, "committed": committed, "adopt": adopt, "voter": voter}
