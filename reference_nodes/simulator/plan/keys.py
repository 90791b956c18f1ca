"""Every key of a scenario file, as the dataclasses that are its schema say: place, kind, unit, default, meaning."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from reference_nodes.simulator.plan import parts, scenario
from reference_nodes.simulator.plan.schema import Bounds, ScenarioError, nearest, plain

LEFT_OUT = {("Scenario", "folder")}
"""Set by the loader, and no key of a file."""
OPTIONAL = {("Scenario", "name")}
"""Given by the loader where the file does not."""

WIDTH, COLUMN = 110, 18
"""Of the text for a terminal, and of the names in it."""


@dataclass(frozen=True, slots=True)
class Key:
    name: str
    value: str
    """what is allowed, with its unit"""
    default: str
    """as it would be written; empty: must be given"""
    text: str


@dataclass(frozen=True, slots=True)
class Section:
    """A table of a scenario file."""

    place: str
    """as in the file: ``[workload]``, ``[[group]]``, ``[device.NAME]``; empty: the top"""
    kind: str
    """the table's ``kind``; empty where there is only one"""
    about: str
    keys: tuple[Key, ...]

    @property
    def title(self) -> str:
        place = self.place or "top of the file"
        return f'{place}, kind = "{self.kind}"' if self.kind else place


def sections() -> list[Section]:
    """All tables, in the order in which a scenario has them; the top of the file first."""
    seen: set[type] = {scenario.Scenario}
    out = [_section(scenario.Scenario, "")]
    todo = _below(scenario.Scenario)
    while todo:
        (table, place), *todo = todo
        if table in seen:
            continue
        seen.add(table)
        out.append(_section(table, place))
        # What a table refers to comes after those that stand beside it.
        beside = sum(1 for _, other in todo if other == place)
        todo[beside:beside] = _below(table)
    return out


def _section(cls: type, place: str) -> Section:
    tag = vars(cls).get("kind")
    about = " ".join((cls.__doc__ or "").split())
    return Section(place, tag if isinstance(tag, str) else "", about, tuple(_keys(cls)))


def _below(cls: type) -> list[tuple[type, str]]:
    """The tables that a dataclass refers to, with their places."""
    hints = get_type_hints(cls, include_extras=True)
    tables = [(field.name, _tables(hints[field.name])) for field in fields(cls)]
    return [(table, _place(hints[name], name, inner)) for name, inner in tables for table in inner]


def _keys(cls: type) -> Iterator[Key]:
    hints = get_type_hints(cls, include_extras=True)
    for field in fields(cls):
        if (cls.__name__, field.name) in LEFT_OUT:
            continue
        hint, text = hints[field.name], comments()[cls.__name__].get(field.name, "")
        inner = _tables(hint)
        value = f"see {_place(hint, field.name, inner)}" if inner else value_of(hint)
        if scenario.Constant in inner:
            value = f"whole number ≥ 1, or {value}"
        yield Key(field.name, value, _default(cls, field), text)


def _tables(hint: Any) -> list[type]:
    """The dataclasses that a value may be."""
    if is_dataclass(hint):
        return [hint]
    if get_origin(hint) is Annotated:
        return []
    return [table for arg in get_args(hint) for table in _tables(arg)]


def _place(hint: Any, name: str, inner: list[type]) -> str:
    if get_origin(hint) is dict:
        return f"[{name}.NAME]"
    if get_origin(hint) is tuple:
        return f"[[{name}]]"
    # Prompt and answer share the kinds of a length.
    return "a length" if scenario.Constant in inner else f"[{name}]"


def value_of(hint: Any) -> str:
    """What a value may be, in words."""
    origin = get_origin(hint)
    if origin is Annotated:
        inner, bounds = get_args(hint)
        return _number(inner, bounds)
    if origin is Literal:
        return ", ".join(f'"{each}"' for each in get_args(hint))
    if origin is tuple:
        first, *rest = get_args(hint)
        return f"list of: {value_of(first)}" if rest == [Ellipsis] else f"list of {1 + len(rest)}: {value_of(first)}"
    return {str: "text", bool: "true or false", float: "number", int: "whole number"}[hint]


def _number(inner: type, bounds: Bounds) -> str:
    what = "whole number" if inner is int else "number"
    limits = [f"{bounds.low:g} to {bounds.high:g}"] if bounds.low is not None and bounds.high is not None else []
    if bounds.low is not None and not limits:
        limits = [f"≥ {bounds.low:g}"]
    if bounds.above is not None:
        limits.append(f"> {bounds.above:g}")
    return f"{what} {' '.join(limits)}" + (f", {bounds.unit}" if bounds.unit else "")


def _default(cls: type, field: Field[Any]) -> str:
    if (cls.__name__, field.name) in OPTIONAL:
        return "the file's name"
    if field.default is not MISSING:
        value = plain(field.default)
    elif field.default_factory is not MISSING:
        value = plain(field.default_factory())
    else:
        return ""
    if isinstance(value, dict) and value.get("kind") == "constant":
        return str(value["tokens"])
    if isinstance(value, dict):
        kind = value.get("kind")
        return f'kind = "{kind}"' if kind else "its defaults" if value else "none"
    return "none" if value == [] else _toml(value)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    return format(value, "g") if isinstance(value, float) else str(value)


@lru_cache(maxsize=1)
def comments() -> dict[str, dict[str, str]]:
    """By dataclass of the schema and field: the text that stands below it."""
    out: dict[str, dict[str, str]] = {}
    for cls in [line for module in (parts, scenario) for line in ast.parse(inspect.getsource(module)).body]:
        if not isinstance(cls, ast.ClassDef):
            continue
        said = out.setdefault(cls.name, {})
        for line, after in zip(cls.body, [*cls.body[1:], None]):
            if not (isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)):
                continue
            if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                said[line.target.id] = " ".join(str(after.value.value).split())
    return out


# ---------------------------------------------------------------- for people


def markdown(level: int = 3) -> str:
    """A heading and a table for each section."""
    pieces = []
    for section in sections():
        title = f"`{section.place}`" if section.place.startswith("[") else section.place or "Top of the file"
        title += f', `kind = "{section.kind}"`' if section.kind else ""
        lines = [f"{'#' * level} {title}", "", *([section.about, ""] if section.about else [])]
        if section.keys:
            lines += ["| key | value | default | |", "|---|---|---|---|"]
        for key in section.keys:
            default = key.default if " " in key.default and "=" not in key.default else f"`{key.default}`"
            default = default if key.default else "must be given"
            cells = (f"`{key.name}`", key.value, default, key.text.replace("``", "`"))
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        pieces.append("\n".join(lines).replace("``", "`").rstrip())
    return "\n\n".join(pieces) + "\n"


def text(word: str = "") -> str:
    """For a terminal; only the tables whose title has ``word`` in it. Raises ScenarioError where there is none."""
    chosen = [section for section in sections() if word in section.title]
    if not chosen:
        places = list(dict.fromkeys(section.place.strip("[]").partition(".")[0] for section in sections()))
        names = [name for name in places if name]
        raise ScenarioError("", f"no table {word!r}; there are {', '.join(names)}{nearest(word, names)}")
    pieces = []
    for section in chosen:
        lines = [section.title, textwrap.fill(section.about, WIDTH)]
        for key in section.keys:
            default = f"default {key.default}" if key.default else "must be given"
            lines.append(f"  {key.name:<{COLUMN}}{key.value}; {default}")
            lines += textwrap.wrap(
                key.text, WIDTH, initial_indent=" " * (COLUMN + 4), subsequent_indent=" " * (COLUMN + 4)
            )
        pieces.append("\n".join(lines))
    return "\n\n".join(pieces).replace("``", "`")
