"""The testee is an authority: it makes tokens, and the suite comes with them as all kinds of newcomers."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any

import trio
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from conformance.door.dial import parse_address, why
from conformance.door.joining import Running
from conformance.live.joining import Line
from conformance.live.peer import described
from conformance.trial import STEP_SECONDS, Trial
from conformance.verdict import Failed
from dsdproto.errors import DsdpError
from dsdproto.identity import JOIN_CONTEXT, IdentityError, JoinToken, join_payload, load_spki, node_id_of, sign
from dsdproto.registry import ALPN_JOIN, ErrorCode
from dsdproto.wire.messages import Error, Join, Joined

AGAIN_SECONDS = 0.5
Key = ec.EllipticCurvePrivateKey


class NoService(Failed):
    """Nobody answers at the addresses of a token, or the connection is refused."""

    def __init__(self, said: str) -> None:
        super().__init__("J-3", said, "a TLS connection with the authority", "none")


def new_key() -> Key:
    return ec.generate_private_key(ec.SECP256R1())


def public_bytes(key: Any) -> bytes:
    """DER SubjectPublicKeyInfo of any private key, whether the protocol uses its kind or not."""
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def request(token: JoinToken, key: Key | None = None, **changes: Any) -> Join:
    """JOIN as it should be, by a new key if none is given; ``changes`` are fields that differ. The proof is for the
    secret that the message names."""
    key = key or new_key()
    secret_id, secret = changes.get("secret_id", token.secret_id), changes.get("secret", token.secret)
    public = public_bytes(key)
    proof = sign(key, JOIN_CONTEXT, join_payload(secret_id, secret, public))
    fields = {"secret_id": secret_id, "secret": secret, "public_key": public, "proof": proof, "name": "newcomer"}
    return Join(**{**fields, **changes})


class AuthorityTestee:
    """What a case about an authority is given.

    :param start: runs the command that makes a token.
    """

    def __init__(
        self, trial: Trial, start: Callable[[], AbstractAsyncContextManager[Running]], stack: AsyncExitStack
    ) -> None:
        self.trial = trial
        self.rng = trial.rng
        self._start = start
        self._stack = stack
        self._token: JoinToken | None = None
        self._visits = 0

    async def token(self) -> JoinToken:
        """A new one, served until the case is over."""
        command = await self._stack.enter_async_context(self._start())
        text = await command.printed_token()
        try:
            found = JoinToken.parse(text)
        except IdentityError as error:
            raise Failed("J-1", f"the token cannot be read: {error}", "a token", text[:24]) from error
        pinned = found.authority[:16]
        self.trial.expect("T-3", "the token's cluster id is not that of its authority", pinned, found.cluster)
        if self._token is not None and found.authority != self._token.authority:
            raise command.broken("made a second token for another authority", "one authority")
        self._token = found
        return found

    # ------------------------------------------------------------ connections

    async def reach(self, token: JoinToken) -> trio.SocketStream:
        """TCP to the first of the token's addresses that leads somewhere. Raises :class:`NoService`."""
        reasons = []
        for address in token.addresses:
            try:
                with trio.fail_after(self.trial.seconds()):
                    return await trio.open_tcp_stream(*parse_address(address))
            except (OSError, DsdpError, trio.TooSlowError) as error:
                reasons.append(f"{address}: {str(error) or 'no answer'}")
        raise NoService(f"the token's addresses lead nowhere: {'; '.join(reasons)}")

    async def visit(self, token: JoinToken, *, alpn: str | None = ALPN_JOIN) -> Line:
        """A TLS connection, as clause J-3 has it for the client; the other side is the authority that the token pins.

        Raises :class:`NoService`, Failed.
        """
        self._visits += 1
        name = f"newcomer-{self._visits}"
        transport = await self.reach(token)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # the pin says who it is, below
        if alpn is not None:
            context.set_alpn_protocols([alpn])
        stream = trio.SSLStream(transport, context, server_hostname="dsdp.internal", https_compatible=True)
        self._stack.push_async_callback(trio.aclose_forcefully, stream)
        try:
            with trio.fail_after(self.trial.seconds()):
                await stream.do_handshake()
        except trio.TooSlowError:
            raise NoService("no TLS handshake") from None
        except (trio.BrokenResourceError, OSError) as error:
            raise NoService(f"no TLS handshake: {why(error)[0]}") from error
        self.trial.wire.event(name, "connected")
        line = Line(name, self.trial, stream, Joined)
        if alpn == ALPN_JOIN:
            self.trial.expect("J-2", "another protocol was chosen", alpn, stream.selected_alpn_protocol())
            said = "the server's key is not the one that the token pins"
            try:
                found = node_id_of(line.certificate.public_key())  # type: ignore[arg-type]
            except (ValueError, IdentityError) as error:
                raise Failed("J-3", f"{said}: {error}", token.authority, "another kind of key") from error
            self.trial.expect("J-3", said, token.authority, found)
        return line

    # ------------------------------------------------------------ answers

    async def admitted(self, line: Line, join: Join, clause: str, said: str, **how: Any) -> Joined:
        """Send ``join`` and be let in, with a certificate for its key."""
        await line.send(join, **how)
        joined = await line.expect(clause, said)
        certificate = self.certified(joined)
        if certificate.public_key() != load_spki(join.public_key):
            raise Failed("J-7", "the certificate is for another key", join.public_key, joined.certificate)
        return joined

    def certified(self, joined: Joined) -> x509.Certificate:
        """The certificate of the answer, by clause J-7 apart from its own key."""
        assert self._token is not None
        try:
            certificate = x509.load_der_x509_certificate(joined.certificate)
            authority = x509.load_der_x509_certificate(joined.authority)
            found = node_id_of(authority.public_key())  # type: ignore[arg-type]
            certificate.verify_directly_issued_by(authority)
        except (ValueError, TypeError, InvalidSignature, IdentityError) as error:
            said = f"the certificates of JOINED do not hold: {error or 'the signature is not the authority’s'}"
            raise Failed("J-7", said, "a certificate issued by the authority", joined.certificate) from error
        said = "JOINED has the certificate of another authority than the token pins"
        self.trial.expect("J-7", said, self._token.authority, found)
        self.trial.expect("J-7", "JOINED names another cluster", self._token.cluster, joined.cluster)
        return certificate

    async def refused(self, line: Line, clause: str, said: str, *codes: ErrorCode) -> Error:
        """ERROR with one of these codes (default: JOIN_REFUSED), and the end."""
        codes = codes or (ErrorCode.JOIN_REFUSED,)
        wanted = "ERROR " + " or ".join(code.name for code in codes)
        answer = await line.next(clause)
        if not isinstance(answer, Error) or answer.code not in codes:
            raise Failed(clause, said, wanted, line.ended if answer is None else described(answer))
        if answer.clause != clause:
            self.trial.note(f"refused by clause {answer.clause}, expected {clause}")
        await line.over("J-3")
        return answer

    async def let_in(self, token: JoinToken) -> bool:
        """Whether a newcomer with all that it takes gets in; what happens instead is of no account."""
        try:
            line = await self.visit(token)
        except NoService as error:
            self.trial.wire.event("newcomer", str(error))
            return False
        await line.send(request(token))
        with trio.move_on_after(self.trial.seconds(STEP_SECONDS)):
            return isinstance(await line.next("J-3", 2 * STEP_SECONDS), Joined)
        return False

    async def let_in_soon(self, token: JoinToken, seconds: float) -> bool:
        """As :meth:`let_in`, tried again and again."""
        end = trio.current_time() + self.trial.seconds(seconds)
        while True:
            if await self.let_in(token):
                return True
            if trio.current_time() > end:
                return False
            await trio.sleep(AGAIN_SECONDS)

    async def happy_path(self) -> None:
        """The token of the case is still good, on a fresh connection."""
        assert self._token is not None
        line = await self.visit(self._token)
        await self.admitted(line, request(self._token), "J-6", "the token is still good, but nobody gets in with it")
