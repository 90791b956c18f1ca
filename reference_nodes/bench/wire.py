"""``dsdp bench wire``: what a round costs on a drafter's link, in bytes and in time, without any model.

Bytes are counted by a relay between the two processes, TLS records included, the handshake excluded. Times are taken
without the relay. A round is: the leader's commit goes out, the drafter's next chain of 8 comes back. DSDP is driven
straight from the stream: connection, codec, digests and TLS. The echo runs over the same TLS stream, which has half the
task switches of trio.SSLStream. "DSDP, reference nodes" has the nodes' tasks, mailboxes
and routing besides.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import trio

from dsdproto.prefix import SHORT_SIZE
from dsdproto.wire.codec import encode_message
from dsdproto.wire.messages import Advance, Block, Propose
from reference_nodes import tls
from reference_nodes.bench.exchange import WINDOW, Round, rounds, tokens_in
from reference_nodes.bench.relay import Relay
from reference_nodes.bench.spread import spread, spread_text
from reference_nodes.bench.wire_dsdp import CHANNEL, SCORES, WireBroken, open_leader
from reference_nodes.bench.wire_nodes import open_node_leader
from reference_nodes.bench.wire_others import EchoClient, HttpClient, ZmqClient
from reference_nodes.cli.output import say, table
from reference_nodes.trust import NodeIdentity, create_identity, init_cluster

AGREEMENTS = (0.8, 1.0)
WARM_UP = 50
TLS_RECORD_BYTES = 22
"""Header 5, content type 1, authentication tag 16 (RFC 8446, section 5.2)."""
TITLES = {
    "dsdp": "DSDP",
    "nodes": "DSDP, reference nodes",
    "echo": "bare TLS echo",
    "zmq": "ZMQ + pickle",
    "http": "HTTP + JSON",
}

Play = Callable[[int], Awaitable[None]]
"""Runs that many more rounds."""
Times = dict[str, list[float]]
"""Microseconds per round of each kind, one figure per repetition."""


class Site:
    """Where peers are started: a temporary cluster and the children of one benchmark."""

    def __init__(self, home: Path, total: int) -> None:
        self.home = home
        self.total = total
        """rounds that a peer must be ready for"""
        authority = init_cluster(home / "cluster", "bench")
        create_identity(authority, home, "drafter")
        self.leader: NodeIdentity = create_identity(authority, home, "leader")

    @contextmanager
    def peer(self, kind: str, agreement: float) -> Iterator[int]:
        """Start the drafter's end in a process of its own; gives its port."""
        request, answer = echo_sizes(rounds(self.total, agreement))
        command = [sys.executable, "-m", "reference_nodes.bench.wire_peer", kind, "--home", str(self.home)]
        command += ["--rounds", str(self.total + 1), "--agreement", str(agreement), "--echo", str(request), str(answer)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdin is not None and process.stdout is not None
            try:
                line = process.stdout.readline()
                if not line:
                    raise WireBroken(f"the peer for {kind} did not start; its error is above")
                yield json.loads(line)["port"]
            finally:
                process.stdin.close()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(5)
                process.kill()

    @asynccontextmanager
    async def client(self, kind: str, port: int, agreement: float) -> AsyncIterator[Play]:
        """The leader's end, connected."""
        played = rounds(self.total + 1, agreement)
        if kind == "dsdp":
            async with open_leader(port, self.leader, played) as leader:

                async def play_dsdp(count: int) -> None:
                    await leader.play(count)

                yield play_dsdp
        elif kind == "nodes":
            async with open_node_leader(port, self.leader, played) as leader_node:
                yield leader_node.play
        elif kind == "echo":
            stream = await tls.connect("127.0.0.1", port, self.leader)
            try:
                yield EchoClient(stream, *echo_sizes(rounds(self.total, agreement))).play
            finally:
                await trio.aclose_forcefully(stream)
        else:
            other: Any = {"zmq": ZmqClient, "http": HttpClient}[kind](port)
            waiting = iter(played)

            async def play_other(count: int) -> None:
                other.play(tuple(next(waiting) for _ in range(count)))

            try:
                yield play_other
            finally:
                other.close()


def echo_sizes(played: tuple[Round, ...]) -> tuple[int, int]:
    """Mean bytes of the frames of one round: (ADVANCE, PROPOSE). The echo moves as many."""
    sent = answered = numbered = 0
    for item in played:
        position = item.position + len(item.committed)
        ref = numbered + item.accepted if item.accepted else 0
        numbered += WINDOW
        sent += len(encode_message(CHANNEL, Advance(position=position, ref=ref, tokens=(item.token,))))
        propose = Propose(position=item.position, base=bytes(SHORT_SIZE), tokens=item.chain, scores=SCORES)
        answered += len(encode_message(CHANNEL, propose))
    return round(sent / len(played)), round(answered / len(played))


def delivery_bytes(played: tuple[Round, ...]) -> float:
    """Bytes per committed token on the client's link: a BLOCK with origins in a TLS record of its own per round."""
    total = 0
    for item in played:
        origins = bytes([1] * item.accepted + [0])
        block = Block(position=item.position, tokens=item.committed, origins=origins)
        total += len(encode_message(CHANNEL, block)) + TLS_RECORD_BYTES
    return total / tokens_in(played)


async def count_bytes(site: Site, kind: str, port: int, agreement: float, count: int) -> float:
    """Bytes per committed token of ``count`` rounds with the peer at ``port``."""
    with Relay(port) as relay:
        async with site.client(kind, relay.port, agreement) as play:
            # In the first round some of the set-up may still be on its way.
            await play(1)
            before = relay.count
            await play(count)
            moved = relay.count - before
    return moved / tokens_in(rounds(site.total + 1, agreement)[1 : 1 + count])


async def time_rounds(site: Site, ports: dict[str, int], agreement: float, count: int, repeat: int) -> Times:
    """The peers in turn, ``repeat`` times ``count`` rounds of each."""
    kinds = list(ports)
    times: Times = {kind: [] for kind in kinds}
    async with AsyncExitStack() as stack:
        plays: dict[str, Play] = {}
        for kind in kinds:
            plays[kind] = await stack.enter_async_context(site.client(kind, ports[kind], agreement))
            await plays[kind](WARM_UP)
        for turn in range(repeat):
            start = turn % len(kinds)
            for kind in kinds[start:] + kinds[:start]:
                begin = time.perf_counter()
                await plays[kind](count)
                times[kind].append((time.perf_counter() - begin) / count * 1e6)
    return times


def available() -> tuple[list[str], str]:
    """Kinds that can run here, and why others cannot."""
    try:
        import zmq  # noqa: F401
    except ImportError:
        return ["dsdp", "nodes", "echo", "http"], "pyzmq is not installed: pip install 'dsdp[bench]'"
    return ["dsdp", "nodes", "echo", "zmq", "http"], ""


async def bench_wire(count: int, repeat: int) -> dict[str, Any]:
    """The whole benchmark: ``repeat`` repetitions of ``count`` rounds. Keys as printed by ``--json``."""
    kinds, missing = available()
    if missing:
        say(f"note: {missing}")
    with tempfile.TemporaryDirectory(prefix="dsdp-bench-") as home:
        site = Site(Path(home), WARM_UP + count * repeat)
        # Many rounds, so that their mean length is close to the expected one.
        counted = max(count, site.total // 3)
        usual, full = AGREEMENTS
        moved: dict[str, dict[float, float]] = {kind: {} for kind in kinds}
        with ExitStack() as peers:
            say("starting the drafters' ends")
            ports = {kind: peers.enter_context(site.peer(kind, usual)) for kind in kinds}
            for kind in kinds:
                say(f"counting the bytes of {TITLES[kind]}")
                moved[kind][usual] = await count_bytes(site, kind, ports[kind], usual, counted)
                with site.peer(kind, full) as port:
                    moved[kind][full] = await count_bytes(site, kind, port, full, counted)
            say(f"timing {repeat} x {count} rounds of each, in turn")
            times = await time_rounds(site, ports, usual, count, repeat)
        played = {agreement: rounds(site.total + 1, agreement)[1 : 1 + counted] for agreement in AGREEMENTS}
        sizes = echo_sizes(rounds(site.total, AGREEMENTS[0]))
    return report(kinds, moved, times, played, sizes, count, missing)


def report(
    kinds: list[str],
    moved: dict[str, dict[float, float]],
    times: Times,
    played: dict[float, tuple[Round, ...]],
    sizes: tuple[int, int],
    count: int,
    missing: str,
) -> dict[str, Any]:
    """Everything measured, as one document."""
    usual, full = AGREEMENTS

    def figures_of(kind: str) -> dict[str, Any]:
        return {
            "bytes_per_committed_token": round(moved[kind][usual], 2),
            "bytes_per_committed_token_full_agreement": round(moved[kind][full], 2),
            "round_us": spread(times[kind], 1),
            "round_over_tls_echo": spread([one / floor for one, floor in zip(times[kind], times["echo"])]),
        }

    own = figures_of("dsdp")
    delivery = {agreement: delivery_bytes(played[agreement]) for agreement in AGREEMENTS}
    return {
        "window": WINDOW,
        "agreement": usual,
        "tokens_per_round": round(tokens_in(played[usual]) / len(played[usual]), 3),
        "tokens_per_round_full_agreement": round(tokens_in(played[full]) / len(played[full]), 3),
        "frame_bytes": {"advance": sizes[0], "propose": sizes[1]},
        **own,
        "round_over_tls_echo": own["round_over_tls_echo"]["median"],
        "round_over_tls_echo_spread": own["round_over_tls_echo"],
        "delivery_bytes_per_committed_token": round(delivery[usual], 2),
        "delivery_bytes_per_committed_token_full_agreement": round(delivery[full], 2),
        "with_delivery_bytes_per_committed_token": round(moved["dsdp"][usual] + delivery[usual], 2),
        "with_delivery_bytes_per_committed_token_full_agreement": round(moved["dsdp"][full] + delivery[full], 2),
        "reference_nodes": figures_of("nodes"),
        "peers": {TITLES[kind]: figures_of(kind) for kind in kinds if kind not in ("dsdp", "nodes")},
        "rounds": count,
        "rounds_counted": len(played[usual]),
        "repetitions": len(times["dsdp"]),
        "missing": missing,
    }


def wire_text(found: dict[str, Any]) -> str:
    """For people."""
    rows = [
        (
            title,
            figures["bytes_per_committed_token"],
            figures["bytes_per_committed_token_full_agreement"],
            spread_text(figures["round_us"]),
            spread_text(ratio),
        )
        for title, figures, ratio in [
            ("DSDP", found, found["round_over_tls_echo_spread"]),
            (TITLES["nodes"], found["reference_nodes"], found["reference_nodes"]["round_over_tls_echo"]),
            *((title, peer, peer["round_over_tls_echo"]) for title, peer in found["peers"].items()),
        ]
    ]
    head = ("", "bytes/token at 80 %", "at 100 %", "us/round (quartiles)", "x TLS echo (quartiles)")
    return (
        f"a drafter's link, chains of {found['window']}: {found['tokens_per_round']:g} tokens a round at 80 %, "
        f"{found['tokens_per_round_full_agreement']:g} at 100 %\n\n{table(head, rows)}\n\n"
        f"the client's link besides: {found['delivery_bytes_per_committed_token']:g} bytes per token at 80 %, "
        f"{found['delivery_bytes_per_committed_token_full_agreement']:g} at 100 %\n"
        "DSDP and the echo run over mutual TLS; ZMQ and HTTP neither encrypt nor authenticate here, nor name prefixes"
    )
