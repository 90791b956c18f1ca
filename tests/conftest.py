"""Set-up that all tests share: one thread for torch, and the weights for tests that are marked ``model``."""

from __future__ import annotations

import contextlib
import os

import pytest

# Before torch is imported anywhere: several threads on two shared cores wait for each other most of the time.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

MODEL = "smollm2"


def pytest_collection_finish(session: pytest.Session) -> None:
    """Fetch the weights once if a selected test needs them; where that is impossible, such tests are skipped."""
    wanted = [item for item in session.items if item.get_closest_marker("model")]
    if not wanted or session.config.option.collectonly:
        return
    reason = _fetch(session.config)
    if reason:
        for item in wanted:
            item.add_marker(pytest.mark.skip(reason=reason))


def _fetch(config: pytest.Config) -> str:
    """Empty if the model is there now, else why not."""
    from reference_nodes.cli.output import Progress
    from reference_nodes.models_store import ModelError, locate, pull

    try:
        locate(MODEL)
        return ""
    except ModelError:
        pass  # not pulled yet
    capture = config.pluginmanager.getplugin("capturemanager")
    progress = Progress()
    try:
        with contextlib.nullcontext() if capture is None else capture.global_and_fixture_disabled():
            pull(MODEL, progress)
            progress.finish()
    except ModelError as error:
        return f"the weights of {MODEL} cannot be fetched: {error}"
    return ""
