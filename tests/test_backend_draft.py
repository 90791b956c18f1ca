"""Drafters: the Llama drafter on the shipped format and on ordinary models, prompt lookup, TM-1."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from backend_models import SMALL, config_of, random_weights, write_model

from dsdproto.testmodel import TestModel, context_of
from reference_nodes.backends.base import (
    BadRequest,
    Candidates,
    DraftBackend,
    ExpandRequest,
    TargetBackend,
    TreeRequest,
    UnsupportedModel,
)
from reference_nodes.backends.draft import LlamaDraft
from reference_nodes.backends.gguf_files import write_safetensors
from reference_nodes.backends.hf_files import from_bf16, parse_config, read_weights
from reference_nodes.backends.llama import Llama
from reference_nodes.backends.loading import draft_as_transformers, load_draft, load_target
from reference_nodes.backends.ngram import NgramDraft
from reference_nodes.models_store import ModelError, ModelFiles, locate

SHORTLIST = [3, 1, 400, 77, 5, 511, 260]


def write_draft(directory: Path, layers: int = 2, **notes: object) -> ModelFiles:
    """A draft in the shipped format: the first layers of the small model of seed 1."""
    directory.mkdir(parents=True)
    own = {"format": 1, "target": "model", "shared": ["model.embed_tokens.weight"], "shortlist": len(SHORTLIST)}
    config = config_of(SMALL | {"layers": layers}, dsdp_draft=own | notes)
    (directory / "config.json").write_text(json.dumps(config))
    weights = random_weights(SMALL | {"layers": layers}, 1)
    del weights["model.embed_tokens.weight"]
    write_safetensors(directory / "model.safetensors", weights | {"dsdp.shortlist": np.array(SHORTLIST, np.int32)})
    return locate(str(directory))


@pytest.fixture
def pair(tmp_path: Path) -> tuple[ModelFiles, ModelFiles]:
    return ModelFiles("llama", "model", write_model(tmp_path / "model", SMALL)), write_draft(tmp_path / "draft")


def only(candidates: list[list[Candidates]]) -> Candidates:
    ((one,),) = candidates
    return one


def test_shipped_format_is_a_four_bit_llama_over_a_shortlist(pair: tuple[ModelFiles, ModelFiles]) -> None:
    """The truncated model, put together by hand, has the same logits on the shortlist and the prefix's own ids."""
    target, draft_files = pair
    assert draft_files.kind == "draft"
    draft = load_draft(draft_files, target)
    assert isinstance(draft, DraftBackend) and draft.vocab_size == 512
    weights = random_weights(SMALL | {"layers": 2}, 1)
    model = Llama(parse_config(config_of(SMALL | {"layers": 2}), "config"), weights, 64, 64, q4=True)
    head = from_bf16(model.head_weight(weights))  # so few ids are all scored by the exact weights
    reference = LlamaDraft("whole", model, lambda states, met: [Candidates(None, head @ s) for s in states], 512)
    rng = np.random.default_rng(0)
    prefix = [int(t) for t in rng.integers(0, 512, 20)]
    for _ in range(10):
        size = int(rng.integers(0, 8))
        tokens = [int(t) for t in rng.integers(0, 512, size)]
        parents = [int(rng.integers(0, i + 1)) for i in range(size)]
        nodes = sorted({int(n) for n in rng.integers(0, size + 1, 3)})
        request = ExpandRequest("s", prefix, tokens, parents, nodes)
        (found,), (expected,) = draft.expand([request]), reference.expand([request])
        assert len(found) == len(nodes)
        for candidates, wanted in zip(found, expected):
            assert candidates.ids is not None and candidates.ids.tolist() == sorted({*SHORTLIST, *prefix})
            np.testing.assert_allclose(candidates.logits, wanted.logits[candidates.ids], rtol=1e-5, atol=1e-6)
        prefix = [*prefix, *tokens[:1], 7]


def test_a_trunk_comes_from_the_target(pair: tuple[ModelFiles, ModelFiles], tmp_path: Path) -> None:
    """A draft whose first layers are shared is the draft that has a copy of them."""
    target, whole = pair
    assert target.path is not None and whole.path is not None
    layers = [name for name in read_weights(target.path) if name.startswith("model.layers.0.")]
    part = write_draft(tmp_path / "part", shared=["model.embed_tokens.weight", *layers])
    assert part.path is not None
    own = random_weights(SMALL | {"layers": 2}, 1) | {"dsdp.shortlist": np.array(SHORTLIST, np.int32)}
    copy = own | {name: value for name, value in read_weights(target.path).items() if name in layers}
    for name in ["model.embed_tokens.weight", *layers]:
        del own[name]
    write_safetensors(part.path / "model.safetensors", own)
    request = ExpandRequest("s", [1, 2, 3])
    with_trunk = only(load_draft(part, target).expand([request]))
    del copy["model.embed_tokens.weight"]
    write_safetensors(whole.path / "model.safetensors", copy)
    assert np.array_equal(with_trunk.logits, only(load_draft(whole, target).expand([request])).logits)


def test_only_the_nodes_asked_for_are_computed(pair: tuple[ModelFiles, ModelFiles]) -> None:
    draft = load_draft(pair[1], pair[0])
    draft.expand([ExpandRequest("s", [1, 2, 3], [4, 5, 6, 7], [0, 1, 1, 0], [3])])
    assert draft.counters.rows == 5  # the prefix, and node 3 with its parent
    draft.expand([ExpandRequest("s", [1, 2, 3, 4], [6, 8], [0, 1], [1, 2])])
    assert draft.counters.rows == 6  # node 3 stayed, below the new prefix
    draft.expand([ExpandRequest("s", [1, 2, 3, 4], [6], [0], [0, 1]), ExpandRequest("t", [9])])
    assert draft.counters.rows == 7 and draft.counters.forwards == 3
    with pytest.raises(BadRequest, match=r"nodes 0\.\.1"):
        draft.expand([ExpandRequest("s", [1], [2], [0], [2])])


def test_an_ordinary_model_drafts_over_its_whole_vocabulary(pair: tuple[ModelFiles, ModelFiles]) -> None:
    draft = load_draft(pair[0])
    candidates = only(draft.expand([ExpandRequest("s", [1, 2])]))
    assert candidates.ids is None
    assert np.array_equal(candidates.logits, load_target(pair[0]).score([TreeRequest("s", [1, 2])])[0].row(0))


def test_draft_files_that_do_not_fit(pair: tuple[ModelFiles, ModelFiles], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="name that model as the target"):
        load_draft(pair[1])
    with pytest.raises(UnsupportedModel, match="supported is format 1"):
        load_draft(write_draft(tmp_path / "newer", format=2), pair[0])
    with pytest.raises(UnsupportedModel, match=r"has no tensor no\.such for other to share"):
        load_draft(write_draft(tmp_path / "other", shared=["no.such"]), pair[0])
    far = write_draft(tmp_path / "far").path
    assert far is not None
    weights = random_weights(SMALL | {"layers": 2}, 1)
    write_safetensors(far / "model.safetensors", weights | {"dsdp.shortlist": np.array([1, 512], np.int32)})
    with pytest.raises(UnsupportedModel, match="the shortlist leaves the vocabulary of 512 ids"):
        load_draft(locate(str(far)), pair[0])
    with pytest.raises(ModelError, match="proposes drafts only"):
        load_target(pair[1])


def test_the_draft_as_a_transformers_model(pair: tuple[ModelFiles, ModelFiles]) -> None:
    torch = pytest.importorskip("torch")
    target, draft_files = pair
    model = draft_as_transformers(draft_files, target, torch.float32)
    with torch.inference_mode():
        theirs = model(torch.tensor([[1, 2, 3]])).logits[0, -1].numpy()
    whole = write_model(target.path.parent / "whole", SMALL | {"layers": 2})
    write_safetensors(whole / "model.safetensors", random_weights(SMALL | {"layers": 2}, 1))
    ours = only(load_draft(ModelFiles("llama", "whole", whole)).expand([ExpandRequest("s", [1, 2, 3])]))
    np.testing.assert_allclose(theirs, ours.logits, atol=2e-3 * np.abs(theirs).max())


def test_ngram_proposes_what_followed_before() -> None:
    ngram = NgramDraft(longest=3, shortest=1)
    assert isinstance(ngram, DraftBackend)
    prefix = [1, 2, 3, 4, 9, 9, 2, 3, 5, 1, 2, 3]
    found = only(ngram.expand([ExpandRequest("s", prefix)]))
    assert found.ids is not None and found.ids.tolist() == [4, 5]
    assert found.ids[found.logits.argmax()] == 4  # the match of three tokens beats the later match of two
    node = only(ngram.expand([ExpandRequest("s", prefix, [4, 9], [0, 1], [2])]))
    assert node.ids is not None and node.ids[node.logits.argmax()] == 9  # the match runs over the draft path
    nothing = only(ngram.expand([ExpandRequest("s", prefix, [77], [0], [1])]))
    assert nothing.ids is not None and len(nothing.ids) == len(nothing.logits) == 0


def test_ngram_prefers_frequent_then_recent() -> None:
    ngram = NgramDraft(longest=1, shortest=1)
    found = only(ngram.expand([ExpandRequest("s", [1, 5, 1, 5, 1, 6, 1])]))
    assert found.ids is not None and found.ids[found.logits.argmax()] == 5
    found = only(ngram.expand([ExpandRequest("t", [1, 5, 1, 6, 1])]))
    assert found.ids is not None and found.ids[found.logits.argmax()] == 6


def test_ngram_follows_its_session() -> None:
    """A growing prefix, another session, a rollback and a release all answer as a fresh drafter does."""
    rng = np.random.default_rng(4)
    ngram = NgramDraft()
    sessions: dict[int, list[int]] = {0: [1], 1: [2]}
    for _ in range(200):
        key = int(rng.integers(0, 2))
        sessions[key] += [int(t) for t in rng.integers(0, 3, 4)]
        if rng.random() < 0.1:
            sessions[key] = sessions[key][: int(rng.integers(1, len(sessions[key])))]
        if rng.random() < 0.1:
            ngram.release(key)
        request = ExpandRequest(key, tuple(sessions[key]), [1, 0], [0, 0], [0, 1, 2])
        for ours, fresh in zip(ngram.expand([request])[0], NgramDraft().expand([request])[0]):
            assert np.array_equal(ours.ids, fresh.ids) and np.array_equal(ours.logits, fresh.logits)


@pytest.mark.parametrize("name", ["ngram:x", "ngram:1-2", "ngram:0"])
def test_ngram_options_that_make_no_sense(name: str) -> None:
    with pytest.raises(BadRequest, match="ngram"):
        load_draft(locate(name))


def test_tm1_is_the_test_model() -> None:
    target, draft = load_target(locate("tm-1:v=64,s=3")), load_draft(locate("tm-1:v=64,s=3,a=32768,d=2"))
    assert isinstance(target, TargetBackend) and isinstance(draft, DraftBackend)
    model, drafter = TestModel.parse("tm-1:v=64,s=3"), TestModel.parse("tm-1:v=64,s=3,a=32768,d=2")
    prefix, tokens, parents = [5, 6, 7], [8, 9, 10], [0, 1, 0]
    paths = [prefix, [5, 6, 7, 8], [5, 6, 7, 8, 9], [5, 6, 7, 10]]
    assert target.prefill("s", prefix, 2) == 2 == target.cached("s", prefix)
    rows = target.score([TreeRequest("s", prefix, tokens, parents)])[0]
    found = draft.expand([ExpandRequest("s", prefix, tokens, parents, [0, 1, 2, 3])])[0]
    for node, path in enumerate(paths):
        assert np.array_equal(rows.row(node), model.row(context_of(path)))
        logits, ids = drafter.candidates(context_of(path))
        assert found[node].ids is not None
        assert found[node].ids.tolist() == list(ids) and found[node].logits.tolist() == list(logits)
    assert target.cached("s", [5, 6, 7, 8]) == 3 and target.cached("s", [5, 9]) == 0
    rolled = target.score([TreeRequest("s", [5, 9])])[0].row(0)
    assert np.array_equal(rolled, model.row(context_of([5, 9])))
    with pytest.raises(BadRequest, match="unknown key"):
        load_target(locate("tm-1:q=1"))
