"""Mutants of leaders and voters: rounds, the trie's books, commits (SPEC.md, 11, 14, 16)."""

# ruff: noqa: E501 (pieces of source stand as they are)
from __future__ import annotations

from conformance.mutants.kinds import Mutant
from conformance.mutants.patching import Patch

LEADER = "dsdproto.roles.leader"
ROUNDS = "dsdproto.roles.leader_rounds"
COMMIT = "dsdproto.roles.leader_commit"
WORKERS = "dsdproto.roles.leader_workers"
VERDICTS = "dsdproto.roles.verdict_check"
BALLOT = "dsdproto.commit.ballot"
VOTER = "dsdproto.roles.voter"
LEDGER = "dsdproto.commit.ledger"
READERS = "dsdproto.roles.readers"
VOTES = ("voter",)
LEADS = ("leader",)

MUTANTS = (
    # ---------------------------------------------------------------- leader
    Mutant("leader-commits-drafts", "commits a drafter's token that the target did not choose", "S-17", "leader",
           ("leader/drafter-lying",),
           (Patch(ROUNDS, "    session.in_flight = None\n    session.trie.pinned = frozenset()\n    session.waited = False\n",
                  "    if subtree.tokens and not path and verdict.finish is None:\n        tokens = (subtree.tokens[0],)\n"
                  "    session.in_flight = None\n    session.trie.pinned = frozenset()\n    session.waited = False\n"),)),
    Mutant("leader-any-verdict-digest", "takes a verdict whose digest is wrong", "V-6", "leader", ("leader/verdict-digest",),
           (Patch(VERDICTS, "if short != verdict.digest:", "if False:"),)),
    Mutant("leader-any-finish", "takes a verdict that ends the stream for no reason", "V-6", "leader",
           ("leader/verdict-ends-too-early",),
           (Patch(VERDICTS, "if (None if finish is None else int(finish)) != verdict.finish:", "if False:"),
            Patch(ROUNDS, "finish_of(session.contract, session.chain, seat.max_context))\n",
                  "Finish(verdict.finish) if verdict.finish is not None else None)\n"))),
    Mutant("leader-any-round", "takes a verdict on another round", "V-2", "leader", ("leader/verdict-of-another-round",),
           (Patch(VERDICTS, "if verdict.round != number:", "if False:"),)),
    Mutant("leader-any-token", "takes tokens of a verdict outside the vocabulary", "V-6", "leader", ("leader/verdict-outside",),
           (Patch(VERDICTS, "    check_token_ids(tokens, contract, \"VERDICT\", \"V-6\", ErrorCode.VERDICT_INVALID)\n", ""),)),
    Mutant("leader-ignores-credit", "takes more nodes than a drafter has credit for", "D-6", "leader",
           ("leader/drafter-beyond-credit",),
           (Patch(ROUNDS, "if len(seat.known) > seat.credit:", "if False:"),)),
    Mutant("leader-any-draft", "takes draft tokens outside the vocabulary", "D-4", "leader", ("leader/drafter-token-outside",),
           (Patch(ROUNDS, "    check_token_ids(message.tokens, session.contract, \"PROPOSE.tokens\", \"D-4\")\n", ""),)),
    Mutant("leader-any-siblings", "takes a token twice below one node", "D-3", "leader", ("leader/drafter-sibling-twice",),
           (Patch(ROUNDS, "    check_siblings(message.tokens, parents, \"PROPOSE\", \"D-3\")\n", ""),)),
    Mutant("leader-endless-drafters", "takes useless proposals without end", "D-19", "leader", ("leader/drafter-useless-flood",),
           (Patch(ROUNDS, "if seat.useless > max_useless:", "if False:"),)),
    Mutant("leader-too-many-nodes", "asks for more nodes than the verifier takes", "V-5", "leader", ("leader/max-nodes",),
           (Patch(ROUNDS, "best_subtree(seat.max_nodes, max_depth=room)", "best_subtree(255, max_depth=room)"),)),
    Mutant("leader-trees-always", "sends trees to a verifier without TREES", "C-10", "leader", ("leader/chains-for-the-old",),
           (Patch(ROUNDS, "    if not trees:\n", "    if False:\n"),
            Patch("dsdproto.connection", "if getattr(message, name) is not None and feature not in self._agreed().features:",
                  "if getattr(message, name) is not None and feature not in self._agreed().features and not sender_is_me:"))),
    Mutant("leader-too-many-drafters", "attaches more drafters than the client allows", "ROLE-1", "leader", ("leader/drafters-at-most",),
           (Patch(WORKERS, "if len(session.drafters) >= session.max_drafters or number > MAX_DRAFTER_NUMBER:", "if number > MAX_DRAFTER_NUMBER:"),)),
    Mutant("leader-any-drafter", "attaches drafters of another vocabulary", "S-3", "leader", ("leader/drafter-of-another-vocabulary",),
           (Patch("dsdproto.roles.leader_seats", "if offer.role == Role.DRAFTER and (offer.vocabulary_size, offer.vocabulary_digest) == wanted:",
                  "if offer.role == Role.DRAFTER:"),)),
    Mutant("leader-wrong-reference", "refers drafters to the node before the right one", "D-7", "leader", ("leader/drafter-honest",),
           (Patch(ROUNDS, "ref = seat.known[along[depth - 1]][0] if depth else 0", "ref = max(seat.known[along[depth - 1]][0] - 1, 0) if depth else 0"),)),
    Mutant("leader-forgets-workers", "does not let go of those who worked for a session", "L-13", "leader", ("leader/client-gone",),
           (Patch(WORKERS, "            effects.append(Send(*session.verifier.key, Release()))\n", "            pass\n"),), hopeless=True),
    Mutant("leader-wrong-end", "names the prompt in END", "S-10", "leader", ("leader/solo-greedy",),
           (Patch(LEADER, "return End(finish=int(finish), position=session.chain.position, digest=session.chain.digest, stats=session.stats())",
                  "n = len(session.contract.prompt)\n    return End(finish=int(finish), position=n, digest=session.chain.digest_at(n), stats=session.stats())"),), hopeless=True),
    Mutant("leader-session-twice", "takes a session that is running already", "S-1", "leader", ("leader/open-twice",),
           (Patch(LEADER, "        if message.session in self.sessions:\n            raise", "        if False:\n            raise"),)),
    Mutant("leader-verifier-lost-is-an-end", "ends the stream as complete when its verifier is lost", "E-4", "leader", ("leader/verifier-lost",),
           (Patch(LEADER, "                self.drop(session, effects)\n                effects.append(Refuse(*session.client, error))\n",
                  "                self._end(session, Finish.LENGTH, effects)\n"),)),
    Mutant("leader-other-profile", "goes on with a verifier of another numeric profile", "L-5", "leader", ("leader/verifier-changes-profile",),
           (Patch("dsdproto.roles.leader_seats", "    return (one.model, one.profile) == (other.model, other.profile)\n", "    return one.model == other.model\n"),)),
    Mutant("leader-origins-always", "sends origins to clients that did not ask", "S-18", "leader", ("leader/origins",),
           (Patch(LEADER, "session.origins = bool(message.origins) and Feature", "session.origins = Feature"),), hopeless=True),
    Mutant("leader-block-before-commit", "delivers blocks before anybody has voted", "Q-35", "leader", ("leader/quorum-waits-for-votes",),
           (Patch(COMMIT, "    session.gathered.append(block)\n",
                  "    if session.client is not None:\n        effects.append(Send(*session.client, block))\n"),), VOTES),
    Mutant("leader-own-vote-suffices", "commits with the vote of its own voter alone", "Q-34", "leader", ("leader/quorum-waits-for-votes",),
           (Patch(BALLOT, "reached = reached_by_majority((each.voted for each in self.members.values()), len(self.members))",
                  "reached = max(each.voted for each in self.members.values())"),), VOTES),
    Mutant("leader-any-vote", "counts votes for another digest", "Q-24", "leader", ("leader/quorum-other-digest",),
           (Patch(BALLOT, "if named is not None and named.digest != vote.digest:", "if False:"),), VOTES),
    Mutant("leader-wild-votes", "counts votes for what it never proposed", "Q-24", "leader", ("leader/quorum-wild-vote",),
           (Patch(BALLOT, "if vote.view != self.view or vote.height > member.sent:", "if False:"),), VOTES),
    Mutant("leader-smaller-group", "founds a session with fewer voters than a group has", "Q-3", "leader", ("leader/quorum-too-few",),
           (Patch(COMMIT, "if len(group) < size or 1 + len(here) < majority(size):", "if False:"),), VOTES),
    Mutant("leader-delivers-without-majority", "does not resign when its majority is gone", "Q-43", "leader", ("leader/quorum-lost",),
           (Patch(COMMIT, "if weak and now - ballot.since >= leader.config.resign_after:", "if False:"),), VOTES),
    # ---------------------------------------------------------------- voter
    Mutant("voter-votes-twice", "votes for two blocks at one height of a view", "Q-23", "voter", ("voter/prepare-same-height",),
           (Patch(LEDGER, "if end > self.chain.position or self.chain.digest_at(end) != prepare.digest:", "if False:"),), LEADS),
    Mutant("voter-forgets-promises", "promises an older view than it did before", "Q-13", "voter", ("voter/higher-view",),
           (Patch(VOTER, "if message.view < ledger.promised or (own and message.view == ledger.promised):", "if own and message.view == ledger.promised:"),), LEADS),
    Mutant("voter-deposes-leaders", "promises a higher view while the leader is connected", "Q-14", "voter", ("voter/leader-alive",),
           (Patch(VOTER, "if message.view > ledger.promised and seat.leader is not None:", "if False:"),), LEADS),
    Mutant("voter-any-candidate", "promises a view to a node that does not lead it", "Q-11", "voter", ("voter/enlist-not-the-leader",),
           (Patch(VOTER, "if sender != group[leader_of(message.view, len(group))]:", "if False:"),), LEADS),
    Mutant("voter-any-contract", "takes another contract for a session that it knows", "Q-12", "voter", ("voter/enlist-other-contract", "voter/enlist-other-group"),
           (Patch(VOTER, "if (message.contract, group) != (ledger.contract, ledger.group):", "if False:"),), LEADS),
    Mutant("voter-changes-committed", "replaces what is committed", "Q-22", "voter", ("voter/prepare-changes-committed", "voter/prepare-cuts-committed"),
           (Patch(LEDGER, "        if not same:\n", "        if False:\n"),), LEADS),
    Mutant("voter-any-view", "votes for a block of another view", "Q-21", "voter", ("voter/prepare-other-view",),
           (Patch(LEDGER, "        if prepare.view != self.promised:\n", "        if False:\n"),), LEADS),
    Mutant("voter-any-token", "votes for tokens outside the vocabulary", "Q-25", "voter", ("voter/prepare-outside",),
           (Patch(LEDGER, "if prepare.tokens and max(prepare.tokens) >= self.contract.vocabulary_size:", "if False:"),), LEADS),
    Mutant("voter-any-commit", "takes a COMMIT of what its log does not hold", "Q-39", "voter", ("voter/commit-position",),
           (Patch(LEDGER, "if not held or not self.chain.names(commit.position, commit.digest):", "if not held or commit.position > self.chain.position:"),), LEADS),
    Mutant("voter-forgets-its-log", "reports an empty log to a later leader", "Q-17", "voter", ("voter/promise-again", "voter/higher-view"),
           (Patch(LEDGER, "        return Enlisted(\n            view=self.view,\n            height=self.height,\n", "        return Enlisted(\n            view=0,\n            height=0,\n"),), LEADS),
    Mutant("voter-serves-uncommitted", "serves what is accepted but not committed", "Q-51", "voter", ("voter/resume-uncommitted",),
           (Patch(READERS, "ledger.chain.tokens_from(reader.position)[: ledger.committed - reader.position]", "ledger.chain.tokens_from(reader.position)"),), LEADS),
    Mutant("voter-serves-any-prefix", "serves clients whose prefix is another", "Q-52", "voter", ("voter/resume-other-prefix",),
           (Patch(READERS, "if not ledger.chain.names(reader.position, reader.digest):", "if False:"),), LEADS),
    Mutant("voter-takes-own-log", "takes over with its own log, not the best one", "Q-31", "voter", ("voter/takeover-best-log",),
           (Patch(BALLOT, "        return max(reports, key=lambda pair: (pair[1].view, pair[1].height))[0]\n",
                  "        return next((m for m, _ in reports if m.node_id == self.own), reports[0][0])\n"),), LEADS),
    Mutant("voter-takes-over-alone", "takes over without a majority", "Q-30", "voter", ("voter/takeover-not-alone",),
           (Patch(BALLOT, "return not self.adopted and len(self.enlisted) >= self.majority and self.members[self.own].enlisted",
                  "return not self.adopted and self.members[self.own].enlisted"),
            Patch(BALLOT, "if own.key is None and len(self.enlisted) >= self.majority - 1:", "if own.key is None:")), LEADS),
    Mutant("voter-never-takes-over", "does not miss a leader that is gone", "Q-41", "voter", ("voter/takeover",),
           (Patch(VOTER, "        elif seat.leader is None and not seat.ledger.finished:\n", "        elif False:\n"),), LEADS),
)  # fmt: skip
