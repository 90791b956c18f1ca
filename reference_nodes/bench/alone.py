"""The target alone: its backend in this process, one token at a time, nothing of DSDP in between but the sampler."""

from __future__ import annotations

import time
from dataclasses import dataclass

from dsdproto.sampling import CoupledSampler, SamplingParameters
from dsdproto.wire.messages import Contract
from reference_nodes.backends.base import TargetBackend, TreeRequest

KEY = "alone"


@dataclass(frozen=True, slots=True)
class Alone:
    tokens: tuple[int, ...]
    seconds: float


def decode_alone(backend: TargetBackend, contract: Contract) -> Alone:
    """What every stream for ``contract`` on this target must equal. Raises BackendError."""
    sampling = contract.sampling
    parameters = SamplingParameters(sampling.temperature, sampling.top_k, sampling.top_p)
    sampler = CoupledSampler(parameters, sampling.seed)
    prefix = list(contract.prompt)
    begin = time.perf_counter()
    try:
        while len(prefix) - len(contract.prompt) < contract.max_tokens and len(prefix) < backend.max_context:
            (rows,) = backend.score([TreeRequest(KEY, tuple(prefix))])
            prefix.append(sampler.choose(rows.row(0), len(prefix)).token)
            if prefix[-1] in contract.stop_tokens:
                break
    finally:
        backend.release(KEY)
    return Alone(tuple(prefix[len(contract.prompt) :]), time.perf_counter() - begin)
