"""Recorded sessions in which one peer breaks a rule at a known point: a frame put in by hand behind a recorded one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from conformance.static.sample_messages import code_of, framed, pairs, sample
from conformance.static.wirebytes import fields, frame
from conformance.transcripts.recording import Step, steps_of
from conformance.transcripts.scenes import Scene
from dsdproto.prefix import PrefixChain


@dataclass
class At:
    """The recorded session up to the breach."""

    scene: Scene
    connection: int
    chain: PrefixChain
    """prompt and whole stream of the first session"""
    start: int

    @property
    def contract(self) -> dict[str, Any]:
        return fields_of(self.scene.clients[0].contract)

    @property
    def session(self) -> bytes:
        return self.scene.clients[0].session

    def digest(self, tokens: int) -> bytes:
        """Full digest behind so many tokens of the stream."""
        return self.chain.digest_at(self.start + tokens)


def fields_of(value: Any) -> Any:
    """A record of the package as a sample: names to plain values."""
    if hasattr(value, "__dataclass_fields__"):
        parts = {name: getattr(value, name) for name in value.__dataclass_fields__}
        return {name: fields_of(part) for name, part in parts.items() if part is not None}
    return [fields_of(part) for part in value] if isinstance(value, tuple) else value


Build = Callable[[At], bytes]


@dataclass(frozen=True)
class Breach:
    """``frame`` comes on ``connection`` behind the ``nth`` frame (from 0) that went ``way`` as ``message`` there."""

    name: str
    title: str
    clauses: str
    scene: Callable[[], Scene]
    recorder: str
    connection: int
    behind: tuple[str, str, int]
    frame: Build
    code: str
    channel: int = 0


scene = cache(lambda make: make())


def place(steps: list[Step], breach: Breach) -> int:
    """Index behind the frame that the breach follows."""
    way, message, nth = breach.behind
    seen = -1
    for index, (connection, direction, data) in enumerate(steps):
        if connection == breach.connection and direction == way and data[3] == code_of(message):
            seen += 1
            if seen == nth:
                return index + 1
    raise ValueError(f"{breach.name}: no frame {breach.behind} on connection {breach.connection}")


def steps_with(breach: Breach) -> tuple[list[Step], int]:
    """All recorded steps with the bad frame among them, and its index."""
    where = scene(breach.scene)
    node = where.stage.nodes[breach.recorder]
    steps = steps_of(node)
    at = place(steps, breach)
    client = where.clients[0]
    context = At(where, breach.connection, client.chain, len(client.contract.prompt))
    steps.insert(at, (breach.connection, "in", breach.frame(context)))
    return steps, at


# ---------------------------------------------------------------- frames by hand


def say(name: str, channel: int, drop: tuple[str, ...] = (), **changes: Any) -> Build:
    """A message of the table with these values; callables get the recorded session."""

    def build(at: At) -> bytes:
        values = sample(name)
        values |= {key: value(at) if callable(value) else value for key, value in changes.items()}
        for key in drop:
            del values[key]
        return framed(name, values, channel)

    return build


def raw(code: int, channel: int, payload: bytes, length: int | None = None) -> Build:
    return lambda at: frame(code, channel, payload, length)


def hello(name: str, **changes: Any) -> Build:
    """That node's HELLO with something else in it."""

    def build(at: At) -> bytes:
        values = fields_of(at.scene.stage.nodes[name].machine.hello) | changes
        return framed("HELLO", values, 0)

    return build


def extended(name: str, channel: int, key: int, value: bytes) -> Build:
    return lambda at: frame(code_of(name), channel, fields(sorted([*pairs(name, sample(name)), (key, value)])))


def terms(at: At) -> Any:
    return at.contract


def session(at: At) -> bytes:
    return at.session


def d(tokens: int, short: bool = False) -> Callable[[At], bytes]:
    return lambda at: at.digest(tokens)[: 16 if short else 32]


def group(at: At) -> bytes:
    return b"".join(at.scene.clients[0].group)
