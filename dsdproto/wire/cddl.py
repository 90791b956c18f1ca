"""The message table as CDDL (RFC 8610), for SPEC.md and for anyone who generates code from it.

What CDDL cannot say stays with the clauses: unknown odd map keys may be present (R-1), a token string's
length is a multiple of three (B-9), and the rules between fields (R-6 to R-9).
"""

from __future__ import annotations

import re

import dsdproto.wire.messages  # noqa: F401  (fills the table)
from dsdproto.wire.kinds import U64_MAX, Bytes, Kind, Text, Tokens, Uint, Uints
from dsdproto.wire.schema import SPECS, Array, Spec, Sub, wire_classes
from dsdproto.wire.tokens import TOKEN_BYTES


def rule_name(cls: type) -> str:
    """``StatusRequest`` is ``status-request``."""
    return re.sub(r"(?<!^)(?=[A-Z])", "-", cls.__name__).lower()


def cddl() -> str:
    """All messages and their records, in the order of the table. Ends with a newline."""
    specs = [SPECS[cls] for cls in wire_classes()]
    choice = "\n  / ".join(rule_name(spec.cls) for spec in specs if spec.type is not None)
    parts = [f"dsdp-payload = {choice}\n"]
    parts += [_rule(spec) for spec in specs]
    return "\n".join(parts)


def _rule(spec: Spec) -> str:
    name = rule_name(spec.cls)
    note = ""
    if spec.type is not None:
        senders = "any role" if len(spec.senders) > 2 else " or ".join(role.name.lower() for role in spec.senders)
        opens = ", opens its channel" if spec.opens else ""
        note = f"; type {spec.type:#04x}, {spec.plane} plane, from {senders}{opens}\n"
    if not spec.fields:
        return f"{note}{name} = {{}}\n"
    lines = []
    for index, field in enumerate(spec.fields):
        comma = "," if index + 1 < len(spec.fields) else ""
        entry = f"{'? ' if field.optional else ''}{field.key} => {_type(field.kind)}{comma}"
        lines.append(f"  {entry:<44}; {field.name}{_remark(field.kind)}")
    return f"{note}{name} = {{\n" + "\n".join(lines) + "\n}\n"


def _type(kind: Kind) -> str:
    match kind:
        case Uint(low, high):
            return "uint" if (low, high) == (0, U64_MAX) else f"{low}..{high}"
        case Bytes(low, high):
            return f"bstr .size {low}" if low == high else f"bstr .size ({low}..{high})"
        case Text(limit):
            return f"tstr .size (0..{limit})"
        case Tokens(low, high):
            return f"bstr .size ({low * TOKEN_BYTES}..{high * TOKEN_BYTES})"
        case Uints(high, count):
            return f"[0*{count} {_type(Uint(0, high))}]"
        case Sub(record):
            return rule_name(record)
        case Array(record, count):
            return f"[0*{count} {rule_name(record)}]"
    raise AssertionError(kind)


def _remark(kind: Kind) -> str:
    return f", {kind.min_items} to {kind.max_items} tokens" if isinstance(kind, Tokens) else ""
