"""From files to backends: the one place where a name becomes a model that computes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from reference_nodes.models_store import ModelError, ModelFiles

from .base import DraftBackend, TargetBackend, UnsupportedModel
from .hf_files import LlamaConfig, from_bf16, parse_config, read_config, read_json, read_weights, weights_digest
from .tokens import vocabulary

if TYPE_CHECKING:
    from .heads import CandidatesOf

CACHE_TOKENS = 16384  # positions that a node caches over all its sessions; SmolLM2 needs 46 kB for each
MAX_CONTEXT = 8192


def load_target(files: ModelFiles, cache_tokens: int = CACHE_TOKENS, max_context: int = MAX_CONTEXT) -> TargetBackend:
    """The target behind `files`. Raises UnsupportedModel or ModelError."""
    if files.kind == "tm-1":
        from .tm1 import tm1_target

        return tm1_target(files.options)
    if files.kind != "llama" or files.path is None or files.options:
        raise ModelError(f"{files.name} proposes drafts only; a target is smollm2, tm-1, a model directory or a .gguf")
    from .llama import Head, Llama
    from .target import LlamaTarget

    config, weights = read_config(files.path), read_weights(files.path)
    model = Llama(config, weights, cache_tokens, max_context)
    size = _size(files.path, config)
    head = Head(model, model.head_weight(weights)[:size])
    return LlamaTarget(files.name, model, head, size, weights_digest(weights))


def _size(directory: Path, config: LlamaConfig) -> int:
    """The vocabulary's real entries; the model's embedding may be padded beyond them."""
    size = vocabulary(directory)[0]
    if size > config.vocab_rows:
        raise UnsupportedModel(
            f"{directory}: the tokenizer has {size} entries but the model only {config.vocab_rows}; "
            "they don't belong together"
        )
    return size


def load_draft(
    files: ModelFiles,
    target: ModelFiles | None = None,
    cache_tokens: int = CACHE_TOKENS,
    max_context: int = MAX_CONTEXT,
) -> DraftBackend:
    """The drafter behind `files`. A shipped draft model shares tensors with the target whose files are
    `target`; it was trained for four-bit weights and is served in them.

    Raises UnsupportedModel or ModelError.
    """
    if files.kind == "tm-1":
        from .tm1 import tm1_draft

        return tm1_draft(files.options)
    if files.kind == "ngram":
        from .ngram import ngram_draft

        return ngram_draft(files.options)
    from .draft import LlamaDraft
    from .heads import ShortHead, WholeHead, common_ids
    from .llama import Head, Llama

    assert files.path is not None
    if files.kind == "draft":
        config, weights, shortlist, source = _own_draft(files.path, target)
    else:
        config, weights, shortlist, source = (
            read_config(files.path),
            read_weights(files.path),
            None,
            files.path,
        )
    q4 = files.options == "q4" or files.kind == "draft"
    model = Llama(config, weights, cache_tokens, max_context, q4)
    size = _size(source, config)
    rows = model.head_weight(weights)
    head: CandidatesOf
    if q4:
        ids = common_ids(size) if shortlist is None else shortlist
        head = ShortHead(Head(model, np.asarray(rows)[ids]), rows, ids)
    else:
        head = WholeHead(Head(model, rows[:size]))
    return LlamaDraft(files.name, model, head, size)


def _own_draft(path: Path, target: ModelFiles | None):  # type: ignore[no-untyped-def]
    """Read the shipped format: a Llama without the tensors it shares with its target, and a shortlist
    of ids.
    """
    raw = read_json(path / "config.json")
    notes = raw.get("dsdp_draft")
    if not isinstance(notes, Mapping) or notes.get("format") != 1:
        raise UnsupportedModel(f"{path}: dsdp_draft format is {notes!r}, supported is format 1")
    if target is None or target.path is None:
        raise ModelError(f"{path.name} shares tensors with {notes.get('target')}: name that model as the target too")
    weights = read_weights(path)
    shared = read_weights(target.path)
    for name in notes.get("shared", ()):
        if name not in shared:
            raise UnsupportedModel(f"{target.path}: has no tensor {name} for {path.name} to share")
        weights[name] = shared[name]
    config = parse_config({"architectures": ["LlamaForCausalLM"], **raw}, str(path / "config.json"))
    shortlist = weights.pop("dsdp.shortlist", None)
    if shortlist is not None:
        shortlist = np.sort(shortlist.astype(np.int32))
        if not len(shortlist) or shortlist[0] < 0 or shortlist[-1] >= config.vocab_rows:
            raise UnsupportedModel(f"{path}: the shortlist leaves the vocabulary of {config.vocab_rows} ids")
    return config, weights, shortlist, target.path


def draft_as_transformers(files: ModelFiles, target: ModelFiles, dtype):  # type: ignore[no-untyped-def]
    """The shipped draft as a transformers LlamaForCausalLM, for example for `generate(assistant_model=...)`.

    Its head covers the whole vocabulary: the shortlist is an optimisation of this repository. `dtype` is a torch
    dtype. Raises UnsupportedModel or ModelError.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    assert files.path is not None
    _, weights, _, _ = _own_draft(files.path, target)
    raw = {k: v for k, v in read_json(files.path / "config.json").items() if k != "dsdp_draft"}
    model = LlamaForCausalLM(LlamaConfig(**raw)).to(dtype)
    tensors = {name: torch.from_numpy(from_bf16(value)).to(dtype) for name, value in weights.items()}
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    if unexpected or set(missing) - {"lm_head.weight"}:
        raise UnsupportedModel(f"{files.path}: tensors missing {missing}, unknown {unexpected}")
    model.tie_weights()
    return model.eval()
