"""What this program calls itself."""

from __future__ import annotations

import importlib.metadata


def version() -> str:
    """Of the installed distribution; "unknown" where the code runs without being installed."""
    try:
        return importlib.metadata.version("dsdp")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def agent() -> str:
    """For HELLO."""
    return f"dsdp-reference/{version()}"
