"""Scenario files: TOML in, a checked :class:`Scenario` out. What is wrong is said with file, key and remedy."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from reference_nodes.simulator.plan.checks import check
from reference_nodes.simulator.plan.scenario import Scenario
from reference_nodes.simulator.plan.schema import ScenarioError, nearest, read

GALLERY = Path(__file__).parent / "gallery"


def gallery() -> dict[str, Path]:
    """The ready scenarios, by name."""
    return {path.stem: path for path in sorted(GALLERY.glob("*.toml"))}


def find(name: str) -> Path:
    """A file, or a name of the gallery. Raises ScenarioError."""
    path = Path(name)
    if path.is_file():
        return path
    known = gallery()
    if name in known:
        return known[name]
    text = f"no such file, and no scenario of the gallery; that has {', '.join(known)}{nearest(name, list(known))}"
    raise ScenarioError("", text, name)


def load(source: str | Path, settings: Iterable[str] = ()) -> Scenario:
    """Read a scenario file, or one of the gallery by its name.

    :param settings: ``key=value`` each, laid over the file: ``workload.rate=4``, ``group.edge.count=10``,
        ``link.rtt=0.03`` (all links), ``window={kind="static", size=4}``.

    Raises ScenarioError.
    """
    path = find(str(source))
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ScenarioError("", f"is no TOML: {error}", str(path)) from None
    try:
        return parse(table, settings, folder=str(path.parent), name=path.stem)
    except ScenarioError as error:
        raise ScenarioError(error.path, error.text, str(path)) from None


def parse(table: dict[str, Any], settings: Iterable[str] = (), *, folder: str = "", name: str = "") -> Scenario:
    """A scenario from the plain tables of a file. Raises ScenarioError."""
    table = {"name": name, **table} if name else dict(table)
    if "folder" in table:
        raise ScenarioError("folder", "is no key of a scenario file; files are found beside it")
    for setting in settings:
        apply(table, setting)
    scenario = read(Scenario, table)
    scenario = replace(scenario, folder=folder)
    check(scenario)
    return scenario


def apply(table: dict[str, Any], setting: str) -> None:
    """Lay one ``key=value`` over plain tables. Raises ScenarioError."""
    key, equals, text = setting.partition("=")
    key = key.strip()
    if not equals or not key:
        raise ScenarioError(setting, "is no setting; one is key=value, for example workload.rate=4")
    put(table, key.split("."), value_of(text.strip()), key)


def value_of(text: str) -> Any:
    """A TOML value; what is none is text, so that quotes are not needed."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def put(holder: Any, names: list[str], value: Any, key: str) -> None:
    """Set ``names`` below ``holder``. In a list a name or number picks an item; without one, all items are meant."""
    first, *rest = names
    if isinstance(holder, list):
        chosen = [item for i, item in enumerate(holder) if first == str(i) or item.get("name") == first]
        if chosen and rest:
            for item in chosen:
                put(item, rest, value, key)
        elif holder and not chosen and all(isinstance(item, dict) for item in holder):
            for item in holder:
                put(item, names, value, key)
        else:
            raise ScenarioError(key, f"there is nothing {first!r} to set it on")
        return
    if not isinstance(holder, dict):
        raise ScenarioError(key, f"{first!r} is looked for inside {holder!r}")
    if not rest:
        holder[first] = value
        return
    below = holder.setdefault(first, {})
    if isinstance(below, int | float | str) and rest:
        below = holder[first] = {}
    put(below, rest, value, key)
