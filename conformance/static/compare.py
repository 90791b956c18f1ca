"""Does an answer say what a vector expects? Exactly, but for the few things that are free."""

from __future__ import annotations

from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from conformance.door.process import Answer
from conformance.static.vectors import Vector

FOR_PEOPLE = ("clause", "text")
"""Keys that an answer may have besides."""


def difference(each: Vector, answer: Answer) -> tuple[str, object, object] | None:
    """What is wrong with the answer as (in words, wanted, got); None: nothing."""
    expect = each["expect"]
    if "error" in expect:
        wanted = " ".join(expect["error"].values())
        if answer.refusal is None:
            return "what has to be refused was taken", wanted, answer.ok
        if str(answer.refusal) != wanted:
            got = f"{answer.refusal}: {answer.refusal.clause} {answer.refusal.text}".rstrip(": ")
            return "refused, but for another reason", wanted, got
        return None
    if answer.refusal is not None:
        return (
            f"refused ({answer.refusal.clause} {answer.refusal.text})".replace("( )", ""),
            expect["ok"],
            str(answer.refusal),
        )
    if each.get("compare") == "signature":
        return _signature(each, answer.ok)
    return differs(expect["ok"], answer.ok)


def differs(wanted: Any, got: Any, path: str = "") -> tuple[str, object, object] | None:
    """The first place where two values of JSON differ. Integers may come as decimal strings; `paths` in any order."""
    where = path.lstrip(".") or "the answer"
    if isinstance(wanted, dict):
        if not isinstance(got, dict):
            return f"{where} is no object", wanted, got
        for key in wanted:
            if key not in got:
                return f"{where} lacks {key}", wanted, got
            if key == "paths" and isinstance(got[key], list):
                if sorted(map(str, wanted[key])) != sorted(map(str, got[key])):
                    return f"{path}.{key} differ".lstrip("."), wanted[key], got[key]
                continue
            if found := differs(wanted[key], got[key], f"{path}.{key}"):
                return found
        more = [key for key in got if key not in wanted and key not in FOR_PEOPLE]
        return (f"{where} has {', '.join(more)} besides", sorted(wanted), sorted(got)) if more else None
    if isinstance(wanted, list):
        if not isinstance(got, list):
            return f"{where} is no array", wanted, got
        for index, (one, other) in enumerate(zip(wanted, got)):
            if found := differs(one, other, f"{path}[{index}]"):
                return found
        return (f"{where} has {len(got)} items, not {len(wanted)}", wanted, got) if len(wanted) != len(got) else None
    if isinstance(wanted, int) and not isinstance(wanted, bool) and isinstance(got, str):
        return None if got == str(wanted) else (f"{where} differs", wanted, got)
    if type(wanted) is str and type(got) is int and wanted.isdecimal():
        return None if str(got) == wanted else (f"{where} differs", wanted, got)
    if type(wanted) is not type(got) or wanted != got:
        return f"{where} differs", wanted, got
    return None


def _signature(each: Vector, got: Any) -> tuple[str, object, object] | None:
    """Any valid signature is right; the one expected is only an example."""
    given = each["request"]["input"]
    key = ec.derive_private_key(int(given["scalar"], 16), ec.SECP256R1()).public_key()
    context = given["context"].encode()
    signed = b"DSDP statement v1\0" + bytes([len(context)]) + context + bytes.fromhex(given["payload"])
    try:
        key.verify(bytes.fromhex(got["signature"]), signed, ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, ValueError, TypeError, KeyError):
        return "the signature does not verify", "a valid one", got
    return None
