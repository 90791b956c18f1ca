"""Cases of the connection plane hold for every role: one check, one case for each role under test."""

from __future__ import annotations

from collections.abc import Callable

from conformance.case import CheckFunction, Rung, case
from dsdproto.registry import Role


def every_role(
    name: str,
    title: str,
    *clauses: str,
    bracket: bool = False,
    timeout: float = 60.0,
    but: tuple[Role, ...] = (),
    needs: tuple[str, ...] = (),
    waits: float = 0.0,
) -> Callable[[CheckFunction], CheckFunction]:
    """Registers `ROLE-link/NAME` for each role, those in ``but`` excepted."""

    def register(check: CheckFunction) -> CheckFunction:
        for role in Role:
            if role not in but:
                case_id = f"{role.name.lower()}-link/{name}"
                case(
                    case_id,
                    title,
                    clauses=clauses,
                    rung=Rung.LIVE,
                    role=role,
                    bracket=bracket,
                    timeout=timeout,
                    needs=needs,
                    waits=waits,
                )(check)
        return check

    return register
