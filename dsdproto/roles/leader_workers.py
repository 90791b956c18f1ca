"""Who works for a session: its verifier and its drafters come, go, fail and are let go (SPEC.md, "Leader").

Functions over a :class:`~dsdproto.roles.leader.Leader` and one of its sessions; what they decide goes into ``effects``.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from dsdproto.effects import CancelTimer, Deliver, Effect, Key, Refuse, Send, SetTimer
from dsdproto.errors import PeerError
from dsdproto.registry import DetachReason, DismissReason, ErrorCode, Feature, Scope
from dsdproto.roles.leader_seats import check_assigned, drafter_offer, drafters_in_turn
from dsdproto.roles.leader_session import Answers, DrafterSeat, Note, Session, VerifierSeat
from dsdproto.wire.groups import join_group
from dsdproto.wire.messages import Assign, Assigned, Attach, Detach, DrafterEntry, Error, Opened, Release

if TYPE_CHECKING:
    from dsdproto.roles.leader import Leader

MAX_DRAFTER_NUMBER = 255
"""``origins`` has one byte a token."""


def assign(leader: Leader, session: Session, now: float, effects: list[Effect], last: Error | None = None) -> None:
    """Ask a verifier to take the session (clause L-1); ``last`` is what the one before it said."""
    try:
        link, _ = leader.choose_verifier(session)
    except PeerError as nobody:
        if not session.opened and session.client is not None:
            # What a verifier said tells the client more than that there is no other.
            said = last and PeerError(_code(last.code), last.clause, last.text, scope=Scope.SESSION)
            leader.drop(session, effects, DismissReason.SESSION_ENDED)
            effects.append(Refuse(*session.client, said or nobody))
        return
    key = (link, leader.open_channel(link))
    session.verifier = VerifierSeat(key, now)
    leader.by_verifier[key] = session
    effects.append(SetTimer(("answer", session.id), now + leader.config.answer_patience))
    assign = Assign(
        session=session.id,
        contract=session.contract,
        committed=session.committed,
        model=session.answers.model if session.answers else None,
    )
    effects.append(Send(*key, assign))


def assigned(
    leader: Leader, session: Session, seat: VerifierSeat, message: Assigned, now: float, effects: list[Effect]
) -> None:
    """A verifier took the session. Raises PeerError for one that the stream must not come from."""
    check_assigned(session, message)
    seat.ready = True
    session.verified_at = now
    seat.max_nodes = message.max_nodes
    seat.max_context = message.max_context
    session.orphan_since = None
    effects.append(CancelTimer(("verifier", session.id)))
    if not session.opened and session.client is not None:
        session.answers = Answers(message.model, message.profile, message.profile_text)
        open_up(session, effects)
    leader.next_round(session, now, effects)


def open_up(session: Session, effects: list[Effect]) -> None:
    """Tell the client that its session has begun, once a verifier is ready and a majority has promised (Q-30)."""
    ballot, seat, answers = session.ballot, session.verifier, session.answers
    if session.opened or session.client is None or seat is None or not seat.ready or not session.may_commit:
        return
    assert answers is not None
    session.opened = True
    group = None if ballot is None else join_group(tuple(ballot.members))
    opened = Opened(
        position=session.chain.position,
        model=answers.model,
        profile=answers.profile,
        profile_text=answers.profile_text,
        group=group,
        view=None if group is None else session.view,
    )
    effects.append(Send(*session.client, opened))


def verifier_lost(
    leader: Leader, session: Session, text: str, now: float, effects: list[Effect], error: Error | None = None
) -> None:
    """Go on with another verifier (clause L-4)."""
    seat = session.verifier
    if seat is not None:
        leader.by_verifier.pop(seat.key, None)
    session.verifier = None
    session.in_flight = None
    session.trie.pinned = frozenset()
    if session.opened:
        orphaned(leader, session, now, effects)
    effects.append(CancelTimer(("drafts", session.id)))
    effects.append(Deliver(Note(f"verifier lost: {text}", session.id)))
    assign(leader, session, now, effects, error)


def orphaned(leader: Leader, session: Session, now: float, effects: list[Effect]) -> None:
    """Wait for a verifier, but not for ever (clause L-4)."""
    if session.orphan_since is None:
        session.orphan_since = now
        effects.append(SetTimer(("verifier", session.id), now + leader.config.verifier_patience))


def answer_due(leader: Leader, session: Session, now: float, effects: list[Effect]) -> None:
    """A verifier may be connected and yet answer nothing: then it is lost to this session (clause L-8)."""
    seat = session.verifier
    if seat is None:
        return
    asked = session.in_flight.since if session.in_flight is not None else None if seat.ready else seat.since
    if asked is None or now < asked + leader.config.answer_patience:
        effects.append(SetTimer(("answer", session.id), (asked or now) + leader.config.answer_patience))
        return
    text = f"no answer within {leader.config.answer_patience:g} s"
    effects.append(Refuse(*seat.key, PeerError(ErrorCode.COMPUTE_FAILED, "L-8", text)))
    session.failed_verifiers.add(seat.key[0])
    verifier_lost(leader, session, text, now, effects)


def attach_drafters(leader: Leader, session: Session, effects: list[Effect]) -> None:
    """Attach connected drafters that fit, up to the limits (clause L-12)."""
    seated = {seat.entry.node_id for seat in session.drafters.values()}
    if len(session.drafters) >= session.max_drafters:
        return
    busy = Counter(link for link, _ in leader.by_drafter)
    for link in drafters_in_turn(session, leader.peers, busy):
        peer = leader.peers[link]
        number = len(session.entries) + 1
        if len(session.drafters) >= session.max_drafters or number > MAX_DRAFTER_NUMBER:
            return
        offer = drafter_offer(peer.peer, session.contract)
        if offer is None or link in session.left_drafters or peer.peer.node_id in seated:
            continue
        key = (link, leader.open_channel(link))
        entry = DrafterEntry(number=number, node_id=peer.peer.node_id, model=offer.name)
        session.entries[number] = entry
        credit, window = session.window.limits(leader.config.credit, leader.config.window)
        session.drafters[key] = DrafterSeat(key, entry, credit, told=(credit, window))
        leader.by_drafter[key] = session
        attach = Attach(
            session=session.id,
            contract=session.contract,
            committed=session.committed,
            credit=credit,
            window=window,
            width=leader.config.width if Feature.TREES in peer.features else 1,
        )
        effects.append(Send(*key, attach))


def unseat_drafter(leader: Leader, session: Session, key: Key) -> None:
    """Forget a drafter of the session."""
    session.drafters.pop(key, None)
    leader.by_drafter.pop(key, None)


def release_drafter(leader: Leader, session: Session, seat: DrafterSeat, effects: list[Effect]) -> None:
    """Send a drafter away that is of no help (clause D-13)."""
    effects.append(Send(*seat.key, Detach(reason=int(DetachReason.UNHELPFUL))))
    effects.append(Deliver(Note(f"drafter {seat.entry.number} was of no help and is released", session.id)))
    session.left_drafters.add(seat.key[0])
    unseat_drafter(leader, session, seat.key)


def let_go(leader: Leader, session: Session, effects: list[Effect]) -> None:
    """Release verifier and drafters (clause L-13)."""
    session.trie.close()
    session.in_flight = None
    if session.verifier is not None:
        leader.by_verifier.pop(session.verifier.key, None)
        if session.verifier.key[0] in leader.peers:
            effects.append(Send(*session.verifier.key, Release()))
        session.verifier = None
    for key in list(session.drafters):
        if key[0] in leader.peers:
            effects.append(Send(*key, Detach(reason=int(DetachReason.SESSION_ENDED))))
        unseat_drafter(leader, session, key)
    for timer in ("drafts", "verifier", "answer"):
        effects.append(CancelTimer((timer, session.id)))


def _code(code: int) -> ErrorCode:
    return ErrorCode(code) if code in ErrorCode._value2member_map_ else ErrorCode.COMPUTE_FAILED
