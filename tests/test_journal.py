"""The durable journal: what it acknowledged is there after any end of its process; damage is never believed."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsdproto.commit.records import Accepted, Committed, Forgotten, Founded, Promised, VoterRecord
from dsdproto.errors import LocalError
from dsdproto.registry import Role
from dsdproto.roles.voter import Voter, VoterConfig
from dsdproto.session import chain_of
from dsdproto.wire.schema import bstr, record, tokens, uint
from reference_nodes.client import make_contract
from reference_nodes.journal_file import JournalBusy, JournalDamaged, JournalError, JournalForeign, mark_of, wal_of
from reference_nodes.journal_mark import Mark
from reference_nodes.journal_sqlite import SPARE_PAGES, SqliteJournal
from reference_nodes.journal_wal import FRAME, HEADER, examine
from reference_nodes.votes import compacted, open_votes

NODE = bytes(range(32))
PAGE = 4096


@record
class Noted:
    """Stands for the records of a voter."""

    session: bytes = bstr(1, size=16)
    number: int = uint(2)
    tokens: tuple[int, ...] = tokens(3, max_items=1000)


@record
class Gone:
    session: bytes = bstr(1, size=16)


def session(number: int) -> bytes:
    return number.to_bytes(16, "big")


def noted(number: int, of: int = 1, size: int = 3) -> Noted:
    return Noted(session=session(of), number=number, tokens=tuple(range(size)))


def open_journal(path: Path, **more: object) -> SqliteJournal:
    return SqliteJournal(path, NODE, [Noted], Gone, **more)  # type: ignore[arg-type]


def append(journal: SqliteJournal, *records: object) -> None:
    journal.append([(Role.VOTER, record) for record in records])


def stored(path: Path) -> list[object]:
    journal = open_journal(path)
    try:
        return journal.load()
    finally:
        journal.close()


def fill(path: Path, records: Iterable[Sequence[object]]) -> None:
    """One append each, and a close in good order."""
    journal = open_journal(path)
    journal.load()
    for batch in records:
        append(journal, *batch)
    journal.close()


def edit(path: Path, statement: str, *values: object) -> None:
    """As a failing disk would do it."""
    with sqlite3.connect(path) as file:
        assert file.execute(statement, values).rowcount
    file.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "votes.db"


# ---------------------------------------------------------------- what it keeps


def test_keeps_records_in_order(path):
    fill(path, [[noted(0)], [noted(1, of=2), noted(2)], []])
    fill(path, [[noted(3, of=2)]])
    assert stored(path) == [noted(0), noted(1, of=2), noted(2), noted(3, of=2)]


def test_asks_for_a_sync_at_every_commit(path):
    journal = open_journal(path)
    settings = {name: journal.setting(name) for name in ("journal_mode", "synchronous", "locking_mode", "auto_vacuum")}
    assert settings == {"journal_mode": "wal", "synchronous": 2, "locking_mode": "exclusive", "auto_vacuum": 2}
    assert journal.setting("fullfsync") == journal.setting("checkpoint_fullfsync") == 1
    journal.load()
    append(journal, noted(0), noted(1))
    append(journal, noted(2))
    assert (journal.syncs, journal.stored) == (2, 3)
    journal.close()


def test_works_from_any_thread(path):
    journal = open_journal(path)
    journal.load()
    for number in range(3):
        thread = threading.Thread(target=append, args=(journal, noted(number)))
        thread.start()
        thread.join()
    journal.close()
    assert len(stored(path)) == 3


def test_is_for_its_owner_alone(path):
    journal = open_journal(path)
    journal.load()
    append(journal, noted(0))
    files = list(path.parent.iterdir())
    assert {path, wal_of(path)} <= set(files)
    if os.name == "posix":
        assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    journal.close()


def test_refuses_what_it_does_not_know(path):
    journal = open_journal(path)
    with pytest.raises(LocalError, match="load"):
        append(journal, noted(0))
    journal.load()

    @record
    class Other:
        session: bytes = bstr(1, size=16)

    with pytest.raises(LocalError, match="Other"):
        append(journal, noted(0), Other(session=session(1)))
    journal.close()
    assert stored(path) == []


# ---------------------------------------------------------------- bounds


def test_forgets_sessions_and_gives_their_space_back(path):
    journal = open_journal(path)
    journal.load()
    append(journal, noted(0, of=7))
    sizes = []
    for number in range(1, 7):
        for block in range(200):
            append(journal, *(noted(block, of=number, size=300) for _ in range(3)))
        sizes.append(journal.setting("page_count"))
        append(journal, Gone(session=session(number)))
        assert journal.sessions == 1
    assert max(sizes) < 1.2 * sizes[0]
    assert journal.setting("page_count") < SPARE_PAGES + 10 < sizes[0] / 2
    append(journal, noted(1, of=7))
    journal.close()
    assert wal_of(path).exists() is False
    names = [Gone(session=session(number)) for number in range(1, 7)]
    assert stored(path) == [noted(0, of=7), *names, noted(1, of=7)]


def test_keeps_only_the_last_names_of_what_it_forgot(path):
    gone = [Gone(session=session(number)) for number in range(1, 6)]
    journal = open_journal(path, max_forgotten=2)
    journal.load()
    append(journal, noted(0, of=9))
    for number, one in enumerate(gone[:4], 1):
        append(journal, noted(0, of=number), one)
    assert journal.sessions == 1
    journal.close()
    journal = open_journal(path, max_forgotten=2)
    assert journal.load() == [noted(0, of=9), gone[2], gone[3]]
    append(journal, gone[4])
    journal.close()
    assert stored(path) == [noted(0, of=9), gone[3], gone[4]]


def test_compacts_sessions_when_it_is_opened(path):
    fill(path, [[noted(number, of=number % 2)] for number in range(40)])

    def last_two(records: Sequence[object]) -> Sequence[object]:
        return records[-2:]

    journal = open_journal(path, compact=last_two)
    wanted = [noted(36, of=0), noted(38, of=0), noted(37), noted(39)]
    assert sorted(journal.load(), key=lambda one: one.number) == sorted(wanted, key=lambda one: one.number)
    append(journal, noted(40))
    journal.close()
    assert sorted(one.number for one in stored(path)) == [36, 37, 38, 39, 40]


def test_does_not_grow_beyond_its_limit(path):
    journal = open_journal(path, max_bytes=40 * PAGE)
    journal.load()
    with pytest.raises(JournalError, match="cannot grow"):
        for number in range(1000):
            append(journal, noted(number, size=900))
    journal.close()
    kept = stored(path)
    assert 0 < len(kept) < 1000 and [one.number for one in kept] == list(range(len(kept)))


# ---------------------------------------------------------------- one process at a time


def test_two_cannot_use_one_file(path):
    journal = open_journal(path)
    with pytest.raises(JournalBusy, match="another process"):
        open_journal(path)
    program = (
        "import sys; from pathlib import Path; from test_journal import *\n"
        "try: open_journal(Path(sys.argv[1]))\n"
        "except JournalBusy: print('busy')"
    )
    command = [sys.executable, "-c", program, str(path)]
    asked = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    assert asked.stdout == "busy\n"
    journal.load()
    append(journal, noted(0))
    journal.close()
    assert stored(path) == [noted(0)]


def test_sqlite_itself_keeps_others_out(path):
    """Where there is no flock, and for whoever looks at the file with another tool."""
    journal = open_journal(path)
    other = sqlite3.connect(path, timeout=0)
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        other.execute("SELECT * FROM record").fetchall()
    other.close()
    journal.close()


def test_belongs_to_one_identity(path):
    open_journal(path).close()
    with pytest.raises(JournalForeign, match="votes of node"):
        SqliteJournal(path, bytes(32), [Noted], Gone)


def test_is_told_from_other_files(path):
    path.write_bytes(b"no database at all, but long enough to be one" * 100)
    with pytest.raises(JournalDamaged):
        open_journal(path)
    path.unlink()
    with sqlite3.connect(path) as file:
        file.execute("CREATE TABLE theirs (a)")
    file.close()
    with pytest.raises(JournalForeign, match="another program"):
        open_journal(path)


# ---------------------------------------------------------------- the end of a process


WRITER = """
import sys
from pathlib import Path
from test_journal import append, noted, open_journal

journal = open_journal(Path(sys.argv[1]))
number = len(journal.load())
while True:
    append(journal, *(noted(number + i, size=200) for i in range(1 + number % 3)))
    number += 1 + number % 3
    print(number, flush=True)
"""


def test_what_was_acknowledged_survives_kill_9(path):
    acknowledged = 0
    for acknowledgements in (1, 40, 150):
        command = [sys.executable, "-c", WRITER, str(path)]
        writer = subprocess.Popen(command, cwd=Path(__file__).parent, stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        for _ in range(acknowledgements):
            acknowledged = int(writer.stdout.readline())
        # In the middle of whatever it is doing now.
        writer.send_signal(signal.SIGKILL)
        rest = writer.stdout.read().split()
        writer.wait()
        acknowledged = int(rest[-1]) if rest else acknowledged
        kept = stored(path)
        assert len(kept) >= acknowledged
        assert [one.number for one in kept] == list(range(len(kept)))


def crashed(path: Path, appends: int) -> tuple[bytes, bytes]:
    """Database and log as a process leaves them that dies after so many appends of two pages or so each.

    The last one was not acknowledged.
    """
    journal = open_journal(path)
    journal.load()
    for number in range(appends):
        mark = mark_of(path).read_bytes()
        append(journal, noted(number, size=1000))
    left = path.read_bytes(), wal_of(path).read_bytes()
    journal.close()
    mark_of(path).write_bytes(mark)
    return left


def leave(path: Path, left: tuple[bytes, bytes], acknowledged: int | None = None) -> None:
    path.write_bytes(left[0])
    wal_of(path).write_bytes(left[1])
    if acknowledged is not None:
        mark = Mark(mark_of(path), NODE)
        mark.write(acknowledged)
        mark.close()


def ends(log: bytes) -> list[int]:
    """Where each transaction of a log ends."""
    step = FRAME.size + PAGE
    frames = range(HEADER.size, len(log) - step + 1, step)
    return [begin + step for begin in frames if FRAME.unpack_from(log, begin)[1]]


def test_a_torn_last_write_is_dropped_whatever_was_left_of_it(path, caplog):
    database, log = crashed(path, 6)
    *_, before, end = ends(log)
    assert end == len(log) and end - before > FRAME.size + PAGE
    for cut in (before, before + 1, before + FRAME.size, before + FRAME.size + PAGE, end - 1):
        leave(path, (database, log[:cut]))
        caplog.clear()
        assert [one.number for one in stored(path)] == [0, 1, 2, 3, 4]
        assert ("incomplete" in caplog.text) == (cut > before)


def test_a_damaged_last_write_is_dropped(path, caplog):
    database, log = crashed(path, 6)
    before = ends(log)[-2]
    for place in (before + 2, before + FRAME.size + 100, len(log) - 1):
        leave(path, (database, log[:place] + bytes([log[place] ^ 1]) + log[place + 1 :]))
        caplog.clear()
        assert [one.number for one in stored(path)] == [0, 1, 2, 3, 4]
        assert "incomplete" in caplog.text


def test_a_last_write_that_was_acknowledged_is_not_dropped(path):
    """However it was lost: cut off, damaged, or deleted with the rest."""
    database, log = crashed(path, 6)
    *_, before, end = ends(log)
    damaged = log[: before + 200] + bytes([log[before + 200] ^ 1]) + log[before + 201 :]
    for left in (log[:before], log[: before + FRAME.size], log[: end - 1], damaged):
        leave(path, (database, left), acknowledged=6)
        for _ in range(2):
            with pytest.raises(JournalDamaged, match=r"votes\.db: write 6 was acknowledged .* is 5.*must not vote"):
                stored(path)
    path.unlink()
    assert not wal_of(path).exists()
    with pytest.raises(JournalDamaged, match="write 6 was acknowledged and is gone, the last one there is 0"):
        stored(path)
    leave(path, (database, log), acknowledged=6)
    assert len(stored(path)) == 6


def test_an_older_copy_is_told_from_what_was_there(path):
    fill(path, [[noted(0)], [noted(1)]])
    copy = path.read_bytes()
    fill(path, [[noted(2)]])
    path.write_bytes(copy)
    with pytest.raises(JournalDamaged, match="write 3 was acknowledged and is gone, the last one there is 2"):
        stored(path)


@pytest.mark.parametrize("mark", [b"", b"half of it", bytes(24), b"\xff" * 24])
def test_a_mark_that_says_nothing_is_no_damage(path, mark):
    fill(path, [[noted(0)], [noted(1)]])
    mark_of(path).write_bytes(mark)
    assert stored(path) == [noted(0), noted(1)]
    mark_of(path).unlink()
    assert stored(path) == [noted(0), noted(1)]


def test_a_mark_of_another_node_says_nothing(path):
    mark = Mark(path.with_name("mark"), NODE)
    mark.write(7)
    assert mark.read() == 7
    mark.close()
    other = Mark(path.with_name("mark"), bytes(32))
    assert other.read() == 0
    other.close()


def test_the_mark_never_runs_ahead_of_what_is_there(path):
    """Empty writes, forgotten sessions and compaction included."""
    journal = open_journal(path, max_forgotten=1, compact=lambda records: records[-1:], compact_after=4)
    journal.load()
    for number in range(12):
        append(journal, noted(number))
        append(journal)
    for number in (2, 3, 1):
        append(journal, noted(0, of=number), Gone(session=session(number)))
        append(journal)
    journal.close()
    journal = open_journal(path, compact=lambda records: [])
    assert journal.load() == [Gone(session=session(1))]
    journal.close()
    assert stored(path) == [Gone(session=session(1))]


def test_a_hole_in_the_log_is_an_error_again_and_again(path):
    database, log = crashed(path, 6)
    places = ends(log)
    for place in (places[0] + FRAME.size + 5, places[2] - 1, places[3] + 12):
        leave(path, (database, log[:place] + bytes([log[place] ^ 0x80]) + log[place + 1 :]))
        for _ in range(2):
            with pytest.raises(JournalDamaged, match=r"votes\.db-wal, frame \d+.*must not vote"):
                open_journal(path)
    leave(path, (database, log))
    assert len(stored(path)) == 6


def test_leftovers_of_an_earlier_round_of_the_log_are_no_damage(path):
    journal = open_journal(path)
    journal.load()
    for number in range(30):
        append(journal, noted(number, size=1000))
    journal._file.execute("PRAGMA wal_checkpoint(RESTART)")
    append(journal, noted(30))
    left = path.read_bytes(), wal_of(path).read_bytes()
    journal.close()
    leave(path, left)
    found = examine(wal_of(path))
    assert (found.torn, found.hole) == (None, None) and found.frames < len(left[1]) // PAGE
    assert len(stored(path)) == 31


def test_a_log_without_its_file_is_damage(path):
    leave(path, crashed(path, 2))
    path.unlink()
    with pytest.raises(JournalDamaged, match="is gone"):
        open_journal(path)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE record SET body = x'a0' WHERE number = 3",
        "UPDATE record SET session = zeroblob(16) WHERE number = 3",
        "UPDATE record SET place = 9 WHERE number = 3",
        "UPDATE record SET kind = 'Gone' WHERE number = 3",
        "UPDATE record SET sum = zeroblob(16) WHERE number >= 3",
        "DELETE FROM record WHERE number = 3",
        "UPDATE record SET body = x'a0' WHERE number = 5",
        "UPDATE record SET sum = zeroblob(16) WHERE number = 5",
    ],
)
def test_a_bad_row_is_an_error_that_names_file_and_row_the_last_one_too(path, statement):
    fill(path, [[noted(number)] for number in range(5)])
    edit(path, statement)
    row = 4 if statement.startswith("DELETE") else int(statement.split()[-1])
    for _ in range(2):
        journal = open_journal(path)
        with pytest.raises(JournalDamaged, match=rf"votes\.db, row {row}: .*must not vote.*dsdp join"):
            journal.load()
        journal.close()


def test_rows_of_a_newer_version_are_not_guessed_at(path):
    fill(path, [[noted(0)]])
    journal = SqliteJournal(path, NODE, [], Gone)
    with pytest.raises(JournalForeign, match="newer version"):
        journal.load()
    journal.close()


def test_a_damaged_page_is_an_error(path):
    fill(path, [[noted(number, size=1000)] for number in range(20)])
    data = bytearray(path.read_bytes())
    data[2 * PAGE : 3 * PAGE] = b"\xee" * PAGE
    path.write_bytes(bytes(data))
    with pytest.raises(JournalDamaged):
        stored(path)


@settings(max_examples=40, deadline=None)
@given(damage=st.data())
def test_one_damaged_bit_never_changes_a_record(tmp_path_factory, damage):
    """Whatever is read is a prefix of what was stored, or nothing is read at all."""
    path = tmp_path_factory.mktemp("bit") / "votes.db"
    left = list(crashed(path, 5))
    which = damage.draw(st.integers(0, 1))
    place = damage.draw(st.integers(0, len(left[which]) - 1))
    bit = damage.draw(st.integers(0, 7))
    left[which] = left[which][:place] + bytes([left[which][place] ^ 1 << bit]) + left[which][place + 1 :]
    leave(path, (left[0], left[1]))
    try:
        kept = stored(path)
    except JournalError:
        return
    assert kept == [noted(number, size=1000) for number in range(len(kept))]


# ---------------------------------------------------------------- a voter's records


TERMS = make_contract((512, bytes(32)), (3, 1, 4), max_tokens=5000)
GROUP = tuple(bytes([number]) * 32 for number in (1, 2, 3))


def voted(blocks: int, of: int = 1, views: int = 3) -> list[VoterRecord]:
    """What a voter stores of a session of so many blocks; each view cuts off a little and says it anew."""
    records: list[VoterRecord] = [Founded(session=session(of), contract=TERMS, group=b"".join(GROUP))]
    chain = chain_of(TERMS)
    for number in range(blocks):
        view = number * views // blocks
        if not any(isinstance(one, Promised) and one.view == view for one in records):
            records.append(
                Promised(
                    session=session(of),
                    view=view,
                    model=f"m{view}",
                    profile=bytes(32),
                    profile_text="",
                    max_drafters=view,
                )
            )
            chain.truncate(max(len(TERMS.prompt), chain.position - 2))
        position, tokens = chain.position, (number % 512, of)
        chain.extend(tokens)
        records.append(
            Accepted(
                session=session(of),
                view=view,
                height=number + 1,
                position=position,
                tokens=tokens,
                digest=chain.digest,
                committed=position,
                finish=2 if number == blocks - 1 else None,
            )
        )
    if blocks > 1:
        records.append(Committed(session=session(of), height=blocks, position=chain.position))
    return records


def ledgers(records: Iterable[VoterRecord]) -> dict[bytes, object]:
    """What a voter is after replaying ``records``, as values that compare."""
    voter = Voter(VoterConfig(), GROUP[1])
    voter.restore(records)
    return {
        known: (
            *(seat.ledger.contract, seat.ledger.group, seat.ledger.promised, seat.ledger.model),
            *(seat.ledger.max_drafters, seat.ledger.view, seat.ledger.height, seat.ledger.finish),
            *(seat.ledger.committed, seat.ledger.committed_height),
            *(seat.ledger.chain.digest, seat.ledger.chain.tokens_from(0)),
        )
        for known, seat in voter.seats.items()
    }


@pytest.mark.parametrize("blocks", [0, 1, 2, 50])
def test_fewer_records_restore_the_same_ledger(blocks):
    records = voted(blocks)
    assert ledgers(compacted(records)) == ledgers(records)
    assert len(compacted(records)) <= min(len(records), 4)
    assert compacted(compacted(records)) == compacted(records)
    founding = records[: 1 + (blocks > 0)]
    assert ledgers(compacted(founding)) == ledgers(founding)


def test_a_voters_journal_stays_small_while_it_grows(tmp_path):
    journal = open_votes(tmp_path, NODE, compact_after=20)
    journal.load()
    both = [one for pair in zip(voted(90, of=1), voted(90, of=2)) for one in pair]
    rows = []
    for one in both:
        append(journal, one)
        rows.append(journal._file.execute("SELECT count(*) FROM record").fetchone()[0])
    assert max(rows) <= 2 * 20 + 1
    journal.close()
    for _ in range(2):
        journal = open_votes(tmp_path, NODE)
        restored = journal.load()
        assert len(restored) == 8 and ledgers(restored) == ledgers(both)
        journal.close()
    append_to = open_votes(tmp_path, NODE)
    append_to.load()
    append(append_to, Forgotten(session=session(1)))
    append_to.close()
    journal = open_votes(tmp_path, NODE)
    restored = journal.load()
    assert ledgers(restored) == ledgers(voted(90, of=2)) and Forgotten(session=session(1)) in restored
    journal.close()
