"""Which of two links stays, when to dial, and whom."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from dsdproto.registry import Role
from reference_nodes.connect_errors import Refused
from reference_nodes.peers import Peers, Redial, useful
from reference_nodes.transport import Opened

LOW, HIGH = b"\x01" * 32, b"\x02" * 32


@dataclass
class Peer:
    node_id: bytes
    instance: bytes = b"instance"


@dataclass(eq=False)
class FakeLink:
    number: int
    peer: Peer
    dialer: bool
    expected: bytes | None = None
    closed: str = ""
    address: str = "somewhere"

    def close(self, reason: str) -> None:
        self.closed = reason


def peers_of(node_id: bytes, **more: Any) -> Peers:
    async def never(*values: Any) -> Any:
        raise AssertionError("not dialed in this test")

    return Peers(node_id, (int(Role.LEADER),), more.pop("dial", never), never, never, **more)  # type: ignore[arg-type]


def decide(own: bytes, other: bytes, first_dialed: bool, second_dialed: bool) -> list[int]:
    """Numbers of the links that are left when a second one comes up."""

    async def main() -> list[int]:
        peers = peers_of(own)
        first, second = FakeLink(1, Peer(other), first_dialed), FakeLink(2, Peer(other), second_dialed)
        assert peers.admit(first) == ""  # type: ignore[arg-type]
        refusal = peers.admit(second)  # type: ignore[arg-type]
        assert bool(refusal) != bool(first.closed)
        return list(peers.links)

    return trio.run(main)


@pytest.mark.parametrize("low_dialed_first", [True, False])
def test_when_both_dialed_both_keep_the_link_of_the_lower_id(low_dialed_first: bool) -> None:
    """Link 1 is what both ends saw first; each end must come to the same decision."""
    at_low = decide(LOW, HIGH, low_dialed_first, not low_dialed_first)
    at_high = decide(HIGH, LOW, not low_dialed_first, low_dialed_first)
    assert at_low == at_high == ([1] if low_dialed_first else [2])


@pytest.mark.parametrize("dialed", [True, False])
def test_when_one_dialed_twice_the_newer_link_stays(dialed: bool) -> None:
    assert decide(LOW, HIGH, dialed, dialed) == [2]


def test_two_processes_of_one_identity_are_two_peers() -> None:
    async def main() -> None:
        peers = peers_of(LOW)
        assert peers.admit(FakeLink(1, Peer(HIGH, b"one"), False)) == ""  # type: ignore[arg-type]
        assert peers.admit(FakeLink(2, Peer(HIGH, b"two"), False)) == ""  # type: ignore[arg-type]
        assert list(peers.links) == [1, 2]

    trio.run(main)


def test_a_node_that_is_not_the_announced_one_is_refused() -> None:
    async def main() -> None:
        refusal = peers_of(LOW).admit(FakeLink(1, Peer(HIGH), True, expected=b"\x03" * 32))  # type: ignore[arg-type]
        assert "announced" in refusal

    trio.run(main)


def test_redialing_backs_off_with_jitter_up_to_a_cap() -> None:
    """Attempts on a virtual clock: gaps double, stay within their span, and never exceed the longest."""
    at: list[float] = []

    async def dial(host: str, port: int) -> Any:
        at.append(trio.current_time())
        raise Refused(f"{host}:{port} refused the connection.")

    async def main() -> None:
        peers = peers_of(LOW, dial=dial, redial=Redial(1.0, 8.0), rng=random.Random(5))
        async with trio.open_nursery() as nursery:
            await nursery.start(peers.run)
            peers.dial_static("10.0.0.1", 7)
            await trio.sleep(60)
            (entry,) = peers.dialing()
            assert entry["failures"] == len(at) and "refused" in entry["error"]
            nursery.cancel_scope.cancel()

    trio.run(main, clock=MockClock(autojump_threshold=0))
    gaps = [after - before for before, after in itertools.pairwise(at)]
    for gap, span in zip(gaps, [2.0, 4.0, 8.0, 8.0, 8.0, 8.0]):
        assert span / 2 <= gap <= span
    assert len({round(gap, 6) for gap in gaps}) == len(gaps)


def test_a_link_that_lived_resets_the_back_off() -> None:
    """A peer that was reached again after failures is redialed quickly when it is lost anew."""
    at: list[float] = []

    class Short(FakeLink):
        reason, up, lived = "lost", False, True

        async def run(self, owner: Any) -> None:
            await trio.sleep(100)

    class Stream:
        async def aclose(self) -> None: ...

    async def dial(host: str, port: int) -> Any:
        at.append(trio.current_time())
        if len(at) <= 5:
            raise Refused(f"{host}:{port} refused the connection.")
        return Opened(Stream(), None, None, None)  # type: ignore[arg-type]

    async def main() -> None:
        peers = peers_of(LOW, dial=dial, redial=Redial(1.0, 64.0), rng=random.Random(5))
        peers._make_link = lambda number, opened, dialer, address: Short(number, Peer(HIGH), dialer)  # type: ignore
        async with trio.open_nursery() as nursery:
            await nursery.start(peers.run)
            peers.dial_static("10.0.0.1", 7)
            await trio.sleep(500)
            nursery.cancel_scope.cancel()

    trio.run(main, clock=MockClock(autojump_threshold=0))
    gaps = [after - before for before, after in itertools.pairwise(at)]
    assert max(gaps[:5]) > 10.0
    assert len(gaps) > 6 and all(100.0 < gap <= 101.0 for gap in gaps[5:])


@pytest.mark.parametrize(
    ("mine", "theirs", "expected"),
    [
        ((Role.LEADER,), (Role.DRAFTER,), True),
        ((Role.DRAFTER,), (Role.LEADER, Role.VERIFIER), True),
        ((Role.LEADER,), (Role.VERIFIER,), True),
        ((Role.CLIENT,), (Role.LEADER,), True),
        ((Role.DRAFTER,), (Role.VERIFIER,), False),
        ((Role.CLIENT,), (Role.DRAFTER,), False),
        ((Role.LEADER,), (Role.LEADER,), False),
        ((), (Role.LEADER,), False),
    ],
)
def test_who_is_worth_dialing(mine: tuple[Role, ...], theirs: tuple[Role, ...], expected: bool) -> None:
    assert useful(mine, theirs) is useful(theirs, mine) is expected
