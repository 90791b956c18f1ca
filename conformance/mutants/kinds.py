"""What a mutant and an odd node are. Imports nothing of the packages that are patched."""

from __future__ import annotations

from dataclasses import dataclass

from conformance.mutants.patching import Patch

EXEC = "exec"
"""In place of a role: the testee is asked by the exec door (rungs 1 and 2)."""
CHAOS = "chaos"
"""In place of a role: the testee is several nodes, which the exec door starts (rung 4)."""


@dataclass(frozen=True)
class Mutant:
    """A reference node that breaks one clause.

    :param name: permanent, `words-with-dashes`.
    :param breaks: what it does wrong, in one line.
    :param clause: the MUST that it breaks.
    :param role: under test, in lower case; :data:`EXEC` for rungs 1 and 2, :data:`CHAOS` for rung 4.
    :param killers: the cases meant for it, by id: each of them has to fail, and for the testee's fault.
    :param besides: further roles of the node.
    :param hopeless: nothing works with it, so that no case is expected to pass.
    """

    name: str
    breaks: str
    clause: str
    role: str
    killers: tuple[str, ...]
    patches: tuple[Patch, ...]
    besides: tuple[str, ...] = ()
    hopeless: bool = False


@dataclass(frozen=True)
class Odd:
    """A reference node that is unusual and yet within the rules: no case may fail.

    :param is_odd: what is unusual about it, in one line.
    :param clauses: that allow it.
    :param role: whose whole suite it has to pass; with :data:`CHAOS`, the cases that are named.
    :param arguments: of the node's command, besides.
    :param cases: that it has to pass, by id; empty: all live cases of its role.
    """

    name: str
    is_odd: str
    clauses: tuple[str, ...]
    role: str
    patches: tuple[Patch, ...] = ()
    besides: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    cases: tuple[str, ...] = ()
