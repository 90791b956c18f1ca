"""Mutants of a reader of recorded connections: rung 2. Asked over the exec door."""

# ruff: noqa: E501 (pieces of source stand as they are)
from __future__ import annotations

from conformance.mutants.kinds import EXEC, Mutant
from conformance.mutants.patching import Patch

FOLLOWING = "conformance.examples.python.following"
REPLAYING = "conformance.examples.python.replaying"

MUTANTS = (
    Mutant("replay-any-end", "takes an END whatever prefix it names", "S-10", EXEC,
           ("breach/end-with-another-digest", "breach/end-at-another-position"),
           (Patch(FOLLOWING, "if judged and (message.position, message.digest) != (self.position, self.digest):", "if False:"),)),
    Mutant("replay-any-base", "takes a VERIFY whatever base it names", "V-4", EXEC,
           ("breach/verify-below-another-prefix", "breach/verify-at-another-position"),
           (Patch(FOLLOWING, "if (message.position, message.base) != (self.chain.position, self.chain.short):", "if False:"),)),
    Mutant("replay-any-vote", "takes a VOTE for another digest than was proposed", "Q-24", EXEC,
           ("breach/vote-for-another-digest",),
           (Patch(FOLLOWING, "if self.mine and (message.view != self.view or named != message.digest):", "if self.mine and message.view != self.view:"),)),
    Mutant("replay-any-ready", "takes a READY whatever it has negotiated", "C-6", EXEC,
           ("breach/ready-with-another-digest",),
           (Patch(REPLAYING, "if message.negotiated != wanted:", "if False:"),)),
    Mutant("replay-no-credit", "does not count nodes against the credit", "D-6", EXEC,
           ("breach/more-than-the-credit", "breach/credit-used-up"),
           (Patch(FOLLOWING, "if judged and len(self.outstanding) > self.greatest:", "if False:"),)),
)  # fmt: skip
