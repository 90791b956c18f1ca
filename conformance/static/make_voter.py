"""Vectors of sections 16.5 to 16.7: what a voter stores, votes for and refuses, told as stories."""

from __future__ import annotations

from typing import Any

from conformance import reference as ref
from conformance.static.make_commit import OTHER, PROMPT, TERMS, A, B, C, D, Step, X, log, prepare
from conformance.static.sessions import CLOSED, LENGTH, V
from conformance.static.vectors import Vector, compute, numbers, vector

GROUP = [bytes([0xA0 + n]) * 32 for n in range(3)]
EVE = b"\xee" * 32
SESSION = bytes(range(16))
PROFILE = bytes(32)


def enlist(channel: str, view: int, sender: bytes | None = None, known: int = 0, **more: Any) -> Step:
    fields = {
        "session": SESSION,
        "contract": TERMS.values,
        "group": b"".join(GROUP),
        "view": view,
        "committed": PROMPT + known,
        "model": TERMS.model,
        "profile": PROFILE,
        "profile_text": "",
        **more,
    }
    return step(channel, GROUP[view % 3] if sender is None else sender, "ENLIST", fields)


def step(channel: str, sender: bytes, kind: str, fields: dict[str, Any]) -> Step:
    return numbers({"channel": channel, "from": sender, "type": kind, "fields": fields})


def block(channel: str, view: int, height: int, base: list[int], tokens: list[int], **more: Any) -> Step:
    return step(channel, GROUP[view % 3], "PREPARE", prepare(view, height, base, tokens, **more))


def commit(channel: str, view: int, height: int, stream: list[int], **more: Any) -> Step:
    fields = {"view": view, "height": height, "position": PROMPT + len(stream), "digest": TERMS.digest(stream), **more}
    return step(channel, GROUP[view % 3], "COMMIT", fields)


def dismiss(channel: str, view: int, reason: int) -> Step:
    return step(channel, GROUP[view % 3], "DISMISS", {"reason": reason})


def enlisted(channel: str, *args: Any, **more: Any) -> list[Step]:
    return [{"channel": channel, "type": "ENLISTED", "fields": numbers(log(*args, **more))}]


def vote(channel: str, view: int, height: int, stream: list[int]) -> list[Step]:
    return [
        {
            "channel": channel,
            "type": "VOTE",
            "fields": numbers({"view": view, "height": height, "digest": TERMS.digest(stream)}),
        }
    ]


def refusal(channel: str, code: str) -> list[Step]:
    return [{"channel": channel, "type": "ERROR", "code": code}]


Story = tuple[str, list[tuple[Step, list[Step]]]]
LOST_A: Step = {"lost": "a"}
BEGIN = [(enlist("a", 0), enlisted("a", []))]
TWO = [*BEGIN, (block("a", 0, 1, [], [A, B]), vote("a", 0, 1, [A, B]))]
DONE = [*TWO, (commit("a", 0, 1, [A, B]), [])]
LEDGER = refusal("a", "LEDGER_MISMATCH")


def stories() -> dict[str, Story]:
    """name -> clauses, (step, what is sent) pairs. The voter is number 1 of the group unless `own` says otherwise."""
    full = prepare(0, 1, [], [A, B])
    return {
        "begins-a-ledger": ("Q-10 Q-17", BEGIN),
        "votes": ("Q-20 Q-24", TWO),
        "votes-on-block-after-block": (
            "Q-23 Q-24",
            [
                *TWO,
                (block("a", 0, 2, [A, B], [C]), vote("a", 0, 2, [A, B, C])),
                (block("a", 0, 3, [A, B, C], [D]), vote("a", 0, 3, [A, B, C, D])),
            ],
        ),
        "a-block-that-covers-several-heights": (
            "Q-23 Q-33",
            [*BEGIN, (block("a", 0, 5, [], [A, B, C]), vote("a", 0, 5, [A, B, C]))],
        ),
        "a-block-without-tokens": (
            "Q-38",
            [*TWO, (block("a", 0, 2, [A, B], [], finish=CLOSED), vote("a", 0, 2, [A, B]))],
        ),
        "a-duplicate": ("Q-23", [*TWO, (block("a", 0, 1, [], [A, B]), vote("a", 0, 1, [A, B]))]),
        "a-duplicate-of-an-earlier-block": (
            "Q-23",
            [
                *TWO,
                (block("a", 0, 2, [A, B], [C]), vote("a", 0, 2, [A, B, C])),
                (block("a", 0, 1, [], [A, B]), vote("a", 0, 1, [A, B])),
            ],
        ),
        "commits": ("Q-39", [*DONE, (block("a", 0, 2, [A, B], [C]), vote("a", 0, 2, [A, B, C]))]),
        "commit-in-the-middle-of-the-log": (
            "Q-39",
            [
                *BEGIN,
                (block("a", 0, 3, [], [A, B, C]), vote("a", 0, 3, [A, B, C])),
                (commit("a", 0, 2, [A, B]), []),
                (LOST_A, []),
                (enlist("b", 3), enlisted("b", [A, B, C], 0, 3, 2)),
            ],
        ),
        "the-leader-reconnects": (
            "Q-13 Q-16 Q-17",
            [*DONE, (LOST_A, []), (enlist("b", 0, known=1), enlisted("b", [A, B], 0, 1, 2, 1))],
        ),
        "the-leader-has-a-newer-channel": (
            "Q-16",
            [*TWO, (enlist("b", 0, known=2), [*refusal("a", "SESSION_EXISTS"), *enlisted("b", [A, B], 0, 1, 0, 2)])],
        ),
        "a-takeover": (
            "Q-10 Q-17",
            [
                *DONE,
                (dismiss("a", 0, 2), []),
                (enlist("b", 2), enlisted("b", [A, B], 0, 1, 2)),
                (block("b", 2, 2, [A, B], [C]), vote("b", 2, 2, [A, B, C])),
            ],
        ),
        "cuts-what-was-not-committed": (
            "Q-23",
            [
                *DONE,
                (block("a", 0, 2, [A, B], [C, D]), vote("a", 0, 2, [A, B, C, D])),
                (LOST_A, []),
                (enlist("b", 2), enlisted("b", [A, B, C, D], 0, 2, 2)),
                (block("b", 2, 3, [A, B], [X]), vote("b", 2, 3, [A, B, X])),
                (enlist("c", 2), [*refusal("b", "SESSION_EXISTS"), *enlisted("c", [A, B, X], 2, 3, 2)]),
            ],
        ),
        "repeats-what-is-committed": (
            "Q-22",
            [
                *DONE,
                (LOST_A, []),
                (enlist("b", 3), enlisted("b", [A, B], 0, 1, 2)),
                (block("b", 3, 2, [], [A, B, C]), vote("b", 3, 2, [A, B, C])),
            ],
        ),
        "a-finish-is-cut-off": (
            "Q-23",
            [
                *TWO,
                (block("a", 0, 2, [A, B], [C], finish=LENGTH), vote("a", 0, 2, [A, B, C])),
                (LOST_A, []),
                (enlist("b", 2), enlisted("b", [A, B, C], 0, 2, finish=LENGTH)),
                (block("b", 2, 3, [A, B], [X]), vote("b", 2, 3, [A, B, X])),
                ({"lost": "b"}, []),
                (enlist("c", 3), enlisted("c", [A, B, X], 2, 3)),
            ],
        ),
        "a-committed-finish-is-voted-on-again": (
            "Q-25",
            [
                *BEGIN,
                (block("a", 0, 1, [], [A], finish=LENGTH), vote("a", 0, 1, [A])),
                (commit("a", 0, 1, [A]), []),
                (LOST_A, []),
                (enlist("b", 2), enlisted("b", [A], 0, 1, 1, finish=LENGTH)),
                (block("b", 2, 2, [], [A], finish=LENGTH), vote("b", 2, 2, [A])),
            ],
        ),
        "dismissed-before-it-began": (
            "Q-40 Q-63",
            [*BEGIN, (dismiss("a", 0, 0), []), (enlist("b", 3), refusal("b", "SESSION_UNKNOWN"))],
        ),
        "an-unknown-reason-is-a-resignation": (
            "Q-40",
            [*TWO, (dismiss("a", 0, 9), []), (enlist("b", 2), enlisted("b", [A, B], 0, 1))],
        ),
        "its-own-leader-begins-a-ledger": ("Q-15", [(enlist("a", 1), enlisted("a", []))]),
        "its-own-leader-takes-a-later-view": (
            "Q-15",
            [*TWO, (LOST_A, []), (enlist("b", 1), enlisted("b", [A, B], 0, 1))],
        ),
        "skips-views": ("Q-13", [*TWO, (LOST_A, []), (enlist("b", 8), enlisted("b", [A, B], 0, 1))]),
        # refused: ENLIST
        "sender-that-does-not-lead": ("Q-11", [(enlist("a", 0, GROUP[2]), LEDGER)]),
        "sender-outside-the-group": ("Q-11", [(enlist("a", 0, EVE), LEDGER)]),
        "receiver-outside-the-group": ("Q-11", [(enlist("a", 0, group=GROUP[0] + EVE + GROUP[2]), LEDGER)]),
        "another-contract": (
            "Q-12",
            [*TWO, (LOST_A, []), (enlist("b", 2, contract=OTHER.values), refusal("b", "LEDGER_MISMATCH"))],
        ),
        "another-group": (
            "Q-12",
            [
                *TWO,
                (LOST_A, []),
                (enlist("b", 2, group=GROUP[0] + GROUP[1] + EVE, sender=EVE), refusal("b", "LEDGER_MISMATCH")),
            ],
        ),
        "the-group-in-another-order": (
            "Q-12",
            [
                *TWO,
                (LOST_A, []),
                (
                    enlist("b", 2, group=GROUP[2] + GROUP[1] + GROUP[0], sender=GROUP[0]),
                    refusal("b", "LEDGER_MISMATCH"),
                ),
            ],
        ),
        "an-older-view": (
            "Q-13",
            [
                *TWO,
                (LOST_A, []),
                (enlist("b", 3), enlisted("b", [A, B], 0, 1)),
                ({"lost": "b"}, []),
                (enlist("c", 2), refusal("c", "VIEW_STALE")),
            ],
        ),
        "a-later-view-while-the-leader-is-there": (
            "Q-14",
            [
                *TWO,
                (enlist("b", 2), refusal("b", "LEADER_ALIVE")),
                (block("a", 0, 2, [A, B], [C]), vote("a", 0, 2, [A, B, C])),
            ],
        ),
        "the-same-view-from-its-own-leader": (
            "Q-15",
            [(enlist("a", 1), enlisted("a", [])), (LOST_A, []), (enlist("b", 1), refusal("b", "VIEW_STALE"))],
        ),
        "committed-within-the-prompt": ("Q-17", [(enlist("a", 0, committed=PROMPT - 1), LEDGER)]),
        # refused: PREPARE
        "prepare-of-another-view": ("Q-21", [*BEGIN, (block("a", 3, 1, [], [A]), LEDGER)]),
        "base-beyond-the-log": ("Q-22", [*TWO, (block("a", 0, 3, [A, B, C], [D]), LEDGER)]),
        "base-with-another-digest": ("Q-22", [*TWO, (block("a", 0, 2, [A, X], [C]), LEDGER)]),
        "base-with-another-position": (
            "Q-22 S-PFX-3",
            [*TWO, (block("a", 0, 2, [A, B], [C], position=PROMPT + 1), LEDGER)],
        ),
        "base-within-the-prompt": (
            "Q-22",
            [
                *BEGIN,
                (
                    step(
                        "a",
                        GROUP[0],
                        "PREPARE",
                        {**full, "position": 2, "base": _early(2), "tokens": [33, A], "digest": TERMS.digest([A])},
                    ),
                    LEDGER,
                ),
            ],
        ),
        "changes-what-is-committed": ("Q-22", [*DONE, (block("a", 0, 2, [A], [X, C]), LEDGER)]),
        "removes-what-is-committed": ("Q-22", [*DONE, (block("a", 0, 2, [], [A]), LEDGER)]),
        "changes-what-is-committed-at-a-takeover": (
            "Q-22",
            [
                *DONE,
                (LOST_A, []),
                (enlist("b", 2), enlisted("b", [A, B], 0, 1, 2)),
                (block("b", 2, 2, [], [A, X]), refusal("b", "LEDGER_MISMATCH")),
            ],
        ),
        "another-block-at-the-same-height": ("Q-23", [*TWO, (block("a", 0, 1, [], [A, X]), LEDGER)]),
        "an-earlier-height-beyond-the-log": (
            "Q-23",
            [*BEGIN, (block("a", 0, 5, [], [A]), vote("a", 0, 5, [A])), (block("a", 0, 4, [A], [B]), LEDGER)],
        ),
        "digest-that-does-not-follow": (
            "Q-25",
            [*BEGIN, (block("a", 0, 1, [], [A], digest=TERMS.digest([B])), LEDGER)],
        ),
        "token-outside-the-vocabulary": ("Q-25", [*BEGIN, (block("a", 0, 1, [], [V]), LEDGER)]),
        "a-block-behind-a-committed-finish": (
            "Q-25",
            [
                *BEGIN,
                (block("a", 0, 1, [], [A], finish=LENGTH), vote("a", 0, 1, [A])),
                (commit("a", 0, 1, [A]), []),
                (block("a", 0, 2, [A], [B]), LEDGER),
            ],
        ),
        # refused: COMMIT
        "commit-of-another-view": ("Q-21", [*TWO, (commit("a", 3, 1, [A, B]), LEDGER)]),
        "commit-beyond-the-log": ("Q-39", [*TWO, (commit("a", 0, 2, [A, B, C]), LEDGER)]),
        "commit-of-another-digest": ("Q-39", [*TWO, (commit("a", 0, 1, [A, X]), LEDGER)]),
        "commit-of-a-block-that-is-not-labelled": ("Q-39", [*TWO, (commit("a", 0, 2, [A, B]), LEDGER)]),
        "commit-before-this-view-has-a-block": (
            "Q-39",
            [
                *TWO,
                (LOST_A, []),
                (enlist("b", 2), enlisted("b", [A, B], 0, 1)),
                (commit("b", 2, 1, [A, B]), refusal("b", "LEDGER_MISMATCH")),
            ],
        ),
        "refused-and-nothing-changed": (
            "Q-22",
            [*DONE, (block("a", 0, 2, [], [A]), LEDGER), (enlist("b", 2), enlisted("b", [A, B], 0, 1, 2))],
        ),
    }


def _early(position: int) -> bytes:
    """Digest of a prefix within the prompt."""
    return ref.chain(TERMS.encoding, TERMS.prompt[:position])[-1]


def make() -> list[Vector]:
    out = []
    for name, (clauses, pairs) in stories().items():
        request = compute("voter", own=GROUP[1], steps=[one for one, _ in pairs])
        title = f"a voter: {name.replace('-', ' ')}"
        out.append(vector(f"voter/{name}", title, clauses, request, ok={"results": [sent for _, sent in pairs]}))
    return out
