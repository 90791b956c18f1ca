"""The reference nodes behind the conformance suite's exec door: ``dsdp-conformance run --exec 'python -m
reference_nodes.door'``.

Answers the verbs `describe`, `start`, `stop` and `reset` of conformance/IMPLEMENTERS.md, one JSON line each; what rungs
1 and 2 ask, the library answers: ``python -m conformance.examples.python --nodes reference_nodes.door`` has all verbs.
Any number of nodes; they end with stdin.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from dsdproto.registry import CommitProfile, ErrorCode, Role
from dsdproto.roles.leader import LeaderConfig
from dsdproto.sampling import SamplingParameters
from dsdproto.wire.messages import Contract
from reference_nodes.backends.tokens import vocabulary_of
from reference_nodes.client import NoLeader, Session, SessionFailed, make_contract, open_session
from reference_nodes.errors import NodeError
from reference_nodes.link import Link
from reference_nodes.models_store import locate
from reference_nodes.node import Node, NodeConfig, open_node
from reference_nodes.peers import Redial
from reference_nodes.trust import NODE_FILES, read_identity

TARGET = "tm-1:v=4096,s=7"
REDIAL = Redial(first=0.1, longest=1.0)
PATIENCE = 20.0
"""Seconds without a token after which a client gives an interrupted session up."""
LINE = 1 << 24


@dataclass
class Running:
    """One node; a client's sessions with it."""

    node: Node
    scope: trio.CancelScope
    over: trio.Event = field(default_factory=trio.Event)
    reading: int = 0
    """sessions that are neither complete nor failed"""
    outcomes: dict[bytes, dict[str, Any]] = field(default_factory=dict)


class Door:
    """What runs, by the name that `start` gave it."""

    def __init__(self, nursery: trio.Nursery, room: Path) -> None:
        self.nursery = nursery
        self.room = room
        self.running: dict[str, Running] = {}
        self.started = 0

    async def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer to one request, without its number."""
        match request["verb"]:
            case "describe":
                return {"ok": self.describe()}
            case "start":
                return await self.start(request)
            case "stop":
                return {"ok": await self.stop(request["node"], request.get("wait_ms", 0) / 1000)}
            case "reset":
                for name in list(self.running):
                    await self.stop(name)
                return {"ok": {}}
            case verb:
                return {"unsupported": f"{verb} is asked of the library: python -m conformance.examples.python"}

    def describe(self) -> dict[str, Any]:
        return {
            "door": 1,
            "name": "DSDP reference nodes",
            "version": importlib.metadata.version("dsdp"),
            "spec": 1,
            "roles": [role.name.lower() for role in Role],
            "supports": ["start"],
            "language": "Python",
        }

    async def start(self, request: dict[str, Any]) -> dict[str, Any]:
        self.started += 1
        name = f"node{self.started}"
        directory = self.room / name
        wanted = request["config"]
        if "max_context" in wanted:
            return {"unsupported": "max_context is that of the model"}
        try:
            config = self.config(request, directory)
            running: Running = await self.nursery.start(self.run, config)
        except NodeError as error:
            return {"error": {"layer": "internal", "text": str(error)}}
        self.running[name] = running
        if Role.CLIENT in config.roles:
            self.nursery.start_soon(self.ask_everybody, running, wanted)
        address = {} if running.node.address is None else {"address": running.node.address}
        return {"ok": {"node": name, "node_id": running.node.node_id.hex(), **address}}

    def config(self, request: dict[str, Any], directory: Path) -> NodeConfig:
        wanted, identity = request["config"], request["identity"]
        directory.mkdir(mode=0o700)
        for file, key in zip(NODE_FILES, ("key", "certificate", "authority")):
            (directory / file).touch(mode=0o600)
            (directory / file).write_text(identity[key])
        roles = tuple(sorted(Role[role.upper()] for role in request["roles"]))
        target = wanted.get("target", TARGET)
        store = Path(wanted["store"]) if "store" in wanted else None
        if store is not None:
            store.mkdir(parents=True, exist_ok=True)
        leader = LeaderConfig(group_size=wanted.get("group_size", 3))
        return NodeConfig(
            roles=roles,
            identity=read_identity(directory),
            target=target if Role.VERIFIER in roles else None,
            draft=wanted.get("draft", f"{target},a=52429,d=1") if Role.DRAFTER in roles else None,
            host="127.0.0.1" if request["listen"] else None,
            peers=tuple(request["peers"]),
            heartbeat_ms=wanted.get("heartbeat_ms"),
            redial=REDIAL,
            leader=leader,
            store=store,
            max_nodes=wanted.get("max_nodes", 63),
        )

    async def run(self, config: NodeConfig, task_status: trio.TaskStatus[Running]) -> None:
        running: Running | None = None
        with trio.CancelScope() as scope:
            try:
                async with open_node(config) as node:
                    running = Running(node, scope)
                    task_status.started(running)
                    await trio.sleep_forever()
            finally:
                if running is not None:
                    running.over.set()

    async def stop(self, name: str, wait: float = 0.0) -> dict[str, Any]:
        """:param wait: seconds that a client's sessions may still take."""
        running = self.running.pop(name)
        with trio.move_on_after(wait):
            while running.reading:
                await trio.sleep(0.05)
        outcomes = [{"session": session.hex(), **outcome} for session, outcome in running.outcomes.items()]
        running.scope.cancel()
        await running.over.wait()
        return {"sessions": outcomes} if Role.CLIENT in running.node.config.roles else {}

    # ------------------------------------------------------------ a client under test

    async def ask_everybody(self, running: Running, wanted: dict[str, Any]) -> None:
        """One session on each link whose peer has the role leader, for as long as the node runs."""
        asked: set[int] = set()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_until, running.over, nursery.cancel_scope)
            while True:
                for link in running.node.links_to(Role.LEADER):
                    if link.number not in asked:
                        asked.add(link.number)
                        nursery.start_soon(self.ask, running, link, wanted)
                await running.node.peers.wait_for_change()

    async def ask(self, running: Running, link: Link, wanted: dict[str, Any]) -> None:
        assert link.peer is not None
        wish = wanted.get("session", {})
        contract = contract_of(wish, wanted.get("target", TARGET), quorum=Role.VOTER in link.peer.roles)
        options = {"max_drafters": wish.get("max_drafters", 8), "origins": bool(wish.get("origins", 1))}
        running.reading += 1
        try:
            opening = open_session(running.node, contract, leader=link.peer_id, patience=PATIENCE, **options)
            async with opening as session:
                await self.follow(running, session)
        except NoLeader:
            return  # the link was lost before anything was asked
        finally:
            running.reading -= 1

    async def follow(self, running: Running, session: Session) -> None:
        try:
            async for _ in session:
                running.outcomes[session.id] = {"tokens": list(session.tokens)}
            assert session.result is not None
            running.outcomes[session.id] = {"tokens": list(session.tokens), "finish": int(session.result.finish)}
        except SessionFailed as error:
            running.outcomes[session.id] = {"tokens": list(session.tokens), "error": _name(error.failure.code)}


def contract_of(wish: dict[str, Any], target: str, *, quorum: bool) -> Contract:
    """What a client under test asks for."""
    profile = wish.get("commit_profile", int(CommitProfile.QUORUM if quorum else CommitProfile.SOLO))
    return make_contract(
        vocabulary_of(locate(target)),
        wish.get("prompt", (11, 22, 33)),
        max_tokens=wish.get("max_tokens", 24),
        sampling=SamplingParameters(
            temperature_q16=wish.get("temperature", 52429),
            top_k=wish.get("top_k", 0),
            top_p_q16=wish.get("top_p", 65536),
        ),
        seed=int(wish.get("seed", int.from_bytes(os.urandom(8), "big"))),
        stop_tokens=wish.get("stop_tokens", (0,)),
        model=target,
        commit_profile=CommitProfile(profile),
    )


def _name(code: int | None) -> str:
    if code is None:
        return "CONNECTION_LOST"
    return ErrorCode(code).name if code in ErrorCode._value2member_map_ else f"0x{code:04x}"


async def _until(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


async def serve(room: Path) -> None:
    """Requests from stdin, answers to stdout, one at a time, until stdin ends."""
    stdin = trio.wrap_file(os.fdopen(os.dup(sys.stdin.fileno()), "rb"))
    async with trio.open_nursery() as nursery:
        door = Door(nursery, room)
        while line := await stdin.readline(LINE):
            request = json.loads(line)
            answer = await door.answer(request)
            print(json.dumps({"id": request["id"], **answer}), flush=True)
        nursery.cancel_scope.cancel()


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="dsdp-door-") as room:
        trio.run(serve, Path(room))
    return 0


if __name__ == "__main__":
    sys.exit(main())
