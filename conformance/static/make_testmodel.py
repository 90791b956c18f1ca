"""Vectors of section 18, TM-1, and of what its nodes offer (11.3, 11.6). From `conformance.reference`."""

from __future__ import annotations

from hashlib import sha256
from struct import pack, unpack

from conformance import reference as ref
from conformance.static.make_sampling import F32, bits_of
from conformance.static.vectors import Vector, compute, vector

DEFAULTS = {"v": 4096, "s": 0, "e": 0, "a": 65536, "d": 0}
MODELS: dict[str, dict[str, int]] = {
    "tm-1:v=4096,s=7": {"s": 7},
    "tm-1:v=49152,s=18446744073709551615,e=2048": {"v": 49152, "s": 2**64 - 1, "e": 2048},
    "tm-1:v=8,s=1,e=65536": {"v": 8, "s": 1, "e": 65536},
    "tm-1:v=4096,s=7,a=52429,d=1": {"s": 7, "a": 52429, "d": 1},
    "tm-1:v=4096,s=7,a=52429,d=2": {"s": 7, "a": 52429, "d": 2},
    "tm-1:v=4096,s=7,a=0,d=3": {"s": 7, "a": 0, "d": 3},
    "tm-1:v=1048576,s=5,e=65536,a=1,d=4294967295": {"v": 1 << 20, "s": 5, "e": 65536, "a": 1, "d": F32},
}


def testmodel() -> list[Vector]:
    prefixes = [[], [0], [1, 2, 3], [2**32 - 1], [n * 37 % 4096 for n in range(20)], [5, 6], [6, 5], [5]]
    out = []
    for number, (name, changes) in enumerate(MODELS.items()):
        for n, tokens in enumerate(prefixes):
            context = ref.context_of(tokens)
            row = ref.tm1_row({**DEFAULTS, **changes}, context)
            answer = {"context": f"{context:016x}", "row": [[token, bits_of(row[token])] for token in sorted(row)]}
            clauses = "S-TM1-2 S-TM1-3" if changes.get("a", 65536) == 65536 else "S-TM1-2 S-TM1-4"
            request = compute("tm1_row", model=name, prefix=tokens)
            title = f"the row of {name} after {len(tokens)} tokens"
            out.append(vector(f"tm1/row-{number}-{n}", title, clauses, request, ok=answer))
    streams = {
        "greedy": ("tm-1:v=4096,s=7", 0, 0, 65536, 0),
        "warm": ("tm-1:v=4096,s=7", 52429, 0, 65536, 42),
        "top-2": ("tm-1:v=4096,s=7", 65536, 2, 65536, 2**64 - 1),
        "top-p": ("tm-1:v=4096,s=7", 65536, 0, 40000, 9),
        "drafter": ("tm-1:v=4096,s=7,a=52429,d=1", 52429, 0, 65536, 42),
        "ends": ("tm-1:v=8,s=1,e=65536", 0, 0, 65536, 0),
    }
    for name, (model, heat, top_k, top_p, seed) in streams.items():
        how = {"temperature": heat, "top_k": top_k, "top_p": top_p, "seed": seed}
        tokens = stream(model, [11, 22, 33], how, 32)
        request = compute("tm1_stream", model=model, prompt=[11, 22, 33], **how, count=32)
        title = f"32 tokens of {model}, decoded alone: {name}"
        out.append(vector(f"tm1/stream-{name}", title, "S-TM1-3 S-SAMP-7 S-TM1-5", request, ok={"tokens": tokens}))
    return out + brinks() + names()


def brinks() -> list[Vector]:
    """Chances met exactly: below `a` and `e` is yes, equal is no."""
    prefix = [1, 2, 3]
    context = ref.context_of(prefix)
    agreement = ref.stream(7, 17, context, 1)[3] % 65536
    end = ref.stream(7, 16, context, 0)[2] % 65536
    models = {
        "agrees-at-the-last-chance": {"a": agreement + 1, "d": 1},
        "does-not-agree-at-its-chance": {"a": agreement, "d": 1},
        "ends-at-the-last-chance": {"e": end + 1},
        "does-not-end-at-its-chance": {"e": end},
    }
    out = []
    for tag, more in models.items():
        model = {**DEFAULTS, "s": 7, **more}
        name = "tm-1:v=4096,s=7" + "".join(f",{key}={value}" for key, value in more.items())
        row = ref.tm1_row(model, context)
        answer = {"context": f"{context:016x}", "row": [[token, bits_of(row[token])] for token in sorted(row)]}
        request = compute("tm1_row", model=name, prefix=prefix)
        clauses = "S-TM1-4" if "a" in more else "S-TM1-3"
        out.append(vector(f"tm1/row-{tag}", f"a row: {tag.replace('-', ' ')}", clauses, request, ok=answer))
    return out


def stream(model: str, prompt: list[int], how: dict[str, int], count: int) -> list[int]:
    """What a TM-1 model decodes alone."""
    tokens = list(prompt)
    for _ in range(count):
        row = ref.tm1_row({**DEFAULTS, **MODELS[model]}, ref.context_of(tokens))
        bits = {token: unpack(">I", pack(">f", logit))[0] for token, logit in row.items()}
        tokens.append(ref.choose(bits, how, how["seed"], len(tokens))["token"])
    return tokens[len(prompt) :]


def names() -> list[Vector]:
    good = {
        "bare": ("tm-1", "tm-1:v=4096,s=0"),
        "seed": ("tm-1:s=7", "tm-1:v=4096,s=7"),
        "any-order": ("tm-1:d=0,a=65536,e=0,s=7,v=16", "tm-1:v=16,s=7"),
        "all-keys": ("tm-1:d=1,a=2,e=3,s=4,v=8", "tm-1:v=8,s=4,e=3,a=2,d=1"),
        "highest": ("tm-1:v=1048576,s=18446744073709551615,e=65536,a=65535,d=4294967295",) * 2,
        "drafter": ("tm-1:d=4294967295,a=0,s=3", "tm-1:v=4096,s=3,a=0,d=4294967295"),
    }
    out = [
        vector(
            f"tm1/name-{name}",
            f"the canonical name of {given}",
            "S-TM1-1",
            compute("tm1_name", name=given),
            ok={"canonical": canonical},
        )
        for name, (given, canonical) in good.items()
    ]
    bad = {
        "empty": "",
        "another-model": "tm-2",
        "upper-case": "TM-1",
        "no-keys": "tm-1:",
        "comma-at-the-end": "tm-1:v=4096,",
        "no-multiple-of-four": "tm-1:v=4094",
        "vocabulary-too-small": "tm-1:v=4",
        "vocabulary-too-large": "tm-1:v=1048580",
        "key-twice": "tm-1:v=4096,v=4096",
        "unknown-key": "tm-1:x=1",
        "sign": "tm-1:s=-1",
        "plus": "tm-1:s=+1",
        "leading-zero": "tm-1:s=07",
        "seed-too-large": "tm-1:s=18446744073709551616",
        "agreement-too-large": "tm-1:a=65537",
        "end-too-large": "tm-1:e=65537",
        "drafter-too-large": "tm-1:d=4294967296",
        "space-at-the-end": "tm-1:s=1 ",
        "space-inside": "tm-1:s=1, e=1",
        "line-feed-at-the-end": "tm-1:s=1\n",
        "no-value": "tm-1:s=",
        "no-equals": "tm-1:s",
        "other-digits": "tm-1:s=\u0661",
        "hexadecimal": "tm-1:s=0x10",
        "many-digits": "tm-1:s=" + "9" * 400,
    }
    out += [
        vector(
            f"tm1/refused-{name}",
            f"no name of a TM-1 model: {name.replace('-', ' ')}",
            "S-TM1-1",
            compute("tm1_name", name=given),
            error="value",
        )
        for name, given in bad.items()
    ]
    for n, model in enumerate(["tm-1:v=4096,s=7", "tm-1:v=8,s=1,e=65536"]):
        v = {**DEFAULTS, **MODELS[model]}["v"]
        entries = [str(token).encode() for token in range(v)]
        text = f"weights=none\ndtype=integers\nkernels=tm-1 {model}\nthreads=any\n"
        answer = {
            "vocabulary_size": v,
            "vocabulary_digest": vocabulary_digest(entries),
            "profile_text": text,
            "profile": sha256(text.encode()).hexdigest(),
        }
        out.append(
            vector(
                f"tm1/offer-{n}",
                f"vocabulary and profile of {model}",
                "S-11 S-16 S-TM1-5",
                compute("tm1_offer", model=model),
                ok=answer,
            )
        )
    lists = {
        "example": [b"a", b"", b"bc"],
        "nothing": [],
        "only-empty": [b"", b""],
        "any-bytes": [b"\xc4\xa0the", b"\xff\x00"],
    }
    for name, entries in lists.items():
        request = compute("vocabulary", entries=entries)
        title = f"the digest of a vocabulary: {name.replace('-', ' ')}"
        out.append(vector(f"vocabulary/{name}", title, "S-11", request, ok={"digest": vocabulary_digest(entries)}))
    return out


def vocabulary_digest(entries: list[bytes]) -> str:
    return sha256(b"".join(len(entry).to_bytes(4, "big") + entry for entry in entries)).hexdigest()
