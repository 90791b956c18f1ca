"""Who works for a session: choice of verifier and drafters, and what their answers must hold (SPEC.md, "Leader")."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from dsdproto.effects import LinkUp
from dsdproto.errors import PeerError
from dsdproto.registry import ErrorCode, Role
from dsdproto.roles.leader_session import Session
from dsdproto.session import check_vocabulary
from dsdproto.wire.messages import Assigned, Contract, Hello, ModelOffer

NO_PROFILE = bytes(32)
"""What a verifier says that claims no numeric profile (clause S-16)."""


def choose_verifier(session: Session, peers: Mapping[int, LinkUp], sessions: Iterable[Session]) -> int:
    """Link of the best verifier for ``session`` (clauses L-1, L-5, L-9): room and profile first, then the least loaded.

    Raises PeerError that says precisely why there is none.
    """
    contract = session.contract
    refusal = PeerError(ErrorCode.MODEL_UNAVAILABLE, "L-3", "no verifier is connected to this leader")
    loads = [other.verifier.key[0] for other in sessions if other.verifier is not None]
    found: list[tuple[bool, bool, int, int]] = []
    names: list[str] = []
    for link, peer in peers.items():
        if link in session.failed_verifiers:
            continue
        for offer in peer.peer.models:
            if offer.role != Role.VERIFIER:
                continue
            names.append(offer.name)
            if contract.model not in ("", offer.name):
                text = f"no verifier for {contract.model!r}; there is {', '.join(names)}"
                refusal = PeerError(ErrorCode.MODEL_UNAVAILABLE, "L-3", text)
                continue
            try:
                check_vocabulary(contract, offer, "verifier")
            except PeerError as error:
                refusal = error
                continue
            if session.answers not in (None, (offer.name, offer.profile or NO_PROFILE)):
                continue
            other_profile = contract.profile not in (None, offer.profile)
            found.append((other_profile, offer.max_context <= session.chain.position, loads.count(link), link))
    if not found:
        raise refusal
    return min(found)[-1]


def check_assigned(session: Session, message: Assigned) -> None:
    """The verifier that answers must be one that the contract and the stream so far allow (clauses S-6, S-14, L-5)."""
    model, profile = session.contract.model, session.contract.profile
    said = f"{message.model!r} with profile {message.profile.hex()[:16]} answered"
    if profile not in (None, message.profile):
        text = f"{said}, the contract asks for profile {profile.hex()[:16]}"
        raise PeerError(ErrorCode.PROFILE_MISMATCH, "S-6", text)
    if model not in ("", message.model):
        raise PeerError(ErrorCode.MODEL_UNAVAILABLE, "S-14", f"{said}, the contract asks for model {model!r}")
    if session.answers is not None and session.answers != (message.model, message.profile):
        began, with_profile = session.answers
        text = f"{said}, the stream began with {began!r}, profile {with_profile.hex()[:16]}"
        raise PeerError(ErrorCode.PROFILE_MISMATCH, "L-5", text)


def drafter_offer(peer: Hello, contract: Contract) -> ModelOffer | None:
    """What a peer can draft for ``contract`` with: the vocabularies must be the same (clause S-3)."""
    wanted = (contract.vocabulary_size, contract.vocabulary_digest)
    for offer in peer.models:
        if offer.role == Role.DRAFTER and (offer.vocabulary_size, offer.vocabulary_digest) == wanted:
            return offer
    return None
