"""``dsdp join``: become a node of a cluster."""

from __future__ import annotations

import argparse
import json
from typing import Any

from reference_nodes.cli.options import add_command, add_json, add_node, home_of
from reference_nodes.cli.runner import run_trio


def add(parsers: Any) -> None:
    parser = add_command(
        parsers,
        "join",
        run,
        "join a cluster with a token",
        "Join a cluster with a token from `dsdp token`, which must still be waiting on the other machine. The key is "
        "made here and "
        "never leaves. Joining again with a new token renews the certificate and keeps the node's id.",
        "dsdp join dsdp-join-1-aebagba...\ndsdp join TOKEN --name laptop",
    )
    parser.add_argument("token", metavar="TOKEN", help="what `dsdp token` printed")
    add_node(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    return run_trio(_join, args)


async def _join(args: argparse.Namespace) -> int:
    from dsdproto.identity import node_id_text
    from reference_nodes.join import join

    identity = await join(args.token, home_of(args), args.name)
    if args.json:
        print(
            json.dumps(
                {
                    "node": node_id_text(identity.node_id),
                    "name": identity.name,
                    "cluster": identity.cluster_id.hex(),
                    "identity": str(identity.directory),
                    "expires": identity.expires.isoformat(),
                }
            )
        )
        return 0
    print(f"joined cluster {identity.cluster_id.hex()}")
    print(f"this node is {node_id_text(identity.node_id)}, good until {identity.expires:%Y-%m-%d}")
    print("next: `dsdp serve --roles drafter ...` (see `dsdp serve --help`)")
    return 0
