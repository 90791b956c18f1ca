"""Node ids, statements and join tokens."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import given, settings
from hypothesis import strategies as st

from dsdproto.identity import (
    ALPHABET,
    IdentityError,
    JoinToken,
    checked_text,
    join_payload,
    load_spki,
    node_id_from_spki,
    node_id_of,
    node_id_text,
    parse_checked,
    parse_node_id,
    short_node_id,
    sign,
    spki_of,
    verify,
)

KEY = ec.derive_private_key(7, ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
TOKEN = JoinToken(
    cluster=bytes(16),
    authority=hashlib.sha256(b"authority").digest(),
    secret_id=b"12345678",
    secret=b"0123456789abcdef",
    expires=1_800_000_000,
    addresses=("192.168.1.20:7878", "[fe80::1%eth0]:7878", "big-box.local:7878"),
)


@settings(deadline=None, derandomize=True)
@given(st.binary(min_size=32, max_size=32))
def test_text_form_round_trip(node_id: bytes) -> None:
    text = node_id_text(node_id)
    assert parse_node_id(text) == node_id
    assert parse_node_id(text.upper().replace("-", " ")) == node_id
    assert [len(group) for group in text.split("-")] == [6] * 9
    assert text.replace("-", "").startswith(short_node_id(node_id))


def test_known_text_forms() -> None:
    """Worked by hand from the rule in clause N-3."""
    assert node_id_text(bytes(32)) == "-".join(["aaaaaa"] * 9)
    # 31 * (1 + .. + 51) + 16 * 52 = 41938; modulo 1021 that is 77 = 2 * 32 + 13
    assert node_id_text(b"\xff" * 32).replace("-", "") == "7" * 51 + "q" + ALPHABET[2] + ALPHABET[13]


@settings(deadline=None, derandomize=True)
@given(st.binary(min_size=32, max_size=32), st.data())
def test_one_wrong_character_is_detected(node_id: bytes, data: st.DataObject) -> None:
    text = node_id_text(node_id).replace("-", "")
    place = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.sampled_from([character for character in ALPHABET if character != text[place]]))
    with pytest.raises(IdentityError):
        parse_node_id(text[:place] + other + text[place + 1 :])


def test_every_single_error_and_every_swap_of_one_id() -> None:
    text = node_id_text(hashlib.sha256(b"some node").digest()).replace("-", "")
    tried = 0
    for i in range(len(text)):
        wrong = [text[:i] + other + text[i + 1 :] for other in ALPHABET if other != text[i]]
        for j in range(i + 1, len(text)):
            if text[i] != text[j]:
                wrong.append(text[:i] + text[j] + text[i + 1 : j] + text[i] + text[j + 1 :])
        for bad in wrong:
            tried += 1
            with pytest.raises(IdentityError):
                parse_node_id(bad)
    assert tried > 54 * 31


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "0 characters"),
        ("abc", "3 characters"),
        ("a" * 53 + "0", "letter o"),
        ("a" * 53 + "1", "letter l"),
        ("a" * 53 + "b", "check digits"),
        ("a" * 54 + "-a", "55 characters"),
    ],
)
def test_errors_say_what_is_wrong(text: str, says: str) -> None:
    with pytest.raises(IdentityError, match=says):
        parse_node_id(text)


def test_spare_bits_must_be_zero() -> None:
    body = "a" * 51 + "b"
    digits = ALPHABET[52 >> 5] + ALPHABET[52 & 31]
    with pytest.raises(IdentityError, match="spare bits"):
        parse_node_id(body + digits)


@pytest.mark.parametrize("key", [KEY, ED], ids=["P-256", "Ed25519"])
def test_statements(key) -> None:
    public = key.public_key()
    signature = sign(key, "test/1", b"payload")
    assert signature == sign(key, "test/1", b"payload"), "signing draws no randomness"
    assert verify(public, "test/1", b"payload", signature)
    assert not verify(public, "test/2", b"payload", signature)
    assert not verify(public, "test/1", b"payloae", signature)
    assert not verify(public, "test/1p", b"ayload", signature)
    assert not verify(public, "test/1", b"payload", b"")
    assert load_spki(spki_of(public)).public_numbers() == public.public_numbers() if key is KEY else True
    assert node_id_of(public) == hashlib.sha256(spki_of(public)).digest() == node_id_from_spki(spki_of(public))


def test_foreign_keys_are_refused() -> None:
    with pytest.raises(IdentityError, match="secp384r1"):
        node_id_of(ec.derive_private_key(7, ec.SECP384R1()).public_key())
    with pytest.raises(IdentityError, match="DER"):
        load_spki(b"nonsense")
    with pytest.raises(IdentityError, match="1 to 255"):
        sign(KEY, "", b"")
    with pytest.raises(IdentityError, match="32 bytes"):
        node_id_text(b"short")


@settings(deadline=None, derandomize=True)
@given(st.binary(max_size=300))
def test_loading_a_key_from_garbage_only_gives_typed_errors(data: bytes) -> None:
    with pytest.raises(IdentityError):
        load_spki(data)


def test_token_round_trip() -> None:
    text = TOKEN.encode()
    assert text.startswith("dsdp-join-1-")
    assert JoinToken.parse(text) == TOKEN
    assert JoinToken.parse(f"  {text[:40]}\n{text[40:].upper()} ") == TOKEN
    assert not TOKEN.expired(1_799_999_999.9)
    assert TOKEN.expired(1_800_000_000)


@settings(deadline=None, derandomize=True)
@given(st.data())
def test_token_with_one_wrong_character(data: st.DataObject) -> None:
    text = TOKEN.encode()
    place = data.draw(st.integers(len("dsdp-join-1-"), len(text) - 1))
    other = data.draw(st.sampled_from([character for character in ALPHABET if character != text[place]]))
    with pytest.raises(IdentityError):
        JoinToken.parse(text[:place] + other + text[place + 1 :])


@settings(deadline=None, derandomize=True)
@given(st.binary(min_size=1, max_size=200))
def test_token_from_any_bytes_gives_typed_errors(data: bytes) -> None:
    try:
        token = JoinToken.parse("dsdp-join-1-" + checked_text(data))
    except IdentityError:
        return
    assert parse_checked(token.encode()[12:], "token") == data


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"cluster": b""}, "cluster has 16 bytes"),
        ({"expires": -1}, "expiry"),
        ({"addresses": ()}, "1 to 255"),
        ({"addresses": ("no port",)}, "host:port"),
        ({"addresses": ("host:70000",)}, "host:port"),
        ({"addresses": tuple(f"host-with-a-long-name-{i}.example:7878" for i in range(30))}, "too long"),
    ],
)
def test_token_fields_are_checked(change: dict, says: str) -> None:
    from dataclasses import replace

    with pytest.raises(IdentityError, match=says):
        replace(TOKEN, **change).encode()


@pytest.mark.parametrize(
    ("text", "says"),
    [("hello", "begins with"), ("dsdp-join-2-aaaa", "another protocol version"), ("dsdp-join-1-aaaaaaa", "too few")],
)
def test_token_errors(text: str, says: str) -> None:
    with pytest.raises(IdentityError, match=says):
        JoinToken.parse(text)


def test_join_proof_binds_secret_to_key() -> None:
    mine, other = spki_of(KEY.public_key()), spki_of(ED.public_key())
    proof = sign(KEY, "dsdp-join/1", join_payload(TOKEN.secret_id, TOKEN.secret, mine))
    assert verify(KEY.public_key(), "dsdp-join/1", join_payload(TOKEN.secret_id, TOKEN.secret, mine), proof)
    assert not verify(KEY.public_key(), "dsdp-join/1", join_payload(TOKEN.secret_id, TOKEN.secret, other), proof)
