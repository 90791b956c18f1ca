"""Outcomes of runs that need not be run again, by what they follow from: scenario, seed, files, and this program.

One JSON file each in the user's cache directory (``$DSDP_CACHE`` if set); deleting them is always safe.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import dsdproto
from reference_nodes.simulator.plan.scenario import FromTrace, Recorded, Scenario, Table, Trace
from reference_nodes.simulator.plan.schema import ScenarioError, plain

VARIABLE = "DSDP_CACHE"
FORMAT = 1


def directory() -> Path:
    """Where outcomes are kept. Not created."""
    chosen = os.environ.get(VARIABLE)
    if chosen:
        return Path(chosen).expanduser().absolute() / "plans"
    from platformdirs import user_cache_dir

    return Path(user_cache_dir("dsdp", appauthor=False)) / "plans"


@lru_cache(maxsize=1)
def source_digest() -> str:
    """SHA-256 over what outcomes follow from: the protocol's machines and the simulator, file by file."""
    simulator = Path(__file__).parents[1]
    digest = sha256()
    for root in (Path(dsdproto.__file__).parent, simulator):
        for path in sorted(root.rglob("*.py")):
            body = path.read_bytes()
            digest.update(f"{root.name}/{path.relative_to(root).as_posix()}\0{len(body)}\0".encode() + body)
    return digest.hexdigest()


def files_of(item: Any) -> Iterator[str]:
    """Names of all files that a scenario refers to."""
    if isinstance(item, Trace | FromTrace | Recorded):
        yield item.file
    if isinstance(item, Table):
        yield item.profile
    if isinstance(item, dict):
        for value in item.values():
            yield from files_of(value)
    elif isinstance(item, tuple | list):
        for value in item:
            yield from files_of(value)
    elif is_dataclass(item):
        for each in fields(item):
            yield from files_of(getattr(item, each.name))


def key_of(scenario: Scenario, seed: int) -> str:
    """Names the outcome of a run. Raises ScenarioError for a file that cannot be read."""
    table = plain(scenario)
    del table["folder"]
    table["seed"] = seed
    digests = {}
    for name in sorted(set(files_of(scenario))):
        try:
            digests[name] = sha256((Path(scenario.folder) / name).read_bytes()).hexdigest()
        except OSError as error:
            raise ScenarioError(name, f"cannot be read: {error.strerror or error}") from None
    body = [FORMAT, source_digest(), table, digests]
    return sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


class Cache:
    """Figures by key. ``folder`` None: keeps nothing and knows nothing."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def get(self, key: str) -> dict[str, Any] | None:
        """What was kept; None for what is missing or damaged."""
        if self._folder is None:
            return None
        try:
            body = json.loads(self._path(key).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return body if isinstance(body, dict) and "figures" in body and "digest" in body else None

    def put(self, key: str, outcome: dict[str, Any]) -> None:
        """Keep an outcome. Raises OSError."""
        if self._folder is not None:
            path = self._path(key)
            path.parent.mkdir(parents=True, exist_ok=True)
            # Under a name of its own first: another sweep may want the same run.
            beside = path.with_name(f"{path.name}.{os.getpid()}")
            beside.write_text(json.dumps(outcome, separators=(",", ":")), encoding="utf-8")
            beside.replace(path)

    def _path(self, key: str) -> Path:
        assert self._folder is not None
        return self._folder / key[:2] / f"{key}.json"
