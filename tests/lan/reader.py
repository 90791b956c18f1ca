"""``python -m tests.lan.reader JSON``: a client node that opens sessions when told to and reports what it receives.

``config`` as in :mod:`tests.lan.member`. Commands: ``open`` (``name``, ``contract``: arguments of
:func:`reference_nodes.client.make_contract`, ``leader``: node id), ``status`` (``name``: of the answer). Events:
``ready``, ``links``, and with the ``name`` of a session each item of its stream, by the name of its class; ``status``
with the document of each node that answered.
"""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

import trio

from dsdproto.identity import node_id_text, parse_node_id
from dsdproto.roles.client import Committed, Completed, Failed
from dsdproto.sampling import SamplingParameters
from dsdproto.wire.messages import Contract
from reference_nodes.client import SessionFailed, make_contract, open_session
from reference_nodes.link import Link
from reference_nodes.node import Node, config_of, open_node
from tests.lan.member import report_links
from tests.lan.probe import commands, say

ANSWER_SECONDS = 5.0


def contract_of(document: dict[str, Any]) -> Contract:
    """A contract from JSON: what make_contract takes, with ``temperature`` for the sampling."""
    values = dict(document)
    size, digest = values.pop("vocabulary")
    sampling = SamplingParameters.from_floats(values.pop("temperature"))
    return make_contract((size, bytes.fromhex(digest)), sampling=sampling, **values)


async def read(node: Node, name: str, contract: Contract, leader: str | None) -> None:
    wanted = None if leader is None else parse_node_id(leader)
    try:
        async with open_session(node, contract, leader=wanted) as session:
            async for item in session:
                match item:
                    case Committed(position, tokens):
                        say("Committed", name=name, position=position, tokens=list(tokens))
                    case Completed(finish):
                        say("Completed", name=name, finish=int(finish))
                    case _:
                        view, reason = getattr(item, "view", None), getattr(item, "reason", None)
                        say(type(item).__name__, name=name, view=view, reason=reason)
    except SessionFailed as error:
        say(Failed.__name__, name=name, text=str(error))


async def status(node: Node, name: str) -> None:
    documents: dict[str, Any] = {}

    async def ask(link: Link) -> None:
        try:
            with trio.move_on_after(ANSWER_SECONDS):
                documents[node_id_text(link.peer_id)] = json.loads(await link.ask_status())
        except trio.EndOfChannel:
            return

    async with trio.open_nursery() as nursery:
        for link in [link for link in node.peers.links.values() if link.up]:
            nursery.start_soon(ask, link)
    say("status", name=name, nodes=documents)


async def serve(options: dict[str, Any]) -> None:
    async with open_node(config_of(options["config"])) as node, trio.open_nursery() as nursery:
        say("ready", port=node.port, node=node_id_text(node.node_id))
        nursery.start_soon(report_links, node)
        async for command in commands():
            match command:
                case {"do": "open", "name": name, "contract": contract, "leader": leader}:
                    nursery.start_soon(read, node, name, contract_of(contract), leader)
                case {"do": "status", "name": name}:
                    nursery.start_soon(status, node, name)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    logging.basicConfig(level="INFO", format="%(asctime)s %(name)s %(message)s", stream=sys.stderr)
    trio.run(serve, json.loads(sys.argv[1]))
