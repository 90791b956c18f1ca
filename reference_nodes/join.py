"""How a machine becomes a node of a cluster: the newcomer's side (SPEC.md, section "Join").

:func:`join` dials the addresses in the token, makes sure that it has the authority at the other end, and only
then shows the secret. The private key is made here and stays here. The other side is :func:`offer`, in
:mod:`reference_nodes.join_service`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import trio
from cryptography import x509

from dsdproto.errors import PeerError
from dsdproto.identity import JOIN_CONTEXT, JoinToken, PrivateKey, join_payload, node_id_of, sign, spki_of
from dsdproto.wire.codec import encode_message
from dsdproto.wire.messages import Error, Join, Joined
from reference_nodes import tls
from reference_nodes.certificates import UnsupportedKey, certificate_node_id
from reference_nodes.connect_errors import ConnectError, explain
from reference_nodes.join_service import Admitted, JoinDesk, OfferEnded, offer
from reference_nodes.join_wire import (
    EXCHANGE_SECONDS,
    JoinBroken,
    JoinError,
    JoinRefused,
    JoinUnreachable,
    TokenExpired,
    receive_message,
)
from reference_nodes.paths import DEFAULT_NAME, AlreadyThere, node_dir
from reference_nodes.trust import NodeIdentity, NoIdentity, load_identity, new_key, renew_identity, save_identity

__all__ = [
    "Admitted",
    "JoinBroken",
    "JoinDesk",
    "JoinError",
    "JoinRefused",
    "JoinUnreachable",
    "OfferEnded",
    "TokenExpired",
    "join",
    "offer",
]

DIAL_SECONDS = 5.0


async def join(
    token: JoinToken | str,
    base: Path,
    name: str = DEFAULT_NAME,
    *,
    clock: Callable[[], float] = time.time,
) -> NodeIdentity:
    """Redeem ``token`` and save the identity ``name`` under ``base``.

    A node that has joined this cluster already keeps its key and node id and gets a fresh certificate.

    Raises IdentityError for a mistyped token, :class:`TokenExpired`, :class:`JoinUnreachable`,
    :class:`JoinRefused`, :class:`JoinBroken`, :class:`AlreadyThere` if the name belongs to another cluster,
    :class:`BadName`.
    """
    if isinstance(token, str):
        token = JoinToken.parse(token)
    known = _known_identity(base, name, token)
    if token.expired(clock()):
        raise TokenExpired(
            f"the token expired {clock() - token.expires:.0f} s ago by this machine's clock.",
            "Make a new one with `dsdp token` on the authority's machine, or compare the clocks.",
        )
    key = known.key if known else new_key()
    stream = await _reach(token)
    try:
        with trio.fail_after(EXCHANGE_SECONDS):
            joined = await _ask(stream, token, key, name)
    except trio.TooSlowError:
        raise JoinBroken(f"the authority did not answer within {EXCHANGE_SECONDS:g} s.", "Try again.") from None
    except (trio.BrokenResourceError, trio.ClosedResourceError) as fault:
        raise JoinBroken(f"the authority hung up: {explain('it', fault).text}", "Ask for a new token.") from fault
    finally:
        await trio.aclose_forcefully(stream)
    certificate, authority = _check(joined, token, key)
    if known:
        return renew_identity(known, certificate)
    return save_identity(base, name, key, certificate, authority)


def _known_identity(base: Path, name: str, token: JoinToken) -> NodeIdentity | None:
    """The identity that this name has already, if the token can renew it.

    All that can be wrong on this machine is found here, before the token is spent.
    """
    directory = node_dir(base, name)
    try:
        known = load_identity(base, name, check=False)
    except NoIdentity:
        if directory.exists() and any(directory.iterdir()):
            raise AlreadyThere(f"{directory} is in the way.", "Move it away, or choose another --name.") from None
        return None
    if known.cluster_id != token.cluster:
        raise AlreadyThere(
            f"node {name!r} on this machine belongs to cluster {known.cluster_id.hex()}, "
            f"and the token is for {token.cluster.hex()}.",
            f"Join under another --name, or move {directory} away first.",
        )
    return known


async def _reach(token: JoinToken) -> tls.Stream:
    failures = []
    for address in token.addresses:
        host, _, port = address.rpartition(":")
        try:
            return await tls.connect_join(host.strip("[]"), int(port), token.authority, timeout=DIAL_SECONDS)
        except ConnectError as fault:
            # Also when somebody else answers: private addresses mean other machines on other networks.
            failures.append(fault)
    reasons = " ".join(fault.text for fault in failures)
    raise JoinUnreachable(
        f"none of the token's addresses led to the authority. {reasons}",
        "Is `dsdp token` still waiting there, are both machines on one network, does a firewall drop the port?",
    )


async def _ask(stream: tls.Stream, token: JoinToken, key: PrivateKey, name: str) -> Joined:
    public = spki_of(key.public_key())
    request = Join(
        secret_id=token.secret_id,
        secret=token.secret,
        public_key=public,
        proof=sign(key, JOIN_CONTEXT, join_payload(token.secret_id, token.secret, public)),
        name=name,
    )
    await stream.send_all(encode_message(0, request))
    try:
        answer = await receive_message(stream, Joined, Error)
    except PeerError as fault:
        raise JoinBroken(f"the authority's answer is not valid: {fault}") from fault
    if isinstance(answer, Error):
        raise JoinRefused(f"the authority refused: {answer.text}")
    return answer


def _check(joined: Joined, token: JoinToken, key: PrivateKey) -> tuple[x509.Certificate, x509.Certificate]:
    """Both certificates of the answer, if they are what the token promised."""
    try:
        certificate = x509.load_der_x509_certificate(joined.certificate)
        authority = x509.load_der_x509_certificate(joined.authority)
        found, mine = certificate_node_id(authority), certificate_node_id(certificate)
    except (ValueError, UnsupportedKey) as fault:
        raise JoinBroken(f"the authority's answer holds no usable certificate: {fault}") from fault
    if found != token.authority or joined.cluster != token.cluster or found[:16] != token.cluster:
        raise JoinBroken("the authority's answer is about another cluster than the token's.")
    if mine != node_id_of(key.public_key()):
        raise JoinBroken("the authority's certificate is for another key than ours.")
    return certificate, authority
