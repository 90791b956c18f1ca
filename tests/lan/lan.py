"""A small network of machines for tests, with faults on request: one interface, two implementations.

Where the system allows it, each machine is a network namespace with its own cable to a switch
(:mod:`tests.lan.namespaces`); elsewhere the machines share the loopback interface and each connection passes through a
proxy that misbehaves on demand (:mod:`tests.lan.loopback`), which needs no rights at all. Real processes, real TCP
either way.
"""

from __future__ import annotations

import abc
import functools
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Delay:
    """Of each direction between two machines: ``seconds`` +- ``jitter``. Order is kept."""

    seconds: float
    jitter: float = 0.0


class Lan(abc.ABC):
    """Machines by name, one network. Made by :func:`open_lan`.

    A fault holds until :meth:`heal`. All methods return when the fault is in force.
    """

    kind: str

    def __init__(self, machines: Sequence[str]) -> None:
        self.machines = tuple(machines)

    # ------------------------------------------------------------ processes

    @abc.abstractmethod
    def command(self, machine: str) -> list[str]:
        """What to put before a command so that it runs on ``machine``."""

    @abc.abstractmethod
    def listen(self, machine: str) -> tuple[str, int]:
        """(address, port) for the server of a machine; it has one. Port 0: any, to be told to :meth:`listening`."""

    @abc.abstractmethod
    def listening(self, machine: str, port: int) -> None:
        """The server of ``machine`` listens, perhaps once more and elsewhere."""

    @abc.abstractmethod
    def address(self, source: str, target: str) -> str:
        """HOST:PORT where ``source`` finds the server of ``target``: known before that listens, never changing."""

    # ------------------------------------------------------------ faults

    @abc.abstractmethod
    def cut(self, source: str, target: str) -> None:
        """From now on nothing that ``source`` sends gets to ``target``; the other direction stays."""

    def part(self, one: str, other: str) -> None:
        """No traffic between two machines, in both directions."""
        self.cut(one, other)
        self.cut(other, one)

    @abc.abstractmethod
    def unplug(self, machine: str) -> None:
        """Pull the cable of a machine."""

    @abc.abstractmethod
    def plug(self, machine: str) -> None:
        """Put its cable back."""

    @abc.abstractmethod
    def lose(self, share: float) -> None:
        """Lose this share of all packets, at random, between any two machines."""

    @abc.abstractmethod
    def lost(self) -> int:
        """Packets that :meth:`lose` has lost, since it was called or another fault began."""

    @abc.abstractmethod
    def heal(self) -> None:
        """End all faults. The delay that the network was made with stays."""


@functools.cache
def namespaces_fault() -> str:
    """Empty if network namespaces can be used here, else why not."""
    from tests.lan.namespaces import fault

    return fault()


def kinds() -> tuple[str, ...]:
    """What to test on: "namespaces" first, if they can be used here; "loopback" always.

    ``DSDP_LAN=namespaces`` or ``DSDP_LAN=loopback`` in the environment asks for that one, whether it works or not.
    """
    if wanted := os.environ.get("DSDP_LAN"):
        return (wanted,)
    return ("loopback",) if namespaces_fault() else ("namespaces", "loopback")


@contextmanager
def open_lan(kind: str, machines: Sequence[str], *, delay: Delay | None = None) -> Iterator[Lan]:
    """A network of this kind for the time of the block. Whatever it made is gone after that, however the block ends."""
    if kind == "namespaces":
        from tests.lan.namespaces import open_namespaces

        with open_namespaces(machines, delay) as lan:
            yield lan
    else:
        from tests.lan.loopback import open_loopback

        with open_loopback(machines, delay) as lan:
            yield lan
