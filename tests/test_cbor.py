"""Strict CBOR: what is refused, with which clause, at which byte; and the compiled decoder against the plain reader."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsdproto.errors import LocalError, PeerError
from dsdproto.registry import MAX_DEPTH, ErrorCode
from dsdproto.wire import cbor
from dsdproto.wire.tokens import SMALL, pack_tokens, unpack_tokens

U64 = (1 << 64) - 1
LEAVES = st.one_of(st.integers(0, U64), st.binary(max_size=30), st.text(max_size=30))


def containers(inner: st.SearchStrategy) -> st.SearchStrategy:
    return st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.integers(0, U64), inner, max_size=4).map(lambda item: dict(sorted(item.items()))),
    )


LEVELS = [LEAVES]
for _ in range(MAX_DEPTH):
    LEVELS.append(st.one_of(LEAVES, containers(LEVELS[-1])))
ITEMS = LEVELS[-1]


@settings(deadline=None, derandomize=True)
@given(ITEMS)
def test_round_trip(item) -> None:
    payload = cbor.encode(item)
    assert cbor.decode(payload) == item
    assert cbor.explain(payload) is None


BAD = [
    ("", "B-1", 0, "ends where an item belongs"),
    ("82", "B-1", 1, "ends where an item belongs"),
    ("9bffffffffffffffff", "B-1", 9, "ends where"),
    ("bbffffffffffffffff", "B-1", 9, "ends where"),
    ("5bffffffffffffffff", "B-1", 0, "of which only 0"),
    ("7bffffffffffffffff00", "B-1", 0, "of which only 1"),
    ("1901", "B-1", 0, "within a head"),
    ("1c", "B-1", 0, "additional information 28"),
    ("1f", "B-1", 0, "additional information 31"),
    ("20", "B-2", 0, "negative"),
    ("a10139ffff", "B-2", 2, "negative"),
    ("c000", "B-2", 0, "tag"),
    ("c249010000000000000000", "B-2", 0, "tag"),
    ("d8184100", "B-2", 0, "tag"),
    ("d81900", "B-2", 0, "tag"),
    ("d81c80", "B-2", 0, "tag"),
    ("d9010280", "B-2", 0, "tag"),
    ("d9d9f700", "B-2", 0, "tag"),
    ("f4", "B-2", 0, "simple"),
    ("a101f5", "B-2", 2, "simple"),
    ("f6", "B-2", 0, "simple"),
    ("f7", "B-2", 0, "simple"),
    ("f90000", "B-2", 0, "float"),
    ("fb7ff8000000000000", "B-2", 0, "float"),
    ("ff", "B-2", 0, "simple"),
    ("a14000", "B-3", 1, "no unsigned integer"),
    ("a1616100", "B-3", 1, "no unsigned integer"),
    ("a18000", "B-3", 1, "no unsigned integer"),
    ("a1a000", "B-3", 1, "no unsigned integer"),
    ("a201000100", "B-3", 3, "key 1 after 1"),
    ("a202000100", "B-3", 3, "key 1 after 2"),
    ("1800", "B-4", 0, "shortest"),
    ("1817", "B-4", 0, "shortest"),
    ("1900ff", "B-4", 0, "shortest"),
    ("1a0000ffff", "B-4", 0, "shortest"),
    ("1b00000000ffffffff", "B-4", 0, "shortest"),
    ("580100", "B-4", 0, "shortest"),
    ("a1011800", "B-4", 2, "shortest"),
    ("a1180100", "B-4", 1, "shortest"),
    ("9fff", "B-4", 0, "indefinite"),
    ("bfff", "B-4", 0, "indefinite"),
    ("5fff", "B-4", 0, "indefinite"),
    ("7f6161ff", "B-4", 0, "indefinite"),
    ("8181818180", "B-5", 4, "deeper than 4"),
    ("a101a101a101a101a0", "B-5", 8, "deeper than 4"),
    ("0000", "B-6", 1, "1 bytes follow"),
    ("a0ff", "B-6", 1, "1 bytes follow"),
    ("62c328", "B-7", 1, "UTF-8"),
    ("63eda080", "B-7", 1, "UTF-8"),
]


@pytest.mark.parametrize(("data", "clause", "offset", "says"), BAD)
def test_refused(data: str, clause: str, offset: int, says: str) -> None:
    with pytest.raises(PeerError, match=says) as caught:
        cbor.decode(bytes.fromhex(data))
    error = caught.value
    assert (error.clause, error.offset) == (clause, offset)
    not_deterministic = clause == "B-4" or "must ascend" in error.text
    assert error.code == (ErrorCode.CBOR_NOT_DETERMINISTIC if not_deterministic else ErrorCode.CBOR_MALFORMED)


def outcome(payload: bytes):
    try:
        return cbor.decode(payload)
    except PeerError as error:
        return error


@settings(max_examples=500, deadline=None, derandomize=True)
@given(st.binary(max_size=24))
def test_garbage_gives_typed_errors_and_both_readers_agree(payload: bytes) -> None:
    result, verdict = outcome(payload), cbor.explain(payload)
    assert isinstance(result, PeerError) == (verdict is not None)
    if verdict is not None:
        assert (result.clause, result.offset) == (verdict.clause, verdict.offset)
    else:
        assert cbor.encode(result) == payload


@settings(max_examples=200, deadline=None, derandomize=True)
@given(ITEMS, st.data())
def test_one_changed_byte(item, data: st.DataObject) -> None:
    """Close to valid is where decoders differ."""
    payload = bytearray(cbor.encode(item))
    payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    result, verdict = outcome(bytes(payload)), cbor.explain(bytes(payload))
    assert isinstance(result, PeerError) == (verdict is not None)


def test_a_small_payload_cannot_ask_for_much_memory() -> None:
    tracemalloc.start()
    for head in ("9b0000000010000000", "bb0000000010000000", "9a7fffffff", "ba7fffffff", "5a7fffffff"):
        with pytest.raises(PeerError):
            cbor.decode(bytes.fromhex(head))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


def test_a_panic_of_the_compiled_decoder_stays_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    class Panic(BaseException):
        pass

    def panic(*args, **kwargs):
        raise Panic

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(cbor2, "loads", panic)
    with pytest.raises(PeerError, match="could not be decoded"):
        cbor.decode(b"\x00")
    monkeypatch.setattr(cbor2, "loads", interrupt)
    with pytest.raises(KeyboardInterrupt):
        cbor.decode(b"\x00")


@pytest.mark.parametrize(
    "item",
    [-1, 1.5, None, True, {1: False}, {2: 0, 1: 0}, {"a": 0}, [[[[[]]]]], {1: memoryview(b"")}, "\ud800", 1 << 64],
)
def test_local_items_that_are_not_strict(item) -> None:
    with pytest.raises(LocalError):
        cbor.encode(item)


@settings(deadline=None, derandomize=True)
@given(ITEMS)
def test_every_place_of_an_item_can_be_located(item) -> None:
    payload = cbor.encode(item)

    def visit(part, path: list[int]) -> None:
        at = cbor.locate(payload, path)
        assert at is not None and payload[at:].startswith(cbor.encode(part))
        steps = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ()
        for step, inner in steps:
            visit(inner, [*path, step])

    visit(item, [])


@settings(deadline=None, derandomize=True)
@given(st.lists(st.integers(0, (1 << 24) - 1), max_size=3 * SMALL).map(tuple))
def test_token_strings(tokens: tuple[int, ...]) -> None:
    data = pack_tokens(tokens)
    assert data == b"".join(token.to_bytes(3, "big") for token in tokens)
    assert unpack_tokens(data) == tokens


@pytest.mark.parametrize("count", [1, SMALL + 1])
@pytest.mark.parametrize(
    ("bad", "kind"), [(-1, ValueError), (1 << 24, ValueError), (1 << 40, ValueError), ("x", TypeError)]
)
def test_bad_tokens(count: int, bad, kind: type) -> None:
    with pytest.raises(kind, match=str(bad)):
        pack_tokens((0,) * (count - 1) + (bad,))
    with pytest.raises(ValueError, match="3 for each"):
        unpack_tokens(bytes(3 * count + 1))


def test_the_fuzzer_s_corpus_holds() -> None:
    """Every file of the corpus, through the fuzz target, without atheris."""
    from fuzz.decoder import CORPUS, check

    files = sorted(Path(CORPUS).iterdir())
    assert len(files) > 40
    for file in files:
        check(file.read_bytes())
