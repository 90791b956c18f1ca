"""The profile file: how long one model's steps take on one machine. JSON; written by ``dsdp profile``.

::

    {"v": 1, "role": "verifier", "model": "smollm2", "machine": {"cpu": "...", "cores": 2, "threads": 1},
     "steps":   [{"rows": 4, "sessions": 1, "context": 128, "seconds": [q10, median, q90], "n": 20}, ...],
     "prefill": [{"positions": 64, "context": 0, "seconds": [q10, median, q90], "n": 8}, ...],
     "node": {"verify_overhead_s": 0.0009, "verify_session_s": 0.0003, "verify_message_s": 0.0006},
     "beside": {"model": "smollm2-draft", "steps": [...], "prefill": [...]}}

``rows`` of a verifier: one and its tree's nodes, summed over the sessions of the batch; of a drafter: nodes expanded.
``node`` says what the node needs itself (:mod:`reference_nodes.profile.overhead`): between two steps, for each session
in the first of them, and for each message that comes in during a step. A drafter's keys begin with ``draft_``.
``beside`` holds the same cells while another model computes without a pause in a process of its own: two models on one
machine share its memory bus, so each alone is faster than both together. It is absent where that was not asked for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dsdproto.errors import DsdpError

VERSION = 1
ROLES = ("verifier", "drafter")


class ProfileError(DsdpError):
    """A profile cannot be used. The text names file and place, what was found and what to do."""

    code = "profile"


@dataclass(frozen=True, slots=True)
class Step:
    """One forward of one kind, measured ``n`` times."""

    rows: int
    sessions: int
    context: int
    """positions of each session's prefix"""
    seconds: tuple[float, float, float]
    """tenth, fifth and ninth decile: q10, median, q90"""
    n: int

    def document(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "sessions": self.sessions,
            "context": self.context,
            "seconds": list(self.seconds),
            "n": self.n,
        }


@dataclass(frozen=True, slots=True)
class Prefill:
    """Computing ``positions`` of a prompt of which ``context`` are there already."""

    positions: int
    context: int
    seconds: tuple[float, float, float]
    n: int

    def document(self) -> dict[str, Any]:
        return {
            "positions": self.positions,
            "context": self.context,
            "seconds": list(self.seconds),
            "n": self.n,
        }


@dataclass(frozen=True, slots=True)
class Profile:
    """A whole file."""

    role: str
    model: str
    machine: Mapping[str, Any]
    steps: tuple[Step, ...]
    prefill: tuple[Prefill, ...]
    node: Mapping[str, float] = field(default_factory=dict)
    """seconds: ``verify_overhead_s``, ``verify_session_s``, ``verify_message_s``, or the same with ``draft_``"""
    beside_model: str = ""
    """what computed meanwhile for the two below; empty: nothing was measured so"""
    beside_steps: tuple[Step, ...] = ()
    beside_prefill: tuple[Prefill, ...] = ()

    def own(self, what: str) -> float:
        """Seconds of a node's own work besides the model's, for each ``what``: "overhead" (a step), "session" (in a
        step) or "message" (that comes in meanwhile); 0 where it is not known.
        """
        return self.node.get(f"{'verify' if self.role == 'verifier' else 'draft'}_{what}_s", 0.0)

    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "v": VERSION,
            "role": self.role,
            "model": self.model,
            "machine": dict(self.machine),
            "steps": [step.document() for step in self.steps],
            "prefill": [part.document() for part in self.prefill],
            "node": dict(self.node),
        }
        if self.beside_model:
            found["beside"] = {
                "model": self.beside_model,
                "steps": [step.document() for step in self.beside_steps],
                "prefill": [part.document() for part in self.beside_prefill],
            }
        return found

    def save(self, path: Path) -> None:
        """Raises :class:`ProfileError`."""
        try:
            path.write_text(json.dumps(self.document(), indent=1) + "\n", "utf-8")
        except OSError as error:
            raise ProfileError(f"cannot write the profile {path}: {error}") from error


def load_profile(path: Path) -> Profile:
    """Raises :class:`ProfileError`."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ProfileError(f"cannot read the profile {path}: {error}. `dsdp profile` writes one") from error
    return profile_of(found, str(path))


def profile_of(found: Any, where: str = "profile") -> Profile:
    """From JSON. Raises :class:`ProfileError` that names the place."""
    if not isinstance(found, dict):
        raise ProfileError(f"{where}: expected one JSON object, found {type(found).__name__}")
    if found.get("v") != VERSION:
        raise ProfileError(
            f"{where}: v is {found.get('v')!r}, this program reads {VERSION}; write it anew with `dsdp profile`"
        )
    if found.get("role") not in ROLES:
        raise ProfileError(f"{where}: role is {found.get('role')!r}; expected one of {', '.join(ROLES)}")
    beside = found.get("beside") or {}
    if not isinstance(beside, dict):
        raise ProfileError(f"{where}: beside is {type(beside).__name__}; expected an object")
    node = found.get("node") or {}
    if not isinstance(node, dict) or not all(_seconds(value) for value in node.values()):
        raise ProfileError(f"{where}: node is {node!r}; expected an object of seconds, none below 0")
    return Profile(
        role=found["role"],
        model=str(found.get("model", "")),
        machine=found.get("machine") or {},
        steps=tuple(_steps(found, "steps", where, needed=True)),
        prefill=tuple(_prefill(found, "prefill", where)),
        node=node,
        beside_model=str(beside.get("model", "")),
        beside_steps=tuple(_steps(beside, "steps", f"{where}: beside")),
        beside_prefill=tuple(_prefill(beside, "prefill", f"{where}: beside")),
    )


def _steps(found: Mapping[str, Any], key: str, where: str, needed: bool = False) -> list[Step]:
    rows = _list(found, key, where)
    if needed and not rows:
        raise ProfileError(f"{where}: {key} is empty; without a measured step nothing can be said")
    steps = []
    for index, row in enumerate(rows):
        at = f"{where}: {key}[{index}]"
        counts = _counts(row, ("rows", "sessions", "context", "n"), at)
        steps.append(Step(counts[0], counts[1], counts[2], _quantiles(row, at), counts[3]))
        if steps[-1].rows < 1 or steps[-1].sessions < 1:
            raise ProfileError(f"{at}: a step has at least one row of one session, not {counts[:2]}")
    return steps


def _prefill(found: Mapping[str, Any], key: str, where: str) -> list[Prefill]:
    parts = []
    for index, row in enumerate(_list(found, key, where)):
        at = f"{where}: {key}[{index}]"
        counts = _counts(row, ("positions", "context", "n"), at)
        if counts[0] < 1:
            raise ProfileError(f"{at}: positions is {counts[0]}; expected at least 1")
        parts.append(Prefill(counts[0], counts[1], _quantiles(row, at), counts[2]))
    return parts


def _list(found: Mapping[str, Any], key: str, where: str) -> Sequence[Any]:
    rows = found.get(key, [])
    if not isinstance(rows, list):
        raise ProfileError(f"{where}: {key} is {type(rows).__name__}; expected a list")
    return rows


def _counts(row: Any, names: Sequence[str], at: str) -> list[int]:
    if not isinstance(row, dict):
        raise ProfileError(f"{at}: expected an object, found {type(row).__name__}")
    values = []
    for name in names:
        value = row.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise ProfileError(f"{at}: {name} is {value!r}; expected a whole number from 0 on")
        values.append(value)
    return values


def _quantiles(row: Mapping[str, Any], at: str) -> tuple[float, float, float]:
    values = row.get("seconds")
    if not isinstance(values, list) or len(values) != 3 or not all(map(_seconds, values)):
        raise ProfileError(f"{at}: seconds is {values!r}; expected [q10, median, q90], each at least 0")
    low, middle, high = (float(value) for value in values)
    if not low <= middle <= high:
        raise ProfileError(f"{at}: seconds {values!r} do not ascend; expected [q10, median, q90]")
    return low, middle, high


def _seconds(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf")
