"""The client of rung 4: it reads a stream wherever it is served, and judges the whole history that it saw.

A history is right if each BLOCK goes on exactly where the one before it ended, also over resumes, if every token is
what the target alone says, if END comes once and names what the blocks add up to, and if every ERROR on the way has a
legal scope and a code that fits the occasion.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import trio

from conformance.live.peer import Peer, described
from conformance.live.sessions import Session
from conformance.verdict import Failed, Inconclusive
from dsdproto.registry import ErrorCode, Feature, Finish, Role
from dsdproto.wire.messages import Block, Close, End, Error, Goodbye, Open, Opened, Resume

if TYPE_CHECKING:
    from conformance.chaos.town import Node, Town

SILENCE = 3.0
"""Seconds without a message after which a client turns away from a voter (clause Q-53); longer after each round."""
AGAIN = 0.1
"""Seconds between two tries."""
DONE = 40.0
"""Seconds for a stream to end once the network is well: generous, since it is a bound of ours, not of the protocol."""
PROMPT = 0.5
"""Seconds for a PONG, handshake included, within which a node counts as one that has nothing else to do."""
STILL = 5.0
"""Seconds for which a stream has to stand still at least."""
NOT_YET = (
    ErrorCode.MODEL_UNAVAILABLE,
    ErrorCode.QUORUM_UNAVAILABLE,
    ErrorCode.VOCABULARY_MISMATCH,
    ErrorCode.VERIFIER_LOST,
    ErrorCode.OVERLOADED,
)
"""What OPEN may be refused with as long as the nodes have not found each other."""
AT_LEADER = (ErrorCode.VERIFIER_LOST, ErrorCode.QUORUM_LOST, ErrorCode.QUORUM_UNAVAILABLE, ErrorCode.VIEW_STALE)
AT_VOTER = (ErrorCode.SESSION_UNKNOWN, ErrorCode.VIEW_STALE, ErrorCode.OVERLOADED)
OF_LINK = (ErrorCode.HEARTBEAT_TIMEOUT, ErrorCode.SHUTTING_DOWN, ErrorCode.HANDSHAKE_TIMEOUT)
"""What a node may end a link with under these conditions: nobody here breaks a rule."""
Says = Callable[[tuple[int, ...]], tuple[int, ...]]
"""All tokens that may follow a prefix."""


class Reader:
    """One session of a client.

    :param members: where it may resume; by default the nodes of the group that OPENED named.
    :param says: what may follow a prefix; default: what the session's target says.
    """

    def __init__(
        self,
        town: Town,
        session: Session,
        *,
        name: str = "client",
        max_drafters: int = 8,
        origins: bool = True,
        says: Says | None = None,
        silence: float = SILENCE,
    ) -> None:
        self.town = town
        self.trial = town.trial
        self.session = session
        self.name = f"{name}-{sum(each.startswith(name) for each in town.readers) + 1}"
        town.readers.append(self.name)
        self.identity = town.pool.authority.identity(self.name)
        self.quorum = bool(session.contract.commit_profile)
        self.max_drafters = max_drafters
        self.origins = origins
        self.says = says or (lambda prefix: (session.say(prefix),))
        self.silence = silence
        self.tokens: tuple[int, ...] = session.prompt
        """the prefix that it holds, prompt included"""
        self.opened: Opened | None = None
        self.views: list[int] = []
        """of each OPENED"""
        self.end: End | None = None
        self.failure: str = ""
        """why the stream broke off for good; empty: it did not"""
        self.errors: list[Error] = []
        self.resumed = 0
        self.known: dict[int, bytes] = {}
        self.drafters: set[bytes] = set()
        """whose drafts became part of the stream"""
        self.at: Node | None = None
        self._links: dict[str, Peer] = {}
        self._wires: dict[str, Any] = {}
        self._patience = town.trial.seconds(silence)
        self._peer: Peer | None = None
        self._channel = 0
        self._change = trio.Event()

    # ------------------------------------------------------------ for cases

    @property
    def count(self) -> int:
        """Tokens received so far."""
        return len(self.tokens) - len(self.session.prompt)

    @property
    def over(self) -> bool:
        return self.end is not None or bool(self.failure)

    async def reached(self, count: int, seconds: float = DONE) -> None:
        """Until so many tokens are here, or the stream is over."""
        with trio.move_on_after(self.trial.seconds(seconds)):
            while self.count < count and not self.over:
                await self._change.wait()
            return
        await self._stuck(seconds)

    async def wire(self, node: Node) -> Any:
        """How it reaches ``node``."""
        if node.name not in self._wires:
            self._wires[node.name] = await self.town.wire(f"{self.name}->{node.name}", node)
        return self._wires[node.name]

    async def finished(self, *, seconds: float = DONE) -> End:
        """Read to END; the history is that of the target alone."""
        await self.settled(seconds=seconds)
        if self.end is None:
            said = f"{self.name}: the stream broke off although all that it needs was there again"
            raise Failed("L-4" if not self.quorum else "Q-50", said, "END", self.failure)
        if self.end.finish == Finish.CLOSED:
            return self.end
        finish = self.session.finish_at(self.tokens)
        if finish is None:
            raise Failed("S-9", f"{self.name}: the stream ends before its time", "more", self.count)
        if self.end.finish != finish:
            raise Failed("S-9", f"{self.name}: the stream ends for another reason", finish.name, self.end.finish)
        return self.end

    async def settled(self, *, seconds: float = DONE) -> None:
        """Until END or failure."""
        with trio.move_on_after(self.trial.seconds(seconds)):
            while not self.over:
                await self._change.wait()
            return
        await self._stuck(seconds)

    async def _stuck(self, seconds: float) -> None:
        """It took too long. That is the machine's fault, or somebody's who went on being slow, unless the stream stands
        still although every node answers at once: what a case has left out of order, the stream can do without. Raises
        Inconclusive or Failed."""
        count = self.count
        said = f"{self.name}: {count} tokens within {seconds * self.trial.patience:.0f} s"
        slowest = 0.0
        for node in [node for node in self.town.nodes.values() if node.up]:
            start = trio.current_time()
            if (peer := await self._link(node, await self.wire(node))) is None:
                raise Inconclusive(f"{said}, and no link to {node.name}; --patience gives more")
            await peer.alive("H-2")
            slowest = max(slowest, trio.current_time() - start)
        await trio.sleep(STILL)
        if slowest > PROMPT or self.count > count or self.over:
            raise Inconclusive(f"{said}, no END; --patience gives more")
        clause = "Q-40" if self.quorum else "L-4"
        told = f"{said}, then nothing, though all that it needs is there; every node answers within {slowest:.2f} s"
        raise Failed(clause, told, "the stream goes on, or fails", "it stands still")

    async def close(self) -> None:
        assert self._peer is not None
        await self._peer.send(Close(), self._channel)

    async def visit(self, other: Reader, node: Node) -> bool:
        """As somebody else who reads another client's stream, at ``node``, from the prompt on; what both have must be
        the same. Whether its END was here, too."""
        self.session, self.says, self.opened = other.session, other.says, other.opened
        peer = await self._link(node, await self.wire(node)) if node.up else None
        if peer is None:
            return False
        await self._resume(peer, node)
        shorter = min(len(self.tokens), len(other.tokens))
        if self.tokens[:shorter] != other.tokens[:shorter]:
            said = f"{node.name} delivers another stream than {other.name} was sent"
            raise Failed("Q-51", said, other.tokens, self.tokens)
        ends = [(each.end.finish, each.end.digest) for each in (other, self) if each.end is not None]
        if len(set(ends)) > 1:
            raise Failed("Q-37", f"{node.name} knows another end", *ends)
        return self.end is not None

    # ------------------------------------------------------------ opening

    async def open(self, node: Node, *, retry: bool = True) -> None:
        """OPEN until it is taken: nodes that have just begun find each other in their own time. Then OPENED is here."""
        wire = await self.wire(node)
        last = "no connection"
        with trio.move_on_after(self.trial.seconds(30.0)):
            while True:
                peer = await self._link(node, wire)
                if peer is not None:
                    answer = await self._open(peer)
                    if isinstance(answer, Opened):
                        self.at = node
                        self._begin(peer, self._channel, answer, first=True)
                        return
                    last = self.failure if answer is None else described(answer)
                    if isinstance(answer, Error) and not (retry and answer.code in NOT_YET):
                        said = f"{self.name}: OPEN is refused although nothing speaks against it"
                        raise Failed("L-3", said, "OPENED", last)
                    self.session.id = self.town.rng.randbytes(16)
                await trio.sleep(AGAIN)
        raise Inconclusive(f"{self.name}: the nodes did not find each other in time: {last}")

    async def _open(self, peer: Peer) -> Opened | Error | None:
        message = Open(
            session=self.session.id,
            contract=self.session.contract,
            max_drafters=self.max_drafters,
            origins=int(self.origins),
        )
        self._channel = await peer.open(message)
        with trio.move_on_after(self.trial.seconds(20.0)):
            arrival = await peer.next(self._channel)
            match arrival and arrival.message:
                case Opened() as opened:
                    return opened
                case Error() as error:
                    self._judge_error(peer, error, (*NOT_YET, *AT_LEADER))
                    return error
                case None:
                    return None
                case other:
                    raise Failed("CH-7", f"{self.name}: no OPENED first", "OPENED", described(other))
        return None

    def _begin(self, peer: Peer, channel: int, opened: Opened, *, first: bool) -> None:
        session = self.session
        clause = "S-7" if first else "Q-50"
        if opened.position != len(self.tokens):
            said = f"{self.name}: OPENED begins elsewhere"
            raise Failed(clause, said, len(self.tokens), opened.position)
        contract = session.contract
        if contract.model and opened.model != contract.model:
            raise Failed("S-14", f"{self.name}: OPENED names another model", contract.model, opened.model)
        if (opened.group is not None) != self.quorum or (opened.view is not None) != self.quorum:
            raise Failed("Q-1", "`group` and `view` under `quorum`, and only there", self.quorum, described(opened))
        if not first:
            assert self.opened is not None
            if opened.group != self.opened.group:
                raise Failed("Q-1", "the group changed", self.opened.group, opened.group)
        self.opened = opened
        if opened.view is not None:
            self.views.append(opened.view)
        self._peer, self._channel = peer, channel
        self._tell()

    # ------------------------------------------------------------ reading on

    async def run(self) -> None:
        """To END, or to where it is over for good."""
        await self._read(first=True)
        if self.over:
            return
        if not self.quorum:
            self._fail(self._why())
            return
        await self._resuming()

    async def _read(self, *, first: bool) -> None:
        """From the channel at hand, until END or an interruption."""
        peer, channel = self._peer, self._channel
        assert peer is not None
        while True:
            arrival = None
            with trio.move_on_after(self._patience if self.quorum else float("inf")) as silence:
                arrival = await peer.next(channel)
            if silence.cancelled_caught:
                self.town.tell(self.name, "turns away: silence")
                await peer.send(Error(code=ErrorCode.COMPUTE_FAILED, clause="Q-53", text="silence"), channel)
                return
            match arrival and arrival.message:
                case Block() as block:
                    self._block(block, first)
                case End() as end:
                    self._end(end, first)
                    return
                case Error() as error:
                    legal = AT_LEADER if first else AT_VOTER
                    self._judge_error(peer, error, legal)
                    return
                case None:
                    self._judge_link(peer)
                    return
                case other:
                    raise Failed("S-1", f"{self.name}: no message of a stream", "BLOCK or END", described(other))

    async def _resuming(self) -> None:
        order = self.members
        turn = asked = 0
        while not self.over:
            node = order[turn % len(order)]
            self._patience = self.trial.seconds(self.silence) * (1 + asked // len(order))
            turn += 1
            before = self.count
            if node.up and (peer := await self._link(node, await self.wire(node))) is not None:
                asked += 1
                await self._resume(peer, node)
            if self.count > before:
                turn, asked = order.index(node) + 1, 0
            if not self.over:
                await trio.sleep(AGAIN)

    @property
    def members(self) -> list[Node]:
        """The group's nodes, the next in turn first (clause Q-41)."""
        assert self.opened is not None and self.opened.group is not None
        ids = [self.opened.group[at : at + 32] for at in range(0, len(self.opened.group), 32)]
        found = {node.node_id: node for node in self.town.nodes.values()}
        strangers = [each.hex()[:8] for each in ids if each not in found]
        if strangers or len(set(ids)) != len(ids) or len(ids) % 2 == 0:
            said = "the group is no odd number of different nodes of this cluster"
            raise Failed("Q-1", said, len(found), [each.hex() for each in ids])
        return [found[each] for each in (*ids[1:], ids[0])]

    async def _resume(self, peer: Peer, node: Node) -> None:
        name = self.session.digest_of(self.tokens)
        channel = await peer.open(Resume(session=self.session.id, position=len(self.tokens), digest=name))
        self.town.tell(self.name, f"resumes at {node.name} with {self.count} tokens")
        opened = None
        with trio.move_on_after(self._patience):
            arrival = await peer.next(channel)
            match arrival and arrival.message:
                case Opened() as opened:
                    self.resumed += 1
                    self.at = node
                    self._begin(peer, channel, opened, first=False)
                case Error() as error if error.code == ErrorCode.PREFIX_UNKNOWN:
                    said = f"{self.name}: {node.name} knows another stream than the one that this client has read"
                    raise Failed("S-8", said, f"OPENED at {len(self.tokens)}", described(error))
                case Error() as error:
                    self._judge_error(peer, error, AT_VOTER)
                    return
                case None:
                    self._judge_link(peer)
                    return
                case other:
                    raise Failed("CH-7", f"{self.name}: no OPENED first", "OPENED", described(other))
        if opened is None:
            await peer.send(Error(code=ErrorCode.COMPUTE_FAILED, clause="Q-53", text="silence"), channel)
            return
        await self._read(first=False)

    async def _link(self, node: Node, wire: Any) -> Peer | None:
        peer = self._links.get(node.name)
        if peer is not None and not peer.ended and not _left(peer):
            return peer
        made = await self.town.link(wire, Role.CLIENT, identity=self.identity, name=f"{self.name} at {node.name}")
        if made is not None:
            self._links[node.name] = made
        return made

    # ------------------------------------------------------------ judging

    def _block(self, block: Block, first: bool) -> None:
        if block.position != len(self.tokens):
            said = f"{self.name}: a BLOCK does not begin where the one before it ended"
            raise Failed("S-8", said, len(self.tokens), block.position)
        for token in block.tokens:
            if self.session.finish_at(self.tokens) is not None:
                raise Failed("S-8", f"{self.name}: a token after the one that ended the stream", "END", token)
            right = self.says(self.tokens)
            if token not in right:
                said = f"{self.name}: the token at position {len(self.tokens)} is not the target's"
                raise Failed("S-17", said, right, token)
            self.tokens = (*self.tokens, token)
        self._origins(block, first)
        self._tell()

    def _origins(self, block: Block, first: bool) -> None:
        assert self._peer is not None
        wanted = first and self.origins and Feature.ORIGINS in self._peer.features
        if (block.origins is not None) != wanted:
            raise Failed("S-18" if first else "Q-54", f"{self.name}: `origins` of a BLOCK", wanted, block.origins)
        for entry in block.drafters or ():
            if self.known.setdefault(entry.number, entry.node_id) != entry.node_id:
                raise Failed("S-18", "a number stands for another drafter", self.known[entry.number], entry.node_id)
        for number in block.origins or b"":
            if number and number not in self.known:
                raise Failed("S-18", "`origins` uses a number that was not announced", sorted(self.known), number)
            if number:
                self.drafters.add(self.known[number])

    def _end(self, end: End, first: bool) -> None:
        right = (len(self.tokens), self.session.digest_of(self.tokens))
        if (end.position, end.digest) != right:
            said = f"{self.name}: END does not name the prefix that the blocks add up to"
            raise Failed("S-10", said, right, (end.position, end.digest))
        if end.stats is not None:
            if not first:
                raise Failed("Q-54", f"{self.name}: END of a voter has stats", "none", end.stats)
            self._stats(end)
        self.end = end
        self.town.tell(self.name, f"END after {self.count} tokens")
        self._tell()

    def _stats(self, end: End) -> None:
        stats = end.stats
        assert stats is not None
        if stats.drafted != stats.accepted + sum(stats.waste):
            said = "drafted is not accepted plus the sum of waste"
            raise Failed("S-19", said, f"{stats.accepted} + {stats.waste}", stats.drafted)
        whole = end.finish != Finish.CLOSED
        for said, holds in (
            ("more drafts were accepted than the stream has tokens", stats.accepted <= self.count or not whole),
            ("more drafts were accepted than verified", stats.accepted <= stats.verified),
            ("more rounds than tokens: each verdict brings one", stats.rounds <= self.count or not whole),
            ("more tokens than drafts accepted and verdicts", self.count <= stats.accepted + stats.rounds),
            ("drafts without drafters", stats.drafted == 0 or self.max_drafters > 0),
        ):
            if not holds:
                raise Failed("S-19", f"{self.name}: stats of END cannot be: {said}", f"{self.count} tokens", stats)

    def _judge_error(self, peer: Peer, error: Error, legal: tuple[ErrorCode, ...]) -> None:
        self.errors.append(error)
        self.town.tell(self.name, described(error))
        if error.code < 0x100:
            both = (ErrorCode.MESSAGE_INVALID, ErrorCode.MESSAGE_UNEXPECTED)
            clause = "S-1" if error.code in both else "E-2"
            said = f"{peer.name}: an ERROR that does not belong on a session's channel"
            raise Failed(clause, said, "one of session scope", described(error))
        if error.code not in legal:
            wanted = " or ".join(code.name for code in legal)
            raise Failed("E-1", f"{peer.name}: refused for what nobody did", wanted, described(error))

    def _judge_link(self, peer: Peer) -> None:
        """How a connection ended: what the node said last, if anything."""
        last = peer.arrivals[-1].message if peer.arrivals else None
        if isinstance(last, Error) and last.code not in OF_LINK:
            wanted = " or ".join(code.name for code in OF_LINK)
            raise Failed("E-1", f"{peer.name}: the connection is ended for what nobody did", wanted, described(last))
        word = f", after {described(last)}" if isinstance(last, Error | Goodbye) else ""
        self.town.tell(self.name, f"lost: {peer.ended}{word}")

    def _why(self) -> str:
        if self.errors:
            return described(self.errors[-1])
        return "the link was lost"

    def _fail(self, why: str) -> None:
        self.failure = why
        self.town.tell(self.name, f"broken off: {why}")
        self._tell()

    def _tell(self) -> None:
        self._change.set()
        self._change = trio.Event()


def _left(peer: Peer) -> bool:
    """Whether the other side has said that it ends the connection."""
    last = peer.arrivals[-1] if peer.arrivals else None
    return last is not None and last.frame.channel == 0 and isinstance(last.message, Error | Goodbye)
