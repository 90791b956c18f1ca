"""One short session for each role under test: what must still work on a fresh connection after a refusal.

A node that hangs up on everybody would pass any test of refusals; it does not pass this.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from conformance.live import hands
from conformance.live.drafting import attach
from conformance.live.serving import serve
from conformance.live.sessions import Model, make_session
from conformance.live.streams import open_stream
from conformance.live.verifying import assign
from conformance.live.voting import make_group, resume
from dsdproto.registry import DismissReason, Finish, Role

if TYPE_CHECKING:
    from conformance.live.testee import LiveTestee


async def verifier(t: LiveTestee) -> None:
    """A session of two rounds, the second with a draft."""
    peer = await t.connect(Role.LEADER, name="bracket")
    session = await t.session(max_tokens=6)
    work = await assign(peer, session)
    await work.ask()
    await work.ask(session.ahead(2))
    await work.release()
    await peer.leave()


async def drafter(t: LiveTestee) -> None:
    """A session in which something is proposed, and something more after an ADVANCE."""
    peer = await t.connect(Role.LEADER, name="bracket")
    work = await attach(peer, await t.session(max_tokens=40), await t.model())
    await work.works()
    await work.advance(work.session.other(work.session.tokens))
    await work.works()
    await work.detach()
    await peer.leave()


async def leader(t: LiveTestee) -> None:
    """A solo session of a few tokens, with a client and a verifier of its own."""
    model = Model(t.site.vocabulary())
    hand = await hands.verifier(t, model, connect={"name": "bracket-verifier"})
    session = make_session(t.rng, model, max_tokens=4)
    stream = await open_stream(t, session, name="bracket-client")
    await stream.start()
    await stream.finish()
    await hand.peer.leave()


async def voter(t: LiveTestee) -> None:
    """A session of one block: promised, voted for, committed, and read by a client."""
    group = await make_group(t, Model(t.site.vocabulary()))
    leading = await group.lead()
    prompt = group.session.prompt
    await leading.prepare(prompt, (5, 6), int(Finish.LENGTH))
    await leading.commit()
    reader = await resume(t, group, prompt)
    await reader.started()
    await reader.read_to((*prompt, 5, 6))
    await reader.ends(int(Finish.LENGTH))
    await leading.dismiss(int(DismissReason.SESSION_ENDED))


async def client(t: LiveTestee) -> None:
    """A whole stream, which the client takes without a word."""
    serving = await serve(t)
    await serving.start()
    await serving.send_all()
    await serving.peer.alive("H-2")
    await serving.peer.silent(serving.channel, "S-8", 0.1)
    await serving.peer.leave()


HAPPY: dict[Role, Callable[[LiveTestee], Awaitable[None]]] = {
    Role.VERIFIER: verifier,
    Role.DRAFTER: drafter,
    Role.LEADER: leader,
    Role.VOTER: voter,
    Role.CLIENT: client,
}
