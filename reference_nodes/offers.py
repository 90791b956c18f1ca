"""From a model's name to what a node needs of it: an executor that runs it, and the offer that HELLO makes of it.

Everything here reads files and may take seconds: call it in a worker thread.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dsdproto.registry import Role
from dsdproto.wire.messages import ModelOffer
from reference_nodes.backends.base import DraftBackend, TargetBackend
from reference_nodes.backends.loading import load_draft, load_target
from reference_nodes.backends.tokens import vocabulary_of
from reference_nodes.executors import DraftExecutor, VerifyExecutor
from reference_nodes.models_store import ModelFiles, locate

MAX_NAME_BYTES = 128
MAX_CONTEXT = (1 << 32) - 1
INLINE = ("tm-1", "ngram")
"""Kinds whose work takes microseconds: a worker thread would cost more than it."""

Say = Callable[[str], None]
"""Takes one line about what is being done."""


@dataclass(frozen=True, slots=True)
class LoadedTarget:
    files: ModelFiles
    backend: TargetBackend
    executor: VerifyExecutor
    offer: ModelOffer


@dataclass(frozen=True, slots=True)
class LoadedDraft:
    files: ModelFiles
    backend: DraftBackend
    executor: DraftExecutor
    offer: ModelOffer


def load_verifier(name: str, say: Say = lambda text: None) -> LoadedTarget:
    """The target behind ``name`` (see :func:`reference_nodes.models_store.locate`).

    Raises ModelError or BackendError, both saying what to do.
    """
    files = locate(name)
    say(f"loading target {files.name}")
    backend = load_target(files)
    size, digest = vocabulary_of(files)
    offer = ModelOffer(
        role=int(Role.VERIFIER),
        name=_short(backend.name),
        vocabulary_size=size,
        vocabulary_digest=digest,
        max_context=min(backend.max_context, MAX_CONTEXT),
        profile=backend.profile.digest,
        profile_text=backend.profile.text,
    )
    return LoadedTarget(files, backend, VerifyExecutor(backend, inline=files.kind in INLINE), offer)


def load_drafter(name: str, target: str | None = None, say: Say = lambda text: None) -> LoadedDraft:
    """The drafter behind ``name``.

    :param target: model that it drafts for: needed where the drafter has no vocabulary of its own (ngram) or shares
        tensors with its target.

    Raises ModelError or BackendError, both saying what to do.
    """
    files = locate(name)
    target_files = None if target is None else locate(target)
    say(f"loading drafter {files.name}")
    backend = load_draft(files, target_files)
    size, digest = vocabulary_of(files, target_files)
    offer = ModelOffer(
        role=int(Role.DRAFTER),
        name=_short(backend.name),
        vocabulary_size=size,
        vocabulary_digest=digest,
        max_context=min(backend.max_context, MAX_CONTEXT),
    )
    return LoadedDraft(files, backend, DraftExecutor(backend, inline=files.kind in INLINE), offer)


def _short(name: str) -> str:
    return name.encode()[:MAX_NAME_BYTES].decode(errors="ignore")
