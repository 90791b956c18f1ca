"""Section 14 with 17: what a verifier answers. The suite is the leader; TM-1 makes each answer the only right one."""

from __future__ import annotations

import random
from dataclasses import replace

from conformance.case import Rung, case
from conformance.live.peer import Peer
from conformance.live.sessions import Session
from conformance.live.testee import LiveTestee
from conformance.live.verifying import Assignment, assign
from conformance.verdict import Skipped
from dsdproto.registry import Role
from dsdproto.wire.codec import encode_message
from dsdproto.wire.messages import Error


def verifier_case(name: str, title: str, *clauses: str, **more: object):  # type: ignore[no-untyped-def]
    """A case of rung 3 for a verifier under test."""
    return case(f"verifier/{name}", title, clauses=clauses, rung=Rung.LIVE, role=Role.VERIFIER, **more)  # type: ignore[arg-type]


LONGEST = 1 << 17


def require_short(max_context: int) -> None:
    """Raises Skipped for a context that the suite cannot fill."""
    if max_context > LONGEST:
        raise Skipped(f"max_context is {max_context}; the suite fills contexts of at most {LONGEST} tokens")


Tree = tuple[tuple[int, ...], tuple[int, ...]]
"""tokens, parents"""


def random_tree(rng: random.Random, session: Session, size: int) -> Tree:
    """A tree in random order whose nodes follow the target about half of the time."""
    tokens: list[int] = []
    parents: list[int] = []
    paths: list[tuple[int, ...]] = [()]
    for _ in range(size * 3):
        if len(tokens) == size:
            break
        parent = rng.choice(range(len(paths))) if rng.random() < 0.5 else len(paths) - 1
        prefix = session.tokens + paths[parent]
        token = session.say(prefix) if rng.random() < 0.6 else rng.choice(session.other(prefix, 3))
        if (token, parent) in zip(tokens, parents):
            continue
        tokens.append(token)
        parents.append(parent)
        paths.append((*paths[parent], token))
    return tuple(tokens), tuple(parents)


async def decode(work: Assignment) -> tuple[int, ...]:
    """Plain decoding to the end of the stream."""
    while (await work.ask()).finish is None:
        continue
    return tuple(work.session.committed)


# ---------------------------------------------------------------- decoding on the target alone


@verifier_case(
    "greedy", "Temperature 0, no drafts: the stream of the target, to its end", "S-SAMP-3", "V-10", "S-9", "S-TM1-3"
)
async def greedy(t: LiveTestee) -> None:
    peer = await t.connect(Role.LEADER)
    await decode(await assign(peer, await t.session(temperature=0)))


@verifier_case(
    "warm", "Temperature above 0, no drafts: the coupled choice, token by token", "S-SAMP-7", "S-RNG-2", "V-10"
)
async def warm(t: LiveTestee) -> None:
    peer = await t.connect(Role.LEADER)
    for temperature in (1, 13107, 65536, 200_000, (1 << 32) - 1):
        await decode(await assign(peer, await t.session(temperature=temperature, max_tokens=8)))


@verifier_case("top-k-and-top-p", "top-k, then top-p, then noise", "S-SAMP-7", "S-SAMP-1")
async def top_k_and_top_p(t: LiveTestee) -> None:
    peer = await t.connect(Role.LEADER)
    for top_k, top_p in (
        (1, 65536),
        (2, 65536),
        (3, 40000),
        (0, 1),
        (0, 20000),
        (0, 65535),
        (4, 60000),
        (1 << 24, 30000),
    ):
        session = await t.session(top_k=top_k, top_p=top_p, temperature=90_000, max_tokens=6)
        await decode(await assign(peer, session))


@verifier_case("seeds", "All 64 bits of the seed count", "S-RNG-2", "S-SAMP-1")
async def seeds(t: LiveTestee) -> None:
    peer = await t.connect(Role.LEADER)
    for seed in (0, 1, 1 << 32, (1 << 64) - 1, 1 << 63):
        await decode(await assign(peer, await t.session(seed=seed, max_tokens=5)))


# ---------------------------------------------------------------- drafts


@verifier_case(
    "chain-right",
    "A chain that is right throughout is accepted whole, and one token more",
    "V-10",
    "S-SAMP-12",
    "S-SAMP-9",
)
async def chain_right(t: LiveTestee) -> None:
    peer = await t.connect(Role.LEADER)
    work = await assign(peer, await t.session(max_tokens=40))
    for size in (1, 2, 5, 7):
        await work.ask(work.session.ahead(size))


@verifier_case("chain-partly", "A chain is accepted up to its first wrong token", "V-10", "S-SAMP-12")
async def chain_partly(t: LiveTestee) -> None:
    peer = await t.connect(Role.LEADER)
    work = await assign(peer, await t.session(max_tokens=60))
    for right in (0, 1, 3, 6):
        good = work.session.ahead(right)
        wrong = work.session.other(work.session.tokens + good)
        await work.ask((*good, *wrong, *work.session.other(work.session.tokens, 2)))


@verifier_case("chain-to-the-end", "A chain whose last accepted node ends the stream: no `token`", "V-10", "R-9", "S-9")
async def chain_to_the_end(t: LiveTestee) -> None:
    peer = await t.connect(Role.LEADER)
    for beyond in (0, 1, 4):
        work = await assign(peer, await t.session(max_tokens=5))
        verdict = await work.ask(work.session.ahead(5 + beyond))
        t.trial.expect("V-10", "`token` behind the end of the stream", None, verdict.token)


@verifier_case(
    "tree", "In a tree the verdict names the deepest node on the target's path", "V-10", "V-11", needs=("TREES",)
)
async def tree(t: LiveTestee) -> None:
    peer = await t.connect(Role.LEADER)
    work = await assign(peer, await t.session(max_tokens=60))
    session = work.session
    a, b, c = session.ahead(3)
    x, y = session.other(session.tokens, 2)
    # the right path is 3, 4, 6; wrong siblings stand before it, and wrong nodes carry right tokens elsewhere
    await work.ask((x, y, a, b, b, c, x), (0, 0, 0, 3, 1, 4, 6))


@verifier_case(
    "tree-random",
    "Random trees, random order of their nodes, ten rounds",
    "V-10",
    "V-11",
    "S-SAMP-12",
    needs=("TREES",),
)
async def tree_random(t: LiveTestee) -> None:
    peer = await t.connect(Role.LEADER)
    for temperature in (0, 70_000):
        work = await assign(peer, await t.session(max_tokens=80, temperature=temperature))
        for _ in range(6):
            tokens, parents = random_tree(t.rng, work.session, min(t.rng.randint(1, 24), work.answer.max_nodes))
            if (await work.ask(tokens, parents)).finish is not None:
                break


@verifier_case("tree-largest", "A tree of max_nodes nodes is judged", "V-5", "V-10")
async def tree_largest(t: LiveTestee) -> None:
    peer = await t.connect(Role.LEADER)
    work = await assign(peer, await t.session(max_tokens=600))
    size = work.answer.max_nodes
    if size == 0:
        t.trial.note("max_nodes is 0: no drafts here")
        await work.ask()
        return
    await work.ask(work.session.ahead(size))
    if 1 in peer.features:
        root = work.session.other(work.session.tokens, size - 1)
        await work.ask((*root, *work.session.ahead(1))[:size], (0,) * size)


@verifier_case(
    "drafts-change-nothing",
    "The same stream with no drafts, right ones, wrong ones and trees",
    "S-17",
    "V-11",
    "S-SAMP-13",
)
async def drafts_change_nothing(t: LiveTestee) -> None:
    peer = await t.connect(Role.LEADER)
    first = await t.session(max_tokens=14)
    streams = []
    for kind in range(4):
        session = replace(first, committed=[])
        work = await assign(peer, session)
        while True:
            draft: tuple[int, ...] = ()
            if kind == 1:
                draft = session.ahead(3)
            elif kind == 2:
                draft = session.other(session.tokens)
            parents = None
            if kind == 3 and 1 in peer.features:
                draft, parents = random_tree(t.rng, session, 6)
            if (await work.ask(draft, parents)).finish is not None:
                break
        streams.append(tuple(session.committed))
    t.trial.expect("S-17", "streams of one contract differ", 1, len(set(streams)))


# ---------------------------------------------------------------- ends


@verifier_case("stop-token", "A stop token is committed and ends the stream", "S-9", "S-SAMP-14", "V-10")
async def stop_token(t: LiveTestee) -> None:
    peer = await t.connect(Role.LEADER)
    plain = await t.session(max_tokens=12)
    stream, _ = plain.stream()
    stop = tuple(sorted({stream[4], 1, 2}))
    for drafted in (0, 3, 5, 8):
        session = Session(plain.id, replace(plain.contract, stop_tokens=stop), plain.model, plain.max_context)
        work = await assign(peer, session)
        while True:
            verdict = await work.ask(session.ahead(drafted) if drafted else ())
            if verdict.finish is not None:
                break
        t.trial.expect("S-9", "the stream does not end with its stop token", 0, verdict.finish)


@verifier_case("stop-token-in-prompt", "A stop token in the prompt ends nothing", "S-9")
async def stop_token_in_prompt(t: LiveTestee) -> None:
    peer = await t.connect(Role.LEADER)
    session = await t.session(prompt=(9, 5, 9), stop_tokens=(5, 9), max_tokens=5)
    await decode(await assign(peer, session))


@verifier_case("finish-first-reason", "Of several reasons to end, the first in the table counts", "S-9")
async def finish_first_reason(t: LiveTestee) -> None:
    peer = await t.connect(Role.LEADER)
    plain = await t.session(max_tokens=4)
    stream, _ = plain.stream()
    while stream[3] in stream[:3]:
        plain = await t.session(max_tokens=4)
        stream, _ = plain.stream()
    session = Session(plain.id, replace(plain.contract, stop_tokens=(stream[3],)), plain.model, plain.max_context)
    work = await assign(peer, session)
    verdict = await work.ask(session.ahead(4))
    t.trial.expect("S-9", "STOP_TOKEN comes before LENGTH", 0, verdict.finish)


@verifier_case("context-full", "The context is full: the stream ends with CONTEXT_FULL", "S-9", "S-7", "V-10")
async def context_full(t: LiveTestee) -> None:
    limit = await t.max_context()
    require_short(limit)
    peer = await t.connect(Role.LEADER)
    model = await t.model()
    prompt = tuple(t.rng.randrange(4, model.v) for _ in range(limit - 3))
    work = await assign(peer, await t.session(prompt=prompt, max_tokens=100))
    await work.ask(within=30.0)
    await work.ask(work.session.ahead(2))


# ---------------------------------------------------------------- taking over, batches


@verifier_case(
    "assign-in-the-middle", "ASSIGN with committed tokens: the stream goes on where it was", "V-4", "S-17", "L-4"
)
async def assign_in_the_middle(t: LiveTestee) -> None:
    peer = await t.connect(Role.LEADER)
    session = await t.session(max_tokens=12)
    session.extend(session.stream()[0][:7])
    work = await assign(peer, session)
    await work.ask(session.ahead(2))
    await decode(work)


@verifier_case("assign-any-model", "A contract that names no model takes any target of the vocabulary", "S-5")
async def assign_any_model(t: LiveTestee) -> None:
    peer = await t.connect(Role.LEADER)
    session = await t.session(model="", max_tokens=4)
    await decode(await assign(peer, session))
    named = await t.session(model="", max_tokens=4)
    await decode(await assign(peer, named, model=named.model.name))


@verifier_case("assign-with-profile", "A contract that names the target's numeric profile is taken", "S-6", "S-16")
async def assign_with_profile(t: LiveTestee) -> None:
    peer = await t.connect(Role.LEADER)
    model = await t.model()
    await decode(await assign(peer, await t.session(profile=model.profile, max_tokens=4)))


@verifier_case("one-id-twice", "Sessions are told apart by link and channel, not by their id", "S-13", "V-11")
async def one_id_twice(t: LiveTestee) -> None:
    peer, other = await t.connect(Role.LEADER), await t.connect(Role.LEADER)
    sessions = [await t.session(max_tokens=5) for _ in range(3)]
    for session in sessions:
        session.id = sessions[0].id
    works = [await assign(link, session) for link, session in zip((peer, peer, other), sessions)]
    for _ in range(2):
        for work in works:
            await work.ask(work.session.ahead(1))


async def _together(works: list[Assignment], rng: random.Random, within: float | None = None) -> None:
    """One VERIFY of each, in one piece for each link; then all verdicts, in any order."""
    asked = []
    by_peer: dict[Peer, bytes] = {}
    for work in works:
        draft = rng.choice(
            ((), work.session.ahead(2), (*work.session.ahead(1), *work.session.other(work.session.tokens)))
        )
        asked.append((work, draft))
        by_peer[work.peer] = by_peer.get(work.peer, b"") + encode_message(work.channel, work.request(draft))
    for peer, data in by_peer.items():
        await peer.raw(data, "VERIFY of several sessions at once")
    for work, draft in asked:
        await work.judge(draft, within=within)


@verifier_case(
    "batch-on-a-link", "Eight sessions on one link, asked at once: each has its own answer", "V-11", "V-7", "V-3"
)
async def batch_on_a_link(t: LiveTestee) -> None:
    peer = await t.connect(Role.LEADER)
    works = [await assign(peer, await t.session(max_tokens=20, temperature=t.rng.choice((0, 65536)))) for _ in range(8)]
    for _ in range(3):
        await _together(works, t.rng)


@verifier_case("batch-over-links", "Sessions of several links, asked at once: each has its own answer", "V-11", "V-7")
async def batch_over_links(t: LiveTestee) -> None:
    works = []
    for _ in range(3):
        peer = await t.connect(Role.LEADER)
        works += [await assign(peer, await t.session(max_tokens=20)) for _ in range(2)]
    for _ in range(3):
        await _together(works, t.rng)


@verifier_case("long-prompt-beside-short", "A long prompt keeps nobody else waiting for ever", "V-7")
async def long_prompt(t: LiveTestee) -> None:
    peer = await t.connect(Role.LEADER)
    model = await t.model()
    size = min(await t.max_context() - 40, 6000)
    short = await assign(peer, await t.session(max_tokens=30))
    prompt = tuple(t.rng.randrange(4, model.v) for _ in range(size))
    long = await assign(peer, await t.session(prompt=prompt, max_tokens=30))
    for _ in range(3):
        await _together([long, short], t.rng, within=30.0)


@verifier_case("long-frames-slowly", "ASSIGN and VERIFY byte by byte", "F-4", "V-10")
async def slowly(t: LiveTestee) -> None:
    peer = await t.connect(Role.LEADER)
    work = await assign(peer, await t.session(), pieces=1)
    await work.ask(work.session.ahead(2), pieces=1)


# ---------------------------------------------------------------- the end of a channel


@verifier_case(
    "release",
    "After RELEASE the channel is closed, what still comes on it is dropped, and the link goes on",
    "V-12",
    "CH-4",
    "CH-8",
)
async def release(t: LiveTestee) -> None:
    peer = await t.connect(Role.LEADER)
    work = await assign(peer, await t.session())
    await work.ask()
    await work.release()
    await peer.send(work.request(), work.channel, "crosses the RELEASE", wild=True)
    await peer.silent(work.channel, "V-12", 0.2)
    await peer.alive("CH-4")
    await decode(await assign(peer, await t.session(max_tokens=3)))


@verifier_case("release-in-flight", "RELEASE behind a VERIFY: forgotten, and the link goes on", "V-12", "V-1")
async def release_in_flight(t: LiveTestee) -> None:
    from dsdproto.wire.messages import Release

    peer = await t.connect(Role.LEADER)
    for _ in range(4):
        work = await assign(peer, await t.session())
        data = encode_message(work.channel, work.request(work.session.ahead(3))) + encode_message(
            work.channel, Release()
        )
        await peer.raw(data, "VERIFY and RELEASE in one piece")
        peer.channels.close(work.channel)
    await decode(await assign(peer, await t.session(max_tokens=3)))


@verifier_case(
    "error-from-leader",
    "ERROR of the leader closes the channel, whatever its code, and is not answered",
    "E-5",
    "E-6",
    "V-12",
)
async def error_from_leader(t: LiveTestee) -> None:
    peer = await t.connect(Role.LEADER)
    kept = await assign(peer, await t.session(max_tokens=20))
    for code in (0x011C, 0x7FFE, 0x7FFF):
        work = await assign(peer, await t.session())
        await peer.send(Error(code=code, clause="L-8", text="made up by the suite"), work.channel)
        await peer.silent(work.channel, "E-6", 0.1)
        await kept.ask()


@verifier_case("link-lost", "A lost link costs its own sessions only", "V-12", "E-3")
async def link_lost(t: LiveTestee) -> None:
    kept = await assign(await t.connect(Role.LEADER), await t.session(max_tokens=20))
    lost = await t.connect(Role.LEADER)
    works = [await assign(lost, await t.session()) for _ in range(3)]
    for work in works:
        await lost.send(work.request(work.session.ahead(2)), work.channel)
    await lost.hang_up()
    await kept.ask(kept.session.ahead(2))
    await kept.ask()
