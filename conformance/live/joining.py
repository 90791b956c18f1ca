"""One connection of a newcomer with an authority, spoken by hand from either side: exact bytes out, and what comes in
is judged by clauses J-2 and J-10."""

from __future__ import annotations

from typing import Any

import trio
from cryptography import x509

from conformance.case import CheckFunction, Rung, case
from conformance.door.dial import why
from conformance.live.judge import name_of
from conformance.live.peer import CHUNK, described
from conformance.trial import STEP_SECONDS, Trial
from conformance.verdict import Failed
from dsdproto.errors import PeerError
from dsdproto.registry import GREASE_TYPES, PRIVATE_TYPES
from dsdproto.wire.codec import decode_message, encode_payload, type_of
from dsdproto.wire.frames import FrameDecoder, encode_frame
from dsdproto.wire.messages import Error

MAX_JOIN_PAYLOAD = 1 << 15
NAMES = "A-Z a-z 0-9 . _ -"
CASE_SECONDS = 150.0
"""A case waits for programs that begin."""


def join_case(
    need: str, family: str, name: str, title: str, *clauses: str, bracket: bool = False, **more: Any
) -> CheckFunction:
    """Registers `FAMILY/NAME`, a live case that needs a command of the testee's."""
    return case(
        f"{family}/{name}",
        title,
        clauses=clauses,
        rung=Rung.LIVE,
        needs=(need,),
        bracket=bracket,
        timeout=CASE_SECONDS,
        **more,
    )


class Line:
    """One TLS connection.

    :param name: who the suite is on it, for the wire log.
    :param due: the message that the testee may send besides ERROR.
    """

    def __init__(self, name: str, trial: Trial, stream: trio.SSLStream[trio.SocketStream], due: type) -> None:
        self.name = name
        self.trial = trial
        self.stream = stream
        self.due = due
        self.ended = ""
        """how the testee's byte stream ended; empty: it has not, as far as anybody looked"""
        self._decoder = FrameDecoder(MAX_JOIN_PAYLOAD)
        self._inbox: list[Any] = []

    @property
    def certificate(self) -> x509.Certificate:
        return x509.load_der_x509_certificate(self.stream.getpeercert(binary_form=True))

    # ------------------------------------------------------------ out

    async def raw(self, data: bytes, remark: str = "", *, pieces: int = 0) -> None:
        """Exactly these bytes; ``pieces``: so many a TLS record. A connection that is closed by now is no fault."""
        self.trial.wire.sent(self.name, data, remark)
        try:
            for start in range(0, len(data), pieces or len(data)):
                await self.stream.send_all(data[start : start + (pieces or len(data))])
        except (trio.BrokenResourceError, trio.ClosedResourceError, OSError) as error:
            self.trial.wire.event(self.name, f"could not be sent: {why(error)[0]}")

    async def send(
        self, message: Any, remark: str = "", *, channel: int = 0, extra: dict[int, Any] | None = None, pieces: int = 0
    ) -> None:
        await self.raw(encode_frame(type_of(message), channel, encode_payload(message, extra)), remark, pieces=pieces)

    async def hang_up(self) -> None:
        """Close without a word."""
        self.trial.wire.event(self.name, "the suite hangs up")
        await trio.aclose_forcefully(self.stream)

    async def close(self) -> None:
        """Close with the end of TLS, so that all bytes arrive."""
        with trio.move_on_after(1.0):
            try:
                await self.stream.aclose()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return

    # ------------------------------------------------------------ in

    async def receive(self) -> bytes:
        """Bytes as they come; none: the connection ended, see :attr:`ended`. Waits without a bound."""
        try:
            data = bytes(await self.stream.receive_some(CHUNK))
            self.ended = "" if data else "closed by the testee"
        except (trio.BrokenResourceError, OSError) as error:
            data, self.ended = b"", why(error)[0]
        except trio.ClosedResourceError:
            data, self.ended = b"", "closed by the suite"
        if self.ended:
            self.trial.wire.event(self.name, self.ended)
        return data

    async def next(self, clause: str, within: float = STEP_SECONDS) -> Any:
        """The next message; None: the connection ended. Raises Failed by ``clause`` if neither comes in time."""
        seconds = self.trial.seconds(within)
        with trio.move_on_after(seconds):
            while not self._inbox:
                if not (data := await self.receive()):
                    return None
                self._take(data)
            return self._inbox.pop(0)
        said = f"{self.name} waits for {name_of(self.due)} or ERROR, and nothing came within {seconds:.1f} s"
        raise Failed(clause, said, f"{name_of(self.due)} or ERROR", "nothing")

    def _take(self, data: bytes) -> None:
        try:
            for frame in self._decoder.feed(data):
                self.trial.wire.received(self.name, encode_frame(*frame))
                message = decode_message(frame)
                if message is None:
                    if frame.type in GREASE_TYPES:
                        said = "the testee sends grease on a joining connection"
                        raise Failed("J-10", said, "no grease", encode_frame(*frame)[:64])
                    if frame.type not in PRIVATE_TYPES:
                        raise Failed("R-2", f"frame type {frame.type:#04x} is neither assigned nor private")
                    continue
                if type(message) not in (self.due, Error) or frame.channel != 0:
                    got = f"{name_of(type(message))} on channel {frame.channel}"
                    wanted = f"{name_of(self.due)} or ERROR, on channel 0"
                    raise Failed("J-2", "the testee sends what has no place on a joining connection", wanted, got)
                self._inbox.append(message)
        except PeerError as error:
            self.trial.wire.received(self.name, data, "not to be read")
            said = f"the testee sends what must be refused: {error.text}"
            raise Failed(error.clause, said, "", data[:64]) from error

    async def expect(self, clause: str, said: str, within: float = STEP_SECONDS) -> Any:
        """The message that is due. Raises Failed if anything else comes, ``said`` tells of what."""
        message = await self.next(clause, within)
        if type(message) is not self.due:
            got = self.ended if message is None else described(message)
            raise Failed(clause, said, name_of(self.due), got)
        return message

    async def over(self, clause: str, within: float = STEP_SECONDS) -> None:
        """The testee closes, and says nothing more."""
        message = await self.next(clause, within)
        if message is not None:
            raise Failed(clause, "the testee says more than its one message", "the end", described(message))
