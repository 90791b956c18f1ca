"""Who a node is: its key, its certificate, and the authority that it trusts (SPEC.md, section "Transport").

Private keys are written once, mode 0600, on the machine that made them, and never travel. The authority
itself is in :mod:`reference_nodes.authority`; what can be wrong is in :mod:`reference_nodes.certificates`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec

from dsdproto.identity import node_id_of, spki_of
from reference_nodes.authority import Cluster, init_cluster, issue, load_cluster
from reference_nodes.certificates import (
    BadIdentity,
    Expired,
    NoCluster,
    NoIdentity,
    NotYetValid,
    PrivateKey,
    TrustError,
    UnsupportedKey,
    certificate_file,
    certificate_node_id,
    check_validity,
    cluster_id_of,
    key_file,
    load_certificate,
    load_key,
    utc_now,
)
from reference_nodes.paths import (
    DEFAULT_NAME,
    AlreadyThere,
    cluster_dir,
    node_dir,
    publish_directory,
    replace_file,
)

__all__ = [
    "BadIdentity",
    "Cluster",
    "Expired",
    "NoCluster",
    "NoIdentity",
    "NodeIdentity",
    "NotYetValid",
    "TrustError",
    "UnsupportedKey",
    "begin",
    "create_identity",
    "init_cluster",
    "issue",
    "load_cluster",
    "load_identity",
    "new_key",
    "read_identity",
    "renew_identity",
    "save_identity",
]

RENEW_BEFORE = timedelta(days=30)
NODE_FILES = ("node.key", "node.pem", "authority.pem")


@dataclass(frozen=True, eq=False)
class NodeIdentity:
    """A node's key, its certificate, and the authority it trusts. All three are in ``directory``."""

    directory: Path
    key: PrivateKey
    certificate: x509.Certificate
    authority: x509.Certificate

    @property
    def name(self) -> str:
        return self.directory.name

    @property
    def node_id(self) -> bytes:
        """32 bytes."""
        return certificate_node_id(self.certificate)

    @property
    def cluster_id(self) -> bytes:
        """16 bytes."""
        return cluster_id_of(self.authority)

    @property
    def key_path(self) -> Path:
        return self.directory / NODE_FILES[0]

    @property
    def certificate_path(self) -> Path:
        return self.directory / NODE_FILES[1]

    @property
    def authority_path(self) -> Path:
        return self.directory / NODE_FILES[2]

    @property
    def expires(self) -> datetime:
        return self.certificate.not_valid_after_utc

    def check_validity(self, now: datetime | None = None) -> None:
        """Raises :class:`Expired` or :class:`NotYetValid`, saying what to do."""
        renew = (
            f"Get a token from the machine that ran `dsdp init`, then run `dsdp join TOKEN --name {self.name}`: "
            "the node keeps its key and its id."
        )
        check_validity(self.certificate, f"the certificate of node {self.name!r}", now, renew)
        check_validity(self.authority, "the cluster's authority", now, "Begin a new cluster with `dsdp init`.")

    def expires_soon(self, now: datetime | None = None) -> bool:
        """Whether less than :data:`RENEW_BEFORE` is left."""
        return self.expires - (now or utc_now()) < RENEW_BEFORE


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def create_identity(
    cluster: Cluster, base: Path, name: str = DEFAULT_NAME, *, now: datetime | None = None
) -> NodeIdentity:
    """Give a node on the authority's own machine its identity, without a token.

    Raises :class:`AlreadyThere`.
    """
    key = new_key()
    certificate = issue(cluster, spki_of(key.public_key()), name, now=now)
    return save_identity(base, name, key, certificate, cluster.certificate)


def save_identity(
    base: Path, name: str, key: PrivateKey, certificate: x509.Certificate, authority: x509.Certificate
) -> NodeIdentity:
    """Write a new identity under ``base``. Raises :class:`AlreadyThere`, :class:`BadIdentity`."""
    directory = node_dir(base, name)
    identity = NodeIdentity(directory, key, certificate, authority)
    _check_belonging(identity)
    files = (key_file(key), certificate_file(certificate), certificate_file(authority))
    try:
        publish_directory(directory, dict(zip(NODE_FILES, files)))
    except AlreadyThere:
        raise AlreadyThere(
            f"this machine already has a node named {name!r} in {directory}; nothing was changed.",
            "Choose another name with --name, or move that directory away first.",
        ) from None
    return identity


def renew_identity(identity: NodeIdentity, certificate: x509.Certificate) -> NodeIdentity:
    """Replace the certificate; key and node id stay.

    Raises :class:`BadIdentity` if it is not for this key.
    """
    renewed = NodeIdentity(identity.directory, identity.key, certificate, identity.authority)
    _check_belonging(renewed)
    replace_file(identity.certificate_path, *certificate_file(certificate))
    return renewed


def load_identity(
    base: Path, name: str = DEFAULT_NAME, *, check: bool = True, now: datetime | None = None
) -> NodeIdentity:
    """Read the identity ``name`` back.

    With ``check`` false an expired one is returned too (for renewal and diagnosis).
    Raises :class:`NoIdentity`, :class:`BadIdentity`, :class:`Expired`, :class:`NotYetValid`.
    """
    directory = node_dir(base, name)
    if not (directory / NODE_FILES[0]).exists():
        others = sorted(path.name for path in directory.parent.glob("*") if (path / NODE_FILES[0]).exists())
        known = f" It has: {', '.join(others)}." if others else ""
        raise NoIdentity(
            f"this machine has no node named {name!r} in {directory.parent}.{known}",
            "Run `dsdp join TOKEN` with a token from the machine that ran `dsdp init`, "
            "or `dsdp init` here to begin a new cluster.",
        )
    return read_identity(directory, check=check, now=now)


def read_identity(directory: Path, *, check: bool = True, now: datetime | None = None) -> NodeIdentity:
    """An identity from any directory that holds node.key, node.pem and authority.pem, whoever issued them.

    Raises :class:`NoIdentity`, :class:`BadIdentity`, :class:`Expired`, :class:`NotYetValid`.
    """
    key_path, certificate_path, authority_path = (directory / file for file in NODE_FILES)
    if not key_path.exists():
        raise NoIdentity(
            f"{key_path} is missing.", f"A directory with an identity holds {', '.join(NODE_FILES)}, all in PEM."
        )
    identity = NodeIdentity(
        directory, load_key(key_path), load_certificate(certificate_path), load_certificate(authority_path)
    )
    _check_belonging(identity)
    if check:
        identity.check_validity(now)
    return identity


def begin(base: Path, cluster_name: str, name: str = DEFAULT_NAME) -> tuple[Cluster, NodeIdentity]:
    """What `dsdp init` does: a new authority and this machine's own identity. Raises :class:`AlreadyThere`.

    A name that is taken is noticed before the authority is made: nothing is left half done.
    """
    if node_dir(base, name).exists():
        raise AlreadyThere(
            f"this machine already has a node named {name!r} in {node_dir(base, name)}; nothing was changed.",
            "Choose another name with --name, or move that directory away first.",
        )
    cluster = init_cluster(cluster_dir(base), cluster_name)
    return cluster, create_identity(cluster, base, name)


def _check_belonging(identity: NodeIdentity) -> None:
    where = identity.directory
    advice = "Move the directory away and join again."
    if node_id_of(identity.key.public_key()) != certificate_node_id(identity.certificate):
        raise BadIdentity(f"key and certificate in {where} do not belong together.", advice)
    try:
        identity.certificate.verify_directly_issued_by(identity.authority)
    except (InvalidSignature, ValueError, TypeError):
        raise BadIdentity(f"the certificate in {where} was not issued by the authority beside it.", advice) from None
