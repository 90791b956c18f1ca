"""The same exchange the ways that serving stacks do it today, and the floor: a bare TLS echo of the same bytes.

ZMQ + pickle and HTTP + JSON carry no prefix digests and no scores, are neither encrypted nor authenticated, and are
written as their users write them. Each client has ``play(rounds)``: a commit goes out, the next chain comes back.
"""

from __future__ import annotations

import http.client
import http.server
import json
import pickle
import socket
from typing import Any

from reference_nodes.bench.exchange import SESSION, Round

PATIENCE = 60
"""Seconds after which a client gives up on an answer."""

# ---------------------------------------------------------------- ZMQ + pickle


def serve_zmq(played: tuple[Round, ...], ready: Any) -> None:
    """The drafter's end; ``ready(port)`` is called once it listens."""
    import zmq

    chains = {item.position: list(item.chain) for item in played}
    socket_ = zmq.Context.instance().socket(zmq.PAIR)
    ready(socket_.bind_to_random_port("tcp://127.0.0.1"))
    while True:
        commit = pickle.loads(socket_.recv())
        position = commit["base_committed_len"]
        reply = {"rid": commit["rid"], "base_committed_len": position, "tokens": chains[position]}
        socket_.send(pickle.dumps(reply, protocol=pickle.HIGHEST_PROTOCOL))


class ZmqClient:
    def __init__(self, port: int) -> None:
        import zmq

        self._socket = zmq.Context.instance().socket(zmq.PAIR)
        self._socket.setsockopt(zmq.RCVTIMEO, 1000 * PATIENCE)
        self._socket.connect(f"tcp://127.0.0.1:{port}")

    def play(self, part: tuple[Round, ...]) -> None:
        accepted, token = 0, 0
        for item in part:
            commit = {
                "rid": SESSION.hex(),
                "base_committed_len": item.position,
                "num_accepted": accepted,
                "bonus_token": token,
            }
            self._socket.send(pickle.dumps(commit, protocol=pickle.HIGHEST_PROTOCOL))
            draft = pickle.loads(self._socket.recv())
            assert tuple(draft["tokens"]) == item.chain
            accepted, token = item.accepted, item.token

    def close(self) -> None:
        self._socket.close(linger=0)


# ---------------------------------------------------------------- HTTP + JSON


def serve_http(played: tuple[Round, ...], ready: Any) -> None:
    """The drafter's end: HTTP/1.1 with keep-alive."""
    chains = {item.position: list(item.chain) for item in played}

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = 1 << 16

        def do_POST(self) -> None:
            commit = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            body = json.dumps({"id": commit["id"], "tokens": chains[commit["position"]]}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            self.wfile.flush()

        def log_message(self, format: str, *values: Any) -> None:
            """Silent."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    ready(server.server_address[1])
    server.serve_forever()


class HttpClient:
    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        self._connection.connect()
        self._connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def play(self, part: tuple[Round, ...]) -> None:
        accepted, token = 0, 0
        for item in part:
            commit = {"id": SESSION.hex(), "position": item.position, "accepted": accepted, "token": token}
            self._connection.request("POST", "/draft", json.dumps(commit), {"Content-Type": "application/json"})
            draft = json.loads(self._connection.getresponse().read())
            assert tuple(draft["tokens"]) == item.chain
            accepted, token = item.accepted, item.token

    def close(self) -> None:
        self._connection.close()


# ---------------------------------------------------------------- the floor


async def serve_echo(stream: Any, request: int, answer: int) -> None:
    """Read ``request`` bytes, write ``answer`` bytes, for as long as the other side goes on."""
    reply = bytes(answer)
    while True:
        got = 0
        while got < request:
            data = await stream.receive_some(1 << 16)
            if not data:
                return
            got += len(data)
        await stream.send_all(reply)


class EchoClient:
    """Speaks to :func:`serve_echo` over TLS."""

    def __init__(self, stream: Any, request: int, answer: int) -> None:
        self._stream = stream
        self._request = bytes(request)
        self._answer = answer

    async def play(self, count: int) -> None:
        for _ in range(count):
            await self._stream.send_all(self._request)
            got = 0
            while got < self._answer:
                data = await self._stream.receive_some(1 << 16)
                if not data:
                    raise EOFError("the echo server has gone")
                got += len(data)
