"""The published vectors against `dsdproto`, through the example testee, and the generator against what is published."""

from __future__ import annotations

import json
from struct import unpack
from typing import Any

import numpy as np
import pytest

from conformance.clauses import known
from conformance.door.process import Answer, read_answer
from conformance.examples.python.__main__ import answer
from conformance.make_vectors import MAKERS
from conformance.static import vectors
from conformance.static.compare import difference
from dsdproto import testmodel
from dsdproto.sampling import CoupledSampler, RowError, SamplingParameters, fixed, philox


def said(request: dict[str, Any]) -> Answer:
    return read_answer(json.dumps({"id": 1, **answer(request)}).encode() + b"\n", 1)


def number(bits: str) -> float:
    return unpack(">f", bytes.fromhex(bits))[0]


def asked(file: str, function: str) -> list[dict[str, Any]]:
    """The vectors of a file that ask for a function."""
    return [each for each in vectors.load(file) if each["request"].get("function") == function]


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_the_generator_still_writes_the_published_file(name: str) -> None:
    assert (vectors.VECTORS / f"{name}.json").read_text() == vectors.document(name, MAKERS[name]())


def test_every_file_is_made() -> None:
    assert vectors.files() == sorted(MAKERS)


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_the_package_answers_as_published(name: str) -> None:
    wrong = {}
    for each in vectors.load(name):
        found = difference(each, said(each["request"]))
        if found is not None:
            wrong[each["id"]] = found
    assert not wrong


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_vectors_are_well_made(name: str) -> None:
    for each in vectors.load(name):
        assert each["revision"] >= 1 and each["title"], each["id"]
        assert each["clauses"] and not set(each["clauses"]) - set(known()), each["id"]
        assert len(each["expect"]) == 1, each["id"]


def test_ids_are_used_once() -> None:
    ids = [each["id"] for name in MAKERS for each in vectors.load(name)]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize(
    "value",
    [
        "a" * 5000,
        "00" * 700 + "17",
        "1122" * 500,
        "aabbcc" * 300,
        [0] * 100,
        {"x": [{"y": "é" * 900}]},
        "short",
        [1, 2],
    ],
)
def test_the_short_form_loses_nothing(value: Any) -> None:
    short = vectors.shorten(value)
    assert vectors.expand(json.loads(json.dumps(short))) == value
    assert len(json.dumps(short)) < 120


# ---------------------------------------------------------------- the fast paths over arrays


def test_words_of_many_tokens_at_once() -> None:
    for each in asked("philox", "word"):
        given = each["request"]["input"]
        tokens = np.array([given["token"]], np.int64)
        array = philox.token_words(int(given["seed"]), given["domain"], int(given["position"]), tokens)
        assert array.tolist() == [each["expect"]["ok"]["word"]], each["id"]


def test_fixed_point_over_arrays() -> None:
    functions = {
        "L": lambda inputs: fixed.log2_q24_array(np.array(inputs)),
        "G": lambda inputs: fixed.noise_q24_array(np.array(inputs, np.uint32)),
        "W": lambda inputs: fixed.weight_q40_array(np.array(inputs)),
        "F": lambda inputs: fixed.logit_q24_array(np.array([number(bits) for bits in inputs], np.float32)),
    }
    seen = set()
    for each in asked("fixed", "fixed"):
        given = each["request"]["input"]
        if given["name"] in functions:
            seen.add(given["name"])
            assert functions[given["name"]](given["inputs"]).tolist() == each["expect"]["ok"]["values"], each["id"]
    assert seen == set(functions)


def test_choices_from_arrays_and_dense_rows() -> None:
    for each in asked("coupled", "choose"):
        given = each["request"]["input"]
        sampler = CoupledSampler(
            SamplingParameters(given["temperature"], given["top_k"], given["top_p"]), int(given["seed"])
        )
        ids, array = (
            [token for token, _ in given["row"]],
            np.array([number(bits) for _, bits in given["row"]], np.float32),
        )
        position = int(given["position"])
        if "error" in each["expect"]:
            with pytest.raises(RowError):
                sampler.choose(array, position, ids)
            continue
        expected = tuple(each["expect"]["ok"].values())
        assert tuple(sampler.choose(array, position, ids)) == expected, each["id"]
        if ids == list(range(len(ids))):
            assert tuple(sampler.choose(array, position)) == expected, each["id"]


def test_dense_rows_of_the_test_model() -> None:
    for each in asked("testmodel", "tm1_row")[::9]:
        given = each["request"]["input"]
        dense = testmodel.TestModel.parse(given["model"]).row(testmodel.context_of(given["prefix"]))
        held = {int(token): float(dense[token]) for token in np.flatnonzero(np.isfinite(dense))}
        assert held == {token: number(bits) for token, bits in each["expect"]["ok"]["row"]}, each["id"]
