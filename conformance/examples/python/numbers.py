"""Functions of `compute`: randomness, fixed point, the choice, TM-1, names, negotiation (SPEC.md, 9 to 11, 17, 18)."""

from __future__ import annotations

import math
from hashlib import sha256
from struct import pack, unpack
from typing import Any

from conformance.examples.python.answers import Refused, from_json, to_json
from dsdproto.prefix import PrefixChain
from dsdproto.sampling import CoupledSampler, RowError, SamplingParameters, fixed, philox
from dsdproto.testmodel import ModelNameError, TestModel, context_of
from dsdproto.versions import negotiate
from dsdproto.wire.codec import decode_payload, encode_payload
from dsdproto.wire.messages import Contract, Hello

Input = dict[str, Any]
FIXED = {
    "L": fixed.log2_q24,
    "G": fixed.noise_q24,
    "W": fixed.weight_q40,
    "S": fixed.scale_factor,
    "F": lambda bits: fixed.logit_q24(float_of(bits)),
}


def float_of(bits: str) -> float:
    return unpack(">f", bytes.fromhex(bits))[0]


def row_json(logits: Any, ids: Any) -> list[list[Any]]:
    return [[token, pack(">f", logit).hex()] for token, logit in sorted(zip(ids, logits, strict=True))]


def sampler(given: Input) -> CoupledSampler:
    parameters = SamplingParameters(given["temperature"], given["top_k"], given["top_p"])
    return CoupledSampler(parameters, int(given["seed"]))


def model(name: str) -> TestModel:
    try:
        return TestModel.parse(name)
    except ModelNameError as error:
        raise Refused(str(error)) from error


def choose(given: Input) -> dict[str, Any]:
    ids, logits = [token for token, _ in given["row"]], [float_of(bits) for _, bits in given["row"]]
    try:
        choice = sampler(given).choose(logits, int(given["position"]), ids)
    except RowError as error:
        raise Refused(str(error)) from error
    return {"token": choice.token, "margin": choice.margin}


def siblings(given: Input) -> dict[str, Any]:
    ids, logits = [token for token, _ in given["row"]], [float_of(bits) for _, bits in given["row"]]
    return {
        "tokens": [each.token for each in sampler(given).ranked(logits, int(given["position"]), given["count"], ids)]
    }


def score(given: Input) -> dict[str, Any]:
    return {"score": min(255, round(-16 * math.log2(given["weight"] / given["total"])))}


def tm1_row(given: Input) -> dict[str, Any]:
    context = context_of(given["prefix"])
    return {"context": f"{context:016x}", "row": row_json(*model(given["model"]).candidates(context))}


def tm1_stream(given: Input) -> dict[str, Any]:
    target, rule, tokens = model(given["model"]), sampler(given), list(given["prompt"])
    for _ in range(given["count"]):
        logits, ids = target.candidates(context_of(tokens))
        tokens.append(rule.choose(logits, len(tokens), ids).token)
    return {"tokens": tokens[len(given["prompt"]) :]}


def vocabulary_digest(entries: list[bytes]) -> str:
    return sha256(b"".join(len(entry).to_bytes(4, "big") + entry for entry in entries)).hexdigest()


def tm1_offer(given: Input) -> dict[str, Any]:
    target = model(given["model"])
    text = f"weights=none\ndtype=integers\nkernels=tm-1 {target.name}\nthreads=any\n"
    return {
        "vocabulary_size": target.vocabulary,
        "vocabulary_digest": vocabulary_digest([str(token).encode() for token in range(target.vocabulary)]),
        "profile_text": text,
        "profile": sha256(text.encode()).hexdigest(),
    }


def prefix(given: Input) -> dict[str, Any]:
    chain = PrefixChain.for_contract(bytes.fromhex(given["contract"]), given["tokens"])
    return {"digests": [chain.digest_at(position).hex() for position in range(len(chain) + 1)]}


def contract(given: Input) -> dict[str, Any]:
    encoding = encode_payload(from_json(Contract, given["contract"]))
    return {"encoding": encoding.hex(), "digest": sha256(encoding).hexdigest()}


def negotiated(given: Input) -> dict[str, Any]:
    acceptor, dialer = bytes.fromhex(given["acceptor"]), bytes.fromhex(given["dialer"])
    one, other = decode_payload(Hello, acceptor), decode_payload(Hello, dialer)
    negotiate(one, other)  # each side judges the other's features and roles
    outcome = negotiate(other, one)
    return {
        "version": outcome.version,
        "features": to_json(outcome.features),
        "heartbeat_ms": outcome.heartbeat_ms,
        "negotiated": outcome.digest(acceptor, dialer).hex(),
    }


FUNCTIONS = {
    "philox": lambda given: {"words": list(philox.philox4x32(tuple(given["counter"]), tuple(given["key"])))},
    "word": lambda given: {
        "word": philox.words(int(given["seed"]), given["domain"], int(given["position"]), given["token"] // 4)[
            given["token"] % 4
        ]
    },
    "tables": lambda given: {
        name: fixed.table_digest(table)
        for name, table in (("LOG2", fixed.LOG2_TABLE), ("TAIL", fixed.TAIL_TABLE), ("EXP2", fixed.EXP2_TABLE))
    },
    "fixed": lambda given: {"values": [FIXED[given["name"]](value) for value in given["inputs"]]},
    "choose": choose,
    "siblings": siblings,
    "score": score,
    "tm1_name": lambda given: {"canonical": model(given["name"]).name},
    "tm1_row": tm1_row,
    "tm1_stream": tm1_stream,
    "tm1_offer": tm1_offer,
    "vocabulary": lambda given: {"digest": vocabulary_digest([bytes.fromhex(entry) for entry in given["entries"]])},
    "prefix": prefix,
    "contract": contract,
    "negotiate": negotiated,
}
