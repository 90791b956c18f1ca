"""One state machine per role; each is ``handle(event, now) -> list[Effect]`` (SPEC.md, "Roles")."""
