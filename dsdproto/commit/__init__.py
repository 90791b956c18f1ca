"""The `quorum` commit profile: arithmetic, the ledger of a session, what is stored (SPEC.md, "Commit plane")."""
