"""What both sides of joining share: the errors, and how one message is read (SPEC.md, section "Join")."""

from __future__ import annotations

from dsdproto.errors import PeerError
from dsdproto.registry import ErrorCode
from dsdproto.wire.codec import decode_message
from dsdproto.wire.frames import FrameDecoder
from reference_nodes import tls
from reference_nodes.connect_errors import Hung
from reference_nodes.errors import NodeError

EXCHANGE_SECONDS = 10.0
MAX_JOIN_PAYLOAD = 1 << 15


class JoinError(NodeError):
    """Base: no admission."""

    code = "join-failed"


class TokenExpired(JoinError):
    code = "token-expired"


class JoinRefused(JoinError):
    """The authority was reached and said no; ``text`` has its reason."""

    code = "join-refused"


class JoinUnreachable(JoinError):
    """None of the token's addresses led to the authority."""

    code = "join-unreachable"


class JoinBroken(JoinError):
    """What the authority answered is not an admission to the cluster of the token."""

    code = "join-broken"


async def receive_message(stream: tls.Stream, *kinds: type) -> object:
    """The one message that is due.

    Raises PeerError if it is another, ConnectError if the stream ends first.
    """
    decoder = FrameDecoder(MAX_JOIN_PAYLOAD)
    while True:
        data = await stream.receive_some(1 << 14)
        if not data:
            raise Hung("the connection ended before the message was complete.")
        for frame in decoder.feed(bytes(data)):
            message = decode_message(frame)
            if message is None:
                continue  # an odd type that nobody knows: ignored everywhere
            if not isinstance(message, kinds) or frame.channel != 0:
                expected = " or ".join(kind.__name__ for kind in kinds)
                text = f"{type(message).__name__} on channel {frame.channel}, where {expected} on channel 0 was due"
                raise PeerError(ErrorCode.MESSAGE_UNEXPECTED, "J-2", text, message_type=frame.type)
            return message
