"""The suite's own authority, and certificates of every kind: good ones for its peers and for the testee, and bad ones
that must be refused (SPEC.md, section "Transport").

``issue(DIR)`` is what ``dsdp-conformance issue DIR`` does: it makes, once, ``DIR/authority.key`` and
``DIR/authority.pem``, and for the testee ``DIR/testee/`` with ``node.key``, ``node.pem`` and ``authority.pem``. The
suite signs the certificates of its own peers with the same authority, so keep that directory to yourself.
"""

from __future__ import annotations

import datetime
import os
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from dsdproto.errors import DsdpError
from dsdproto.identity import PublicKey, node_id_of, node_id_text
from dsdproto.registry import ALPN

TLS_NAME = "dsdp.internal"
TESTEE = "testee"
AUTHORITY_FILES = ("authority.key", "authority.pem")
NODE_FILES = ("node.key", "node.pem", "authority.pem")
BACKDATED = datetime.timedelta(minutes=5)
LIFETIME = datetime.timedelta(days=365)


class PkiError(DsdpError):
    """A directory of certificates that cannot be used; the text says which file and what to do."""


class Flaw(Enum):
    """What is wrong with a certificate that the suite shows."""

    EXPIRED = "it expired an hour ago"
    NOT_YET_VALID = "it is valid from tomorrow on"
    FOREIGN = "another authority, of another name, issued it"
    FORGED = "another authority, of the same name, issued it"
    SELF_SIGNED = "its own key signed it"
    BY_A_NODE = "another node of the cluster issued it"
    WRONG_USAGE = "its extended key usage is code signing alone"


@dataclass(frozen=True, eq=False)
class Identity:
    """A key and what certifies it: one peer of the suite, or the testee.

    :param chain: the certificate, then what is sent along with it.
    """

    name: str
    key: ec.EllipticCurvePrivateKey
    chain: tuple[x509.Certificate, ...]
    authority: x509.Certificate
    """whose certificates it trusts"""
    directory: Path
    """where :meth:`write` puts its files"""

    @property
    def certificate(self) -> x509.Certificate:
        return self.chain[0]

    @cached_property
    def node_id(self) -> bytes:
        """32 bytes (clause N-1)."""
        return node_id_of(self.key.public_key())

    @cached_property
    def cluster(self) -> bytes:
        """16 bytes (clause T-3)."""
        return node_id_of(self.authority.public_key())[:16]

    def context(
        self, server_side: bool, *, alpn: str | None = ALPN, show: bool = True, version: ssl.TLSVersion | None = None
    ) -> ssl.SSLContext:
        """For one end of a connection.

        :param alpn: the protocol to offer; None: none at all.
        :param show: whether a dialer shows its certificate.
        :param version: the highest version of TLS to speak.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2 if version else ssl.TLSVersion.TLSv1_3
        context.maximum_version = version or ssl.TLSVersion.TLSv1_3
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=pem(self.authority).decode())
        if alpn is not None:
            context.set_alpn_protocols([alpn])
        if show or server_side:
            with _as_file(key_pem(self.key) + b"".join(map(pem, self.chain))) as path:
                context.load_cert_chain(path)
        if server_side:
            context.num_tickets = 0
        return context

    def write(self) -> None:
        """Put the files into ``directory``. An identity is never written over another one."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        contents = (key_pem(self.key), b"".join(map(pem, self.chain)), pem(self.authority))
        for name, content in zip(NODE_FILES, contents):
            _write(self.directory / name, content, 0o600 if name.endswith(".key") else 0o644)


@dataclass(eq=False)
class Authority:
    """A P-256 key that certifies nodes (clause T-3). ``directory`` takes the files of what it issues."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate
    directory: Path
    _count: int = 0
    _room: tempfile.TemporaryDirectory[str] | None = field(default=None, repr=False)

    @classmethod
    def new(cls, directory: Path | None = None, subject: x509.Name | None = None) -> Authority:
        """A new one. Without ``directory`` its files live as long as the object."""
        key = ec.generate_private_key(ec.SECP256R1())
        public = key.public_key()
        name = subject or _name("DSDP conformance suite", f"cluster {node_id_of(public)[:16].hex()}")
        certificate = (
            _builder(name, name, public, -BACKDATED, 10 * LIFETIME)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(digital_signature=True, key_cert_sign=True, crl_sign=True), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
            .sign(key, hashes.SHA256())
        )
        room = tempfile.TemporaryDirectory(prefix="dsdp-conformance-") if directory is None else None
        return cls(key, certificate, Path(room.name) if room else directory, 0, room)  # type: ignore[arg-type]

    @classmethod
    def load(cls, directory: Path) -> Authority:
        """The one that :func:`issue` made. Peers' files go to a temporary directory. Raises :class:`PkiError`."""
        key_path, certificate_path = (directory / name for name in AUTHORITY_FILES)
        try:
            key = serialization.load_pem_private_key(key_path.read_bytes(), None)
            certificate = x509.load_pem_x509_certificate(certificate_path.read_bytes())
        except (OSError, ValueError) as error:
            advice = f"make one with: dsdp-conformance issue {directory}"
            raise PkiError(f"no authority in {directory} ({error}); {advice}") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise PkiError(f"{key_path} is not the key of {certificate_path}")
        room = tempfile.TemporaryDirectory(prefix="dsdp-conformance-")
        return cls(key, certificate, Path(room.name), 0, room)

    def identity(self, name: str = "peer", flaw: Flaw | None = None, directory: Path | None = None) -> Identity:
        """A new key with a certificate, good or with one flaw. It trusts this authority in any case. With ``directory``
        its files are written there."""
        self._count += 1
        key = ec.generate_private_key(ec.SECP256R1())
        chain = self._chain(name, key, flaw)
        where = directory or self.directory / "peers" / str(self._count)
        made = Identity(name, key, chain, self.certificate, where)
        if directory is not None:
            made.write()
        return made

    def certify(self, name: str, public: PublicKey) -> x509.Certificate:
        """What a newcomer of that name is given for its key (clause J-7)."""
        return self._certify(name, public)

    def _chain(self, name: str, key: ec.EllipticCurvePrivateKey, flaw: Flaw | None) -> tuple[x509.Certificate, ...]:
        hour, day = datetime.timedelta(hours=1), datetime.timedelta(days=1)
        match flaw:
            case Flaw.EXPIRED:
                return (self._certify(name, key, -day, -hour),)
            case Flaw.NOT_YET_VALID:
                return (self._certify(name, key, day, LIFETIME),)
            case Flaw.FOREIGN:
                return (Authority.new(self.directory)._certify(name, key),)
            case Flaw.FORGED:
                return (Authority.new(self.directory, self.certificate.subject)._certify(name, key),)
            case Flaw.SELF_SIGNED:
                return (Authority(key, self.certificate, self.directory)._certify(name, key, own_name=True),)
            case Flaw.BY_A_NODE:
                middle = ec.generate_private_key(ec.SECP256R1())
                issuer = self._certify("middle", middle)
                return (Authority(middle, issuer, self.directory)._certify(name, key), issuer)
            case Flaw.WRONG_USAGE:
                return (self._certify(name, key, usages=(ExtendedKeyUsageOID.CODE_SIGNING,)),)
        return (self._certify(name, key),)

    def _certify(
        self,
        name: str,
        key: ec.EllipticCurvePrivateKey | PublicKey,
        begins: datetime.timedelta = -BACKDATED,
        ends: datetime.timedelta = LIFETIME,
        *,
        usages: tuple[x509.ObjectIdentifier, ...] = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH),
        own_name: bool = False,
    ) -> x509.Certificate:
        """Clause T-4, as far as the arguments let it be."""
        public = key.public_key() if isinstance(key, ec.EllipticCurvePrivateKey) else key
        subject = _name(name, node_id_text(node_id_of(public)).replace("-", ""))
        issuer = subject if own_name else self.certificate.subject
        return (
            _builder(subject, issuer, public, begins, ends)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(TLS_NAME)]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
            .sign(self.key, hashes.SHA256())
        )


def issue(directory: Path, name: str = TESTEE) -> tuple[Authority, Path]:
    """What ``dsdp-conformance issue DIR`` does: an authority in ``directory`` if there is none yet, and an identity for
    a testee in ``directory/name``. Nothing that exists is overwritten. Returns both.

    Raises :class:`PkiError`.
    """
    key_path, certificate_path = (directory / file for file in AUTHORITY_FILES)
    if not key_path.exists():
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        made = Authority.new(directory)
        _write(certificate_path, pem(made.certificate), 0o644)
        _write(key_path, key_pem(made.key), 0o600)
    authority = Authority.load(directory)
    target = directory / name
    if not (target / NODE_FILES[1]).exists():
        authority.identity(name, directory=target)
    return authority, target


def pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """A path to read it from: Python's TLS takes keys from files alone. In memory where the system has that: a run
    shows thousands of certificates."""
    if hasattr(os, "memfd_create"):
        handle = os.memfd_create("dsdp-conformance")
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            yield f"/proc/self/fd/{handle}"
        return
    with tempfile.TemporaryDirectory(prefix="dsdp-conformance-") as room:
        _write(Path(room, "node.pem"), content, 0o600)
        yield os.path.join(room, "node.pem")


def _write(path: Path, content: bytes, mode: int) -> None:
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except OSError as error:
        raise PkiError(f"cannot write {path}: {error.strerror}") from error
    with os.fdopen(handle, "wb") as file:
        file.write(content)


def _name(organisation: str, common: str) -> x509.Name:
    return x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation), x509.NameAttribute(NameOID.COMMON_NAME, common)]
    )


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public: PublicKey,
    begins: datetime.timedelta,
    ends: datetime.timedelta,
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begins)
        .not_valid_after(now + ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _usage(**wanted: bool) -> x509.KeyUsage:
    names = (
        "digital_signature content_commitment key_encipherment data_encipherment key_agreement key_cert_sign "
        "crl_sign encipher_only decipher_only"
    )
    return x509.KeyUsage(**{name: wanted.get(name, False) for name in names.split()})
