"""Vectors of section 8: every kind of item that is taken, every way in which bytes are refused."""

from __future__ import annotations

from typing import Any

from conformance.static.vectors import Vector, vector
from conformance.static.wirebytes import (
    ARRAY,
    BYTES,
    MAP,
    NEGATIVE,
    TAG,
    TEXT,
    array,
    bstr,
    head,
    item_bytes,
    item_json,
    mapping,
    tstr,
    uint,
)

BAD, LOOSE = ("cbor", "CBOR_MALFORMED"), ("cbor", "CBOR_NOT_DETERMINISTIC")
U64 = (1 << 64) - 1
SAMPLE: dict[int, Any] = {
    1: 300,
    2: bytes(range(30)),
    24: "Ġ zwölf \U0001f600",
    300: [0, 70000, b"\x01", {5: [1, 2]}],
    70000: {},
}


def ask(data: bytes) -> dict[str, Any]:
    return {"verb": "decode", "layer": "cbor", "bytes": data.hex()}


def good(name: str, title: str, clauses: str, item: Any, data: bytes | None = None) -> Vector:
    data = item_bytes(item) if data is None else data
    return vector(f"cbor/{name}", title, clauses, ask(data), ok={"item": item_json(item)})


def bad(name: str, title: str, clauses: str, error: tuple[str, str], data: bytes) -> Vector:
    return vector(f"cbor/{name}", title, clauses, ask(data), error=error)


def accepted() -> list[Vector]:
    edges = [0, 1, 23, 24, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**53 - 1, 2**53, 2**53 + 1, U64]
    out = [good(f"uint-{value}", f"the unsigned integer {value}", "B-1 B-2 B-4", value) for value in edges]
    for size in (0, 1, 23, 24, 255, 256, 65535, 65536):
        out.append(good(f"bytes-{size}", f"a byte string of {size} bytes", "B-1 B-2 B-4", b"\xa5" * size))
        out.append(good(f"text-{size}", f"a text string of {size} bytes", "B-1 B-2 B-4", "x" * size))
    for count in (0, 1, 23, 24, 256):
        out.append(good(f"array-{count}", f"an array of {count} items", "B-1 B-2 B-4", [7] * count))
        out.append(good(f"map-{count}", f"a map of {count} entries", "B-1 B-3 B-4", dict.fromkeys(range(count), 7)))
    keys = {0: 0, 23: 1, 24: 2, 255: 3, 256: 4, 65535: 5, 65536: 6, 2**32 - 1: 7, 2**32: 8, U64: 9}
    texts = {
        "two-bytes": "é",
        "three-bytes": "\uffff",
        "four-bytes": "\U0010ffff",
        "nul": "a\0b",
        "lines": "\r\n\u2028",
    }
    out += [good(f"text-of-{name}", f"text: {text!a}", "B-7", text) for name, text in texts.items()]
    out += [
        good("keys-of-every-size", "map keys ascend over all sizes of integers", "B-3", keys),
        good("depth-4-maps", "maps nested four deep", "B-5", {1: {1: {1: {}}}}),
        good("depth-4-arrays", "arrays nested four deep", "B-5", [[[[]]]]),
        good("depth-4-mixed", "maps and arrays count alike", "B-5", {1: [{2: [3]}]}),
        good(
            "siblings-do-not-add-depth",
            "many containers beside each other are no depth",
            "B-5",
            {1: [[]] * 30, 2: [{}] * 5},
        ),
        good("sample", "all five kinds in one item", "B-1 B-2 B-3", SAMPLE),
        good("equal-values", "equal values under different keys are no duplicates", "B-3", {1: 1, 2: 1, 3: "1"}),
    ]
    return out


def longer_than_needed() -> list[Vector]:
    out = []
    for value, sizes in (
        (0, (1, 2, 4, 8)),
        (23, (1, 2, 4, 8)),
        (24, (2, 4, 8)),
        (255, (2, 4, 8)),
        (256, (4, 8)),
        (65535, (4, 8)),
        (65536, (8,)),
        (2**32 - 1, (8,)),
    ):
        for size in sizes:
            title = f"{value} in {size} bytes"
            out.append(bad(f"uint-{value}-in-{size}", title, "B-4", LOOSE, uint(value, size)))
    for size in (1, 2, 4, 8):
        out += [
            bad(
                f"bytes-length-in-{size}",
                f"length 3 of a byte string in {size} bytes",
                "B-4",
                LOOSE,
                bstr(b"abc", size),
            ),
            bad(
                f"text-length-in-{size}", f"length 3 of a text string in {size} bytes", "B-4", LOOSE, tstr("abc", size)
            ),
            bad(
                f"array-count-in-{size}",
                f"count 1 of an array in {size} bytes",
                "B-4",
                LOOSE,
                array(uint(1), size=size),
            ),
            bad(
                f"map-count-in-{size}",
                f"count 1 of a map in {size} bytes",
                "B-4",
                LOOSE,
                mapping((uint(1), uint(1)), size=size),
            ),
            bad(f"map-key-in-{size}", f"map key 1 in {size} bytes", "B-4", LOOSE, mapping((uint(1, size), uint(1)))),
            bad(f"empty-map-in-{size}", f"an empty map, its count in {size} bytes", "B-4", LOOSE, mapping(size=size)),
        ]
    for name, major, end in (
        ("bytes", BYTES, b"\x41a\xff"),
        ("text", TEXT, b"\x61a\xff"),
        ("array", ARRAY, b"\x01\xff"),
        ("map", MAP, b"\x01\x01\xff"),
    ):
        data = bytes([major << 5 | 31]) + end
        out.append(bad(f"indefinite-{name}", f"a {name} item of indefinite length", "B-4", LOOSE, data))
        out.append(bad(f"indefinite-{name}-within", "the same as a value of a map", "B-4", LOOSE, b"\xa1\x01" + data))
    deep = b"\xa2\x01\xa1\x01\x18\x05\x02\x00"
    out.append(bad("longer-deep-inside", "an integer in too many bytes, within a map within a map", "B-4", LOOSE, deep))
    return out


def keys() -> list[Vector]:
    one = uint(1)
    wrong = {
        "bytes": bstr(b"\x01"),
        "text": tstr("a"),
        "array": array(),
        "map": mapping(),
        "negative": head(NEGATIVE, 0),
        "true": b"\xf5",
        "null": b"\xf6",
        "float": b"\xf9\x3c\x00",
        "tag": b"\xc1\x01",
    }
    out = [
        bad(f"key-{name}", f"a map key that is {name}", "B-3", BAD, mapping((key, one))) for name, key in wrong.items()
    ]
    orders = {
        "swapped": (2, 1),
        "descending-at-the-end": (1, 2, 4, 3),
        "sizes-swapped": (256, 24),
        "large-first": (U64, 0),
        "length-first-order": (24, 23),
    }
    for name, order in orders.items():
        data = mapping(*((uint(key), one) for key in order))
        out.append(bad(f"keys-{name}", f"map keys {', '.join(map(str, order))}", "B-3", LOOSE, data))
    twice = mapping((uint(1), one), (uint(1), one))
    out += [
        bad("key-twice", "a map key twice, with equal values", "B-3", LOOSE, twice),
        bad(
            "key-twice-other-value",
            "a map key twice, with other values",
            "B-3",
            LOOSE,
            mapping((one, uint(0)), (one, uint(2))),
        ),
        bad("key-twice-in-an-array", "a key twice in a map within an array", "B-3", LOOSE, array(twice)),
        bad(
            "key-twice-apart",
            "a key again behind others",
            "B-3",
            LOOSE,
            mapping(*((uint(k), one) for k in (1, 2, 3, 1))),
        ),
        bad(
            "key-twice-in-an-ignored-value",
            "a key twice within what a receiver would ignore",
            "B-1 B-3",
            LOOSE,
            mapping((uint(33), twice)),
        ),
    ]
    return out


def forbidden() -> list[Vector]:
    items = {
        "negative-1": head(NEGATIVE, 0),
        "negative-25": head(NEGATIVE, 24),
        "negative-2-to-the-64": head(NEGATIVE, U64),
        "false": b"\xf4",
        "true": b"\xf5",
        "null": b"\xf6",
        "undefined": b"\xf7",
        "simple-0": b"\xe0",
        "simple-32": b"\xf8\x20",
        "simple-255": b"\xf8\xff",
        "simple-in-two-bytes-below-32": b"\xf8\x01",
        "half-float": b"\xf9\x3c\x00",
        "half-nan": b"\xf9\x7e\x00",
        "single-float": b"\xfa\x3f\x80\x00\x00",
        "double-float": b"\xfb\x3f\xf0" + bytes(6),
        "integral-float": b"\xf9\x00\x00",
        "tag-0": head(TAG, 0) + tstr("2026-01-01T00:00:00Z"),
        "tag-1": head(TAG, 1) + uint(1),
        "bignum": head(TAG, 2) + bstr(b"\x01"),
        "negative-bignum": head(TAG, 3) + bstr(b"\x01"),
        "decimal-fraction": head(TAG, 4) + array(uint(1), uint(2)),
        "tag-24": head(TAG, 24) + bstr(b"\x00"),
        "shared-value": head(TAG, 28) + array(),
        "shared-reference": head(TAG, 29) + uint(0),
        "self-described": head(TAG, 55799) + mapping(),
        "tag-of-eight-bytes": head(TAG, U64) + uint(0),
        "break": b"\xff",
    }
    out = []
    for name, data in items.items():
        title = name.replace("-", " ")
        out.append(bad(f"forbidden-{name}", title, "B-2", BAD, data))
        out.append(
            bad(f"forbidden-{name}-within", f"{title}, as a value of a map", "B-2 B-1", BAD, mapping((uint(1), data)))
        )
    for major in range(6):
        for info in (28, 29, 30):
            data = bytes([major << 5 | info])
            title = f"reserved additional information {info} in major type {major}"
            out.append(bad(f"reserved-{major}-{info}", title, "B-1", BAD, data + bytes(8)))
    out.append(bad("reserved-0-31", "an integer of indefinite length", "B-1", BAD, b"\x1f"))
    return out


def broken() -> list[Vector]:
    texts = {
        "lone-continuation": b"\x80",
        "truncated-two": b"a\xc3",
        "truncated-three": b"\xe2\x82",
        "truncated-four": b"\xf0\x9f\x98",
        "overlong-slash": b"\xc0\xaf",
        "overlong-nul": b"\xc0\x80",
        "overlong-three": b"\xe0\x80\xaf",
        "surrogate": b"\xed\xa0\x80",
        "surrogate-pair": b"\xed\xa0\xbd\xed\xb8\x80",
        "beyond-unicode": b"\xf4\x90\x80\x80",
        "ff": b"ok\xff",
        "latin-1": b"caf\xe9",
    }
    out = [
        bad(f"utf8-{name}", f"text with {name.replace('-', ' ')}", "B-7", BAD, tstr(data))
        for name, data in texts.items()
    ]
    out.append(
        bad(
            "utf8-within",
            "bad UTF-8 deep in a value that a receiver would ignore",
            "B-1 B-7",
            BAD,
            mapping((uint(33), array(tstr(b"\xff")))),
        )
    )
    nested = {
        "maps": ({1: {1: {1: {1: {}}}}}),
        "arrays": [[[[[]]]]],
        "mixed": {1: [{2: [{}]}]},
        "beside": {1: 1, 2: [[[[]]]]},
    }
    out += [bad(f"depth-5-{name}", f"five deep: {name}", "B-5", BAD, item_bytes(item)) for name, item in nested.items()]
    out.append(bad("depth-200", "two hundred arrays, one in the other", "B-5", BAD, b"\x81" * 200 + b"\x00"))
    out.append(bad("depth-50000", "fifty thousand maps, one in the other", "B-5", BAD, b"\xa1\x01" * 50000 + b"\x00"))
    for name, rest in (
        ("zero", b"\x00"),
        ("copy", b"\xa1\x01\x07"),
        ("break", b"\xff"),
        ("spaces", b"  "),
        ("garbage", b"\x1f"),
    ):
        out.append(bad(f"behind-{name}", f"bytes behind the item: {name}", "B-6", BAD, b"\xa1\x01\x07" + rest))
    out.append(bad("behind-an-integer", "two integers", "B-6", BAD, b"\x01\x02"))
    huge = {"bytes": b"\x5b", "text": b"\x7b", "array": b"\x9b", "map": b"\xbb"}
    for name, first in huge.items():
        for bits in (40, 62, 64):
            size = (1 << bits) - 1
            title = f"a {name} item that claims 2^{bits}-1 of them, with nothing there"
            out.append(bad(f"huge-{name}-{bits}", title, "B-1", BAD, first + size.to_bytes(8, "big")))
    out.append(bad("empty", "no bytes at all", "B-1", BAD, b""))
    data = item_bytes(SAMPLE)
    for cut in range(1, len(data)):
        title = f"the sample, cut off after {cut} of {len(data)} bytes"
        out.append(bad(f"cut-{cut:03}", title, "B-1", BAD, data[:cut]))
    return out


def make() -> list[Vector]:
    return accepted() + longer_than_needed() + keys() + forbidden() + broken()
