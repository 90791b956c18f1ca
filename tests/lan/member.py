"""``python -m tests.lan.member JSON``: a node, as ``dsdp serve`` runs it, that takes its time and reports its links.

``config`` holds the fields of NodeConfig (see :func:`reference_nodes.node.config_of`), ``forward`` the seconds that a
forward of its target takes: TM-1 needs microseconds, and a stream would be over before anything could happen to it.
Command: ``forward`` (``seconds``), for the next ones. Events: ``ready`` (``port``, ``node``), ``links`` (``nodes``: all
that it is linked to), at each change.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
from typing import Any

import trio

from dsdproto.identity import node_id_text
from dsdproto.registry import Role
from dsdproto.roles.work import VerifyDone, VerifyWork
from reference_nodes.executors import Executor
from reference_nodes.node import Node, config_of, open_node
from tests.lan.probe import commands, say


class Slow:
    """An executor whose model is as slow as a real one, without taking the processor from anybody."""

    inline = False

    def __init__(self, executor: Executor, forward: float) -> None:
        self._executor = executor
        self._forward = forward
        self._hurry = threading.Event()

    def run(self, work: VerifyWork) -> VerifyDone:
        if work.score:
            self._hurry.wait(self._forward)
        return self._executor.run(work)

    def take(self, forward: float) -> None:
        """Seconds from now on; a forward that is under way ends at once."""
        hurry, self._hurry, self._forward = self._hurry, threading.Event(), forward
        hurry.set()


async def report_links(node: Node) -> None:
    known = None
    while True:
        nodes = sorted(node_id_text(link.peer_id) for link in node.peers.links.values() if link.up)
        if nodes != known:
            say("links", nodes=nodes)
            known = nodes
        await node.peers.wait_for_change()


async def serve(options: dict[str, Any]) -> None:
    async with open_node(config_of(options["config"])) as node, trio.open_nursery() as nursery:
        executors = node.host.executors
        slow = None
        if Role.VERIFIER in executors:
            slow = executors[Role.VERIFIER] = Slow(executors[Role.VERIFIER], options["forward"])
        say("ready", port=node.port, node=node_id_text(node.node_id))
        nursery.start_soon(report_links, node)
        async for command in commands():
            match command:
                case {"do": "forward", "seconds": seconds} if slow is not None:
                    slow.take(seconds)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    logging.basicConfig(level="INFO", format="%(asctime)s %(name)s %(message)s", stream=sys.stderr)
    trio.run(serve, json.loads(sys.argv[1]))
