"""One short session for each role under test: what must still work on a fresh connection after a refusal.

A node that hangs up on everybody would pass any test of refusals; it does not pass this.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from conformance.live.drafting import attach
from conformance.live.verifying import assign
from dsdproto.registry import Role

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
    await work.propose()
    await work.advance(work.session.other(work.session.tokens))
    await work.gather(1)
    await work.detach()
    await peer.leave()


HAPPY: dict[Role, Callable[[LiveTestee], Awaitable[None]]] = {Role.VERIFIER: verifier, Role.DRAFTER: drafter}
