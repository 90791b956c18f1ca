"""Every message class: round trip, bounds, unknown keys, rules between fields; the CDDL says the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from cddl_verifier import Validator
from hypothesis import given, settings
from hypothesis import strategies as st
from wire_samples import HELLO, instances, sample

from dsdproto.errors import LocalError, PeerError
from dsdproto.registry import ErrorCode, MessageType, Role
from dsdproto.wire import cbor
from dsdproto.wire import messages as m
from dsdproto.wire.cddl import cddl, rule_name
from dsdproto.wire.codec import decode_message, decode_payload, encode_message, encode_payload, type_of
from dsdproto.wire.frames import Frame, FrameDecoder
from dsdproto.wire.kinds import Bytes, Text, Tokens, Uint, Uints
from dsdproto.wire.schema import (
    MESSAGES,
    SPECS,
    Array,
    array,
    bstr,
    record,
    tokens,
    uint,
    uints,
    validate,
    wire_classes,
)

CLASSES = tuple(wire_classes())
NAMES = [cls.__name__ for cls in CLASSES]


def test_every_code_point_has_a_class() -> None:
    assert {int(code) for code in MessageType} == set(MESSAGES)
    for code, cls in MESSAGES.items():
        assert MessageType(code).name.replace("_", "") == cls.__name__.upper()


@pytest.mark.parametrize("cls", CLASSES, ids=NAMES)
@settings(max_examples=30, deadline=None, derandomize=True)
@given(data=st.data())
def test_round_trip(cls: type, data: st.DataObject) -> None:
    value = data.draw(instances(cls))
    payload = encode_payload(value)
    assert decode_payload(cls, payload) == value
    assert cbor.encode(cbor.decode(payload)) == payload


@settings(deadline=None, derandomize=True)
@given(st.sampled_from(sorted(MESSAGES)).flatmap(lambda code: instances(MESSAGES[code])), st.integers(0, (1 << 32) - 1))
def test_frames_carry_messages(message: Any, channel: int) -> None:
    (frame,) = FrameDecoder((1 << 24) - 1).feed(encode_message(channel, message))
    assert frame.type == type_of(message) and frame.channel == channel
    assert decode_message(frame) == message


@pytest.mark.parametrize("cls", CLASSES, ids=NAMES)
def test_missing_unknown_and_misplaced_keys(cls: type) -> None:
    item = cbor.decode(encode_payload(sample(cls, full=True)))
    for field in SPECS[cls].fields:
        without = {key: part for key, part in item.items() if key != field.key}
        if field.optional and field.name not in ("token", "finish"):
            assert getattr(decode_payload(cls, cbor.encode(without)), field.name) is None
        elif not field.optional:
            with pytest.raises(PeerError, match=rf"without the mandatory .*{field.name}") as caught:
                decode_payload(cls, cbor.encode(without))
            assert caught.value.clause == "R-4"
        with pytest.raises(PeerError, match=field.name) as caught:
            decode_payload(cls, cbor.encode({**item, field.key: {99: 0}}))
        error = caught.value
        assert error.code == ErrorCode.MESSAGE_INVALID and error.message_type == SPECS[cls].type
        assert error.offset is not None
    grown = cbor.encode(dict(sorted({**item, 33: {1: [b"anything"]}, 65: 0}.items())))
    if SPECS[cls].closed:
        with pytest.raises(PeerError, match="map key 33, which is not in the table") as caught:
            decode_payload(cls, grown)
        assert caught.value.clause == "S-12"
        return
    assert decode_payload(cls, grown) == sample(cls, full=True)
    for key in (0, 34, 64):
        with pytest.raises(PeerError, match=f"unknown even map key {key}") as caught:
            decode_payload(cls, cbor.encode(dict(sorted({**item, key: 0}.items()))))
        assert caught.value.clause == "R-1" and caught.value.offset is not None


def beyond(kind: Any) -> list[Any]:
    """Values just outside the bounds of a field, of the right Python type."""
    match kind:
        case Uint(low, high):
            return [high + 1, *([low - 1] if low else [])]
        case Bytes(low, high):
            return [bytes(high + 1), *([bytes(low - 1)] if low else [])]
        case Text(limit):
            return ["x" * (limit + 1), "é" * (limit // 2 + 1)]
        case Tokens(low, high):
            return [(0,) * (high + 1), (1 << 24,), (-1,), *([(0,) * (low - 1)] if low else [])]
        case Uints(high, count):
            return [(high + 1,), tuple(range(count + 1))]
        case Array(record_, count):
            return [(sample(record_),) * (count + 1)]
    return []


@pytest.mark.parametrize("cls", CLASSES, ids=NAMES)
def test_bounds_hold_for_both_sides(cls: type) -> None:
    whole = sample(cls, full=True)
    for field in SPECS[cls].fields:
        for bad in beyond(field.kind):
            with pytest.raises(LocalError, match=rf"{cls.__name__}\.{field.name}") as local:
                validate(replace(whole, **{field.name: bad}))
            assert "R-5" in str(local.value)
            raw = bad
            if isinstance(field.kind, Tokens):
                if any(not 0 <= token < 1 << 24 for token in bad):
                    continue
                raw = bytes(3 * len(bad))
            elif isinstance(field.kind, Uints):
                raw = list(bad)
            elif isinstance(field.kind, Array):
                raw = [cbor.decode(encode_payload(part)) for part in bad]
            if raw in (1 << 64, [1 << 64]):
                continue  # no unsigned integer of CBOR
            item = {**cbor.decode(encode_payload(whole)), field.key: raw}
            payload = cbor.encode(item)
            with pytest.raises(PeerError, match=rf"{cls.__name__}\.{field.name}") as caught:
                decode_payload(cls, payload)
            assert caught.value.clause == "R-5"
            start = cbor.locate(payload, [field.key])
            assert start <= caught.value.offset < start + len(cbor.encode(raw)), "within the field's value"


RULES = [
    (replace(HELLO, version_min=2), "Hello.version_min", "C-7"),
    (replace(HELLO, roles=(2, 1)), "Hello.roles", "R-6"),
    (replace(HELLO, features=(3, 3)), "Hello.features", "R-6"),
    (replace(sample(m.Contract), stop_tokens=(0, 0)), "Contract.stop_tokens", "R-6"),
    (replace(sample(m.Contract), prompt=(1,)), "Contract.prompt", "R-7"),
    (replace(sample(m.Contract), stop_tokens=(7,)), "Contract.stop_tokens", "R-7"),
    (replace(sample(m.Attach), committed=(0, 1)), "Attach.committed", "R-7"),
    (replace(sample(m.Assign), committed=(0, 1)), "Assign.committed", "R-7"),
    (replace(sample(m.Propose), parents=b""), "Propose.parents", "R-8"),
    (replace(sample(m.Propose), parents=b"\1"), "Propose.parents", "R-8"),
    (replace(sample(m.Propose), tokens=(1, 2), parents=b"\0\2"), "Propose.parents", "R-8"),
    (replace(sample(m.Propose), scores=b"ab"), "Propose.scores", "R-8"),
    (replace(sample(m.Verify), tokens=(1,), parents=b"\0\0"), "Verify.parents", "R-8"),
    (replace(sample(m.Block), origins=b""), "Block.origins", "R-8"),
    (replace(sample(m.Verdict), token=None), "Verdict.token", "R-9"),
    (replace(sample(m.Enlist), group=bytes(33)), "Enlist.group", "Q-1"),
    (replace(sample(m.Enlist), group=b"a" * 32 + b"b" * 32), "Enlist.group", "Q-1"),
    (replace(sample(m.Enlist), group=b"a" * 32 + b"b" * 32 + b"a" * 32), "Enlist.group", "Q-1"),
    (replace(sample(m.Opened), group=b"a" * 64), "Opened.group", "Q-1"),
]


@pytest.mark.parametrize(("value", "where", "clause"), RULES, ids=[f"{row[1]}-{row[2]}" for row in RULES])
def test_rules_between_fields(value: Any, where: str, clause: str) -> None:
    with pytest.raises(LocalError, match=where) as local:
        encode_payload(value)
    assert clause in str(local.value)
    payload = raw_encoding(value)
    with pytest.raises(PeerError, match=where) as caught:
        decode_payload(type(value), payload)
    error = caught.value
    assert (error.code, error.clause) == (ErrorCode.MESSAGE_INVALID, clause)
    name = where.split(".")[1]
    field = next(field for field in SPECS[type(value)].fields if field.name == name)
    if getattr(value, name) is not None:
        assert payload[error.offset - 1] == field.key, "the offset is that of the field's value"


def raw_encoding(value: Any) -> bytes:
    """Encode without the rules between fields, as a careless peer would."""
    spec = SPECS[type(value)]
    check, spec.check = spec.check, None
    try:
        return encode_payload(value)
    finally:
        spec.check = check


def test_nested_faults_name_the_whole_path() -> None:
    offer = sample(m.ModelOffer)
    bad = replace(HELLO, models=(offer, replace(offer, vocabulary_size=0)))
    with pytest.raises(LocalError, match=r"Hello\.models\[1\]\.vocabulary_size: 0 is outside 1\.\."):
        encode_payload(bad)
    nested = replace(sample(m.Open), contract=replace(sample(m.Contract), prompt=(5,)))
    with pytest.raises(LocalError, match=r"Open\.contract\.prompt: token 5 in a vocabulary of 1"):
        encode_payload(nested)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (replace(sample(m.Ping), sequence=True), "unsigned integer"),
        (replace(sample(m.Ping), sequence="1"), "unsigned integer"),
        (replace(sample(m.Ping), sequence=None), "unsigned integer"),
        (replace(sample(m.Propose), tokens=[1]), "tuple of token ids"),
        (replace(sample(m.Propose), tokens=("x",)), "not an integer"),
        (replace(sample(m.Propose), base="x" * 16), "byte string"),
        (replace(HELLO, agent=b"x"), "text string"),
        (replace(HELLO, agent="\ud800"), "surrogate"),
        (replace(HELLO, roles=[1]), "tuple of unsigned"),
        (replace(HELLO, limits=None), "a Limits belongs"),
        (replace(HELLO, models=[]), "tuple of ModelOffer"),
        ("no message", "no record"),
    ],
)
def test_wrong_python_types_are_local_errors(value: Any, says: str) -> None:
    with pytest.raises(LocalError, match=says):
        encode_payload(value)


def test_enum_members_are_welcome() -> None:
    value = replace(HELLO, roles=(Role.CLIENT, Role.LEADER))
    assert decode_payload(m.Hello, encode_payload(value)) == value


def test_a_record_is_no_message() -> None:
    with pytest.raises(LocalError, match="only occurs inside"):
        encode_message(0, sample(m.Limits))


@settings(deadline=None, derandomize=True)
@given(st.sampled_from(sorted(MESSAGES)), st.binary(max_size=60))
def test_garbage_gives_typed_errors(code: int, payload: bytes) -> None:
    try:
        decode_message(Frame(code, 0, payload))
    except PeerError as error:
        assert error.message_type == code


@settings(deadline=None, derandomize=True)
@given(st.data())
def test_one_changed_byte_gives_a_message_or_a_typed_error(data: st.DataObject) -> None:
    cls = data.draw(st.sampled_from(CLASSES))
    payload = bytearray(encode_payload(data.draw(instances(cls))))
    payload[data.draw(st.integers(0, len(payload) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        value = decode_payload(cls, bytes(payload))
    except PeerError:
        return
    validate(value)


def test_the_table_refuses_its_own_mistakes() -> None:
    with pytest.raises(LocalError, match="ascend"):

        @record
        class Twice:
            one: int = uint(1)
            two: int = uint(1)

    with pytest.raises(LocalError, match="default None"):
        uint(1, default=3)
    assert [bstr(1, size=4).metadata["kind"], uints(2, max=3, max_items=1).metadata["kind"]] == [
        Bytes(4, 4),
        Uints(3, 1),
    ]
    assert tokens(1, max_items=2).metadata["kind"] == Tokens(0, 2)
    assert array(1, m.Limits, max_items=2).metadata["kind"] == Array(m.Limits, 2)


# ---------------------------------------------------------------- CDDL

VALIDATOR = Validator(cddl())


@pytest.mark.parametrize("cls", CLASSES, ids=NAMES)
def test_cddl_accepts_what_the_codec_makes(cls: type) -> None:
    for full in (False, True):
        result = VALIDATOR.validate(encode_payload(sample(cls, full=full)), rule_name(cls))
        assert result.valid, result.errors


@pytest.mark.parametrize("cls", CLASSES, ids=NAMES)
def test_cddl_refuses_what_the_codec_refuses(cls: type) -> None:
    item = cbor.decode(encode_payload(sample(cls, full=True)))
    for field in SPECS[cls].fields:
        wrong = cbor.encode({**item, field.key: {99: 0}})
        assert not VALIDATOR.validate(wrong, rule_name(cls)).valid, field.name
        if not field.optional:
            without = {key: part for key, part in item.items() if key != field.key}
            assert not VALIDATOR.validate(cbor.encode(without), rule_name(cls)).valid, field.name
