"""One line of English about a message, a record or something that happened to a node: for charts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dsdproto.commit import records as r
from dsdproto.registry import ErrorCode, Finish
from dsdproto.roles.client import Committed, Completed, Failed, Interrupted, Resumed, SessionItem, Started
from dsdproto.wire import messages as m


def describe(kind: str, what: Any, other: str) -> str:
    """What a line of a trace says, after the lanes."""
    match kind:
        case "recv":
            return message(what)
        case "lost":
            return f"{message(what)}: lost"
        case "stored":
            return f"stores {record(what[1])}"
        case "deliver":
            return delivered(what)
        case "timer":
            return f"timer: {timer(what)}"
        case "up":
            return f"link to {other}"
        case "down":
            return f"link to {other} is gone: {what}"
        case "crash":
            return str(what)
        case "restart":
            return "starts again"
        case "pause":
            return "stopped"
        case "resume":
            return "goes on"
    raise ValueError(f"a chart has no line for {kind!r}")


def message(what: Any) -> str:
    """Type and what matters of the content."""
    tell = _MESSAGES.get(type(what))
    name = type(what).__name__.upper()
    return name if tell is None else f"{name} {tell(what)}"


def _span(position: int, tokens: tuple[int, ...]) -> str:
    return f"{position}+{len(tokens)}"


def _ends(finish: int | None) -> str:
    return "" if finish is None else f", the end ({Finish(finish).name})"


def _report(e: m.Enlisted) -> str:
    last = f"last block view {e.view} height {e.height}" if e.height else "no block"
    return f"{last}, log to {e.position}, committed {e.committed}{_ends(e.finish)}"


_MESSAGES: dict[type, Callable[[Any], str]] = {
    m.Opened: lambda e: f"at {e.position}" + ("" if e.view is None else f", view {e.view}"),
    m.Resume: lambda e: f"at {e.position}",
    m.Block: lambda e: _span(e.position, e.tokens),
    m.End: lambda e: f"at {e.position}: {Finish(e.finish).name}",
    m.Error: lambda e: f"{_error(e.code)} ({e.clause})",
    m.Enlist: lambda e: f"view {e.view}, committed {e.committed}",
    m.Enlisted: _report,
    m.Prepare: lambda e: f"view {e.view} height {e.height}: {_span(e.position, e.tokens)}{_ends(e.finish)}",
    m.Vote: lambda e: f"view {e.view} height {e.height}",
    m.Commit: lambda e: f"view {e.view} height {e.height}: to {e.position}",
    m.Dismiss: lambda e: ("session ended", "?", "resigned")[e.reason],
    m.Assign: lambda e: f"with {len(e.committed)} tokens",
    m.Verify: lambda e: f"round {e.round} at {e.position}: {len(e.tokens)} nodes",
    m.Verdict: lambda e: f"round {e.round}: accepted {e.accepted}",
    m.Propose: lambda e: _span(e.position, e.tokens),
    m.Advance: lambda e: f"to {e.position}",
}


def _error(code: int) -> str:
    return ErrorCode(code).name if code in ErrorCode._value2member_map_ else f"{code:#06x}"


def record(what: Any) -> str:
    """What a disk holds from now on."""
    match what:
        case r.Founded():
            return "the founding"
        case r.Promised():
            return f"the promise of view {what.view}"
        case r.Accepted():
            span = _span(what.position, what.tokens)
            return f"the block of view {what.view} height {what.height}: {span}{_ends(what.finish)}"
        case r.Forgotten():
            return "that it forgets the session"
        case r.Committed():
            return f"that the end is committed: to {what.position}"
    return type(what).__name__


def delivered(what: Any) -> str:
    """What an application was given."""
    item = what.item if isinstance(what, SessionItem) else what
    match item:
        case Started():
            return "the stream begins"
        case Committed():
            return f"reads tokens {_span(item.position, item.tokens)}"
        case Interrupted():
            return f"interrupted: {item.reason}"
        case Resumed():
            return f"resumed in view {item.view}"
        case Completed():
            return "the stream is complete"
        case Failed():
            return f"failed: {item.text}"
    return getattr(item, "text", type(item).__name__)


def timer(key: Any) -> str:
    """Whose and which, without ids."""
    role, inner = key
    name = inner[0] if isinstance(inner, tuple) and isinstance(inner[0], str) else "flush"
    return f"{role.name.lower()}, {name}"
