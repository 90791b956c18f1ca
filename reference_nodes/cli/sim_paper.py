"""``dsdp sim paper``: the DSD paper's set-up, its policies and ours, its claims and what we see."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from typing import Any

from reference_nodes.cli.options import add_command, add_json, count


def add(kinds: Any) -> None:
    parser = add_command(
        kinds,
        "paper",
        _run,
        "the set-up of the DSD paper: its policies, its claims, and ours beside them",
        "Run the set-up of the DSD paper (arXiv 2511.21669) on the protocol's own machines: 20 targets, 600 and 1,000 "
        "drafters, RTT 10 and 30 ms, fixed, dynamic and learned windows and our default, three routers, two batchers; "
        "and 80 ms against the target alone. Latencies and acceptance are inputs, printed with the result. The whole "
        "takes about an hour and a half of processor time, --quick less than two minutes with a tenth of the fleet.",
        "dsdp sim paper --quick\ndsdp sim paper --quick --json\ndsdp sim paper --jobs 2 > paper.txt",
    )
    parser.add_argument("--quick", action="store_true", help="2 targets in place of 20, shorter, fewer cells")
    parser.add_argument("--seed", type=count(0), default=1, metavar="N", help="(default: %(default)s)")
    parser.add_argument(
        "--jobs",
        type=count(1, 1025),
        default=os.cpu_count() or 1,
        metavar="N",
        help="processes (default: one for each core)",
    )
    add_json(parser)


def _run(args: argparse.Namespace) -> int:
    from reference_nodes.simulator.plan.paper.compare import outcome
    from reference_nodes.simulator.plan.paper.paper import grid, run_cells
    from reference_nodes.simulator.plan.paper.setting import FULL, QUICK
    from reference_nodes.simulator.plan.paper.table import page

    began = time.monotonic()
    terminal = sys.stderr.isatty()

    def progress(done: int, total: int, label: str) -> None:
        left = (time.monotonic() - began) / done * (total - done)
        text = f"{done} of {total} cells, {left:.0f} s left; {label}"
        sys.stderr.write(f"\r\x1b[K{text}" if terminal else f"{text}\n")
        sys.stderr.flush()

    results = run_cells(grid(args.quick), QUICK if args.quick else FULL, args.seed, args.jobs, progress)
    if terminal:
        sys.stderr.write("\r\x1b[K")
    if args.json:
        print(json.dumps(outcome(results, args.quick, args.seed)))
    else:
        print(page(results, args.quick, args.seed))
    return 0
