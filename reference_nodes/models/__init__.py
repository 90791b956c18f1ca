"""Model files that ship with the package, and where to find them."""

from __future__ import annotations

from pathlib import Path

DRAFT_NAME = "smollm2-135m-draft"


def draft_dir(name: str = DRAFT_NAME) -> Path:
    """Return the directory of a shipped draft model.

    Raises:
        FileNotFoundError: no model of that name is shipped.
    """
    path = Path(__file__).resolve().parent / name
    if not (path / "config.json").is_file():
        shipped = sorted(p.parent.name for p in Path(__file__).resolve().parent.glob("*/config.json"))
        raise FileNotFoundError(f"no draft model {name!r} is shipped; there are: {shipped}")
    return path
