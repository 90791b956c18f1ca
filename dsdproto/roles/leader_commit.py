"""The leader's side of `quorum`: founds sessions, takes them over, has blocks voted on (SPEC.md, section 16).

Functions over a :class:`~dsdproto.roles.leader.Leader` and one of its sessions; what they decide goes into ``effects``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from dsdproto.commit.ballot import Ballot, Member, Proposal
from dsdproto.commit.quorum import majority
from dsdproto.effects import LOCAL_NEAR, CancelTimer, Deliver, Effect, LinkUp, Refuse, Send, SetTimer
from dsdproto.errors import PeerError
from dsdproto.registry import DismissReason, ErrorCode, Finish, Role, Scope
from dsdproto.roles import leader_workers
from dsdproto.roles.leader_session import Key, Note, Session
from dsdproto.wire.groups import join_group
from dsdproto.wire.messages import Block, Dismiss, Enlist, Enlisted, Error, Hello, Prepare, Vote

if TYPE_CHECKING:
    from dsdproto.roles.leader import Leader


MAX_MET = 64
"""voters of earlier links that a leader remembers"""


def meet(met: dict[bytes, Hello], hello: Hello) -> None:
    """Remember a voter whose link came up or was lost; the latest stands last (clause Q-4)."""
    met.pop(hello.node_id, None)
    if Role.VOTER in hello.roles:
        met[hello.node_id] = hello
        if len(met) > MAX_MET:
            del met[next(iter(met))]


def form_group(peers: Mapping[int, LinkUp], met: Mapping[bytes, Hello], size: int) -> tuple[bytes, ...]:
    """This node first, then connected voters, then ones that were: each time those that can lead first (clause Q-4).

    :param met: by node id, the voter that was lost last behind the others.

    Raises PeerError(QUORUM_UNAVAILABLE) where there are too few, or no voter on this node (clause Q-3).
    """
    own = peers[LOCAL_NEAR].peer
    if Role.VOTER not in own.roles:
        text = "this leader has no voter on its own node, so it cannot lead sessions of the quorum profile"
        raise PeerError(ErrorCode.QUORUM_UNAVAILABLE, "Q-3", text, scope=Scope.SESSION)
    here = {peer.peer.node_id: peer.peer for peer in peers.values() if Role.VOTER in peer.peer.roles}
    here.pop(own.node_id)
    away = [hello for node_id, hello in reversed(met.items()) if node_id not in here]
    ranked = [*_leaders_first(here.values()), *_leaders_first(away)]
    group = (own.node_id, *(hello.node_id for hello in ranked))[:size]
    if len(group) < size or 1 + len(here) < majority(size):
        text = (
            f"{1 + len(here)} voters are connected to this leader, this one included, and {len(away)} more were since "
            f"it started; a group has {size}, and {majority(size)} of them must be connected"
        )
        raise PeerError(ErrorCode.QUORUM_UNAVAILABLE, "Q-4", text, scope=Scope.SESSION)
    return group


def _leaders_first(hellos: Iterable[Hello]) -> list[Hello]:
    return sorted(hellos, key=lambda hello: Role.LEADER not in hello.roles)


def begin(leader: Leader, session: Session, view: int, group: tuple[bytes, ...], now: float) -> list[Effect]:
    """Ask the group for the promise of ``view``. ``session.chain`` ends at what is known to be committed."""
    own = leader.peers[LOCAL_NEAR].peer.node_id
    session.view = view
    session.ballot = Ballot.open(view, own, group, session.chain.position, now)
    effects: list[Effect] = [SetTimer(("commit", session.id), now + leader.config.vote_patience)]
    away = [node_id.hex()[:8] for node_id in group if _link_to(leader, node_id, own) is None]
    if away and view == 0:
        effects.append(Deliver(Note(f"founded while voters are away: {', '.join(away)}", session.id)))
    ask_members(leader, session, session.ballot, now, effects)
    return effects


def ask_members(leader: Leader, session: Session, ballot: Ballot, now: float, effects: list[Effect]) -> None:
    """ENLIST to the connected members that have no channel yet."""
    assert session.answers is not None
    for member in ballot.to_ask():
        link = _link_to(leader, member.node_id, ballot.own)
        if link is None:
            continue
        key = (link, leader.open_channel(link))
        member.key, member.waiting = key, now
        leader.by_voter[key] = session
        enlist = Enlist(
            session=session.id,
            contract=session.contract,
            group=join_group(tuple(ballot.members)),
            view=ballot.view,
            committed=ballot.committed,
            model=session.answers.model,
            profile=session.answers.profile,
            profile_text=session.answers.profile_text,
            max_drafters=session.max_drafters,
        )
        effects.append(Send(*key, enlist))


def _link_to(leader: Leader, node_id: bytes, own: bytes) -> int | None:
    if node_id == own:
        return LOCAL_NEAR
    fits = (link for link, up in leader.peers.items() if up.peer.node_id == node_id and Role.VOTER in up.peer.roles)
    return next(fits, None)


# ---------------------------------------------------------------- messages


def from_voter(leader: Leader, session: Session, key: Key, message: object, now: float, effects: list[Effect]) -> None:
    """Take what a member says. Raises PeerError for what it must not say."""
    ballot = session.ballot
    assert ballot is not None
    member = ballot.by_key(key)
    match message:
        case Enlisted() if member.report is None:
            ballot.enlist(member, message, session.chain)
            if session.gathered:
                propose_gathered(session, now, effects)
                return
            if ballot.adopted:
                _bring_up(session, ballot, member, now, effects)
                return
            ask_members(leader, session, ballot, now, effects)
            if ballot.ready_to_adopt:
                _adopt(leader, session, ballot, now, effects)
        case Vote() if member.report is not None:
            committed = ballot.vote(member, message)
            member.waiting = None if member.voted >= member.sent else now
            if committed:
                _committed(leader, session, ballot, committed, now, effects)
        case Error():
            effects.append(Deliver(Note(f"voter {member.node_id.hex()[:8]} refused: {message.text}", session.id)))
            member_gone(leader, session, key, now, effects)
            if message.code == ErrorCode.VIEW_STALE and session.id in leader.sessions:
                resign(leader, session, _error(ErrorCode.VIEW_STALE, "Q-43", message.text), now, effects)
        case _:
            text = f"{type(message).__name__} is not what a voter sends at this point"
            raise PeerError(ErrorCode.MESSAGE_UNEXPECTED, "Q-24", text, scope=Scope.SESSION)


def _adopt(leader: Leader, session: Session, ballot: Ballot, now: float, effects: list[Effect]) -> None:
    base = session.chain.position
    culprit = ballot.best
    try:
        finish = ballot.adopt(session.chain)
        for culprit in ballot.enlisted:
            assert culprit.report is not None
            ballot.check_known(culprit.report, session.chain)
    except PeerError as error:
        _contradicted(leader, session, culprit, error, now, effects)
        return
    rest = session.chain.tokens_from(base)
    if rest or finish is not None:
        session.finish = None if finish is None else Finish(finish)
        ballot.propose(session.chain, finish, (), now)
    for member in ballot.enlisted:
        _bring_up(session, ballot, member, now, effects)
    if rest or finish is not None:
        leader_workers.let_go(leader, session, effects)  # a founder's, who were given the prompt alone
        session.trie = leader.new_trie(session.chain)
    if finish is None:  # otherwise all that is left is to have the end committed
        _employ(leader, session, now, effects)


def _employ(leader: Leader, session: Session, now: float, effects: list[Effect]) -> None:
    """A majority follows this view: the session may have blocks voted on from here on."""
    if session.verifier is None:
        leader_workers.assign(leader, session, now, effects)
    if session.id not in leader.sessions:
        return
    if session.verifier is None:
        leader_workers.orphaned(leader, session, now, effects)
    leader_workers.attach_drafters(leader, session, effects)
    leader_workers.open_up(session, effects)
    leader.next_round(session, now, effects)


def _contradicted(
    leader: Leader, session: Session, culprit: Member, error: PeerError, now: float, effects: list[Effect]
) -> None:
    """Two reports cannot both be true, so nothing is proposed: another leader may know better (clause Q-31)."""
    ballot = session.ballot
    assert ballot is not None and culprit.key is not None
    leader.refused += 1
    leader.by_voter.pop(culprit.key, None)
    effects.append(Refuse(*culprit.key, error))
    ballot.lost(culprit.key)
    resign(leader, session, _no_quorum(session, f"voter {culprit.node_id.hex()[:8]}: {error.text}"), now, effects)


def _bring_up(session: Session, ballot: Ballot, member: Member, now: float, effects: list[Effect]) -> None:
    assert member.key is not None
    prepare = ballot.catch_up(member, session.chain, session.finish)
    if prepare is not None:
        member.waiting = now
        effects.append(Send(*member.key, prepare))
    # Votes that came on an earlier channel may have committed what this member is sent only now.
    _tell(session, ballot, member, effects)


def _tell(session: Session, ballot: Ballot, member: Member, effects: list[Effect]) -> None:
    """COMMIT, if anything is committed in this view."""
    commit = ballot.commit(session.chain)
    member.untold = False
    if commit is not None and member.key is not None:
        effects.append(Send(*member.key, commit))


def tell_all(session: Session, effects: list[Effect]) -> None:
    """No block came along to carry the news of the last one's commit (clause Q-39)."""
    assert session.ballot is not None
    for member in session.ballot.enlisted:
        if member.untold:
            _tell(session, session.ballot, member, effects)


def gather(session: Session, block: Block, gather_for: float, now: float, effects: list[Effect]) -> None:
    """Take what was just verified; propose it, unless more is expected soon enough to go along (clause Q-36)."""
    ballot = session.ballot
    assert ballot is not None
    session.gathered.append(block)
    due = ballot.proposed_at + gather_for
    if session.finish is None and now + session.pace < due:
        effects.append(SetTimer(("gather", session.id), due))
    else:
        effects.append(CancelTimer(("gather", session.id)))
        propose(session, now, effects)


def propose_gathered(session: Session, now: float, effects: list[Effect]) -> None:
    """Nothing more will come along with what waits, or not soon enough."""
    if session.gathered:
        propose(session, now, effects)


def propose(session: Session, now: float, effects: list[Effect]) -> None:
    """Have all that ``session.chain`` holds behind the last block voted on as the next one."""
    ballot = session.ballot
    assert ballot is not None and ballot.adopted
    chain, finish, base = session.chain, session.finish, ballot.proposed_to
    blocks, session.gathered = tuple(session.gathered), []
    ballot.propose(chain, finish, blocks, now)
    prepare = Prepare(
        view=ballot.view,
        height=ballot.height,
        position=base,
        base=chain.digest_at(base),
        tokens=chain.tokens_from(base),
        digest=chain.digest,
        finish=finish,
    )
    for member in ballot.enlisted:
        assert member.key is not None
        if member.sent == 0:
            _bring_up(session, ballot, member, now, effects)
            continue
        if member.untold:
            _tell(session, ballot, member, effects)
        member.sent = ballot.height
        member.waiting = now if member.waiting is None else member.waiting
        effects.append(Send(*member.key, prepare))


def _committed(
    leader: Leader, session: Session, ballot: Ballot, committed: list[Proposal], now: float, effects: list[Effect]
) -> None:
    if session.client is not None:
        effects += [Send(*session.client, block) for proposal in committed for block in proposal.blocks]
    ended = committed[-1].finish is not None
    for member in ballot.enlisted:
        if member.sent < ballot.committed_height:
            continue
        if ended or member.node_id == ballot.own:
            _tell(session, ballot, member, effects)
        else:  # beside the next block the news costs next to nothing
            member.untold = True
    if ended:
        leader.ended(session, effects)
    else:
        effects.append(SetTimer(("tell", session.id), now + leader.config.tell_within))
        leader.next_round(session, now, effects)


# ---------------------------------------------------------------- when things go wrong


def member_gone(leader: Leader, session: Session, key: Key, now: float, effects: list[Effect]) -> None:
    """A member's channel ended; without a majority the clock runs (clause Q-43)."""
    ballot = session.ballot
    assert ballot is not None
    leader.by_voter.pop(key, None)
    had_majority = len(ballot.enlisted) >= ballot.majority
    own = ballot.members[ballot.own].key == key
    ballot.lost(key)
    if own:  # it promises a view once only, so there is no way back into this one (clause Q-15)
        resign(leader, session, _no_quorum(session, "the voter of the leader's own node is gone"), now, effects)
    if had_majority and len(ballot.enlisted) < ballot.majority:
        ballot.since = now


def tick(leader: Leader, session: Session, now: float, effects: list[Effect]) -> None:
    """Every ``vote_patience`` seconds: ask again who owes an answer, resign without a majority (clauses Q-43, Q-44)."""
    ballot = session.ballot
    assert ballot is not None
    patience = leader.config.vote_patience
    for member in ballot.members.values():
        # The own voter is as slow as this node's disk, and could not be enlisted again.
        if member.key is None or member.waiting is None or member.node_id == ballot.own:
            continue
        if now - member.waiting >= patience:
            error = _error(ErrorCode.COMPUTE_FAILED, "Q-44", f"no answer in {patience:g} s")
            effects.append(Refuse(*member.key, error))
            member_gone(leader, session, member.key, now, effects)
    weak = not ballot.adopted or len(ballot.enlisted) < ballot.majority
    if weak and now - ballot.since >= leader.config.resign_after:
        text = (
            f"{len(ballot.enlisted)} of {len(ballot.members)} voters follow view {ballot.view}; "
            f"{ballot.majority} are needed"
        )
        resign(leader, session, _no_quorum(session, text), now, effects)
        return
    ask_members(leader, session, ballot, now, effects)
    effects.append(SetTimer(("commit", session.id), now + min(patience, leader.config.resign_after)))


def resign(leader: Leader, session: Session, error: PeerError, now: float, effects: list[Effect]) -> None:
    """Give up leading a session; its voters look for another leader, its client resumes there."""
    effects.append(Deliver(Note(f"resigned from view {session.view}: {error.text}", session.id)))
    begun = session.opened or session.view > 0
    leader.drop(session, effects, DismissReason.RESIGNED if begun else DismissReason.SESSION_ENDED)
    if session.client is not None:
        effects.append(Refuse(*session.client, error))


def dismiss(leader: Leader, session: Session, reason: DismissReason, effects: list[Effect]) -> None:
    """Let the voters go. One that does not hold the committed end is not told that the session ended (clause Q-37)."""
    ballot = session.ballot
    assert ballot is not None
    for member in ballot.members.values():
        if member.key is None:
            continue
        leader.by_voter.pop(member.key, None)
        lacks_end = session.opened and member.voted < ballot.height
        said = DismissReason.RESIGNED if lacks_end else reason
        effects.append(Send(*member.key, Dismiss(reason=int(said))))


def _no_quorum(session: Session, text: str) -> PeerError:
    return _error(ErrorCode.QUORUM_LOST if session.opened else ErrorCode.QUORUM_UNAVAILABLE, "Q-43", text)


def _error(code: ErrorCode, clause: str, text: str) -> PeerError:
    return PeerError(code, clause, text, scope=Scope.SESSION)
