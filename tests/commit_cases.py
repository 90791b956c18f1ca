"""Groups, contracts and messages of the commit plane for tests; a voter with links to the rest of its group."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cluster import contract, hello

from dsdproto.commit.ledger import Ledger
from dsdproto.commit.records import Founded
from dsdproto.effects import LOCAL_FAR, Effect, LinkUp, Persist, Received, Refuse, Send
from dsdproto.registry import CommitProfile, ErrorCode, Role
from dsdproto.roles.voter import Voter, VoterConfig
from dsdproto.session import chain_of
from dsdproto.wire.groups import join_group
from dsdproto.wire.messages import Commit, Enlist, Prepare

SESSION = bytes(15) + b"\x07"
TERMS = contract((3, 1, 4), max_tokens=40, commit=CommitProfile.QUORUM)
PROMPT = len(TERMS.prompt)
NAMES = ("ada", "bob", "cid")
HELLOS = {name: hello(name, [Role.LEADER, Role.VOTER], []) for name in (*NAMES, "eve")}
GROUP = tuple(HELLOS[name].node_id for name in NAMES)
ADA, BOB, CID, EVE = 1, 2, 3, 4
"""links of a voter to others, by their leader"""


def enlist(view: int = 0, committed: int = PROMPT, **more: Any) -> Enlist:
    fields: dict[str, Any] = {
        "session": SESSION,
        "contract": TERMS,
        "group": join_group(GROUP),
        "view": view,
        "committed": committed,
        "model": "m",
        "profile": b"\x01" * 32,
        "profile_text": "",
    }
    return Enlist(**fields | more)


def digest(tokens: Iterable[int]) -> bytes:
    """Full digest of prompt and these tokens, computed from the start."""
    return chain_of(TERMS, tuple(tokens)).digest


def prepare(view: int, height: int, onto: tuple[int, ...], tokens: tuple[int, ...], **more: Any) -> Prepare:
    """A PREPARE that extends the stream ``onto`` (without the prompt) by ``tokens``."""
    fields: dict[str, Any] = {
        "view": view,
        "height": height,
        "position": PROMPT + len(onto),
        "base": digest(onto),
        "tokens": tokens,
        "digest": digest(onto + tokens),
    }
    return Prepare(**fields | more)


def commit(view: int, height: int, stream: tuple[int, ...], **more: Any) -> Commit:
    """A COMMIT of everything up to the end of ``stream``."""
    position = PROMPT + len(stream)
    fields: dict[str, Any] = {"view": view, "height": height, "position": position, "digest": digest(stream)}
    return Commit(**fields | more)


def ledger(promised: int = 0) -> Ledger:
    """An empty ledger that promised a view."""
    made = Ledger.founded(Founded(session=SESSION, contract=TERMS, group=join_group(GROUP)), GROUP)
    made.promise(enlist(promised))
    return made


class Bench:
    """One voter, ``bob``'s by default, with links to the others; performs what is stored when told to."""

    def __init__(self, name: str = "bob", config: VoterConfig | None = None, voter: Voter | None = None) -> None:
        self.voter = voter or Voter(config or VoterConfig(), HELLOS[name].node_id)
        self.now = 0.0
        self.disk: list[Any] = []
        self.pending: list[Persist] = []
        for link, other in ((ADA, "ada"), (BOB, "bob"), (CID, "cid"), (EVE, "eve")):
            if other != name:
                self.do(LinkUp(link, HELLOS[other], frozenset(), True))
        self.do(LinkUp(LOCAL_FAR, HELLOS[name], frozenset(), False))

    def do(self, event: Any) -> list[Effect]:
        """Give the voter an event; what is to be stored waits in ``pending``."""
        effects = self.voter.handle(event, self.now)
        self.pending += [effect for effect in effects if isinstance(effect, Persist)]
        return effects

    def get(self, link: int, channel: int, message: Any) -> list[Effect]:
        return self.do(Received(link, channel, message))

    def sync(self) -> list[Effect]:
        """Everything pending is durable: what waited for it."""
        then = [effect for persist in self.pending for effect in persist.then]
        self.disk += [persist.record for persist in self.pending]
        self.pending.clear()
        return then

    def say(self, link: int, channel: int, message: Any) -> list[Any]:
        """Give the voter a message, let it store, and return the messages that it sends, refusals as they are."""
        effects = self.get(link, channel, message)
        found: list[Any] = [effect for effect in effects if isinstance(effect, (Send, Refuse))]
        return [effect.error if isinstance(effect, Refuse) else effect.message for effect in found + self.sync()]


def refusal(answers: list[Any]) -> tuple[ErrorCode, str]:
    """Code and clause of the one refusal among answers."""
    errors = [answer for answer in answers if hasattr(answer, "clause")]
    assert len(errors) == 1, answers
    return errors[0].code, errors[0].clause
