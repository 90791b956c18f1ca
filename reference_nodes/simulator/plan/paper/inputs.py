"""All that goes into the comparison with the DSD paper and is not computed: one place to look at, and to argue with.

The paper fixes the fleet, the links and the policies. Step times come from what the devices named in its public
configuration can do; acceptance, lengths and the load are stated here. Times in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# ---------------------------------------------------------------- fleet and links (the paper's)

TARGETS = 20
DRAFTERS = (600, 1000)
RTTS = (0.010, 0.030)
FAR = 0.080
"""Where synchronous speculation is past its break-even and has to be compared with the target alone."""
JITTER = 0.12
"""Of the way there, and of the way back."""

# ---------------------------------------------------------------- step times (stated)

TARGET_DEVICE: dict[str, Any] = {
    "kind": "affine",
    # 70 G parameters in fp16, four A100: 138 GB / (4 * 2.04 TB/s) = 17 ms at full bandwidth; 30 ms with what is lost to
    # the exchange between the four and to kernels.
    "base": 0.030,
    # 140 GFLOP a position / (4 * 312 TFLOP/s) at half of the peak.
    "per_row": 0.00022,
    "per_prefill": 0.00022,
    # 0.33 MB of keys and values a position / (4 * 2.04 TB/s).
    "per_context": 4e-8,
    "spread": 0.03,
}
DRAFT_DEVICE: dict[str, Any] = {
    "kind": "affine",
    # 6.7 G parameters in fp16, one A40: 13.5 GB / 0.696 TB/s = 19.4 ms, and kernels.
    "base": 0.021,
    # 13.5 GFLOP a position / 150 TFLOP/s at half of the peak.
    "per_prefill": 0.00018,
    "spread": 0.05,
}
MAX_ROWS = 64
"""Rows of a forward: the live verifier's default; twelve sessions with four drafts, as the paper's batches of 12."""

# ---------------------------------------------------------------- acceptance (stated)

ACCEPTANCE: dict[str, Any] = {"kind": "iid", "rates": [0.8, 0.08, 0.03]}
"""Chance that the target says the drafter's first, second and third choice; the first is the paper's default rate.
Independent of the drafter's node and of the position; the same luck for all policies."""

# ---------------------------------------------------------------- load (stated)

PROMPT: dict[str, Any] = {"kind": "lognormal", "median": 72, "sigma": 0.35, "low": 30, "high": 120}
OUTPUT: dict[str, Any] = {"kind": "lognormal", "median": 134, "sigma": 0.25, "low": 80, "high": 200}
"""Lengths as in the paper's GSM8K trace of 10 s: 30 to 120 and 80 to 200 tokens, with its medians."""
THINK = 0.0
"""Each device asks again at once: a load that fills the fleet. Under a load that leaves it room, throughput is what is
asked for, whatever the policy, and says nothing of it."""
SLO = {"ttft": 1.0, "tpot": 0.05}
"""Goodput counts answers that began within a second and came at 20 tokens a second or more."""

# ---------------------------------------------------------------- what the paper says


@dataclass(frozen=True, slots=True)
class Claim:
    text: str
    low: float
    high: float
    """the claimed range of the ratio; agreement is to lie in it"""
    figure: str
    """key of :func:`..compare.ratios`, without what it is over"""
    policy: str
    over: str


CLAIMS = (
    Claim("AWC: throughput over window 4, up to +9.7 %", 1.0, 1.097, "throughput", "awc", "static4"),
    Claim("AWC: speed-up over window 4, up to 1.1x", 1.0, 1.10, "speed", "awc", "static4"),
    Claim("AWC: TPOT over window 4, 6 % to 10 % less", 0.90, 0.94, "tpot", "awc", "static4"),
)


@dataclass(frozen=True, slots=True)
class Aim:
    """What this project wants of its own default."""

    text: str
    least: float
    figure: str
    over: str
    far: bool = False


AIMS = (
    Aim("ours: throughput over window 4, at least 1.25x", 1.25, "throughput", "static4"),
    Aim("ours: throughput over AWC, more than 1x", 1.0, "throughput", "awc"),
    Aim("ours at 80 ms: throughput over the target alone, no loss", 1.0, "throughput", "alone", far=True),
)
