"""``dsdp init``: begin a cluster on this machine."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from dsdproto.identity import node_id_text
from reference_nodes.cli.options import CLIENT_NAME, add_command, add_json, home_of
from reference_nodes.paths import DEFAULT_NAME, node_dir


def add(parsers: Any) -> None:
    parser = add_command(
        parsers,
        "init",
        run,
        "begin a cluster: an authority and this machine's identity",
        "Begin a cluster: make the authority that lets nodes in, and an identity for this machine. Both stay on this "
        "machine; "
        "other machines join with a token (dsdp token, dsdp join). Nothing that exists is ever overwritten.",
        "dsdp init\ndsdp init --name home --node big-machine",
    )
    parser.add_argument(
        "--name", default="dsdp", metavar="CLUSTER", help="what people call the cluster (default: %(default)s)"
    )
    parser.add_argument(
        "--node", default=DEFAULT_NAME, metavar="NODE", help="name of this machine's identity (default: %(default)s)"
    )
    parser.add_argument(
        "--home",
        type=Path,
        default=None,
        metavar="DIR",
        help="where to keep both (default: $DSDP_HOME, or the user's data directory)",
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    from reference_nodes.trust import begin, create_identity

    base = home_of(args)
    cluster, identity = begin(base, args.name, args.node)
    if args.node != CLIENT_NAME and not node_dir(base, CLIENT_NAME).exists():
        create_identity(cluster, base, CLIENT_NAME)
    if args.json:
        print(
            json.dumps(
                {
                    "cluster": cluster.cluster_id.hex(),
                    "name": cluster.name,
                    "node": node_id_text(identity.node_id),
                    "identity": str(identity.directory),
                    "authority": str(cluster.directory),
                }
            )
        )
        return 0
    print(f"cluster {cluster.name!r}, id {cluster.cluster_id.hex()}")
    print(f"this node is {node_id_text(identity.node_id)}")
    print(f"its key is in {identity.directory}, the authority's in {cluster.directory}: keep a backup of the latter")
    print("next: `dsdp token` here, then `dsdp join TOKEN` on the other machine")
    return 0
