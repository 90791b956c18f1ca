"""What `dsdp bench fidelity` compares: runs, live or predicted, by distance and sessions; times in seconds."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dsdproto.errors import DsdpError

VERSION = 2


class LiveError(DsdpError):
    """A file of live runs cannot be used."""

    code = "live-runs"


@dataclass(frozen=True, slots=True)
class Request:
    """One request of one run."""

    number: int
    tokens: int
    first: float
    """from asking to the first token"""
    decode: float
    """from the first token to the end of the stream"""
    rounds: int


@dataclass(frozen=True, slots=True)
class Run:
    """All requests of a cell, once."""

    requests: tuple[Request, ...]
    seconds: float

    @property
    def throughput(self) -> float:
        """Tokens per second, prompts and waiting included."""
        return sum(request.tokens for request in self.requests) / self.seconds

    @property
    def tpot(self) -> float:
        """Seconds per output token after the first."""
        several = [request for request in self.requests if request.tokens > 1]
        return sum(request.decode for request in several) / sum(request.tokens - 1 for request in several)


@dataclass(slots=True)
class Cell:
    """One distance and one number of sessions."""

    rtt: float
    """seconds added to the road, there and back"""
    sessions: int
    live: list[Run] = field(default_factory=list)
    predicted: list[Run] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """For the report."""
        live, predicted = figures(self.live), figures(self.predicted)
        return {
            "added_rtt_ms": round(1e3 * self.rtt, 3),
            "sessions": self.sessions,
            "live": live,
            "predicted": predicted,
            "tpot_error": round(predicted["tpot_ms"] / live["tpot_ms"] - 1, 4),
            "throughput_error": round(predicted["tokens_per_s"] / live["tokens_per_s"] - 1, 4),
        }


def figures(runs: Sequence[Run]) -> dict[str, Any]:
    """Of a cell's runs, at least one with a request of two tokens: medians over runs. TPOT request by request, so that
    a hiccup in one run moves nothing.
    """
    by_number: dict[int, list[Request]] = defaultdict(list)
    for run in runs:
        for request in run.requests:
            by_number[request.number].append(request)
    several = [requests for requests in by_number.values() if requests[0].tokens > 1]
    decode = sum(statistics.median(request.decode for request in requests) for requests in several)
    tokens = sum(requests[0].tokens for requests in by_number.values())
    rounds = statistics.median(sum(request.rounds for request in run.requests) for run in runs)
    tpots, rates = [run.tpot for run in runs], [run.throughput for run in runs]
    return {
        "runs": len(runs),
        "tpot_ms": round(1e3 * decode / sum(requests[0].tokens - 1 for requests in several), 3),
        "tpot_ms_range": [round(1e3 * min(tpots), 3), round(1e3 * max(tpots), 3)],
        "tokens_per_s": round(statistics.median(rates), 3),
        "tokens_per_s_range": [round(min(rates), 3), round(max(rates), 3)],
        "ttft_ms": round(1e3 * statistics.median(request.first for run in runs for request in run.requests), 3),
        "tokens_per_round": round(tokens / rounds, 4),
    }


# ---------------------------------------------------------------- files


def save_live(path: Path, about: dict[str, Any], cells: Sequence[Cell]) -> None:
    """Write live runs, so that they can be predicted again.

    :param about: ``base_rtt``, ``passing``, ``cores``, and what the report says.
    """
    rows = [{"rtt": cell.rtt, "sessions": cell.sessions, "live": [asdict(run) for run in cell.live]} for cell in cells]
    path.write_text(json.dumps({"v": VERSION, "about": about, "cells": rows}) + "\n", "utf-8")


def load_live(path: Path) -> tuple[dict[str, Any], list[Cell]]:
    """Raises :class:`LiveError`."""
    try:
        found = json.loads(path.read_text("utf-8"))
        if found["v"] != VERSION:
            raise LiveError(f"{path}: v is {found['v']!r}, this program reads {VERSION}; measure anew")
        cells = [
            Cell(float(row["rtt"]), int(row["sessions"]), [_run(run) for run in row["live"]]) for row in found["cells"]
        ]
        about = found["about"]
        known = {name: float(about[name]) for name in ("base_rtt", "passing")} | {"cores": int(about["cores"])}
        return about | known, cells
    except (OSError, ValueError, KeyError, TypeError) as error:
        text = f"cannot read live runs from {path} ({type(error).__name__}: {error})"
        raise LiveError(f"{text}; `dsdp bench fidelity --keep` leaves such a file") from error


def _run(found: dict[str, Any]) -> Run:
    return Run(tuple(Request(**request) for request in found["requests"]), float(found["seconds"]))
