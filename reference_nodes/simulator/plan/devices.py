"""How long a forward takes, as a function of what is in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from reference_nodes.simulator.plan.luck import lognormal
from reference_nodes.simulator.plan.scenario import Affine, Device, Table
from reference_nodes.simulator.plan.schema import ScenarioError


class DeviceModel(Protocol):
    message: float
    """seconds that a message takes from the job during which it comes in"""
    fused: bool
    """a chunk of a prompt is part of the forward that scores"""

    def between(self, sessions: int) -> float:
        """Seconds of the node around a job of so many sessions, which its forward does not report."""
        ...

    def seconds(
        self,
        rows: int,
        sessions: int,
        context_tokens: int,
        prefill_positions: int,
        luck: Callable[[], float],
        beyond: int = 0,
    ) -> float:
        """Seconds of one forward.

        :param rows: verifier: for each session 1, its draft nodes, and what is missing of its prefix; drafter: nodes
            expanded; 0: only a prompt is computed.
        :param context_tokens: lengths of the prefixes of all sessions, added up.
        :param luck: gives uniform numbers.
        :param beyond: of ``rows``, missing positions of prefixes.
        """
        ...


class AffineDevice:
    """Constants, as given."""

    def __init__(self, given: Affine) -> None:
        self.message, self.fused, self._overhead = given.per_message, given.fused, given.overhead
        self._base, self._row, self._session = given.base, given.per_row, given.per_session
        self._context, self._prefill, self._spread = given.per_context, given.per_prefill, given.spread

    def seconds(
        self,
        rows: int,
        sessions: int,
        context_tokens: int,
        prefill_positions: int,
        luck: Callable[[], float],
        beyond: int = 0,
    ) -> float:
        took = self._base + self._row * rows + self._session * sessions
        took += self._context * context_tokens + self._prefill * prefill_positions
        return lognormal(luck(), took, self._spread) if self._spread else took

    def between(self, sessions: int) -> float:
        return self._overhead


class MeasuredDevice:
    """A profile, as `dsdp profile` measured it; nodes compute a prompt in forwards of its own."""

    def __init__(self, given: Table, folder: Path, role: str) -> None:
        from reference_nodes.profile.document import ProfileError, load_profile
        from reference_nodes.profile.table import Table as Measured

        try:
            profile = load_profile(folder / given.profile)
        except ProfileError as error:
            raise ScenarioError("profile", str(error)) from None
        if profile.role != role:
            text = f"{given.profile} was measured on a {profile.role}, and a {role} is to compute on it"
            raise ScenarioError("profile", text)
        table = Measured(profile, given.scale, given.spread == "measured")
        self.message, self.between, self.seconds = table.message, table.between, table.seconds
        # A drafter's prompt is part of the job that expands its end, a verifier's a forward of its own.
        self.fused = role == "drafter"


def device_model(device: Device, folder: Path, role: str, where: str) -> DeviceModel:
    """The model of a scenario's device for a role, ``"verifier"`` or ``"drafter"``.

    :param where: path of the device's key, for errors.

    Raises ScenarioError for a profile that cannot be used.
    """
    if isinstance(device, Affine):
        return AffineDevice(device)
    try:
        return MeasuredDevice(device, folder, role)
    except ScenarioError as error:
        raise ScenarioError(f"{where}.{error.path}", error.text) from None
