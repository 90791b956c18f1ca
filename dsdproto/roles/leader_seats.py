"""Who works for a session: choice of verifier and drafters, and what their answers must hold (SPEC.md, "Leader")."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from dsdproto.effects import LinkUp
from dsdproto.errors import PeerError
from dsdproto.policy.cost import CostModel
from dsdproto.policy.routing import Candidate, Router
from dsdproto.registry import ErrorCode, Role
from dsdproto.roles.leader_session import Answers, Session
from dsdproto.session import check_vocabulary
from dsdproto.wire.messages import Assigned, Contract, Hello, ModelOffer

NO_PROFILE = bytes(32)
"""What a verifier says that claims no numeric profile (clause S-16)."""


def choose_verifier(
    session: Session,
    peers: Mapping[int, LinkUp],
    sessions: Iterable[Session],
    router: Router,
    costs: Mapping[int, CostModel],
    any_profile: bool = False,
) -> tuple[int, Answers]:
    """Link of the best verifier for ``session`` and what it offers (clauses L-1, L-5, L-9).

    Profile and room count first, then what the router says.

    :param costs: by link, what is known of the verifier behind it.
    :param any_profile: a leader that takes over may go on with another numeric profile of the same model (clause Q-45).

    Raises PeerError that says precisely why there is none.
    """
    contract = session.contract
    refusal = PeerError(ErrorCode.MODEL_UNAVAILABLE, "L-3", "no verifier is connected to this leader")
    loads = [other.verifier.key[0] for other in sessions if other.verifier is not None]
    found: list[tuple[bool, bool, int, Answers]] = []
    names: list[str] = []
    for link, peer in peers.items():
        if link in session.failed_verifiers or Role.VERIFIER not in peer.peer.roles:
            continue  # who offers a model without the role cannot be sent ASSIGN (clause C-9)
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
            answers = Answers(offer.name, offer.profile or NO_PROFILE, offer.profile_text or "")
            began = session.answers
            if began is not None and not _may_follow(began, answers, any_profile):
                continue
            other_profile = contract.profile not in (None, offer.profile)
            other_profile |= began is not None and began.profile != answers.profile
            found.append((other_profile, offer.max_context <= session.chain.position, link, answers))
    if not found:
        raise refusal
    found.sort(key=lambda each: each[:-1])
    fit = [each[-2:] for each in found if each[:2] == found[0][:2]]
    candidates = [_candidate(loads.count(link), costs.get(link)) for link, _ in fit]
    return fit[router.choose(candidates, _draw(session.id))]


def _candidate(sessions: int, cost: CostModel | None) -> Candidate:
    return Candidate(sessions) if cost is None else Candidate(sessions, cost.queue, cost.forward)


def _draw(session: bytes) -> float:
    """Session ids are random (clause S-1): the only entropy that a leader has."""
    return int.from_bytes(session[:6], "big") / (1 << 48)


def drafters_in_turn(session: Session, peers: Iterable[int], busy: Mapping[int, int]) -> list[int]:
    """Links in the order in which they are asked to draft: the client's own node first, as nobody is nearer to who
    reads; then those with the fewest sessions of this leader, in the order in which they came.

    :param busy: by link, sessions of this leader that it drafts for.
    """
    own = None if session.client is None else session.client[0]
    return sorted(peers, key=lambda link: (link != own, busy.get(link, 0)))


def _may_follow(began: Answers, answers: Answers, any_profile: bool) -> bool:
    return began.model == answers.model if any_profile else same_target(began, answers)


def same_target(one: Answers, other: Answers) -> bool:
    """Whether a stream may go from one to the other; the text is for people only (clause L-5)."""
    return (one.model, one.profile) == (other.model, other.profile)


def check_assigned(session: Session, message: Assigned) -> None:
    """The verifier that answers must be one that the contract and the stream so far allow (clauses S-6, S-14, L-5)."""
    model, profile = session.contract.model, session.contract.profile
    said = f"{message.model!r} with profile {message.profile.hex()[:16]} answered"
    if profile not in (None, message.profile):
        text = f"{said}, the contract asks for profile {profile.hex()[:16]}"
        raise PeerError(ErrorCode.PROFILE_MISMATCH, "S-6", text)
    if model not in ("", message.model):
        raise PeerError(ErrorCode.MODEL_UNAVAILABLE, "S-14", f"{said}, the contract asks for model {model!r}")
    began = session.answers
    if began is not None and not same_target(began, Answers(message.model, message.profile, message.profile_text)):
        text = f"{said}, the stream began with {began.model!r}, profile {began.profile.hex()[:16]}"
        raise PeerError(ErrorCode.PROFILE_MISMATCH, "L-5", text)


def drafter_offer(peer: Hello, contract: Contract) -> ModelOffer | None:
    """What a peer can draft for ``contract`` with: the vocabularies must be the same (clause S-3)."""
    if Role.DRAFTER not in peer.roles:
        return None
    wanted = (contract.vocabulary_size, contract.vocabulary_digest)
    for offer in peer.models:
        if offer.role == Role.DRAFTER and (offer.vocabulary_size, offer.vocabulary_digest) == wanted:
            return offer
    return None
