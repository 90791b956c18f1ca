"""The functions of `compute`: name -> (input, result), as shapes. What each does is said in IMPLEMENTERS.md."""

from __future__ import annotations

from conformance.door.shapes import ANY_BYTES, Shape, array, choice, hexadecimal, record, ref, text, uint

U24 = (1 << 24) - 1
U32 = (1 << 32) - 1
U64 = (1 << 64) - 1
WORDS: Shape = {"type": "array", "items": uint(), "minItems": 4, "maxItems": 4}
TOKENS = array(uint(0, U24))
FLOAT = hexadecimal(4) | {"description": "float32, its bits"}
ROW: Shape = {
    "type": "array",
    "description": "[token, logit as float32 bits]; every other token is minus infinity",
    "items": {"type": "array", "prefixItems": [uint(0, U24), FLOAT], "items": False, "minItems": 2},
}
SAMPLING = {
    "temperature": uint(),
    "top_k": uint(0, 1 << 24),
    "top_p": uint(1, 65536),
    "seed": uint(0, U64),
}
NUMBER: Shape = {"type": "integer", "minimum": -(1 << 53), "maximum": 1 << 53}
WASTE: Shape = {
    "type": "array",
    "items": uint(),
    "minItems": 8,
    "maxItems": 8,
    "description": "by cause, section 20.10",
}
SIGNED = {"context": text("ASCII"), "payload": ANY_BYTES}
TREE = {"parents": array(uint(0, 255)), "scores": array(uint(0, 255))}
JOIN_TOKEN = record(
    {
        "cluster": hexadecimal(16),
        "authority": hexadecimal(32),
        "secret_id": hexadecimal(8),
        "secret": hexadecimal(16),
        "expires": uint(0, U64),
        "addresses": array(text("host:port")),
    }
)
SESSION = {"contract": ref("Contract"), "committed": TOKENS | {"description": "tokens after the prompt"}}
NOTHING = record({})

GRAFT = record(
    {"source": text("who drafted"), "position": uint(), "base": hexadecimal(16), "tokens": TOKENS},
    TREE,
    "a PROPOSE; without scores each has the neutral score 16 (D-5)",
)
ADVANCE = record(
    {"tokens": TOKENS, "accepted": uint()},
    about="the verified prefix moves along tokens; the verdict took the first `accepted` from its VERIFY's tree",
)
TRIE_STEP: Shape = {
    "oneOf": [
        record({"graft": GRAFT}),
        record(
            {"verify": record({"budget": uint(0, 255)}, {"depth": uint(1)})},
            about="choose a tree (TRIE-11); it is in flight until the next advance (TRIE-7)",
        ),
        record({"advance": ADVANCE}),
        record({"end": NOTHING}, about="the session ends"),
    ]
}
TRIE_RESULT: Shape = {
    "oneOf": [
        record(
            {"live": uint(), "parked": uint(), "waste": WASTE},
            about="of graft and end: after the step; waste: what this step added",
        ),
        record({"paths": array(TOKENS)}, about="of verify: for each node the tokens from the root to it, in any order"),
        record(
            {
                "position": uint(),
                "digest": hexadecimal(32),
                "live": uint(),
                "parked": uint(),
                "waste": WASTE,
                "origins": array({"type": ["string", "null"]}, "for each token its origin, null: the target's own"),
            },
            about="of advance",
        ),
    ]
}
BOOKS: Shape = {
    "type": "object",
    "description": "by source",
    "additionalProperties": record(
        {"drafted": uint(), "accepted": uint(), "waste": WASTE, "live": uint(), "parked": uint()}
    ),
}
SENT: Shape = {
    "oneOf": [
        record({"channel": text(), "type": {"const": "ENLISTED"}, "fields": ref("fields.ENLISTED")}),
        record({"channel": text(), "type": {"const": "VOTE"}, "fields": ref("fields.VOTE")}),
        record({"channel": text(), "type": {"const": "ERROR"}, "code": text("name of the error code")}),
    ]
}
VOTER_STEP: Shape = {
    "oneOf": [
        record({"channel": text(), "from": hexadecimal(32), "type": {"const": name}, "fields": ref(f"fields.{name}")})
        for name in ("ENLIST", "PREPARE", "COMMIT", "DISMISS")
    ]
    + [record({"lost": text("the channel's link")})],
}

FUNCTIONS: dict[str, tuple[Shape, Shape]] = {
    # section 17: randomness, fixed point, the choice
    "philox": (
        record({"counter": WORDS, "key": {**WORDS, "minItems": 2, "maxItems": 2}}),
        record({"words": WORDS}),
    ),
    "word": (
        record({"seed": uint(0, U64), "domain": uint(), "position": uint(0, U64), "token": uint()}),
        record({"word": uint()}),
    ),
    "tables": (NOTHING, record({name: hexadecimal(32) for name in ("LOG2", "TAIL", "EXP2")})),
    "fixed": (
        {
            "oneOf": [
                record({"name": choice("L", "G", "W", "S"), "inputs": array(uint(0, (1 << 36) - 1))}),
                record({"name": choice("F"), "inputs": array(FLOAT)}),
            ]
        },
        record({"values": array(NUMBER)}),
    ),
    "choose": (
        record({"row": ROW, **SAMPLING, "position": uint(0, U64)}),
        record({"token": uint(0, U24), "margin": uint()}),
    ),
    "siblings": (
        record({"row": ROW, **SAMPLING, "position": uint(0, U64), "count": uint(1, 16)}),
        record({"tokens": TOKENS}),
    ),
    "score": (
        record({"weight": uint(1), "total": uint(1)}, about="of the probability weight / total"),
        record({"score": uint(0, 255)}),
    ),
    # section 18: TM-1; 11.3, 11.6: what it offers
    "tm1_name": (record({"name": text()}), record({"canonical": text()})),
    "tm1_row": (
        record({"model": text(), "prefix": array(uint())}),
        record({"context": hexadecimal(8), "row": ROW}),
    ),
    "tm1_stream": (
        record({"model": text(), "prompt": array(uint()), **SAMPLING, "count": uint(0, 4096)}),
        record({"tokens": TOKENS}),
    ),
    "tm1_offer": (
        record({"model": text()}),
        record(
            {
                "vocabulary_size": uint(),
                "vocabulary_digest": hexadecimal(32),
                "profile_text": text(),
                "profile": hexadecimal(32),
            }
        ),
    ),
    "vocabulary": (record({"entries": array(ANY_BYTES)}), record({"digest": hexadecimal(32)})),
    # section 10, 11.2: names; 9.1: negotiation
    "prefix": (
        record({"contract": ANY_BYTES, "tokens": array(uint())}),
        record({"digests": array(hexadecimal(32), "d(0) to d(n)", 1)}),
    ),
    "contract": (
        record({"contract": ref("Contract")}),
        record({"encoding": ANY_BYTES, "digest": hexadecimal(32)}, about="digest: d(0)"),
    ),
    "negotiate": (
        record({"acceptor": ANY_BYTES, "dialer": ANY_BYTES}, about="the payloads of both HELLO"),
        record(
            {
                "version": uint(),
                "features": array(uint(0, 65535)),
                "heartbeat_ms": uint(),
                "negotiated": hexadecimal(32),
            }
        ),
    ),
    # section 4.2, 5.1: identities
    "checked": (record({"bytes": ANY_BYTES}), record({"text": text()})),
    "node_id": (record({"spki": ANY_BYTES}), record({"node_id": hexadecimal(32), "text": text()})),
    "read_node_id": (record({"text": text()}), record({"node_id": hexadecimal(32)})),
    "statement": (record(SIGNED), record({"statement": ANY_BYTES})),
    "sign": (
        record({"scalar": hexadecimal(32), **SIGNED}, about="scalar: of the private P-256 key, big-endian"),
        record({"signature": ANY_BYTES}),
    ),
    "verify_signature": (
        record({"spki": ANY_BYTES, **SIGNED, "signature": ANY_BYTES}),
        record({"valid": {"type": "boolean"}}),
    ),
    "join_token": (JOIN_TOKEN, record({"text": text()})),
    "read_join_token": (record({"text": text()}), JOIN_TOKEN),
    "check_join": (
        record(
            {
                "secret_id": hexadecimal(8),
                "secret": hexadecimal(16),
                "expires": uint(0, U64),
                "now": uint(0, U64),
                "join": ref("fields.JOIN"),
            },
            about="what an authority with one open token, not used yet, makes of a JOIN; times in seconds since 1970",
        ),
        record({"node_id": hexadecimal(32)}),
    ),
    "check_joined": (
        record(
            {
                "cluster": hexadecimal(16),
                "authority": hexadecimal(32),
                "spki": ANY_BYTES | {"description": "of the newcomer's own key"},
                "joined": ref("fields.JOINED"),
            },
            about="what a newcomer makes of the answer; cluster and authority are those of its token",
        ),
        NOTHING,
    ),
    # section 6: announcements
    "read_txt": (
        record({"strings": array(ANY_BYTES, "of the TXT record, without their length bytes")}),
        record(
            {
                "versions": {"type": "array", "items": uint(1, 65535), "minItems": 2, "maxItems": 2},
                "node_id": hexadecimal(32),
                "instance": hexadecimal(8),
                "cluster": hexadecimal(16),
                "roles": array(uint(0, 65535), "those that are known"),
                "models": array(text()),
                "more": {"type": "boolean", "description": "there are more models than these"},
            }
        ),
    ),
    # section 12 to 14: drafts, trie, verification
    "check_propose": (
        record(
            {
                "contract": ref("Contract"),
                "features": array(choice("TREES", "SCORES")),
                "propose": ref("fields.PROPOSE"),
            }
        ),
        NOTHING,
    ),
    "drafter": (
        record(
            {
                **SESSION,
                "steps": array(
                    {"oneOf": [record({"propose": ref("fields.PROPOSE")}), record({"advance": ref("fields.ADVANCE")})]}
                ),
            }
        ),
        record(
            {
                "results": array(
                    record({"position": uint(), "digest": hexadecimal(32), "outstanding": uint()}),
                    "one for each advance",
                )
            }
        ),
    ),
    "trie": (
        record(
            {
                "position": uint(),
                "digest": hexadecimal(32),
                "max_nodes": uint(1),
                "max_ahead": uint(1),
                "max_parked": uint(),
                "steps": array(TRIE_STEP),
            }
        ),
        record({"results": array(TRIE_RESULT, "one for each step"), "books": BOOKS}),
    ),
    "verdict": (
        record({**SESSION, "max_context": uint(1), "verify": ref("fields.VERIFY")}),
        record({"verdict": ref("fields.VERDICT")}),
    ),
    "check_verify": (
        record(
            {
                **SESSION,
                "features": array(choice("TREES")),
                "max_nodes": uint(0, 255),
                "max_context": uint(1),
                "round": uint(),
                "verify": ref("fields.VERIFY"),
            },
            about="round: of the VERIFY that is due",
        ),
        NOTHING,
    ),
    "check_verdict": (
        record({**SESSION, "max_context": uint(1), "verify": ref("fields.VERIFY"), "verdict": ref("fields.VERDICT")}),
        record({"path": array(uint(1, 255), "node numbers, top first"), "tokens": TOKENS}),
    ),
    # section 16: commit
    "turn": (
        record({"promised": uint(), "number": uint(0, 8), "n": uint(1, 9)}),
        record({"leader": uint(0, 8), "distance": uint(1, 9), "view": uint(0, U32 + 9)}),
    ),
    "committed": (
        record({"n": uint(1, 9), "heights": array(uint(), "the highest vote of each voter that voted in this view")}),
        record({"majority": uint(1, 5), "height": uint()}, about="height 0: nothing"),
    ),
    "adopt": (
        record(
            {
                **SESSION,
                "view": uint(),
                "n": uint(1, 9),
                "own": uint(0, 8),
                "reports": array(record({"member": uint(0, 8), "enlisted": ref("fields.ENLISTED")})),
            }
        ),
        {
            "oneOf": [
                record({"ready": {"const": False}}, about="no majority, or the own voter is missing (Q-30)"),
                record(
                    {
                        "ready": {"const": True},
                        "position": uint(),
                        "digest": hexadecimal(32),
                        "height": uint(),
                        "prepares": array(record({"member": uint(0, 8), "prepare": ref("fields.PREPARE")})),
                    },
                    {"finish": uint(0, 65535)},
                    "end of the adopted log, height of the last block there is then, the PREPARE to each that reported",
                ),
            ]
        },
    ),
    "voter": (
        record({"own": hexadecimal(32), "steps": array(VOTER_STEP)}),
        record({"results": array(array(SENT), "for each step what is sent, in order")}),
    ),
}
