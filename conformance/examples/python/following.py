"""What the channels of a transcript mean: streams, drafts, verdicts, votes; and what their receivers refuse."""

from __future__ import annotations

from typing import Any, Protocol

from conformance.examples.python.commits import hello
from dsdproto.effects import LinkDown, LinkUp, Received, Refuse
from dsdproto.errors import PeerError
from dsdproto.prefix import PrefixChain, extend_digest
from dsdproto.registry import CommitProfile, ErrorCode, Scope
from dsdproto.roles.verdict_check import check_verdict
from dsdproto.roles.voter import Voter, VoterConfig
from dsdproto.session import chain_of, check_siblings, check_token_ids, finish_of, parents_of, path_to, tree_depth
from dsdproto.trie import DraftTrie, Subtree, Waste
from dsdproto.wire import messages as m

NEUTRAL = 16
NO_BOUND = 1 << 30


class Context(Protocol):
    """What followers share: the reader."""

    contracts: dict[bytes, m.Contract]
    books: dict[bytes, Books]
    ledgers: Ledgers


def unexpected(clause: str, text: str) -> PeerError:
    return PeerError(ErrorCode.MESSAGE_UNEXPECTED, clause, text, scope=Scope.SESSION)


class Follower:
    """One channel. ``mine``: the recorder opened it, and so plays the role of the opener."""

    plane = ""

    def __init__(self, context: Context, connection: int, channel: int, opening: Any, mine: bool) -> None:
        self.context, self.mine = context, mine
        self.key = (connection, channel)

    def take(self, message: Any, sent: bool) -> None:
        """Raises PeerError if the recorder refuses it."""
        raise NotImplementedError

    @property
    def conclusion(self) -> dict[str, Any]:
        raise NotImplementedError


class Session(Follower):
    plane = "session"

    def __init__(self, context: Context, connection: int, channel: int, opening: Any, mine: bool) -> None:
        super().__init__(context, connection, channel, opening, mine)
        self.session = opening.session
        self.tokens: list[int] = []
        self.finish: int | None = None
        self.resumed = isinstance(opening, m.Resume)
        if isinstance(opening, m.Open):
            context.contracts[opening.session] = opening.contract
            chain = chain_of(opening.contract)
            self.position, self.digest = chain.position, chain.digest
        else:
            self.position, self.digest = opening.position, opening.digest
            if not mine:
                context.ledgers.receive(self.key, opening)

    def take(self, message: Any, sent: bool) -> None:
        contract = self.context.contracts.get(self.session)
        judged = self.mine and not sent
        match message:
            case m.Opened() if judged:
                self.check(message, contract)
            case m.Block():
                if judged and message.position != self.position:
                    raise PeerError(ErrorCode.ADVANCE_INVALID, "S-8", f"position {message.position}")
                if judged and contract is not None:
                    check_token_ids(message.tokens, contract, "BLOCK", "S-8", ErrorCode.ADVANCE_INVALID)
                for token in message.tokens:
                    self.digest = extend_digest(self.digest, token)
                self.position += len(message.tokens)
                self.tokens += message.tokens
            case m.End():
                if judged and (message.position, message.digest) != (self.position, self.digest):
                    raise PeerError(ErrorCode.ADVANCE_INVALID, "S-10", "END names another prefix")
                self.finish = message.finish
                if sent and self.session in self.context.books:
                    self.context.books[self.session].trie.close()

    def check(self, opened: m.Opened, contract: m.Contract | None) -> None:
        if opened.position != self.position:
            raise PeerError(ErrorCode.PREFIX_UNKNOWN, "S-7", f"OPENED at {opened.position}")
        quorum = self.resumed if contract is None else contract.commit_profile == CommitProfile.QUORUM
        if (opened.group is not None) != quorum:
            raise PeerError(ErrorCode.MESSAGE_INVALID, "Q-1", "group under quorum, and only there", scope=Scope.SESSION)
        if contract is not None:
            check_answer(contract, opened.model, opened.profile)

    @property
    def conclusion(self) -> dict[str, Any]:
        out = {"position": self.position, "digest": self.digest.hex(), "tokens": self.tokens}
        return out if self.finish is None else {**out, "finish": self.finish}


def check_answer(contract: m.Contract, model: str, profile: bytes) -> None:
    if contract.model not in ("", model):
        raise PeerError(ErrorCode.MODEL_UNAVAILABLE, "S-14", f"model {model!r}")
    if contract.profile not in (None, profile):
        raise PeerError(ErrorCode.PROFILE_MISMATCH, "S-14", "another profile")


class Draft(Follower):
    plane = "draft"

    def __init__(self, context: Context, connection: int, channel: int, opening: Any, mine: bool) -> None:
        super().__init__(context, connection, channel, opening, mine)
        self.contract, self.session = opening.contract, opening.session
        chain = chain_of(opening.contract, opening.committed)
        self.prefix, self.digest = chain.tokens, chain.digest
        self.names = {(n, chain.short_at(n)): (chain.tokens[:n], chain.digest_at(n)) for n in range(len(chain) + 1)}
        """prefixes that a base may name: tokens and full digest"""
        self.nodes: dict[int, tuple[int, ...]] = {}
        self.credit = self.greatest = opening.credit

    @property
    def outstanding(self) -> list[int]:
        """Numbers of the nodes below the announced prefix (clause D-6)."""
        end = len(self.prefix)
        return [number for number, path in self.nodes.items() if len(path) > end and path[:end] == self.prefix]

    def take(self, message: Any, sent: bool) -> None:
        match message:
            case m.Propose():
                self.propose(message, self.mine and not sent)
            case m.Advance():
                self.advance(message, not self.mine and not sent)

    def propose(self, message: m.Propose, judged: bool) -> None:
        parents = parents_of(message.tokens, message.parents)
        if judged:
            check_token_ids(message.tokens, self.contract, "PROPOSE", "D-4")
            check_siblings(message.tokens, parents, "PROPOSE", "D-3")
        known = self.names.get((message.position, message.base))
        places = [known]
        count = len(self.nodes)
        for number, (token, parent) in enumerate(zip(message.tokens, parents, strict=True), count + 1):
            place = places[parent]
            if place is not None:
                path, digest = (*place[0], token), extend_digest(place[1], token)
                place = path, digest
                self.names[len(path), digest[:16]] = place
            places.append(place)
            self.nodes[number] = () if place is None else place[0]
        if judged and len(self.outstanding) > self.greatest:
            raise PeerError(ErrorCode.CREDIT_EXCEEDED, "D-6", f"{len(self.outstanding)} nodes outstanding")
        if self.mine and self.session in self.context.books:
            scores = message.scores or bytes([NEUTRAL]) * len(message.tokens)
            trie = self.context.books[self.session].trie
            trie.graft(message.position, message.base, message.tokens, parents, str(self.key), scores)

    def advance(self, message: m.Advance, judged: bool) -> None:
        if judged:
            check_token_ids(message.tokens, self.contract, "ADVANCE", "D-7", ErrorCode.ADVANCE_INVALID)
            if message.ref and message.ref not in self.outstanding:
                raise PeerError(ErrorCode.ADVANCE_INVALID, "D-7", f"ref {message.ref}")
        path = (self.nodes[message.ref] if message.ref else self.prefix) + message.tokens
        if judged and message.position != len(path):
            raise PeerError(ErrorCode.ADVANCE_INVALID, "D-7", f"position {message.position}, not {len(path)}")
        for token in path[len(self.prefix) :]:
            self.digest = extend_digest(self.digest, token)
            self.prefix = (*self.prefix, token)
            self.names[len(self.prefix), self.digest[:16]] = self.prefix, self.digest
        if message.credit is not None:
            self.credit = message.credit
            self.greatest = max(self.greatest, message.credit)

    @property
    def conclusion(self) -> dict[str, Any]:
        first = {"position": len(self.prefix), "digest": self.digest.hex(), "drafted": len(self.nodes)}
        return first | {"outstanding": len(self.outstanding), "credit": self.credit}


class Books:
    """The trie of a session that the recorder leads."""

    def __init__(self, session: bytes, chain: PrefixChain) -> None:
        self.session = session
        self.trie = DraftTrie(
            chain.position, chain.digest, max_nodes=NO_BOUND, max_ahead=NO_BOUND, max_parked=0, history=NO_BOUND
        )

    @property
    def conclusion(self) -> dict[str, Any]:
        trie = self.trie
        waste = [sum(n for (_, cause), n in trie.waste.items() if cause is each) for each in Waste]
        first = {"session": self.session.hex(), "drafted": trie.drafted.total(), "accepted": trie.accepted.total()}
        return first | {"waste": waste, "live": len(trie)}


class Verify(Follower):
    plane = "verify"

    def __init__(self, context: Context, connection: int, channel: int, opening: Any, mine: bool) -> None:
        super().__init__(context, connection, channel, opening, mine)
        self.contract, self.session = opening.contract, opening.session
        self.chain = chain_of(opening.contract, opening.committed)
        self.bounds: m.Assigned | None = None
        self.pending: m.Verify | None = None
        self.verdicts = 0
        self.ended = False
        if mine and self.session not in context.books:
            context.books[self.session] = Books(self.session, self.chain)

    def take(self, message: Any, sent: bool) -> None:
        match message:
            case m.Assigned():
                self.bounds = message
                if self.mine and not sent:
                    check_answer(self.contract, message.model, message.profile)
            case m.Verify():
                if not self.mine and not sent:
                    self.check(message)
                self.pending = message
            case m.Verdict():
                self.verdict(message, self.mine and not sent)

    def check(self, message: m.Verify) -> None:
        """Clauses V-2 to V-5."""
        bounds = self.bounds
        if self.pending is not None:
            raise PeerError(ErrorCode.OVERLOADED, "V-3", "a VERIFY is waiting")
        if self.ended or bounds is None:
            raise unexpected("V-3", "VERIFY after the end, or before ASSIGNED")
        if message.round != self.verdicts + 1:
            raise PeerError(ErrorCode.MESSAGE_INVALID, "V-2", f"round {message.round}", scope=Scope.SESSION)
        if (message.position, message.base) != (self.chain.position, self.chain.short):
            raise PeerError(ErrorCode.PREFIX_UNKNOWN, "V-4", "another base")
        check_token_ids(message.tokens, self.contract, "VERIFY", "V-5")
        check_siblings(message.tokens, parents_of(message.tokens, message.parents), "VERIFY", "V-5")
        reach = message.position + tree_depth(message.tokens, message.parents)
        if len(message.tokens) > bounds.max_nodes or reach > bounds.max_context:
            raise PeerError(ErrorCode.PROPOSAL_INVALID, "V-5", "too large a tree")

    def verdict(self, message: m.Verdict, judged: bool) -> None:
        asked, bounds = self.pending, self.bounds
        if asked is None or bounds is None:
            raise unexpected("V-1", "VERDICT without VERIFY")
        parents = parents_of(asked.tokens, asked.parents)
        if judged:
            tree = Subtree(self.chain.position, self.chain.digest, asked.tokens, parents, ())
            check_verdict(self.contract, self.chain, bounds.max_context, asked.round, tree, message)
        path = path_to(message.accepted, parents)
        tokens = [asked.tokens[node - 1] for node in path] + ([] if message.token is None else [message.token])
        self.chain.extend(tokens)
        self.pending = None
        self.verdicts += 1
        self.ended = finish_of(self.contract, self.chain, bounds.max_context) is not None
        if self.mine:
            self.context.books[self.session].trie.commit(tokens, len(path))

    @property
    def conclusion(self) -> dict[str, Any]:
        first = {"position": self.chain.position, "digest": self.chain.digest.hex()}
        return first | {"verdicts": self.verdicts, "waiting": self.pending is not None}


class Ledgers:
    """The recorder as a voter, for what it refuses; silent where it leads, since its voter hears its own leader."""

    def __init__(self, recorder: bytes) -> None:
        self.machine = Voter(VoterConfig(), recorder)
        self.leads = False
        self.links: set[int] = set()

    def receive(self, key: tuple[int, int], message: Any, peer: bytes | None = None) -> None:
        """Raises PeerError if the voter refuses the message."""
        if self.leads:
            return
        if peer is not None and key[0] not in self.links:
            self.links.add(key[0])
            self.machine.handle(LinkUp(key[0], hello(peer), frozenset(), False), 0.0)
        for effect in self.machine.handle(Received(*key, message), 0.0):
            if isinstance(effect, Refuse) and (effect.link, effect.channel) == key:
                raise effect.error

    def lost(self, connection: int) -> None:
        self.links.discard(connection)
        self.machine.handle(LinkDown(connection, "lost"), 0.0)


class Commits(Follower):
    plane = "commit"

    def __init__(self, context: Context, connection: int, channel: int, opening: Any, mine: bool) -> None:
        super().__init__(context, connection, channel, opening, mine)
        self.view, self.committed, self.voted = opening.view, 0, 0
        self.prepared: dict[int, bytes] = {}
        if mine:
            context.ledgers.leads = True
        else:
            context.ledgers.receive(self.key, opening, context.ends[connection].peer_id)  # type: ignore[attr-defined]

    def take(self, message: Any, sent: bool) -> None:
        if not self.mine and not sent:
            self.context.ledgers.receive(self.key, message)
        match message:
            case m.Prepare():
                self.prepared[message.height] = message.digest
            case m.Vote():
                named = self.prepared.get(message.height)
                if self.mine and (message.view != self.view or named != message.digest):
                    raise PeerError(ErrorCode.LEDGER_MISMATCH, "Q-24", "a VOTE for what was not sent")
                self.voted = message.height
            case m.Commit():
                self.committed = message.position

    @property
    def conclusion(self) -> dict[str, Any]:
        return {"view": self.view, "committed": self.committed, "voted": self.voted}
