"""Shapes of the verb `replay`: a transcript, and what a passive reader concludes. The rules are in IMPLEMENTERS.md."""

from __future__ import annotations

from conformance.door.functions import TOKENS, WASTE
from conformance.door.shapes import ANY_BYTES, Shape, array, choice, hexadecimal, record, text, uint
from dsdproto.registry import ErrorCode

WAY = choice("in", "out", about="as the recorder sees it")
EVENT = choice("in", "out", "lost", about="lost: the link is gone, with no bytes")


def replay_shapes() -> dict[str, Shape]:
    connection = record(
        {"side": choice("dialer", "acceptor", about="of the recorder"), "peer": hexadecimal(32)},
        about="peer: node id of the peer's certificate, as TLS authenticated it",
    )
    step = {
        "type": "array",
        "prefixItems": [uint(0, 255), EVENT, ANY_BYTES],
        "items": False,
        "minItems": 3,
        "description": "[number of the connection, direction, bytes], cut anywhere (F-4); or [number, lost, no bytes]",
    }
    transcript = record(
        {"recorder": hexadecimal(32), "connections": array(connection, low=1), "steps": array(step)},
        about="what one node (its node id: recorder) received and sent, in the order in which it did",
    )
    frame = {
        "type": "array",
        "prefixItems": [
            uint(0, 255),
            WAY,
            uint(),
            text("name of the message; of an unknown type 0x and two digits"),
            choice("taken", "ignored", "dropped"),
        ],
        "items": False,
        "minItems": 5,
        "description": "[connection, direction, channel, message, fate]",
    }
    end = {"position": uint(), "digest": hexadecimal(32)}
    base = {
        "connection": uint(0, 255),
        "channel": uint(1),
        "opened_by": WAY,
        "state": choice("opening", "answered", "closed"),
    }
    session = record(
        {**base, "plane": {"const": "session"}, **end, "tokens": TOKENS | {"description": "of all BLOCKs here"}},
        {"finish": uint(0, 65535) | {"description": "of END"}},
        "position and digest: of the prefix that the client holds",
    )
    draft = record(
        {
            **base,
            "plane": {"const": "draft"},
            **end,
            "drafted": uint(),
            "outstanding": uint(),
            "credit": uint(),
        },
        about="position and digest: of the verified prefix as last announced. outstanding: credit in use (D-6)",
    )
    verify = record(
        {**base, "plane": {"const": "verify"}, **end, "verdicts": uint(), "waiting": {"type": "boolean"}},
        about="position and digest: of the verified prefix. waiting: a VERIFY is in flight",
    )
    commit = record(
        {**base, "plane": {"const": "commit"}, "view": uint(), "committed": uint(), "voted": uint()},
        about="committed: position of the last COMMIT (0: none); voted: height of the last VOTE (0: none)",
    )
    books = record(
        {
            "session": hexadecimal(16),
            "drafted": uint(),
            "accepted": uint(),
            "waste": WASTE,
            "live": uint(),
        },
        about="of a session that the recorder leads and has a remote verifier for: all drafts of all drafters (TRIE-9)",
    )
    violation = record(
        {
            "frame": uint() | {"description": "how many frames were before it"},
            "connection": uint(0, 255),
            "channel": uint() | {"description": "on which ERROR goes: 0 for connection scope"},
            "code": choice(*[code.name for code in ErrorCode]),
            "scope": choice("connection", "session"),
        },
        {"clause": text("for people: not compared")},
        "the first message of a peer that the recorder has to refuse",
    )
    conclusions = record(
        {
            "frames": array(frame, "in the order in which their last byte came"),
            "connections": array(
                record(
                    {"state": choice("handshake", "open", "closed")},
                    {
                        "version": uint(0, 65535),
                        "features": array(uint(0, 65535)),
                        "heartbeat_ms": uint(),
                        "roles": array(uint(0, 65535), "of the peer's HELLO"),
                    },
                    "the optional ones are there once both HELLO have passed",
                )
            ),
            "channels": array({"oneOf": [session, draft, verify, commit]}, "in the order in which they were opened"),
            "books": array(books, "in the order of the sessions' first ASSIGN"),
        },
        {"violation": violation},
    )
    return {"transcript": transcript, "conclusions": conclusions}
