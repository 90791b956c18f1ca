"""Vectors of sections 10, 17 and 18: names, randomness, fixed point, the choice, TM-1. From `conformance.reference`."""

from __future__ import annotations

from decimal import Decimal, localcontext
from hashlib import sha256
from struct import pack
from typing import Any

from conformance import reference as ref
from conformance.static.vectors import Vector, compute, vector

MINUS_INF = "ff800000"
F32 = 2**32 - 1


def bits_of(x: float) -> str:
    return pack(">f", x).hex()


def draws(seed: int, n: int) -> list[int]:
    """Arbitrary but reproducible words for making up inputs."""
    return [word for block in range((n + 3) // 4) for word in ref.stream(seed, 0x8000_0000, 0, block)][:n]


# ---------------------------------------------------------------- randomness


def philox() -> list[Vector]:
    known = {
        "zeros": ([0] * 4, [0] * 2),
        "ones": ([F32] * 4, [F32] * 2),
        "pi": ([0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344], [0xA4093822, 0x299F31D0]),
        "counter-0": ([1, 0, 0, 0], [0, 0]),
        "counter-1": ([0, 1, 0, 0], [0, 0]),
        "counter-2": ([0, 0, 1, 0], [0, 0]),
        "counter-3": ([0, 0, 0, 1], [0, 0]),
        "key-0": ([0] * 4, [1, 0]),
        "key-1": ([0] * 4, [0, 1]),
        "high-bits": ([2**31] * 4, [2**31] * 2),
    }
    out = []
    for name, (counter, key) in known.items():
        source = " (Random123 kat_vectors)" if name in ("zeros", "ones", "pi") else ""
        request = compute("philox", counter=counter, key=key)
        out.append(
            vector(
                f"philox/{name}",
                f"Philox4x32-10: {name}{source}",
                "S-RNG-1",
                request,
                ok={"words": ref.philox(counter, key)},
            )
        )
    layout = {
        "first": (0, 1, 0, 0),
        "seed-and-token": (0x0123456789ABCDEF, 1, 17, 49151),
        "position-0": (0x0123456789ABCDEF, 1, 0, 0),
        "another-domain": (0x0123456789ABCDEF, 2, 17, 49151),
        "everything-highest": (2**64 - 1, 1, 2**64 - 1, F32),
        "high-position": (7, 16, 0x0123456789ABCDEF, 3),
        "high-half-of-the-seed": (7 << 32, 1, 5, 5),
        "high-half-of-the-position": (7, 1, 5 << 32, 5),
        "private-domain": (7, 0x80000000, 5, 5),
    }
    for name, (seed, domain, position, token) in layout.items():
        block = token // 4
        request = compute("word", seed=seed, domain=domain, position=position, token=token)
        inner = {"counter": [block, domain, position & F32, position >> 32], "key": [seed & F32, seed >> 32]}
        word = ref.stream(seed, domain, position, block)[token % 4]
        title = f"the word of token {token} in domain {domain}"
        clauses = "S-RNG-2 S-RNG-3" if "domain" in name else "S-RNG-2"
        out.append(vector(f"philox/word-{name}", title, clauses, request, ok={"word": word}, intermediates=inner))
    for token in range(4):
        request = compute("word", seed=42, domain=1, position=3, token=4000 + token)
        word = ref.stream(42, 1, 3, 1000)[token]
        title = f"token {4000 + token} takes word {token} of its block"
        out.append(vector(f"philox/word-{token}-of-a-block", title, "S-RNG-2", request, ok={"word": word}))
    return out


def prefix() -> list[Vector]:
    cases: dict[str, tuple[bytes, list[int]]] = {
        "empty": (b"", []),
        "one-token": (b"", [0]),
        "three-tokens": (b"contract", [1, 2, 3]),
        "large-tokens": (bytes(range(64)), [49151, 0, 2**24 - 1, 65536]),
        "beyond-24-bits": (b"\xa0", [2**32 - 1, 2**24, 2**31]),
        "repeated-token": (b"\xa0", [7] * 8),
        "long": (b"\xa1\x01\x02", [n * 37 % 4096 for n in range(100)]),
    }
    out = []
    for name, (contract, tokens) in cases.items():
        digests = [digest.hex() for digest in ref.chain(contract, tokens)]
        request = compute("prefix", contract=contract, tokens=tokens)
        title = f"the names of all prefixes of {len(tokens)} tokens"
        out.append(vector(f"prefix/{name}", title, "S-PFX-1 S-PFX-2", request, ok={"digests": digests}))
    return out


# ---------------------------------------------------------------- fixed point


def fixed() -> list[Vector]:
    def values(name: str, title: str, clauses: str, function: str, inputs: list[Any], results: list[int]) -> Vector:
        request = compute("fixed", name=function, inputs=inputs)
        return vector(f"fixed/{name}", title, clauses, request, ok={"values": results})

    tables = dict(zip(("LOG2", "TAIL", "EXP2"), ref.tables(), strict=True))
    digests = {name: sha256(pack(">4097Q", *table)).hexdigest() for name, table in tables.items()}
    inner = {name: {str(j): table[j] for j in (0, 1, 2048, 4095, 4096)} for name, table in tables.items()}
    out = [
        vector(
            "fixed/tables",
            "the three tables, by their SHA-256",
            "S-SAMP-4",
            compute("tables"),
            ok=digests,
            intermediates=inner,
        )
    ]
    logs = {
        "powers": [2**k for k in range(36)],
        "around-powers": [2**k + d for k in range(2, 36, 3) for d in (-1, 1)],
        "products-of-the-noise": [33 * 2**24, 2**33 - 1, 2**36 - 1, 24 * 2**24 + 5],
        "drawn": [word << 4 | 9 for word in draws(11, 40)],
    }
    for name, inputs in logs.items():
        title = f"the logarithm L: {name.replace('-', ' ')}"
        out.append(values(f"log-{name}", title, "S-SAMP-5", "L", inputs, [ref.log2_q24(n) for n in inputs]))
    words = {
        "lowest": [0, 1, 2, 3, 4, 0xFF, 0x100],
        "powers": [2**k for k in range(3, 32)],
        "the-middle": [2**31 + d for d in range(-4, 5)],
        "below-the-top": [2**32 - 2**k for k in range(31)],
        "table-borders": [2**31 + j * 2**19 + d for j in (1, 2, 1000, 4095) for d in (-1, 0, 1)],
        "drawn": draws(1, 60),
    }
    for name, inputs in words.items():
        title = f"the noise G: {name.replace('-', ' ')}"
        out.append(values(f"noise-{name}", title, "S-SAMP-5", "G", inputs, [ref.noise(word) for word in inputs]))
    drops = {
        "small": [0, 1, 2, 4095, 4096, 4097, 2**24 - 1, 2**24, 2**24 + 1],
        "shifts": [k << 24 for k in range(0, 65, 4)],
        "last-ones": [
            (39 << 24) + 5,
            (40 << 24) - 1,
            40 << 24,
            (40 << 24) + 1,
            (41 << 24) - 1,
            41 << 24,
            (41 << 24) + 1,
        ],
        "shift-counts-that-wrap": [63 << 24, (64 << 24) - 1, 64 << 24],
        "drawn": [word % 2**29 for word in draws(12, 40)],
    }
    for name, inputs in drops.items():
        title = f"the weight W: {name.replace('-', ' ')}"
        out.append(values(f"weight-{name}", title, "S-SAMP-5", "W", inputs, [ref.weight(drop) for drop in inputs]))
    logits = {
        "zeros": ["00000000", "80000000"],
        "halves": [bits_of(x) for x in (1.0, -1.0, 0.5, -0.5, 2.5, -2.5)],
        "floor-of-negatives": [bits_of(-x) for x in (0.1, 2**-24, 2**-25, 1e-45, 1 + 2**-23, 3.14159274)],
        "floor-of-positives": [bits_of(x) for x in (0.1, 2**-24, 2**-25, 1e-45, 1 + 2**-23, 3.14159274)],
        "capped": ["4d7fffff", "4d800000", "cd7fffff", "cd800000", "4d800001", "7f7fffff", "ff7fffff", "7f800000"],
        "subnormal": ["00000001", "80000001", "007fffff", "807fffff"],
        "drawn": [f"{(word & 0x807FFFFF) | (100 + word % 56) << 23:08x}" for word in draws(13, 40)],
    }
    for name, inputs in logits.items():
        title = f"the fixed-point logit F: {name.replace('-', ' ')}"
        results = [ref.fixed_logit(int(bits, 16)) for bits in inputs]
        out.append(values(f"logit-{name}", title, "S-SAMP-6", "F", inputs, results))
    heats = [1, 2, 3, 45875, 52429, 65535, 65536, 65537, 2**20, 2**31, F32]
    factors = [ref.log2_e_q32() * 2**16 // heat for heat in heats]
    out.append(values("factor", "the factor S of temperatures", "S-SAMP-6", "S", heats, factors))
    return out


# ---------------------------------------------------------------- the choice


def rows() -> dict[str, dict[int, str]]:
    spread = [bits_of((word % 4096 - 2048) / 128) for word in draws(2, 64)]
    flat = [bits_of((word % 16) / 1024) for word in draws(3, 200)]
    sparse = ((4, 9.5), (5, 9.25), (6, 3.0), (49151, 8.875), (1000, 9.5))
    return {
        "spread": dict(enumerate(spread)),
        "flat": dict(enumerate(flat)),
        "ties": dict(enumerate(bits_of(x) for x in (1.0, 2.0, 2.0, -0.0, 0.0, 2.0, 1.0))),
        "equal": dict(enumerate([bits_of(1.0)] * 4)),
        "zeros": dict(enumerate(["80000000", "00000000", "80000000"])),
        "masked": dict(enumerate([MINUS_INF, bits_of(1.5), MINUS_INF, bits_of(1.25), MINUS_INF])),
        "single": {7: bits_of(-3.0)},
        "huge": dict(enumerate(bits_of(x) for x in (3e38, -3e38, 3e38, 1e9, 0.0, 2.7e8, 2.6e8))),
        "tiny": dict(enumerate(bits_of(x) for x in (1e-45, 0.0, -1e-45, 1e-38, 6e-8, 5.9e-8))),
        "infinite": dict(enumerate(["7f800000", bits_of(1.0), "7f800000", MINUS_INF])),
        "sparse": {token: bits_of(x) for token, x in sparse},
        "wide": {token: bits_of((word % 65536 - 32768) / 2048) for token, word in enumerate(draws(4, 1024))},
        "far": dict(enumerate(bits_of(x) for x in (0.0, 300.0, 1.5, -40.5))),
        "example": dict(enumerate(["3f800000", "40200000", "bdcccccd", "40100000", "40200000"])),
    }


PLAIN = {"temperature": 65536, "top_k": 0, "top_p": 65536}
SETTINGS = {
    "greedy": {**PLAIN, "temperature": 0},
    "greedy-ignores-the-rest": {"temperature": 0, "top_k": 1, "top_p": 1},
    "plain": PLAIN,
    "warm": {**PLAIN, "temperature": 52429},
    "coldest": {**PLAIN, "temperature": 1},
    "hottest": {**PLAIN, "temperature": F32},
    "top-1": {**PLAIN, "top_k": 1},
    "top-3": {**PLAIN, "top_k": 3},
    "top-k-beyond": {**PLAIN, "top_k": 1 << 24},
    "least-top-p": {**PLAIN, "top_p": 1},
    "top-p": {**PLAIN, "top_p": 58982},
    "both": {"temperature": 45875, "top_k": 20, "top_p": 62259},
    "half-of-the-mass": {**PLAIN, "top_p": 32768},
    "example": {"temperature": 52429, "top_k": 4, "top_p": 62259},
    # What top-k takes away counts no more for top-p: in the other order, or of the whole mass, more tokens stay.
    "top-p-of-top-k": {**PLAIN, "top_k": 4, "top_p": 26214},
}  # on `equal`, half of the mass is reached exactly


def coupled() -> list[Vector]:
    out = []
    for row_name, row in rows().items():
        bits = {token: int(b, 16) for token, b in row.items()}
        for n, (name, parameters) in enumerate(SETTINGS.items()):
            seed, position = (0x0123456789ABCDEF, 1000 + n) if n % 2 else (7, 2**40 + n)
            if row_name == name == "example":
                seed, position = 0x0123456789ABCDEF, 17
            result = ref.choose(bits, parameters, seed, position)
            inner = {key: value for key, value in result.items() if key not in ("token", "margin")}
            if len(bits) > 100:  # the full lists would only be bulk
                inner = {key: value for key, value in inner.items() if not isinstance(value, list)}
            answer = {"token": result["token"], "margin": result["margin"]}
            pairs = [[token, b] for token, b in row.items()]
            request = compute("choose", row=pairs, **parameters, seed=seed, position=position)
            clauses = "S-SAMP-2 S-SAMP-3 S-SAMP-9" if parameters["temperature"] == 0 else "S-SAMP-6 S-SAMP-7 S-SAMP-9"
            title = f"a row of logits ({row_name}) with parameters: {name.replace('-', ' ')}"
            out.append(vector(f"choice/{row_name}-{name}", title, clauses, request, ok=answer, intermediates=inner))
            if n in (0, 2, 7) and len(bits) < 100:
                out.append(siblings(row_name, name, pairs, result, {**parameters, "seed": seed, "position": position}))
    bad = {
        "nan": [[0, "7fc00000"], [1, "3f800000"]],
        "negative-nan": [[0, "3f800000"], [1, "ffc00001"]],
        "signalling-nan": [[0, "3f800000"], [1, "7f800001"]],
        "nan-among-masked": [[0, MINUS_INF], [1, "3f800000"], [2, "7fffffff"]],
        "all-masked": [[0, MINUS_INF], [1, MINUS_INF]],
        "empty": [],
    }
    for name, pairs in bad.items():
        for heat in (0, 65536):
            request = compute("choose", row=pairs, **{**PLAIN, "temperature": heat}, seed=0, position=0)
            title = f"a row without an answer, at temperature {heat // 65536}: {name.replace('-', ' ')}"
            out.append(vector(f"choice/refused-{name}-{heat // 65536}", title, "S-SAMP-2", request, error="value"))
    return out + edges() + scores()


def edges() -> list[Vector]:
    """Rows that were looked for: equal scores of unequal logits; a sum of weights that just misses what is needed."""
    out = []
    for name, first in (("lower-id-has-the-higher-logit", True), ("lower-id-has-the-lower-logit", False)):
        row, position = tie(first)
        bits = {token: int(b, 16) for token, b in row.items()}
        result = ref.choose(bits, PLAIN, 5, position)
        if result["margin"] or result["token"] != min(row):
            raise ValueError("no tie")
        request = compute("choose", row=[[t, b] for t, b in row.items()], **PLAIN, seed=5, position=position)
        title = f"equal scores: the lowest id wins, though the logits differ ({name.replace('-', ' ')})"
        answer = {"token": result["token"], "margin": 0}
        inner = {key: result[key] for key in ("candidates", "drops", "noise", "scores")}
        out.append(vector(f"choice/equal-scores-{name}", title, "S-SAMP-7", request, ok=answer, intermediates=inner))
    row, top_p, position = brink()
    bits = {token: int(b, 16) for token, b in row.items()}
    how = {**PLAIN, "top_p": top_p}
    result = ref.choose(bits, how, 5, position)
    request = compute("choose", row=[[t, b] for t, b in row.items()], **how, seed=5, position=position)
    inner = {key: result[key] for key in ("candidates", "weights")}
    title = "the weight of the first token misses `need` by less than the lower half of a product"
    answer = {"token": result["token"], "margin": result["margin"]}
    out.append(vector("choice/need-in-its-low-bits", title, "S-SAMP-7", request, ok=answer, intermediates=inner))
    return out


def tie(first_is_higher: bool) -> tuple[dict[int, str], int]:
    """Two tokens, 3 and 8, whose scores at a position are equal: the noise makes up for the logits."""
    high, low = (3, 8) if first_is_higher else (8, 3)
    factor = ref.log2_e_q32()  # at temperature 1
    for position in range(100_000):
        gap = noise_of(position, low) - noise_of(position, high)
        difference = -(-gap * 2**32 // factor)
        # Below 1 a float32 has room for every multiple of 2^-24.
        if 0 < difference < 2**24 and difference * factor // 2**32 == gap:
            return {high: bits_of(0.0), low: bits_of(-difference / 2**24)}, position
    raise ValueError("none found")


def noise_of(position: int, token: int) -> int:
    return ref.noise(ref.stream(5, 1, position, token // 4)[token % 4])


def brink() -> tuple[dict[int, str], int, int]:
    """Two tokens and a top_p: the first one's weight lies between floor(Z >> 16) * top_p and what is needed."""
    one, factor = ref.weight(0), ref.log2_e_q32()
    for top_p in range(40_000, 65_000):
        for difference in around(top_p, one, factor):
            second = ref.weight(difference * factor // 2**32)
            total = one + second
            if (total >> 16) * top_p <= one < total * top_p >> 16:
                for position in range(1000):
                    # The second token's noise is so much higher that it wins, if it stays.
                    if noise_of(position, 8) - difference * factor // 2**32 > noise_of(position, 3):
                        return {3: bits_of(0.0), 8: bits_of(-difference / 2**24)}, top_p, position
    raise ValueError("none found")


def around(top_p: int, one: int, factor: int) -> range:
    """Differences of logits whose weight brings the need near the first one's."""
    wanted = one * 65536 // top_p - one
    low, high = 0, 2**24
    while low < high:
        middle = (low + high) // 2
        if ref.weight(middle * factor // 2**32) > wanted:
            low = middle + 1
        else:
            high = middle
    return range(max(0, low - 3), min(2**24, low + 3))


def scores() -> list[Vector]:
    """The nearest integer to -16 log2(p), capped at 255 (S-SAMP-11)."""
    cases = {
        "certain": (1, 1),
        "half": (1, 2),
        "quarter": (1, 4),
        "third": (1, 3),
        "two-thirds": (2, 3),
        "nearly-certain": (999999, 1000000),
        "rounds-up": (958, 1000),
        "rounds-down": (957, 1000),
        "cap-just-missed": (16322, 2**30),
        "cap": (1, 65536),
        "beyond-the-cap": (1, 2**32 - 1),
    }
    out = []
    with localcontext() as context:
        context.prec = 50
        for name, (weight, total) in cases.items():
            bits = -16 * (Decimal(weight) / Decimal(total)).ln() / Decimal(2).ln()
            answer = {"score": min(255, ref.nearest(bits))}
            title = f"the score of p = {weight}/{total}"
            request = compute("score", weight=weight, total=total)
            out.append(vector(f"score/{name}", title, "S-SAMP-11 D-5", request, ok=answer))
    return out


def siblings(row: str, name: str, pairs: list[list[Any]], result: dict, more: dict[str, int]) -> Vector:
    order = result["candidates"]
    if "scores" in result:
        scores = dict(zip(order, result["scores"], strict=True))
        order = sorted(order, key=lambda token: (-scores[token], token))
    request = compute("siblings", row=pairs, **more, count=4)
    title = f"the best tokens of a row ({row}), best first: {name}"
    return vector(f"siblings/{row}-{name}", title, "S-SAMP-10", request, ok={"tokens": order[:4]}, level="SHOULD")
