"""Section 12: what a drafter sends. The suite is the leader; what is drafted is free, how it is said is not."""

from __future__ import annotations

from dataclasses import replace

import trio

from conformance.case import Rung, case
from conformance.live.drafting import Attachment, attach
from conformance.live.sessions import Session
from conformance.live.testee import LiveTestee
from conformance.verdict import Failed, Inconclusive
from dsdproto.registry import Role
from dsdproto.wire.codec import encode_message
from dsdproto.wire.messages import Advance, Attach, Attached, Error, Propose

SESSIONS, ATTEMPTS = 4, 8
QUIET = 0.3
"""Seconds in which a drafter that has something to say would say it; only ever used to show that nothing comes."""


def drafter_case(name: str, title: str, *clauses: str, **more: object):  # type: ignore[no-untyped-def]
    """A case of rung 3 for a drafter under test."""
    return case(f"drafter/{name}", title, clauses=clauses, rung=Rung.LIVE, role=Role.DRAFTER, **more)  # type: ignore[arg-type]


async def settle(work: Attachment, rounds: int = 2) -> None:
    """Take what the drafter sends until it is silent."""
    while True:
        with trio.move_on_after(work.peer.trial.seconds(QUIET)):
            arrival = await work.peer.next(work.channel)
            if arrival is None or not isinstance(arrival.message, Propose):
                got = arrival.message if arrival else work.peer.ended
                raise Failed("D-1", "a drafter sends something else than PROPOSE", "PROPOSE", got)
            work.book(arrival.message)
            continue
        return


# ---------------------------------------------------------------- proposing


@drafter_case("attached-first", "ATTACH is answered with ATTACHED, then come proposals", "D-14", "D-10", "CH-7")
async def attached_first(t: LiveTestee) -> None:
    peer = await t.connect(Role.LEADER)
    work = await attach(peer, await t.session(max_tokens=40), await t.model())
    await work.propose()


@drafter_case(
    "proposals-legal",
    "Proposals name known bases, keep the vocabulary, number their nodes",
    "D-3",
    "D-4",
    "D-10",
    "D-6",
)
async def proposals_legal(t: LiveTestee) -> None:
    peer = await t.connect(Role.LEADER)
    for temperature in (0, 65536):
        session = await t.session(max_tokens=60, temperature=temperature)
        work = await attach(peer, session, await t.model(), credit=24, width=4)
        for step in (1, 2, 1, 4, 3):
            await work.gather(1)
            await work.take_waiting()
            await work.follow_target(step)
        await work.detach()


@drafter_case("coupled", "A drafter chooses by the coupled rule from its own logits", "D-11", "S-SAMP-10")
async def coupled(t: LiveTestee) -> None:
    peer = await t.connect(Role.LEADER)
    model = await t.model()
    session = await t.session(max_tokens=40)
    work = await attach(peer, session, model, credit=12, width=1)
    for _ in range(3):
        await work.gather(1)
        await work.take_waiting()
        await work.follow_target(2)
    for path in work.nodes:
        own = session.choose(path[:-1], model)["token"]
        if path[-1] != own:
            raise Failed("D-11", f"not the coupled choice of {model.name} at position {len(path) - 1}", own, path[-1])


@drafter_case(
    "chains-only", "With width 1, or without TREES, there are chains only; without SCORES no scores", "D-15", "C-10"
)
async def chains_only(t: LiveTestee) -> None:
    for features in ((1, 3, 5), (3,), (1,), ()):
        peer = await t.connect(Role.LEADER, features=features)
        work = await attach(
            peer, await t.session(max_tokens=40), await t.model(), width=1 if features == (1, 3, 5) else 4
        )
        await work.propose()
        await work.follow_target(1)
        await work.gather(1)


@drafter_case(
    "trees-and-scores", "With TREES and SCORES: trees whose siblings differ, one score a node", "D-3", "D-5", "R-8"
)
async def trees_and_scores(t: LiveTestee) -> None:
    peer = await t.connect(Role.LEADER)
    work = await attach(peer, await t.session(max_tokens=60, temperature=100_000), await t.model(), credit=40, width=4)
    await settle(work)
    for _ in range(3):
        await work.follow_target(1)
        await settle(work)
    t.trial.note(f"{sum(m.parents is not None for m in work.messages)} of {len(work.messages)} PROPOSE were trees")


@drafter_case(
    "drafts-ahead", "Within its credit a drafter goes on below its own nodes, with no word from the leader", "D-16"
)
async def drafts_ahead(t: LiveTestee) -> None:
    peer = await t.connect(Role.LEADER)
    for _ in range(ATTEMPTS):
        work = await attach(peer, await t.session(max_tokens=80, temperature=0), await t.model(), credit=12, window=1)
        await work.gather(1)
        await settle(work)
        if len(work.messages) > 1:
            return
        await work.detach()
    said = f"in {ATTEMPTS} sessions nothing was proposed below the first proposal before the next ADVANCE"
    raise Failed("D-16", said, "drafting ahead", "one PROPOSE each")


@drafter_case(
    "from-the-middle", "ATTACH in the middle of a stream: bases begin where it stands", "D-10", "L-12", "S-PFX-2"
)
async def from_the_middle(t: LiveTestee) -> None:
    peer = await t.connect(Role.LEADER)
    session = await t.session(max_tokens=40)
    session.extend(session.ahead(9))
    work = await attach(peer, session, await t.model())
    await work.propose()
    await work.follow_target(2)
    await work.gather(1)


@drafter_case("any-target", "The contract's model is the target's name: a drafter takes any with its vocabulary", "D-2")
async def any_target(t: LiveTestee) -> None:
    peer = await t.connect(Role.LEADER)
    for name in ("", "some-target-that-nobody-knows"):
        session = await t.session(model=name, max_tokens=40)
        await (await attach(peer, session, await t.model())).propose()


@drafter_case("end-of-stream", "Nothing is proposed past the end of the stream, nor below a stop token", "D-16")
async def end_of_stream(t: LiveTestee) -> None:
    peer = await t.connect(Role.LEADER)
    model = await t.model()
    session = await t.session(max_tokens=3)
    work = await attach(peer, session, model, credit=30, width=3)
    await work.propose()
    await settle(work)
    end = len(session.prompt) + 3
    if beyond := [path for path in work.nodes if len(path) > end]:
        raise Failed("D-16", "a node beyond the last position of the stream", end, len(beyond[0]))
    plain = await t.session(max_tokens=40, temperature=0)
    first = plain.choose(plain.tokens, model)["token"]
    stopped = Session(plain.id, replace(plain.contract, stop_tokens=(first,)), plain.model, plain.max_context)
    work = await attach(peer, stopped, model, credit=30)
    await settle(work)
    if below := [path for path in work.nodes if first in path[len(plain.prompt) : -1]]:
        raise Failed("D-16", "a node below a stop token", "none", below[0][len(plain.prompt) :])


# ---------------------------------------------------------------- credit


def _credit(credit: int) -> None:
    async def check(t: LiveTestee) -> None:
        peer = await t.connect(Role.LEADER)
        session = await t.session(max_tokens=200, temperature=0)
        work = await attach(peer, session, await t.model(), credit=credit, window=1, width=3)
        for step in (1, 2, 1, 3):
            await work.gather(1)
            await settle(work)  # judges each PROPOSE by the credit
            await work.follow_target(step)
        await settle(work)

    drafter_case(f"credit-{credit}", f"Never more than {credit} nodes outstanding", "D-6")(check)


for _n in (1, 2, 5, 17):
    _credit(_n)


@drafter_case("credit-zero", "Credit 0 pauses a drafter; ADVANCE with an empty path lets it go on", "D-6", "D-7")
async def credit_zero(t: LiveTestee) -> None:
    peer = await t.connect(Role.LEADER)
    work = await attach(peer, await t.session(max_tokens=40), await t.model(), credit=0)
    await peer.silent(work.channel, "D-6", QUIET)
    await work.advance((), credit=4)
    await work.propose()
    await settle(work)
    await work.advance((), credit=0)
    await work.follow_target(1)
    await peer.silent(work.channel, "D-6", QUIET)


@drafter_case(
    "credit-lowered", "After the credit was lowered below the count nothing comes until there is room again", "D-6"
)
async def credit_lowered(t: LiveTestee) -> None:
    work = await _drafted(t)
    peer = work.peer
    count = work.outstanding
    await work.advance((), credit=1)
    await peer.alive("H-2")
    await settle(work)
    t.trial.expect("D-6", "nodes came although the count was above the credit", count, work.outstanding)
    work.greatest = 1
    await work.advance(work.session.other(work.session.tokens))  # all its nodes are off the path now
    await work.gather(1)
    await settle(work)


@drafter_case(
    "credit-after-off-path", "Nodes off the verified path count no longer: there is room at once", "D-6", "D-16"
)
async def credit_after_off_path(t: LiveTestee) -> None:
    peer = await t.connect(Role.LEADER)
    work = await attach(peer, await t.session(max_tokens=80, temperature=0), await t.model(), credit=3, window=1)
    for _ in range(4):
        await work.gather(1)
        await settle(work)
        await work.advance(work.session.other(work.session.tokens))
    await work.gather(1)


# ---------------------------------------------------------------- ADVANCE


async def _drafted(t: LiveTestee, chain: int = 2, **session: int) -> Attachment:
    """A session with a chain of that many nodes outstanding, and nothing on its way. A drafter that has seen few of its
    drafts accepted may look but one token ahead: it is shown that it may go further."""
    peer = await t.connect(Role.LEADER)
    for _ in range(SESSIONS):
        values = {"max_tokens": 80, "temperature": 0, **session}
        work = await attach(peer, await t.session(**values), await t.model(), credit=12, window=3)
        for _ in range(ATTEMPTS):
            await work.gather(1)
            await settle(work)
            if work.depth >= chain:
                return work
            deepest = max(work.ahead, key=len)
            if work.session.finish_at(deepest) is not None:
                break
            await work.advance(deepest[work.session.position :])
        await work.detach()
    raise Inconclusive(f"in {SESSIONS} sessions the drafter did not draft {chain} tokens in a row")


async def _goes_on(work: Attachment) -> None:
    """The drafter understood where the prefix is now: it has drafts below it, and below the next one too."""
    await work.gather(1)
    await work.advance(work.session.other(work.session.tokens))
    await work.gather(1)


@drafter_case("advance-by-reference", "ADVANCE along the drafter's own nodes, by `ref` alone", "D-7", "D-4")
async def advance_by_reference(t: LiveTestee) -> None:
    work = await _drafted(t)
    root = work.session.tokens
    node = max((n for n in work.nodes if n[: len(root)] == root), key=len)
    await work.advance(node[len(root) :])
    await _goes_on(work)


@drafter_case("advance-by-tokens", "ADVANCE by tokens alone, though the drafter has proposed them", "D-7")
async def advance_by_tokens(t: LiveTestee) -> None:
    work = await _drafted(t)
    root = work.session.tokens
    await work.advance(work.nodes[0][len(root) :], ref=0)
    await _goes_on(work)


@drafter_case("advance-by-both", "ADVANCE by `ref`, then tokens that others drafted or the target said", "D-7")
async def advance_by_both(t: LiveTestee) -> None:
    work = await _drafted(t)
    root = work.session.tokens
    first = work.nodes[0]
    await work.advance((*first[len(root) :], *work.session.other(first)), ref=1)
    await _goes_on(work)


@drafter_case("advance-by-upper-node", "A `ref` that is not the deepest node on the path fits as well", "D-7")
async def advance_by_upper_node(t: LiveTestee) -> None:
    work = await _drafted(t)
    root = work.session.tokens
    deep = next(n for n in work.nodes if len(n) >= len(root) + 2)
    upper = work.nodes.index(deep[: len(root) + 1]) + 1
    await work.advance(deep[len(root) :], ref=upper)
    await _goes_on(work)


@drafter_case("advance-many-steps", "Several steps merged into one ADVANCE", "D-7", "D-18")
async def advance_many_steps(t: LiveTestee) -> None:
    work = await _drafted(t)
    await work.advance(work.session.ahead(20))
    await _goes_on(work)


@drafter_case(
    "advance-off-path",
    "ADVANCE off everything that was drafted: the drafter begins anew below it",
    "D-7",
    "D-10",
    "D-16",
)
async def advance_off_path(t: LiveTestee) -> None:
    work = await _drafted(t, 1)
    for _ in range(3):
        await work.advance(work.session.other(work.session.tokens))
        await work.gather(1)


@drafter_case(
    "advance-keeps-what-hangs",
    "What hangs below the new prefix keeps its numbers, and can be referred to later",
    "D-4",
    "D-16",
    "D-7",
)
async def advance_keeps_what_hangs(t: LiveTestee) -> None:
    work = await _drafted(t)
    root = work.session.tokens
    deep = max((n for n in work.nodes if n[: len(root)] == root), key=len)
    number = work.nodes.index(deep) + 1
    first, rest = deep[: len(root) + 1], deep[len(root) + 1 :]
    await work.advance(first[len(root) :])
    await work.advance(rest, ref=number)
    await _goes_on(work)


@drafter_case("advance-before-attached", "ADVANCE right behind ATTACH, before ATTACHED", "D-1", "CH-7", "D-7")
async def advance_before_attached(t: LiveTestee) -> None:
    peer = await t.connect(Role.LEADER)
    session, model = await t.session(max_tokens=40), await t.model()
    step = session.ahead(3)
    message = Attach(session=session.id, contract=session.contract, committed=(), credit=16, window=4, width=1)
    channel = peer.channel()
    ahead = Advance(position=session.position + 3, ref=0, tokens=step)
    peer.channels.add(channel, Attach, True)
    await peer.raw(encode_message(channel, message) + encode_message(channel, ahead), "ATTACH and ADVANCE in one piece")
    await peer.expect(Attached, channel, "D-14")
    work = Attachment(peer, channel, session, 16, 1, model)
    session.extend(step)
    work.announce()
    await _goes_on(work)


@drafter_case("advance-byte-by-byte", "ATTACH and ADVANCE byte by byte", "F-4", "D-7")
async def advance_byte_by_byte(t: LiveTestee) -> None:
    peer = await t.connect(Role.LEADER)
    session = await t.session(max_tokens=40)
    message = Attach(session=session.id, contract=session.contract, committed=(), credit=16, window=4, width=1)
    channel = await peer.open(message, pieces=1)
    await peer.expect(Attached, channel, "D-14")
    work = Attachment(peer, channel, session, 16, 1, await t.model())
    await work.propose()
    await work.follow_target(1)
    await _goes_on(work)


@drafter_case(
    "numbers-count-on", "Numbers count on over the life of the channel, stale and wrong nodes included", "D-4", "D-7"
)
async def numbers_count_on(t: LiveTestee) -> None:
    work = await _drafted(t)
    for _ in range(4):
        await work.advance(work.session.other(work.session.tokens))
        await work.gather(1)
        await settle(work)
        root = work.session.tokens
        below = [n for n in work.nodes if len(n) > len(root) and n[: len(root)] == root]
        await work.advance(below[0][len(root) :], ref=work.nodes.index(below[0]) + 1)
    await _goes_on(work)


# ---------------------------------------------------------------- several at once, and the end


@drafter_case(
    "sessions-apart", "Sessions of several links and channels, of one id even, are kept apart", "S-13", "D-10", "D-6"
)
async def sessions_apart(t: LiveTestee) -> None:
    peers = [await t.connect(Role.LEADER) for _ in range(2)]
    model = await t.model()
    works = []
    for number in range(6):
        session = await t.session(max_tokens=60)
        session.id = works[0].session.id if works and number % 2 else session.id
        works.append(await attach(peers[number % 2], session, model, credit=6))
    for step in (1, 2, 3):
        for work in works:
            await work.gather(1)
            await work.take_waiting()
            await work.follow_target(step)


@drafter_case("detach", "After DETACH nothing is heard of the session; the link goes on", "D-13", "CH-8", "CH-4")
async def detach(t: LiveTestee) -> None:
    work = await _drafted(t, 1)
    peer = work.peer
    for reason in (0, 6, 0x7FFE):
        await work.detach(reason)
        await peer.alive("H-2")
        peer._inbox.clear()  # proposals that crossed the DETACH
        await peer.send(Advance(position=99, ref=7, tokens=()), work.channel, "crosses the DETACH", wild=True)
        await peer.silent(work.channel, "D-13", 0.2)
        work = await attach(peer, await t.session(max_tokens=40), work.model)
        await work.propose()


@drafter_case(
    "error-from-leader", "ERROR of the leader closes the channel, whatever its code, and is not answered", "E-5", "E-6"
)
async def error_from_leader(t: LiveTestee) -> None:
    work = await _drafted(t, 1)
    peer = work.peer
    for code in (0x0116, 0x7FFE, 0x7FFF):
        await peer.send(Error(code=code, clause="D-4", text="made up by the suite"), work.channel)
        await peer.alive("H-2")
        peer._inbox.clear()
        await peer.silent(work.channel, "E-6", 0.2)
        work = await attach(peer, await t.session(max_tokens=40), work.model)
        await work.propose()


@drafter_case("link-lost", "A lost link costs its own sessions only", "E-3", "CH-8")
async def link_lost(t: LiveTestee) -> None:
    kept, lost = await _drafted(t, 1), await _drafted(t, 1)
    await lost.peer.hang_up()
    await _goes_on(kept)
