"""Writes the test vectors of `conformance/vectors`: python -m conformance.make_vectors [--check]

--check writes nothing and fails if a file would change.
"""

from __future__ import annotations

import json
import sys
from hashlib import sha256
from pathlib import Path
from struct import pack, unpack

from conformance import reference as ref

VECTORS = Path(__file__).with_name("vectors")
MINUS_INF = "ff800000"


def h(value: int, digits: int) -> str:
    return f"{value:0{digits}x}"


def bits_of(x: float) -> str:
    return pack(">f", x).hex()


def draws(seed: int, n: int) -> list[int]:
    """Arbitrary but reproducible words for making up inputs."""
    return [word for block in range((n + 3) // 4) for word in ref.stream(seed, 0x8000_0000, 0, block)][:n]


def philox() -> dict:
    f = 2**32 - 1
    known = [
        ([0] * 4, [0] * 2, "Random123 kat_vectors"),
        ([f] * 4, [f] * 2, "Random123 kat_vectors"),
        ([0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344], [0xA4093822, 0x299F31D0], "Random123 kat_vectors"),
    ]
    bare = [
        {
            "counter": [h(w, 8) for w in counter],
            "key": [h(w, 8) for w in key],
            "words": [h(w, 8) for w in ref.philox(counter, key)],
            "source": source,
        }
        for counter, key, source in known
    ]
    layout = []
    for seed, domain, position, token in [
        (0, 1, 0, 0),
        (0x0123456789ABCDEF, 1, 0, 0),
        (0x0123456789ABCDEF, 1, 17, 49151),
        (0x0123456789ABCDEF, 2, 17, 49151),
        (2**64 - 1, 1, 2**64 - 1, 2**32 - 1),
        (7, 16, 0x0123456789ABCDEF, 3),
    ]:
        counter = [token // 4, domain, position % 2**32, position // 2**32]
        layout.append(
            {
                "seed": h(seed, 16),
                "domain": domain,
                "position": h(position, 16),
                "token": token,
                "counter": [h(w, 8) for w in counter],
                "key": [h(seed % 2**32, 8), h(seed // 2**32, 8)],
                "word": h(ref.stream(seed, domain, position, token // 4)[token % 4], 8),
            }
        )
    return {"bare": bare, "layout": layout}


def prefix() -> dict:
    cases = []
    for contract, tokens in [
        (b"", []),
        (b"", [0]),
        (b"contract", [1, 2, 3]),
        (bytes(range(64)), [49151, 0, 2**32 - 1, 65536]),
    ]:
        digests = ref.chain(contract, tokens)
        cases.append({"contract": contract.hex(), "tokens": tokens, "digests": [d.hex() for d in digests]})
    return {"cases": cases}


def noise() -> dict:
    edges = [0, 1, 2, 3, 4, 0xFF, 0x100, 0x7FFF_FFFE, 0x7FFF_FFFF, 0x8000_0000, 0x8000_0001]
    edges += [2**32 - 2**k for k in range(31)] + [2**k for k in range(3, 31, 3)]
    words = sorted({*edges, *draws(1, 40)})
    tables = {
        name: {
            "sha256": sha256(pack(">4097Q", *table)).hexdigest(),
            "first": table[:3],
            "middle": table[2048],
            "last": table[4096],
        }
        for name, table in zip(("log2", "tail", "exp2"), ref.tables())
    }
    drops = [0, 1, 4095, 4096, 2**24 - 1, 2**24, 3 * 2**24 + 12345678, 40 * 2**24, 41 * 2**24, 64 * 2**24]
    logits = ["00000000", "80000000", "3f800000", "bf800000", "3dcccccd", "bdcccccd", "00000001", "80000001"]
    logits += ["40490fdb", "c0490fdb", "33800000", "4d7fffff", "4d800000", "cd800000", "7f7fffff", "ff7fffff"]
    logits += ["7f800000", MINUS_INF]
    return {
        "tables": tables,
        "log2_e": ref.log2_e_q32(),
        "log2": [[n, ref.log2_q24(n)] for n in (1, 2, 3, 2**24, 2**24 + 1, 33 * 2**24, 2**33 - 1)],
        "noise": [[h(word, 8), ref.noise(word)] for word in words],
        "weights": [[drop, ref.weight(drop)] for drop in drops],
        "logits": [[bits, ref.fixed_logit(int(bits, 16))] for bits in logits],
        "factors": [[t, ref.log2_e_q32() * 2**16 // t] for t in (1, 45875, 52429, 65536, 2**20, 2**32 - 1)],
    }


def rows() -> dict[str, dict[int, str]]:
    spread = [bits_of((word % 4096 - 2048) / 128) for word in draws(2, 64)]
    flat = [bits_of((word % 16) / 1024) for word in draws(3, 200)]
    sparse = {token: bits_of(x) for token, x in ((4, 9.5), (5, 9.25), (6, 3.0), (49151, 8.875), (1000, 9.5))}
    return {
        "spread": dict(enumerate(spread)),
        "flat": dict(enumerate(flat)),
        "ties": dict(enumerate(bits_of(x) for x in (1.0, 2.0, 2.0, -0.0, 0.0, 2.0, 1.0))),
        "equal": dict(enumerate([bits_of(1.0)] * 4)),
        "masked": dict(enumerate([MINUS_INF, bits_of(1.5), MINUS_INF, bits_of(1.25), MINUS_INF])),
        "single": {7: bits_of(-3.0)},
        "huge": dict(enumerate(bits_of(x) for x in (3e38, -3e38, 3e38, 1e9, 0.0, 2.7e8, 2.6e8))),
        "tiny": dict(enumerate(bits_of(x) for x in (1e-45, 0.0, -1e-45, 1e-38, 6e-8, 5.9e-8))),
        "infinite": dict(enumerate(["7f800000", bits_of(1.0), "7f800000", MINUS_INF])),
        "sparse": sparse,
        "wide": {token: bits_of((word % 65536 - 32768) / 2048) for token, word in enumerate(draws(4, 1024))},
    }


def coupled() -> dict:
    plain = {"temperature": 65536, "top_k": 0, "top_p": 65536}
    settings = [
        {**plain, "temperature": 0},
        plain,
        {**plain, "temperature": 52429},
        {**plain, "temperature": 1},
        {**plain, "temperature": 2**32 - 1},
        {**plain, "top_k": 1},
        {**plain, "top_k": 3},
        {**plain, "top_p": 1},
        {**plain, "top_p": 58982},
        {"temperature": 45875, "top_k": 20, "top_p": 62259},
        {**plain, "top_p": 32768},  # on `equal` the weights reach the need exactly
    ]
    cases = []
    for name, row in rows().items():
        bits = {token: int(b, 16) for token, b in row.items()}
        for n, parameters in enumerate(settings):
            seed, position = (0x0123456789ABCDEF, 1000 + n) if n % 2 else (7, 2**40 + n)
            result = ref.choose(bits, parameters, seed, position)
            if len(bits) > 100:  # the full lists would only be bulk
                result = {key: value for key, value in result.items() if not isinstance(value, list)}
            where = {"seed": h(seed, 16), "position": h(position, 16)}
            cases.append({"row": name, **parameters, **where, **result})
    return {
        "rows": {name: {str(token): b for token, b in row.items()} for name, row in rows().items()},
        "refused": [
            {"row": {"0": "7fc00000", "1": "3f800000"}, "why": "NaN"},
            {"row": {"0": "3f800000", "1": "ffc00001"}, "why": "NaN"},
            {"row": {"0": MINUS_INF, "1": MINUS_INF}, "why": "no candidate"},
            {"row": {}, "why": "no candidate"},
        ],
        "cases": cases,
    }


def testmodel() -> dict:
    defaults = {"v": 4096, "s": 0, "e": 0, "a": 65536, "d": 0}
    models = {
        "tm-1:v=4096,s=7": {"s": 7},
        "tm-1:v=49152,s=18446744073709551615,e=2048": {"v": 49152, "s": 2**64 - 1, "e": 2048},
        "tm-1:v=8,s=1,e=65536": {"v": 8, "s": 1, "e": 65536},
        "tm-1:v=4096,s=7,a=52429,d=1": {"s": 7, "a": 52429, "d": 1},
        "tm-1:v=4096,s=7,a=52429,d=2": {"s": 7, "a": 52429, "d": 2},
        "tm-1:v=4096,s=7,a=0,d=3": {"s": 7, "a": 0, "d": 3},
    }
    prefixes = [[], [0], [1, 2, 3], [2**32 - 1], [n * 37 % 4096 for n in range(20)], [5, 6], [6, 5], [5]]
    rows = []
    for name, changes in models.items():
        for tokens in prefixes:
            context = ref.context_of(tokens)
            row = ref.tm1_row({**defaults, **changes}, context)
            rows.append(
                {
                    "model": name,
                    "prefix": tokens,
                    "context": h(context, 16),
                    "row": {str(token): bits_of(row[token]) for token in sorted(row)},
                }
            )
    streams = []
    for name, temperature, seed in [("tm-1:v=4096,s=7", 0, 0), ("tm-1:v=4096,s=7", 52429, 42)]:
        model, prefix = {**defaults, **models[name]}, [11, 22, 33]
        tokens: list[int] = []
        for _ in range(32):
            row = ref.tm1_row(model, ref.context_of(prefix + tokens))
            bits = {token: unpack(">I", pack(">f", logit))[0] for token, logit in row.items()}
            parameters = {"temperature": temperature, "top_k": 0, "top_p": 65536}
            tokens.append(ref.choose(bits, parameters, seed, len(prefix) + len(tokens))["token"])
        how = {"temperature": temperature, "top_k": 0, "top_p": 65536, "seed": h(seed, 16)}
        streams.append({"model": name, "prompt": prefix, **how, "tokens": tokens})
    names = [
        {"name": "tm-1", "canonical": "tm-1:v=4096,s=0"},
        {"name": "tm-1:s=7", "canonical": "tm-1:v=4096,s=7"},
        {"name": "tm-1:d=0,a=65536,e=0,s=7,v=16", "canonical": "tm-1:v=16,s=7"},
        {"name": "tm-1:d=4294967295,a=0,s=3", "canonical": "tm-1:v=4096,s=3,a=0,d=4294967295"},
    ]
    refused = ["", "tm-2", "TM-1", "tm-1:", "tm-1:v=4096,", "tm-1:v=4094", "tm-1:v=4", "tm-1:v=4096,v=4096"]
    refused += ["tm-1:x=1", "tm-1:s=-1", "tm-1:s=07", "tm-1:s=18446744073709551616", "tm-1:a=65537"]
    refused += ["tm-1:s=1 ", "tm-1:s=1\n"]
    return {"rows": rows, "streams": streams, "names": names, "refused_names": refused}


MAKERS = {"philox": philox, "prefix": prefix, "fixed": noise, "coupled": coupled, "testmodel": testmodel}


def main() -> int:
    check = "--check" in sys.argv[1:]
    changed = []
    for name, make in MAKERS.items():
        path = VECTORS / f"{name}.json"
        text = json.dumps({"about": f"DSDP test vectors: {name}", "revision": 1, **make()}, indent=1) + "\n"
        if not path.exists() or path.read_text() != text:
            changed.append(path.name)
            if not check:
                path.write_text(text)
    print(f"{len(MAKERS)} vector files, {'differ' if check else 'written'}: {', '.join(changed) or 'none'}")
    return 1 if check and changed else 0


if __name__ == "__main__":
    raise SystemExit(main())
