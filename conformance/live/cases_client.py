"""Section 11: what a client takes and what it refuses. The suite is its leader."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio

from conformance.case import Rung, case
from conformance.live.serving import Serving, serve
from conformance.live.testee import LiveTestee
from conformance.verdict import Skipped
from dsdproto.registry import ErrorCode, MessageType, Role
from dsdproto.wire import cbor
from dsdproto.wire.codec import encode_payload
from dsdproto.wire.messages import DrafterEntry, Error, Resume, Stats, Verdict

ADVANCE, INVALID, UNEXPECTED = ErrorCode.ADVANCE_INVALID, ErrorCode.MESSAGE_INVALID, ErrorCode.MESSAGE_UNEXPECTED


def client_case(name: str, title: str, *clauses: str, **more: object):  # type: ignore[no-untyped-def]
    """A case of rung 3 for a client under test."""
    return case(f"client/{name}", title, clauses=clauses, rung=Rung.LIVE, role=Role.CLIENT, **more)  # type: ignore[arg-type]


async def content(serving: Serving) -> None:
    """The client has nothing to say against what it was sent."""
    await serving.peer.alive("H-2")
    await serving.peer.silent(serving.channel, "S-8", 0.15)


# ---------------------------------------------------------------- good streams


@client_case("opens", "The client opens a session whose contract is well-formed", "S-2", "S-11", "S-12", "S-13", "R-7")
async def opens(t: LiveTestee) -> None:
    first, second = await serve(t), await serve(t)
    t.trial.expect("S-13", "two sessions have one id", False, first.session.id == second.session.id)


@client_case("whole-stream", "A stream from OPENED to END is taken without a word", "S-8", "S-10", "S-7")
async def whole_stream(t: LiveTestee) -> None:
    serving = await serve(t)
    await serving.start()
    await serving.send_all()
    await content(serving)


@client_case("blocks-of-any-size", "Blocks of one token, and one block for everything", "S-8")
async def blocks_of_any_size(t: LiveTestee) -> None:
    for size in (1, 256):
        serving = await serve(t)
        await serving.start()
        while len(serving.session.committed) < len(serving.stream):
            await serving.send(size)
        await serving.say(serving.end_of())
        await content(serving)


@client_case("byte-by-byte", "A leader that writes byte by byte", "F-4", "S-8")
async def byte_by_byte(t: LiveTestee) -> None:
    serving = await serve(t)
    await serving.start(pieces=1)
    await serving.send_all(pieces=1)
    await content(serving)


@client_case(
    "stats-and-unknown-finish",
    "Stats, unknown odd keys, a finish code that nobody knows: the end all the same",
    "S-10",
    "R-1",
    "S-19",
)
async def stats_and_unknown_finish(t: LiveTestee) -> None:
    stats = Stats(rounds=9, drafted=5, verified=4, accepted=2, waste=(1, 1, 0, 1, 0, 0, 0, 0, 0))
    for finish in (2, 0xC000, 0x7FFF):
        serving = await serve(t)
        await serving.start()
        while len(serving.session.committed) < len(serving.stream):
            await serving.send(7)
        await serving.say(serving.end_of(finish=finish, stats=stats))
        await content(serving)


@client_case("origins", "Origins, where the client asked for them", "S-18", "R-6", "R-8")
async def origins(t: LiveTestee) -> None:
    serving = await serve(t)
    if not (serving.open.origins and 5 in serving.peer.features):
        raise Skipped("the client does not ask for origins")
    await serving.start()
    entry = DrafterEntry(number=3, node_id=t.rng.randbytes(32), model="tm-1:v=8,s=0,a=1")
    block = serving.block_of(3, origins=bytes((0, 3, 0)), drafters=(entry,))
    await serving.say(block)
    serving.session.extend(block.tokens)
    await serving.send_all()
    await content(serving)


@client_case(
    "link-lost",
    "A link that is lost ends a solo session: it is not resumed, and no end of the stream",
    "E-4",
    "S-10",
    "S-20",
)
async def link_lost(t: LiveTestee) -> None:
    serving = await serve(t)
    await serving.start()
    await serving.send()
    await serving.peer.hang_up()
    voter = await t.connect(Role.VOTER, name="voter")
    await trio.sleep(0.3)
    found = [a.message for a in voter.arrivals if isinstance(a.message, Resume)]
    t.trial.expect("S-20", "a solo session is resumed", [], found)


@client_case(
    "error-of-leader",
    "ERROR on the channel, whatever its code, is not answered; the link goes on",
    "E-5",
    "E-6",
    "E-3",
)
async def error_of_leader(t: LiveTestee) -> None:
    for code in (int(ErrorCode.VERIFIER_LOST), 0x7FFE, 0x7FFF):
        serving = await serve(t)
        await serving.start()
        await serving.say(Error(code=code, clause="L-4", text="made up by the suite"))
        await serving.peer.alive("E-3")
        await serving.peer.silent(serving.channel, "E-6", 0.15)


# ---------------------------------------------------------------- what has to be refused

Make = Callable[[Serving], Any]


def _refused(
    name: str,
    title: str,
    clause: str,
    make: Make,
    *codes: ErrorCode,
    start: bool = True,
    blocks: int = 1,
    more: tuple[str, ...] = (),
) -> None:
    async def check(t: LiveTestee) -> None:
        beside = await serve(t)
        await beside.start()
        serving = await serve(t)
        if start:
            await serving.start()
        for _ in range(blocks):
            await serving.send()
        await serving.say(make(serving), remark=f"wrong by {clause}", wild=True)
        await serving.peer.refused(serving.channel, clause, *codes)
        await serving.peer.alive("E-3")
        await beside.send_all()
        await content(beside)

    client_case(name, title, clause, *more, "E-3", bracket=True)(check)


def _origins(serving: Serving, count: int) -> bytes | None:
    asked = serving.open.origins and 5 in serving.peer.features
    return bytes(count) if asked else None


_refused(
    "block-gap",
    "A BLOCK that leaves a gap is refused",
    "S-8",
    lambda s: s.block_of(position=s.session.position + 1),
    ADVANCE,
)
_refused(
    "block-again",
    "A BLOCK that comes twice is refused",
    "S-8",
    lambda s: s.block_of(position=s.session.position - 2),
    ADVANCE,
)
_refused(
    "block-overlaps",
    "A BLOCK that overlaps the one before is refused",
    "S-8",
    lambda s: s.block_of(position=s.session.position - 1),
    ADVANCE,
)
_refused(
    "block-position-of-stream",
    "A position that does not count the prompt is refused",
    "S-8",
    lambda s: s.block_of(position=len(s.session.committed)),
    ADVANCE,
    more=("S-PFX-2",),
)
_refused(
    "block-first-not-at-opened",
    "A first BLOCK that does not begin where OPENED said is refused",
    "S-8",
    lambda s: s.block_of(position=s.session.position + 1),
    ADVANCE,
    blocks=0,
)
_refused(
    "block-outside",
    "A token outside the vocabulary is refused",
    "S-8",
    lambda s: s.block_of(tokens=(s.session.model.v,), origins=_origins(s, 1)),
    ADVANCE,
)
_refused(
    "block-beyond-length",
    "A token after the last one of max_tokens is refused",
    "S-8",
    lambda s: s.block_of(
        tokens=(*s.stream[len(s.session.committed) :], 5),
        origins=_origins(s, len(s.stream) - len(s.session.committed) + 1),
    ),
    ADVANCE,
    more=("S-9",),
)
_refused(
    "opened-elsewhere",
    "OPENED at another position than the prompt's length is refused",
    "S-7",
    lambda s: s.opened_of(position=s.session.position + 1),
    ErrorCode.PREFIX_UNKNOWN,
    start=False,
    blocks=0,
)
_refused(
    "opened-twice",
    "A second OPENED is refused",
    "CH-7",
    lambda s: s.opened_of(position=len(s.session.prompt)),
    UNEXPECTED,
    more=("S-1",),
)
_refused(
    "block-before-opened",
    "BLOCK before OPENED is refused",
    "CH-7",
    lambda s: s.block_of(),
    UNEXPECTED,
    start=False,
    blocks=0,
    more=("S-1",),
)
_refused(
    "other-plane",
    "A message of another plane is refused",
    "CH-6",
    lambda s: Verdict(round=1, accepted=0, token=4, digest=bytes(16), margin=0),
    UNEXPECTED,
)
_refused(
    "group-under-solo",
    "OPENED with a group under `solo` is refused",
    "Q-1",
    lambda s: s.opened_of(group=bytes(32) + bytes(31) + b"\1" + bytes(31) + b"\2", view=0),
    INVALID,
    start=False,
    blocks=0,
)


@client_case("block-after-stop", "A token after a stop token is refused", "S-8", "S-9", "E-3", bracket=True)
async def block_after_stop(t: LiveTestee) -> None:
    serving = await serve(t)
    stops = serving.session.contract.stop_tokens
    if not stops:
        raise Skipped("the client names no stop tokens")
    await serving.start()
    await serving.say(serving.block_of(tokens=(stops[0], 5), origins=_origins(serving, 2)), wild=True)
    await serving.peer.refused(serving.channel, "S-8", ADVANCE)


@client_case(
    "opened-other-model",
    "OPENED with another model than the contract names is refused",
    "S-14",
    "E-3",
    bracket=True,
)
async def opened_other_model(t: LiveTestee) -> None:
    serving = await serve(t)
    if not serving.session.contract.model:
        raise Skipped("the client names no model")
    await serving.say(serving.opened_of(model="tm-1:v=8,s=1"), wild=True)
    await serving.peer.refused(serving.channel, "S-14", ErrorCode.MODEL_UNAVAILABLE)


@client_case("origins-unagreed", "`origins` without the feature ORIGINS are refused", "C-10", "E-3", bracket=True)
async def origins_unagreed(t: LiveTestee) -> None:
    serving = await serve(t, features=(1, 3))
    await serving.start()
    await serving.say(serving.block_of(2, origins=bytes(2)), wild=True)
    await serving.peer.refused(serving.channel, "C-10", INVALID)


def _block_spoilt(name: str, title: str, clause: str, change: dict[int, Any]) -> None:
    async def check(t: LiveTestee) -> None:
        serving = await serve(t)
        await serving.start()
        item = cbor.decode(encode_payload(serving.block_of(2)))
        payload = cbor.encode(dict(sorted({**item, **change}.items())))
        await serving.peer.frame(int(MessageType.BLOCK), serving.channel, payload, f"wrong by {clause}")
        await serving.peer.refused(serving.channel, clause, INVALID)
        await serving.peer.alive("E-3")

    client_case(name, title, clause, "E-2", "E-3", bracket=True)(check)


_ENTRY = {1: 1, 2: bytes(32), 3: "x"}
_block_spoilt("block-empty", "A BLOCK without tokens is refused", "R-5", {2: b""})
_block_spoilt("block-half-token", "A token string of seven bytes is refused", "B-9", {2: bytes(7)})
_block_spoilt("block-even-key", "An unknown even key in BLOCK is refused", "R-1", {64: 0})
_block_spoilt("origins-short", "Fewer origins than tokens are refused", "R-8", {3: b"\0"})
_block_spoilt(
    "drafters-descend",
    "Drafters that do not ascend are refused",
    "R-6",
    {3: b"\0\0", 5: [{**_ENTRY, 1: 2}, _ENTRY]},
)
