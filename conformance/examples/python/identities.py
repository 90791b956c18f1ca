"""Functions of `compute`: node ids, statements, join tokens (SPEC.md, 4.2 and 5.1)."""

from __future__ import annotations

from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from conformance.examples.python.answers import Refused
from dsdproto import identity
from dsdproto.identity import IdentityError, JoinToken

Input = dict[str, Any]
TOKEN_BYTES = ("cluster", "authority", "secret_id", "secret")


def node_id(given: Input) -> dict[str, Any]:
    name = identity.node_id_of(identity.load_spki(bytes.fromhex(given["spki"])))
    return {"node_id": name.hex(), "text": identity.node_id_text(name)}


def sign(given: Input) -> dict[str, Any]:
    key = ec.derive_private_key(int(given["scalar"], 16), ec.SECP256R1())
    return {"signature": identity.sign(key, given["context"], bytes.fromhex(given["payload"])).hex()}


def verify(given: Input) -> dict[str, Any]:
    key = identity.load_spki(bytes.fromhex(given["spki"]))
    payload, signature = bytes.fromhex(given["payload"]), bytes.fromhex(given["signature"])
    return {"valid": identity.verify(key, given["context"], payload, signature)}


def join_token(given: Input) -> dict[str, Any]:
    parts = {name: bytes.fromhex(given[name]) for name in TOKEN_BYTES}
    token = JoinToken(expires=int(given["expires"]), addresses=tuple(given["addresses"]), **parts)
    return {"text": token.encode()}


def read_join_token(given: Input) -> dict[str, Any]:
    token = JoinToken.parse(given["text"])
    expires = token.expires if token.expires < 1 << 53 else str(token.expires)
    parts = {name: getattr(token, name).hex() for name in TOKEN_BYTES}
    return {**parts, "expires": expires, "addresses": list(token.addresses)}


def refusing(function: Any) -> Any:
    def inner(given: Input) -> dict[str, Any]:
        try:
            return function(given)
        except IdentityError as error:
            raise Refused(str(error)) from error

    return inner


FUNCTIONS = {
    name: refusing(function)
    for name, function in {
        "checked": lambda given: {"text": identity.checked_text(bytes.fromhex(given["bytes"]))},
        "node_id": node_id,
        "read_node_id": lambda given: {"node_id": identity.parse_node_id(given["text"]).hex()},
        "statement": lambda given: {
            "statement": identity.statement(given["context"], bytes.fromhex(given["payload"])).hex()
        },
        "sign": sign,
        "verify_signature": verify,
        "join_token": join_token,
        "read_join_token": read_join_token,
    }.items()
}
