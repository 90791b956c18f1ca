"""Sections 4 and 9 with the testee as the one who dials: it checks whom it reached, and says nothing before HELLO."""

from __future__ import annotations

from typing import Any

import trio

from conformance.door.dial import why
from conformance.door.pki import Flaw, Identity
from conformance.live.cases_channels import opening
from conformance.live.drafting import attach
from conformance.live.every_role import every_role
from conformance.live.hands import VerifierHand
from conformance.live.hello import hello_of
from conformance.live.peer import CHUNK, Peer
from conformance.live.serving import serve_over
from conformance.live.sessions import make_session
from conformance.live.streams import open_stream
from conformance.live.testee import LiveTestee
from conformance.live.verifying import assign
from conformance.live.voting import make_group
from conformance.verdict import Failed
from dsdproto.registry import GREASE_TYPES, ErrorCode, MessageType, Role
from dsdproto.wire import cbor
from dsdproto.wire.messages import Goodbye, Hello, Ready

PEERS = ("peers",)
"""The testee has to dial."""


# ---------------------------------------------------------------- TLS


async def not_trusted(t: LiveTestee, identity: Identity, clause: str, what: str, **context: Any) -> None:
    """The testee says nothing to an acceptor that it must not trust."""
    stream = trio.SSLStream(await t.knock(), identity.context(True, **context), server_side=True, https_compatible=True)
    t.trial.wire.event("acceptor", f"was dialed, shows: {what}")
    try:
        with trio.move_on_after(t.trial.seconds(2.0)):
            await stream.do_handshake()
            # In TLS 1.3 both sides may believe that they are done; what counts is that nothing is said.
            hello = Peer("acceptor", t.trial, stream, identity, _hello(t, identity), dialer=False)
            await hello.say_hello()
            if data := await stream.receive_some(CHUNK):
                raise Failed(
                    clause, f"the testee speaks to an acceptor that it must refuse ({what})", "nothing", data[:32]
                )
    except (trio.BrokenResourceError, OSError) as error:
        t.trial.wire.event("acceptor", why(error)[0])
    finally:
        await trio.aclose_forcefully(stream)


def _hello(t: LiveTestee, identity: Identity) -> Hello:
    return hello_of(identity, t.rng, (int(t.usual_role),))


def _flawed(flaw: Flaw, name: str, *clauses: str) -> None:
    async def check(t: LiveTestee) -> None:
        await not_trusted(t, t.site.dial.authority.identity("stranger", flaw), clauses[0], flaw.value)

    title = f"A dialer turns away from an acceptor whose certificate is no good: {flaw.value}"
    every_role(f"dials-{name}", title, *clauses, bracket=True, needs=PEERS)(check)


_flawed(Flaw.EXPIRED, "an-expired-certificate", "T-5")
_flawed(Flaw.FOREIGN, "another-cluster", "T-3")
_flawed(Flaw.FORGED, "a-false-authority", "T-3")
_flawed(Flaw.BY_A_NODE, "a-certificate-from-a-node", "T-3")


@every_role(
    "dials-another-protocol",
    "A dialer turns away where no protocol was agreed on",
    "T-2",
    bracket=True,
    needs=PEERS,
)
async def another_protocol(t: LiveTestee) -> None:
    await not_trusted(t, t.identity("stranger"), "T-2", "no ALPN", alpn=None)


# ---------------------------------------------------------------- HELLO


@every_role(
    "dials-and-waits",
    "A dialer says nothing before it has received HELLO; then HELLO and READY",
    "C-3",
    "T-8",
    needs=PEERS,
)
async def dials_and_waits(t: LiveTestee) -> None:
    peer = await t.accept(greet=False)
    await peer.silent(0, "C-3", 0.4)
    await peer.greet()
    await peer.alive("H-2")


@every_role(
    "dials-into-silence",
    "A dialer that gets no HELLO gives up after 10 seconds",
    "C-5",
    needs=PEERS,
    bracket=True,
    waits=10.0,
)
async def dials_into_silence(t: LiveTestee) -> None:
    peer = await t.accept(greet=False)
    await peer.refused(0, "C-5", ErrorCode.HANDSHAKE_TIMEOUT, within=15.0)


def _refused(name: str, title: str, clause: str, *codes: ErrorCode, **changes: Any) -> None:
    async def check(t: LiveTestee) -> None:
        values = {key: value(t) if callable(value) else value for key, value in changes.items()}
        peer = await t.accept(greet=False, **values)
        await peer.say_hello()
        await peer.refused(0, clause, *codes)

    every_role(f"dials-{name}", title, clause, bracket=True, needs=PEERS)(check)


_refused(
    "another-node-id",
    "HELLO with another node id than the certificate's is refused by a dialer too",
    "C-5",
    ErrorCode.IDENTITY_MISMATCH,
    node_id=lambda t: t.rng.randbytes(32),
)
_refused(
    "a-hello-of-another-cluster",
    "HELLO of another cluster is refused by a dialer too",
    "C-5",
    ErrorCode.CLUSTER_MISMATCH,
    cluster=lambda t: t.rng.randbytes(16),
)
_refused(
    "a-version-of-the-future",
    "A dialer too says VERSION_UNSUPPORTED",
    "C-7",
    ErrorCode.VERSION_UNSUPPORTED,
    version_min=2,
    version_max=9,
)
_refused(
    "an-unknown-feature",
    "An unknown even feature is refused by a dialer too",
    "R-1",
    ErrorCode.VERSION_UNSUPPORTED,
    features=lambda t: (1, 3, 5, 0xC000 + 2 * t.rng.randrange(1000)),
)


@every_role(
    "dials-another-ready",
    "READY with another digest is refused by a dialer too",
    "C-6",
    bracket=True,
    needs=PEERS,
)
async def another_ready(t: LiveTestee) -> None:
    peer = await t.accept(greet=False)
    await peer.say_hello()
    await peer.meet()
    await peer.expect(Ready, 0, "C-3")
    await peer.say_ready(t.rng.randbytes(32))
    await peer.refused(0, "C-6", ErrorCode.NEGOTIATION_MISMATCH)


@every_role("dials-traffic-first", "Traffic before READY is refused by a dialer too", "C-4", bracket=True, needs=PEERS)
async def traffic_first(t: LiveTestee) -> None:
    peer = await t.accept(greet=False)
    await peer.say_hello()
    await peer.meet()
    await peer.expect(Ready, 0, "C-3")
    await peer.frame(t.rng.choice((*GREASE_TYPES, int(MessageType.PING))), 0, cbor.encode({1: 1}), "before READY")
    await peer.refused(0, "C-4", ErrorCode.MESSAGE_UNEXPECTED)


@every_role("dials-and-greases", "A dialer greases as well", "R-10", needs=PEERS)
async def dials_and_greases(t: LiveTestee) -> None:
    peer = await t.accept()
    await peer.alive("H-2")
    types = [a.frame.type for a in peer.arrivals if a.frame.type in GREASE_TYPES]
    t.trial.expect("R-10", "one frame of a grease type comes soon after READY", 1, len(types))


# ---------------------------------------------------------------- channels


@every_role(
    "dials-channel-parity",
    "Who was dialed opens even channels: odd ones are refused",
    "CH-1",
    bracket=True,
    needs=PEERS,
    but=(Role.CLIENT,),
)
async def parity(t: LiveTestee) -> None:
    role, message = await opening(t)
    peer = await t.accept(role)
    await peer.send(message, 1, "the acceptor opens even numbers", wild=True)
    await peer.refused(0, "CH-1", ErrorCode.CHANNEL_MISUSED)


@every_role(
    "dials-and-works",
    "Over a link that it dialed the testee does its work like over any other",
    "CH-1",
    "C-9",
    "DI-13",
    needs=PEERS,
)
async def works(t: LiveTestee) -> None:
    match t.role:
        case Role.VERIFIER:
            work = await assign(await t.accept(Role.LEADER), await t.session())
            await work.ask()
            await work.ask(work.session.ahead(2))
        case Role.DRAFTER:
            drafts = await attach(await t.accept(Role.LEADER), await t.session(max_tokens=40), await t.model())
            await drafts.propose()
        case Role.VOTER:
            group = await make_group(t)
            leading = await group.lead(peer=await t.accept(Role.LEADER, identity=group.first))
            await leading.prepare(group.session.prompt, (5, 6))
        case Role.CLIENT:
            serving = await serve_over(t, await t.accept(Role.LEADER))
            await serving.start()
            await serving.send_all()
            await serving.peer.alive("H-2")
            await serving.peer.silent(serving.channel, "S-8", 0.1)
        case Role.LEADER:
            model = t.own_model()
            peer = await t.accept(Role.VERIFIER, models=(model.offer(),))
            hand = VerifierHand(t, peer, model)
            t.nursery.start_soon(hand.serve)
            await peer.alive("H-2")
            stream = await open_stream(t, make_session(t.rng, model))
            await stream.start()
            await stream.finish()


@every_role(
    "dials-a-twin",
    "Of two links that different sides dialed, the one of the lower node id stays",
    "C-14",
    needs=PEERS,
)
async def twins(t: LiveTestee) -> None:
    testee = (await t.hello()).node_id
    identity, instance = t.identity("twin"), t.rng.randbytes(8)
    dialed = await t.accept(identity=identity, instance=instance, name="dialed-by-testee")
    await dialed.alive("H-2")
    mine = await t.connect(identity=identity, instance=instance, name="dialed-by-suite")
    stays, goes = (dialed, mine) if testee < identity.node_id else (mine, dialed)
    await goes.expect(Goodbye, 0, "C-14")
    await goes.over("C-14")
    await stays.alive("C-14")
