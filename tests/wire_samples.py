"""Messages for tests: one valid example of every class, and strategies for all, both read off the table."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from dsdproto.registry import MAX_VOCABULARY, NODE_ID_BYTES
from dsdproto.wire import messages as m
from dsdproto.wire.kinds import Bytes, Kind, Text, Tokens, Uint, Uints
from dsdproto.wire.schema import SPECS, Array, Sub

SMALL_LISTS = 6


def hello(**changes: Any) -> m.Hello:
    return replace(HELLO, **changes)


HELLO = m.Hello(
    version_min=1,
    version_max=1,
    node_id=b"n" * 32,
    instance=b"instance",
    roles=(1, 2, 3, 4, 5),
    cluster=b"the-test-cluster",
    features=(1, 3, 5),
    limits=m.Limits(max_payload=1 << 20, max_channels=64, heartbeat_ms=2000),
    models=(),
    nonce=b"0123456789abcdef",
    agent="test/1",
)


def sample(cls: type, *, full: bool = False) -> Any:
    """A small valid instance: every field at its least value, optional ones absent unless ``full``."""
    values = {}
    for field in SPECS[cls].fields:
        values[field.name] = _least(field.kind, full) if full or not field.optional else None
    fix = _FIXES.get(cls)
    if fix is not None:
        fix(values, full)
    return cls(**values)


def _least(kind: Kind, full: bool) -> Any:
    match kind:
        case Uint(low, _):
            return low
        case Bytes(low, _):
            return b"x" * low
        case Text():
            return "text"
        case Tokens(low, _):
            return (0,) * max(low, 1)
        case Uints():
            return (1,)
        case Sub(record):
            return sample(record, full=full)
        case Array(record, _):
            return (sample(record, full=full),)
    raise AssertionError(kind)


def _one_each(*names: str) -> Any:
    def fix(values: dict[str, Any], full: bool) -> None:
        for name in names:
            if full:
                values[name] = bytes(len(values["tokens"]))

    return fix


def _verdict(values: dict[str, Any], full: bool) -> None:
    if not full:
        values["token"] = 0


_FIXES = {
    m.Propose: _one_each("parents", "scores"),
    m.Verify: _one_each("parents"),
    m.Block: _one_each("origins"),
    m.Verdict: _verdict,
}

# ---------------------------------------------------------------- strategies


def instances(cls: type) -> st.SearchStrategy[Any]:
    """Valid instances of a class, from its bounds in the table and the rules between its fields."""
    spec = SPECS[cls]

    @st.composite
    def build(draw: st.DrawFn) -> Any:
        values = {}
        for field in spec.fields:
            absent = field.optional and draw(st.booleans())
            values[field.name] = None if absent else draw(_values(field.kind))
        repair = _REPAIRS.get(cls)
        if repair is not None:
            repair(draw, values)
        return cls(**values)

    return build()


def _values(kind: Kind) -> st.SearchStrategy[Any]:
    match kind:
        case Uint(low, high):
            return st.one_of(st.integers(low, high), st.sampled_from([low, high]))
        case Bytes(low, high):
            return st.binary(min_size=low, max_size=min(high, low + 40))
        case Text(limit):
            return st.text(max_size=limit // 4)
        case Tokens(low, high):
            return st.lists(
                st.integers(0, MAX_VOCABULARY - 1), min_size=low, max_size=min(high, low + 40)
            ).map(tuple)
        case Uints(high, count):
            return st.lists(st.integers(0, high), max_size=min(count, SMALL_LISTS)).map(tuple)
        case Sub(record):
            return instances(record)
        case Array(record, count):
            return st.lists(instances(record), max_size=min(count, 3)).map(tuple)
    raise AssertionError(kind)


def _repair_hello(draw: st.DrawFn, values: dict[str, Any]) -> None:
    values["version_min"], values["version_max"] = sorted((values["version_min"], values["version_max"]))
    for name in ("roles", "features"):
        values[name] = tuple(sorted(set(values[name])))


def _repair_contract(draw: st.DrawFn, values: dict[str, Any]) -> None:
    values["stop_tokens"] = tuple(sorted(set(values["stop_tokens"])))
    values["vocabulary_size"] = max(values["prompt"] + values["stop_tokens"]) + 1


def _repair_session(draw: st.DrawFn, values: dict[str, Any]) -> None:
    size = values["contract"].vocabulary_size
    values["committed"] = tuple(token % size for token in values["committed"])


def _repair_tree(draw: st.DrawFn, values: dict[str, Any]) -> None:
    count = len(values["tokens"])
    if values["parents"] is not None:
        values["parents"] = bytes(draw(st.integers(0, index)) for index in range(count))
    if values.get("scores") is not None:
        values["scores"] = draw(st.binary(min_size=count, max_size=count))


def _repair_block(draw: st.DrawFn, values: dict[str, Any]) -> None:
    count = len(values["tokens"])
    if values["origins"] is not None:
        values["origins"] = draw(st.binary(min_size=count, max_size=count))
    if values["drafters"] is not None:
        entries = {entry.number: entry for entry in values["drafters"]}
        values["drafters"] = tuple(entries[number] for number in sorted(entries))


def _repair_verdict(draw: st.DrawFn, values: dict[str, Any]) -> None:
    if values["token"] is None and values["finish"] is None:
        values["finish"] = 0


def _repair_group(draw: st.DrawFn, values: dict[str, Any]) -> None:
    if values["group"] is not None:
        members = draw(st.sampled_from([1, 3, 9]))
        values["group"] = b"".join(bytes([number]) * NODE_ID_BYTES for number in range(members))


_REPAIRS = {
    m.Hello: _repair_hello,
    m.Contract: _repair_contract,
    m.Attach: _repair_session,
    m.Assign: _repair_session,
    m.Propose: _repair_tree,
    m.Verify: _repair_tree,
    m.Block: _repair_block,
    m.Enlist: _repair_group,
    m.Opened: _repair_group,
    m.Verdict: _repair_verdict,
}
