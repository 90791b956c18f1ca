"""Section 16: what a voter promises, stores, votes for and serves. The suite leads, and is the other members."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from conformance.case import Rung, case
from conformance.live.testee import LiveTestee
from conformance.live.voting import Group, Leading, make_group, resume
from conformance.verdict import Failed
from dsdproto.registry import DismissReason, ErrorCode, Finish, MessageType, Role
from dsdproto.wire import cbor
from dsdproto.wire.codec import encode_message, encode_payload
from dsdproto.wire.messages import Block, Close, Error, Verdict, Vote

MISMATCH, STALE, ALIVE = ErrorCode.LEDGER_MISMATCH, ErrorCode.VIEW_STALE, ErrorCode.LEADER_ALIVE
INVALID, UNKNOWN, PREFIX = ErrorCode.MESSAGE_INVALID, ErrorCode.SESSION_UNKNOWN, ErrorCode.PREFIX_UNKNOWN


def voter_case(name: str, title: str, *clauses: str, **more: object):  # type: ignore[no-untyped-def]
    """A case of rung 3 for a voter under test."""
    return case(f"voter/{name}", title, clauses=clauses, rung=Rung.LIVE, role=Role.VOTER, **more)  # type: ignore[arg-type]


async def founded(t: LiveTestee, **changes: Any) -> tuple[Group, Leading, tuple[int, ...]]:
    """(group, its leader's channel at the testee, the prompt)."""
    group = await make_group(t, **changes)
    return group, await group.lead(), group.session.prompt


async def with_log(
    t: LiveTestee, blocks: int = 3, committed: int = 1, **changes: Any
) -> tuple[Group, Leading, tuple[int, ...]]:
    """A log of some blocks of two tokens, the first ``committed`` of them committed: (group, leader, the whole log)."""
    group, leading, log = await founded(t, max_tokens=60, **changes)
    for _ in range(blocks):
        draft = tuple(t.rng.randrange(4, group.session.model.v) for _ in range(2))
        await leading.prepare(log, draft)
        log += draft
    if committed:
        await leading.commit(committed)
    return group, leading, log


# ---------------------------------------------------------------- promises


@voter_case("promise", "A voter that takes a session answers with an empty log", "Q-10", "Q-17", "Q-11")
async def promise(t: LiveTestee) -> None:
    group, leading, prompt = await founded(t)
    group.check_report(leading.answer, 0, 0, prompt, len(prompt), len(prompt))
    t.trial.expect("Q-17", "an empty log has a finish", None, leading.answer.finish)


@voter_case(
    "promise-again",
    "The leader of the promised view reconnects and is taken; the log is reported to it",
    "Q-13",
    "Q-17",
    "Q-20",
)
async def promise_again(t: LiveTestee) -> None:
    group, leading, log = await with_log(t)
    known = len(leading.blocks[1])
    await leading.peer.hang_up()
    for asked in (known, len(group.session.prompt), len(log)):
        again = await group.lead(0, asked)
        group.check_report(again.answer, 0, 3, log, known, asked)
        await again.peer.hang_up()


@voter_case(
    "higher-view",
    "When the leader is gone, a higher view is promised, and older ones are refused",
    "Q-10",
    "Q-13",
    "Q-17",
)
async def higher_view(t: LiveTestee) -> None:
    group, leading, log = await with_log(t)
    known = len(leading.blocks[1])
    await leading.peer.hang_up()
    later = await group.lead(2, known)
    group.check_report(later.answer, 0, 3, log, known, known)
    await later.peer.hang_up()
    peer = await group.link(0)
    channel = await peer.open(group.enlist_of(0, known))
    await peer.refused(channel, "Q-13", STALE)
    await peer.alive("E-3")
    again = await group.lead(3, known, peer=peer)
    group.check_report(again.answer, 0, 3, log, known, known)


@voter_case(
    "leader-alive",
    "A higher view is refused while the leader of the promised one is connected",
    "Q-14",
    "E-3",
    bracket=True,
)
async def leader_alive(t: LiveTestee) -> None:
    group, leading, log = await with_log(t)
    peer = await group.link(2)
    channel = await peer.open(group.enlist_of(2))
    await peer.refused(channel, "Q-14", ALIVE)
    await leading.prepare(log, (5, 6))


@voter_case("resigned", "DISMISS with RESIGNED: the next view is taken", "Q-40", "Q-14")
async def resigned(t: LiveTestee) -> None:
    group, leading, log = await with_log(t)
    await leading.dismiss(int(DismissReason.RESIGNED))
    later = await group.lead(2)
    prompt = len(group.session.prompt)
    group.check_report(later.answer, 0, 3, log, len(leading.blocks[1]), prompt)


@voter_case("reason-unknown", "A dismiss reason that nobody knows is taken as RESIGNED", "Q-40")
async def reason_unknown(t: LiveTestee) -> None:
    group, leading, _ = await founded(t)
    await leading.dismiss(0x7FFE)
    await group.lead(2)


@voter_case("one-channel", "A second ENLIST of the promised view ends the older channel", "Q-16", "Q-13")
async def one_channel(t: LiveTestee) -> None:
    group, leading, log = await with_log(t)
    again = await group.lead(0, len(leading.blocks[1]))
    await leading.peer.refused(leading.channel, "Q-16", ErrorCode.SESSION_EXISTS)
    await leading.peer.alive("E-3")
    again.height = 3
    await again.prepare(log, (9,))


def _enlist_refused(
    name: str, title: str, clause: str, code: ErrorCode, view: int, make: Callable[[Group], dict[str, Any]]
) -> None:
    async def check(t: LiveTestee) -> None:
        group, leading, log = await with_log(t)
        sender = group.leader_of(view)
        peer = leading.peer if view == 0 else await t.connect(Role.LEADER, identity=sender, name="other")
        channel = await peer.open(group.enlist_of(**{"view": view, **make(group)}))
        await peer.refused(channel, clause, code)
        await leading.prepare(log, (7, 8))

    voter_case(f"enlist-{name}", title, clause, "E-3", bracket=True)(check)


def _swapped(group: Group) -> dict[str, Any]:
    return {"group": group.last.node_id + group.testee + group.first.node_id}


_enlist_refused(
    "not-the-leader",
    "A view is asked for by a node that does not lead it",
    "Q-11",
    MISMATCH,
    2,
    lambda g: {"view": 0},
)
_enlist_refused(
    "not-a-member",
    "A group that the voter is not in",
    "Q-11",
    MISMATCH,
    0,
    lambda g: {"session": bytes(16), "group": g.first.node_id + bytes(32) + g.last.node_id},
)
_enlist_refused(
    "other-contract",
    "A known session with another contract",
    "Q-12",
    MISMATCH,
    0,
    lambda g: {"contract": replace(g.session.contract, max_tokens=7)},
)
_enlist_refused(
    "other-group",
    "A known session with another group",
    "Q-12",
    MISMATCH,
    2,
    lambda g: {**_swapped(g), "view": 0},
)
_enlist_refused(
    "committed-in-prompt",
    "`committed` below the length of the prompt",
    "Q-17",
    MISMATCH,
    0,
    lambda g: {"committed": 1},
)


@voter_case(
    "enlist-group-wrong",
    "A group that is no odd number of different ids is refused",
    "Q-1",
    "E-3",
    bracket=True,
)
async def enlist_group_wrong(t: LiveTestee) -> None:
    group = await make_group(t)
    peer = await group.link(0)
    first, testee, last = group.first.node_id, group.testee, group.last.node_id
    for wrong in (
        first + testee,
        first + testee + first,
        first + testee + last + bytes(32),
        first + testee + last[:31],
    ):
        item = cbor.decode(encode_payload(group.enlist_of(0)))
        item[3] = wrong
        channel = peer.channel()
        await peer.frame(int(MessageType.ENLIST), channel, cbor.encode(item), "not an odd number of different ids")
        error = await peer.expect(Error, channel, "Q-1")
        if error.code not in (INVALID, MISMATCH):
            raise Failed("Q-1", "refused with another code", "MESSAGE_INVALID", error)
    await group.lead(0, peer=peer)


# ---------------------------------------------------------------- votes


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


# ---------------------------------------------------------------- clients that resume


@voter_case(
    "resume",
    "A client that resumes reads on from its prefix, as blocks are committed, to the end",
    "Q-50",
    "Q-51",
    "Q-54",
    "S-10",
)
async def resume_reads_on(t: LiveTestee) -> None:
    group, leading, log = await with_log(t, blocks=4, committed=2)
    prompt = group.session.prompt
    first, second = leading.blocks[1], leading.blocks[2]
    readers = [await resume(t, group, tokens) for tokens in (prompt, first, second)]
    for reader in readers:
        await reader.started(0)
        await reader.read_to(second)
    await leading.commit(4)
    for reader in readers:
        await reader.read_to(log)
    await leading.prepare(log, (21, 22), int(Finish.LENGTH))
    await leading.commit()
    for reader in readers:
        await reader.read_to((*log, 21, 22))
        await reader.ends(int(Finish.LENGTH))


@voter_case("resume-uncommitted", "What is accepted but not committed is served to nobody", "Q-51")
async def resume_uncommitted(t: LiveTestee) -> None:
    group, leading, _ = await with_log(t, blocks=3, committed=1)
    reader = await resume(t, group, group.session.prompt)
    await reader.started(0)
    await reader.read_to(leading.blocks[1])
    await reader.peer.silent(reader.channel, "Q-51", 0.3)


@voter_case("resume-behind", "A voter that is behind the client waits, and then answers", "Q-51", "Q-50")
async def resume_behind(t: LiveTestee) -> None:
    group, leading, log = await with_log(t, blocks=3, committed=1)
    reader = await resume(t, group, leading.blocks[2])
    await reader.peer.silent(reader.channel, "Q-51", 0.3)
    await leading.commit(3)
    await reader.started(0)
    await reader.read_to(log)


@voter_case("resume-after-end", "A finished stream is served for a while", "Q-63", "Q-50", "Q-37")
async def resume_after_end(t: LiveTestee) -> None:
    group, leading, log = await founded(t)
    await leading.prepare(log, (5, 6, 7), int(Finish.STOP_TOKEN))
    await leading.commit()
    await leading.dismiss(int(DismissReason.SESSION_ENDED))
    for tokens in (log, (*log, 5), (*log, 5, 6, 7)):
        reader = await resume(t, group, tokens)
        await reader.started()
        await reader.read_to((*log, 5, 6, 7))
        await reader.ends(int(Finish.STOP_TOKEN))


@voter_case("resume-unknown", "A session that the voter does not know is refused", "Q-50", "E-3", bracket=True)
async def resume_unknown(t: LiveTestee) -> None:
    group = await make_group(t)
    reader = await resume(t, group, group.session.prompt)
    await reader.peer.refused(reader.channel, "Q-50", UNKNOWN)
    await reader.peer.alive("E-3")


async def _prefix_unknown(t: LiveTestee, group: Group, tokens: tuple[int, ...], **how: Any) -> None:
    reader = await resume(t, group, tokens, **how)
    await reader.peer.refused(reader.channel, "Q-52", PREFIX)


@voter_case(
    "resume-other-prefix",
    "Another prefix than was committed is refused",
    "Q-52",
    "S-PFX-3",
    "E-3",
    bracket=True,
)
async def resume_other_prefix(t: LiveTestee) -> None:
    group, leading, _ = await with_log(t, blocks=3, committed=2)
    right = leading.blocks[1]
    await _prefix_unknown(t, group, right, digest=bytes(32))
    await _prefix_unknown(t, group, (*right[:-1], 4 if right[-1] != 4 else 5))
    await _prefix_unknown(t, group, right, digest=group.session.digest_of(leading.blocks[2]))


@voter_case("resume-in-prompt", "A position within the prompt is refused", "Q-52", "E-3", bracket=True)
async def resume_in_prompt(t: LiveTestee) -> None:
    group, *_ = await with_log(t)
    await _prefix_unknown(t, group, group.session.prompt[:-1])


@voter_case("resume-close", "CLOSE ends the reader's channel, not the session", "Q-54", "S-15")
async def resume_close(t: LiveTestee) -> None:
    group, leading, log = await with_log(t, blocks=3, committed=1)
    reader = await resume(t, group, group.session.prompt)
    await reader.started(0)
    await reader.read_to(leading.blocks[1])
    await reader.peer.send(Close(), reader.channel)
    await reader.ends(int(Finish.CLOSED))
    waiting = await resume(t, group, leading.blocks[2])
    await waiting.peer.send(Close(), waiting.channel)
    await waiting.ends(int(Finish.CLOSED))
    await leading.prepare(log, (5,))


@voter_case(
    "resume-other-profile",
    "A later view of another profile ends the reader's channel with VIEW_STALE",
    "Q-54",
    "Q-45",
)
async def resume_other_profile(t: LiveTestee) -> None:
    group, leading, _ = await with_log(t, blocks=3, committed=1)
    reader = await resume(t, group, group.session.prompt)
    await reader.started(0)
    await reader.read_to(leading.blocks[1])
    await leading.peer.hang_up()
    await group.lead(2, profile=bytes(31) + b"\3", profile_text="")
    await reader.peer.refused(reader.channel, "Q-54", STALE)


@voter_case(
    "never-founded",
    "DISMISS with SESSION_ENDED on an empty ledger: the session is forgotten, its name is not",
    "Q-40",
    "Q-63",
    bracket=True,
)
async def never_founded(t: LiveTestee) -> None:
    group, leading, prompt = await founded(t)
    await leading.dismiss(int(DismissReason.SESSION_ENDED))
    peer = await group.link(2)
    channel = await peer.open(group.enlist_of(2))
    await peer.refused(channel, "Q-63", UNKNOWN)
    reader = await resume(t, group, prompt)
    await reader.peer.refused(reader.channel, "Q-63", UNKNOWN)
