"""Sampling with shared randomness: Philox noise, integer arithmetic, the coupled rule, the walk."""

from dsdproto.sampling.coupled import MARGIN_MAX, Choice, CoupledSampler, Ranked, RowError
from dsdproto.sampling.parameters import ParameterError, SamplingParameters
from dsdproto.sampling.walk import TreeError, Walk, walk

__all__ = [
    "MARGIN_MAX",
    "Choice",
    "CoupledSampler",
    "ParameterError",
    "Ranked",
    "RowError",
    "SamplingParameters",
    "TreeError",
    "Walk",
    "walk",
]
