"""Runs one :class:`~dsdproto.node.NodeMachine`: one core task owns it, feeds it events, performs effects in order.

::

    links' readers --+                       +--> links (queued, never waited for)
    worker threads --+--> mailbox --> core --+--> worker threads, one per role
    application    --+    (bounded)   task   +--> journal
    timers ------------------------->        +--> application

The core task waits for nobody but its mailbox. What a peer does wrong was turned into effects before it got here, so an
exception in a machine is a bug of ours: it is logged with what led to it and ends the node, loudly.
"""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import trio

from dsdproto.effects import (
    CancelTimer,
    CloseLink,
    Compute,
    Computed,
    Deliver,
    Effect,
    Event,
    LinkDown,
    LinkUp,
    Persist,
    Received,
    Refuse,
    Send,
    SetTimer,
    TimerFired,
)
from dsdproto.errors import DsdpError, PeerError
from dsdproto.node import NodeMachine
from dsdproto.registry import Role
from reference_nodes.actor import BURST, MAILBOX, Actor
from reference_nodes.executors import Executor
from reference_nodes.journal import Journal, MemoryJournal

log = logging.getLogger("dsdp.host")


MAX_UNSTORED = 4096
"""Records that may wait for a journal: 16 blocks each of 256 sessions."""


class HostFailed(Exception):
    """A bug in a role machine, or a journal that cannot store: the node cannot go on. ``__cause__`` says why."""


class Port(Protocol):
    """The near end of a link, as the core task uses it. All of them return at once and raise for bugs alone."""

    def send(self, channel: int, message: Any) -> None: ...

    def refuse(self, channel: int, error: PeerError) -> None: ...

    def close(self, reason: str) -> None: ...

    def flush(self) -> None:
        """Send what is queued; only called on a port that asked for it (:meth:`Host.gather`)."""
        ...


@dataclass(slots=True)
class _Call:
    function: Callable[[NodeMachine, float], list[Effect]]
    done: trio.Event = field(default_factory=trio.Event)
    error: DsdpError | None = None


@dataclass(frozen=True, slots=True)
class _Stored:
    effect: Persist


class Host:
    """The driver of one node's machines.

    :param executors: who runs the Compute effects of each role.
    :param journals: who stores the records of a role, where that is not ``journal``.
    :param deliver: takes each Deliver item, in the core task: it must return at once.
    """

    def __init__(
        self,
        machine: NodeMachine,
        executors: Mapping[Role, Executor] | None = None,
        journal: Journal | None = None,
        deliver: Callable[[Any], None] | None = None,
        *,
        journals: Mapping[Role, Journal] | None = None,
        mailbox: int = MAILBOX,
    ) -> None:
        self.machine = machine
        self.executors = dict(executors or {})
        self.journal = journal or MemoryJournal()
        self.journals = dict(journals or {})
        self.links: dict[int, Port] = {}
        self.messages = 0
        """taken from links so far"""
        self._deliver = deliver or _log_item
        self._actor = Actor[Event | _Call | _Stored](self._take, self._fire, mailbox)
        self._gathered: list[Port] | None = None
        """ports with something to send, while a burst is handled outside the core task"""
        self._jobs: dict[Role, deque[Compute]] = {}
        """by role, what runs in a thread (the first one) and what waits for that"""
        self._unstored: list[Persist] = []
        """what waits until the journal has written the rest"""
        self._written = trio.Event()
        self._written.set()
        self._nursery: trio.Nursery | None = None
        self._failure: HostFailed | None = None

    @property
    def waiting(self) -> int:
        """Events in the mailbox."""
        return self._actor.waiting

    # ------------------------------------------------------------ from other tasks

    async def post(self, event: Event) -> None:
        """Hand an event to the core task; waits while the mailbox is full.

        Raises :class:`trio.BrokenResourceError` when the core task has ended.
        """
        await self._actor.put(event)

    def take(self, events: deque[Event]) -> bool:
        """Handle events from the front right here, while the core task has nothing else to do; at most one burst.

        What they cause has left when this returns, in one record per link, as far as that takes no waiting. Events of
        links themselves and of channel 0 are left. Returns whether there were others that could be handled.
        """
        taken = 0
        with self._together():
            while events and taken < BURST and _of_sessions(events[0]) and self._actor.take(events[0]):
                events.popleft()
                taken += 1
        return taken > 0

    @contextlib.contextmanager
    def _together(self) -> Iterator[None]:
        """What is sent within leaves at its end."""
        self._gathered = gathered = []
        try:
            yield
        finally:
            self._gathered = None
            for port in gathered:
                port.flush()

    def gather(self, port: Port) -> bool:
        """``port`` has something to send: whether it will be flushed when the burst ends, with what comes till then."""
        if self._gathered is None:
            return False
        if port not in self._gathered:
            self._gathered.append(port)
        return True

    async def link_up(self, port: Port, event: LinkUp) -> None:
        """A link is ready: the machines may send on it from now on."""
        self.links[event.link] = port
        await self.post(event)

    async def call(self, function: Callable[[NodeMachine, float], list[Effect]]) -> None:
        """Run ``function(machine, now)`` in the core task and perform the effects that it returns.

        Raises the :class:`DsdpError` that the function raises.
        """
        call = _Call(function)
        await self._actor.put(call)
        await call.done.wait()
        if call.error is not None:
            raise call.error

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """The core task with its helpers. Ends only by cancellation or with :class:`HostFailed`."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                self._perform(self.machine.start(trio.current_time()))
                task_status.started()
                await self._actor.run()
            except Exception as error:
                self._fail(error)
            finally:
                self._jobs.clear()
                self._unstored.clear()
                # Whoever closes the journal after us must not do so under the writer's hands.
                with trio.CancelScope(shield=True):
                    await self._written.wait()
        if self._failure is not None:
            raise self._failure

    def _fail(self, error: Exception) -> None:
        """End the host. Failures go this way so that a caller sees one exception, never a group."""
        if not isinstance(error, HostFailed):
            log.critical("the core task cannot go on", exc_info=error)
            failed = HostFailed(f"{type(error).__name__}: {error}")
            failed.__cause__ = error
            error = failed
        self._failure = self._failure or error
        assert self._nursery is not None
        self._nursery.cancel_scope.cancel()

    # ------------------------------------------------------------ the core task

    def _take(self, item: Event | _Call | _Stored) -> None:
        now = trio.current_time()
        match item:
            case _Call(function=function):
                try:
                    effects = function(self.machine, now)
                except DsdpError as error:
                    item.error = error
                    effects = []
                self._perform(effects)
                item.done.set()
            case _Stored(effect):
                self._perform(self.machine.persisted(effect, now))
            case _:
                self._perform(self._handle(item, now))

    def _fire(self, key: Any) -> None:
        self._perform(self._handle(TimerFired(key), trio.current_time()))

    def _handle(self, event: Event, now: float) -> list[Effect]:
        if isinstance(event, LinkDown):
            self.links.pop(event.link, None)
        self.messages += isinstance(event, Received)
        try:
            return self.machine.handle(event, now)
        except PeerError as error:
            # Machines refuse by effect; one that raised instead still means the peer, and the peer alone.
            if isinstance(event, Received):
                return [Refuse(event.link, event.channel, error)]
            raise _bug(event, error) from error
        except Exception as error:
            raise _bug(event, error) from error

    def _perform(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(link, channel, message):
                    if (port := self.links.get(link)) is not None:
                        port.send(channel, message)
                case Refuse(link, channel, error):
                    log.info("link %d channel %d refused: %s", link, channel, error)
                    if (port := self.links.get(link)) is not None:
                        port.refuse(channel, error)
                case CloseLink(link, reason):
                    if (port := self.links.get(link)) is not None:
                        port.close(reason)
                case SetTimer(key, at):
                    self._actor.timers.set(key, at)
                case CancelTimer(key):
                    self._actor.timers.cancel(key)
                case Compute():
                    self._compute(effect)
                case Persist():
                    self._persist(effect)
                case Deliver(item):
                    self._deliver(item)

    # ------------------------------------------------------------ helpers of the core task

    def _persist(self, effect: Persist) -> None:
        journal = self._journal_of(effect)
        if journal.immediate:
            journal.append([effect.record])
            self._perform(self.machine.persisted(effect, trio.current_time()))
            return
        if len(self._unstored) >= MAX_UNSTORED:
            waiting = len(self._unstored)
            raise HostFailed(f"{waiting} records wait for the journal, the limit: storage is too slow")
        self._unstored.append(effect)
        if self._written.is_set():
            self._store()

    def _journal_of(self, effect: Persist) -> Journal:
        role, _ = effect.record
        return self.journals.get(role, self.journal)

    def _store(self) -> None:
        """Write what waits, in a thread; whatever comes meanwhile is stored together after it: one sync for many."""
        effects, self._unstored = self._unstored, []
        parts: dict[Role, list[Any]] = {}
        for effect in effects:
            parts.setdefault(effect.record[0], []).append(effect.record)
        self._written = trio.Event()
        token = trio.lowlevel.current_trio_token()

        def write() -> Exception | None:
            try:
                for role, records in parts.items():
                    self.journals.get(role, self.journal).append(records)
            except Exception as error:
                return error
            return None

        def hand_back(done: Any) -> None:
            with contextlib.suppress(trio.RunFinishedError):
                token.run_sync_soon(self._store_ended, effects, done.unwrap())

        # As for jobs: Trio's own way into threads costs twice as much, and each block of a stream waits for this.
        trio.lowlevel.start_thread_soon(write, hand_back)

    def _store_ended(self, effects: list[Persist], error: Exception | None) -> None:
        self._written.set()
        if error is not None:
            self._fail(error)
            return
        if self._unstored:
            self._store()
        with self._together(), contextlib.suppress(trio.BrokenResourceError):
            for effect in effects:
                if not self._actor.take(_Stored(effect)):
                    self._actor.put_own(_Stored(effect))

    def _compute(self, effect: Compute) -> None:
        role, _ = effect.job
        executor = self.executors.get(role)
        if executor is None:
            self._actor.put_own(Computed(effect.job, error=f"this node has no executor for {role.name.lower()} work"))
        elif executor.inline:
            self._actor.put_own(_run(executor, effect))
        else:
            jobs = self._jobs.setdefault(role, deque())
            jobs.append(effect)
            if len(jobs) == 1:
                self._start_job(role)

    def _start_job(self, role: Role) -> None:
        """Trio's own way into threads takes two tasks more, a limiter and a cancel scope: 70 us, on every round's path.
        Jobs need none of these: they run one at a time, and one that is under way when the host ends is abandoned.
        """
        executor, effect = self.executors[role], self._jobs[role][0]
        token = trio.lowlevel.current_trio_token()

        def job() -> Computed:
            try:
                return _run(executor, effect)
            except BaseException as error:
                return Computed(effect.job, error=f"the thread was ended by {type(error).__name__}: {error}")

        def hand_back(done: Any) -> None:
            with contextlib.suppress(trio.RunFinishedError):
                token.run_sync_soon(self._job_ended, done.unwrap())

        trio.lowlevel.start_thread_soon(job, hand_back)

    def _job_ended(self, computed: Computed) -> None:
        role, _ = computed.job
        if role not in self._jobs:
            return  # the host has ended
        self._jobs[role].popleft()
        if self._jobs[role]:
            self._start_job(role)
        if not self.take(deque((computed,))):
            self._actor.put_own(computed)


def _of_sessions(event: Event) -> bool:
    return isinstance(event, Computed) or (isinstance(event, Received) and event.channel != 0)


def _run(executor: Executor, effect: Compute) -> Computed:
    """A backend may fail in any way at all: that ends the sessions of this job, not the node."""
    try:
        return Computed(effect.job, executor.run(effect.work))
    except Exception as error:
        log.exception("job %s failed", effect.job)
        return Computed(effect.job, error=f"{type(error).__name__}: {error}")


def _bug(event: Event, error: Exception) -> HostFailed:
    log.critical("bug: a role machine raised on %r", event, exc_info=error)
    return HostFailed(f"a role machine raised {type(error).__name__} on {type(event).__name__}: {error}")


def _log_item(item: Any) -> None:
    log.info("%s", item)
