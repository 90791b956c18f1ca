"""What a client does around its machine: asks a leader, asks again when refused, resumes elsewhere, and looks at the
clock all the while. One :class:`Drive` serves all client nodes of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from math import ceil
from statistics import fmean

from dsdproto.effects import Effect
from dsdproto.policy.routing import Candidate, Router
from dsdproto.registry import CommitProfile, ErrorCode, Method, Role
from dsdproto.roles.client import Client, ClientState, Committed, Completed, Failed, Interrupted, SessionItem
from dsdproto.wire.messages import Contract, Sampling, Stats
from reference_nodes.simulator.cluster import VOCABULARY_DIGEST, name_of
from reference_nodes.simulator.plan.fleet import Fleet
from reference_nodes.simulator.plan.luck import mix, stream
from reference_nodes.simulator.plan.measure import Meter
from reference_nodes.simulator.plan.oracle import VOCABULARY, prompt_of, seed_of
from reference_nodes.simulator.plan.policies import router
from reference_nodes.simulator.plan.row import Row
from reference_nodes.simulator.plan.workload import Request, Workload
from reference_nodes.simulator.plan.world import PlanNode

_prompt = lru_cache(maxsize=256)(prompt_of)
LONGEST_WAIT = 4.0


@dataclass(slots=True, eq=False)
class Ask:
    """A request under way."""

    request: Request
    node: PlanNode
    client: Client | None = None
    leader: str = ""
    first: float | None = None
    latest: float = 0.0
    gaps: list[float] = field(default_factory=list)
    """between arrivals of tokens, seconds"""
    tokens: int = 0
    attempts: int = 0
    resumes: int = 0
    turn: int = 0
    """counts attempts and resumptions: what belongs to an earlier one is void"""
    heard: float = 0.0


@dataclass(slots=True)
class Desk:
    """A client node's routing."""

    node: PlanNode
    router: Router
    draw: Callable[[], float]
    open: Counter[str]
    """sessions by leader, as far as this desk knows"""


@dataclass(slots=True)
class Drive:
    fleet: Fleet
    workload: Workload
    meter: Meter
    on_row: Callable[[Row], None] | None = None
    live: dict[bytes, Ask] = field(default_factory=dict)
    coming: int = 0
    """requests that are on the heap: the next arrival, and who is thinking"""
    _desks: list[Desk] = field(default_factory=list)
    _arrivals: Iterator[Request] = field(init=False)
    _rtt: dict[tuple[str, str], float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        scenario, world = self.fleet.scenario, self.fleet.world
        shared = scenario.routing.view == "fleet"
        common, together = router(scenario.routing), Counter()
        draw = stream("routing", self.fleet.seed)
        for name in self.fleet.clients:
            node = world.nodes[name]
            own = stream("routing", self.fleet.seed, name)
            desk = (
                Desk(node, common, draw, together) if shared else Desk(node, router(scenario.routing), own, Counter())
            )
            self._desks.append(desk)
            node.on_deliver = self._deliver
        self._arrivals = self.workload.arrivals()
        self._next_arrival()

    @property
    def idle(self) -> bool:
        """Nothing is under way and nothing will come."""
        return not self.coming and not self.live

    # ------------------------------------------------------------ arriving

    def _next_arrival(self) -> None:
        request = next(self._arrivals, None)
        if request is not None:
            self.coming += 1
            self.fleet.world.at(request.at, self._arrive, request)

    def _arrive(self, request: Request) -> None:
        self._next_arrival()
        self._begin(request)

    def _begin(self, request: Request) -> None:
        self.coming -= 1
        desk = self._desks[request.client % len(self._desks)]
        ask = Ask(request, desk.node)
        self.meter.arrived(self.fleet.world.now)
        # Leaders take a part of the name as entropy (clause S-1).
        session = mix(request.number + 1).to_bytes(8, "big") + request.number.to_bytes(8, "big")
        self.live[session] = ask
        self._attempt(session, ask)

    # ------------------------------------------------------------ reaching a leader

    def _attempt(self, session: bytes, ask: Ask) -> None:
        ask.attempts += 1
        ask.turn += 1
        found = self._leader_for(ask)
        if found is None:
            self._again(session, ask, "refused", "no link to a leader")
            return
        name, link = found
        node, request = ask.node, ask.request
        ask.leader = name
        contract = _contract(request, self.fleet.scenario.commit == "quorum")
        ask.client = Client(session, contract, self.fleet.scenario.drafting.drafters, origins=False)
        clients = self.fleet.clients[node.name]
        self._perform(node, clients.open(ask.client, link, node.machine.channel(link)))
        self._watch(session, ask)

    def _leader_for(self, ask: Ask, group: tuple[bytes, ...] = ()) -> tuple[str, int] | None:
        """(name, link) of the leader that the routing policy wants, or of a voter of ``group``."""
        node = ask.node
        if not node.alive or node.paused:
            return None
        desk = self._desks[ask.request.client % len(self._desks)]
        if group:
            links = {up.peer.node_id: link for link, up in node.machine.links.items()}
            reachable = [member for member in group if member in links]
            if not reachable:
                return None
            member = reachable[ask.resumes % len(reachable)]
            return name_of(member), links[member]
        links = [
            (name_of(up.peer.node_id), link)
            for link, up in node.machine.links.items()
            if Role.LEADER in up.peer.roles and link != -2
        ]
        if not links:
            return None
        chosen = links[desk.router.choose([self._candidate(desk, name) for name, _ in links], desk.draw())]
        desk.open[chosen[0]] += 1
        return chosen

    def _candidate(self, desk: Desk, name: str) -> Candidate:
        """What the desk knows of a leader: its own sessions there; a balancer also what leaders say of their load."""
        if self.fleet.scenario.routing.kind in ("random", "round-robin"):
            return _NOTHING
        queue = forward = 0.0
        costs = self.fleet.world.nodes[name].machine.roles[Role.LEADER].costs
        for cost in costs.values():
            queue, forward = cost.queue, cost.forward
            break
        return Candidate(desk.open[name], queue, forward, self._round_trip(desk.node.name, name))

    def _round_trip(self, near: str, far: str) -> float:
        rtt = self._rtt.get((near, far))
        if rtt is None:
            rtt = self._rtt[(near, far)] = self.fleet.world.round_trip(near, far)
        return rtt

    def _again(self, session: bytes, ask: Ask, status: str, reason: str) -> None:
        """Ask again later, unless the client has lost patience."""
        patience = self.fleet.scenario.patience
        if ask.attempts > patience.retries:
            self._ended(session, ask, status, reason, None)
            return
        self.meter.count.retried += 1
        wait = min(patience.wait * 2 ** (ask.attempts - 1), LONGEST_WAIT)
        self.fleet.world.at(self.fleet.world.now + wait, self._retry, session, ask, ask.turn)

    def _retry(self, session: bytes, ask: Ask, turn: int) -> None:
        if turn == ask.turn and self.live.get(session) is ask:
            self._attempt(session, ask)

    # ------------------------------------------------------------ what comes back

    def _deliver(self, item: SessionItem) -> None:
        ask = self.live.get(item.session)
        if ask is None:
            return
        what, now = item.item, self.fleet.world.now
        ask.heard = now
        kind = type(what)
        if kind is Committed:
            gap = None
            if ask.first is None:
                ask.first = now
            else:
                gap = now - ask.latest
                ask.gaps.append(gap)
            ask.latest = now
            ask.tokens += len(what.tokens)
            self.meter.block(len(what.tokens), gap, now)
        elif kind is Completed:
            self._left(ask)
            self._ended(item.session, ask, "done", "", what.stats)
        elif kind is Failed:
            self._left(ask)
            reason = ErrorCode(what.code).name if what.code in ErrorCode._value2member_map_ else "LINK_LOST"
            if ask.first is None:
                status = "refused" if what.code == ErrorCode.OVERLOADED else "failed"
                self._again(item.session, ask, status, reason)
            else:
                self._ended(item.session, ask, "failed", reason, None)
        elif kind is Interrupted:
            self._left(ask)
            self.meter.count.resumed += 1
            self._resume_later(item.session, ask)

    def _left(self, ask: Ask) -> None:
        desk = self._desks[ask.request.client % len(self._desks)]
        if desk.open[ask.leader] > 0:
            desk.open[ask.leader] -= 1

    def _ended(self, session: bytes, ask: Ask, status: str, reason: str, stats: Stats | None) -> None:
        del self.live[session]
        ask.turn += 1
        now = self.fleet.world.now
        row = row_of(ask, status, reason, now, stats)
        self.meter.ended(row, now, stats)
        if self.on_row is not None:
            self.on_row(row)
        # Nobody asks again in the very moment of a refusal.
        pause = 0.0 if status == "done" else self.fleet.scenario.patience.wait
        after = self.workload.next(ask.request, now, pause)
        if after is not None:
            self.coming += 1
            self.fleet.world.at(after.at, self._begin, after)
        elif self.idle:
            self.fleet.world.stopped = True

    def node_died(self, name: str) -> None:
        """A client's machine went down with all that it asked for."""
        for session, ask in list(self.live.items()):
            if ask.node.name == name:
                if ask.client is not None:
                    self._left(ask)
                self._ended(session, ask, "failed", "CLIENT_DIED", None)

    # ------------------------------------------------------------ going on elsewhere (quorum)

    def _watch(self, session: bytes, ask: Ask) -> None:
        """Under `quorum` a leader that keeps silent is left; under `solo` there is nobody else."""
        if self.fleet.scenario.commit == "quorum":
            ask.heard = now = self.fleet.world.now
            silence = self.fleet.scenario.patience.silence
            self.fleet.world.at(now + silence, self._silent, session, ask, ask.turn)

    def _silent(self, session: bytes, ask: Ask, turn: int) -> None:
        if turn != ask.turn or self.live.get(session) is not ask:
            return
        world, silence = self.fleet.world, self.fleet.scenario.patience.silence
        if world.now < ask.heard + silence:
            world.at(ask.heard + silence, self._silent, session, ask, turn)
            return
        ask.heard = world.now
        self._perform(ask.node, self.fleet.clients[ask.node.name].abandon(session, "nothing came"))
        if turn == ask.turn:
            world.at(world.now + silence, self._silent, session, ask, turn)

    def _resume_later(self, session: bytes, ask: Ask) -> None:
        ask.turn += 1
        ask.resumes += 1
        wait = min(0.05 * 2 ** min(ask.resumes, 5), 1.0)
        self.fleet.world.at(self.fleet.world.now + wait, self._resume, session, ask, ask.turn)

    def _resume(self, session: bytes, ask: Ask, turn: int) -> None:
        client = ask.client
        if turn != ask.turn or self.live.get(session) is not ask or client is None:
            return
        if client.state is not ClientState.INTERRUPTED:
            return
        found = self._leader_for(ask, client.group)
        if found is None:
            self._resume_later(session, ask)
            return
        ask.leader, link = found
        node = ask.node
        self._perform(node, self.fleet.clients[node.name].resume(session, link, node.machine.channel(link)))
        self._watch(session, ask)

    def _perform(self, node: PlanNode, effects: list[Effect]) -> None:
        node.perform(node.machine.perform(Role.CLIENT, effects, node.now))


_NOTHING = Candidate()


def row_of(ask: Ask, status: str, reason: str, now: float, stats: Stats | None) -> Row:
    """What is to be said of a request at its end, or of one that has none yet."""
    request, first = ask.request, ask.first
    e2e = now - request.at if status == "done" else None
    ttft = None if first is None else first - request.at
    tpot = (e2e - ttft) / (ask.tokens - 1) if e2e is not None and ttft is not None and ask.tokens > 1 else None
    gaps = sorted(ask.gaps)
    return Row(
        number=request.number,
        node=ask.node.name,
        leader=ask.leader,
        arrived=request.at,
        status=status,
        prompt=request.prompt,
        output=request.output,
        tokens=ask.tokens,
        ttft=ttft,
        tpot=tpot,
        itl=fmean(gaps) if gaps else None,
        itl_p95=gaps[ceil(0.95 * len(gaps)) - 1] if gaps else None,
        itl_max=gaps[-1] if gaps else None,
        e2e=e2e,
        attempts=ask.attempts,
        rounds=None if stats is None else stats.rounds,
        accepted=None if stats is None else stats.accepted,
        reason=reason,
    )


def _contract(request: Request, quorum: bool) -> Contract:
    return Contract(
        prompt=_prompt(request.prompt),
        sampling=Sampling(
            method=int(Method.COUPLED),
            temperature=0,
            top_k=0,
            top_p=65536,
            seed=seed_of(request.number, request.prompt),
        ),
        max_tokens=request.output,
        stop_tokens=(),
        vocabulary_size=VOCABULARY,
        vocabulary_digest=VOCABULARY_DIGEST,
        model="",
        commit_profile=int(CommitProfile.QUORUM if quorum else CommitProfile.SOLO),
    )
