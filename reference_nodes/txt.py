"""The TXT record of a DSDP node: a handful of short keys (SPEC.md, section "Discovery", clauses DI-4 to
DI-8).

What a TXT record says is a hint that anyone on the network can forge. It saves dialing nodes that are of no
use; nothing else may depend on it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from dsdproto.errors import LocalError
from dsdproto.identity import IdentityError, node_id_text, parse_node_id
from dsdproto.registry import VERSION

MAX_TXT_BYTES = 400
"""of what we send; with the other records it then fits one unfragmented packet"""
MAX_RECEIVED_TXT_BYTES = 1300
MAX_VALUE_BYTES = 200
MAX_ROLES = 16
MORE = "*"

_RANGE = re.compile(r"([1-9][0-9]{0,4})-([1-9][0-9]{0,4})")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,4}")
_U16 = (1 << 16) - 1


class TxtError(ValueError):
    """A TXT record that breaks a clause. ``clause`` names it."""

    def __init__(self, clause: str, text: str) -> None:
        super().__init__(f"{text} (clause {clause})")
        self.clause = clause


@dataclass(frozen=True)
class Description:
    """What a node says about itself before anyone connects."""

    node_id: bytes
    """32 bytes"""
    instance: bytes
    """8 bytes, new at each start"""
    cluster: bytes
    """16 bytes"""
    roles: tuple[int, ...]
    """ascending registry numbers"""
    models: tuple[str, ...] = ()
    versions: tuple[int, int] = (VERSION, VERSION)
    more_models: bool = False
    """there are models that did not fit"""


def encode_txt(description: Description) -> dict[str, str]:
    """Keys and values in the order in which they are sent. Models that do not fit are left out, and the rest
    marked.

    Raises LocalError if an id has the wrong length or a number is out of range.
    """
    for name, value, size in (
        ("node_id", description.node_id, 32),
        ("instance", description.instance, 8),
        ("cluster", description.cluster, 16),
    ):
        if len(value) != size:
            raise LocalError(f"{name} has {len(value)} bytes; {size} are needed")
    low, high = description.versions
    if not 1 <= low <= high <= _U16:
        raise LocalError(f"{low}-{high} is no range of versions")
    roles = sorted(set(description.roles))
    if len(roles) > MAX_ROLES or not all(0 <= role <= _U16 for role in roles):
        raise LocalError(f"roles {roles}: at most {MAX_ROLES} numbers of 16 bits")
    fields = {
        "v": f"{low}-{high}",
        "id": _plain(description.node_id),
        "in": description.instance.hex(),
        "c": description.cluster.hex(),
        "r": ",".join(map(str, roles)),
    }
    room = min(MAX_VALUE_BYTES, MAX_TXT_BYTES - _size(fields) - len("\x00m="))
    models = _fit(description.models, room, description.more_models)
    if models:
        fields["m"] = models
    return fields


def decode_txt(properties: Mapping[bytes, bytes | None]) -> Description:
    """Check and read a TXT record. Unknown keys are ignored. Raises :class:`TxtError`."""
    size = sum(1 + len(key) + (0 if value is None else 1 + len(value)) for key, value in properties.items())
    if size > MAX_RECEIVED_TXT_BYTES:
        raise TxtError("DI-8", f"a TXT record of {size} bytes; at most {MAX_RECEIVED_TXT_BYTES} are read")
    # RFC 6763 section 6.4: keys are compared without regard to case, and the first of two equal ones counts.
    fields: dict[str, bytes] = {}
    for key, value in properties.items():
        fields.setdefault(key.decode("ascii", "replace").lower(), value or b"")
    versions = _versions(_text(fields, "v", "DI-4"))
    node_id = _node_id(_text(fields, "id", "DI-5"))
    instance = _hex(_text(fields, "in", "DI-5"), "in", 8)
    cluster = _hex(_text(fields, "c", "DI-5"), "c", 16)
    roles = _roles(_text(fields, "r", "DI-6"))
    models: tuple[str, ...] = ()
    more = False
    if fields.get("m"):
        names = _text(fields, "m", "DI-7").split(",")
        more = names[-1] == MORE
        models = tuple(name for name in (names[:-1] if more else names) if name)
    return Description(node_id, instance, cluster, roles, models, versions, more)


def _fit(models: tuple[str, ...], room: int, more: bool) -> str:
    """The names that fit ``room`` bytes, in order; names that hold a comma or control characters cannot be
    announced.
    """
    kept: list[str] = []
    for index, name in enumerate(models):
        if not name or "," in name or not name.isprintable() or name == MORE:
            more = True
            continue
        # Room for the mark is kept until the last name: it must fit if anything after this name does not.
        last = index == len(models) - 1 and not more
        text = ",".join([*kept, name] if last else [*kept, name, MORE])
        if len(text.encode()) > room:
            more = True
            continue
        kept.append(name)
    return ",".join([*kept, MORE] if more else kept)


def _size(fields: Mapping[str, str]) -> int:
    """Bytes of a TXT record: each string has a length byte in front."""
    return sum(2 + len(key.encode()) + len(value.encode()) for key, value in fields.items())


def _text(fields: Mapping[str, bytes], key: str, clause: str) -> str:
    if key not in fields:
        raise TxtError(clause, f"the key {key!r} is missing")
    try:
        return fields[key].decode()
    except UnicodeDecodeError:
        raise TxtError(clause, f"{key}={fields[key]!r} is not UTF-8") from None


def _versions(text: str) -> tuple[int, int]:
    match = _RANGE.fullmatch(text)
    low, high = map(int, match.groups()) if match else (0, 0)
    if not 1 <= low <= high <= _U16:
        raise TxtError("DI-4", f"v={text!r:.40} is no range of versions such as 1-1")
    return low, high


def _roles(text: str) -> tuple[int, ...]:
    numbers = text.split(",") if text else []
    if len(numbers) > MAX_ROLES or not all(_NUMBER.fullmatch(number) for number in numbers):
        raise TxtError("DI-6", f"r={text!r:.40} is no list of role numbers such as 2,3")
    roles = tuple(map(int, numbers))
    if any(role > _U16 for role in roles) or any(a >= b for a, b in pairwise(roles)):
        raise TxtError("DI-6", f"r={text!r:.40}: role numbers ascend and have 16 bits")
    return roles


def _hex(text: str, key: str, size: int) -> bytes:
    if not re.fullmatch(rf"[0-9a-f]{{{2 * size}}}", text):
        raise TxtError("DI-5", f"{key}={text!r:.40} is not {2 * size} lower-case hexadecimal digits")
    return bytes.fromhex(text)


def _node_id(text: str) -> bytes:
    try:
        node_id = parse_node_id(text)
    except IdentityError as fault:
        raise TxtError("DI-5", f"id={text!r:.60}: {fault}") from None
    # People may write a node id with hyphens and capitals; in a TXT record it has one spelling.
    if _plain(node_id) != text:
        raise TxtError("DI-5", f"id={text!r:.60} is not in lower case without hyphens")
    return node_id


def _plain(node_id: bytes) -> str:
    return node_id_text(node_id).replace("-", "")
