"""A second implementation of the sampling and TM-1 sections, straight from the text of SPEC.md.

Slow and plain, in unbounded integers, sharing no code with `dsdproto`: it produces the test vectors, so that
these check the fast code instead of repeating it. The tables come from 50-digit decimals.
"""

from __future__ import annotations

from decimal import ROUND_FLOOR, Decimal, localcontext
from functools import cache, lru_cache
from hashlib import sha256
from struct import pack, unpack

M32, M64 = 2**32 - 1, 2**64 - 1


def nearest(x: Decimal) -> int:
    return int((x + Decimal("0.5")).to_integral_value(rounding=ROUND_FLOOR))


@cache
def tables() -> tuple[list[int], list[int], list[int]]:
    with localcontext() as context:
        context.prec = 50
        ln2 = Decimal(2).ln()

        def log2(x: Decimal) -> Decimal:
            return x.ln() / ln2

        log_table = [nearest(2**24 * log2(1 + Decimal(j) / 4096)) for j in range(4097)]
        tail_table = [nearest(2**24 * log2(1 / ln2))]
        for j in range(1, 4097):
            t = Decimal(j) / 8192
            tail_table.append(nearest(2**24 * log2(-log2(1 - t) / t)))
        exp_table = [nearest(2**32 * (-Decimal(j) / 4096 * ln2).exp()) for j in range(4097)]
    return log_table, tail_table, exp_table


@cache
def log2_e_q32() -> int:
    with localcontext() as context:
        context.prec = 50
        return int(2**32 / Decimal(2).ln())


def philox(counter: list[int], key: list[int]) -> list[int]:
    x, k = list(counter), list(key)
    for _ in range(10):
        a, b = 0xD2511F53 * x[0], 0xCD9E8D57 * x[2]
        x = [b // 2**32 ^ x[1] ^ k[0], b % 2**32, a // 2**32 ^ x[3] ^ k[1], a % 2**32]
        k = [(k[0] + 0x9E3779B9) % 2**32, (k[1] + 0xBB67AE85) % 2**32]
    return x


@lru_cache(4096)
def stream(seed: int, domain: int, position: int, block: int) -> list[int]:
    return philox([block, domain, position & M32, position >> 32], [seed & M32, seed >> 32])


def log2_q24(n: int) -> int:
    table = tables()[0]
    e = n.bit_length() - 1
    fraction = n * 2 ** (36 - e) - 2**36
    j, r = divmod(fraction, 2**24)
    return e * 2**24 + table[j] + (table[j + 1] - table[j]) * r // 2**24


def noise(word: int) -> int:
    odd = 2 * word + 1
    if word < 2**31:
        return 24 * 2**24 - log2_q24(33 * 2**24 - log2_q24(odd))
    z = 2**33 - odd
    table = tables()[1]
    j, r = divmod(z, 2**20)
    return 33 * 2**24 - log2_q24(z) - (table[j] + (table[j + 1] - table[j]) * r // 2**20)


def float_of(bits: int) -> float:
    return unpack(">f", pack(">I", bits))[0]


def fixed_logit(bits: int) -> int:
    """floor(2^24 x), saturated at 2^28, from the bits of a float32 by integers alone."""
    sign, exponent, fraction = bits >> 31, bits >> 23 & 0xFF, bits & 0x7FFFFF
    assert not (exponent == 255 and fraction), "NaN"
    limit = 2**52
    if exponent == 255:
        value = limit
    else:
        mantissa = fraction + (2**23 if exponent else 0)
        shift = max(exponent, 1) - 150 + 24
        if shift >= 0:
            value = min(mantissa << shift, limit)
        else:
            whole, rest = divmod(mantissa, 2**-shift)
            value = whole + (1 if sign and rest else 0)
    return -min(value, limit) if sign else min(value, limit)


def weight(drop: int) -> int:
    table = tables()[2]
    j, r = divmod(drop % 2**24, 2**12)
    return (table[j] - (table[j] - table[j + 1]) * r // 2**12) * 2**8 // 2 ** (drop // 2**24)


def choose(bits: dict[int, int], parameters: dict[str, int], seed: int, position: int) -> dict:
    """bits: float32 bits by token id. Returns the token, the margin and every intermediate."""
    live = {token: b for token, b in bits.items() if b != 0xFF800000}
    order = sorted(live, key=lambda token: (-float_of(live[token]), token))
    fixed = {token: fixed_logit(live[token]) for token in order}
    if parameters["temperature"] == 0:
        gap = min(fixed[order[0]] - fixed[order[1]], M32) if len(order) > 1 else M32
        return {"token": order[0], "margin": gap, "candidates": order}
    if parameters["top_k"]:
        order = order[: parameters["top_k"]]
    factor = log2_e_q32() * 2**16 // parameters["temperature"]
    drops = {token: min((fixed[order[0]] - fixed[token]) * factor // 2**32, 64 * 2**24) for token in order}
    weights = {token: weight(drops[token]) for token in order}
    if parameters["top_p"] < 65536:
        need, mass, kept = max(sum(weights.values()) * parameters["top_p"] // 2**16, 1), 0, []
        for token in order:
            kept.append(token)
            mass += weights[token]
            if mass >= need:
                break
        order = kept
    noises = {token: noise(stream(seed, 1, position, token // 4)[token % 4]) for token in order}
    scores = {token: noises[token] - drops[token] for token in order}
    best = sorted(order, key=lambda token: (-scores[token], token))
    return {
        "token": best[0],
        "margin": scores[best[0]] - scores[best[1]] if len(best) > 1 else M32,
        "candidates": order,
        "factor": factor,
        "drops": [drops[token] for token in order],
        "weights": [weights[token] for token in order],
        "noise": [noises[token] for token in order],
        "scores": [scores[token] for token in order],
    }


def context_of(tokens: list[int]) -> int:
    c = 0x243F6A8885A308D3
    for token in tokens:
        c = (c ^ token) * 0x9E3779B97F4A7C15 % 2**64
        c ^= c >> 32
    return c


def tm1_row(model: dict[str, int], context: int) -> dict[int, float]:
    row = stream(model["s"], 17, context, model["d"])
    if model["a"] == 65536 or row[3] % 65536 < model["a"]:
        row = stream(model["s"], 16, context, 0)
    first = 4 + 4 * (row[0] * (model["v"] // 4 - 1) // 2**32)
    out = {first + j: (row[1] >> 8 * j & 0xFF) / 16 for j in range(4)}
    if row[2] % 65536 < model["e"]:
        out[0] = 24.0
    return out


def chain(contract: bytes, tokens: list[int]) -> list[bytes]:
    digests = [sha256(contract).digest()]
    for token in tokens:
        digests.append(sha256(digests[-1] + token.to_bytes(4, "big")).digest())
    return digests
