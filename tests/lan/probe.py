"""``python -m tests.lan.probe JSON``: a server and connections to others, to see which bytes get through.

Commands: ``{"to": NAME, "text": TEXT}`` sends a line, over a connection made before or a new one. Events: ``ready``
(``port``), ``got`` (``text``, ``seconds``: since it was sent, by the clock that all processes of a machine share).
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import trio


def say(event: str, **fields: Any) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)


async def commands() -> AsyncIterator[dict[str, Any]]:
    """What comes on stdin, one JSON document a line, until that ends."""
    rest = b""
    async with trio.lowlevel.FdStream(os.dup(sys.stdin.fileno())) as stdin:
        async for data in stdin:
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                yield json.loads(line)


async def hear(stream: trio.abc.Stream) -> None:
    rest = b""
    try:
        async for data in stream:
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                sent, _, text = line.decode().partition(" ")
                say("got", text=text, seconds=time.monotonic() - float(sent))
    except trio.BrokenResourceError:
        return


async def deliver(words: trio.MemoryReceiveChannel[str], address: str) -> None:
    """One peer's lines, one after another: a connection that hangs is waited for, one that is refused tried again."""
    stream = None
    async for text in words:
        while stream is None:
            try:
                host, _, port = address.rpartition(":")
                stream = await trio.open_tcp_stream(host, int(port))
            except OSError:
                await trio.sleep(0.05)
        await stream.send_all(f"{time.monotonic()} {text}\n".encode())


async def main(options: dict[str, Any]) -> None:
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(options["port"], host=options["host"])
        nursery.start_soon(trio.serve_listeners, hear, [listener])
        say("ready", port=listener.socket.getsockname()[1])
        peers = {}
        for name, address in options["peers"].items():
            peers[name], words = trio.open_memory_channel[str](100)
            nursery.start_soon(deliver, words, address)
        async for command in commands():
            await peers[command["to"]].send(command["text"])
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, json.loads(sys.argv[1]))
