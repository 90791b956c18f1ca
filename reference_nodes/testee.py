"""A reference node as conformance/IMPLEMENTERS.md asks for one: ``python -m reference_nodes.testee --roles client``.

Every role but the client's is what ``dsdp serve`` runs as well. A client opens one session on every link whose peer has
the role leader: under `quorum` where that peer votes too, else `solo`. Prints one JSON line when it is ready, and one
for each session that is over; ends when stdin ends.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import trio

from dsdproto.identity import node_id_text
from dsdproto.registry import CommitProfile, Role
from dsdproto.sampling import SamplingParameters
from reference_nodes.backends.tokens import vocabulary_of
from reference_nodes.cli.options import address
from reference_nodes.client import NoLeader, SessionFailed, make_contract, open_session
from reference_nodes.errors import NodeError
from reference_nodes.link import Link
from reference_nodes.models_store import locate
from reference_nodes.node import Node, NodeConfig, open_node
from reference_nodes.trust import read_identity

TARGET = "tm-1:v=4096,s=7"
PROMPT = (11, 22, 33)
MAX_TOKENS = 24
TEMPERATURE_Q16 = 52429
PATIENCE = 8.0
"""Seconds without a token after which an interrupted session is given up."""


async def run(config: NodeConfig, target: str) -> None:
    """Until stdin ends. Raises what :func:`reference_nodes.node.open_node` raises."""
    async with open_node(config) as node, trio.open_nursery() as nursery:
        print(json.dumps({"event": "ready", "port": node.port, "node": node_id_text(node.node_id)}), flush=True)
        if Role.CLIENT in config.roles:
            nursery.start_soon(_ask_everybody, node, target, nursery)
        async with trio.lowlevel.FdStream(os.dup(sys.stdin.fileno())) as stdin:
            while await stdin.receive_some():
                continue
        nursery.cancel_scope.cancel()


async def _ask_everybody(node: Node, target: str, nursery: trio.Nursery) -> None:
    asked: set[int] = set()
    while True:
        for link in node.links_to(Role.LEADER):
            if link.number not in asked:
                asked.add(link.number)
                nursery.start_soon(_ask, node, link, target)
        await node.peers.wait_for_change()


async def _ask(node: Node, link: Link, target: str) -> None:
    """One session with the leader behind ``link``."""
    assert link.peer is not None
    quorum = Role.VOTER in link.peer.roles
    contract = make_contract(
        vocabulary_of(locate(target)),
        PROMPT,
        max_tokens=MAX_TOKENS,
        sampling=SamplingParameters(temperature_q16=TEMPERATURE_Q16),
        seed=int.from_bytes(os.urandom(8), "big"),
        stop_tokens=(0,),
        model=target,
        commit_profile=CommitProfile.QUORUM if quorum else CommitProfile.SOLO,
    )
    try:
        async with open_session(node, contract, leader=link.peer_id, patience=PATIENCE) as session:
            done = await session.finish()
            report = {"finish": int(done.finish), "tokens": list(session.tokens)}
    except SessionFailed as error:
        report = {"failed": error.failure.text, "clause": error.failure.clause}
    except NoLeader as error:
        report = {"failed": str(error), "clause": ""}
    print(json.dumps({"event": "session", **report}), flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m reference_nodes.testee", description=__doc__.partition("\n")[0])
    parser.add_argument("--roles", required=True, help="of client, leader, drafter, verifier, voter; by commas")
    parser.add_argument("--identity", required=True, type=Path, help="directory that `dsdp-conformance issue` wrote")
    parser.add_argument("--target", default=TARGET, help="TM-1 model of verifier and client (default: %(default)s)")
    parser.add_argument("--draft", default=f"{TARGET},a=52429,d=1", help="of a drafter (default: %(default)s)")
    parser.add_argument("--port", type=int, default=0, help="on 127.0.0.1; default: any free one")
    parser.add_argument("--peer", action="append", default=[], type=address, help="HOST:PORT to dial; may be repeated")
    options = parser.parse_args(arguments)
    try:
        roles = tuple(sorted({Role[name.strip().upper()] for name in options.roles.split(",")}))
    except KeyError as error:
        parser.error(f"there is no role {error}")
    try:
        config = NodeConfig(
            roles=roles,
            identity=read_identity(options.identity),
            target=options.target if Role.VERIFIER in roles else None,
            draft=options.draft if Role.DRAFTER in roles else None,
            port=options.port,
            peers=tuple(options.peer),
        )
        trio.run(run, config, options.target)
    except NodeError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
