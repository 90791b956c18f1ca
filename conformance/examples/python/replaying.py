"""The verb `replay`."""

from __future__ import annotations

from typing import Any


def replay(transcript: dict[str, Any]) -> dict[str, Any]:
    raise NotImplementedError
