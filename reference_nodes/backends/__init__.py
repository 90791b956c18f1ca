"""Model backends: what a verifier scores with and what a drafter proposes with. Start at `base`."""
