"""What the table of messages cannot say: rules between the fields of one message (SPEC.md, clauses R-6 to
R-9, Q-1).

Importing this module puts the checks into the table; :mod:`dsdproto.wire.codec` does so.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from dsdproto.wire import messages
from dsdproto.wire.groups import split_group
from dsdproto.wire.kinds import Fault
from dsdproto.wire.schema import SPECS

CLAUSE_ASCENDING = "R-6"
CLAUSE_VOCABULARY = "R-7"
CLAUSE_TREE = "R-8"
CLAUSE_VERDICT = "R-9"
CLAUSE_VERSIONS = "C-7"
CLAUSE_GROUP = "Q-1"


def _check(cls: type) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
    def register(function: Callable[[Any], None]) -> Callable[[Any], None]:
        SPECS[cls].check = function
        return function

    return register


def _fault(clause: str, field: str, text: str) -> Fault:
    fault = Fault(clause, text)
    fault.names.append(field)
    return fault


def _ascending(field: str, values: tuple[int, ...]) -> None:
    for before, after in pairwise(values):
        if after <= before:
            raise _fault(CLAUSE_ASCENDING, field, f"{after} after {before}; values must ascend, each once")


def _within(field: str, tokens: tuple[int, ...], vocabulary_size: int) -> None:
    if tokens and max(tokens) >= vocabulary_size:
        text = f"token {max(tokens)} in a vocabulary of {vocabulary_size}"
        raise _fault(CLAUSE_VOCABULARY, field, text)


def _one_each(field: str, values: bytes | None, count: int) -> None:
    if values is not None and len(values) != count:
        raise _fault(CLAUSE_TREE, field, f"{len(values)} bytes for {count} tokens; there must be one each")


def _tree(parents: bytes | None, count: int) -> None:
    if parents is None:
        return
    _one_each("parents", parents, count)
    for index, parent in enumerate(parents):
        if parent > index:
            text = f"node {index + 1} hangs below node {parent}; a parent must come before its children"
            raise _fault(CLAUSE_TREE, "parents", text)


def _group(field: str, group: bytes) -> None:
    try:
        split_group(group)
    except ValueError as error:
        raise _fault(CLAUSE_GROUP, field, str(error)) from error


@_check(messages.Hello)
def _hello(hello: messages.Hello) -> None:
    if hello.version_min > hello.version_max:
        text = f"{hello.version_min} is above version_max {hello.version_max}"
        raise _fault(CLAUSE_VERSIONS, "version_min", text)
    _ascending("roles", hello.roles)
    _ascending("features", hello.features)


@_check(messages.Contract)
def _contract(contract: messages.Contract) -> None:
    _ascending("stop_tokens", contract.stop_tokens)
    _within("prompt", contract.prompt, contract.vocabulary_size)
    _within("stop_tokens", contract.stop_tokens, contract.vocabulary_size)


@_check(messages.Attach)
@_check(messages.Assign)
def _session(opening: messages.Attach | messages.Assign) -> None:
    _within("committed", opening.committed, opening.contract.vocabulary_size)


@_check(messages.Enlist)
def _enlist(enlist: messages.Enlist) -> None:
    _group("group", enlist.group)


@_check(messages.Opened)
def _opened(opened: messages.Opened) -> None:
    if opened.group is not None:
        _group("group", opened.group)


@_check(messages.Block)
def _block(block: messages.Block) -> None:
    _one_each("origins", block.origins, len(block.tokens))
    if block.drafters is not None:
        _ascending("drafters", tuple(entry.number for entry in block.drafters))


@_check(messages.Propose)
def _propose(propose: messages.Propose) -> None:
    _tree(propose.parents, len(propose.tokens))
    _one_each("scores", propose.scores, len(propose.tokens))


@_check(messages.Verify)
def _verify(verify: messages.Verify) -> None:
    _tree(verify.parents, len(verify.tokens))


@_check(messages.Verdict)
def _verdict(verdict: messages.Verdict) -> None:
    if verdict.token is None and verdict.finish is None:
        raise _fault(CLAUSE_VERDICT, "token", "absent although the stream goes on (no finish)")
