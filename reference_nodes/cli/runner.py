"""Runs a command's asynchronous part. What comes out is one exception, never a group of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

T = TypeVar("T")


def run_trio(function: Callable[..., Awaitable[T]], *args: object) -> T:
    """``trio.run``, with the first fault of a group raised in its place; Ctrl-C before any other."""
    try:
        return trio.run(function, *args)
    except BaseExceptionGroup as group:
        leaves = _leaves(group)
        interrupts = [leaf for leaf in leaves if isinstance(leaf, KeyboardInterrupt)]
        raise (interrupts or leaves)[0] from None


def _leaves(fault: BaseException) -> list[BaseException]:
    if isinstance(fault, BaseExceptionGroup):
        return [leaf for inner in fault.exceptions for leaf in _leaves(inner)]
    return [fault]
