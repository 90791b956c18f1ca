"""Where a voter's records are kept: one durable journal beside its key (SPEC.md, section 16.8)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dsdproto.commit.ledger import Ledger
from dsdproto.commit.records import RECORDS, Accepted, Committed, Forgotten, Founded, Promised, VoterRecord
from dsdproto.wire.groups import split_group
from dsdproto.wire.messages import MAX_PROMPT
from reference_nodes.journal_sqlite import COMPACT_AFTER, SqliteJournal

FILE = "votes.db"


def open_votes(directory: Path, node_id: bytes, *, compact_after: int = COMPACT_AFTER) -> SqliteJournal:
    """The journal of the voter whose identity lies in ``directory``; made if it is not there.

    Raises :class:`~reference_nodes.journal_file.JournalError`.
    """
    kinds = [kind for kind in RECORDS.values() if kind is not Forgotten]
    return SqliteJournal(
        directory / FILE, node_id, kinds, Forgotten, compact=compacted, compact_after=compact_after
    )


def compacted(records: Sequence[VoterRecord]) -> Sequence[VoterRecord]:
    """Fewer records of one session that restore the same ledger: founding, last promise, log in one piece, its end."""
    founded = records[0]
    if not isinstance(founded, Founded):
        return records
    ledger = Ledger.founded(founded, split_group(founded.group))
    promised: Promised | None = None
    for record in records[1:]:
        match record:
            case Promised():
                promised = record
                ledger.replay_promise(record)
            case Accepted():
                ledger.replay_accepted(record)
            case Committed():
                ledger.replay_committed(record)
            case _:
                return records
    kept: list[VoterRecord] = [founded]
    if promised is not None:
        kept.append(promised)
    if not ledger.empty:
        prompt = len(ledger.contract.prompt)
        tokens = ledger.chain.tokens_from(prompt)
        if len(tokens) > MAX_PROMPT:
            return records  # longer than one record may be
        kept.append(
            Accepted(
                session=founded.session,
                view=ledger.view,
                height=ledger.height,
                position=prompt,
                tokens=tokens,
                digest=ledger.chain.digest,
                committed=ledger.committed,
                finish=ledger.finish,
            )
        )
    if ledger.finished:
        kept.append(ledger.end_committed)
    return kept
