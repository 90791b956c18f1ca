"""Work of role machines on real backends: what fails stays with the item that failed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from dsdproto.registry import Method
from dsdproto.roles.work import DraftWork, ExpandItem, PrefillItem, ScoreItem, VerifyWork, Walked
from dsdproto.sampling import CoupledSampler, SamplingParameters
from dsdproto.testmodel import TestModel, advance, context_of
from dsdproto.wire.messages import Sampling
from reference_nodes.backends.base import Candidates, ExpandRequest, TreeRequest
from reference_nodes.backends.ngram import NgramDraft
from reference_nodes.backends.tm1 import Tm1Target, tm1_draft, tm1_target
from reference_nodes.executors import DraftExecutor, VerifyExecutor

OPTIONS = "v=64,s=3"
MODEL = TestModel.parse(f"tm-1:{OPTIONS}")
PROMPT = (5, 9, 2)


def sampling(temperature: float = 0.0, seed: int = 7) -> Sampling:
    return Sampling(
        method=int(Method.COUPLED), temperature=round(temperature * 65536), top_k=0, top_p=65536, seed=seed
    )


def stream(prompt: tuple[int, ...], count: int, chosen: Sampling) -> list[int]:
    """The target alone."""
    sampler = CoupledSampler(SamplingParameters(chosen.temperature), chosen.seed)
    context, tokens = context_of(prompt), []
    for position in range(len(prompt), len(prompt) + count):
        tokens.append(sampler.choose(MODEL.row(context), position).token)
        context = advance(context, tokens[-1])
    return tokens


def item(
    session: str, prompt: tuple[int, ...], tokens: Sequence[int], parents: Sequence[int], **more: Any
) -> ScoreItem:
    values = {"sampling": sampling(), "stop_tokens": (), "limit": 100, **more}
    return ScoreItem(session=session, prefix=prompt, tokens=tuple(tokens), parents=tuple(parents), **values)


def verify(executor: VerifyExecutor, *items: ScoreItem) -> tuple[Walked | str, ...]:
    return executor.run(VerifyWork(items, None, ())).walks


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_the_walk_takes_the_true_path_through_a_tree(temperature: float) -> None:
    chosen = sampling(temperature)
    a, b, c = stream(PROMPT, 3, chosen)
    wrong = (a + 1) % 64
    # Nodes: 1 wrong, 2 a, 3 below wrong, 4 b below a.
    tree = item("s", PROMPT, (wrong, a, b, b), (0, 0, 1, 2), sampling=chosen)
    (walked,) = verify(VerifyExecutor(tm1_target(OPTIONS)), tree)
    assert isinstance(walked, Walked)
    assert (walked.accepted, walked.tokens) == (4, (a, b, c))


def test_without_drafts_the_target_says_one_token() -> None:
    (walked,) = verify(VerifyExecutor(tm1_target(OPTIONS)), item("s", PROMPT, (), ()))
    assert isinstance(walked, Walked)
    assert (walked.accepted, list(walked.tokens)) == (0, stream(PROMPT, 1, sampling()))


def test_limit_and_stop_tokens_end_the_walk_on_the_path() -> None:
    a, b, _ = stream(PROMPT, 3, sampling())
    executor = VerifyExecutor(tm1_target(OPTIONS))
    (walked,) = verify(executor, item("s", PROMPT, (a, b), (0, 1), limit=1))
    assert isinstance(walked, Walked) and (walked.accepted, walked.tokens) == (1, (a,))
    (walked,) = verify(executor, item("s", PROMPT, (a, b), (0, 1), stop_tokens=(b,)))
    assert isinstance(walked, Walked) and (walked.accepted, walked.tokens) == (2, (a, b))


def test_one_bad_item_does_not_spoil_the_batch() -> None:
    executor = VerifyExecutor(tm1_target(OPTIONS))
    walks = verify(executor, item("a", PROMPT, (), ()), item("b", (1, 99), (), ()), item("c", (7,), (), ()))
    assert isinstance(walks[0], Walked) and list(walks[0].tokens) == stream(PROMPT, 1, sampling())
    assert isinstance(walks[1], str) and "99" in walks[1]
    assert isinstance(walks[2], Walked) and list(walks[2].tokens) == stream((7,), 1, sampling())


class _NanTarget(Tm1Target):
    def score(self, requests: Sequence[TreeRequest]):  # type: ignore[no-untyped-def]
        rows = super().score(requests)
        for request, row in zip(requests, rows):
            if request.key == "nan":
                row.row = lambda node: np.full(64, np.nan, np.float32)  # type: ignore[method-assign]
        return rows


def test_a_row_that_no_token_can_be_chosen_from_fails_its_item_alone() -> None:
    walks = verify(VerifyExecutor(_NanTarget(MODEL)), item("nan", PROMPT, (), ()), item("fine", PROMPT, (), ()))
    assert isinstance(walks[0], str) and "NaN" in walks[0]
    assert isinstance(walks[1], Walked)


def test_prefill_release_and_rows() -> None:
    backend = tm1_target(OPTIONS)
    executor = VerifyExecutor(backend)
    prompt = tuple(range(20))
    done = executor.run(VerifyWork((), PrefillItem("s", prompt, 8), ()))
    assert (done.prefilled, done.rows, done.walks) == (8, 0, ())
    done = executor.run(VerifyWork((item("s", prompt, (1, 2), (0, 1)),), None, ()))
    assert done.rows == 12 + 2 and done.prefilled is None and done.seconds > 0
    executor.run(VerifyWork((), None, ("s",)))
    assert backend.cached("s", prompt) == 0 and len(executor._samplers) == 0
    assert "99" in str(executor.run(VerifyWork((), PrefillItem("s", (99,), 8), ())).prefilled)


def expand(executor: DraftExecutor, *items: ExpandItem):  # type: ignore[no-untyped-def]
    return executor.run(DraftWork(items, ())).children


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_a_perfect_drafter_proposes_what_the_target_will_say(temperature: float) -> None:
    chosen = sampling(temperature)
    a, b, c = stream(PROMPT, 3, chosen)
    asked = ExpandItem("s", PROMPT, (a, b), (0, 1), (0, 1, 2), chosen, 3)
    (nodes,) = expand(DraftExecutor(tm1_draft(OPTIONS)), asked)
    assert [children[0].token for children in nodes] == [a, b, c]
    for children in nodes:
        assert len(children) == 3
        scores = [child.score for child in children]
        assert scores == sorted(scores) and scores[0] >= 0 and scores[-1] <= 255


def test_ngram_candidates_are_ranked_and_nothing_to_say_is_no_error() -> None:
    prompt = (1, 2, 3, 4, 1, 2)
    asked = ExpandItem("s", prompt, (9,), (0,), (0, 1), sampling(), 2)
    (nodes,) = expand(DraftExecutor(NgramDraft()), asked)
    assert [child.token for child in nodes[0]] == [3]
    assert nodes[1] == ()


class _BrokenDraft(NgramDraft):
    def expand(self, requests: Sequence[ExpandRequest]) -> list[list[Candidates]]:
        answers = super().expand(requests)
        return [
            [Candidates(found.ids, np.full(len(found.logits), np.nan, np.float32)) for found in answer]
            if request.key == "nan"
            else answer
            for request, answer in zip(requests, answers)
        ]


def test_a_drafter_item_that_fails_leaves_the_others_alone() -> None:
    prompt = (1, 2, 3, 4, 1, 2)

    def asked(key: str, tokens: tuple[int, ...] = (), parents: tuple[int, ...] = (), node: int = 0) -> ExpandItem:
        return ExpandItem(key, prompt, tokens, parents, (node,), sampling(), 2)

    children = expand(DraftExecutor(_BrokenDraft()), asked("fine"), asked("nan"), asked("lost", node=5))
    assert [child.token for child in children[0][0]] == [3]
    assert "NaN" in children[1]
    assert "node 5" in children[2]
