"""One neighbour of the testee, spoken by hand: exact bytes out, typed messages in, everything into the wire log.

A :class:`Peer` owns one TLS connection. What comes from the testee is decoded strictly and judged as it comes: a frame
that breaks a rule of the connection (encoding, field tables, order, channels) is a violation whatever the case is
about, and ends it at the next wait. PING, STATUS_REQUEST and grease are answered or passed over behind the case's back,
unless it asks for them with ``manual``. What goes *out* is not judged at all: cases say what they like.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import random
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import trio
from cryptography import x509

from conformance.door.dial import why
from conformance.door.pki import Identity
from conformance.live.judge import Judge, name_of
from conformance.trial import Trial
from conformance.verdict import Failed, Inconclusive
from dsdproto.channels import Channels
from dsdproto.errors import PeerError
from dsdproto.identity import node_id_of
from dsdproto.registry import (
    GREASE_FEATURES,
    GREASE_KEYS,
    GREASE_TYPES,
    ErrorCode,
)
from dsdproto.wire import cbor
from dsdproto.wire.codec import encode_payload, type_of
from dsdproto.wire.frames import Frame, FrameDecoder, encode_frame
from dsdproto.wire.messages import (
    Error,
    Goodbye,
    Hello,
    Ping,
    Pong,
    Ready,
    Status,
    StatusRequest,
)

M = TypeVar("M")

CHUNK = 1 << 16
HANDSHAKE_SECONDS = 9.5
"""Somewhat less than those of clause C-5."""
ODD_KEYS = tuple(range(65, 256, 2))
"""Private, odd: whoever did not agree on them ignores them (clauses R-1, R-2)."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A frame from the testee."""

    frame: Frame
    message: Any
    """None: an unknown odd type"""
    at: float


def described(message: Any) -> str:
    """A message as a finding shows it: short."""
    if isinstance(message, Error):
        known = ErrorCode._value2member_map_.get(message.code)
        name = known.name if known is not None else f"{message.code:#06x}"  # type: ignore[attr-defined]
        return f"ERROR {name} ({message.clause}): {message.text}"
    text = repr(message)
    return text if len(text) <= 300 else text[:297] + "..."


class Peer:
    """One connection to the testee.

    :param dialer: the suite dialed (it then opens odd channels).
    :param say: makes the HELLO that this peer says of itself.
    """

    def __init__(
        self,
        name: str,
        trial: Trial,
        stream: trio.SSLStream[Any],
        identity: Identity,
        hello: Hello,
        *,
        dialer: bool = True,
    ) -> None:
        self.name = name
        self.trial = trial
        self.stream = stream
        self.identity = identity
        self.judge = Judge(name, hello, dialer=dialer)
        self.site: Any = None
        """what all trials of the run share, where the suite dialed (:class:`conformance.live.testee.Site`)"""
        self.dialer = dialer
        self._born = self._said = trial.elapsed
        """real time when it was connected, and when this side last sent something"""
        self._too_slow = ""
        """why the testee was right to end the connection, as this side kept it waiting; empty: it was not"""
        self.closes = True
        """behind GOODBYE, or ERROR on channel 0, of the testee (clauses C-13, E-6); else it alone has to close"""
        self.manual = False
        """PING and STATUS_REQUEST go to the case and are not answered"""
        self.ended: str = ""
        """how the testee's byte stream ended; empty: it has not"""
        self.received = 0
        self.bytes_in = 0
        self.arrivals: list[Arrival] = []
        """everything that came, in order"""
        self.rng = random.Random(f"{trial.seed}/{trial.case.id}/{name}")
        self._inbox: list[Arrival] = []
        self._pulse = trio.Event()
        self._sending = trio.Lock()
        self._next = 1 if dialer else 2
        self._hello_payload = b""
        self._their_payload = b""
        self._decoder = FrameDecoder(1 << 24)

    @property
    def hello(self) -> Hello:
        """What this side says, grease left out."""
        return self.judge.hello

    @property
    def their(self) -> Hello | None:
        """What the testee said, once it is here."""
        return self.judge.their

    @property
    def features(self) -> tuple[int, ...]:
        """Agreed on."""
        return self.judge.features

    @property
    def channels(self) -> Channels:
        return self.judge.channels

    # ------------------------------------------------------------ what TLS says

    @property
    def certificate(self) -> x509.Certificate:
        der = self.stream.getpeercert(binary_form=True)
        return x509.load_der_x509_certificate(der)

    @property
    def peer_id(self) -> bytes:
        """Node id of the testee, from its certificate (clause T-6)."""
        return node_id_of(self.certificate.public_key())  # type: ignore[arg-type]

    # ------------------------------------------------------------ out

    async def raw(self, data: bytes, remark: str = "", *, pieces: int = 0) -> None:
        """Exactly these bytes. ``pieces``: so many bytes a TLS record and TCP segment (1: byte by byte).

        A connection that the testee has closed by now is no fault here: whoever waits for something will see it.
        """
        self.trial.wire.sent(self.name, data, remark)
        self._said = self.trial.elapsed
        try:
            async with self._sending:
                if not pieces:
                    await self.stream.send_all(data)
                    return
                for start in range(0, len(data), pieces):
                    await self.stream.send_all(data[start : start + pieces])
        except (trio.BrokenResourceError, trio.ClosedResourceError, OSError) as error:
            self.trial.wire.event(self.name, f"could not be sent: {why(error)[0]}")

    async def frame(self, type_: int, channel: int, payload: bytes, remark: str = "", *, pieces: int = 0) -> None:
        """One frame with any payload, legal or not."""
        self.judge.wild.add(channel)
        await self.raw(encode_frame(type_, channel, payload), remark, pieces=pieces)

    async def send(
        self,
        message: Any,
        channel: int = 0,
        remark: str = "",
        *,
        grease: bool = True,
        pieces: int = 0,
        wild: bool = False,
    ) -> None:
        """A message as the tables have it; now and then with an unknown odd key, which must be ignored (clause R-1).

        :param wild: what it says is not legal here, so what comes back on the channel is not judged by the tables.
        """
        extra = {}
        if grease and self.rng.random() < 0.3 and type(message) not in (Hello, Ready):
            extra = {self.rng.choice(ODD_KEYS): self.noise()}
        if wild:
            self.judge.wild.add(channel)
        else:
            self.judge.said(channel, message)
        payload = encode_payload(message, extra)
        await self.raw(encode_frame(type_of(message), channel, payload), remark, pieces=pieces)

    def channel(self) -> int:
        """A fresh number of this side's parity (clause CH-1), sometimes with a gap (clause CH-2)."""
        number = self._next + 2 * self.rng.choice((0, 0, 0, 1, 7))
        self._next = number + 2
        return number

    async def open(self, message: Any, **how: Any) -> int:
        """Open a channel with this message; gives its number."""
        number = self.channel()
        await self.send(message, number, **how)
        return number

    def noise(self) -> Any:
        """Any value that a grease field may have."""
        return self.rng.choice(
            (
                self.rng.randrange(1 << 32),
                self.rng.randbytes(self.rng.randrange(12)),
                "grease",
                [1, [2]],
                {5: b"", 300: 0},
            )
        )

    async def hang_up(self) -> None:
        """Close without a word."""
        self.trial.wire.event(self.name, "the suite hangs up")
        await trio.aclose_forcefully(self.stream)

    async def leave(self) -> None:
        """GOODBYE, and close (clause C-13)."""
        await self.send(Goodbye(reason=0), grease=False)
        with trio.move_on_after(1.0):
            try:
                await self.stream.aclose()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return

    # ------------------------------------------------------------ the handshake

    def greased(self, hello: Hello) -> bytes:
        """The payload of HELLO with a grease feature and a grease key (clause R-10)."""
        feature = self.rng.choice(GREASE_FEATURES)
        features = tuple(sorted({*hello.features, feature}))
        return encode_payload(replace(hello, features=features), {self.rng.choice(GREASE_KEYS): self.noise()})

    async def say_hello(self, payload: bytes | None = None, remark: str = "", *, pieces: int = 0) -> None:
        """This side's HELLO, or another payload in its place."""
        self._hello_payload = self.greased(self.hello) if payload is None else payload
        frame = encode_frame(type_of(self.hello), 0, self._hello_payload)
        await self.raw(frame, remark, pieces=pieces)

    def negotiated(self) -> bytes:
        """What READY has to say (clauses C-6 to C-8)."""
        assert self.their is not None
        version = min(self.hello.version_max, self.their.version_max)
        common = sorted(set(self.hello.features) & set(self.their.features))
        self.judge.features = tuple(feature for feature in common if feature not in GREASE_FEATURES)
        both = (self._their_payload, self._hello_payload)
        acceptor, dialer = both if self.dialer else both[::-1]
        return hashlib.sha256(acceptor + dialer + cbor.encode({1: version, 2: list(self.features)})).digest()

    async def say_ready(self, digest: bytes | None = None, *, pieces: int = 0) -> None:
        await self.send(Ready(negotiated=digest or self.negotiated()), pieces=pieces)

    async def meet(self) -> Hello:
        """The testee's HELLO, checked against its certificate (clauses T-6, C-5)."""
        their = self.judge.their = await self.expect(Hello, 0, "C-3")
        self._their_payload = next(a.frame.payload for a in self.arrivals if isinstance(a.message, Hello))
        if their.node_id != self.peer_id:
            said = "the node id of HELLO is not that of the certificate"
            raise Failed("T-6", said, self.peer_id, their.node_id)
        self.trial.expect("C-5", "the testee's HELLO names another cluster", self.identity.cluster, their.cluster)
        return their

    async def greet(self, *, pieces: int = 0) -> Hello:
        """The whole handshake, from the side that this peer is on."""
        if self.dialer:
            await self.meet()
            await self.say_hello(pieces=pieces)
            await self.say_ready(pieces=pieces)
        else:
            await self.say_hello(pieces=pieces)
            await self.meet()
        ready = await self.expect(Ready, 0, "C-3")
        self.trial.expect(
            "C-6", "READY has another digest than the two HELLO messages give", self.negotiated(), ready.negotiated
        )
        if not self.dialer:
            await self.say_ready(pieces=pieces)
        await self.grease()
        assert self.their is not None
        return self.their

    async def grease(self) -> None:
        """A frame of a grease type (clause R-10)."""
        item = {self.rng.randrange(24): self.noise(), 24 + self.rng.randrange(1000): self.noise()}
        await self.raw(encode_frame(self.rng.choice(GREASE_TYPES), 0, cbor.encode(item)), "grease")

    # ------------------------------------------------------------ in

    async def expect(self, kind: type[M], channel: int, clause: str, *, within: float | None = None) -> M:
        """The next message on ``channel``, which must be a ``kind``; :class:`Failed` by ``clause`` if not."""
        seconds = self.trial.seconds() if within is None else self.trial.seconds(within)
        with trio.move_on_after(seconds):
            arrival = await self.next(channel)
            if arrival is None:
                self._check_own_pace()
                said = f"{self.name} waits for {name_of(kind)} on channel {channel}, but the connection ended"
                raise Failed(clause, said, name_of(kind), self.ended)
            if type(arrival.message) is not kind:
                self._check_own_pace()
                said = f"{self.name} waits for {name_of(kind)} on channel {channel}, and something else came"
                raise Failed(clause, said, name_of(kind), described(arrival.message))
            return arrival.message
        said = f"{self.name} waits for {name_of(kind)} on channel {channel}, and nothing came within {seconds:.1f} s"
        raise Failed(clause, said, name_of(kind), "nothing")

    def _check_own_pace(self) -> None:
        """Raises Inconclusive where the testee was right to be tired of waiting; for cases that did not want that."""
        if self._too_slow:
            raise Inconclusive(self._too_slow)

    def _own_pace(self, message: Error) -> str:
        """How slow this side was, where the testee says so; it is asked when that comes in."""
        since, limit = 0.0, math.inf
        if message.code == ErrorCode.HANDSHAKE_TIMEOUT:
            since, limit = self._born, HANDSHAKE_SECONDS
        elif message.code == ErrorCode.HEARTBEAT_TIMEOUT and self.their is not None:
            interval = min(self.hello.limits.heartbeat_ms, self.their.limits.heartbeat_ms) / 1000
            since, limit = self._said, 3 * interval
        took = self.trial.elapsed - since
        return f"the suite itself said nothing for {took:.1f} s: {described(message)}" if took > limit else ""

    async def next(self, channel: int) -> Arrival | None:
        """The next message on ``channel``, whatever it is; None: the connection ended. Waits without a bound."""
        while True:
            self.check()
            for index, arrival in enumerate(self._inbox):
                if arrival.frame.channel == channel:
                    return self._inbox.pop(index)
            if self.ended:
                return None
            await self._pulse.wait()

    async def anything(self, channel: int, clause: str, wanted: str) -> Arrival:
        """The next message on ``channel``, whatever it is; :class:`Failed` by ``clause`` if none comes in time."""
        seconds = self.trial.seconds()
        with trio.move_on_after(seconds):
            arrival = await self.next(channel)
            if arrival is None:
                self._check_own_pace()
                said = f"{self.name} waits for {wanted} on channel {channel}, but the connection ended"
                raise Failed(clause, said, wanted, self.ended)
            return arrival
        said = f"{self.name} waits for {wanted} on channel {channel}, and nothing came within {seconds:.1f} s"
        raise Failed(clause, said, wanted, "nothing")

    async def opening(
        self, kind: type[M], clause: str, match: Callable[[M], bool] = lambda _: True, *, within: float | None = None
    ) -> tuple[int, M]:
        """The testee opens a channel with a ``kind`` that matches: (channel, message)."""
        seconds = self.trial.seconds() if within is None else self.trial.seconds(within)
        with trio.move_on_after(seconds):
            while True:
                self.check()
                for index, arrival in enumerate(self._inbox):
                    if type(arrival.message) is kind and match(arrival.message):
                        del self._inbox[index]
                        return arrival.frame.channel, arrival.message
                if self.ended:
                    self._check_own_pace()
                    said = f"{self.name} waits for {name_of(kind)}, but the connection ended"
                    raise Failed(clause, said, name_of(kind), self.ended)
                await self._pulse.wait()
        said = f"{self.name} waits for {name_of(kind)}, and it did not come within {seconds:.1f} s"
        raise Failed(clause, said, name_of(kind), "nothing")

    async def next_opening(self, *kinds: type) -> tuple[int, Any] | None:
        """The next channel that the testee opens with one of these; None: the connection ended. Waits without bound."""
        while True:
            self.check()
            for index, arrival in enumerate(self._inbox):
                if type(arrival.message) in kinds:
                    del self._inbox[index]
                    return arrival.frame.channel, arrival.message
            if self.ended:
                return None
            await self._pulse.wait()

    async def refused(self, channel: int, clause: str, *codes: ErrorCode, within: float | None = None) -> Error:
        """ERROR on ``channel`` with one of these codes; for channel 0 the end of the connection too (clause E-6)."""
        error = await self.expect(Error, channel, clause, within=within)
        if error.code not in codes:
            wanted = " or ".join(code.name for code in codes)
            raise Failed(clause, f"the testee refuses with another code: {error.text}", wanted, described(error))
        if clause and error.clause != clause:
            self.trial.note(f"refused by clause {error.clause}, expected {clause}")
        if channel == 0:
            await self.over("E-6")
        return error

    async def over(self, clause: str, *, within: float | None = None) -> str:
        """The testee closes the connection. Gives how."""
        seconds = self.trial.seconds() if within is None else self.trial.seconds(within)
        with trio.move_on_after(seconds):
            while not self.ended:
                await self._pulse.wait()
            self.check()
            return self.ended
        raise Failed(
            clause, f"{self.name}: the testee left the connection open", "closed", f"open after {seconds:.1f} s"
        )

    async def silent(self, channel: int, clause: str, seconds: float = 0.3) -> None:
        """Nothing comes on ``channel`` for a while, which patience does not make longer."""
        with trio.move_on_after(seconds):
            arrival = await self.next(channel)
            self._check_own_pace()
            got = described(arrival.message) if arrival else self.ended
            raise Failed(clause, f"{self.name}: something came on channel {channel} where nothing may", "nothing", got)

    async def alive(self, clause: str) -> None:
        """PING is answered: the connection stands, and all that was sent before was taken in (clause H-2)."""
        sequence = self.rng.randrange(1 << 32)
        await self.send(Ping(sequence=sequence))
        while True:
            pong = await self.expect(Pong, 0, clause)
            if pong.sequence == sequence:
                return

    def waiting(self, channel: int) -> list[Any]:
        """Messages on ``channel`` that came and were not taken yet."""
        return [arrival.message for arrival in self._inbox if arrival.frame.channel == channel]

    def check(self) -> None:
        """Raises the first violation, if there was one."""
        if self.judge.violation is not None:
            raise self.judge.violation

    # ------------------------------------------------------------ the reader

    async def read(self) -> None:
        """Until the connection ends; runs beside the case."""
        try:
            while data := await self.stream.receive_some(CHUNK):
                self.bytes_in += len(data)
                for frame in self._decoder.feed(data):
                    await self._take(frame)
                if self.judge.left and self.closes:
                    self._close_half()
                self._wake()
            self.ended = "closed by the testee"
            if self._decoder.buffered:
                self.ended += f", {self._decoder.buffered} bytes into a frame"
        except (trio.BrokenResourceError, OSError) as error:
            text, alert = why(error)
            self.ended = text if alert else f"broken off: {text}"
        except trio.ClosedResourceError:
            self.ended = "closed by the suite"
        self.trial.wire.event(self.name, self.ended)
        self._wake()

    def _close_half(self) -> None:
        """The half that is this side's to close: whether the testee closes its own is seen by reading on. A testee that
        gives its last words a chance to arrive need not wait any longer."""
        self.closes = False
        with contextlib.suppress(OSError):
            self.stream.transport_stream.socket.shutdown(socket.SHUT_WR)

    def _wake(self) -> None:
        self._pulse.set()
        self._pulse = trio.Event()

    async def _take(self, frame: Frame) -> None:
        self.received += 1
        self.trial.wire.received(self.name, encode_frame(*frame))
        try:
            message = self.judge.taken(frame)
        except PeerError:  # the violation is kept, and told to whoever waits
            return
        arrival = Arrival(frame, message, trio.current_time())
        self.arrivals.append(arrival)
        if message is None:
            return
        if isinstance(message, Error) and frame.channel == 0:
            self._too_slow = self._own_pace(message)
        if not self.manual:
            if isinstance(message, Ping):
                await self.send(Pong(sequence=message.sequence), grease=False)
                return
            if isinstance(message, StatusRequest):
                await self.send(Status(document="{}"), grease=False)
                return
        self._inbox.append(arrival)


def ticket_of(stream: trio.SSLStream[Any]) -> bool:
    """Whether the acceptor sent a session ticket (clause T-7); read something first."""
    session: ssl.SSLSession | None = stream.session
    return session is not None and session.has_ticket
