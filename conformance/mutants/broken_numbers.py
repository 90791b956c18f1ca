"""Mutants of the arithmetic: names, randomness, sampling, verdicts, majorities (SPEC.md, 9, 13, 16, 17)."""

# ruff: noqa: E501 (pieces of source stand as they are)
from __future__ import annotations

from conformance.mutants.kinds import EXEC, Mutant
from conformance.mutants.patching import Patch

FIXED = "dsdproto.sampling.fixed"
COUPLED = "dsdproto.sampling.coupled"
PHILOX = "dsdproto.sampling.philox"
WALK = "dsdproto.sampling.walk"

MUTANTS = (
    Mutant("coupling-rounds-logits", "rounds logits to the nearest instead of down", "S-SAMP-6", EXEC,
           ("fixed/logit-floor-of-negatives", "fixed/logit-floor-of-positives"),
           (Patch(FIXED, "    return math.floor(logit * ONE)\n", "    return math.floor(logit * ONE + 0.5)\n"),)),
    Mutant("coupling-rounds-drops", "rounds the product of difference and factor up", "S-SAMP-7", EXEC,
           ("choice/spread-example",),
           (Patch(FIXED, "return min((difference * factor) >> 32, DROP_MAX)",
                  "return min(-(-difference * factor >> 32), DROP_MAX)"),
            Patch(FIXED, "(np.minimum(differences, reach) * factor) >> 32)",
                  "-(-np.minimum(differences, reach) * factor >> 32))"))),
    Mutant("coupling-noise-in-floats", "computes the noise in floating point", "S-SAMP-5", EXEC,
           ("fixed/noise-drawn", "fixed/noise-table-borders"),
           (Patch(FIXED, "    odd = 2 * word + 1\n    if word",
                  "    odd = 2 * word + 1\n    return round(-math.log2(-math.log2(odd / 2**33)) * ONE)\n    if word"),)),
    Mutant("coupling-ties-to-the-highest", "lets the highest id win among equals", "S-SAMP-3", EXEC,
           ("choice/ties-greedy", "choice/equal-greedy"),
           (Patch(COUPLED, "    return -candidate[0], candidate[1]\n", "    return -candidate[0], -candidate[1]\n"),)),
    Mutant("coupling-top-p-first", "cuts by top-p before top-k", "S-SAMP-7", EXEC,
           ("choice/tiny-top-p-of-top-k",),
           (Patch(COUPLED, "        if p.top_k:\n            del row[p.top_k :]\n", ""),
            Patch(COUPLED, "        scored = []\n", "        if p.top_k:\n            del row[p.top_k :]\n        scored = []\n"))),
    Mutant("coupling-nucleus-too-large", "takes one token more into the nucleus", "S-SAMP-7", EXEC,
           ("choice/equal-least-top-p", "choice/equal-half-of-the-mass"),
           (Patch(COUPLED, "                    del row[kept:]\n", "                    del row[kept + 1 :]\n"),)),
    Mutant("coupling-other-domain", "draws its noise in the domain of the model", "S-RNG-2", "verifier",
           ("verifier/warm",),
           (Patch(PHILOX, "DOMAIN_COUPLED = 1\n", "DOMAIN_COUPLED = 16\n"),)),
    Mutant("philox-half-the-key", "uses the low half of the seed as its key", "S-RNG-2", EXEC,
           ("philox/word-high-half-of-the-seed",),
           (Patch(PHILOX, "key_schedule((seed & MASK32, seed >> 32))", "key_schedule((seed & MASK32, 0))"),)),
    Mutant("seed-of-32-bits", "samples with the low half of the seed", "S-RNG-2", "verifier",
           ("verifier/seeds",),
           (Patch(COUPLED, "        self.seed = seed\n", "        self.seed = seed & 0xFFFF_FFFF\n"),)),
    Mutant("philox-nine-rounds", "does nine rounds of Philox", "S-RNG-1", EXEC, ("philox/zeros", "philox/pi"),
           (Patch(PHILOX, "ROUNDS = 10\n", "ROUNDS = 9\n"),)),
    Mutant("prefix-of-24-bits", "hashes tokens in three bytes, as they are on the wire", "S-PFX-1", EXEC,
           ("prefix/one-token", "prefix/three-tokens"),
           (Patch("dsdproto.prefix", "_pack_token = Struct(\">I\").pack\n",
                  "def _pack_token(token): return (token & 0xFFFFFF).to_bytes(3, \"big\")\n"),)),
    Mutant("prefix-little-endian", "hashes tokens with their low byte first", "S-PFX-1", EXEC,
           ("prefix/three-tokens", "prefix/large-tokens"), (Patch("dsdproto.prefix", "Struct(\">I\")", "Struct(\"<I\")"),)),
    Mutant("walk-one-position", "draws all tokens of a walk at the position of the first", "S-SAMP-12", EXEC,
           ("verdict/chain-all-right",),
           (Patch(WALK, "position + len(committed), ids)", "position, ids)"),)),
    Mutant("walk-through-stop-tokens", "goes on behind a stop token", "S-SAMP-14", "verifier",
           ("verifier/stop-token",),
           (Patch(WALK, "stopped = choice.token in stop\n", "stopped = False\n"),)),
    Mutant("verdict-beyond-the-limit", "goes on behind the last token of the stream", "S-9", "verifier",
           ("verifier/chain-to-the-end",),
           (Patch("dsdproto.roles.verifier", "limit=min(left, max_context - session.chain.position),", "limit=1 << 30,"),)),
    Mutant("margin-of-the-last", "says the margin of the last choice, not the smallest", "S-SAMP-9", "verifier",
           ("verifier/chain-right",),
           (Patch(WALK, "margin = min(margin, choice.margin)", "margin = choice.margin"),)),
    Mutant("majority-of-half", "takes half of the voters for a majority", "Q-34", EXEC,
           ("commit/votes-one-of-three",),
           (Patch("dsdproto.commit.quorum", "    return n // 2 + 1\n", "    return max(1, n // 2)\n"),)),
    Mutant("best-log-is-the-longest", "goes on from the longest log, whatever its view", "Q-31", EXEC,
           ("commit/adopt-longer-log-of-a-lower-view",),
           (Patch("dsdproto.commit.ballot", "key=lambda pair: (pair[1].view, pair[1].height))", "key=lambda pair: pair[1].position)"),)),
    Mutant("turn-by-number", "lets the first of the group lead every later view", "Q-2", EXEC, ("commit/turn-3-1-0",),
           (Patch("dsdproto.commit.quorum", "    return view % n\n", "    return min(view, 0)\n"),)),
)  # fmt: skip
