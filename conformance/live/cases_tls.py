"""Section 4: who gets in, and how those who do not are told."""

from __future__ import annotations

import ssl

import trio
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID

from conformance.door.dial import Refused, why
from conformance.door.pki import TLS_NAME, Flaw, Identity
from conformance.live.every_role import every_role
from conformance.live.peer import CHUNK, ticket_of
from conformance.live.testee import LiveTestee
from conformance.verdict import Failed
from dsdproto.identity import node_id_of
from dsdproto.registry import ALPN, ALPN_JOIN


async def turned_away(
    t: LiveTestee, identity: Identity, clause: str, what: str, *, alert: bool = True, **how: object
) -> None:
    """The testee lets no byte of HELLO out to a dialer that it must refuse, and says why by a TLS alert."""
    t.trial.wire.event("stranger", f"dials: {what}")
    try:
        stream = await t.site.dial.tls(identity, seconds=t.trial.seconds(), **how)  # type: ignore[arg-type]
    except Refused as refused:
        said, name = str(refused), refused.alert
    else:
        try:
            with trio.fail_after(t.trial.seconds()):
                data = await stream.receive_some(CHUNK)
            if data:
                t.trial.wire.received("stranger", data)
                raise Failed(
                    clause, f"the testee speaks to a dialer that it must refuse ({what})", "nothing", data[:32]
                )
            said, name = "closed", ""
        except trio.TooSlowError:
            said = f"the testee neither refuses nor greets a dialer that it must refuse ({what})"
            raise Failed(clause, said, "a TLS alert", "nothing") from None
        except (trio.BrokenResourceError, OSError) as error:
            said, name = why(error)
        finally:
            await trio.aclose_forcefully(stream)
    t.trial.wire.event("stranger", said)
    if alert and not name:
        raise Failed(
            "T-8", f"the testee hangs up on a dialer that it refuses ({what}), without a TLS alert", "an alert", said
        )


def _flawed(flaw: Flaw, name: str, *clauses: str) -> None:
    async def check(t: LiveTestee) -> None:
        identity = t.site.dial.authority.identity("stranger", flaw)
        await turned_away(t, identity, clauses[0], f"{flaw.name.lower()} certificate: {flaw.value}")

    every_role(name, f"A dialer is refused whose certificate is no good: {flaw.value}", *clauses, bracket=True)(check)


_flawed(Flaw.EXPIRED, "certificate-expired", "T-5", "T-8")
_flawed(Flaw.NOT_YET_VALID, "certificate-not-yet-valid", "T-5", "T-8")
_flawed(Flaw.FOREIGN, "certificate-of-another-cluster", "T-3", "T-8")
_flawed(Flaw.FORGED, "certificate-of-a-false-authority", "T-3", "T-8")
_flawed(Flaw.SELF_SIGNED, "certificate-self-signed", "T-3", "T-8")
_flawed(Flaw.BY_A_NODE, "certificate-from-a-node", "T-3", "T-8")
_flawed(Flaw.WRONG_USAGE, "certificate-of-another-usage", "T-4", "T-8")


@every_role("no-certificate", "A dialer without a certificate is refused", "T-1", "T-8", bracket=True)
async def no_certificate(t: LiveTestee) -> None:
    await turned_away(t, t.identity("stranger"), "T-1", "no certificate", show=False)


@every_role("tls-1-2", "TLS 1.2 is refused", "T-1", bracket=True)
async def tls_1_2(t: LiveTestee) -> None:
    await turned_away(t, t.identity("stranger"), "T-1", "TLS 1.2", version=ssl.TLSVersion.TLSv1_2)


@every_role("no-protocol", "A dialer that names no protocol (ALPN) gets no HELLO", "T-2", bracket=True)
async def no_protocol(t: LiveTestee) -> None:
    await turned_away(t, t.identity("stranger"), "T-2", "no ALPN", alert=False, alpn=None)


@every_role("other-protocol", "A dialer of another protocol (ALPN) gets no HELLO", "T-2", bracket=True)
async def other_protocol(t: LiveTestee) -> None:
    for alpn in ("h2", ALPN_JOIN, "dsdp/2"):
        await turned_away(t, t.identity("stranger"), "T-2", f"ALPN {alpn}", alert=False, alpn=alpn)


@every_role("plain-tcp", "Plain TCP gets no HELLO", "T-1", "T-9", bracket=True)
async def plain_tcp(t: LiveTestee) -> None:
    stream = await t.site.dial.tcp(t.trial.seconds())
    try:
        with trio.move_on_after(t.trial.seconds(0.5)):
            data = await stream.receive_some(CHUNK)
            if data:
                raise Failed("T-1", "the testee speaks without TLS", "nothing", data[:32])
        await stream.send_all(bytes.fromhex("0000030600000000a10107"))
        with trio.move_on_after(t.trial.seconds(2.0)):
            data = await stream.receive_some(CHUNK)
            # A TLS alert record (type 21) is how a TLS stack says that this was no ClientHello.
            if data and data[0] != 21:
                raise Failed(
                    "T-1", "the testee answers a frame that came without TLS", "nothing, or a TLS alert", data[:32]
                )
    except (trio.BrokenResourceError, OSError) as error:
        t.trial.wire.event("stranger", why(error)[0])
    finally:
        await trio.aclose_forcefully(stream)


@every_role("no-tickets", "No session tickets: every connection proves both keys anew", "T-7")
async def no_tickets(t: LiveTestee) -> None:
    peer = await t.connect()
    await peer.alive("H-2")
    t.trial.expect("T-7", "the testee sent a session ticket", False, ticket_of(peer.stream))


@every_role(
    "own-certificate", "The testee's certificate is one of a node, and what was negotiated is DSDP", "T-2", "T-4", "N-2"
)
async def own_certificate(t: LiveTestee) -> None:
    peer = await t.connect(greet=False)
    await peer.meet()
    t.trial.expect("T-2", "the testee chose another protocol", ALPN, peer.stream.selected_alpn_protocol())
    t.trial.expect("T-1", "the connection is not TLS 1.3", "TLSv1.3", peer.stream.version())
    certificate = peer.certificate
    public = certificate.public_key()
    if not isinstance(public, ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey):
        raise Failed("T-4", "the key is neither P-256 nor Ed25519", "P-256", type(public).__name__)
    node_id_of(public)
    spki = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    if spki not in certificate.tbs_certificate_bytes:
        raise Failed("N-2", "SubjectPublicKeyInfo is not in its canonical form", spki, "another encoding")
    extensions = certificate.extensions
    basic = extensions.get_extension_for_class(x509.BasicConstraints).value
    t.trial.expect("T-4", "the certificate is that of an authority", False, basic.ca)
    usages = set(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    needed = {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    t.trial.expect("T-4", "extended key usages are missing", [], sorted(map(str, needed - usages)))
    names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName)
    t.trial.expect("T-4", f"the dNSName {TLS_NAME} is missing", True, TLS_NAME in names)


@every_role("alpn-of-testee", "The testee agrees on dsdp/1 also among other protocols", "T-2")
async def alpn_among_others(t: LiveTestee) -> None:
    peer = await t.connect()
    t.trial.expect("T-2", "another protocol was chosen", ALPN, peer.stream.selected_alpn_protocol())
