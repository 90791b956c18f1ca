"""TLS over streams in memory and over a transport that takes little at a time."""

from __future__ import annotations

import random
import ssl

import pytest
import trio
from trio.testing import check_two_way_stream, memory_stream_pair

from reference_nodes import tls, trust
from reference_nodes.tls_stream import TlsStream


@pytest.fixture(scope="module")
def contexts(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    cluster = trust.init_cluster(home / "cluster", "ours")
    alice, bob = (trust.create_identity(cluster, home, name) for name in ("alice", "bob"))
    return tls.client_context(alice), tls.server_context(bob)


class Narrow(trio.abc.Stream):
    """A transport of which ``send_nowait`` takes at most ``room`` bytes in all, as a full socket would."""

    def __init__(self, stream: trio.abc.Stream, room: int) -> None:
        self.stream = stream
        self.room = room
        self.refused = 0

    def send_nowait(self, data: bytes) -> int:
        sent = min(len(data), self.room)
        self.room -= sent
        self.refused += len(data) - sent
        self.stream.put_data(data[:sent])
        return sent

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self.stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self.stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self.stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self.stream.aclose()


async def pair(contexts, near=None, far=None) -> tuple[TlsStream, TlsStream]:
    """Two ends that have shaken hands."""
    if near is None:
        near, far = memory_stream_pair()
    client, server = TlsStream(near, contexts[0]), TlsStream(far, contexts[1], server_side=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.do_handshake)
        nursery.start_soon(server.do_handshake)
    return client, server


async def read(stream: TlsStream, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = await stream.receive_some(1000)
        assert part and len(part) <= 1000
        data += part
    return data


@pytest.mark.trio
async def test_it_keeps_the_rules_of_a_trio_stream(contexts):
    async def make():
        return await pair(contexts)

    with trio.fail_after(60):
            await check_two_way_stream(make, None)


@pytest.mark.trio
async def test_both_directions_at_once_whatever_the_sizes(contexts):
    ends = await pair(contexts)
    random_ = random.Random(5)
    parts = [random_.randbytes(random_.choice((1, 22, 16384, 16385, 100_000))) for _ in range(40)]
    whole = b"".join(parts)

    async def send(stream: TlsStream) -> None:
        for part in parts:
            await stream.send_all(part)

    async def receive(stream: TlsStream) -> None:
        assert await read(stream, len(whole)) == whole

    async with trio.open_nursery() as nursery:
        for end in ends:
            nursery.start_soon(send, end)
            nursery.start_soon(receive, end)


@pytest.mark.parametrize("room", [0, 1, 50, 1 << 20])
@pytest.mark.trio
async def test_what_the_transport_does_not_take_at_once_follows_in_order(contexts, room):
    near, far = memory_stream_pair()
    narrow = Narrow(near.send_stream, 0)
    narrow.receive_some = near.receive_some
    client, server = await pair(contexts, narrow, far)
    near.send_stream.put_data = lambda data: far.receive_stream.put_data(data)
    narrow.room = room
    assert client.send_nowait(b"first") is (room >= 50)
    assert client.send_nowait(b"second") is (room > 50)
    await client.flush()
    await client.send_all(b"third")
    assert await read(server, 16) == b"firstsecondthird"
    assert bool(narrow.refused) is (room <= 50)


@pytest.mark.trio
async def test_the_end_of_the_stream_is_not_taken_for_a_cut(contexts):
    client, server = await pair(contexts)
    await client.send_all(b"last words")
    await client.aclose()
    assert await server.receive_some() == b"last words"
    assert await server.receive_some() == b""
    with pytest.raises(trio.ClosedResourceError):
        await client.receive_some()
    with pytest.raises(trio.ClosedResourceError):
        client.send_nowait(b"x")

    client, server = await pair(contexts)
    await client.transport_stream.aclose()
    with pytest.raises(trio.BrokenResourceError) as caught:
        await server.receive_some()
    assert isinstance(caught.value.__cause__, ssl.SSLEOFError)


@pytest.mark.trio
async def test_bytes_that_were_changed_on_their_way_break_the_stream(contexts):
    client, server = await pair(contexts)
    await client.transport_stream.send_all(b"\x17\x03\x03\x00\x20" + bytes(32))
    for _ in range(2):
        with pytest.raises(trio.BrokenResourceError):
            await server.receive_some()
    with pytest.raises(trio.BrokenResourceError):
        await server.send_all(b"x")


@pytest.mark.trio
async def test_a_send_that_was_cancelled_breaks_the_stream(contexts):
    near, far = memory_stream_pair()
    client, _ = await pair(contexts, near, far)
    near.send_stream.send_all_hook = trio.sleep_forever
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.send_all, b"x")
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    with pytest.raises(trio.BrokenResourceError):
        client.send_nowait(b"y")
