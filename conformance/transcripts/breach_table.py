"""Every breach: behind which recorded frame it stands, what is sent, and what the recorder has to say to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from conformance.static.sample_messages import code_of, framed, pairs, sample
from conformance.static.wirebytes import bstr, fields, frame, tstr, uint
from conformance.transcripts import scenes
from conformance.transcripts.breaches import (
    At,
    Breach,
    Build,
    d,
    extended,
    group,
    hello,
    raw,
    say,
    scene,
    session,
    terms,
)
from conformance.transcripts.recording import steps_of
from conformance.transcripts.scenes import Scene
from conformance.transcripts.stage import TARGET, V, contract, node_id

PING, CLOSE = code_of("PING"), code_of("CLOSE")
OPEN: dict[str, Any] = {"session": bytes(16), "contract": terms, "max_drafters": 0, "origins": 0}
PROPOSE: dict[str, Any] = {"position": 3, "base": d(0, True)}
VERIFY: dict[str, Any] = {"round": 1, "position": 3, "base": d(0, True), "tokens": [7, 8]}
VERDICT: dict[str, Any] = {"round": 1, "accepted": 0, "token": 7, "digest": bytes(16), "margin": 9}
ENLIST: dict[str, Any] = {
    "session": session,
    "contract": terms,
    "group": group,
    "view": 0,
    "committed": 3,
    "model": "",
    "profile": bytes(32),
    "profile_text": "",
}
PREPARE: dict[str, Any] = {"view": 0, "height": 1, "position": 3, "base": d(0), "tokens": [7], "digest": bytes(32)}
UNEXPECTED, INVALID, MISUSED = "MESSAGE_UNEXPECTED", "MESSAGE_INVALID", "CHANNEL_MISUSED"
ADVANCE, PROPOSAL, WRONG = "ADVANCE_INVALID", "PROPOSAL_INVALID", "VERDICT_INVALID"
MALFORMED, LEDGER = "CBOR_MALFORMED", "LEDGER_MISMATCH"
HELLOED, GREETED, READY = ("out", "HELLO", 0), ("in", "HELLO", 0), ("out", "READY", 0)
OPENED, ATTACHED, ASSIGNED = ("out", "OPENED", 0), ("in", "ATTACHED", 0), ("in", "ASSIGNED", 0)


def crowded() -> Scene:
    stage = scenes.four("crowded", drafters=0, max_channels=1)
    client = stage.open(contract(max_tokens=4))
    stage.finish(client)
    return Scene("crowded", "", stage, (client,), ("leader",), "CH-5")


def breaches() -> tuple[Breach, ...]:
    out: list[Breach] = []

    def on(make: Callable[[], Scene], recorder: str, connection: int) -> Callable[..., None]:
        def add(
            name: str, clauses: str, behind: tuple[str, str, int], build: Build, code: str, channel: int = 0
        ) -> None:
            title = f"at the {recorder}: {name.replace('-', ' ')}"
            out.append(Breach(name, title, clauses, make, recorder, connection, behind, build, code, channel))

        return add

    client = on(scenes.trees_warm, "leader", 0)
    client("ping-before-hello", "C-4", HELLOED, raw(PING, 0, b"\xa1\x01\x01"), UNEXPECTED)
    client("grease-before-ready", "C-4", GREETED, raw(0xE1, 0, b"\xa0"), UNEXPECTED)
    client("ready-before-hello", "C-1 C-4", HELLOED, say("READY", 0), UNEXPECTED)
    client("hello-twice", "C-2", GREETED, hello("client"), UNEXPECTED)
    client("session-message-before-ready", "C-4", GREETED, say("OPEN", 1, **OPEN), UNEXPECTED)
    client("hello-of-another-node", "C-5 T-6", HELLOED, hello("client", node_id=node_id("eve")), "IDENTITY_MISMATCH")
    client("hello-with-the-own-id", "C-5", HELLOED, hello("client", node_id=node_id("leader")), "IDENTITY_MISMATCH")
    client("hello-of-another-cluster", "C-5", HELLOED, hello("client", cluster=bytes(16)), "CLUSTER_MISMATCH")
    client(
        "hello-of-later-versions", "C-7", HELLOED, hello("client", version_min=2, version_max=3), "VERSION_UNSUPPORTED"
    )
    client("hello-with-an-even-feature", "R-1", HELLOED, hello("client", features=[1, 2]), "VERSION_UNSUPPORTED")
    client("hello-with-an-even-role", "R-1", HELLOED, hello("client", roles=[1, 6]), "VERSION_UNSUPPORTED")
    client("hello-versions-swapped", "C-7", HELLOED, hello("client", version_min=2, version_max=1), INVALID)
    client("hello-on-another-channel", "CH-3 C-2", HELLOED, lambda at: frame(2, 5, hello("client")(at)[8:]), UNEXPECTED)
    client("hello-malformed", "B-2", HELLOED, raw(2, 0, b"\xa1\x01\xf6"), MALFORMED)
    client("ready-with-another-digest", "C-6", GREETED, say("READY", 0), "NEGOTIATION_MISMATCH")
    client("too-long-for-the-handshake", "F-2 F-3", HELLOED, raw(2, 0, b"", 65537), "FRAME_TOO_LONG")
    client("ready-twice", "C-2", READY, say("READY", 0), UNEXPECTED)
    client("hello-again", "C-2", OPENED, hello("client"), UNEXPECTED)
    client("too-long", "F-2 F-3", OPENED, raw(CLOSE, 1, b"", (1 << 20) + 1), "FRAME_TOO_LONG")
    client("indefinite-on-a-session", "B-4 E-2", OPENED, raw(CLOSE, 1, b"\xbf\xff"), "CBOR_NOT_DETERMINISTIC")
    client("no-map-on-a-session", "B-8 E-2", OPENED, raw(CLOSE, 1, b"\x80"), MALFORMED)
    client("null-in-ignored-grease", "B-2 R-1", OPENED, raw(0xE3, 0, b"\xa1\x01\xf6"), MALFORMED)
    client("unknown-even-type", "R-1", OPENED, raw(0x5C, 1, b"\xa0"), "MESSAGE_UNKNOWN")
    client("channel-never-opened", "CH-4", OPENED, say("CLOSE", 3), UNEXPECTED)
    client("session-message-on-channel-0", "CH-3", OPENED, say("CLOSE", 0), UNEXPECTED)
    client("ping-on-a-session", "CH-3", OPENED, say("PING", 1), UNEXPECTED)
    client("join-message", "J-2", OPENED, say("JOIN", 0), UNEXPECTED)
    client("pong-that-nobody-asked-for", "H-2", OPENED, say("PONG", 0), UNEXPECTED)
    client("status-that-nobody-asked-for", "C-12", OPENED, say("STATUS", 0), UNEXPECTED)
    client("invalid-ping", "R-5 E-2", OPENED, raw(PING, 0, fields([(1, tstr("1"))])), INVALID)
    client("channel-of-the-other-side", "CH-1", OPENED, say("OPEN", 2, **OPEN), MISUSED)
    client("channel-0-opened", "CH-1 CH-3", OPENED, say("OPEN", 0, **OPEN), UNEXPECTED)
    client("channel-opened-twice", "CH-2", OPENED, say("OPEN", 1, **OPEN), MISUSED)
    client(
        "role-that-the-sender-has-not",
        "C-9",
        OPENED,
        say("ATTACH", 3, contract=terms, committed=[]),
        "ROLE_UNSUPPORTED",
        3,
    )
    client("role-that-the-receiver-has-not", "C-9", OPENED, say("RESUME", 3), "ROLE_UNSUPPORTED", 3)
    client("invalid-open", "R-4 E-2", OPENED, say("OPEN", 3, drop=("origins",), **OPEN), INVALID, 3)
    client("open-with-more-in-its-contract", "S-12", OPENED, _odd_contract, INVALID, 3)
    client("answer-from-the-opener", "CH-6", OPENED, say("OPENED", 1), UNEXPECTED, 1)
    client("another-plane", "CH-6", OPENED, say("PROPOSE", 1), UNEXPECTED, 1)
    client("even-key-in-close", "R-1 E-2", OPENED, extended("CLOSE", 1, 2, uint(0)), INVALID, 1)
    client("garbage-on-a-closed-channel", "CH-4 B-1", ("out", "END", 0), raw(CLOSE, 1, b"\xa1"), MALFORMED)
    on(crowded, "leader", 0)("one-channel-too-many", "CH-5", OPENED, say("OPEN", 3, **OPEN), "OVERLOADED", 3)

    drafter = on(scenes.trees_warm, "leader", 2)
    drafter(
        "proposal-before-attached",
        "CH-7 D-14",
        ("out", "ATTACH", 0),
        say("PROPOSE", 2, tokens=[7], **PROPOSE),
        UNEXPECTED,
        2,
    )
    drafter("attached-twice", "CH-7 D-14", ATTACHED, say("ATTACHED", 2), UNEXPECTED, 2)
    drafter(
        "proposed-token-outside-the-vocabulary",
        "D-4",
        ATTACHED,
        say("PROPOSE", 2, tokens=[7, V], **PROPOSE),
        PROPOSAL,
        2,
    )
    drafter(
        "proposed-token-twice",
        "D-3",
        ATTACHED,
        say("PROPOSE", 2, tokens=[7, 7], parents=b"\0\0", **PROPOSE),
        PROPOSAL,
        2,
    )
    drafter("parents-that-are-too-few", "R-8", ATTACHED, _few_parents, INVALID, 2)
    drafter(
        "more-than-the-credit",
        "D-6",
        ATTACHED,
        say("PROPOSE", 2, tokens=list(range(17)), **PROPOSE),
        "CREDIT_EXCEEDED",
        2,
    )
    drafter(
        "credit-used-up",
        "D-6",
        ("in", "PROPOSE", 0),
        say("PROPOSE", 2, tokens=list(range(900, 916)), **PROPOSE),
        "CREDIT_EXCEEDED",
        2,
    )
    drafter("advance-from-a-drafter", "CH-6", ATTACHED, say("ADVANCE", 2), UNEXPECTED, 2)
    plain = on(scenes.plain_features, "leader", 2)
    plain(
        "parents-without-trees",
        "C-10",
        ATTACHED,
        say("PROPOSE", 2, tokens=[7, 8], parents=b"\0\0", **PROPOSE),
        INVALID,
        2,
    )
    plain("scores-without-scores", "C-10", ATTACHED, say("PROPOSE", 2, tokens=[7], scores=b"\0", **PROPOSE), INVALID, 2)

    verifier = on(scenes.trees_warm, "leader", 1)
    verifier("verdict-before-assigned", "CH-7 V-1", ("out", "ASSIGN", 0), say("VERDICT", 2, **VERDICT), UNEXPECTED, 2)
    verifier("verdict-before-verify", "V-1", ASSIGNED, say("VERDICT", 2, **VERDICT), UNEXPECTED, 2)
    verifier(
        "verdict-of-another-round", "V-2", ("out", "VERIFY", 0), say("VERDICT", 2, **{**VERDICT, "round": 2}), WRONG, 2
    )
    verifier(
        "verdict-beyond-the-tree",
        "V-6",
        ("out", "VERIFY", 0),
        say("VERDICT", 2, **{**VERDICT, "accepted": 255}),
        WRONG,
        2,
    )
    verifier("verdict-with-another-digest", "V-6", ("out", "VERIFY", 0), say("VERDICT", 2, **VERDICT), WRONG, 2)
    verifier(
        "verdict-outside-the-vocabulary",
        "V-6",
        ("out", "VERIFY", 0),
        say("VERDICT", 2, **{**VERDICT, "token": V}),
        WRONG,
        2,
    )
    verifier("verdict-that-ends-too-early", "V-6", ("out", "VERIFY", 0), _finish_early, WRONG, 2)
    verifier(
        "verdict-once-more", "V-2 V-3", ("out", "VERIFY", 3), say("VERDICT", 2, **{**VERDICT, "round": 3}), WRONG, 2
    )
    verifier(
        "assigned-with-another-model",
        "S-14",
        ("out", "ASSIGN", 0),
        say("ASSIGNED", 2, model="tm-1:v=4096,s=8"),
        "MODEL_UNAVAILABLE",
        2,
    )
    verifier("release-from-the-verifier", "CH-6", ASSIGNED, say("RELEASE", 2), UNEXPECTED, 2)

    reader = on(scenes.trees_warm, "client", 0)
    asked, told = ("out", "OPEN", 0), ("in", "OPENED", 0)
    answer: dict[str, Any] = {"position": 3, "model": TARGET.name, "profile": bytes(32), "profile_text": ""}
    reader(
        "opened-at-another-position", "S-7", asked, say("OPENED", 1, **{**answer, "position": 4}), "PREFIX_UNKNOWN", 1
    )
    reader(
        "opened-with-another-model",
        "S-14",
        asked,
        say("OPENED", 1, **{**answer, "model": "tm-1:v=4096,s=8"}),
        "MODEL_UNAVAILABLE",
        1,
    )
    reader("opened-with-a-group-under-solo", "Q-1", asked, say("OPENED", 1, group=bytes(32), **answer), INVALID, 1)
    reader("block-before-opened", "CH-7", asked, say("BLOCK", 1), UNEXPECTED, 1)
    reader("opened-twice", "CH-7", told, say("OPENED", 1, **answer), UNEXPECTED, 1)
    reader("block-behind-a-gap", "S-8", told, say("BLOCK", 1, position=4, tokens=[7]), ADVANCE, 1)
    reader("block-repeated", "S-8", ("in", "BLOCK", 1), say("BLOCK", 1, position=3, tokens=[7]), ADVANCE, 1)
    reader("block-outside-the-vocabulary", "S-8", told, say("BLOCK", 1, position=3, tokens=[7, V]), ADVANCE, 1)
    reader("end-with-another-digest", "S-10", told, say("END", 1, position=3, digest=bytes(32)), ADVANCE, 1)
    reader("end-at-another-position", "S-10", told, say("END", 1, position=4, digest=d(1)), ADVANCE, 1)
    reader(
        "end-before-the-last-block",
        "S-10",
        ("in", "BLOCK", 2),
        say("END", 1, position=lambda at: at.chain.position, digest=lambda at: at.chain.digest),
        ADVANCE,
        1,
    )
    reader("close-from-the-leader", "CH-6", told, say("CLOSE", 1), UNEXPECTED, 1)
    on(scenes.plain_features, "client", 0)(
        "origins-without-the-feature", "C-10", told, say("BLOCK", 1, position=3, tokens=[7], origins=b"\0"), INVALID, 1
    )
    on(scenes.quorum, "client", 0)(
        "opened-without-a-group-under-quorum", "Q-1", asked, say("OPENED", 1, **answer), INVALID, 1
    )
    resumed = on(scenes.takeover, "client", 2)
    resumed(
        "resumed-at-another-position",
        "S-7",
        ("out", "RESUME", 0),
        say("OPENED", 1, group=group, view=1, **answer),
        "PREFIX_UNKNOWN",
        1,
    )
    resumed("resumed-from-the-beginning", "S-8 Q-50", told, say("BLOCK", 1, position=3, tokens=[7]), ADVANCE, 1)

    helper = on(scenes.chain_greedy, "drafter1", 0)
    ready = ("out", "ATTACHED", 0)
    helper("advance-with-an-unknown-ref", "D-7", ready, say("ADVANCE", 2, position=4, ref=9, tokens=[]), ADVANCE, 2)
    helper("advance-to-another-position", "D-7", ready, say("ADVANCE", 2, position=5, ref=0, tokens=[7]), ADVANCE, 2)
    helper("advance-outside-the-vocabulary", "D-7", ready, say("ADVANCE", 2, position=4, ref=0, tokens=[V]), ADVANCE, 2)
    helper(
        "advance-backwards", "D-7", ("in", "ADVANCE", 1), say("ADVANCE", 2, position=3, ref=0, tokens=[]), ADVANCE, 2
    )
    helper("verify-at-a-drafter", "CH-6", ready, say("VERIFY", 2), UNEXPECTED, 2)
    helper("attach-on-the-same-channel", "CH-2", ready, say("ATTACH", 2, contract=terms, committed=[]), MISUSED)
    helper("attach-on-an-odd-channel", "CH-1", ready, say("ATTACH", 3, contract=terms, committed=[]), MISUSED)

    target = on(scenes.trees_warm, "verifier", 0)
    idle, busy = ("out", "ASSIGNED", 0), ("in", "VERIFY", 0)
    target("verify-while-one-waits", "V-3", busy, say("VERIFY", 2, **{**VERIFY, "round": 2}), "OVERLOADED", 2)
    target("verify-of-another-round", "V-2", idle, say("VERIFY", 2, **{**VERIFY, "round": 2}), INVALID, 2)
    target(
        "verify-below-another-prefix",
        "V-4",
        idle,
        say("VERIFY", 2, **{**VERIFY, "base": bytes(16)}),
        "PREFIX_UNKNOWN",
        2,
    )
    target(
        "verify-at-another-position",
        "V-4 S-PFX-3",
        idle,
        say("VERIFY", 2, **{**VERIFY, "position": 4}),
        "PREFIX_UNKNOWN",
        2,
    )
    target(
        "verify-of-too-many-nodes", "V-5", idle, say("VERIFY", 2, **{**VERIFY, "tokens": list(range(16))}), PROPOSAL, 2
    )
    target("verify-outside-the-vocabulary", "V-5", idle, say("VERIFY", 2, **{**VERIFY, "tokens": [V]}), PROPOSAL, 2)
    target(
        "verify-of-a-token-twice",
        "V-5",
        idle,
        say("VERIFY", 2, parents=b"\0\0", **{**VERIFY, "tokens": [7, 7]}),
        PROPOSAL,
        2,
    )
    said = [step for step in steps_of(scene(scenes.trees_warm).stage.nodes["verifier"]) if step[1] == "out"]
    ended = ("out", "VERDICT", sum(data[3] == code_of("VERDICT") for _, _, data in said) - 1)
    target("verify-after-the-end", "V-3", ended, say("VERIFY", 2), UNEXPECTED, 2)

    voter = on(scenes.quorum, "cid", 0)
    voted = ("out", "ENLISTED", 0)
    voter(
        "prepare-of-another-view", "Q-21", voted, say("PREPARE", 2, **{**PREPARE, "view": 3, "tokens": [7]}), LEDGER, 2
    )
    voter(
        "prepare-below-an-unknown-base",
        "Q-22",
        voted,
        say("PREPARE", 2, **{**PREPARE, "position": 4, "base": d(1)}),
        LEDGER,
        2,
    )
    voter("prepare-with-another-digest", "Q-25", voted, say("PREPARE", 2, **PREPARE), LEDGER, 2)
    voter(
        "commit-of-what-is-not-there",
        "Q-39",
        voted,
        say("COMMIT", 2, view=0, height=1, position=4, digest=d(1)),
        LEDGER,
        2,
    )
    voter("enlist-on-an-open-channel", "CH-2", voted, say("ENLIST", 2, **ENLIST), MISUSED)
    rival = on(scenes.quorum, "cid", 1)
    heard = ("in", "READY", 0)
    rival("enlist-of-a-view-of-somebody-else", "Q-11", heard, say("ENLIST", 2, **{**ENLIST, "view": 3}), LEDGER, 2)
    rival("prepare-without-enlist", "CH-4", heard, say("PREPARE", 2, **PREPARE), UNEXPECTED)
    guest = on(scenes.takeover, "cid", 2)
    guest("resume-of-an-unknown-session", "Q-50", READY, say("RESUME", 1, session=bytes(16)), "SESSION_UNKNOWN", 1)
    guest(
        "resume-with-another-digest",
        "Q-52",
        ("out", "BLOCK", 1),
        say("RESUME", 3, session=session, position=5, digest=bytes(32)),
        "PREFIX_UNKNOWN",
        3,
    )
    chair = on(scenes.quorum, "ada", 0)
    chair("vote-before-enlisted", "CH-7", ("out", "ENLIST", 0), say("VOTE", 1), UNEXPECTED, 1)
    chair(
        "vote-for-another-digest",
        "Q-24",
        ("out", "PREPARE", 0),
        say("VOTE", 1, view=0, height=1, digest=bytes(32)),
        LEDGER,
        1,
    )
    chair("vote-ahead", "Q-24", ("out", "PREPARE", 0), say("VOTE", 1, view=0, height=9, digest=d(1)), LEDGER, 1)
    return tuple(out)


def _odd_contract(at: At) -> bytes:
    inner = fields([*pairs("Contract", at.contract), (11, uint(1))])
    return frame(code_of("OPEN"), 3, fields([(1, bstr(bytes(16))), (2, inner), (3, uint(0)), (4, uint(0))]))


def _few_parents(at: At) -> bytes:
    values = {**sample("PROPOSE"), "position": 3, "base": at.digest(0)[:16], "tokens": [7, 8], "parents": b"\0"}
    return framed("PROPOSE", values, 2)


def _finish_early(at: At) -> bytes:
    token = at.chain.tokens[at.start]
    values = {"round": 1, "accepted": 0, "token": token, "digest": at.digest(1)[:16], "margin": 9, "finish": 2}
    return framed("VERDICT", values, 2)
