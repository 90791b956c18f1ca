"""Section 16.6: what a voter votes for, and what it refuses. The suite leads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from conformance.live.cases_voter import founded, voter_case, with_log
from conformance.live.testee import LiveTestee
from conformance.live.voting import Leading, make_group
from conformance.verdict import Failed
from dsdproto.registry import ErrorCode, Finish
from dsdproto.wire.codec import encode_message
from dsdproto.wire.messages import Block, Close, Verdict, Vote

MISMATCH = ErrorCode.LEDGER_MISMATCH


@voter_case("each-block-voted-for", "Each PREPARE is voted for, in the words of the PREPARE", "Q-20", "Q-23", "Q-24")
async def votes(t: LiveTestee) -> None:
    _, leading, log = await with_log(t, blocks=4, committed=0)
    await leading.commit(4)
    await leading.prepare(log, (5,))


@voter_case("votes-together", "Several PREPARE messages in one piece: votes that cover them all", "Q-24", "Q-20")
async def votes_together(t: LiveTestee) -> None:
    _, leading, log = await founded(t, max_tokens=60)
    data, heights = b"", []
    for n in range(4):
        message = leading.prepare_of(log, (4 + n, 9))
        data += encode_message(leading.channel, message)
        log += (4 + n, 9)
        leading.height += 1
        heights.append((message.height, message.digest))
    await leading.peer.raw(data, "four PREPARE messages in one piece")
    last = 0
    while last < 4:
        vote = await leading.peer.expect(Vote, leading.channel, "Q-24")
        if (vote.height, vote.digest) not in heights or vote.height <= last:
            raise Failed("Q-24", "VOTE does not repeat one of the PREPARE messages, in order", heights, vote)
        last = vote.height


@voter_case("repeated", "A PREPARE that is repeated is voted for again, and changes nothing", "Q-23", "Q-25")
async def repeated(t: LiveTestee) -> None:
    group, leading, log = await founded(t, max_tokens=60)
    first = leading.prepare_of(log, (5, 6))
    for _ in range(3):
        await leading.peer.send(first, leading.channel)
        await leading.voted(first)
    leading.height = 1
    leading.blocks[1] = (*log, 5, 6)
    await leading.prepare((*log, 5, 6), (7,))
    await leading.peer.send(first, leading.channel, "an older block once more")
    await leading.voted(first)
    await leading.peer.hang_up()
    again = await group.lead(0)
    group.check_report(again.answer, 0, 2, (*log, 5, 6, 7), len(log), len(log))


@voter_case("replaces-tail", "A later view replaces what is not committed", "Q-22", "Q-23", "Q-17")
async def replaces_tail(t: LiveTestee) -> None:
    group, leading, _ = await with_log(t)
    kept = leading.blocks[1]
    await leading.peer.hang_up()
    later = await group.lead(2, len(kept))
    later.height = 3
    await later.prepare(kept, (11, 12, 13))
    await later.peer.hang_up()
    again = await group.lead(3, len(kept))
    group.check_report(again.answer, 2, 4, (*kept, 11, 12, 13), len(kept), len(kept))


@voter_case("finish-in-log", "A block that ends the stream is reported with its finish", "Q-17", "Q-23", "Q-25")
async def finish_in_log(t: LiveTestee) -> None:
    group, leading, log = await founded(t)
    await leading.prepare(log, (5, 6), int(Finish.LENGTH))
    await leading.peer.hang_up()
    again = await group.lead(0)
    t.trial.expect("Q-17", "ENLISTED does not report the finish of the log", int(Finish.LENGTH), again.answer.finish)


@voter_case(
    "report-too-long",
    "A report beyond the leader's max_payload: CONTEXT_TOO_LONG",
    "Q-17",
    "F-2",
    bracket=True,
)
async def report_too_long(t: LiveTestee) -> None:
    group, leading, log = await founded(t, max_tokens=100_000)
    await leading.prepare(log, tuple(4 + n % 500 for n in range(30_000)))
    await leading.peer.hang_up()
    peer = await group.link(0, max_payload=65536)
    channel = await peer.open(group.enlist_of(0))
    await peer.refused(channel, "Q-17", ErrorCode.CONTEXT_TOO_LONG)


Make = Callable[[Leading, tuple[int, ...]], Any]


def _refused(name: str, title: str, clause: str, make: Make, *more: str, committed: int = 1) -> None:
    """The channel ends with LEDGER_MISMATCH, the log stays as it was, another session on the link goes on."""

    async def check(t: LiveTestee) -> None:
        group, leading, log = await with_log(t, committed=committed)
        beside = await make_group(t)
        beside.first = group.first
        other = await beside.lead(0, peer=leading.peer)
        known = len(leading.blocks[committed])
        await leading.peer.send(make(leading, log), leading.channel, f"wrong by {clause}")
        await leading.peer.refused(leading.channel, clause, MISMATCH)
        await other.prepare(beside.session.prompt, (5, 6))
        again = await group.lead(0, peer=leading.peer)
        group.check_report(again.answer, 0, 3, log, known, len(group.session.prompt))

    voter_case(name, title, clause, *more, "E-3", bracket=True)(check)


def _prepare(**changes: Any) -> Make:
    return lambda leading, log: leading.prepare_of(log, (5, 6), **changes)


_refused("prepare-other-view", "PREPARE of another view than the channel's is refused", "Q-21", _prepare(view=3))
_refused("prepare-older-view", "PREPARE of a view of somebody else is refused", "Q-21", _prepare(view=2))
_refused(
    "prepare-base-unknown",
    "A base that is not in the log is refused",
    "Q-22",
    _prepare(base=bytes(32)),
    "S-PFX-3",
)
_refused(
    "prepare-base-ahead",
    "A base behind the end of the log is refused",
    "Q-22",
    lambda w, log: w.prepare_of((*log, 5), (6,)),
    "S-PFX-3",
)
_refused(
    "prepare-base-in-prompt",
    "A base within the prompt is refused",
    "Q-22",
    lambda w, log: w.prepare_of(log[:1], log[1:]),
)
_refused(
    "prepare-changes-committed",
    "PREPARE that would change a committed token is refused",
    "Q-22",
    lambda w, log: w.prepare_of(
        w.group.session.prompt, tuple(4 if x != 4 else 5 for x in log[len(w.group.session.prompt) :])
    ),
)
_refused(
    "prepare-cuts-committed",
    "PREPARE that would remove a committed token is refused",
    "Q-22",
    lambda w, log: w.prepare_of(log[: len(w.blocks[1]) - 1], ()),
    committed=2,
)
_refused(
    "prepare-wrong-digest",
    "A digest that base and tokens do not give is refused",
    "Q-25",
    _prepare(digest=bytes(32)),
)
_refused(
    "prepare-outside",
    "A token outside the vocabulary is refused",
    "Q-25",
    lambda w, log: w.prepare_of(log, (w.group.session.model.v,)),
)
_refused(
    "prepare-same-height",
    "Another block of a height that was taken already is refused: the leader equivocates",
    "Q-23",
    lambda w, log: w.prepare_of(w.blocks[2], (4, 4, 4), height=3),
)
_refused("commit-other-view", "COMMIT of another view is refused", "Q-21", lambda w, log: w.commit_of(3, view=3))
_refused(
    "commit-unknown",
    "COMMIT of a block that the log does not hold is refused",
    "Q-39",
    lambda w, log: w.commit_of(3, digest=bytes(32)),
)
_refused(
    "commit-position",
    "COMMIT with the digest of another position is refused",
    "Q-39",
    lambda w, log: w.commit_of(3, position=len(log) - 1),
)
_refused(
    "commit-ahead",
    "COMMIT of a block that was not proposed yet is refused",
    "Q-39",
    lambda w, log: w.commit_of(3, height=4),
)


@voter_case("after-the-end", "Nothing follows a committed block that ends the stream", "Q-25", "E-3", bracket=True)
async def after_the_end(t: LiveTestee) -> None:
    _, leading, log = await founded(t)
    await leading.prepare(log, (5, 6), int(Finish.LENGTH))
    await leading.commit()
    await leading.peer.send(leading.prepare_of((*log, 5, 6), (7,)), leading.channel, "behind the end")
    await leading.peer.refused(leading.channel, "Q-25", MISMATCH)


@voter_case(
    "says-wrong",
    "What a leader does not say on a commit channel is refused",
    "CH-6",
    "Q-10",
    "E-3",
    bracket=True,
)
async def says_wrong(t: LiveTestee) -> None:
    group, leading, log = await with_log(t)
    for message in (
        Vote(view=0, height=1, digest=bytes(32)),
        Verdict(round=1, accepted=0, token=4, digest=bytes(16), margin=0),
        Block(position=3, tokens=(4,)),
        Close(),
    ):
        await leading.peer.send(message, leading.channel, "is not a leader's to say here", wild=True)
        await leading.peer.refused(leading.channel, "CH-6", ErrorCode.MESSAGE_UNEXPECTED)
        leading = await group.lead(0, peer=leading.peer)
    leading.height = 3
    await leading.prepare(log, (5,))
