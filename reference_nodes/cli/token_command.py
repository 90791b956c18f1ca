"""``dsdp token``: make a token that lets one node in, and answer whoever brings it."""

from __future__ import annotations

import argparse
import json
import math
import time
from typing import TYPE_CHECKING, Any

from reference_nodes.cli.options import UsageError, add_command, add_json, count, home_of
from reference_nodes.cli.output import say
from reference_nodes.cli.runner import run_trio

if TYPE_CHECKING:
    from dsdproto.identity import JoinToken
    from reference_nodes.join import Admitted


def add(parsers: Any) -> None:
    from pathlib import Path

    parser = add_command(
        parsers,
        "token",
        run,
        "make a join token and wait for the node that brings it",
        "Make a token on the machine that ran `dsdp init`, and stay until a node has joined with it. A token lets one "
        "node in, "
        "carries the authority's fingerprint and a secret, and is void when this command ends.",
        "dsdp token\ndsdp token --ttl 3600 --count 3\ndsdp token --host 192.168.1.5 --port 7180",
    )
    parser.add_argument(
        "--ttl",
        type=count(1, 7 * 86400),
        default=600,
        metavar="SECONDS",
        help="how long each token is good (default: %(default)s)",
    )
    parser.add_argument(
        "--count",
        type=count(1, 1000),
        default=1,
        metavar="N",
        help="let N nodes in, one after another, each with a token of its own (default: 1)",
    )
    parser.add_argument(
        "--host",
        action="append",
        default=[],
        metavar="ADDRESS",
        help="address of this machine that the newcomer can reach; may be given several times",
    )
    parser.add_argument("--port", type=count(0, 1 << 16), default=0, help="port to wait on (default: any free one)")
    parser.add_argument(
        "--home",
        type=Path,
        default=None,
        metavar="DIR",
        help="where the cluster is kept (default: $DSDP_HOME, or the user's data directory)",
    )
    add_json(parser, "print JSON lines: each token, and each node that joined")


def run(args: argparse.Namespace) -> int:
    return run_trio(_offer, args)


async def _offer(args: argparse.Namespace) -> int:
    from reference_nodes.interfaces import choose_interfaces
    from reference_nodes.join import offer
    from reference_nodes.paths import cluster_dir
    from reference_nodes.trust import load_cluster

    cluster = load_cluster(cluster_dir(home_of(args)))
    hosts = args.host or [address for item in choose_interfaces() for address in item.addresses]
    if not hosts:
        raise UsageError("this machine has no address that others could reach; name one with --host")
    for _ in range(args.count):
        admitted = await offer(
            cluster, hosts, port=args.port, valid_for=float(args.ttl), on_token=lambda token: _show(token, args)
        )
        _joined(admitted, args)
    return 0


def _show(token: JoinToken, args: argparse.Namespace) -> None:
    text = token.encode()
    if args.json:
        print(
            json.dumps({"event": "token", "token": text, "expires": token.expires, "addresses": list(token.addresses)}),
            flush=True,
        )
        return
    print(f"on the other machine, run:\n\n  dsdp join {text}\n", flush=True)
    left = math.ceil(token.expires - time.time())
    say(f"waiting for it at {', '.join(token.addresses)} for {left} s; Ctrl-C makes the token void")


def _joined(admitted: Admitted, args: argparse.Namespace) -> None:
    from dsdproto.identity import node_id_text

    if args.json:
        line = {
            "event": "joined",
            "name": admitted.name,
            "node": node_id_text(admitted.node_id),
            "address": admitted.address,
        }
        print(json.dumps(line), flush=True)
    else:
        print(f"{admitted.name} joined from {admitted.address}: node {node_id_text(admitted.node_id)}", flush=True)
