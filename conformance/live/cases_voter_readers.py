"""Section 16.9: clients that resume at a voter."""

from __future__ import annotations

from typing import Any

from conformance.live.cases_voter import founded, voter_case, with_log
from conformance.live.testee import LiveTestee
from conformance.live.voting import Group, make_group, resume
from dsdproto.registry import DismissReason, ErrorCode, Finish
from dsdproto.wire.messages import Close

PREFIX, STALE, UNKNOWN = ErrorCode.PREFIX_UNKNOWN, ErrorCode.VIEW_STALE, ErrorCode.SESSION_UNKNOWN


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
