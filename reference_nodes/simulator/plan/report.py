"""The outcome of a run: plain figures for programs, and a page of text for people."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from reference_nodes.simulator.plan.measure import Meter
from reference_nodes.simulator.plan.scenario import Scenario
from reference_nodes.simulator.plan.schema import plain


@dataclass(slots=True)
class Report:
    """What a run came to. ``figures`` is plain JSON, equal for equal runs; ``wall`` is what it took here."""

    scenario: Scenario
    seed: int
    figures: dict[str, Any]
    wall: float = 0.0
    """seconds"""
    cpu: float = 0.0
    """seconds of this process's time"""
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """SHA-256 of scenario, seed and figures."""
        body = [_portable(self.scenario), self.seed, self.figures]
        return sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def __getitem__(self, path: str) -> Any:
        """A figure by its path, ``"latency.ttft.p95"``. Raises KeyError."""
        return at(self.figures, path)

    def as_json(self) -> dict[str, Any]:
        messages = self.figures["network"]["all_messages"]
        speed = {
            "wall_seconds": round(self.wall, 3),
            "cpu_seconds": round(self.cpu, 3),
            "messages_per_cpu_second": round(messages / max(self.cpu, 1e-9)),
        }
        body = {"scenario": self.scenario.name, "seed": self.seed, "digest": self.digest}
        return body | self.figures | self.extra | {"settings": _portable(self.scenario), "speed": speed}


def _portable(scenario: Scenario) -> Any:
    table = plain(scenario)
    del table["folder"]
    return table


def ratio(part: float, whole: float) -> float | None:
    """None where there is nothing to divide by."""
    return part / whole if whole else None


def figures_of(meter: Meter, end: float, nodes: dict[str, int], network: dict[str, Any]) -> dict[str, Any]:
    """All figures of a run.

    :param end: until when it counts, seconds.
    :param nodes: slots of all verifiers and of all drafters, by role.
    """
    window, count = meter.window, meter.count
    span = max(end - window.began, 1e-9)
    verified, drafted = window.verified, window.drafted
    stats = window.stats
    figures = {
        "counted": {"from": window.began, "to": end, "seconds": span},
        "requests": {
            "arrived": count.arrived,
            "done": count.done,
            "refused": count.refused,
            "failed": count.failed,
            "unfinished": count.unfinished,
            "retried": count.retried,
            "resumed": count.resumed,
            "reasons": dict(sorted(count.reasons.items())),
        },
        "throughput": {
            "tokens_per_second": window.tokens / span,
            "requests_per_second": window.done / span,
            "goodput_requests_per_second": window.good / span,
            "goodput_tokens_per_second": window.good_tokens / span,
            "within_slo": ratio(window.good, window.done),
        },
        "latency": {
            "ttft": window.ttft.as_json(),
            "tpot": window.tpot.as_json(),
            "itl": window.itl.as_json(),
            "e2e": window.e2e.as_json(),
        },
        "speculation": {
            "acceptance": ratio(verified.accepted, verified.nodes),
            "acceptance_of_drafted": ratio(stats["accepted"], stats["drafted"]),
            "mean_acceptance_length": 1.0 + verified.accepted / verified.with_drafts if verified.with_drafts else None,
            "tokens_per_round": ratio(verified.tokens, verified.rounds),
            "nodes_per_round": ratio(verified.nodes, verified.rounds),
            "rounds": verified.rounds,
            "rounds_with_drafts": verified.with_drafts,
            "drafted": stats["drafted"],
            "waste": {cause: ratio(tokens, stats["drafted"]) for cause, tokens in sorted(window.waste.items())},
        },
        "verifiers": {
            "utilisation": min(1.0, verified.busy / (span * nodes["verifier"])),
            "forwards": verified.forwards,
            "sessions_per_forward": verified.sessions.mean,
            "sessions_p95": verified.sessions.quantile(0.95),
            "rows_per_forward": verified.rows.mean,
            "prefilled_positions": verified.prefill,
            "prefix_positions_in_scores": verified.beyond,
            "evictions": verified.evictions,
        },
        "drafters": {
            "utilisation": min(1.0, drafted.busy / (span * nodes["drafter"])) if nodes["drafter"] else None,
            "forwards": drafted.forwards,
            "expanded": drafted.expanded,
        },
        "network": network
        | {"bytes_per_token": ratio(network["bytes"], window.tokens), "bytes_per_second": network["bytes"] / span},
    }
    if meter.series is not None:
        figures["series"] = meter.series.as_json(nodes)
    return figures


COSTS = (
    "throughput.tokens_per_second",
    "throughput.goodput_requests_per_second",
    "latency.ttft.mean",
    "latency.ttft.p95",
    "latency.tpot.mean",
    "latency.tpot.p95",
    "network.bytes_per_token",
)


def cost_of(figures: dict[str, Any], without: dict[str, Any]) -> dict[str, Any]:
    """What faults cost: each figure relative to the same run without them, and the requests that they lost."""
    cost: dict[str, Any] = {}
    for path in COSTS:
        one, other = (at(each, path) for each in (figures, without))
        cost[path] = None if one is None or not other else one / other - 1.0
    for key in ("failed", "refused", "unfinished"):
        cost[key] = figures["requests"][key] - without["requests"][key]
    return cost


def at(figures: dict[str, Any], path: str) -> Any:
    """A figure by its path, ``"latency.ttft.p95"``. Raises KeyError."""
    value: Any = figures
    for name in path.split("."):
        value = value[name]
    return value


# ---------------------------------------------------------------- for people


def text_of(report: Report) -> str:
    """A page: what happened, how fast, how well used."""
    f = report.figures
    requests, speed, spec = f["requests"], f["throughput"], f["speculation"]
    rows = [
        f"{report.scenario.name}: seed {report.seed}, counted {f['counted']['from']:g} s to {f['counted']['to']:g} s",
        "",
        f"requests     {requests['arrived']} arrived: {requests['done']} done, {requests['refused']} refused, "
        f"{requests['failed']} failed, {requests['unfinished']} unfinished",
        f"throughput   {speed['tokens_per_second']:.1f} tokens/s, {speed['requests_per_second']:.2f} requests/s"
        + (
            f", {speed['goodput_requests_per_second']:.2f} of them within the SLO"
            if report.scenario.slo.ttft or report.scenario.slo.tpot
            else ""
        ),
        "",
        "             " + "".join(f"{name:>10}" for name in ("mean", "p50", "p95", "p99", "max")),
    ]
    for name in ("ttft", "tpot", "itl", "e2e"):
        sketch = f["latency"][name]
        cells = "".join(f"{milliseconds(sketch[key]):>10}" for key in ("mean", "p50", "p95", "p99", "max"))
        rows.append(f"{name.upper():<13}{cells}")
    rows += [
        "",
        f"speculation  {number(spec['tokens_per_round'])} tokens a round; {number(spec['nodes_per_round'])} draft "
        f"tokens verified a round, {percent(spec['acceptance'])} of them accepted",
        f"waste        {percent(spec['acceptance_of_drafted'])} of drafted tokens accepted; "
        + ", ".join(f"{cause} {percent(share)}" for cause, share in spec["waste"].items() if share),
        f"verifiers    {percent(f['verifiers']['utilisation'])} busy, "
        f"{number(f['verifiers']['sessions_per_forward'])} sessions and "
        f"{number(f['verifiers']['rows_per_forward'])} rows a forward",
        f"drafters     {percent(f['drafters']['utilisation'])} busy",
        f"network      {f['network']['messages']} messages, {f['network']['bytes'] / 1e6:.2f} MB, "
        f"{number(f['network']['bytes_per_token'])} bytes a token",
    ]
    if requests["reasons"]:
        rows.append("reasons      " + ", ".join(f"{name} {times}" for name, times in requests["reasons"].items()))
    rows += fault_lines(f["faults"]) if "faults" in f else []
    rows += ["", f"digest {report.digest[:16]}, {report.wall:.1f} s of wall time"]
    return "\n".join(rows)


def fault_lines(faults: dict[str, Any]) -> list[str]:
    """What struck, and what it cost."""
    struck = ", ".join(f"{kind} {times}" for kind, times in faults["strikes"].items()) or "none struck"
    lines = [f"faults       {struck}"]
    if "cost" in faults:
        cost = faults["cost"]
        shares = [
            f"{name} {'-' if cost[path] is None else format(cost[path] * 100, '+.1f') + ' %'}"
            for name, path in (
                ("throughput", "throughput.tokens_per_second"),
                ("TTFT p95", "latency.ttft.p95"),
                ("TPOT mean", "latency.tpot.mean"),
                ("bytes a token", "network.bytes_per_token"),
            )
        ]
        lost = ", ".join(f"{cost[key]:+d} {key}" for key in ("failed", "refused", "unfinished"))
        lines.append(f"their cost   {', '.join(shares)}; requests {lost}")
    return lines


def milliseconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value * 1e3:.1f} ms" if value < 10.0 else f"{value:.2f} s"


def percent(share: float | None) -> str:
    return "-" if share is None else f"{share * 100:.1f} %"


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
