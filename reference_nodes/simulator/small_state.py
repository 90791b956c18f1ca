"""Names and copies of states. Two nodes with one name do the same for ever after.

A name is made of every field of every object that hangs below a :class:`~reference_nodes.simulator.small_node.Member`.
What is left out is listed here, each with its reason; a field that is added to a machine is part of the name until
somebody lists it.
"""

from __future__ import annotations

import dataclasses
import io
import pickle
from collections import deque
from enum import Enum
from functools import lru_cache
from typing import Any

from dsdproto.commit.ballot import Ballot
from dsdproto.effects import LinkUp, Persist
from dsdproto.node import NodeMachine
from dsdproto.prefix import PrefixChain
from dsdproto.roles.client import Client
from dsdproto.roles.leader import Leader, LeaderConfig
from dsdproto.roles.leader_session import Answers, Session, VerifierSeat
from dsdproto.roles.voter import Seat, Voter, VoterConfig
from dsdproto.wire.messages import Contract, Hello, ModelOffer
from dsdproto.wire.schema import SPECS
from reference_nodes.simulator.small_node import Member
from reference_nodes.simulator.small_setting import Setting

CONSTANT = "configuration: the same in every state"
COUNTER = "counted for people"
LEFT_OUT: dict[type, dict[str, str]] = {
    Member: {
        "setting": CONSTANT,
        "number": "names are kept for each node apart",
        "records": "what they say is in `durable`; a restart replays them to that",
    },
    NodeMachine: {"hello": CONSTANT},
    Leader: {
        "config": CONSTANT,
        "open_channel": "the node's",
        "finished": COUNTER,
        "refused": COUNTER,
        "costs": "a scripted verdict has no duration to learn from",
    },
    Voter: {"config": CONSTANT, "node_id": CONSTANT},
    Seat: {"tries": "decides only how long the voter waits", "active": "time stands still"},
    Session: {
        "contract": CONSTANT,
        "trie": "without drafters it is its root, the end of the chain",
        "rounds": COUNTER,
        "verified": COUNTER,
        "accepted": COUNTER,
        "overhead": "time stands still",
        "orphan_since": "the verifier on board is never lost",
    },
    Ballot: {"since": "a step says how long ago it is"},
    VerifierSeat: {"since": "time stands still"},
    Client: {"contract": CONSTANT, "session": CONSTANT},
}
CONSTANTS = (Hello, Contract, Setting, LinkUp)
"""Objects of which there is one for each key under which they stand."""
_PLAIN = {int, str, bytes, bool, Persist, Answers, *SPECS}
"""Values that are their own names."""


def name_of(value: Any) -> Any:
    """A hashable value that equal states share."""
    return _name(value, {})


def _name(value: Any, met: dict[int, int]) -> Any:
    kind = type(value)
    if value is None or kind in _PLAIN:
        return value
    if kind is float:
        return ()  # a time; that there is one is all that counts
    if kind is PrefixChain:
        return value.tokens
    if isinstance(value, (tuple, list, deque)):
        return tuple([_name(item, met) for item in value])
    if kind is dict:
        # In no table of these machines does the order in which entries came decide what happens.
        return tuple([(key, _name(value[key], met)) for key in sorted(value, key=_order)])
    if kind is set:
        return tuple(sorted(value))
    if isinstance(value, Enum):
        return value.value
    if kind in CONSTANTS or callable(value):
        return kind.__name__
    before = met.setdefault(id(value), len(met))
    if before != len(met) - 1:
        return "see", before  # an object that stands in several tables is described once
    return (kind.__name__, *[_name(getattr(value, field), met) for field in _fields(kind)])


def _order(key: Any) -> Any:
    return key.value if isinstance(key, Enum) else key


@lru_cache(maxsize=256)
def _fields(kind: type) -> tuple[str, ...]:
    if not dataclasses.is_dataclass(kind):
        raise TypeError(f"no rule for a {kind.__name__} in a state: add one to small_state.py")
    left_out = {name for base in kind.__mro__ for name in LEFT_OUT.get(base, ())}
    return tuple(field.name for field in dataclasses.fields(kind) if field.name not in left_out)


# ---------------------------------------------------------------- copies

_IMMUTABLE = {Hello, Contract, LeaderConfig, VoterConfig, ModelOffer, Setting, LinkUp, Persist, Answers, *SPECS}


class Freezer:
    """Copies of members by way of bytes; what cannot change is shared between copies."""

    def __init__(self) -> None:
        self._shared: list[Any] = []
        self._numbers: dict[int, int] = {}

    def dump(self, member: Member) -> bytes:
        file = io.BytesIO()
        pickler = pickle.Pickler(file, pickle.HIGHEST_PROTOCOL)
        pickler.persistent_id = self._number  # type: ignore[method-assign]
        pickler.dump(member)
        return file.getvalue()

    def load(self, blob: bytes) -> Member:
        unpickler = pickle.Unpickler(io.BytesIO(blob))
        unpickler.persistent_load = self._shared.__getitem__  # type: ignore[method-assign,assignment]
        return unpickler.load()

    def _number(self, value: Any) -> int | None:
        if type(value) not in _IMMUTABLE:
            return None
        number = self._numbers.get(id(value))
        if number is None:
            number = self._numbers[id(value)] = len(self._shared)
            self._shared.append(value)  # and so it lives, and its id is its own
        return number
