"""Chaos around a client under test: what it reports of its streams when leaders and links are lost."""

from __future__ import annotations

from typing import Any

import trio

from conformance.chaos.registering import chaos_case
from conformance.chaos.town import Node, Town
from conformance.live.sessions import Session
from conformance.verdict import DOOR, Failed, Inconclusive
from dsdproto.registry import Finish, Role

LATE = 0.03
"""Seconds between leader and verifier: a stream of 60 tokens takes two seconds at least."""
ENOUGH = 30.0
"""Seconds for its streams to go on and end."""


def asked_by(session: Session) -> dict[str, Any]:
    """`session` of verb start, so that the client asks for the stream of ``session``."""
    sampling = session.contract.sampling
    return {
        "prompt": list(session.prompt),
        "temperature": sampling.temperature,
        "seed": str(sampling.seed) if sampling.seed >= 1 << 53 else sampling.seed,
        "max_tokens": session.contract.max_tokens,
        "stop_tokens": [],
        "max_drafters": 0,
        "origins": 0,
    }


async def judged(client: Node, session: Session) -> list[dict[str, Any]]:
    """What the client reports of its sessions: each is a beginning of the stream, and complete only with all of it.

    Raises Failed, or Inconclusive where it had no session at all.
    """
    answer = await client.stop(wait=ENOUGH)
    outcomes = answer.get("sessions")
    if not isinstance(outcomes, list):
        raise Failed(DOOR, "stop of a client says how its sessions went", "sessions", answer)
    stream, finish = session.stream()
    for outcome in outcomes:
        tokens = tuple(outcome.get("tokens", ()))
        if tokens != stream[: len(tokens)]:
            raise Failed("S-17", "a client reports other tokens than the target says", stream, tokens)
        if "finish" not in outcome:
            continue
        if outcome["finish"] != finish or tokens != stream:
            said = "a client reports a stream as complete that is not"
            raise Failed("E-4", said, (len(stream), finish.name), (len(tokens), outcome))
    if not outcomes:
        raise Inconclusive("the client reports no session")
    return outcomes


@chaos_case(
    "client-loses-leader", "A client whose leader is killed under `solo` reports no complete stream",
    "E-4", "S-10", "K-4", role=Role.CLIENT,
)  # fmt: skip
async def client_loses_leader(t: Town) -> None:
    leader = await t.node("a", Role.LEADER, crashes=True)
    verifier = await t.node("v", Role.VERIFIER, to=(leader,))
    verifier.wires["a"].slow(LATE)
    await (await t.read(t.session(max_tokens=1), leader, name="scout")).finished()
    session = t.session(max_tokens=120)
    client = await t.node("k", Role.CLIENT, to=(leader,), session=asked_by(session))
    wire = client.wires["a"]
    async with t.within(15.0, "the client connects"):
        while wire.opened == 0:
            await trio.sleep(0.02)
    await trio.sleep(1.5)
    await leader.crash()
    outcomes = await judged(client, session)
    if all("finish" in outcome for outcome in outcomes):
        raise Inconclusive("the stream was complete before its leader was killed")
    for outcome in outcomes:
        if "finish" not in outcome and "error" not in outcome:
            t.trial.note("a stream that broke off is reported without `error`")


@chaos_case(
    "client-resumes", "A client whose leader is killed under `quorum` reads on at a voter, to the end",
    "Q-53", "S-8", "S-10", role=Role.CLIENT,
)  # fmt: skip
async def client_resumes(t: Town) -> None:
    nodes = await t.voters(crashes="a")
    verifier = await t.node("v", Role.VERIFIER, to=nodes)
    for wire in verifier.wires.values():
        wire.slow(LATE)
    await (await t.read(t.session(quorum=True, max_tokens=1), nodes[0], name="scout")).finished()
    session = t.session(quorum=True, max_tokens=90)
    client = await t.node("k", Role.CLIENT, to=nodes, session=asked_by(session))
    async with t.within(15.0, "the client connects"):
        while not all(wire.opened for wire in client.wires.values()):
            await trio.sleep(0.02)
    await trio.sleep(1.0)
    await nodes[0].crash()
    outcomes = await judged(client, session)
    whole = [outcome for outcome in outcomes if outcome.get("finish") == Finish.LENGTH]
    t.trial.note(f"{len(whole)} of {len(outcomes)} streams were complete")
    if not whole:
        raise Inconclusive(f"no stream was complete in time: {outcomes}")
