"""Keys and X.509 certificates as this protocol uses them, and what can be wrong with them.

The id of a key is the SHA-256 of its DER SubjectPublicKeyInfo. All else in a certificate is decoration for
other tools.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from dsdproto.identity import IdentityError, PrivateKey, PublicKey, load_spki, node_id_of
from reference_nodes.errors import NodeError


class TrustError(NodeError):
    """Base of what can be wrong with keys and certificates."""

    code = "trust"


class NoCluster(TrustError):
    code = "no-cluster"


class NoIdentity(TrustError):
    code = "no-identity"


class BadIdentity(TrustError):
    """Key, certificate and authority on disk do not belong together, or cannot be read."""

    code = "bad-identity"


class Expired(TrustError):
    code = "certificate-expired"


class NotYetValid(TrustError):
    code = "certificate-not-yet-valid"


class UnsupportedKey(TrustError):
    code = "unsupported-key"


def utc_now() -> datetime:
    return datetime.now(UTC)


def certificate_node_id(certificate: x509.Certificate) -> bytes:
    """32 bytes: the id of the certificate's key. Raises :class:`UnsupportedKey`."""
    try:
        return node_id_of(certificate.public_key())
    except IdentityError as fault:
        raise UnsupportedKey(f"certificate of {certificate.subject.rfc4514_string()}: {fault}") from None


def cluster_id_of(authority: x509.Certificate) -> bytes:
    """16 bytes: the first half of the SHA-256 of the authority's public key."""
    return certificate_node_id(authority)[:16]


def load_public_key(der: bytes) -> PublicKey:
    """A node key from its DER SubjectPublicKeyInfo. Raises :class:`UnsupportedKey`."""
    try:
        return load_spki(der)
    except IdentityError as fault:
        raise UnsupportedKey(str(fault)) from None


def certificate_builder(
    subject: x509.Name, issuer: x509.Name, public: PublicKey, begins: datetime, ends: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def key_usage(**wanted: bool) -> x509.KeyUsage:
    names = (
        "digital_signature content_commitment key_encipherment data_encipherment key_agreement key_cert_sign "
        "crl_sign encipher_only decipher_only"
    )
    return x509.KeyUsage(**{name: wanted.get(name, False) for name in names.split()})


def check_validity(certificate: x509.Certificate, what: str, now: datetime | None, renew: str) -> None:
    now = now or utc_now()
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now > ends:
        raise Expired(f"{what} expired on {ends:%Y-%m-%d %H:%M} UTC.", renew)
    if now < begins:
        raise NotYetValid(
            f"{what} is valid from {begins:%Y-%m-%d %H:%M} UTC, "
            f"but this machine's clock says {now:%Y-%m-%d %H:%M} UTC.",
            "Set the clock (for example: timedatectl set-ntp true).",
        )


def key_file(key: PrivateKey) -> tuple[bytes, int]:
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return pem, 0o600


def certificate_file(certificate: x509.Certificate) -> tuple[bytes, int]:
    return certificate.public_bytes(serialization.Encoding.PEM), 0o644


def load_key(path: Path) -> PrivateKey:
    if os.name == "posix" and path.stat().st_mode & 0o077:
        raise BadIdentity(
            f"{path} can be read by other users of this machine (mode {path.stat().st_mode & 0o777:04o}).",
            f"Run: chmod 600 {path}",
        )
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except Exception as fault:  # cryptography raises several kinds for garbage
        raise BadIdentity(f"{path} is not a private key in PEM: {fault}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey):
        raise BadIdentity(f"{path} holds a {type(key).__name__}; P-256 or Ed25519 is needed.")
    return key


def load_certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except FileNotFoundError:
        raise BadIdentity(f"{path} is missing.", "Restore it from a backup, or join again.") from None
    except ValueError as fault:
        raise BadIdentity(f"{path} is not a certificate in PEM: {fault}") from None
