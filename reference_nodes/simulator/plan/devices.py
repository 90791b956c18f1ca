"""How long a forward takes, as a function of what is in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from reference_nodes.simulator.plan.luck import lognormal
from reference_nodes.simulator.plan.scenario import Affine, Device, Table


class DeviceModel(Protocol):
    overhead: float
    """seconds of the node around a job, which its forward does not report"""

    def seconds(
        self, rows: int, sessions: int, context_tokens: int, prefill_positions: int, luck: Callable[[], float]
    ) -> float:
        """Seconds of one forward.

        :param rows: verifier: for each session 1 and its draft nodes; drafter: nodes expanded.
        :param context_tokens: lengths of the prefixes of all sessions, added up.
        :param luck: gives uniform numbers.
        """
        ...


class AffineDevice:
    """Constants, as given."""

    def __init__(self, given: Affine) -> None:
        self.overhead = given.overhead
        self._base, self._row, self._session = given.base, given.per_row, given.per_session
        self._context, self._prefill, self._spread = given.per_context, given.per_prefill, given.spread

    def seconds(
        self, rows: int, sessions: int, context_tokens: int, prefill_positions: int, luck: Callable[[], float]
    ) -> float:
        took = self._base + self._row * rows + self._session * sessions
        took += self._context * context_tokens + self._prefill * prefill_positions
        return lognormal(luck(), took, self._spread) if self._spread else took


def device_model(device: Device, folder: Path, role: str) -> DeviceModel:
    """The model of a scenario's device for a role, ``"verifier"`` or ``"drafter"``. Raises ScenarioError for a profile
    that cannot be used."""
    if isinstance(device, Table):
        from reference_nodes.simulator.plan.profiles import load_profile

        return load_profile(folder / device.profile, device, role)
    return AffineDevice(device)
