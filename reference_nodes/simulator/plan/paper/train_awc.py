"""Trains the predictor of the paper's adaptive window controller::

    python -m reference_nodes.simulator.plan.paper.train_awc [--settings 60] [--seconds 4] [--out awc.json]

Labels come from the planner: in each of a number of drawn settings (acceptance, RTT, load, step times) every fixed
window from 2 to 12 and the target alone are run, and the window with the most tokens a second is the label of all
states that the controller would have seen on the way. Needs torch for the training; the labels take
minutes on one core.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from dsdproto.policy.windows import Awc, AwcState, WindowPolicy
from reference_nodes.simulator.plan.loader import parse
from reference_nodes.simulator.plan.luck import key_of, uniform
from reference_nodes.simulator.plan.paper import inputs
from reference_nodes.simulator.plan.paper.awc import BLOCKS, WEIGHTS, features, net_of
from reference_nodes.simulator.plan.run import run

SEED = 20_251_121
ALONE = 1
"""The label of a setting where the target alone is best: what the controller takes for it."""
SIZES = (ALONE, *range(2, 13))
PER_SESSION = 4
"""Every so many rounds a state is kept."""
HIDDEN = 16
EPOCHS = 150
HELD_OUT = 5
"""One setting in so many is kept for judging."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One operating point of a target and its drafters."""

    acceptance: float
    rtt: float
    sessions: int
    base: float
    per_row: float
    draft: float


def drawn(number: int) -> Setting:
    """Setting ``number``: the same in every run."""
    key = key_of("train awc", SEED)

    def between(which: int, low: float, high: float) -> float:
        return float(low * (high / low) ** uniform(key, number, which))

    return Setting(
        acceptance=0.4 + 0.55 * uniform(key, number, 0),
        rtt=between(1, 0.004, 0.12),
        sessions=round(between(2, 2, 32)),
        base=between(3, 0.015, 0.06),
        per_row=between(4, 0.00005, 0.0008),
        draft=between(5, 0.003, 0.03),
    )


@dataclass(frozen=True, slots=True)
class Watched:
    """A fixed window that writes down what the controller would have seen."""

    kind: ClassVar[str] = "watched"
    size: int
    rtt: float
    seen: list[AwcState] = field(default_factory=list, compare=False)

    def maker(self) -> Callable[[], WindowPolicy]:
        """Makes one for each session."""

        def watching() -> Awc:
            rounds = 0

            def predict(state: AwcState) -> float:
                nonlocal rounds
                rounds += 1
                # The first rounds still show what a state begins with.
                if rounds > PER_SESSION and rounds % PER_SESSION == 0:
                    self.seen.append(state)
                return float(self.size)

            # A window of 1 would be taken for the wish to let the target go on alone: it never rests here.
            return Awc(size=self.size, predict=predict, rtt=self.rtt, raw=float(self.size), rest=0)

        return watching


def throughput(setting: Setting, size: int, seconds: float) -> tuple[float, list[AwcState]]:
    """Tokens a second with a fixed window, and the states on the way."""
    scenario = parse(_table(setting, 0 if size == ALONE else size, seconds))
    seen: list[AwcState] = []
    if size != ALONE:
        scenario = replace(scenario, window=Watched(size, setting.rtt, seen))
    return run(scenario)["throughput.tokens_per_second"], seen


def _table(setting: Setting, size: int, seconds: float) -> dict[str, Any]:
    return {
        "name": "awc",
        "seed": SEED,
        "duration": seconds,
        "warmup": seconds / 4,
        "device": {
            "target": {
                "kind": "affine",
                "base": setting.base,
                "per_row": setting.per_row,
                "per_prefill": setting.per_row,
            },
            "drafter": {"kind": "affine", "base": setting.draft},
        },
        "group": [
            {"name": "target", "count": 1, "roles": ["leader", "verifier"], "device": "target"},
            {"name": "edge", "count": setting.sessions, "roles": ["client", "drafter"], "device": "drafter"},
        ],
        "link": [{"between": ["edge", "target"], "rtt": setting.rtt}],
        "workload": {
            "kind": "closed",
            "clients": setting.sessions,
            "ramp": seconds / 8,
            "prompt": inputs.PROMPT,
            "output": inputs.OUTPUT,
        },
        "acceptance": {"default": {"kind": "iid", "rates": [setting.acceptance]}},
        "window": {"kind": "static", "size": size},
        "drafting": {"width": 1, "floor": 255},
        "verifying": {"max_rows": inputs.MAX_ROWS, "max_sessions": 256},
    }


@dataclass(slots=True)
class Labelled:
    """One setting, swept."""

    setting: Setting
    rates: dict[int, float]
    """tokens a second by window"""
    states: list[AwcState]

    @property
    def best(self) -> int:
        return max(self.rates, key=lambda size: (self.rates[size], -size))


def swept(count: int, seconds: float) -> Iterator[Labelled]:
    """The labels, one setting after the other."""
    for number in range(count):
        setting = drawn(number)
        rates: dict[int, float] = {}
        states: list[AwcState] = []
        for size in SIZES:
            rates[size], seen = throughput(setting, size, seconds)
            # A few of each window: a setting with many sessions must not outweigh the others.
            states += seen[:: max(1, len(seen) // 24)][:24]
        yield Labelled(setting, rates, states)


def kept(labelled: list[Labelled], windows: Callable[[AwcState], float]) -> float:
    """Share of the best window's throughput that the predicted ones have, in the mean over settings."""
    shares = []
    for each in labelled:
        taken = [min(max(round(windows(state)), ALONE), SIZES[-1]) for state in each.states]
        if taken:
            shares.append(np.mean([each.rates[size] for size in taken]) / each.rates[each.best])
    return float(np.mean(shares))


def train(labelled: list[Labelled], epochs: int = EPOCHS) -> dict[str, Any]:
    """Fits the network to the labels. Returns what ``awc.json`` holds, less its notes."""
    import torch
    from torch import nn

    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    rows = np.array([features(state) for each in labelled for state in each.states])
    wanted = np.array([each.best for each in labelled for _ in each.states], dtype=float)
    # Each setting counts as much as any other.
    weight = np.array([1.0 / len(each.states) for each in labelled for _ in each.states])
    mean, scale = rows.mean(0), np.maximum(rows.std(0), 1e-3)

    sizes = {"in": (rows.shape[1], HIDDEN), "out": (HIDDEN, 1)}
    for block in range(BLOCKS):
        sizes |= {f"first{block}": (HIDDEN, HIDDEN), f"second{block}": (HIDDEN, HIDDEN)}
    layers = nn.ModuleDict({name: nn.Linear(*size) for name, size in sizes.items()})

    def forward(x: torch.Tensor) -> torch.Tensor:
        x = layers["in"](x)
        for block in range(BLOCKS):
            x = x + layers[f"second{block}"](torch.relu(layers[f"first{block}"](torch.relu(x))))
        return layers["out"](torch.relu(x))[:, 0]

    x = torch.tensor((rows - mean) / scale, dtype=torch.float32)
    y = torch.tensor(wanted, dtype=torch.float32)
    w = torch.tensor(weight / weight.mean(), dtype=torch.float32)
    optimiser = torch.optim.AdamW(layers.parameters(), lr=3e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs)
    for _ in range(epochs):
        order = torch.randperm(len(x))
        for start in range(0, len(x), 512):
            chosen = order[start : start + 512]
            loss = (w[chosen] * nn.functional.huber_loss(forward(x[chosen]), y[chosen], reduction="none")).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        schedule.step()
    return {
        "mean": [round(float(value), 5) for value in mean],
        "scale": [round(float(value), 5) for value in scale],
        "layers": {
            name: {
                "weight": np.round(layer.weight.detach().numpy().T.astype(float), 4).tolist(),
                "bias": np.round(layer.bias.detach().numpy().astype(float), 4).tolist(),
            }
            for name, layer in layers.items()
        },
    }


def judged(fit: list[Labelled], held: list[Labelled], body: dict[str, Any]) -> dict[str, Any]:
    """How good the predictor is where it was not trained, beside window 4."""
    net = net_of(body)
    errors = [abs(net(state) - each.best) for each in held for state in each.states]
    return {
        "settings": len(fit),
        "states": sum(len(each.states) for each in fit),
        "held_out_settings": len(held),
        "held_out_mean_error": round(float(np.mean(errors)), 2),
        "held_out_share_of_best_throughput": round(kept(held, net), 4),
        "held_out_share_with_window_4": round(kept(held, lambda state: 4.0), 4),
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", type=int, default=60, help="operating points to sweep (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=4.0, help="simulated, of each run (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="where the weights go (default: in this package)")
    args = parser.parse_args(argv)
    labelled = []
    for number, each in enumerate(swept(args.settings, args.seconds), start=1):
        labelled.append(each)
        print(f"{number} of {args.settings}: best window {each.best}, {len(each.states)} states", file=sys.stderr)
    labelled = [each for each in labelled if each.states]
    held = labelled[::HELD_OUT]
    fit = [each for number, each in enumerate(labelled) if number % HELD_OUT]
    body = train(fit)
    figures = judged(fit, held, body)
    notes = {
        "what": "predictor of the adaptive window controller of arXiv 2511.21669, a residual network of two blocks",
        "data": f"{args.settings} operating points of the planner, {args.seconds:g} simulated seconds for each window",
        "recipe": "python -m reference_nodes.simulator.plan.paper.train_awc"
        f" --settings {args.settings} --seconds {args.seconds:g}",
        "figures": figures,
    }
    args.out.write_text(json.dumps(notes | body) + "\n", encoding="utf-8")
    print(json.dumps(figures, indent=2))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
