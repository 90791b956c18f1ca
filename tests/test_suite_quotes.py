"""Quotes of SPEC.md, in cases, code and pages for implementers, still are what it says.

The form is `"words of the clause" (V-6)`, over line breaks too; a case has them as its ``quote``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from spec_text import ROOT, spec

from conformance.case import Registry, Rung, case, load
from conformance.clauses import Clause, read

PLACES = ("dsdproto", "reference_nodes", "conformance")
QUOTE = re.compile(r'"([^"]{12,}?)" \(([A-Z][A-Z0-9]*(?:-[A-Z][A-Z0-9]*)?-\d+)\)')


def flat(text: str) -> str:
    return " ".join(text.replace("`", "").replace("*", "").split())


def quotes(source: str) -> Iterator[tuple[str, str]]:
    """(words, clause) of every quote. Comment signs at the beginnings of lines are no part of it."""
    for match in QUOTE.finditer(" ".join(re.sub(r"^\s*(#|>) ?", "", source, flags=re.M).split())):
        yield match[1], match[2]


def faults(found: list[tuple[str, str]], clauses: dict[str, Clause]) -> list[str]:
    wrong = []
    for words, name in found:
        if name not in clauses:
            wrong.append(f"{name} is no clause: {words!r}")
        elif flat(words).rstrip(".") not in flat(clauses[name].text):
            wrong.append(f"{name} does not say: {words!r}")
    return wrong


def files() -> list[Path]:
    return [
        path for place in PLACES for path in sorted((ROOT / place).rglob("*")) if path.suffix in (".py", ".md", ".js")
    ]


def test_quotes_in_code_are_what_the_spec_says() -> None:
    found = [quote for path in files() for quote in quotes(path.read_text("utf-8"))]
    assert len(found) >= 2
    assert faults(found, read(spec())) == []


def test_a_case_keeps_its_quote() -> None:
    cases = Registry()
    case("made/up", "x", clauses=("V-6",), rung=Rung.STATIC, quote="some words", registry=cases)(lambda t: None)
    assert cases["made/up"].quote == "some words"


def test_quotes_of_cases_are_what_one_of_their_clauses_says() -> None:
    clauses = read(spec())
    for each in load():
        if each.quote:
            assert any(not faults([(each.quote, name)], clauses) for name in each.clauses), each.id


@pytest.mark.parametrize(
    ("source", "wrong"),
    [
        ('# "A VERDICT holds together, and the leader\n    # checks that it does" (V-6)', 0),
        ('"A VERDICT holds loosely together" (V-6)', 1),
        ('"A VERDICT holds together" (V-999)', 1),
        ('"`accepted` is a node of the VERIFY or 0" (V-6)', 0),
    ],
)
def test_wrong_quotes_are_noticed(source: str, wrong: int) -> None:
    (found,) = quotes(source)
    assert len(faults([found], read(spec()))) == wrong
