"""The leader's side of a draft channel: books every node that the drafter sends and holds it to the rules."""

from __future__ import annotations

from dataclasses import dataclass, field

from conformance.live.peer import Peer, described
from conformance.live.sessions import Model, Session
from conformance.verdict import Failed, Unsupported
from dsdproto.registry import Feature
from dsdproto.wire.messages import Advance, Attach, Attached, Detach, Propose

Prefix = tuple[int, ...]


@dataclass
class Attachment:
    """One session at one drafter, in one channel. ``session`` holds the *announced* prefix."""

    peer: Peer
    channel: int
    session: Session
    credit: int
    width: int
    model: Model
    nodes: list[Prefix] = field(default_factory=list)
    """the whole prefix that each numbered node stands for; number 1 comes first (clause D-4)"""
    messages: list[Propose] = field(default_factory=list)
    greatest: int = 0

    def __post_init__(self) -> None:
        self.greatest = self.credit
        self._names = {(self.session.position, self.session.short): self.session.tokens}

    def announce(self) -> None:
        """The prefix of the session has been announced: from now on a base may have its name."""
        self._names[(self.session.position, self.session.short)] = self.session.tokens

    @property
    def ahead(self) -> list[Prefix]:
        """Nodes ahead of the announced prefix and on its path."""
        root = self.session.tokens
        return [node for node in self.nodes if len(node) > len(root) and node[: len(root)] == root]

    @property
    def outstanding(self) -> int:
        """Nodes that count against the credit (clause D-6)."""
        return len(self.ahead)

    @property
    def depth(self) -> int:
        """How many tokens in a row are outstanding, at most."""
        return max(map(len, self.ahead), default=self.session.position) - self.session.position

    async def propose(self, *, within: float | None = None) -> Propose:
        """The next PROPOSE, which has to be legal. Raises Unsupported where the testee never drafted anything: to
        propose at all is a SHOULD (clause D-16)."""
        site = self.peer.site
        drafts = site is None or site.drafts is not False
        try:
            message = await self.peer.expect(Propose, self.channel, "D-16", within=within if drafts else 0.2)
        except Failed:
            if site is None or site.drafts or self.nodes or self.peer.ended or self.peer.waiting(self.channel):
                raise
            site.drafts = False
            raise Unsupported("the drafter proposes nothing; that is a SHOULD (D-16)") from None
        if site is not None:
            site.drafts = True
        self.book(message)
        return message

    async def works(self, count: int = 1) -> None:
        """The drafter proposes, or, where it never does, is there and follows."""
        try:
            await self.gather(count)
        except Unsupported:
            await self.advance(self.session.ahead(1))
            await self.peer.alive("H-2")
            await self.peer.silent(self.channel, "D-7", 0.1)

    async def gather(self, count: int) -> None:
        """Until that many nodes are outstanding."""
        while self.outstanding < count:
            await self.propose()

    async def take_waiting(self) -> None:
        """What has come already."""
        while self.peer.waiting(self.channel):
            await self.propose()

    def book(self, message: Propose) -> None:
        """Judge one PROPOSE by everything that binds a drafter, and number its nodes."""
        base = self._names.get((message.position, message.base))
        if base is None:
            known = sorted(position for position, _ in self._names)
            said = "PROPOSE names a base that is neither the announced prefix nor one of the drafter's own nodes"
            raise Failed("D-10", said, f"one of the prefixes at {known}", (message.position, message.base))
        parents = tuple(range(len(message.tokens))) if message.parents is None else tuple(message.parents)
        if message.parents is not None and (Feature.TREES not in self.peer.features or self.width == 1):
            raise Failed("D-15", "`parents` without TREES, or with width 1", "a chain", described(message))
        if message.scores is not None and Feature.SCORES not in self.peer.features:
            raise Failed("D-15", "`scores` without SCORES", "none", message.scores)
        paths: list[Prefix] = [base]
        for token, parent in zip(message.tokens, parents):
            path = (*paths[parent], token)
            if token >= self.session.contract.vocabulary_size:
                raise Failed(
                    "D-4", "a proposed token is not in the vocabulary", self.session.contract.vocabulary_size, token
                )
            if path in paths:
                raise Failed("D-3", "the same token twice below one node", "siblings differ", described(message))
            paths.append(path)
            self.nodes.append(path)
        digests = {}
        for path in paths[1:]:
            digests[path] = self.session.digest_of(path)[:16]
            self._names[(len(path), digests[path])] = path
        self.messages.append(message)
        if self.outstanding > self.greatest:
            raise Failed("D-6", "more nodes outstanding than the credit allows", self.greatest, self.outstanding)

    async def advance(
        self, tokens: Prefix, *, ref: int | None = None, credit: int | None = None, window: int | None = None
    ) -> None:
        """Announce that the verified prefix grew by ``tokens``; ``ref`` is the deepest node unless one is given."""
        root = self.session.tokens
        path = (*root, *tokens)
        if ref is None:
            fitting = [n for n, node in enumerate(self.nodes, 1) if len(node) > len(root) and path[: len(node)] == node]
            ref = max(fitting, key=lambda n: len(self.nodes[n - 1]), default=0)
        rest = path[len(self.nodes[ref - 1]) :] if ref else tokens
        self.session.extend(tokens)
        self.announce()
        if credit is not None:
            self.credit = credit
            self.greatest = max(self.greatest, credit)
        message = Advance(position=len(path), ref=ref, tokens=tuple(rest), credit=credit, window=window)
        await self.peer.send(message, self.channel)

    async def follow_target(self, steps: int = 1) -> None:
        """ADVANCE along what the target says."""
        await self.advance(self.session.ahead(steps))

    async def detach(self, reason: int = 0) -> None:
        await self.peer.send(Detach(reason=reason), self.channel)


async def attach(
    peer: Peer, session: Session, model: Model, *, credit: int = 16, window: int = 4, width: int = 1
) -> Attachment:
    """Open a draft channel for ``session``."""
    message = Attach(
        session=session.id,
        contract=session.contract,
        committed=tuple(session.committed),
        credit=credit,
        window=window,
        width=width,
    )
    channel = await peer.open(message)
    attached = await peer.expect(Attached, channel, "D-14")
    if attached.model != model.name:
        raise Failed("S-TM1-5", "ATTACHED names another model than HELLO offers", model.name, attached.model)
    return Attachment(peer, channel, session, credit, width, model)
