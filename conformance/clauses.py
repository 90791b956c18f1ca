"""The clauses of SPEC.md, as package data: ids, levels, revisions, titles, sections, texts.

`clauses.json` is made by ``python -m conformance.update_spec``, since SPEC.md is not part of a wheel; a test compares
the two. `excused.json` says of each clause that no case can test from outside, why.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import IntEnum
from functools import cache
from importlib import resources
from typing import Any

START = re.compile(
    r"^\*\*([A-Z][A-Z0-9]*(?:-[A-Z][A-Z0-9]*)?-\d+)(?:r(\d+))?\*\* \((MUST|SHOULD|MAY)\) (?:\*([^*]+?)\.?\*\s)?", re.M
)
HEADING = re.compile(r"^(#{2,3}) (.+?)\s*$", re.M)


class Level(IntEnum):
    """Requirement level of BCP 14; a larger one is stronger."""

    MAY = 1
    SHOULD = 2
    MUST = 3


@dataclass(frozen=True)
class Clause:
    id: str
    level: Level
    revision: int
    title: str
    """The words in italics that head it; empty where there are none."""
    section: str
    """Number of the innermost heading, for example `9.2`."""
    heading: str
    chapter: str
    """The heading of the first level that it stands under; the same as ``heading`` where there is no other."""
    text: str
    """As in SPEC.md, with a line for each paragraph."""

    @property
    def place(self) -> str:
        """`Session: Messages`, in plain words."""
        heading = self.heading.replace("`", "")
        return heading if self.chapter == self.heading else f"{self.chapter.replace('`', '')}: {heading}"

    @property
    def anchor(self) -> str:
        """Of the heading, as forges make it."""
        name = f"{self.section} {self.heading}".lower()
        return re.sub(r"[^\w\- ]", "", name).replace(" ", "-")

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"level": self.level.name}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Clause:
        return cls(**{**value, "level": Level[value["level"]]})


def read(markdown: str) -> dict[str, Clause]:
    """All clauses of a SPEC.md text, in its order. Raises ValueError for an id that is there twice."""
    found: dict[str, Clause] = {}
    headings = list(HEADING.finditer(markdown))
    starts = list(START.finditer(markdown))
    for here, after in zip(starts, [*starts[1:], None]):
        body = _body(markdown[here.end() : after.start() if after else len(markdown)])
        name, revision, level, title = here.groups()
        if name in found:
            raise ValueError(f"clause {name} is there twice")
        above = [match for match in headings if match.start() < here.start()]
        number, _, words = above[-1][2].partition(" ")
        chapter = next(match[2] for match in reversed(above) if match[1] == "##").partition(" ")[2]
        found[name] = Clause(name, Level[level], int(revision or 1), title or "", number, words, chapter, body)
    return found


def _body(text: str) -> str:
    """Up to the next heading, quotation or generated part, on one line for each paragraph, list item and table row.

    Code blocks stay as they are; elsewhere a line break means nothing.
    """
    lines: list[str] = []
    in_code = False
    for line in text.strip().splitlines():
        if line.startswith("```"):
            in_code = not in_code
        elif in_code:
            lines.append(line.rstrip())
            continue
        elif line.startswith(("#", ">", "<!--")):
            break
        goes_on = line.strip() and lines and lines[-1] and not lines[-1].startswith("```")
        if goes_on and not re.match(r"\s*(```|- |\||\d+\. )", line):
            lines[-1] += " " + line.strip()
        else:
            lines.append(line.strip())
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def data(name: str) -> Any:
    return json.loads(resources.files("conformance").joinpath(name).read_text("utf-8"))


@cache
def document() -> dict[str, Any]:
    return data("clauses.json")


@cache
def known() -> dict[str, Clause]:
    """Clauses by id, in the order of SPEC.md."""
    return {entry["id"]: Clause.from_json(entry) for entry in document()["clauses"]}


@cache
def excused() -> dict[str, str]:
    """Why a clause has no case, by clause id."""
    return data("excused.json")
