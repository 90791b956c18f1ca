"""Replays the published vectors against `dsdproto`, and the generator against the published vectors."""

from __future__ import annotations

import json
from pathlib import Path
from struct import unpack

import numpy as np
import pytest

from conformance import make_vectors
from dsdproto import testmodel
from dsdproto.prefix import PrefixChain
from dsdproto.sampling import CoupledSampler, RowError, SamplingParameters, fixed, philox

VECTORS = Path(make_vectors.__file__).with_name("vectors")


def load(name: str) -> dict:
    return json.loads((VECTORS / f"{name}.json").read_text())


def number(bits: str) -> float:
    return unpack(">f", bytes.fromhex(bits))[0]


@pytest.mark.parametrize("name", sorted(make_vectors.MAKERS))
def test_the_generator_still_writes_the_published_file(name):
    published = load(name)
    fresh = json.loads(json.dumps(make_vectors.MAKERS[name]()))
    assert {key: value for key, value in published.items() if key not in ("about", "revision")} == fresh


def test_philox():
    vectors = load("philox")
    for case in vectors["bare"]:
        words = philox.philox4x32(*(tuple(int(w, 16) for w in case[key]) for key in ("counter", "key")))
        assert [f"{w:08x}" for w in words] == case["words"]
    for case in vectors["layout"]:
        token = case["token"]
        seed, position = int(case["seed"], 16), int(case["position"], 16)
        assert philox.words(seed, case["domain"], position, token // 4)[token % 4] == int(case["word"], 16)
        array = philox.token_words(seed, case["domain"], position, np.array([token], np.int64))
        assert array.tolist() == [int(case["word"], 16)]


def test_prefix():
    for case in load("prefix")["cases"]:
        chain = PrefixChain.for_contract(bytes.fromhex(case["contract"]), case["tokens"])
        assert [chain.digest_at(n).hex() for n in range(len(chain) + 1)] == case["digests"]


def test_fixed_point():
    vectors = load("fixed")
    for name, table in (
        ("log2", fixed.LOG2_TABLE),
        ("tail", fixed.TAIL_TABLE),
        ("exp2", fixed.EXP2_TABLE),
    ):
        assert fixed.table_digest(table) == fixed.TABLE_DIGESTS[name] == vectors["tables"][name]["sha256"]
    assert vectors["log2_e"] == fixed.LOG2E_Q32
    for n, value in vectors["log2"]:
        assert fixed.log2_q24(n) == fixed.log2_q24_array(np.array([n]))[0] == value
    for word, value in vectors["noise"]:
        assert fixed.noise_q24(int(word, 16)) == value
    words = np.array([int(word, 16) for word, _ in vectors["noise"]], np.uint32)
    assert fixed.noise_q24_array(words).tolist() == [value for _, value in vectors["noise"]]
    for drop, value in vectors["weights"]:
        assert fixed.weight_q40(drop) == fixed.weight_q40_array(np.array([drop]))[0] == value
    for bits, value in vectors["logits"]:
        assert fixed.logit_q24(number(bits)) == value, bits
        assert fixed.logit_q24_array(np.array([number(bits)], np.float32))[0] == value, bits
    for temperature, value in vectors["factors"]:
        assert fixed.scale_factor(temperature) == value


def test_coupled():
    vectors = load("coupled")
    for case in vectors["cases"]:
        row = {int(token): number(bits) for token, bits in vectors["rows"][case["row"]].items()}
        parameters = SamplingParameters(case["temperature"], case["top_k"], case["top_p"])
        sampler = CoupledSampler(parameters, int(case["seed"], 16))
        position = int(case["position"], 16)
        expected = (case["token"], case["margin"])
        ids, logits = list(row), list(row.values())
        array = np.array(logits, np.float32)
        assert tuple(sampler.choose(logits, position, ids)) == expected, case["row"]
        assert tuple(sampler.choose(array, position, ids)) == expected, case["row"]
        if ids == list(range(len(ids))):
            assert tuple(sampler.choose(array, position)) == expected, case["row"]
    for case in vectors["refused"]:
        logits = [number(bits) for bits in case["row"].values()]
        for parameters in (SamplingParameters(), SamplingParameters(65536)):
            with pytest.raises(RowError):
                CoupledSampler(parameters, 0).choose(logits, 0)
            with pytest.raises(RowError):
                CoupledSampler(parameters, 0).choose(np.array(logits, np.float32), 0)


def test_testmodel():
    vectors = load("testmodel")
    for case in vectors["rows"]:
        model = testmodel.TestModel.parse(case["model"])
        context = testmodel.context_of(case["prefix"])
        assert f"{context:016x}" == case["context"]
        logits, ids = model.candidates(context)
        assert dict(zip(ids, logits)) == {int(token): number(bits) for token, bits in case["row"].items()}
        assert list(ids) == sorted(ids)
    for case in vectors["streams"]:
        model = testmodel.TestModel.parse(case["model"])
        parameters = SamplingParameters(case["temperature"], case["top_k"], case["top_p"])
        sampler = CoupledSampler(parameters, int(case["seed"], 16))
        tokens = list(case["prompt"])
        for _ in case["tokens"]:
            logits, ids = model.candidates(testmodel.context_of(tokens))
            tokens.append(sampler.choose(logits, len(tokens), ids).token)
        assert tokens[len(case["prompt"]) :] == case["tokens"]
    for case in vectors["names"]:
        assert testmodel.TestModel.parse(case["name"]).name == case["canonical"]
        assert testmodel.TestModel.parse(case["canonical"]).name == case["canonical"]
    for name in vectors["refused_names"]:
        with pytest.raises(testmodel.ModelNameError):
            testmodel.TestModel.parse(name)
