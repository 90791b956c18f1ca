"""The exec door: a testee that is a subprocess and answers eight verbs (`verbs.schema.json`, IMPLEMENTERS.md)."""

from __future__ import annotations

import contextlib
import shlex
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import trio

from conformance.case import Case, Rung
from conformance.door.dial import Dial
from conformance.door.pki import Authority, key_pem, pem
from conformance.door.process import Answer, DoorBroken, Process, Refusal
from conformance.testee import About
from conformance.trial import STEP_SECONDS, Trial
from conformance.verdict import DOOR, Conclusion, Failed, Unsupported
from dsdproto.errors import LocalError
from dsdproto.registry import Role

DOOR_VERSION = 1
START_SECONDS = 20.0
"""For the first answer of a fresh testee: interpreters and compilers take their time."""
SHOWN_STDERR = 12
TARGET = "tm-1:v=4096,s=7"
DRAFT = f"{TARGET},a=52429,d=1"
PEERS = "peers"
"""What a case needs in which the testee dials: `start` tells it where the suite may listen."""
PLACES = 4
TOGETHER = {Role.LEADER: (Role.LEADER, Role.VOTER), Role.VOTER: (Role.LEADER, Role.VOTER)}
"""Roles that are started together, as far as the testee has them: a leader of `quorum` needs a voter (clause Q-3)."""

__all__ = ["Answer", "ExecDoor", "ExecTestee", "Refusal"]


def free_places(count: int) -> tuple[tuple[str, int], ...]:
    """Addresses of this machine at which nobody listens now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return tuple(each.getsockname() for each in sockets)


class ExecTestee:
    """What a case of rung 1 or 2 is given."""

    def __init__(self, process: Process, trial: Trial, seconds: float = STEP_SECONDS) -> None:
        self.process = process
        self.trial = trial
        self._seconds = seconds

    def ask(self, verb: str, **parameters: Any) -> Answer:
        """One request. The answer has ``ok`` or ``refusal``.

        Raises Failed when the testee ended, kept silent or broke the rules of the door; Unsupported when it says so.
        """
        starts, fresh = self.process.starts, not self.process.running
        try:
            answer = self.process.ask({"verb": verb, **parameters}, self.seconds(fresh), self.trial.wire)
        except DoorBroken as error:
            for line in list(self.process.stderr)[-SHOWN_STDERR:]:
                self.trial.note(f"stderr: {line}")
            raise Failed(DOOR, str(error), "an answer", "none") from error
        if self.process.starts > starts and starts:
            self.trial.note("the testee was started anew")
        if answer.unsupported is not None:
            raise Unsupported(answer.unsupported or f"{verb}: no reason given")
        if answer.refusal is not None and answer.refusal.layer == "internal":
            for line in list(self.process.stderr)[-SHOWN_STDERR:]:
                self.trial.note(f"stderr: {line}")
            raise Failed(DOOR, f"{verb}: the testee failed: {answer.refusal.text}", "an answer", str(answer.refusal))
        return answer

    def seconds(self, fresh: bool = False) -> float:
        """How long an answer may take."""
        return self.trial.seconds(max(self._seconds, START_SECONDS) if fresh else self._seconds)

    def happy_path(self) -> None:
        """Raises Failed unless a PING is still decoded."""
        answer = self.ask("decode", layer="message", bytes="0000030600000000a10107")
        wanted = {"message": {"type": "PING", "channel": 0, "fields": {"sequence": 7}}}
        if answer.ok != wanted:
            raise Failed("E-3", "after a refusal a good message is not decoded any more", wanted, answer)


class ExecDoor:
    """A testee for the length of a run. ``with ExecDoor("node testee.js") as door``.

    :param command: what to run, as a shell would split it, or its parts.
    :param seconds: how long one answer may take, before patience.
    """

    def __init__(self, command: str | list[str], seconds: float = STEP_SECONDS, cwd: str | None = None) -> None:
        self.command = shlex.split(command) if isinstance(command, str) else list(command)
        if not self.command:
            raise LocalError("--exec needs a command, for example --exec 'python testee.py'")
        self.process = Process(self.command, cwd)
        self.seconds = seconds
        self._about: About | None = None
        self._authority: Authority | None = None
        self._starting = trio.Lock()
        self._processes: Any = None
        """of rung 4"""
        self._sites: dict[Role, tuple[int, Any]] = {}
        """nodes that run: how often the testee had been started then, and where they are"""

    def about(self) -> About:
        """Asks the testee to describe itself, once. Raises LocalError with what to do when it does not."""
        if self._about is None:
            try:
                answer = self.process.ask({"verb": "describe"}, START_SECONDS)
            except DoorBroken as error:
                said = "".join(f"\n  {line}" for line in list(self.process.stderr)[-SHOWN_STDERR:])
                raise LocalError(f"{shlex.join(self.command)}: {error}{said}") from error
            self._about = self._described(answer)
        return self._about

    def _described(self, answer: Answer) -> About:
        said = answer.ok
        if said is None:
            raise LocalError(f"{shlex.join(self.command)} does not answer `describe`: {answer.refusal or answer}")
        if said.get("door") != DOOR_VERSION or said.get("spec") != 1:
            raise LocalError(
                f"{shlex.join(self.command)} speaks door {said.get('door')!r} of specification {said.get('spec')!r}; "
                f"this suite speaks door {DOOR_VERSION} of specification 1"
            )
        roles, supports = said.get("roles", []), said.get("supports", [])
        if not all(
            isinstance(names, list) and all(isinstance(name, str) for name in names) for names in (roles, supports)
        ):
            raise LocalError(f"{shlex.join(self.command)}: `roles` and `supports` of describe are lists of names")
        return About(
            name=str(said.get("name", "?")),
            version=str(said.get("version", "?")),
            door=f"--exec {shlex.quote(shlex.join(self.command))}",
            roles=tuple(roles),
            supports=tuple(supports),
        )

    def lacks(self, case: Case) -> Conclusion | None:
        """Why a case cannot be asked of this testee; None: it can."""
        about = self.about()
        needs = list(case.needs)
        if case.rung >= Rung.LIVE:
            needs.append("start")
            if case.role is not None and case.role.name.lower() not in about.roles:
                return Unsupported(f"it has no {case.role.name.lower()} role")
        # Names in capitals are features of the protocol: HELLO says whether it has those.
        missing = [name for name in needs if not name.isupper() and name not in (*about.supports, PEERS)]
        return Unsupported(f"it does not support {', '.join(missing)}") if missing else None

    @contextmanager
    def trial(self, trial: Trial) -> Iterator[ExecTestee]:
        yield ExecTestee(self.process, trial, self.seconds)

    @asynccontextmanager
    async def live_trial(self, trial: Trial) -> AsyncIterator[Any]:
        """Rung 3: the testee starts a node of that role, once a run, and the suite dials it. Rung 4: it starts as many
        as the case asks for, in processes of their own."""
        if trial.case.rung is Rung.CHAOS:
            from conformance.chaos.town import chaos_trial

            async with chaos_trial(trial, self._pool()) as town:
                yield town
            return
        from conformance.live.testee import live_trial

        assert trial.case.role is not None
        async with live_trial(trial, await self._site_of(trial.case.role)) as testee:
            yield testee

    def _pool(self) -> Any:
        from conformance.chaos.pool import Pool

        if self._processes is None:
            self._processes = Pool(self.command, self.process.cwd, self.about())
        return self._processes

    async def _site_of(self, role: Role) -> Any:
        """Where the node of that role is. Raises Failed if it does not start."""
        from conformance.live.testee import Site, ask

        async with self._starting:
            starts, site = self._sites.get(role, (0, None))
            if site is not None and self.process.running and self.process.starts == starts:
                return site
            listen = free_places(PLACES)
            answer = await trio.to_thread.run_sync(self._start, role, listen)
            assert self._authority is not None
            dial = Dial.at(answer["address"], self._authority)
            site = Site(dial, await ask(dial), listen=listen)
            self._sites[role] = self.process.starts, site
            return site

    def _start(self, role: Role, listen: tuple[tuple[str, int], ...]) -> dict[str, Any]:
        if self._authority is None:
            self._authority = Authority.new()
        names = self.about().roles
        roles = [each for each in TOGETHER.get(role, (role,)) if each.name.lower() in names]
        identity = self._authority.identity(f"testee-{role.name.lower()}")
        request = {
            "verb": "start",
            "roles": [each.name.lower() for each in roles],
            "listen": True,
            "peers": [f"{host}:{port}" for host, port in listen],
            "identity": {
                "certificate": pem(identity.chain[0]).decode(),
                "key": key_pem(identity.key).decode(),
                "authority": pem(self._authority.certificate).decode(),
            },
            "config": {"target": TARGET, "draft": DRAFT},
        }
        try:
            answer = self.process.ask(request, START_SECONDS)
        except DoorBroken as error:
            raise Failed(DOOR, f"start of a {role.name.lower()}: {error}", "an address", "none") from error
        if answer.unsupported is not None:
            raise Unsupported(answer.unsupported)
        if answer.ok is None or not isinstance(answer.ok.get("address"), str):
            said = answer.ok if answer.refusal is None else f"{answer.refusal} {answer.refusal.text}"
            raise Failed(DOOR, f"start of a {role.name.lower()} gave no address", "an address", said)
        return answer.ok

    def __enter__(self) -> ExecDoor:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.close()
        if self._processes is not None:
            self._processes.close()
