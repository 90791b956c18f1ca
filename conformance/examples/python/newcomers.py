"""Functions of `compute`: joining and announcements (SPEC.md, 5 and 6)."""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from conformance.examples.python.answers import Refused, from_json
from dsdproto import identity
from dsdproto.errors import PeerError
from dsdproto.identity import JOIN_CONTEXT, IdentityError
from dsdproto.registry import ErrorCode, Role
from dsdproto.wire.messages import Join

Input = dict[str, Any]
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,47}")
NUMBER = re.compile(r"0|[1-9][0-9]{0,4}")
MAX_TXT = 1300
KNOWN_ROLES = frozenset(int(role) for role in Role)


def check_join(given: Input) -> dict[str, Any]:
    join = from_json(Join, given["join"])
    secret_id, secret = bytes.fromhex(given["secret_id"]), bytes.fromhex(given["secret"])
    if (join.secret_id, join.secret) != (secret_id, secret):
        raise PeerError(ErrorCode.JOIN_REFUSED, "J-4", "another secret")
    if int(given["now"]) >= int(given["expires"]):
        raise PeerError(ErrorCode.JOIN_REFUSED, "J-6", "the token has expired")
    try:
        key = identity.load_spki(join.public_key)
    except IdentityError as error:
        raise PeerError(ErrorCode.JOIN_REFUSED, "J-5", str(error)) from error
    payload = identity.join_payload(join.secret_id, join.secret, join.public_key)
    if not identity.verify(key, JOIN_CONTEXT, payload, join.proof) or not NAME.fullmatch(join.name):
        raise PeerError(ErrorCode.JOIN_REFUSED, "J-5", "no proof, or no name")
    return {"node_id": identity.node_id_from_spki(join.public_key).hex()}


def check_joined(given: Input) -> dict[str, Any]:
    joined = given["joined"]
    try:
        node = x509.load_der_x509_certificate(bytes.fromhex(joined["certificate"]))
        authority = x509.load_der_x509_certificate(bytes.fromhex(joined["authority"]))
        node.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature) as error:
        raise Refused(f"no certificate of that authority: {error}") from error
    pin = sha256(public(authority)).hexdigest()
    if (pin, pin[:32], given["cluster"]) != (given["authority"], joined["cluster"], joined["cluster"]):
        raise Refused("another authority or cluster")
    if public(node).hex() != given["spki"]:
        raise Refused("the certificate is for another key")
    return {}


def public(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def read_txt(given: Input) -> dict[str, Any]:
    strings = [bytes.fromhex(string) for string in given["strings"]]
    if sum(1 + len(string) for string in strings) > MAX_TXT:
        raise Refused("too long a record")
    values: dict[str, bytes] = {}
    for string in strings:
        key, _, value = string.partition(b"=")
        values.setdefault(key.decode("ascii", "replace").lower(), value)
    try:
        text = {key: values[key].decode() for key in ("v", "id", "in", "c", "r")} | {"m": values.get("m", b"").decode()}
        node_id = identity.parse_node_id(text["id"])
    except (KeyError, UnicodeDecodeError, IdentityError) as error:
        raise Refused(f"a key is missing or wrong: {error}") from error
    versions = [int(part) for part in text["v"].split("-") if NUMBER.fullmatch(part)]
    if text["v"].count("-") != 1 or len(versions) != 2 or not 1 <= versions[0] <= versions[1] <= 65535:
        raise Refused(f"v={text['v']}")
    for key, size in (("in", 16), ("c", 32)):
        if not re.fullmatch(f"[0-9a-f]{{{size}}}", text[key]):
            raise Refused(f"{key}={text[key]}")
    numbers = text["r"].split(",") if text["r"] else []
    if len(numbers) > 16 or not all(NUMBER.fullmatch(number) and int(number) <= 65535 for number in numbers):
        raise Refused(f"r={text['r']}")
    roles = [int(number) for number in numbers]
    if roles != sorted(set(roles)):
        raise Refused(f"r={text['r']} does not ascend")
    models = [name for name in text["m"].split(",") if name]
    more = models[-1:] == ["*"]
    return {
        "versions": versions,
        "node_id": node_id.hex(),
        "instance": text["in"],
        "cluster": text["c"],
        "roles": [role for role in roles if role in KNOWN_ROLES],
        "models": models[:-1] if more else models,
        "more": more,
    }


FUNCTIONS = {"check_join": check_join, "check_joined": check_joined, "read_txt": read_txt}
