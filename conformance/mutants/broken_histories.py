"""Mutants that break what a stream promises when nodes and links are lost: rung 4. Several nodes behind the exec door."""

# ruff: noqa: E501 (pieces of source stand as they are)
from __future__ import annotations

from conformance.mutants.kinds import CHAOS, Mutant
from conformance.mutants.patching import Patch

LEADER = "dsdproto.roles.leader"
READERS = "dsdproto.roles.readers"

MUTANTS = (
    Mutant("chaos-forgets-votes", "has forgotten its votes when it comes back", "Q-61", CHAOS, ("chaos/votes-survive",),
           (Patch("dsdproto.roles.voter", "                    seat.ledger.replay_accepted(record)", "                    pass"),)),
    Mutant("chaos-majority-of-one", "takes one vote for a majority", "Q-34", CHAOS, ("chaos/minority-waits",),
           (Patch("dsdproto.commit.quorum", "return ordered[majority(n) - 1] if len(ordered) >= majority(n) else 0",
                  "return ordered[0] if ordered else 0"),)),
    Mutant("chaos-delivers-uncommitted", "delivers blocks before anybody has voted", "Q-34", CHAOS, ("chaos/minority-waits",),
           (Patch("dsdproto.roles.leader_commit", "    session.gathered.append(block)\n",
                  "    if session.client is not None:\n        effects.append(Send(*session.client, block))\n"),)),
    Mutant("chaos-resumes-too-early", "goes on before the place that RESUME names", "Q-50", CHAOS, ("chaos/client-wanders",),
           (Patch(READERS, "            reader.digest = None\n", "            reader.digest = None\n            reader.position -= 1\n"),)),
    Mutant("chaos-refuses-resume", "refuses clients that resume, as if they had read another stream", "Q-50", CHAOS, ("chaos/client-stays-away",),
           (Patch(READERS, "if not ledger.chain.names(reader.position, reader.digest):", "if True:"),)),
    Mutant("chaos-any-model", "goes on with a verifier of another model", "L-5", CHAOS, ("chaos/verifier-of-another-model",),
           (Patch("dsdproto.roles.leader_seats", "    return began.model == answers.model if any_profile else same_target(began, answers)\n", "    return True\n"),
            Patch("dsdproto.roles.leader_seats", "    return (one.model, one.profile) == (other.model, other.profile)\n", "    return True\n"),
            Patch("dsdproto.roles.leader_workers", "model=session.answers.model if session.answers else None,", "model=None,"))),
    Mutant("chaos-loss-is-an-end", "ends the stream as complete when its verifier is killed", "E-4", CHAOS, ("chaos/verifier-gone",),
           (Patch(LEADER, "                self.drop(session, effects)\n                effects.append(Refuse(*session.client, error))\n",
                  "                self._end(session, Finish.LENGTH, effects)\n"),)),
)  # fmt: skip
