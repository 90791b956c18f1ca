"""Who a node is, written so that people can read it, and statements that it signs (SPEC.md, clauses N-1 to
N-7 and J-1).

Text forms are base32 with two check digits behind it. Let ``c(1) .. c(n)`` be the values 0..31 of the
base32 characters; the check value is the sum of ``i * c(i)`` modulo 1021, written as two more characters,
the one worth 32 first. 1021 is prime and larger than any position used, so every single wrong character and
every swap of two characters is detected; what is left passes with probability 1/1021.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from dsdproto.errors import LocalError

ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
VALUES = {character: value for value, character in enumerate(ALPHABET)}
CHECK_MODULUS = 1021
MAX_CHECKED_CHARACTERS = 960
NODE_ID_BYTES = 32
NODE_ID_CHARACTERS = 54
GROUP = 6
SHORT_CHARACTERS = 8

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey

STATEMENT = b"DSDP statement v1\0"
JOIN_CONTEXT = "dsdp-join/1"
TOKEN_PREFIX = "dsdp-join-1-"


class IdentityError(LocalError):
    """A node id, key or token that cannot be what its writer meant; the text says what to do."""


# ---------------------------------------------------------------- checked text


def _check_digits(body: str) -> str:
    value = sum(index * VALUES[character] for index, character in enumerate(body, 1)) % CHECK_MODULUS
    return ALPHABET[value >> 5] + ALPHABET[value & 31]


def checked_text(data: bytes) -> str:
    """Base32 without padding, lower case, and the two check digits."""
    body = base64.b32encode(data).decode().rstrip("=").lower()
    if len(body) > MAX_CHECKED_CHARACTERS:
        limit = MAX_CHECKED_CHARACTERS * 5 // 8
        raise IdentityError(f"{len(data)} bytes are too long for one checked text; at most {limit} fit")
    return body + _check_digits(body)


def parse_checked(text: str, what: str) -> bytes:
    """Inverse of :func:`checked_text`; hyphens and white space are skipped, upper case is welcome.

    :param what: names the text in errors ("node id", "join token"). Raises IdentityError.
    """
    plain = re.sub(r"[-\s]", "", text).lower()
    for position, character in enumerate(plain, 1):
        if character not in VALUES:
            hint = {"0": " (the letter o?)", "1": " (the letter l or i?)", "8": " (the letter b?)"}.get(character, "")
            raise IdentityError(
                f"{what}: {character!r} at place {position} is no character of base32, a-z and 2-7{hint}."
                " Copy it again."
            )
    if not 3 <= len(plain) <= MAX_CHECKED_CHARACTERS + 2:
        raise IdentityError(f"{what}: {len(plain)} characters; that is no {what}. Copy the whole of it.")
    body, digits = plain[:-2], plain[-2:]
    if _check_digits(body) != digits:
        raise IdentityError(
            f"{what}: the check digits {digits!r} do not fit; a character is wrong, missing or out of place."
            " Copy it again."
        )
    try:
        data = base64.b32decode(body.upper() + "=" * (-len(body) % 8))
    except ValueError:
        raise IdentityError(f"{what}: {len(plain)} characters; its length is wrong. Copy it again.") from None
    if checked_text(data) != plain:
        raise IdentityError(f"{what}: the spare bits of its last character are not zero. Copy it again.")
    return data


# ---------------------------------------------------------------- node ids


def node_id_from_spki(spki: bytes) -> bytes:
    """SHA-256 of a DER SubjectPublicKeyInfo: the 32-byte node id (clause N-1)."""
    return hashlib.sha256(spki).digest()


def spki_of(key: PublicKey) -> bytes:
    """DER SubjectPublicKeyInfo. Raises IdentityError for kinds of keys that the protocol does not use."""
    _supported(key)
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def node_id_of(key: PublicKey) -> bytes:
    return node_id_from_spki(spki_of(key))


def node_id_text(node_id: bytes) -> str:
    """Nine groups of six characters: 52 of base32, two check digits (clause N-3)."""
    if len(node_id) != NODE_ID_BYTES:
        raise IdentityError(f"a node id has {NODE_ID_BYTES} bytes, not {len(node_id)}")
    text = checked_text(node_id)
    return "-".join(text[at : at + GROUP] for at in range(0, len(text), GROUP))


def parse_node_id(text: str) -> bytes:
    """The 32 bytes of a node id's text form. Raises IdentityError that says what to do."""
    plain = re.sub(r"[-\s]", "", text)
    if len(plain) != NODE_ID_CHARACTERS:
        raise IdentityError(
            f"node id: {len(plain)} characters without hyphens, where {NODE_ID_CHARACTERS} belong."
            " Copy the whole of it from `dsdp status` on that node."
        )
    return parse_checked(text, "node id")


def short_node_id(node_id: bytes) -> str:
    """The first eight characters of the text form, for logs and tables; not for trust decisions."""
    return node_id_text(node_id).replace("-", "")[:SHORT_CHARACTERS]


# ---------------------------------------------------------------- statements


def _supported(key: object) -> None:
    if isinstance(key, (ed25519.Ed25519PublicKey, ed25519.Ed25519PrivateKey)):
        return
    if isinstance(key, (ec.EllipticCurvePublicKey, ec.EllipticCurvePrivateKey)):
        if isinstance(key.curve, ec.SECP256R1):
            return
        raise IdentityError(f"keys on curve {key.curve.name} are not used by this protocol; make one on P-256")
    raise IdentityError(f"a {type(key).__name__} is no key of this protocol; make one on P-256 (or Ed25519)")


def load_spki(spki: bytes) -> PublicKey:
    """The public key in a DER SubjectPublicKeyInfo. Raises IdentityError, also when it is not canonical DER."""
    try:
        key = load_der_public_key(spki)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise IdentityError(f"no public key in DER SubjectPublicKeyInfo form: {error}") from None
    _supported(key)
    assert isinstance(key, (ec.EllipticCurvePublicKey, ed25519.Ed25519PublicKey))
    if spki_of(key) != spki:
        raise IdentityError("the public key is not in canonical DER: one key would have two node ids")
    return key


def statement(context: str, payload: bytes) -> bytes:
    """What is really signed: label, context and payload, so that no signature serves a second purpose (N-6)."""
    name = context.encode()
    if not 1 <= len(name) <= 255:
        raise IdentityError(f"a statement's context has 1 to 255 bytes, not {len(name)}")
    return STATEMENT + bytes([len(name)]) + name + payload


def sign(key: PrivateKey, context: str, payload: bytes) -> bytes:
    """Sign a statement: ECDSA with SHA-256, DER, nonce after RFC 6979 (P-256), or Ed25519."""
    _supported(key)
    data = statement(context, payload)
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(data)
    return key.sign(data, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))


def verify(key: PublicKey, context: str, payload: bytes, signature: bytes) -> bool:
    """Whether ``signature`` is by ``key`` over this statement."""
    _supported(key)
    data = statement(context, payload)
    try:
        if isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, data)
        else:
            key.verify(signature, data, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


# ---------------------------------------------------------------- joining


def join_payload(secret_id: bytes, secret: bytes, public_key: bytes) -> bytes:
    """Payload of the proof in JOIN: ties the one-time secret to one key (clause J-5)."""
    return secret_id + secret + hashlib.sha256(public_key).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinToken:
    """What a newcomer needs to find a cluster's authority, to recognise it, and to be let in once (clause J-1)."""

    cluster: bytes
    """16 bytes"""
    authority: bytes
    """SHA-256 of the authority's SPKI"""
    secret_id: bytes
    """8 bytes"""
    secret: bytes
    """16 bytes, used once"""
    expires: int
    """seconds since 1970 UTC"""
    addresses: tuple[str, ...]
    """``host:port``, IPv6 hosts in brackets; where the authority answers, best first"""

    def encode(self) -> str:
        """One line of text. Raises IdentityError when a field has the wrong length."""
        for name, size in _TOKEN_SIZES:
            if len(getattr(self, name)) != size:
                raise IdentityError(f"join token: {name} has {size} bytes, not {len(getattr(self, name))}")
        if not 0 <= self.expires < 1 << 64:
            raise IdentityError(f"join token: expiry {self.expires} is no unsigned 64-bit number of seconds")
        if not 1 <= len(self.addresses) <= 255:
            raise IdentityError(f"join token: {len(self.addresses)} addresses; it holds 1 to 255")
        body = b"".join(getattr(self, name) for name, _ in _TOKEN_SIZES) + self.expires.to_bytes(8, "big")
        body += bytes([len(self.addresses)])
        for address in self.addresses:
            raw = _checked_address(address).encode("ascii")
            body += bytes([len(raw)]) + raw
        return TOKEN_PREFIX + checked_text(body)

    @classmethod
    def parse(cls, text: str) -> JoinToken:
        """Read a token. Raises IdentityError that says what to do."""
        plain = re.sub(r"\s", "", text).lower()
        if not plain.startswith(TOKEN_PREFIX):
            if re.match(r"dsdp-join-\d+-", plain):
                raise IdentityError("join token: of another protocol version. Upgrade the older of the two nodes.")
            raise IdentityError(
                f"join token: a token begins with {TOKEN_PREFIX!r}."
                " Make one with `dsdp token` on the authority's machine."
            )
        data = parse_checked(plain[len(TOKEN_PREFIX) :], "join token")
        fields: dict[str, bytes] = {}
        at = 0
        for name, size in _TOKEN_SIZES:
            fields[name] = data[at : at + size]
            at += size
        if len(data) < at + 9:
            raise IdentityError(f"join token: {len(data)} bytes are too few. Copy the whole of it.")
        expires = int.from_bytes(data[at : at + 8], "big")
        addresses, at = [], at + 9
        for _ in range(data[at - 1]):
            end = at + 1 + data[at] if at < len(data) else len(data) + 1
            if end > len(data):
                raise IdentityError("join token: it ends within its addresses. Copy the whole of it.")
            addresses.append(_checked_address(data[at + 1 : end].decode("latin-1")))
            at = end
        if at != len(data) or not addresses:
            raise IdentityError("join token: its list of addresses does not fill it. Make a new one.")
        return cls(expires=expires, addresses=tuple(addresses), **fields)

    def expired(self, unix_seconds: float) -> bool:
        return unix_seconds >= self.expires


_TOKEN_SIZES = (("cluster", 16), ("authority", 32), ("secret_id", 8), ("secret", 16))


def _checked_address(address: str) -> str:
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.%a-z]+\]|[!-9;-Z^-~]+):([0-9]{1,5})", address)
    if match is None or not 1 <= int(match[2]) <= 65535 or len(address) > 255:
        raise IdentityError(f"join token: {address!r} is no address of the form host:port")
    return address
