"""Vectors of sections 4.2, 5.1 and 9.1: node ids, statements, signatures, join tokens, negotiation."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from conformance.static.sample_messages import Values, payload, sample
from conformance.static.vectors import Vector, compute, vector
from conformance.static.wirebytes import array, fields, uint

ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
P256_HEAD = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d030107034200")
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
KEYS = {scalar: ec.derive_private_key(scalar, ec.SECP256R1()) for scalar in (1, 2, 3, ORDER - 1)}
PREFIX = "dsdp-join-1-"


def point(scalar: int, form: PublicFormat = PublicFormat.UncompressedPoint) -> bytes:
    return KEYS[scalar].public_key().public_bytes(Encoding.X962, form)


def spki(scalar: int) -> bytes:
    return P256_HEAD + point(scalar)


def base32(data: bytes) -> str:
    bits = "".join(f"{byte:08b}" for byte in data)
    bits += "0" * (-len(bits) % 5)
    return "".join(ALPHABET[int(bits[at : at + 5], 2)] for at in range(0, len(bits), 5))


def checked(data: bytes) -> str:
    """Clause N-3."""
    return with_check(base32(data))


def with_check(body: str) -> str:
    value = sum(place * ALPHABET.index(character) for place, character in enumerate(body, 1)) % 1021
    return body + ALPHABET[value >> 5] + ALPHABET[value & 31]


def grouped(text: str) -> str:
    return "-".join(text[at : at + 6] for at in range(0, len(text), 6))


# ---------------------------------------------------------------- node ids


def node_ids() -> list[Vector]:
    out = []
    for size in (0, 1, 2, 3, 4, 5, 16, 31, 32, 33, 200):
        data = bytes((37 * n + 11) % 256 for n in range(size))
        title = f"checked base32 of {size} bytes"
        out.append(
            vector(f"identity/checked-{size}", title, "N-3", compute("checked", bytes=data), ok={"text": checked(data)})
        )
    example = bytes(range(5))
    out.append(
        vector(
            "identity/checked-example",
            "checked base32 of 00 01 02 03 04",
            "N-3",
            compute("checked", bytes=example),
            ok={"text": "aaaqeayei4"},
        )
    )
    for scalar in KEYS:
        name = sha256(spki(scalar)).digest()
        answer = {"node_id": name.hex(), "text": grouped(checked(name))}
        tag = scalar if scalar < 9 else "highest"
        title = f"the node id of the P-256 key with the private scalar {tag}"
        out.append(
            vector(f"identity/node-id-{tag}", title, "N-1 N-3 T-6", compute("node_id", spki=spki(scalar)), ok=answer)
        )
    odd = {
        "compressed-point": bytes.fromhex("3039301306072a8648ce3d020106082a8648ce3d030107032200")
        + point(1, PublicFormat.CompressedPoint),
        "hybrid-point": P256_HEAD + bytes([6 + point(1)[-1] % 2]) + point(1)[1:],
        "not-on-the-curve": P256_HEAD + b"\x04" + bytes(63) + b"\x01",
        "at-infinity": bytes.fromhex("3019301306072a8648ce3d020106082a8648ce3d030107030200") + b"\x00",
        "cut": spki(1)[:-1],
        "byte-behind": spki(1) + b"\x00",
        "empty": b"",
        "long-length": bytes.fromhex("308159301306072a8648ce3d020106082a8648ce3d030107034200") + point(1),
        "unused-bits": P256_HEAD[:-1] + b"\x01" + point(1),
    }
    out += [refused_key(name, data) for name, data in odd.items()]
    curves = {"p-384": ec.SECP384R1(), "secp256k1": ec.SECP256K1()}
    out += [refused_key(name, der(ec.derive_private_key(5, curve))) for name, curve in curves.items()]
    numbers = rsa.RSAPublicNumbers(65537, (1 << 2047) + 1)
    out.append(refused_key("rsa", numbers.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)))
    ed = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32))).public_key()
    data = ed.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    name = sha256(data).digest()
    out.append(
        vector(
            "identity/node-id-ed25519",
            "the node id of an Ed25519 key",
            "N-1 T-4",
            compute("node_id", spki=data),
            ok={"node_id": name.hex(), "text": grouped(checked(name))},
            level="MAY",
        )
    )
    return out + texts()


def der(key: Any) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def refused_key(name: str, data: bytes) -> Vector:
    title = f"a public key that is refused: {name.replace('-', ' ')}"
    return vector(f"identity/key-{name}", title, "N-2", compute("node_id", spki=data), error="value")


def texts() -> list[Vector]:
    name = sha256(spki(1)).digest()
    text = checked(name)
    body = text[:-2]
    good = {
        "grouped": grouped(text),
        "plain": text,
        "upper-case": grouped(text).upper(),
        "mixed-case": text[:20].upper() + text[20:],
        "spaces": " " + text[:10] + "  " + text[10:] + "\n",
        "tabs-and-lines": text[:7] + "\t\r\n" + text[7:],
        "hyphens-anywhere": "--" + text[:1] + "-" + text[1:] + "-",
    }
    out = [
        vector(
            f"identity/text-{tag}",
            f"a node id as text: {tag.replace('-', ' ')}",
            "N-4",
            compute("read_node_id", text=given),
            ok={"node_id": name.hex()},
        )
        for tag, given in good.items()
    ]
    extremes = {"zeros": bytes(32), "ones": b"\xff" * 32}
    out += [
        vector(
            f"identity/text-{tag}",
            f"the text of 32 bytes: {tag}",
            "N-3 N-4",
            compute("read_node_id", text=grouped(checked(data))),
            ok={"node_id": data.hex()},
        )
        for tag, data in extremes.items()
    ]
    at = next(n for n in range(10, 50) if body[n] != body[n + 1])
    far = next(n for n in range(30, 50) if body[n] != body[2])
    spare = ALPHABET[ALPHABET.index(body[-1]) | 1]
    bad = {
        "one-character-wrong": text[:5] + ("a" if text[5] != "a" else "b") + text[6:],
        "last-check-character-wrong": text[:-1] + ("a" if text[-1] != "a" else "b"),
        "first-check-character-wrong": body + ("a" if text[-2] != "a" else "b") + text[-1],
        "neighbours-swapped": text[:at] + text[at + 1] + text[at] + text[at + 2 :],
        "far-ones-swapped": text[:2] + text[far] + text[3:far] + text[2] + text[far + 1 :],
        "too-short": with_check(body[:-1]),
        "too-long": with_check(body + "a"),
        "empty": "",
        "hyphens-alone": "---",
        "zero-for-o": "0" + text[1:],
        "one": "1" + text[1:],
        "eight": "8" + text[1:],
        "padding": text + "======",
        "underscore": text[:6] + "_" + text[6:],
        "other-script": "\u0430" + text[1:],
        "full-width": "\uff41" + text[1:],
        "spare-bits": with_check(body[:-1] + spare),
        "short-form": text[:8],
        "check-swapped": body + text[-1] + text[-2],
        "cut-in-the-middle": text[:30],
    }
    if text[-1] == text[-2]:
        del bad["check-swapped"]
    out += [
        vector(
            f"identity/text-refused-{tag}",
            f"no node id: {tag.replace('-', ' ')}",
            "N-4",
            compute("read_node_id", text=given),
            error="value",
        )
        for tag, given in bad.items()
    ]
    return out


# ---------------------------------------------------------------- statements


def statement(context: bytes, data: bytes) -> bytes:
    return b"DSDP statement v1\0" + bytes([len(context)]) + context + data


def statements() -> list[Vector]:
    out = []
    contexts = {"join": "dsdp-join/1", "shortest": "x", "longest": "y" * 255, "looks-like-a-label": "DSDP statement v1"}
    payloads = {"join": bytes(range(56)), "shortest": b"", "longest": bytes(300), "looks-like-a-label": b"\x00\x01"}
    for name, context in contexts.items():
        data = payloads[name]
        answer = {"statement": statement(context.encode(), data).hex()}
        request = compute("statement", context=context, payload=data)
        out.append(vector(f"statement/{name}", f"what is signed: {name.replace('-', ' ')}", "N-6", request, ok=answer))
    for name, context in {"empty": "", "too-long": "y" * 256}.items():
        request = compute("statement", context=context, payload=b"")
        out.append(vector(f"statement/context-{name}", f"a context that is {name}", "N-6", request, error="value"))
    key, context, data = KEYS[1], "dsdp-join/1", bytes(range(24)) + sha256(spki(1)).digest()
    signed = statement(context.encode(), data)
    good = key.sign(signed, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
    request = compute("sign", scalar=(1).to_bytes(32, "big"), context=context, payload=data)
    out.append(
        vector(
            "statement/sign",
            "a signature of one's own (any valid one; this one has the nonce of RFC 6979)",
            "N-7",
            request,
            ok={"signature": good.hex()},
            compare="signature",
        )
    )
    r, s = decode_dss_signature(good)
    other = KEYS[2].sign(signed, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
    bare = key.sign(data, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
    cases: dict[str, tuple[bytes, str, bytes, bytes, bool]] = {
        "good": (spki(1), context, data, good, True),
        "other-half-of-s": (spki(1), context, data, encode_dss_signature(r, ORDER - s), True),
        "another-key": (spki(2), context, data, good, False),
        "of-another-key": (spki(1), context, data, other, False),
        "another-context": (spki(1), "dsdp-join/2", data, good, False),
        "another-payload": (spki(1), context, data + b"\x00", good, False),
        "without-the-label": (spki(1), context, data, bare, False),
        "bit-flipped": (spki(1), context, data, good[:-1] + bytes([good[-1] ^ 1]), False),
        "cut": (spki(1), context, data, good[:-1], False),
        "empty": (spki(1), context, data, b"", False),
        "raw-r-and-s": (spki(1), context, data, r.to_bytes(32, "big") + s.to_bytes(32, "big"), False),
        "zeros": (spki(1), context, data, encode_dss_signature(0, 0), False),
        "byte-behind": (spki(1), context, data, good + b"\x00", False),
        "long-length": (spki(1), context, data, b"\x30\x81" + good[1:], False),
    }
    for name, (public, about, what, signature, valid) in cases.items():
        request = compute("verify_signature", spki=public, context=about, payload=what, signature=signature)
        title = f"a signature: {name.replace('-', ' ')}"
        out.append(vector(f"statement/verify-{name}", title, "N-6 N-7", request, ok={"valid": valid}))
    return out


# ---------------------------------------------------------------- join tokens


TOKEN: Values = {
    "cluster": sha256(spki(2)).digest()[:16],
    "authority": sha256(spki(2)).digest(),
    "secret_id": bytes(range(8)),
    "secret": bytes(range(16, 32)),
    "expires": 1_800_000_000,
    "addresses": ["192.0.2.7:7450", "[2001:db8::7]:7450"],
}


def token_bytes(token: Values) -> bytes:
    body = b"".join(token[name] for name in ("cluster", "authority", "secret_id", "secret"))
    body += token["expires"].to_bytes(8, "big") + bytes([len(token["addresses"])])
    return body + b"".join(bytes([len(address)]) + address.encode() for address in token["addresses"])


def join_tokens() -> list[Vector]:
    out = []
    tokens = {
        "example": TOKEN,
        "one-name": {**TOKEN, "addresses": ["authority.example.org:7450"]},
        "last-expiry": {**TOKEN, "expires": 2**64 - 1},
        "first-expiry": {**TOKEN, "expires": 0},
        "ports": {**TOKEN, "addresses": ["10.0.0.1:1", "10.0.0.1:65535"]},
    }
    for name, token in tokens.items():
        text = PREFIX + checked(token_bytes(token))
        title = f"a join token: {name.replace('-', ' ')}"
        out.append(vector(f"join-token/write-{name}", title, "J-1", compute("join_token", **token), ok={"text": text}))
        answer = compute("", **token)["input"]
        out.append(vector(f"join-token/read-{name}", title, "J-1", compute("read_join_token", text=text), ok=answer))
    text = PREFIX + checked(token_bytes(TOKEN))
    answer = compute("", **TOKEN)["input"]
    loose = {"upper-case": text.upper(), "spaces": " " + text[:40] + "\n  " + text[40:] + "\t"}
    out += [
        vector(
            f"join-token/read-{name}",
            f"a join token written with {name.replace('-', ' ')}",
            "J-1",
            compute("read_join_token", text=given),
            ok=answer,
        )
        for name, given in loose.items()
    ]
    body = token_bytes(TOKEN)
    plain = checked(body)
    more = {**TOKEN, "addresses": []}
    bad = {
        "empty": "",
        "prefix-alone": PREFIX,
        "without-prefix": plain,
        "another-version": "dsdp-join-2-" + plain,
        "another-prefix": "dsdp-node-1-" + plain,
        "wrong-check": PREFIX + plain[:-1] + ("a" if plain[-1] != "a" else "b"),
        "one-character-wrong": PREFIX + plain[:30] + ("a" if plain[30] != "a" else "b") + plain[31:],
        "cut": PREFIX + plain[:60],
        "no-addresses": PREFIX + checked(token_bytes(more)),
        "fewer-addresses-than-counted": PREFIX + checked(body[:80] + b"\x03" + body[81:]),
        "more-addresses-than-counted": PREFIX + checked(body[:80] + b"\x01" + body[81:]),
        "byte-behind": PREFIX + checked(body + b"\x00"),
        "ends-within-an-address": PREFIX + checked(body[:-3]),
        "ends-before-its-addresses": PREFIX + checked(body[:81]),
        "fixed-part-cut": PREFIX + checked(body[:70]),
        "port-0": PREFIX + checked(token_bytes({**TOKEN, "addresses": ["10.0.0.1:0"]})),
        "port-65536": PREFIX + checked(token_bytes({**TOKEN, "addresses": ["10.0.0.1:65536"]})),
        "no-port": PREFIX + checked(token_bytes({**TOKEN, "addresses": ["10.0.0.1"]})),
        "empty-address": PREFIX + checked(token_bytes({**TOKEN, "addresses": [""]})),
        "character-outside": PREFIX + plain[:30] + "0" + plain[31:],
    }
    out += [
        vector(
            f"join-token/refused-{name}",
            f"no join token: {name.replace('-', ' ')}",
            "J-1 N-4",
            compute("read_join_token", text=given),
            error="value",
        )
        for name, given in bad.items()
    ]
    return out


# ---------------------------------------------------------------- negotiation


def hello(**changes: Any) -> bytes:
    values = sample("HELLO")
    values |= {"version_min": 1, "version_max": 1, "roles": [1, 3], "features": [1, 3, 5], **changes}
    return payload("HELLO", values)


def heart(milliseconds: int) -> Values:
    return {"max_payload": 1 << 20, "max_channels": 9, "heartbeat_ms": milliseconds}


def negotiation() -> list[Vector]:
    pairs: dict[str, tuple[Values, Values, int, list[int], int]] = {
        "equal": ({}, {}, 1, [1, 3, 5], 0),
        "fewer-features": ({"features": [1, 3, 5]}, {"features": [3]}, 1, [3], 0),
        "no-features": ({"features": []}, {"features": [1, 3, 5]}, 1, [], 0),
        "odd-features-that-differ": ({"features": [1, 3]}, {"features": [1, 5]}, 1, [1], 0),
        "grease-in-both": ({"features": [1, 0x0A0B, 0x1A1B]}, {"features": [1, 0x0A0B, 0x2A2B]}, 1, [1], 0),
        "private-feature-in-one": ({"features": [1, 0xC001]}, {"features": [1]}, 1, [1], 0),
        "lower-version": ({"version_max": 7}, {"version_max": 1}, 1, [1, 3, 5], 0),
        "acceptor-beats-faster": ({"limits": heart(50)}, {"limits": heart(600000)}, 1, [1, 3, 5], 50),
        "dialer-beats-faster": ({"limits": heart(1000)}, {"limits": heart(999)}, 1, [1, 3, 5], 999),
        "unknown-odd-role": ({"roles": [1, 7, 0xC001]}, {}, 1, [1, 3, 5], 0),
        "several-roles": ({"roles": [1, 2, 3, 4, 5]}, {"roles": []}, 1, [1, 3, 5], 0),
    }
    out = []
    beat = sample("HELLO")["limits"]["heartbeat_ms"]
    for name, (one, other, version, features, heartbeat) in pairs.items():
        acceptor, dialer = hello(**one), hello(**{"node_id": b"\x77" * 32, **other})
        out.append(agreed(name, acceptor, dialer, version, features, heartbeat or beat))
    greased = fields([*entries(hello()), (33, array(uint(1), fields([(4, uint(2))])))])
    out.append(agreed("grease-key", greased, hello(features=[1]), 1, [1], beat))
    bad: dict[str, tuple[Values, Values, str]] = {
        "dialer-too-new": ({}, {"version_min": 2, "version_max": 3}, "C-7"),
        "acceptor-too-new": ({"version_min": 2, "version_max": 2}, {}, "C-7"),
        "even-feature": ({}, {"features": [1, 2]}, "R-1"),
        "even-feature-of-the-acceptor": ({"features": [1, 0xC000]}, {}, "R-1"),
        "even-role": ({}, {"roles": [1, 6]}, "R-1"),
        "even-private-role": ({"roles": [0xC000]}, {}, "R-1"),
    }
    for name, (one, other, clause) in bad.items():
        acceptor, dialer = hello(**one), hello(**{"node_id": b"\x77" * 32, **other})
        request = compute("negotiate", acceptor=acceptor, dialer=dialer)
        title = f"no connection: {name.replace('-', ' ')}"
        out.append(
            vector(f"negotiate/refused-{name}", title, clause, request, error=("session", "VERSION_UNSUPPORTED"))
        )
    return out


def entries(data: bytes) -> list[tuple[int, bytes]]:
    """The entries of the sample HELLO again, to add one behind them."""
    from conformance.static.sample_messages import pairs

    values = sample("HELLO")
    values |= {"version_min": 1, "version_max": 1, "roles": [1, 3], "features": [1, 3, 5]}
    out = pairs("HELLO", values)
    if fields(out) != data:
        raise ValueError("the sample has changed")
    return out


def agreed(name: str, acceptor: bytes, dialer: bytes, version: int, features: list[int], heartbeat: int) -> Vector:
    outcome = fields([(1, uint(version)), (2, array(*(uint(feature) for feature in features)))])
    answer = {
        "version": version,
        "features": features,
        "heartbeat_ms": heartbeat,
        "negotiated": sha256(acceptor + dialer + outcome).hexdigest(),
    }
    request = compute("negotiate", acceptor=acceptor, dialer=dialer)
    title = f"what two HELLOs come to: {name.replace('-', ' ')}"
    return vector(
        f"negotiate/{name}", title, "C-6 C-7 C-8", request, ok=answer, intermediates={"outcome": outcome.hex()}
    )


def make() -> list[Vector]:
    return node_ids() + statements() + join_tokens()
