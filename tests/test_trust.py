"""Authorities and identities on disk."""

from __future__ import annotations

import os
import stat
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from dsdproto.identity import parse_node_id, spki_of
from reference_nodes import paths, trust
from reference_nodes.authority import NODE_LIFETIME
from reference_nodes.certificates import certificate_node_id
from reference_nodes.paths import AlreadyThere, BadName, cluster_dir, node_dir

needs_posix_modes = pytest.mark.skipif(os.name != "posix", reason="file modes are a POSIX matter")


@pytest.fixture
def cluster(tmp_path):
    return trust.init_cluster(cluster_dir(tmp_path), "kitchen table")


def mode(path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# ---------------------------------------------------------------- the authority


def test_an_authority_is_a_p256_ca_that_signs_leaves_only(cluster):
    certificate = cluster.certificate
    basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
    assert (basic.critical, basic.value.ca, basic.value.path_length) == (True, True, 0)
    assert usage.critical
    assert usage.value.key_cert_sign
    assert isinstance(certificate.public_key().curve, ec.SECP256R1)
    assert certificate.not_valid_after_utc - certificate.not_valid_before_utc > timedelta(days=3649)
    assert cluster.name == "kitchen table"
    assert cluster.cluster_id == sha256(spki_of(cluster.key.public_key())).digest()[:16]
    assert cluster.pin[:16] == cluster.cluster_id


@needs_posix_modes
def test_key_files_are_for_their_owner_only(cluster, tmp_path):
    identity = trust.create_identity(cluster, tmp_path)
    assert mode(cluster.key_path) == mode(identity.key_path) == 0o600
    assert mode(cluster.directory) == mode(identity.directory) == 0o700


def test_an_authority_survives_a_round_trip(cluster):
    again = trust.load_cluster(cluster.directory)
    assert again.certificate == cluster.certificate
    assert spki_of(again.key.public_key()) == spki_of(cluster.key.public_key())


def test_a_second_init_changes_nothing(cluster):
    before = cluster.key_path.read_bytes()
    with pytest.raises(AlreadyThere, match="DSDP_HOME"):
        trust.init_cluster(cluster.directory, "another")
    assert cluster.key_path.read_bytes() == before
    assert [path.name for path in cluster.directory.parent.iterdir()] == ["cluster"]


def test_an_interrupted_init_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(paths.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        trust.init_cluster(cluster_dir(tmp_path), "x")
    assert list(tmp_path.iterdir()) == []


def test_no_authority_here(tmp_path):
    with pytest.raises(trust.NoCluster, match="dsdp init"):
        trust.load_cluster(cluster_dir(tmp_path))


@pytest.mark.parametrize("name", ["", "x" * 65, "two\nlines"])
def test_cluster_names_are_printable_and_short(tmp_path, name):
    with pytest.raises(trust.TrustError, match="1 to 64 printable"):
        trust.init_cluster(cluster_dir(tmp_path), name)
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- certificates


@pytest.mark.parametrize("make", [lambda: ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate])
def test_a_leaf_says_what_it_should(cluster, make):
    key = spki_of(make().public_key())
    now = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)
    leaf = trust.issue(cluster, key, "gpu-1", now=now)
    extension = leaf.extensions.get_extension_for_class
    leaf.verify_directly_issued_by(cluster.certificate)
    assert certificate_node_id(leaf) == sha256(key).digest()
    assert not extension(x509.BasicConstraints).value.ca
    usages = set(extension(x509.ExtendedKeyUsage).value)
    assert usages == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    assert leaf.not_valid_before_utc == now - timedelta(minutes=5)
    assert leaf.not_valid_after_utc == now + NODE_LIFETIME
    common = leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    uris = extension(x509.SubjectAlternativeName).value.get_values_for_type(x509.UniformResourceIdentifier)
    assert uris == [f"dsdp:node:{common}"]
    assert parse_node_id(common) == certificate_node_id(leaf)


def test_a_leaf_does_not_outlive_its_authority(cluster):
    key = spki_of(trust.new_key().public_key())
    late = cluster.certificate.not_valid_after_utc - timedelta(days=10)
    assert trust.issue(cluster, key, "late", now=late).not_valid_after_utc == cluster.certificate.not_valid_after_utc


def other_spki(key) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _compressed_point() -> bytes:
    """The SubjectPublicKeyInfo of a P-256 key in the other encoding that X.509 allows."""
    full = spki_of(trust.new_key().public_key())
    x, y = full[27:59], full[59:91]
    head = bytes.fromhex("3039301306072a8648ce3d020106082a8648ce3d030107032200")
    return head + bytes([2 + (y[-1] & 1)]) + x


@pytest.mark.parametrize(
    "key",
    [
        b"",
        b"garbage",
        other_spki(ec.generate_private_key(ec.SECP384R1())),
        other_spki(rsa.generate_private_key(65537, 2048)),
        spki_of(trust.new_key().public_key())[:-1],
        _compressed_point(),
    ],
    ids=["empty", "garbage", "P-384", "RSA", "truncated", "compressed"],
)
def test_other_keys_are_refused(cluster, key):
    with pytest.raises(trust.UnsupportedKey):
        trust.issue(cluster, key, "x")


# ---------------------------------------------------------------- identities


def test_init_gives_the_machine_its_own_identity(tmp_path):
    cluster, identity = trust.begin(tmp_path, "home", "desk")
    again = trust.load_identity(tmp_path, "desk")
    assert again.node_id == identity.node_id == certificate_node_id(identity.certificate)
    assert again.cluster_id == cluster.cluster_id
    assert again.name == "desk"


def test_init_with_a_taken_name_makes_no_authority(tmp_path, cluster):
    elsewhere = tmp_path / "elsewhere"
    trust.create_identity(cluster, elsewhere, "desk")
    with pytest.raises(AlreadyThere, match="--name"):
        trust.begin(elsewhere, "home", "desk")
    assert not cluster_dir(elsewhere).exists()


def test_several_nodes_on_one_machine(cluster, tmp_path):
    one, two = (trust.create_identity(cluster, tmp_path, name) for name in ("one", "two"))
    assert one.node_id != two.node_id
    with pytest.raises(AlreadyThere, match="--name"):
        trust.create_identity(cluster, tmp_path, "one")
    assert trust.load_identity(tmp_path, "one").node_id == one.node_id
    with pytest.raises(trust.NoIdentity, match="It has: one, two"):
        trust.load_identity(tmp_path, "three")


def test_an_ed25519_identity_is_as_good(cluster, tmp_path):
    key = ed25519.Ed25519PrivateKey.generate()
    leaf = trust.issue(cluster, spki_of(key.public_key()), "ed")
    trust.save_identity(tmp_path, "ed", key, leaf, cluster.certificate)
    assert trust.load_identity(tmp_path, "ed").node_id == certificate_node_id(leaf)


def test_expiry_says_what_to_do(cluster, tmp_path):
    trust.create_identity(cluster, tmp_path, now=datetime.now(UTC) - NODE_LIFETIME - timedelta(minutes=1))
    with pytest.raises(trust.Expired, match=r"expired on .*dsdp join"):
        trust.load_identity(tmp_path)
    stale = trust.load_identity(tmp_path, check=False)
    assert stale.expires_soon()


def test_a_clock_that_is_behind_is_named(cluster, tmp_path):
    identity = trust.create_identity(cluster, tmp_path)
    with pytest.raises(trust.NotYetValid, match=r"clock says 2001-01-01"):
        identity.check_validity(datetime(2001, 1, 1, tzinfo=UTC))
    identity.check_validity(identity.certificate.not_valid_before_utc + timedelta(minutes=1))


def test_renewal_keeps_the_node_id(cluster, tmp_path):
    old = trust.create_identity(cluster, tmp_path, now=datetime.now(UTC) - timedelta(days=350))
    assert old.expires_soon()
    new = trust.renew_identity(old, trust.issue(cluster, spki_of(old.key.public_key()), old.name))
    loaded = trust.load_identity(tmp_path)
    assert loaded.node_id == new.node_id == old.node_id
    assert not loaded.expires_soon()
    assert sorted(path.name for path in old.directory.iterdir()) == sorted(trust.NODE_FILES)


def test_a_certificate_for_another_key_is_not_stored(cluster, tmp_path):
    identity = trust.create_identity(cluster, tmp_path)
    before = identity.certificate_path.read_bytes()
    with pytest.raises(trust.BadIdentity, match="do not belong together"):
        trust.renew_identity(identity, trust.issue(cluster, spki_of(trust.new_key().public_key()), "x"))
    assert identity.certificate_path.read_bytes() == before


def test_a_certificate_of_another_authority_is_noticed(cluster, tmp_path):
    other = trust.init_cluster(tmp_path / "other", "other")
    identity = trust.create_identity(cluster, tmp_path)
    identity.authority_path.write_bytes(other.certificate.public_bytes(serialization.Encoding.PEM))
    with pytest.raises(trust.BadIdentity, match="not issued by"):
        trust.load_identity(tmp_path)


@needs_posix_modes
def test_a_key_that_others_can_read_is_refused(cluster, tmp_path):
    identity = trust.create_identity(cluster, tmp_path)
    identity.key_path.chmod(0o640)
    with pytest.raises(trust.BadIdentity, match="chmod 600"):
        trust.load_identity(tmp_path)


@pytest.mark.parametrize("file", trust.NODE_FILES)
def test_damaged_files_are_named(cluster, tmp_path, file):
    identity = trust.create_identity(cluster, tmp_path)
    path = identity.directory / file
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(trust.BadIdentity, match=file):
        trust.load_identity(tmp_path)


# ---------------------------------------------------------------- paths


def test_home_is_where_the_variable_says(tmp_path, monkeypatch):
    monkeypatch.setenv("DSDP_HOME", str(tmp_path / "x"))
    assert paths.home() == tmp_path / "x"
    monkeypatch.delenv("DSDP_HOME")
    assert paths.home().name == "dsdp"


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../../etc", "-x", "x" * 49, "ümlaut", "a\n"])
def test_names_that_would_leave_their_directory(tmp_path, name):
    with pytest.raises(BadName):
        node_dir(tmp_path, name)


def test_replacing_a_file_never_leaves_drafts(tmp_path):
    target = tmp_path / "file"
    paths.replace_file(target, b"one", 0o600)
    paths.replace_file(target, b"two", 0o600)
    assert target.read_bytes() == b"two"
    assert list(tmp_path.iterdir()) == [target]
