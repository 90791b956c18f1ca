"""How cases of rung 4 are registered: `chaos/NAME`, all behind the exec door's `start`."""

from __future__ import annotations

from collections.abc import Callable

from conformance.case import CheckFunction, Rung, case
from dsdproto.registry import Role


def chaos_case(
    name: str, title: str, *clauses: str, role: Role = Role.LEADER, timeout: float = 90.0
) -> Callable[[CheckFunction], CheckFunction]:
    """:param role: the one that is tried most; the others that the case starts, it looks for itself."""
    return case(f"chaos/{name}", title, clauses=clauses, rung=Rung.CHAOS, role=role, timeout=timeout)
