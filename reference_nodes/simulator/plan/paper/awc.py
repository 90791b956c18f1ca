"""The paper's adaptive window controller: its predictor, and the window of a scenario that uses it.

The predictor is a residual network with two blocks on (queue utilisation, recent acceptance, RTT, recent TPOT, previous
window). Its weights are ``awc.json``; :mod:`.train_awc` makes them. Inference needs numpy alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from dsdproto.policy.windows import Awc, AwcState, WindowPolicy
from reference_nodes.simulator.plan.schema import ScenarioError

WEIGHTS = Path(__file__).parent / "awc.json"
BLOCKS = 2
Array = NDArray[np.float64]


def features(state: AwcState) -> list[float]:
    """What the network is given, before it is centred and scaled; times enter as their logarithms."""
    return [
        state.queue,
        state.acceptance,
        float(np.log(state.rtt + 1e-3)),
        float(np.log(max(state.tpot, 1e-4))),
        state.size,
    ]


@dataclass(frozen=True, slots=True)
class ResidualNet:
    """x -> in -> (x + second(relu(first(x)))) for each block -> out. Matrices are (inputs, outputs)."""

    mean: Array
    scale: Array
    layers: dict[str, tuple[Array, Array]]
    """``in``, ``first0``, ``second0``, ``first1``, ``second1``, ``out``: weight and bias"""

    def __call__(self, state: AwcState) -> float:
        """The window to take next."""
        return float(self.forward(np.array([features(state)]))[0])

    def forward(self, rows: Array) -> Array:
        """:param rows: (n, 5) features. Returns (n,) windows."""
        x = self._linear("in", (rows - self.mean) / self.scale)
        for block in range(BLOCKS):
            inner = np.maximum(self._linear(f"first{block}", np.maximum(x, 0.0)), 0.0)
            x = x + self._linear(f"second{block}", inner)
        return self._linear("out", np.maximum(x, 0.0))[:, 0]

    def _linear(self, name: str, x: Array) -> Array:
        weight, bias = self.layers[name]
        return x @ weight + bias


def net_of(body: dict[str, Any]) -> ResidualNet:
    """A network from the JSON that the training writes. Raises ScenarioError."""
    try:
        layers = {
            name: (np.array(layer["weight"], dtype=float), np.array(layer["bias"], dtype=float))
            for name, layer in body["layers"].items()
        }
        net = ResidualNet(np.array(body["mean"], dtype=float), np.array(body["scale"], dtype=float), layers)
        net.forward(np.zeros((1, 5)))
    except (KeyError, TypeError, ValueError) as error:
        raise ScenarioError("awc", f"the weights do not fit together: {error!r}") from None
    return net


@lru_cache(maxsize=4)
def load_net(path: Path = WEIGHTS) -> ResidualNet:
    """The trained predictor. Raises ScenarioError."""
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        text = f"no weights: {error}; make them with python -m reference_nodes.simulator.plan.paper.train_awc"
        raise ScenarioError("awc", text, str(path)) from None
    return net_of(body)


@dataclass(frozen=True, slots=True)
class AwcWindow:
    """The window of a scenario; ``rtt`` is what the controller is told of the link, seconds."""

    kind: ClassVar[str] = "awc"
    rtt: float
    ahead: int = 0
    patience: float = 5.0

    def maker(self) -> Callable[[], WindowPolicy]:
        """Makes one for each session."""
        predict = load_net()
        return lambda: Awc(ahead=self.ahead, patience=self.patience, predict=predict, rtt=self.rtt)
