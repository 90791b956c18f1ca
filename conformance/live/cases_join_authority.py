"""Section 5, the testee makes tokens and lets nodes in, whoever comes and guesses: ``--token-command``."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import trio
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from conformance.case import TOKEN_COMMAND, CheckFunction, Level
from conformance.door.pki import TLS_NAME
from conformance.live.joining import join_case
from conformance.live.newcomer import AuthorityTestee, NoService, new_key, public_bytes, request
from conformance.live.peer import ticket_of
from conformance.verdict import Failed, Inconclusive, Info
from dsdproto.identity import JOIN_CONTEXT, JoinToken, join_payload, sign, statement
from dsdproto.wire.codec import encode_message
from dsdproto.wire.messages import Error, Join, Joined

MAX_WRONG = 5
QUIET_SECONDS = 0.3
GOOD = "a newcomer with a good token, key and proof is not let in"


def authority_case(name: str, title: str, *clauses: str, **more: Any) -> Callable[[CheckFunction], CheckFunction]:
    return join_case(TOKEN_COMMAND, "join-authority", name, title, *clauses, **more)


# ---------------------------------------------------------------- who is let in


@authority_case("lets-in", "Whoever has the token and proves a key is let in", "J-1", "J-3", "J-5", "J-7")
async def lets_in(t: AuthorityTestee) -> None:
    token = await t.token()
    if not token.addresses:
        raise Failed("J-1", "the token has no address", "host:port", "none")
    line = await t.visit(token)
    await t.admitted(line, request(token), "J-3", GOOD)
    await line.over("J-3")


@authority_case(
    "certificates", "The node's certificate and the authority's are what nodes need", "T-3", "T-4", "T-5", "J-7"
)
async def certificates(t: AuthorityTestee) -> None:
    token = await t.token()
    joined = await t.admitted(await t.visit(token), request(token), "J-3", GOOD)
    certificate, authority = t.certified(joined), x509.load_der_x509_certificate(joined.authority)
    try:
        authority.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature) as error:
        raise Failed("T-3", "the authority's certificate is not self-signed", "its own signature", error) from error
    basic = extension(authority, x509.BasicConstraints, "T-3")
    t.trial.expect("T-3", "the authority's basic constraints", (True, 0), (basic.ca, basic.path_length))
    usage = extension(authority, x509.KeyUsage, "T-3")
    got = (usage.key_cert_sign, usage.digital_signature)
    t.trial.expect("T-3", "the authority's key usage: certificate signing and digital signature", (True, True), got)

    t.trial.expect("T-4", "the node's CA flag", False, extension(certificate, x509.BasicConstraints, "T-4").ca)
    usage = extension(certificate, x509.KeyUsage, "T-4")
    got = (usage.digital_signature, usage.key_cert_sign)
    t.trial.expect("T-4", "the node's key usage: digital signature and no signing of others", (True, False), got)
    usages = set(extension(certificate, x509.ExtendedKeyUsage, "T-4"))
    needed = {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    t.trial.expect("T-4", "extended key usages are missing", [], sorted(map(str, needed - usages)))
    names = extension(certificate, x509.SubjectAlternativeName, "T-4").get_values_for_type(x509.DNSName)
    t.trial.expect("T-4", f"the dNSName {TLS_NAME} is missing", True, TLS_NAME in names)
    now = datetime.now(UTC)
    for each, what in ((certificate, "the node's"), (authority, "the authority's")):
        if not each.not_valid_before_utc <= now <= each.not_valid_after_utc:
            got = f"{each.not_valid_before_utc} to {each.not_valid_after_utc}"
            raise Failed("T-5", f"{what} certificate is not within its time", now, got)


def extension(certificate: x509.Certificate, kind: type, clause: str) -> Any:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound as error:
        subject = certificate.subject.rfc4514_string()
        raise Failed(clause, f"the certificate of {subject} has no {kind.__name__}", kind.__name__, "none") from error


@authority_case("tls", "TLS 1.3 and no tickets, as everywhere", "T-1", "T-7", "J-3")
async def tls(t: AuthorityTestee) -> None:
    token = await t.token()
    line = await t.visit(token)
    t.trial.expect("T-1", "the connection is not TLS 1.3", "TLSv1.3", line.stream.version())
    await t.admitted(line, request(token), "J-3", GOOD)
    t.trial.expect("T-7", "the authority sent a session ticket", False, ticket_of(line.stream))


@authority_case(
    "says-nothing-first",
    "The authority says nothing before JOIN",
    "J-3",
    "J-10",
    quote="there is no HELLO, no heartbeat and no grease",
)
async def says_nothing_first(t: AuthorityTestee) -> None:
    token = await t.token()
    line = await t.visit(token)
    with trio.move_on_after(QUIET_SECONDS):
        data = await line.receive()
        raise Failed("J-10", "something comes before JOIN", "nothing", data[:32] or line.ended)
    await t.admitted(line, request(token), "J-3", GOOD)


@authority_case("renewal", "A key that joins again gets a new certificate and keeps its node id", "J-9")
async def renewal(t: AuthorityTestee) -> None:
    key, found = new_key(), []
    for number in range(2):
        token = await t.token()
        said = "a node that has joined is not given a new certificate" if number else GOOD
        joined = await t.admitted(await t.visit(token), request(token, key), "J-9", said)
        found.append(t.certified(joined))
    first, second = found
    if first.serial_number == second.serial_number:
        said = "a node that joins again is given the certificate that it has"
        raise Failed("J-9", said, "a new certificate", f"serial number {second.serial_number:x} again")
    if second.not_valid_after_utc < first.not_valid_after_utc:
        said = "the new certificate ends before the old one"
        raise Failed("J-9", said, f"{first.not_valid_after_utc} or later", second.not_valid_after_utc)


@authority_case(
    "same-name", "Two nodes of one name have different subjects", "T-4", quote="a subject that no other node of the"
)
async def same_name(t: AuthorityTestee) -> None:
    token = await t.token()
    first = t.certified(await t.admitted(await t.visit(token), request(token, name="twin"), "J-3", GOOD))
    token = await t.token()
    line = await t.visit(token)
    await line.send(request(token, name="twin"))
    answer = await line.next("J-3")
    if isinstance(answer, Error):
        raise Info(f"a second node of the same name is refused: {answer.text}")
    if not isinstance(answer, Joined):
        raise Failed("J-3", GOOD, "JOINED or ERROR", line.ended)
    second = t.certified(answer)
    if first.subject == second.subject:
        said = "two nodes have the same subject"
        raise Failed("T-4", said, "two subjects", second.subject.rfc4514_string())


# ---------------------------------------------------------------- who is not


def wrong_secret(t: AuthorityTestee, token: JoinToken) -> Join:
    """One bit is another, and the proof is for that secret."""
    secret = bytearray(token.secret)
    secret[t.rng.randrange(len(secret))] ^= 1 << t.rng.randrange(8)
    return request(token, secret=bytes(secret))


@authority_case(
    "guesses",
    "At the fifth wrong secret at the latest the service closes",
    "J-8",
    quote="The server MUST close the service after at most five wrong secrets",
)
async def guesses(t: AuthorityTestee) -> None:
    token = await t.token()
    for number in range(MAX_WRONG):
        try:
            line = await t.visit(token)
        except NoService:
            if not number:
                raise
            t.trial.note(f"closed after {number} wrong secrets")
            break
        await line.send(wrong_secret(t, token), "a wrong secret")
        await t.refused(line, "J-4", "a wrong secret is not refused")
    if await t.let_in(token):
        raise Failed("J-8", f"after {MAX_WRONG} wrong secrets the right one still lets a node in", "nothing", "JOINED")


@authority_case(
    "guesses-beside-a-newcomer",
    "The fifth wrong secret closes the service to those too who are connected already",
    "J-8",
)
async def guesses_beside(t: AuthorityTestee) -> None:
    token = await t.token()
    early = await t.visit(token)
    for number in range(MAX_WRONG):
        try:
            line = await t.visit(token)
        except NoService:
            if not number:
                raise Inconclusive("the authority talks to one newcomer at a time") from None
            break
        await line.send(wrong_secret(t, token), "a wrong secret")
        await t.refused(line, "J-4", "a wrong secret is not refused")
    await early.send(request(token), "the right secret, too late")
    if isinstance(await early.next("J-8"), Joined):
        said = f"after {MAX_WRONG} wrong secrets the right one still lets in who was connected"
        raise Failed("J-8", said, "ERROR or the end", "JOINED")


@authority_case("guess-on-one-line", "A connection has one JOIN: a second guess on it is not answered", "J-3")
async def guess_on_one_line(t: AuthorityTestee) -> None:
    token = await t.token()
    line = await t.visit(token)
    guess = encode_message(0, wrong_secret(t, token))
    await line.raw(guess + encode_message(0, request(token)), "a wrong JOIN, and a right one behind it")
    await t.refused(line, "J-4", "a wrong secret is not refused")


@authority_case(
    "faulty-requests",
    "A request that fails by its key, proof or name leaves the token good, however many come",
    "J-5",
    quote="A request that fails here leaves the token good",
    bracket=True,
)
async def faulty_requests(t: AuthorityTestee) -> None:
    token = await t.token()
    key, other, curve = new_key(), new_key(), ec.generate_private_key(ec.SECP384R1())
    good, payload = request(token, key), join_payload(token.secret_id, token.secret, public_bytes(key))
    point = key.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    compressed = bytes.fromhex("3039301306072a8648ce3d020106082a8648ce3d030107032200") + point
    stranger = public_bytes(curve)
    faults = {
        "no proof": {"proof": b""},
        "a proof that is noise": {"proof": t.rng.randbytes(70)},
        "a proof by another key": {"proof": sign(other, JOIN_CONTEXT, payload)},
        "a proof in another context": {"proof": sign(key, "dsdp-join/2", payload)},
        "a proof for another secret": {"proof": request(token, key, secret=bytes(16)).proof},
        "a proof about another key": {"proof": request(token, other).proof},
        "another key than the proof's": {"public_key": public_bytes(other)},
        "no key": {"public_key": b"", "proof": _proof(key, token, b"")},
        "a compressed point": {"public_key": compressed, "proof": _proof(key, token, compressed)},
        "a key on secp384r1": {
            "public_key": stranger,
            "proof": curve.sign(_stated(token, stranger), ec.ECDSA(hashes.SHA256())),
        },
        "no name": {"name": ""},
        "a path for a name": {"name": "../up"},
        "a name of 49 characters": {"name": "n" * 49},
        "a name in two lines": {"name": "desk\n"},
    }
    for what, fields in faults.items():
        line = await t.visit(token)
        await line.send(dataclasses.replace(good, **fields), what)
        await t.refused(line, "J-5", f"a request with {what} is not refused")


def _stated(token: JoinToken, public: bytes) -> bytes:
    return statement(JOIN_CONTEXT, join_payload(token.secret_id, token.secret, public))


def _proof(key: ec.EllipticCurvePrivateKey, token: JoinToken, public: bytes) -> bytes:
    return key.sign(_stated(token, public), ec.ECDSA(hashes.SHA256()))


@authority_case("once", "A secret lets one node in", "J-6", quote="A secret lets one node in.")
async def once(t: AuthorityTestee) -> None:
    token = await t.token()
    join = request(token)
    await t.admitted(await t.visit(token), join, "J-3", GOOD)
    for again, what in ((request(token), "another node"), (join, "the same node")):
        try:
            line = await t.visit(token)
        except NoService:
            return  # what the clause asks for, and what J-8 recommends
        await line.send(again, "a used token")
        if isinstance(await line.next("J-6"), Joined):
            raise Failed("J-6", f"a used token lets {what} in", "ERROR or the end", "JOINED")


@authority_case("once-of-two", "Of two that come at once with one token one gets in", "J-6")
async def once_of_two(t: AuthorityTestee) -> None:
    token = await t.token()
    lines = [await t.visit(token)]
    try:
        lines.append(await t.visit(token))
    except NoService:
        raise Inconclusive("the authority talks to one newcomer at a time") from None
    for line in lines:
        await line.send(request(token), "two at once")
    answers = [await line.next("J-3", 10.0) for line in lines]
    count = sum(isinstance(answer, Joined) for answer in answers)
    t.trial.expect("J-6", "how many of two got in with one token", 1, count)


@authority_case(
    "closes-behind",
    "When the token is used, nobody answers any more",
    "J-8",
    level=Level.SHOULD,
    quote="SHOULD run only while a token is open",
)
async def closes_behind(t: AuthorityTestee) -> None:
    token = await t.token()
    line = await t.visit(token)
    await t.admitted(line, request(token), "J-3", GOOD)
    await line.close()
    end = trio.current_time() + t.trial.seconds(10.0)
    while trio.current_time() < end:
        try:
            await trio.aclose_forcefully(await t.reach(token))
        except NoService:
            return
        await trio.sleep(0.2)
    raise Failed("J-8", "the join service goes on after its token is used", "nobody at its addresses", "a connection")
