"""The authority of a cluster: one P-256 key that signs the certificate of each node (SPEC.md, section
"Transport").

Its key is on the machine that ran `dsdp init`, mode 0600, and nowhere else. The cluster id is the first 16
bytes of the SHA-256 of its public key.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from dsdproto.identity import node_id_of, node_id_text
from reference_nodes.certificates import (
    BadIdentity,
    NoCluster,
    TrustError,
    certificate_builder,
    certificate_file,
    certificate_node_id,
    check_validity,
    cluster_id_of,
    key_file,
    key_usage,
    load_certificate,
    load_key,
    load_public_key,
    utc_now,
)
from reference_nodes.paths import AlreadyThere, check_name, publish_directory

LIFETIME = timedelta(days=3650)
NODE_LIFETIME = timedelta(days=365)
CLOCK_SLACK = timedelta(minutes=5)
"""A certificate is valid from this long before it was issued: a clock a little behind still accepts it."""
TLS_NAME = "dsdp.internal"
"""dNSName in every node certificate, for TLS stacks that insist on checking a host name.

It proves nothing.
"""

FILES = ("authority.key", "authority.pem")


@dataclass(frozen=True, eq=False)
class Cluster:
    """The authority of one cluster, key included: what only the initiating machine has."""

    directory: Path
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def name(self) -> str:
        return str(self.certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)[0].value)

    @property
    def cluster_id(self) -> bytes:
        return cluster_id_of(self.certificate)

    @property
    def pin(self) -> bytes:
        """32 bytes: what a join token carries to recognise the authority by."""
        return certificate_node_id(self.certificate)

    @property
    def key_path(self) -> Path:
        return self.directory / FILES[0]

    @property
    def certificate_path(self) -> Path:
        return self.directory / FILES[1]


def init_cluster(directory: Path, name: str, *, now: datetime | None = None) -> Cluster:
    """Make a new authority in ``directory`` (usually :func:`reference_nodes.paths.cluster_dir`).

    Raises :class:`AlreadyThere` if there is one, :class:`TrustError` if ``name`` is not 1 to 64 characters.
    """
    if not 1 <= len(name) <= 64 or not name.isprintable():
        raise TrustError(f"cluster name {name!r} is not 1 to 64 printable characters.")
    now = now or utc_now()
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key()
    # The subject holds the cluster id, so no two clusters have authorities of one name: a peer of the wrong
    # cluster then fails as "unknown authority" and not as "bad signature".
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, name),
            x509.NameAttribute(NameOID.COMMON_NAME, f"dsdp cluster {node_id_of(public)[:16].hex()}"),
        ]
    )
    certificate = (
        certificate_builder(subject, subject, public, now - CLOCK_SLACK, now + LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        # digital_signature: the authority itself answers join requests over TLS (docs/lan.md, "How joining works")
        .add_extension(key_usage(digital_signature=True, key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
        .sign(key, hashes.SHA256())
    )
    try:
        publish_directory(directory, dict(zip(FILES, (key_file(key), certificate_file(certificate)))))
    except AlreadyThere:
        raise AlreadyThere(
            f"{directory} already holds a cluster; nothing was changed.",
            "Every node that joined trusts that one. To begin a new cluster, choose another DSDP_HOME, "
            "or move that directory away first.",
        ) from None
    return Cluster(directory, key, certificate)


def load_cluster(directory: Path, *, now: datetime | None = None) -> Cluster:
    """Read the authority back. Raises :class:`NoCluster`, :class:`BadIdentity`, :class:`Expired`."""
    key_path, certificate_path = (directory / name for name in FILES)
    if not key_path.exists():
        raise NoCluster(
            f"{directory} holds no cluster authority.",
            "Tokens are made on the machine that ran `dsdp init`; run it here only to begin a new cluster.",
        )
    key, certificate = load_key(key_path), load_certificate(certificate_path)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or node_id_of(key.public_key()) != certificate_node_id(
        certificate
    ):
        raise BadIdentity(f"{key_path} is not the key of {certificate_path}.", "Restore both from one backup.")
    check_validity(certificate, f"the cluster authority in {directory}", now, "Begin a new one with `dsdp init`.")
    return Cluster(directory, key, certificate)


def issue(
    ca: Cluster,
    public_key: bytes,
    name: str,
    *,
    now: datetime | None = None,
    lifetime: timedelta = NODE_LIFETIME,
) -> x509.Certificate:
    """Certificate for the node that holds ``public_key`` (DER SubjectPublicKeyInfo) and calls itself
    ``name``.

    Raises :class:`UnsupportedKey`, :class:`reference_nodes.paths.BadName`.
    """
    public = load_public_key(public_key)
    now = now or utc_now()
    text = node_id_text(node_id_of(public)).replace("-", "")
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, ca.name),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, check_name(name)),
            x509.NameAttribute(NameOID.COMMON_NAME, text),
        ]
    )
    end = min(now + lifetime, ca.certificate.not_valid_after_utc)
    names = [x509.DNSName(TLS_NAME), x509.UniformResourceIdentifier(f"dsdp:node:{text}")]
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    return (
        certificate_builder(subject, ca.certificate.subject, public, now - CLOCK_SLACK, end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(key_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.key.public_key()), critical=False)
        .sign(ca.key, hashes.SHA256())
    )
