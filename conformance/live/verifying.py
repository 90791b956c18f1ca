"""The leader's side of a verify channel: asks, and holds the verdict against the one that TM-1 gives."""

from __future__ import annotations

from dataclasses import dataclass

from conformance.live.peer import Peer
from conformance.live.sessions import Session, Walked
from conformance.verdict import Failed
from dsdproto.wire.messages import Assign, Assigned, Release, Verdict, Verify


@dataclass
class Assignment:
    """One session at one verifier, in one channel."""

    peer: Peer
    channel: int
    session: Session
    answer: Assigned
    round: int = 0

    def request(self, tokens: tuple[int, ...] = (), parents: tuple[int, ...] | None = None) -> Verify:
        """The next VERIFY, as it should be."""
        return Verify(
            round=self.round + 1,
            position=self.session.position,
            base=self.session.short,
            tokens=tokens,
            parents=None if parents is None else bytes(parents),
        )

    async def ask(
        self,
        tokens: tuple[int, ...] = (),
        parents: tuple[int, ...] | None = None,
        *,
        pieces: int = 0,
        within: float | None = None,
    ) -> Verdict:
        """One round; raises :class:`Failed` where the verdict is not the only right one. Of a tree that is larger than
        the testee takes, the first nodes are asked about."""
        most = self.answer.max_nodes
        tokens, parents = tokens[:most], None if parents is None else parents[:most]
        await self.peer.send(self.request(tokens, parents), self.channel, pieces=pieces)
        return await self.judge(tokens, parents, within=within)

    async def judge(
        self, tokens: tuple[int, ...] = (), parents: tuple[int, ...] | None = None, *, within: float | None = None
    ) -> Verdict:
        """Await the verdict on a VERIFY that is on its way."""
        self.round += 1
        verdict = await self.peer.expect(Verdict, self.channel, "V-10", within=within)
        wanted = self.session.walk(tokens, parents)
        check_verdict(verdict, wanted, self.round)
        self.session.extend(wanted.tokens)
        return verdict

    async def release(self) -> None:
        await self.peer.send(Release(), self.channel)


def check_verdict(verdict: Verdict, wanted: Walked, round_: int) -> None:
    """Every field that the specification fixes."""
    finish = None if wanted.finish is None else int(wanted.finish)
    for clause, said, right, got in (
        ("V-2", "VERDICT names another round than its VERIFY", round_, verdict.round),
        ("S-SAMP-12", "`accepted` is not where the target's walk leaves the tree", wanted.accepted, verdict.accepted),
        ("V-10", "`token` is not the target's own after the accepted path", wanted.own, verdict.token),
        ("V-4", "`digest` does not name the prefix after path and token", wanted.digest[:16], verdict.digest),
        ("S-SAMP-9", "`margin` is not the smallest one of the walk", wanted.margin, verdict.margin),
        ("S-9", "`finish` is not what ends this stream here", finish, verdict.finish),
    ):
        if right != got:
            raise Failed(clause, said, right, got)


async def assign(peer: Peer, session: Session, *, model: str | None = None, pieces: int = 0) -> Assignment:
    """Open a verify channel for ``session``; its ``committed`` tokens go along."""
    message = Assign(session=session.id, contract=session.contract, committed=tuple(session.committed), model=model)
    channel = await peer.open(message, pieces=pieces)
    answer = await peer.expect(Assigned, channel, "V-1")
    check_assigned(answer, session)
    return Assignment(peer, channel, session, answer)


def check_assigned(answer: Assigned, session: Session) -> None:
    model = session.model
    for clause, said, right, got in (
        ("S-5", "ASSIGNED names another model than the session's", model.name, answer.model),
        ("S-16", "the numeric profile is not that of this TM-1 model", model.profile, answer.profile),
        (
            "S-16",
            "the text of the numeric profile is not that of this TM-1 model",
            model.profile_text,
            answer.profile_text,
        ),
        ("S-7", "max_context differs from the offer in HELLO", session.max_context, answer.max_context),
    ):
        if right != got:
            raise Failed(clause, said, right, got)
