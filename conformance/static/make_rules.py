"""Vectors of the rules between the fields of one message (R-6 to R-9, Q-1, C-7), and of what is ignored (R-1)."""

from __future__ import annotations

from conformance.static.make_messages import bad, extended, good, rebuilt, slug
from conformance.static.sample_messages import GROUP, Values, framed, said, sample
from conformance.static.spec_tables import tables
from conformance.static.vectors import Vector
from conformance.static.wirebytes import array, bstr, fields, frame, head, mapping, tstr, uint


def odds() -> list[Vector]:
    """What a receiver ignores is still one item of strict CBOR; types beyond the table; payloads that are no maps."""
    malformed, loose = ("cbor", "CBOR_MALFORMED"), ("cbor", "CBOR_NOT_DETERMINISTIC")
    garbage = {
        "negative": (head(1, 0), malformed),
        "null": (b"\xf6", malformed),
        "float": (b"\xf9\x00\x00", malformed),
        "tag": (head(6, 1) + uint(1), malformed),
        "long-integer": (uint(1, 2), loose),
        "bad-text": (tstr(b"\xff"), malformed),
        "unsorted": (mapping((uint(2), uint(0)), (uint(1), uint(0))), loose),
        "indefinite": (b"\x9f\xff", loose),
    }
    ping = tables()["PING"]
    out = []
    for tag, (data, error) in garbage.items():
        out.append(
            bad(
                slug("ignored-key", tag),
                f"{tag} under an odd key that is ignored",
                "B-1 R-1",
                rebuilt(ping, extended(33, data)),
                error,
            )
        )
        out.append(
            bad(
                slug("ignored-type", tag),
                f"{tag} in a message of an unknown odd type",
                "B-1 R-1",
                frame(0xE1, 0, fields([(1, data)])),
                error,
            )
        )
    for code in (0x01, 0x03, 0x1F, 0x5D, 0x71, 0xC1, 0xDF, 0xE1, 0xE3, 0xFF):
        for channel in (0, 5):
            data = frame(code, channel, fields([(2, array(uint(1), fields([(4, tstr("x"))])))]))
            out.append(
                good(
                    slug("type", f"{code:02x}", "on", channel),
                    f"the unknown odd type {code:#04x} is ignored, even keys and all",
                    "R-1",
                    data,
                    {"type": "ignored", "channel": channel},
                )
            )
    for code in (0x00, 0x12, 0x1E, 0x2C, 0x3A, 0x4A, 0x5C, 0x6E, 0x74, 0xC0, 0xDE, 0xE0, 0xFE):
        out.append(
            bad(
                slug("type", f"{code:02x}"),
                f"the unknown even type {code:#04x} is refused",
                "R-1 K-5" if code in (0x5C, 0x6E) else "R-1 R-2" if code in (0xC0, 0xDE) else "R-1",
                frame(code, 0, mapping()),
                ("message", "MESSAGE_UNKNOWN"),
            )
        )
    for tag, data in {
        "array": array(),
        "uint": uint(0),
        "bytes": bstr(b""),
        "text": tstr(""),
        "array-of-a-map": array(mapping()),
    }.items():
        out.append(bad(slug("payload-is", tag), f"a payload that is {tag}", "B-8", frame(0x06, 0, data), malformed))
        out.append(
            bad(
                slug("ignored-payload-is", tag),
                f"a payload of an ignored type that is {tag}",
                "B-8 R-1",
                frame(0xE1, 0, data),
                malformed,
            )
        )
    out.append(bad("payload-empty", "a payload without bytes", "B-1", frame(0x0E, 0, b""), malformed))
    out.append(
        bad("payload-with-more", "a byte behind the map of a message", "B-6", frame(0x0E, 0, b"\xa0\x00"), malformed)
    )
    return out


def rules() -> list[Vector]:
    """Rules between the fields of one message."""
    out = []

    def check(
        tag: str,
        title: str,
        clauses: str,
        message: str,
        change: Values,
        drop: tuple[str, ...] = (),
        taken: bool = False,
    ) -> None:
        values = sample(message, full=True)
        for path, value in change.items():
            inner = values
            *way, last = path.split("/")
            for step in way:
                inner = inner[step]
            inner[last] = value
        for field in drop:
            del values[field]
        data = framed(message, values)
        if taken:
            out.append(good(tag, title, clauses, data, said(message, values)))
        else:
            out.append(bad(tag, title, clauses, data))

    check("versions-swapped", "version_min above version_max", "C-7", "HELLO", {"version_min": 2, "version_max": 1})
    check("versions-range", "a range of versions", "C-7", "HELLO", {"version_min": 1, "version_max": 65535}, taken=True)
    for field in ("roles", "features"):
        for tag, values in {"descending": [3, 1], "twice": [3, 3], "twice-apart": [1, 3, 1]}.items():
            check(slug(field, tag), f"{field} {values}", "R-6", "HELLO", {field: values})
        check(slug(field, "ascending"), f"{field} in order", "R-6", "HELLO", {field: [1, 3, 5, 0x0A0B]}, taken=True)
    for tag, values in {"descending": [5, 2], "twice": [2, 2]}.items():
        check(slug("stop-tokens", tag), f"stop tokens {values}", "R-6", "OPEN", {"contract/stop_tokens": values})
    entry = sample("DrafterEntry")
    for tag, order in {"descending": (2, 1), "twice": (1, 1)}.items():
        check(
            slug("drafters", tag),
            f"drafters numbered {order}",
            "R-6",
            "BLOCK",
            {"drafters": [{**entry, "number": n} for n in order]},
        )
    for message in ("OPEN", "ATTACH", "ASSIGN", "ENLIST"):
        small = {"contract/vocabulary_size": 100, "contract/prompt": [1, 99], "contract/stop_tokens": [99]}
        if message in ("ATTACH", "ASSIGN"):
            small["committed"] = [0, 99]
            check(
                slug(message, "committed-outside"),
                "a token of committed outside the vocabulary",
                "R-7",
                message,
                {**small, "committed": [0, 100]},
            )
        check(
            slug(message, "highest-tokens"),
            "tokens up to the highest of the vocabulary",
            "R-7",
            message,
            small,
            taken=True,
        )
        check(
            slug(message, "prompt-outside"),
            "a token of the prompt outside the vocabulary",
            "R-7",
            message,
            {**small, "contract/prompt": [100, 1]},
        )
        check(
            slug(message, "stop-outside"),
            "a stop token outside the vocabulary",
            "R-7",
            message,
            {**small, "contract/stop_tokens": [1, 100]},
        )
    for message in ("PROPOSE", "VERIFY"):
        scores = {} if message == "VERIFY" else {"scores": b"\x01\x02\x03"}
        tree = {"tokens": [7, 8, 9], **scores}
        for tag, parents in {"chain": b"\0\1\2", "star": b"\0\0\0", "fork": b"\0\1\1"}.items():
            check(
                slug(message, "parents", tag),
                f"parents {parents.hex()}",
                "R-8",
                message,
                {**tree, "parents": parents},
                taken=True,
            )
        for tag, parents in {
            "self": b"\1\1\2",
            "forward": b"\0\3\0",
            "last-forward": b"\0\1\3",
            "few": b"\0\1",
            "many": b"\0\1\2\3",
            "none": b"",
            "255": b"\0\xff\0",
        }.items():
            check(
                slug(message, "parents", tag),
                f"parents {parents.hex()} of three tokens",
                "R-8",
                message,
                {**tree, "parents": parents},
            )
    check("verify-empty", "a VERIFY without drafts", "R-5", "VERIFY", {"tokens": []}, ("parents",), taken=True)
    check(
        "verify-empty-parents",
        "a VERIFY without drafts, parents of no bytes",
        "R-8",
        "VERIFY",
        {"tokens": [], "parents": b""},
        taken=True,
    )
    for message, field in (("PROPOSE", "scores"), ("BLOCK", "origins")):
        for tag, values in {"few": b"\1\2", "many": b"\1\2\3\4", "none": b""}.items():
            check(
                slug(message, field, tag),
                f"{len(values)} {field} of three tokens",
                "R-8",
                message,
                {"tokens": [7, 8, 9], field: values},
            )
    check(
        "verdict-without-token", "a VERDICT without token and without finish", "R-9", "VERDICT", {}, ("token", "finish")
    )
    check("verdict-finish-alone", "a VERDICT without token, with finish", "R-9", "VERDICT", {}, ("token",), taken=True)
    check("verdict-token-alone", "a VERDICT with token, without finish", "R-9", "VERDICT", {}, ("finish",), taken=True)
    ids = GROUP
    for message in ("OPENED", "ENLIST"):
        for n in (1, 3, 5, 7, 9):
            check(
                slug(message, "group-of", n),
                f"a group of {n}",
                "Q-1",
                message,
                {"group": b"".join(ids[:n])},
                taken=True,
            )
        for n in (2, 4, 8):
            check(
                slug(message, "group-of", n), f"a group of {n}: not odd", "Q-1", message, {"group": b"".join(ids[:n])}
            )
        check(
            slug(message, "group-cut"),
            "a group that is no whole number of ids",
            "Q-1",
            message,
            {"group": b"".join(ids[:3])[:-1]},
        )
        check(
            slug(message, "group-twice"),
            "a group with an id twice",
            "Q-1",
            message,
            {"group": ids[0] + ids[1] + ids[0]},
        )
    return out


def make() -> list[Vector]:
    return odds() + rules()
