"""The drafter's end of the wire benchmark, in a process of its own: ``python -m reference_nodes.bench.wire_peer KIND``.

Prints one JSON line with its port, and ends when its stdin does. Each kind imports what it needs and no more: many of
these are started.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
from functools import partial
from pathlib import Path

import trio

from reference_nodes.bench.exchange import Round, rounds
from reference_nodes.bench.wire_others import serve_echo, serve_http, serve_zmq

KINDS = ("dsdp", "nodes", "echo", "zmq", "http")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--agreement", type=float, required=True)
    parser.add_argument("--echo", type=int, nargs=2, default=(1, 1), metavar=("REQUEST", "ANSWER"))
    args = parser.parse_args()
    played = rounds(args.rounds, args.agreement)
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    if args.kind == "zmq":
        serve_zmq(played, _ready)
    elif args.kind == "http":
        serve_http(played, _ready)
    elif args.kind == "nodes":
        trio.run(_serve_node, args, played)
    else:
        trio.run(_serve_tls, args, played)


def _ready(port: int) -> None:
    print(json.dumps({"port": port}), flush=True)


def _end_with_stdin() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


async def _serve_node(args: argparse.Namespace, played: tuple[Round, ...]) -> None:
    from reference_nodes.bench.wire_nodes import open_node_drafter
    from reference_nodes.trust import load_identity

    async with open_node_drafter(load_identity(args.home, "drafter"), played) as node:
        assert node.port is not None
        _ready(node.port)
        await trio.sleep_forever()


async def _serve_tls(args: argparse.Namespace, played: tuple[Round, ...]) -> None:
    from reference_nodes import tls
    from reference_nodes.bench.wire_dsdp import serve_drafter
    from reference_nodes.trust import load_identity

    identity = load_identity(args.home, "drafter")
    context = tls.server_context(identity)

    async def serve(transport: trio.SocketStream) -> None:
        stream = await tls.accept(transport, context)
        try:
            if args.kind == "echo":
                await serve_echo(stream, *args.echo)
            else:
                await serve_drafter(stream, identity, played)
        except (trio.EndOfChannel, trio.BrokenResourceError):
            return

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    _ready(listener.socket.getsockname()[1])
    await trio.serve_listeners(partial(serve), [listener])


if __name__ == "__main__":
    main()
