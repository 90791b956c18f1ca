"""Reads SPEC.md for the tests: headings, tables, clauses, generated parts."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SPEC = ROOT / "SPEC.md"
CLAUSE = re.compile(r"^\*\*([A-Z][A-Z0-9]*(?:-[A-Z][A-Z0-9]*)?-\d+)(?:r\d+)?\*\* \((MUST|SHOULD|MAY)\) ", re.M)


@cache
def spec() -> str:
    return SPEC.read_text("utf-8")


def section(text: str, title: str) -> str:
    """What stands under a heading of any level, up to the next one of that level or above."""
    match = re.search(rf"^(#+) {re.escape(title)}\s*$", text, re.M)
    assert match, f"SPEC.md has no heading {title!r}"
    rest = text[match.end() :]
    end = re.search(rf"^#{{1,{len(match[1])}}} ", rest, re.M)
    return rest[: end.start()] if end else rest


def prose(text: str, title: str) -> str:
    """A section as one line: where lines break is of no account."""
    return " ".join(re.sub(r"^> ?", "", section(text, title), flags=re.M).split())


def rows(text: str, title: str) -> list[list[str]]:
    """Cells of the first table under a heading, without its head."""
    lines = section(text, title).splitlines()
    first = next((i for i, line in enumerate(lines) if line.startswith("|")), None)
    assert first is not None, f"no table under {title!r}"
    table = []
    for line in lines[first + 2 :]:
        if not line.startswith("|"):
            break
        table.append([cell.strip() for cell in line.strip().strip("|").split("|")])
    return table


def between(text: str, name: str) -> str:
    """What stands between the two markers of a generated part."""
    match = re.search(rf"<!-- begin: {name} -->\n(.*?)\n<!-- end: {name} -->", text, re.S)
    assert match, f"SPEC.md has no part marked {name!r}"
    return match[1]


def clauses(text: str) -> dict[str, tuple[str, str]]:
    """Level and text by clause id. A clause ends at the next clause, heading, example or rationale."""
    found: dict[str, tuple[str, str]] = {}
    starts = list(CLAUSE.finditer(text))
    for here, after in zip(starts, [*starts[1:], None]):
        body = text[here.end() : after.start() if after else len(text)]
        body = re.split(r"^(?:#|>|<!--)", body, maxsplit=1, flags=re.M)[0]
        assert here[1] not in found, f"clause {here[1]} is there twice"
        found[here[1]] = (here[2], body)
    return found
