"""The eight verbs of the exec door, as JSON Schema (`compute`: see :mod:`conformance.door.functions`)."""

from __future__ import annotations

from conformance.door.functions import FUNCTIONS
from conformance.door.replaying import replay_shapes
from conformance.door.shapes import (
    ANY_BYTES,
    SAFE,
    Shape,
    array,
    choice,
    hexadecimal,
    record,
    ref,
    text,
    uint,
)
from dsdproto.registry import ErrorCode

ABOUT = (
    "One request a line on the testee's standard input, one answer a line on its standard output, in order, UTF-8, "
    "each line ended by a line feed (10); nothing else on standard output; standard error is for people. "
    "Byte strings are lower-case hexadecimal. Integers up to 2^53-1 are JSON numbers, larger ones decimal strings; a "
    "testee may answer any integer as a decimal string. A field of a message that is absent on the wire is left out "
    "(never null). Names of message fields, messages, error codes, roles and features are those of SPEC.md. "
    "Definitions: request and answer (all verbs), request.<verb>, ok.<verb>, in.<function> and out.<function> of "
    "compute, fields.<MESSAGE>, and the records of messages."
)
LAYERS = {
    "frame": "the bytes are no sequence of frames (section 7)",
    "cbor": "the payload is not one item of the strict encoding (section 8)",
    "message": "the item is not a message of the table (R-1, R-4 to R-9, and the like)",
    "session": "a well-formed message that contradicts what the receiver knows",
    "value": "what never travels as a message (a text form, a key, a row of logits, a model name): no error code",
    "internal": "a defect of the testee itself; always a failed case",
}
VERBS = ("describe", "decode", "encode", "compute", "replay", "start", "stop", "reset")
ROLES = ("client", "leader", "drafter", "verifier", "voter")
U32 = (1 << 32) - 1
Fields = dict[str, Shape]


def request_shapes(messages: list[str]) -> dict[str, Shape]:
    number = {"id": uint(0, U32)}

    def request(verb: str, must: Fields | None = None, may: Fields | None = None, about: str = "") -> Shape:
        return record({**number, "verb": {"const": verb}, **(must or {})}, may, about)

    decode = {
        "oneOf": [
            request("decode", {"layer": {"const": "cbor"}, "bytes": ANY_BYTES}, about="one CBOR item (B-1 to B-7)"),
            request(
                "decode",
                {"layer": {"const": "frame"}, "bytes": ANY_BYTES},
                {
                    "max_payload": uint(0, (1 << 24) - 1),
                    "end": {"type": "boolean", "description": "the byte stream ends here (F-5); default true"},
                },
                "a byte stream: how many frames, and which (F-1 to F-5); payloads are not looked at. max_payload is "
                "1048576 by default",
            ),
            request(
                "decode",
                {"layer": {"const": "message"}, "bytes": ANY_BYTES},
                about="exactly one frame: header, payload as a CBOR map, fields (B-1 to B-9, R-1 to R-9, Q-1, C-7, "
                "S-12). Nothing that depends on connection or session is judged.",
            ),
        ]
    }
    encode = {
        "oneOf": [
            request("encode", {"type": {"const": name}, "channel": uint(0, U32), "fields": ref(f"fields.{name}")})
            for name in messages
        ],
        "description": "one frame in the one encoding that it has (B-1); optional fields that are not given are absent",
    }
    compute = {
        "type": "object",
        "oneOf": [request("compute", {"function": {"const": name}, "input": ref(f"in.{name}")}) for name in FUNCTIONS],
        "description": "a pure function; nothing is remembered from one request to the next",
    }
    start = request(
        "start",
        {
            "roles": {"type": "array", "items": choice(*ROLES), "minItems": 1, "uniqueItems": True},
            "listen": {"type": "boolean", "description": "accept connections on a free port of 127.0.0.1"},
            "peers": array(text("host:port"), "to be dialed, and dialed again when lost"),
            "identity": record(
                {
                    "certificate": text("the node's certificate, PEM"),
                    "key": text("its private key, PKCS #8 PEM, not encrypted"),
                    "authority": text("the cluster's authority, PEM"),
                }
            ),
            "config": ref("config"),
        },
        about="run a live node until stop, reset or the end of input (rungs 3 and 4); answer when it listens",
    )
    return {
        "request.describe": request("describe"),
        "request.decode": decode,
        "request.encode": encode,
        "request.compute": compute,
        "request.replay": request("replay", {"transcript": ref("transcript")}),
        "request.start": start,
        "request.stop": request(
            "stop",
            {"node": text("as start named it")},
            {
                "wait_ms": uint(0, 60000)
                | {"description": "how long a client's open sessions may still take; default 0"}
            },
        ),
        "request.reset": request("reset", about="stop every node and forget everything"),
    }


def ok_shapes(messages: list[str]) -> dict[str, Shape]:
    named = [
        record({"type": {"const": name}, "channel": uint(0, U32), "fields": ref(f"fields.{name}")}) for name in messages
    ]
    ignored = record(
        {"type": {"const": "ignored"}, "channel": uint(0, U32)},
        about="an unknown odd message type whose payload is a map (R-1)",
    )
    frame = record({"type": uint(0, 255), "channel": uint(0, U32), "payload": ANY_BYTES})
    return {
        "ok.describe": record(
            {
                "door": {"const": 1},
                "name": text("of the implementation"),
                "version": text(),
                "spec": {"const": 1},
                "roles": array(choice(*ROLES), "what start can run"),
                "supports": array(
                    choice("decode", "encode", "replay", "start", *FUNCTIONS),
                    "verbs and functions of compute that are implemented",
                ),
            },
            {"language": text(), "url": text()},
        ),
        "ok.decode": {
            "oneOf": [
                record({"item": ref("item")}),
                record({"frames": array(frame), "rest": uint()}, about="rest: bytes of an unfinished frame at the end"),
                record({"message": {"oneOf": [*named, ignored]}}),
            ]
        },
        "ok.encode": record({"bytes": ANY_BYTES}, about="the frame"),
        "ok.compute": {"anyOf": [ref(f"out.{name}") for name in FUNCTIONS]},
        "ok.replay": ref("conclusions"),
        "ok.start": record(
            {"node": text("a name for stop")}, {"address": text("host:port; if it listens"), "node_id": hexadecimal(32)}
        ),
        "ok.stop": record({}, {"sessions": array(ref("outcome"), "of a client: how they went")}),
        "ok.reset": record({}),
    }


ITEM: Shape = {
    "description": "a CBOR item",
    "oneOf": [
        record({"uint": uint(0, (1 << 64) - 1)}),
        record({"bytes": ANY_BYTES}),
        record({"text": text()}),
        record({"array": array(ref("item"))}),
        record(
            {
                "map": {
                    "type": "array",
                    "description": "[key, value] in ascending order of the keys",
                    "items": {
                        "type": "array",
                        "prefixItems": [uint(0, (1 << 64) - 1), ref("item")],
                        "items": False,
                        "minItems": 2,
                    },
                }
            }
        ),
    ],
}

ERROR_CODES = [code.name for code in ErrorCode]


def definitions(messages: list[str]) -> dict[str, Shape]:
    """Everything but the fields of messages."""
    requests, answers = request_shapes(messages), ok_shapes(messages)
    number = {"id": uint(0, U32)}
    refusal = record(
        {"layer": choice(*LAYERS, about="; ".join(f"{name}: {about}" for name, about in LAYERS.items()))},
        {
            "code": choice(*ERROR_CODES, about="error code (20.11); there with frame, cbor, message, session"),
            "clause": text("for people: not compared"),
            "text": text("for people: not compared"),
        },
        "the testee refuses what it was given",
    )
    session = {
        "prompt": {"type": "array", "items": uint(0, (1 << 24) - 1), "minItems": 1},
        "temperature": uint(0, U32),
        "top_k": uint(0, 1 << 24),
        "top_p": uint(1, 65536),
        "seed": ref("u64"),
        "max_tokens": uint(1, U32),
        "stop_tokens": array(uint(0, (1 << 24) - 1)),
        "commit_profile": uint(0, 65535),
        "max_drafters": uint(0, 65535),
        "origins": uint(0, 1),
    }
    config = record(
        {},
        {
            "target": text("canonical TM-1 name: what a verifier holds, what a client asks for"),
            "draft": text("canonical TM-1 name: what a drafter drafts with"),
            "max_context": uint(1, U32),
            "max_nodes": uint(0, 255),
            "heartbeat_ms": uint(50, 600000),
            "group_size": uint(1, 9),
            "store": text("a directory of its own for a voter, kept over restarts"),
            "session": record({}, session, "what a client opens, on every link whose peer has the role leader"),
        },
        "everything is optional; what is left out is the implementation's choice",
    )
    outcome = record(
        {"session": hexadecimal(16), "tokens": array(uint(0, (1 << 24) - 1), "the stream, without the prompt")},
        {
            "finish": uint(0, 65535) | {"description": "of END; there only when the stream is complete (E-4)"},
            "error": text("name of the error code that the peer sent, or that the client sent; CONNECTION_LOST"),
        },
    )
    return {
        "request": {"oneOf": [ref(name) for name in requests]},
        "answer": {
            "oneOf": [
                record({**number, "ok": {"anyOf": [ref(name) for name in answers]}}),
                record({**number, "error": ref("refusal")}),
                record({**number, "unsupported": text("why")}),
            ]
        },
        **requests,
        **answers,
        "refusal": refusal,
        "u64": {
            "description": "an unsigned integer: a number up to 2^53-1, a decimal string beyond",
            "oneOf": [
                {"type": "integer", "minimum": 0, "maximum": SAFE},
                {"type": "string", "pattern": "^[1-9][0-9]{15,19}$"},
            ],
        },
        "item": ITEM,
        "config": config,
        "outcome": outcome,
        **{f"in.{name}": shape for name, (shape, _) in FUNCTIONS.items()},
        **{f"out.{name}": shape for name, (_, shape) in FUNCTIONS.items()},
        **replay_shapes(),
    }
