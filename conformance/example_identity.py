"""Known answers for node ids, statements and join tokens: appendix B of SPEC.md.

``python -m conformance.example_identity`` prints it. The keys are public here, so they are good for nothing else.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from dsdproto.identity import (
    JOIN_CONTEXT,
    JoinToken,
    checked_text,
    join_payload,
    node_id_of,
    node_id_text,
    sign,
    spki_of,
    statement,
)

BYTES_A_LINE = 40

P256 = ec.derive_private_key(1, ec.SECP256R1())
ED25519 = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
AUTHORITY = ec.derive_private_key(2, ec.SECP256R1())

TOKEN = JoinToken(
    cluster=node_id_of(AUTHORITY.public_key())[:16],
    authority=node_id_of(AUTHORITY.public_key()),
    secret_id=bytes(range(8)),
    secret=bytes(range(16, 32)),
    expires=1_800_000_000,
    addresses=("192.0.2.7:7450", "[2001:db8::7]:7450"),
)


def wrapped(text: str, width: int = 2 * BYTES_A_LINE) -> list[str]:
    return [f"    {text[start : start + width]}" for start in range(0, len(text), width)]


def entry(title: str, value: bytes | str) -> list[str]:
    return [title, *wrapped(value if isinstance(value, str) else value.hex())]


def listing() -> str:
    spki = spki_of(P256.public_key())
    payload = join_payload(TOKEN.secret_id, TOKEN.secret, spki)
    lines = [
        *entry("checked base32 of the bytes 00 01 02 03 04 (N-3)", checked_text(bytes(range(5)))),
        *entry("SubjectPublicKeyInfo of the P-256 key whose private scalar is 1 (N-2)", spki),
        *entry("its node id (N-1)", node_id_of(P256.public_key())),
        *entry("its node id as text (N-3)", node_id_text(node_id_of(P256.public_key()))),
        *entry(
            "SubjectPublicKeyInfo of the Ed25519 key whose private key is the bytes 00 to 1f",
            spki_of(ED25519.public_key()),
        ),
        *entry("its node id", node_id_of(ED25519.public_key())),
        *entry("node id of the authority, a P-256 key whose private scalar is 2", TOKEN.authority),
        *entry(
            "join token (J-1): secret id 00 to 07, secret 10 to 1f, expiry 1800000000, two addresses", TOKEN.encode()
        ),
        *entry(
            "statement that the P-256 key signs to join with this token (N-6, J-5)", statement(JOIN_CONTEXT, payload)
        ),
        *entry("its signature, with the nonce of RFC 6979 (N-7)", sign(P256, JOIN_CONTEXT, payload)),
        *entry(
            "the same for the Ed25519 key: statement",
            statement(JOIN_CONTEXT, join_payload(TOKEN.secret_id, TOKEN.secret, spki_of(ED25519.public_key()))),
        ),
        *entry(
            "and signature",
            sign(
                ED25519,
                JOIN_CONTEXT,
                join_payload(TOKEN.secret_id, TOKEN.secret, spki_of(ED25519.public_key())),
            ),
        ),
    ]
    return "\n".join(lines)


def markdown() -> str:
    """What stands between the markers of appendix B."""
    return f"```\n{listing()}\n```"


if __name__ == "__main__":
    print(markdown())
