"""Runs one mutant or odd node as a testee: ``python -m conformance.mutants NAME [-- OPTIONS OF THE NODE]``.

Where it is for rungs 1 and 2 it answers the exec door (``conformance.examples.python``), for rung 4 it starts nodes
behind that door (``reference_nodes.door``), else it is a live node with the options of ``reference_nodes.testee``. NAME
`none` with `exec`, `chaos` or a node's options is the unchanged one.
"""

from __future__ import annotations

import runpy
import sys

from conformance.mutants.kinds import CHAOS, EXEC
from conformance.mutants.patching import PatchError, install
from conformance.mutants.table import MUTANTS, ODD

PROGRAMS = {EXEC: "conformance.examples.python", CHAOS: "reference_nodes.door"}
NODE = "reference_nodes.testee"
"""By name, not by import: the suite sees a node only from outside, as a program."""
UNCHANGED = "none"


def main() -> None:
    name, *arguments = sys.argv[1:] or ["--help"]
    found = MUTANTS.get(name) or ODD.get(name)
    if found is None and name != UNCHANGED:
        print(__doc__, file=sys.stderr)
        print("\n".join(["", *MUTANTS, *ODD]), file=sys.stderr)
        sys.exit(2)
    kind = found.role if found else (arguments or [""])[0]
    program = PROGRAMS.get(kind, NODE)
    try:
        install(found.patches if found else ())
        sys.argv = [program, *([] if kind in PROGRAMS else arguments)]
        runpy.run_module(program, run_name="__main__", alter_sys=True)
    except PatchError as error:
        print(error, file=sys.stderr)
        sys.exit(3)
    except ModuleNotFoundError as error:
        print(f"{error}; live mutants are made from the reference nodes: pip install 'dsdp[nodes]'", file=sys.stderr)
        sys.exit(3)


if __name__ == "__main__":
    main()
