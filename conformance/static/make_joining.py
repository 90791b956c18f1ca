"""Vectors of sections 5 and 6: what an authority and a newcomer check, what a TXT record says."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from conformance.static.make_identity import KEYS, TOKEN, checked, point, spki, statement
from conformance.static.vectors import Vector, compute, numbers, vector

REFUSED = ("session", "JOIN_REFUSED")
NOW = 1_790_000_000
SECRET_ID, SECRET = TOKEN["secret_id"], TOKEN["secret"]
COMPRESSED = bytes.fromhex("3039301306072a8648ce3d020106082a8648ce3d030107032200") + b"\x02" + point(3)[1:33]


def proof(scalar: int, secret_id: bytes, secret: bytes, public: bytes, context: str = "dsdp-join/1") -> bytes:
    signed = statement(context.encode(), secret_id + secret + sha256(public).digest())
    return KEYS[scalar].sign(signed, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))


def joins() -> list[Vector]:
    good = {
        "secret_id": SECRET_ID,
        "secret": SECRET,
        "public_key": spki(1),
        "name": "desk-1",
        "proof": proof(1, SECRET_ID, SECRET, spki(1)),
    }
    other = bytes(16)
    cases: dict[str, tuple[str, dict[str, Any], dict[str, Any], bool]] = {
        "good": ("J-5", {}, {}, True),
        "in-the-last-second": ("J-6", {}, {"now": TOKEN["expires"] - 1}, True),
        "shortest-name": ("J-5", {"name": "x"}, {}, True),
        "longest-name": ("J-5", {"name": "N" * 48}, {}, True),
        "name-of-all-kinds": ("J-5", {"name": "9a.B_c-d"}, {}, True),
        "expired": ("J-6", {}, {"now": TOKEN["expires"] + 1}, False),
        "another-secret": ("J-6", {"secret": other, "proof": proof(1, SECRET_ID, other, spki(1))}, {}, False),
        "another-secret-id": ("J-6", {"secret_id": bytes(8), "proof": proof(1, bytes(8), SECRET, spki(1))}, {}, False),
        "proof-by-another-key": ("J-5", {"proof": proof(2, SECRET_ID, SECRET, spki(1))}, {}, False),
        "proof-of-another-key": ("J-5", {"proof": proof(1, SECRET_ID, SECRET, spki(2))}, {}, False),
        "proof-of-another-secret": ("J-5", {"proof": proof(1, SECRET_ID, other, spki(1))}, {}, False),
        "proof-in-another-context": (
            "J-5 N-6",
            {"proof": proof(1, SECRET_ID, SECRET, spki(1), "dsdp-join/2")},
            {},
            False,
        ),
        "no-proof": ("J-5", {"proof": b""}, {}, False),
        "key-that-is-not-canonical": (
            "J-5 N-2",
            {"public_key": COMPRESSED, "proof": proof(3, SECRET_ID, SECRET, COMPRESSED)},
            {},
            False,
        ),
        "no-key": ("J-5", {"public_key": b"", "proof": proof(1, SECRET_ID, SECRET, b"")}, {}, False),
        "empty-name": ("J-5", {"name": ""}, {}, False),
        "name-too-long": ("J-5", {"name": "N" * 49}, {}, False),
        "name-with-a-space": ("J-5", {"name": "desk 1"}, {}, False),
        "name-that-begins-with-a-hyphen": ("J-5", {"name": "-desk"}, {}, False),
        "name-with-an-umlaut": ("J-5", {"name": "Büro"}, {}, False),
        "name-with-a-line-feed": ("J-5", {"name": "desk\n"}, {}, False),
    }
    out = []
    for name, (clauses, change, more, taken) in cases.items():
        join = numbers({**good, **change})
        given = {"secret_id": SECRET_ID, "secret": SECRET, "expires": TOKEN["expires"], "now": NOW, **more}
        request = compute("check_join", **given, join=join)
        title = f"an authority {'takes' if taken else 'refuses'} a JOIN: {name.replace('-', ' ')}"
        answer = {"node_id": sha256(spki(1)).hexdigest()}
        result: dict[str, Any] = {"ok": answer} if taken else {"error": REFUSED}
        out.append(vector(f"join/{name}", title, clauses, request, **result))
    return out


def certificate(subject: int, issuer: int, name: str, issued_by: str, authority: bool) -> bytes:
    """A certificate by clauses T-3 and T-4; keys by their private scalars."""
    begin, end = datetime(2026, 1, 1, tzinfo=UTC), datetime(2076, 1, 1, tzinfo=UTC)
    usage = x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=authority, crl_sign=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issued_by)]))
        .public_key(KEYS[subject].public_key())
        .serial_number(1000 + subject)
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(authority, 0 if authority else None), critical=True)
        .add_extension(usage, critical=True)
    )
    return builder.sign(KEYS[issuer], hashes.SHA256(), ecdsa_deterministic=True).public_bytes(Encoding.DER)


def answers() -> list[Vector]:
    authority, pin = certificate(2, 2, "authority", "authority", True), sha256(spki(2)).digest()
    node = certificate(1, 2, "node", "authority", False)
    other_pin = sha256(spki(3)).digest()
    rogue = certificate(3, 3, "authority", "authority", True)
    good = {"certificate": node, "authority": authority, "cluster": pin[:16]}
    cases: dict[str, tuple[dict[str, Any], bool]] = {
        "good": ({}, True),
        "another-authority": (
            {"authority": rogue, "certificate": certificate(1, 3, "node", "authority", False)},
            False,
        ),
        "authority-that-did-not-issue": ({"authority": rogue}, False),
        "certificate-by-another-authority": ({"certificate": certificate(1, 3, "node", "authority", False)}, False),
        "certificate-that-signs-itself": ({"certificate": certificate(1, 1, "node", "node", False)}, False),
        "certificate-for-another-key": ({"certificate": certificate(3, 2, "node", "authority", False)}, False),
        "another-cluster": ({"cluster": other_pin[:16]}, False),
        "authority-in-place-of-the-certificate": ({"certificate": authority}, False),
        "cut-certificate": ({"certificate": node[:-1]}, False),
        "no-certificate": ({"certificate": b""}, False),
        "changed-certificate": ({"certificate": node[:-1] + bytes([node[-1] ^ 1])}, False),
    }
    out = []
    for name, (change, taken) in cases.items():
        given = {"cluster": pin[:16], "authority": pin, "spki": spki(1)}
        request = compute("check_joined", **given, joined=numbers({**good, **change}))
        title = f"a newcomer {'takes' if taken else 'discards'} a JOINED: {name.replace('-', ' ')}"
        result: dict[str, Any] = {"ok": {}} if taken else {"error": "value"}
        out.append(vector(f"join/answer-{name}", title, "J-7 T-3", request, **result))
    return out


def announcements() -> list[Vector]:
    name = sha256(spki(1)).digest()
    plain = {
        "v": "1-1",
        "id": checked(name),
        "in": "9f86d081884c7d65",
        "c": "1b4f0e9851971998e732078544c96b36",
        "r": "3,4",
        "m": "smollm2-135m,*",
    }
    said = {
        "versions": [1, 1],
        "node_id": name.hex(),
        "instance": plain["in"],
        "cluster": plain["c"],
        "roles": [3, 4],
        "models": ["smollm2-135m"],
        "more": True,
    }

    def strings(change: dict[str, Any] | None = None, *more: bytes) -> list[bytes]:
        values = {**plain, **(change or {})}
        return [f"{key}={value}".encode() for key, value in values.items() if value is not None] + list(more)

    good: dict[str, tuple[str, list[bytes], dict[str, Any]]] = {
        "example": ("DI-4 DI-5 DI-6 DI-7", strings(), {}),
        "without-models": ("DI-7 DI-9", strings({"m": None}), {"models": [], "more": False}),
        "no-mark": ("DI-7", strings({"m": "a,b"}), {"models": ["a", "b"], "more": False}),
        "mark-alone": ("DI-7", strings({"m": "*"}), {"models": [], "more": True}),
        "names-in-utf-8": ("DI-7", strings({"m": "größe,模型"}), {"models": ["größe", "模型"], "more": False}),
        "range-of-versions": ("DI-4", strings({"v": "1-65535"}), {"versions": [1, 65535]}),
        "versions-of-others": ("DI-4", strings({"v": "2-3"}), {"versions": [2, 3]}),
        "no-roles": ("DI-6", strings({"r": ""}), {"roles": []}),
        "all-roles": ("DI-6", strings({"r": "1,2,3,4,5"}), {"roles": [1, 2, 3, 4, 5]}),
        "unknown-roles-of-both-parities": ("DI-6", strings({"r": "3,6,7,49152,65535"}), {"roles": [3]}),
        "sixteen-roles": ("DI-6", strings({"r": ",".join(map(str, range(1, 17)))}), {"roles": [1, 2, 3, 4, 5]}),
        "unknown-keys": ("DI-9", strings(None, b"x=1", b"flag", b"zz=\xff\x00"), {}),
        "keys-in-upper-case": (
            "DI-9",
            [string.replace(b"id=", b"ID=").replace(b"v=", b"V=") for string in strings()],
            {},
        ),
        "the-first-of-two-counts": ("DI-9", strings(None, b"r=1", b"R=2", b"v=x"), {}),
        "any-order": ("DI-9", strings()[::-1], {}),
    }
    out = []
    for tag, (clauses, given, change) in good.items():
        request = compute("read_txt", strings=given)
        title = f"a TXT record: {tag.replace('-', ' ')}"
        out.append(vector(f"announcement/{tag}", title, clauses, request, ok={**said, **change}))
    bad: dict[str, tuple[str, list[bytes]]] = {
        f"without-{key}": ("DI-9", strings({key: None})) for key in ("v", "id", "in", "c", "r")
    }
    changes: dict[str, tuple[str, dict[str, str]]] = {
        "versions-swapped": ("DI-4", {"v": "2-1"}),
        "one-version": ("DI-4", {"v": "1"}),
        "version-0": ("DI-4", {"v": "0-1"}),
        "version-65536": ("DI-4", {"v": "1-65536"}),
        "version-with-a-zero-in-front": ("DI-4", {"v": "01-1"}),
        "three-versions": ("DI-4", {"v": "1-2-3"}),
        "version-with-a-space": ("DI-4", {"v": "1 -1"}),
        "versions-missing": ("DI-4", {"v": "-"}),
        "wrong-check-digits": ("DI-5 N-3", {"id": checked(name)[:-1] + ("a" if checked(name)[-1] != "a" else "b")}),
        "id-cut": ("DI-5", {"id": checked(name)[:-1]}),
        "id-empty": ("DI-5", {"id": ""}),
        "instance-too-short": ("DI-5", {"in": "9f86d081884c7d6"}),
        "instance-in-upper-case": ("DI-5", {"in": "9F86D081884C7D65"}),
        "instance-no-hexadecimal": ("DI-5", {"in": "9f86d081884c7d6g"}),
        "cluster-too-long": ("DI-5", {"c": "0" * 33}),
        "cluster-empty": ("DI-5", {"c": ""}),
        "role-with-a-zero-in-front": ("DI-6", {"r": "03"}),
        "role-65536": ("DI-6", {"r": "65536"}),
        "role-by-name": ("DI-6", {"r": "drafter"}),
        "roles-with-a-space": ("DI-6", {"r": "3, 4"}),
        "roles-with-a-comma-behind": ("DI-6", {"r": "3,"}),
        "seventeen-roles": ("DI-6", {"r": ",".join(map(str, range(1, 18)))}),
        "role-with-a-sign": ("DI-6", {"r": "+3"}),
    }
    bad |= {tag: (clauses, strings(change)) for tag, (clauses, change) in changes.items()}
    bad["id-no-utf-8"] = ("DI-5 DI-9", [b"id=\xff" if string.startswith(b"id=") else string for string in strings()])
    bad["too-long"] = ("DI-8", strings(None, *(b"x%d=" % n + b"y" * 190 for n in range(7))))
    bad["empty"] = ("DI-9", [])
    for tag, (clauses, given) in bad.items():
        request = compute("read_txt", strings=given)
        title = f"an announcement that is ignored: {tag.replace('-', ' ')}"
        out.append(vector(f"announcement/ignored-{tag}", title, clauses, request, error="value"))
    return out


def make() -> list[Vector]:
    return joins() + answers() + announcements()
