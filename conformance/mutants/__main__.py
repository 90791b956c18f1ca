"""Runs one mutant or odd node as a testee: ``python -m conformance.mutants NAME [-- OPTIONS OF THE NODE]``.

Where it is for rungs 1 and 2 it answers the exec door (``conformance.examples.python``), else it is a live node with
the options of ``reference_nodes.testee``. NAME `none` with a role is the unchanged one.
"""

from __future__ import annotations

import runpy
import sys

from conformance.mutants.kinds import EXEC
from conformance.mutants.patching import PatchError, install
from conformance.mutants.table import MUTANTS, ODD

ANSWERS = "conformance.examples.python"
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
    program = ANSWERS if (found.role if found else arguments[:1] and arguments[0]) == EXEC else NODE
    try:
        install(found.patches if found else ())
        sys.argv = [program, *([] if program == ANSWERS else arguments)]
        runpy.run_module(program, run_name="__main__", alter_sys=True)
    except PatchError as error:
        print(error, file=sys.stderr)
        sys.exit(3)
    except ModuleNotFoundError as error:
        print(f"{error}; live mutants are made from the reference nodes: pip install 'dsdp[nodes]'", file=sys.stderr)
        sys.exit(3)


if __name__ == "__main__":
    main()
