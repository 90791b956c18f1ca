"""One round of a session: take proposals, choose what to verify, take the verdict (SPEC.md, "Leader").

Functions over a :class:`~dsdproto.roles.leader_session.Session`; they change it and return what follows. Who is told
what is the business of :mod:`dsdproto.roles.leader`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from dsdproto.errors import PeerError
from dsdproto.policy.acceptance import UNSCORED, probability_of
from dsdproto.policy.cost import CostModel
from dsdproto.policy.lag import GIVE_UP
from dsdproto.policy.windows import Arrival, Outlook, Round
from dsdproto.prefix import short_digest
from dsdproto.registry import ErrorCode, Finish, Scope
from dsdproto.roles.leader_session import DrafterSeat, InFlight, Session, VerifierSeat
from dsdproto.roles.verdict_check import check_verdict
from dsdproto.session import check_siblings, check_token_ids, finish_of, parents_field, parents_of
from dsdproto.trie import DraftTrie, Subtree
from dsdproto.wire.messages import Advance, Block, Propose, Verdict, Verify

OVERHEAD_GAIN = 0.2
HELP_GAIN = 0.1

# ---------------------------------------------------------------- proposals


def take_proposal(session: Session, seat: DrafterSeat, message: Propose, max_useless: int, now: float) -> None:
    """Graft a proposal and keep the drafter's books.

    Raises PeerError: PROPOSAL_INVALID, CREDIT_EXCEEDED, or FLOODED after ``max_useless`` messages that brought nothing.
    """
    check_token_ids(message.tokens, session.contract, "PROPOSE.tokens", "D-4")
    parents = parents_of(message.tokens, message.parents)
    check_siblings(message.tokens, parents, "PROPOSE", "D-3")
    scores = (UNSCORED,) * len(message.tokens) if message.scores is None else tuple(message.scores)
    # In a drafter's message the first child of a node is its first choice there.
    firsts, above = [], set()
    for parent in parents:
        firsts.append(parent not in above)
        above.add(parent)
    costs = [seat.acceptance.cost(score, first) for score, first in zip(scores, firsts)]
    result = session.trie.graft(message.position, message.base, message.tokens, parents, seat.entry.number, costs)
    for index, node_id in enumerate(result.nodes):
        if node_id is not None:
            seat.known.setdefault(node_id, (seat.sent + index + 1, scores[index], firsts[index]))
            seat.lag.answered(now)
    seat.sent += len(message.tokens)
    seat.spoke = True
    if len(seat.known) > seat.credit:
        raise PeerError(
            ErrorCode.CREDIT_EXCEEDED, "D-6", f"{len(seat.known)} nodes outstanding, the credit is {seat.credit}"
        )
    seat.useless += not result.added
    if seat.useless > max_useless:
        text = f"{seat.useless} messages since the last ADVANCE brought nothing new"
        raise PeerError(ErrorCode.FLOODED, "D-19", text, scope=Scope.SESSION)


# ---------------------------------------------------------------- asking


@dataclass(frozen=True, slots=True)
class Plan:
    """What to verify, or how long to wait for something better."""

    subtree: Subtree
    wait_until: float | None


def plan_round(session: Session, seat: VerifierSeat, cost: CostModel, trees: bool, now: float) -> Plan:
    """Choose the nodes that give the most tokens per second, and whether waiting for drafts gives more.

    :param trees: the verifier takes trees; otherwise one chain is chosen (clause V-5).
    """
    contract, position = session.contract, session.chain.position
    room = min(len(contract.prompt) + contract.max_tokens, seat.max_context) - position
    subtree = session.trie.best_subtree(seat.max_nodes, max_depth=room)
    if not trees:
        subtree = likeliest_chain(subtree)
    reach = reach_of(session.trie, subtree)
    seconds = cost.curve(1 + len(reach))
    outlook = Outlook(
        reach=reach,
        seconds=seconds,
        overhead=session.overhead,
        price=cost.price,
        crowd=cost.crowd,
        arrivals=_arrivals(session, now),
        drafters=sum([drafter.lag.missed < GIVE_UP for drafter in session.drafters.values()]),
        room=room,
        elapsed=now - session.verified_at,
        rounds=session.rounds,
        waited=session.waited,
    )
    choice = session.window.choose(outlook)
    return Plan(first_nodes(subtree, choice.count), None if choice.wait is None else now + choice.wait)


def _arrivals(session: Session, now: float) -> list[Arrival]:
    """Proposals that may be expected in answer to the last ADVANCE."""
    arrivals = []
    for seat in session.drafters.values():
        remaining = seat.lag.remaining(now)
        if remaining is not None:
            arrivals.append(Arrival(remaining, seat.lag.patience(now), seat.lag.tokens))
    return arrivals


def ask(session: Session, seat: VerifierSeat, subtree: Subtree, now: float) -> Verify:
    """The VERIFY of the next round; the session counts as waiting for its verdict from now on."""
    seat.round += 1
    session.in_flight = InFlight(subtree, now)
    session.trie.pinned = frozenset(subtree.nodes)
    session.verified += len(subtree.tokens)
    return Verify(
        round=seat.round,
        position=subtree.position,
        base=short_digest(subtree.digest),
        tokens=subtree.tokens,
        parents=parents_field(subtree.parents),
    )


def reach_of(trie: DraftTrie, subtree: Subtree) -> list[float]:
    """Estimated probability of each node of ``subtree`` to be on the target's path."""
    reach: list[float] = []
    for node_id, parent in zip(subtree.nodes, subtree.parents):
        node = trie.node(node_id)
        assert node is not None
        above = reach[parent - 1] if parent else 1.0
        reach.append(above * probability_of(node.cost))
    return reach


def first_nodes(subtree: Subtree, count: int) -> Subtree:
    """The likeliest ``count`` nodes; a best-first order can be cut anywhere."""
    return Subtree(
        subtree.position, subtree.digest, subtree.tokens[:count], subtree.parents[:count], subtree.nodes[:count]
    )


def likeliest_chain(subtree: Subtree) -> Subtree:
    """From the base down, always the likeliest child."""
    picked: list[int] = []
    for index, parent in enumerate(subtree.parents):
        if parent == (picked[-1] + 1 if picked else 0):
            picked.append(index)
    tokens = tuple(subtree.tokens[index] for index in picked)
    nodes = tuple(subtree.nodes[index] for index in picked)
    return Subtree(subtree.position, subtree.digest, tokens, tuple(range(len(picked))), nodes)


# ---------------------------------------------------------------- the verdict


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a verdict came to."""

    block: Block
    position: int
    """length of the prefix that the block extends"""
    base: bytes
    """its full digest"""
    along: tuple[int, ...]
    """ids of the trie nodes that lay on the path, from the old root, as far as there were any"""
    finish: Finish | None


def take_verdict(
    session: Session, seat: VerifierSeat, flight: InFlight, verdict: Verdict, cost: CostModel, now: float
) -> Outcome:
    """Check a verdict, learn from it, extend the prefix and re-root the trie. Raises PeerError(VERDICT_INVALID)."""
    subtree = flight.subtree
    path, tokens = check_verdict(session.contract, session.chain, seat.max_context, seat.round, subtree, verdict)
    session.in_flight = None
    session.trie.pinned = frozenset()
    session.waited = False
    session.rounds += 1
    session.accepted += len(path)
    if verdict.compute_us is not None and verdict.rows is not None:
        compute = verdict.compute_us / 1e6
        cost.observe(verdict.rows, compute)
        cost.shared(1 + len(subtree.tokens), verdict.rows, (verdict.queue_us or 0) / 1e6, compute)
        extra = max(0.0, now - flight.since - compute)
        session.overhead += OVERHEAD_GAIN * (extra - session.overhead)
    _observe_round(session, subtree, path, verdict, now)
    observe_trials(session, subtree, path)
    block = _block(session, tokens, [subtree.nodes[number - 1] for number in path])
    base, position, along = session.chain.digest, session.chain.position, nodes_along(session.trie, tokens)
    session.trie.commit(tokens, len(path))
    session.chain.extend(tokens)
    return Outcome(block, position, base, along, finish_of(session.contract, session.chain, seat.max_context))


def _block(session: Session, tokens: tuple[int, ...], path: list[int]) -> Block:
    if not session.origins:
        return Block(position=session.chain.position, tokens=tokens)
    origins = bytearray(len(tokens))
    for index, node_id in enumerate(path):
        node = session.trie.node(node_id)
        assert node is not None  # pinned since it was sent (clause TRIE-7)
        origins[index] = int(node.sources[0])
    fresh = sorted(set(origins) - session.announced - {0})
    session.announced.update(fresh)
    return Block(
        position=session.chain.position,
        tokens=tokens,
        origins=bytes(origins),
        drafters=tuple(session.entries[number] for number in fresh) or None,
    )


def _observe_round(session: Session, subtree: Subtree, path: list[int], verdict: Verdict, now: float) -> None:
    session.pace, session.verified_at = now - session.verified_at, now
    lags = [seat.lag.last for seat in session.drafters.values() if seat.lag.last is not None]
    session.window.observe(
        Round(
            verified=len(subtree.tokens),
            accepted=len(path),
            compute=(verdict.compute_us or 0) / 1e6,
            queue=(verdict.queue_us or 0) / 1e6,
            took=session.pace,
            lag=min(lags, default=None),
        )
    )


def observe_trials(session: Session, subtree: Subtree, path: list[int]) -> None:
    """Feed what a verdict showed to the estimators of those who drafted.

    :param path: numbers of the accepted nodes, root side first.
    """
    visited = {0, *path}
    hits = set(path)
    brought: Counter[int] = Counter()
    took_part: set[int] = set()
    for number, (node_id, parent) in enumerate(zip(subtree.nodes, subtree.parents), start=1):
        for seat in session.drafters.values():
            known = seat.known.get(node_id)
            if known is None:
                continue
            took_part.add(seat.entry.number)
            brought[seat.entry.number] += number in hits
            if parent in visited:
                seat.acceptance.observe(known[1], number in hits, known[2])
    for seat in session.drafters.values():
        tokens = brought[seat.entry.number]
        if seat.entry.number in took_part:
            seat.lag.brought(tokens)
        if seat.spoke or seat.entry.number in took_part:
            seat.rounds += 1
            seat.help += HELP_GAIN * (tokens - seat.help)


def nodes_along(trie: DraftTrie, tokens: tuple[int, ...]) -> tuple[int, ...]:
    """Ids of the trie's nodes along ``tokens`` from the root, as far as there are any."""
    ids: list[int] = []
    children = trie.children(None)
    for token in tokens:
        node = children.get(token)
        if node is None:
            break
        ids.append(node.id)
        children = node.children
    return tuple(ids)


def advance_for(
    seat: DrafterSeat, session: Session, outcome: Outcome, limits: tuple[int, int], now: float
) -> Advance:
    """Tell one drafter about the new prefix without repeating what it proposed itself (clause D-7).

    :param limits: credit and window from here on.
    """
    tokens, along = outcome.block.tokens, outcome.along
    known = [depth for depth, node_id in enumerate(along, start=1) if node_id in seat.known]
    depth = known[-1] if known else 0
    ref = seat.known[along[depth - 1]][0] if depth else 0
    seat.known = {node: entry for node, entry in seat.known.items() if session.trie.node(node) is not None}
    seat.lag.asked(None if seat.known else now)
    seat.useless = 0
    seat.spoke = False
    credit, window = (new if new != old else None for new, old in zip(limits, seat.told))
    seat.told, seat.credit = limits, max(seat.credit, limits[0])
    return Advance(position=session.chain.position, ref=ref, tokens=tokens[depth:], credit=credit, window=window)
