"""What a peer of the suite says of itself."""

from __future__ import annotations

import random
from typing import Any

from conformance.door.pki import Identity
from dsdproto.wire.messages import Hello, Limits, ModelOffer

FEATURES = (1, 3, 5)
HEARTBEAT_MS = 10_000
MAX_PAYLOAD = 1 << 20
AGENT = "dsdp-conformance"


def hello_of(
    identity: Identity,
    rng: random.Random,
    roles: tuple[int, ...],
    models: tuple[ModelOffer, ...] = (),
    **changes: Any,
) -> Hello:
    """What a peer of the suite says of itself; ``changes`` are fields of HELLO, ``max_payload``, ``max_channels`` and
    ``heartbeat_ms`` those of its limits."""
    limits = Limits(
        max_payload=changes.pop("max_payload", MAX_PAYLOAD),
        max_channels=changes.pop("max_channels", 1024),
        heartbeat_ms=changes.pop("heartbeat_ms", HEARTBEAT_MS),
    )
    values: dict[str, Any] = {
        "version_min": 1,
        "version_max": 1,
        "node_id": identity.node_id,
        "instance": rng.randbytes(8),
        "roles": tuple(sorted(int(role) for role in roles)),
        "cluster": identity.cluster,
        "features": FEATURES,
        "limits": limits,
        "models": models,
        "nonce": rng.randbytes(16),
        "agent": AGENT,
    }
    return Hello(**{**values, **changes})
