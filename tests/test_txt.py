"""The TXT record: what we send, and what we make of what others send."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsdproto.errors import LocalError
from dsdproto.identity import node_id_text
from reference_nodes.txt import MAX_TXT_BYTES, MAX_VALUE_BYTES, Description, TxtError, decode_txt, encode_txt

PLAIN = Description(bytes(range(32)), b"instance", b"cluster 16 bytes", (2, 3), ("smollm2", "tm-1"), (1, 1))
NAMES = st.text(st.characters(codec="utf-8", exclude_characters=","), max_size=64)


def raw(fields: dict[str, str]) -> dict[bytes, bytes]:
    return {key.encode(): value.encode() for key, value in fields.items()}


def size(fields: dict[str, str]) -> int:
    return sum(2 + len(key) + len(value.encode()) for key, value in fields.items())


def test_the_record_of_an_ordinary_node():
    assert encode_txt(PLAIN) == {
        "v": "1-1",
        "id": node_id_text(bytes(range(32))).replace("-", ""),
        "in": b"instance".hex(),
        "c": b"cluster 16 bytes".hex(),
        "r": "2,3",
        "m": "smollm2,tm-1",
    }


@given(
    st.builds(
        Description,
        st.binary(min_size=32, max_size=32),
        st.binary(min_size=8, max_size=8),
        st.binary(min_size=16, max_size=16),
        st.lists(st.integers(0, 65535), max_size=16, unique=True).map(lambda roles: tuple(sorted(roles))),
        st.lists(NAMES, max_size=8).map(tuple),
        st.tuples(st.integers(1, 300), st.integers(0, 65000)).map(lambda pair: (pair[0], pair[0] + pair[1])),
    )
)
def test_whatever_a_node_is_its_record_is_short_and_reads_back(description):
    fields = encode_txt(description)
    assert size(fields) <= MAX_TXT_BYTES
    assert all(len(value.encode()) <= MAX_VALUE_BYTES for value in fields.values())
    again = decode_txt(raw(fields))
    for name in ("node_id", "instance", "cluster", "roles", "versions"):
        assert getattr(again, name) == getattr(description, name)
    # Models are a selection in the same order, and nothing is left out in silence.
    left = iter(description.models)
    assert all(model in left for model in again.models)
    assert again.more_models == (again.models != description.models)


@given(st.dictionaries(st.binary(max_size=8), st.none() | st.binary(max_size=80), max_size=12))
def test_garbage_is_refused_and_nothing_worse(properties):
    with pytest.raises(TxtError):
        decode_txt(properties)


@given(st.sampled_from(["v", "id", "in", "c", "r", "m"]), st.none() | st.binary(max_size=70))
def test_one_bad_value_is_named(key, value):
    """Either it still reads, and then back to the same text, or the error names the clause."""
    fields = raw(encode_txt(PLAIN)) | {key.encode(): value}
    try:
        description = decode_txt(fields)
    except TxtError as fault:
        assert fault.clause in {"v": "DI-4", "r": "DI-6", "m": "DI-7"}.get(key, "DI-5")
    else:
        assert key == "m" or raw(encode_txt(description))[key.encode()] == (value or b"")


@pytest.mark.parametrize(
    "changes, clause",
    [
        ({"v": "1"}, "DI-4"),
        ({"v": "2-1"}, "DI-4"),
        ({"v": "0-1"}, "DI-4"),
        ({"v": "01-1"}, "DI-4"),
        ({"v": "1-70000"}, "DI-4"),
        ({"id": node_id_text(bytes(32))}, "DI-5"),
        ({"id": node_id_text(bytes(32)).replace("-", "").upper()}, "DI-5"),
        ({"id": "a" * 53 + "b"}, "DI-5"),
        ({"in": "00"}, "DI-5"),
        ({"c": "0" * 31 + "G"}, "DI-5"),
        ({"c": "A" * 32}, "DI-5"),
        ({"r": "3,2"}, "DI-6"),
        ({"r": "2,2"}, "DI-6"),
        ({"r": "2,"}, "DI-6"),
        ({"r": "65536"}, "DI-6"),
        ({"r": ",".join(map(str, range(17)))}, "DI-6"),
        ({f"k{number}": "x" * 200 for number in range(7)}, "DI-8"),
    ],
)
def test_clauses(changes, clause):
    with pytest.raises(TxtError) as caught:
        decode_txt(raw(encode_txt(PLAIN) | changes))
    assert caught.value.clause == clause


@pytest.mark.parametrize("key", ["v", "id", "in", "c", "r"])
def test_every_key_but_models_is_needed(key):
    fields = encode_txt(PLAIN)
    del fields[key]
    with pytest.raises(TxtError, match=f"'{key}' is missing"):
        decode_txt(raw(fields))


def test_unknown_keys_unknown_roles_and_other_spellings_of_keys():
    fields = {key.upper(): value for key, value in encode_txt(PLAIN).items()} | {"R": "2,3,999", "zz": "?", "even": ""}
    del fields["M"]
    read = decode_txt({**raw(fields), b"flag": None, b"\xff\xff": b"\xff"})
    assert (read.roles, read.models, read.more_models) == ((2, 3, 999), (), False)


def test_models_that_do_not_fit_are_marked():
    names = tuple(f"model-number-{number:03}" for number in range(40))
    fields = encode_txt(Description(bytes(32), bytes(8), bytes(16), (1,), names))
    read = decode_txt(raw(fields))
    assert fields["m"].endswith(",*")
    assert 0 < len(read.models) < 40
    assert read.models == names[: len(read.models)]
    assert read.more_models


@pytest.mark.parametrize(
    "changes",
    [
        {"node_id": b"short"},
        {"instance": bytes(9)},
        {"cluster": b""},
        {"roles": (70000,)},
        {"roles": tuple(range(17))},
        {"versions": (2, 1)},
        {"versions": (0, 1)},
    ],
)
def test_our_own_mistakes_are_ours(changes):
    fields = {"node_id": bytes(32), "instance": bytes(8), "cluster": bytes(16), "roles": (1,)}
    with pytest.raises(LocalError):
        encode_txt(Description(**(fields | changes)))
