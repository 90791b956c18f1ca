"""Sampling parameters as the session contract carries them: integers only (SPEC S-SAMP-1)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dsdproto.errors import LocalError

Q16 = 1 << 16
TEMPERATURE_MAX = (1 << 32) - 1
TOP_K_MAX = (1 << 32) - 1
SEED_MAX = (1 << 64) - 1


class ParameterError(LocalError, ValueError):
    """A sampling parameter outside its range. `name` says which one."""

    def __init__(self, name: str, value: object, allowed: str) -> None:
        super().__init__(f"sampling parameter {name} = {value!r}: must be {allowed}")
        self.name = name


def check_range(name: str, value: object, low: int, high: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ParameterError(name, value, f"an integer in {low}..{high}")


@dataclass(frozen=True, slots=True)
class SamplingParameters:
    """temperature_q16: in 1/65536, 0 is greedy; top_k: 0 is off; top_p_q16: in 1/65536, 65536 is off."""

    temperature_q16: int = 0
    top_k: int = 0
    top_p_q16: int = Q16

    def __post_init__(self) -> None:
        check_range("temperature_q16", self.temperature_q16, 0, TEMPERATURE_MAX)
        check_range("top_k", self.top_k, 0, TOP_K_MAX)
        check_range("top_p_q16", self.top_p_q16, 1, Q16)

    @classmethod
    def from_floats(cls, temperature: float = 0.0, top_k: int = 0, top_p: float = 1.0) -> SamplingParameters:
        """From what a user types: rounds to the nearest unit, but never from T > 0 down to greedy."""
        if not (math.isfinite(temperature) and 0.0 <= temperature <= TEMPERATURE_MAX / Q16):
            raise ParameterError("temperature", temperature, f"in 0..{TEMPERATURE_MAX / Q16:.4f}")
        if not (math.isfinite(top_p) and 0.0 < top_p <= 1.0):
            raise ParameterError("top_p", top_p, "above 0 and at most 1")
        unit = round(temperature * Q16)
        return cls(max(unit, 1) if temperature > 0 else 0, top_k, max(round(top_p * Q16), 1))

    @property
    def greedy(self) -> bool:
        return self.temperature_q16 == 0

    @property
    def temperature(self) -> float:
        """For people to read; the arithmetic never uses it."""
        return self.temperature_q16 / Q16

    @property
    def top_p(self) -> float:
        """For people to read; the arithmetic never uses it."""
        return self.top_p_q16 / Q16
