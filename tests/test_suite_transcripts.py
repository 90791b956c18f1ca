"""Rung 2: what the transcripts expect is what the recording machines know; the example reads them; bad readers fail."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from conformance.case import CASES, Case, Rung, load
from conformance.door import make_schema
from conformance.door.exec import ExecDoor
from conformance.examples.python.replaying import replay
from conformance.runner import Options, Result, Runner
from conformance.static import vectors
from conformance.transcripts import HERE, KIND
from conformance.transcripts.breach_table import breaches
from conformance.transcripts.breaches import scene
from conformance.transcripts.make import broken, recorded
from conformance.transcripts.recording import cut, steps_of, transcript
from conformance.transcripts.scenes import SCENES, Scene
from conformance.transcripts.stage import alone
from conformance.verdict import Verdict
from dsdproto.registry import GREASE_TYPES, Role
from dsdproto.roles.client import Completed, SessionItem

TESTEE = [sys.executable, "-m", "conformance.examples.python"]
FILES = vectors.files(HERE)
PUBLISHED = {each["id"]: each for name in FILES for each in vectors.load(name, HERE, KIND)}


def read(where: Scene, recorder: str) -> dict[str, Any]:
    node = where.stage.nodes[recorder]
    return replay(transcript(node, steps_of(node), "test"))


def of_plane(conclusions: dict[str, Any], plane: str) -> list[dict[str, Any]]:
    return [channel for channel in conclusions["channels"] if channel["plane"] == plane]


# ---------------------------------------------------------------- conclusions against the machines


@pytest.mark.parametrize("make", SCENES, ids=lambda make: make.__name__)
def test_the_stream_is_the_targets_own(make: Callable[[], Scene]) -> None:
    where = scene(make)
    streams = {recorder: of_plane(read(where, recorder), "session") for recorder in where.recorders}
    for number, client in enumerate(where.clients):
        tokens = list(client.tokens)
        assert tokens == alone(client.contract, len(tokens))
        if not tokens:
            continue
        # A stream that was resumed is in two channels, one behind the other.
        seen = streams["client"][number:] if len(where.clients) == 1 else [streams["client"][number]]
        assert [token for channel in seen for token in channel["tokens"]] == tokens
        assert (seen[-1]["position"], seen[-1]["digest"]) == (client.chain.position, client.chain.digest.hex())
        assert all(channel["state"] == "closed" for channel in seen)
    for recorder, channels in streams.items():
        if recorder == "leader" and where.name != "given-up":  # there, what the leader sent crossed the end
            assert [each["tokens"] for each in channels] == [each["tokens"] for each in streams["client"]]


@pytest.mark.parametrize("make", SCENES, ids=lambda make: make.__name__)
def test_the_books_are_those_of_end(make: Callable[[], Scene]) -> None:
    where = scene(make)
    if "leader" not in where.recorders:
        return
    books = {each["session"]: each for each in read(where, "leader")["books"]}
    items = [item for item in where.stage.nodes["client"].delivered if isinstance(item, SessionItem)]
    ends = {item.session.hex(): item.item.stats for item in items if isinstance(item.item, Completed)}
    assert ends or where.name == "given-up"
    for session, stats in ends.items():
        assert stats is not None
        said = {"drafted": stats.drafted, "accepted": stats.accepted, "waste": list(stats.waste), "live": 0}
        assert books[session] == {"session": session, **said}
        assert stats.drafted == stats.accepted + sum(stats.waste)


@pytest.mark.parametrize("make", SCENES, ids=lambda make: make.__name__)
def test_both_ends_of_a_channel_read_it_alike(make: Callable[[], Scene]) -> None:
    where = scene(make)
    if "leader" not in where.recorders or where.name in ("drafter-lost", "verifier-lost", "given-up"):
        return
    mine = read(where, "leader")
    for recorder in where.recorders:
        if recorder == "leader":
            continue
        numbers = [n for n, (_, peer) in enumerate(where.stage.nodes["leader"].sides.values())
                   if peer == where.stage.nodes[recorder].machine.hello.node_id]  # fmt: skip
        theirs = read(where, recorder)
        there = [dict(channel) for channel in mine["channels"] if channel["connection"] in numbers]
        here = [dict(channel) for channel in theirs["channels"]]
        for channel in (*there, *here):
            del channel["connection"], channel["opened_by"]
        assert here == there


def test_voters_hold_what_the_client_has() -> None:
    where = scene(next(make for make in SCENES if make.__name__ == "takeover"))
    client = where.clients[0]
    for recorder in ("bob", "cid"):
        votes = of_plane(read(where, recorder), "commit")
        ledger = where.stage.nodes[recorder].machine.roles[Role.VOTER].seats[client.session].ledger  # type: ignore[attr-defined]
        assert max(channel["committed"] for channel in votes) == ledger.committed == client.chain.position
        assert {channel["view"] for channel in votes} == {0, 1}


def test_every_transcript_has_grease_both_ways() -> None:
    names = {f"0x{code:02x}" for code in GREASE_TYPES}
    for name, each in PUBLISHED.items():
        conclusions = each["expect"]["ok"]
        for number, connection in enumerate(conclusions["connections"]):
            if connection["state"] == "handshake" or name.startswith("breach/"):
                continue
            for way in ("in", "out"):
                greasy = [frame for frame in conclusions["frames"] if frame[:2] == [number, way] and frame[3] in names]
                assert greasy and all(frame[4] == "ignored" for frame in greasy), (name, number, way)


# ---------------------------------------------------------------- files


def test_the_published_transcripts_are_read_as_they_say() -> None:
    assert len(PUBLISHED) == sum(len(vectors.load(name, HERE, KIND)) for name in FILES) > 150
    for name, each in PUBLISHED.items():
        conclusions = replay(each["request"]["transcript"])
        conclusions.get("violation", {}).pop("clause", None)
        assert json.loads(json.dumps(conclusions)) == each["expect"]["ok"], name


def test_every_breach_is_found_where_it_is_put_and_published() -> None:
    names = [breach.name for breach in breaches()]
    assert len(names) == len(set(names)) > 100
    for breach in breaches():
        assert broken(breach)["id"] in PUBLISHED
    assert {name for name in PUBLISHED if name.startswith("breach/")} == {f"breach/{name}" for name in names}


def test_recording_anew_gives_the_same_transcripts_twice() -> None:
    for make in SCENES[:3]:
        assert list(recorded(make())) == list(recorded(make()))


@pytest.mark.parametrize("seed", range(5))
def test_where_the_bytes_are_cut_does_not_matter(seed: int) -> None:
    where = scene(SCENES[1])
    node = where.stage.nodes["leader"]
    whole = replay({**transcript(node, [], ""), "steps": [[c, way, data.hex()] for c, way, data in steps_of(node)]})
    steps = cut(steps_of(node), random.Random(seed))
    assert replay({**transcript(node, [], ""), "steps": [[c, way, data.hex()] for c, way, data in steps]}) == whole
    assert b"".join(data for _, _, data in sorted(steps, key=lambda step: step[:2])) == b"".join(
        data for _, _, data in sorted(steps_of(node), key=lambda step: step[:2])
    )


def test_transcripts_and_conclusions_keep_to_the_schema() -> None:
    document = make_schema.schema()
    for shape, part in (
        ("transcript", lambda each: each["request"]["transcript"]),
        ("conclusions", lambda each: each["expect"]["ok"]),
    ):
        schema = {"$schema": document["$schema"], "$ref": f"#/$defs/{shape}", "$defs": document["$defs"]}
        validator = jsonschema.Draft202012Validator(schema)
        for name in list(PUBLISHED)[::9]:
            errors = list(validator.iter_errors(part(PUBLISHED[name])))
            assert not errors, (name, shape, errors[0].message[:300])


# ---------------------------------------------------------------- through the door


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    load()
    return [case for case in CASES if case.rung is Rung.TRANSCRIPT]


def run(command: list[str], cases: list[Case]) -> dict[str, Result]:
    with ExecDoor(command) as door:
        return {each.case.id: each for each in Runner(door, Options(seed=1)).run(cases)}


def test_the_example_testee_passes_every_transcript(cases: list[Case]) -> None:
    assert len(cases) == len(PUBLISHED)
    wrong = {
        name: each.outcome for name, each in run(TESTEE, cases).items() if each.outcome.verdict is not Verdict.PASS
    }
    assert not wrong


FAULTS = {
    "never-counts-credit": (
        "following.Draft.outstanding = property(lambda self: [])",
        {"breach/more-than-the-credit", "breach/credit-used-up", "transcript/chain-greedy-at-leader"},
        {"breach/pong-that-nobody-asked-for"},
    ),
    "believes-every-verdict": (
        "following.check_verdict = lambda *args: None",
        {"breach/verdict-with-another-digest", "breach/verdict-that-ends-too-early"},
        {"breach/verify-below-another-prefix", "transcript/trees-warm-at-leader"},
    ),
    "does-not-drop-what-crossed": (
        "replaying.Channels.is_closed = lambda self, number: False",
        {"transcript/quorum-at-ada", "transcript/given-up-at-client"},
        {"transcript/no-drafters-at-client"},
    ),
    "takes-any-handshake": (
        "replaying.End.meet = lambda self: setattr(self, 'negotiated', "
        "replaying.negotiate(self.hellos['out'][0], self.hellos['in'][0]))",
        {"breach/hello-of-another-node", "breach/hello-of-another-cluster"},
        {"breach/hello-of-later-versions", "transcript/no-drafters-at-client"},
    ),
    "ends-the-connection-for-everything": (
        "replaying.End.narrow = lambda self, frame, error: 0",
        {"breach/even-key-in-close", "breach/block-repeated"},
        {"breach/unknown-even-type"},
    ),
    "promises-to-anyone": (
        "following.Ledgers.receive = lambda self, key, message, peer=None: None",
        {"breach/enlist-of-a-view-of-somebody-else", "breach/prepare-below-an-unknown-base"},
        {"transcript/quorum-at-cid"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_a_reader_that_errs_fails_the_right_cases(fault: str, cases: list[Case], tmp_path: Path) -> None:
    line, failing, passing = FAULTS[fault]
    path = tmp_path / "testee.py"
    head = "from conformance.examples.python import __main__, following, replaying"
    path.write_text(f"{head}\n{line}\n__main__.main()\n")
    results = run([sys.executable, str(path)], [case for case in cases if case.id in failing | passing])
    assert {name for name, each in results.items() if each.outcome.verdict is Verdict.FAIL} == failing
    assert {name for name, each in results.items() if each.outcome.verdict is Verdict.PASS} == passing
