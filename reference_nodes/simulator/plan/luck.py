"""Numbers that look random and depend on what they are for, not on when they are asked for.

A run draws its luck by name (seed, session, position, ...) and never from one shared generator: two runs that differ
in a policy alone meet the same requests, the same acceptance and the same delays (common random numbers).
The mixing function is that of SplitMix64 (Steele, Lea, Flood 2014).
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from math import exp, log
from random import Random
from statistics import NormalDist

_MASK = 0xFFFF_FFFF_FFFF_FFFF
_UNIT = 2.0**-64
_normal = NormalDist().inv_cdf


def key_of(*names: object) -> int:
    """64 bits that name a purpose. Slow (a hash): once per node or model, not per draw."""
    text = "\0".join(map(str, names)).encode()
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big")


def mix(x: int) -> int:
    """One 64-bit integer to another, as if at random."""
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & _MASK
    return x ^ (x >> 31)


def uniform(key: int, first: int, second: int = 0) -> float:
    """A number in [0, 1) for two counters under a key."""
    x = (key + first * 0x9E3779B97F4A7C15 + second * 0xC2B2AE3D27D4EB4F) & _MASK
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & _MASK
    return ((x ^ (x >> 31)) >> 11) * 2.0**-53


def exponential(u: float, mean: float) -> float:
    """Exponentially distributed with that mean, from a uniform number."""
    return -mean * log(1.0 - u)


def normal(u: float) -> float:
    """Standard normal, from a uniform number."""
    return _normal(min(max(u, _UNIT), 1.0 - 2.0**-53))


def lognormal(u: float, median: float, sigma: float) -> float:
    """Log-normally distributed, from a uniform number."""
    return median * exp(sigma * normal(u))


def stream(*names: object) -> Callable[[], float]:
    """Uniform numbers one after the other, for what happens in an order of its own: jobs of a node, its parcels."""
    return Random(key_of(*names)).random
