"""A case of each vector: static vectors, rung 1."""

from __future__ import annotations

from collections.abc import Callable

from conformance.case import Level, Rung, case
from conformance.door.exec import ExecTestee
from conformance.static import vectors
from conformance.static.compare import difference
from conformance.static.vectors import Vector
from conformance.verdict import Failed


def needs(each: Vector) -> str:
    """What the testee has to support to be asked."""
    request = each["request"]
    return request.get("function", request["verb"])


def check_of(each: Vector) -> Callable[[ExecTestee], None]:
    def check(t: ExecTestee) -> None:
        request = dict(each["request"])
        found = difference(each, t.ask(request.pop("verb"), **request))
        if found is not None:
            said, wanted, got = found
            for name, value in each.get("intermediates", {}).items():
                t.trial.note(f"on the way: {name} = {value}")
            raise Failed(each["clauses"][0], said, wanted, got)

    return check


for name in vectors.files():
    for each in vectors.load(name):
        case(
            each["id"],
            each["title"],
            clauses=tuple(each["clauses"]),
            rung=Rung.STATIC,
            level=Level[each["level"]] if "level" in each else None,
            revision=each["revision"],
            needs=(needs(each),),
        )(check_of(each))
