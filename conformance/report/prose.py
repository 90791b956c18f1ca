"""The Markdown of clauses as HTML: paragraphs, code, emphasis, lists, tables. Everything else stays text."""

from __future__ import annotations

import re
from collections.abc import Callable

from markupsafe import Markup, escape

INLINE = re.compile(r"`([^`]+)`|\*\*([^*]+)\*\*|(?<![\w*])\*([^*\s][^*]*)\*(?!\w)")


def html(text: str, link: Callable[[str], Markup | None] = lambda word: None) -> Markup:
    """A clause's text.

    :param link: turns the id of a clause into a link to it; None: it stays text.
    """
    out: list[Markup] = []
    for block in re.split(r"\n\n(?=(?:[^`]|`(?!``)|```[^`]*```)*$)", text):
        lines = block.splitlines()
        if block.startswith("```"):
            out.append(Markup("<pre>{}</pre>").format("\n".join(line for line in lines if not line.startswith("```"))))
        elif block.startswith("|"):
            out.append(_table(lines, link))
        else:
            out += _paragraphs(lines, link)
    return Markup("\n").join(out)


def _paragraphs(lines: list[str], link: Callable[[str], Markup | None]) -> list[Markup]:
    out: list[Markup] = []
    points: list[Markup] = []
    for line in lines:
        point = re.match(r"(?:- |(\d+)\. )", line)
        if point:
            points.append(Markup("<li>{}</li>").format(inline(line[point.end() :], link)))
            continue
        out += _list(points)
        points = []
        out.append(Markup("<p>{}</p>").format(inline(line, link)))
    return out + _list(points)


def _list(points: list[Markup]) -> list[Markup]:
    return [Markup("<ul>{}</ul>").format(Markup("").join(points))] if points else []


def _table(lines: list[str], link: Callable[[str], Markup | None]) -> Markup:
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines]
    rows = [row for row in rows if not all(re.fullmatch(r":?-+:?", cell) for cell in row)]
    head, *body = rows
    cells = Markup("").join(Markup('<th scope="col">{}</th>').format(inline(cell, link)) for cell in head)
    inner = Markup("").join(
        Markup("<tr>{}</tr>").format(Markup("").join(Markup("<td>{}</td>").format(inline(c, link)) for c in row))
        for row in body
    )
    return Markup("<table><thead><tr>{}</tr></thead><tbody>{}</tbody></table>").format(cells, inner)


def inline(text: str, link: Callable[[str], Markup | None] = lambda word: None) -> Markup:
    """One line: code, strong, emphasis, and ids of clauses as links."""
    out = Markup()
    last = 0
    for match in INLINE.finditer(text):
        out += _linked(text[last : match.start()], link)
        tag = "code" if match[1] is not None else "strong" if match[2] is not None else "em"
        out += Markup(f"<{tag}>{{}}</{tag}>").format(match[1] or match[2] or match[3])
        last = match.end()
    return out + _linked(text[last:], link)


def _linked(text: str, link: Callable[[str], Markup | None]) -> Markup:
    parts = re.split(r"\b([A-Z][A-Z0-9]*(?:-[A-Z][A-Z0-9]*)?-\d+)\b", text)
    return Markup("").join((index % 2 and link(part)) or escape(part) for index, part in enumerate(parts))
