"""Reports: JSON and its schema, JUnit XML, the terminal, the annotated wire log, comparison."""

from __future__ import annotations

import copy
import io
import json
from importlib import resources
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pytest
from suite_samples import EVIL, VERDICTS, Clock, FakeDoor, registry, sample

from conformance.case import Rung
from conformance.clauses import known
from conformance.example_session import handshake, session
from conformance.report import annotate, items
from conformance.report.badges import svg
from conformance.report.compare import compare, text
from conformance.report.junit import xml
from conformance.report.make import Keep
from conformance.report.model import BadgeState, Report, ReportError, WireEntry, badge
from conformance.report.terminal import TerminalProgress, summary
from conformance.runner import Options, Runner
from conformance.verdict import Verdict
from dsdproto.registry import Role
from dsdproto.wire.frames import encode_frame
from dsdproto.wire.schema import SPECS

SCHEMA = json.loads(resources.files("conformance.report").joinpath("report.schema.json").read_text("utf-8"))


# ---------------------------------------------------------------- JSON


@pytest.mark.parametrize("keep", list(Keep))
def test_the_json_report_follows_its_schema(keep: Keep) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(sample(keep).to_json(), SCHEMA)


@pytest.mark.parametrize(
    "path",
    [
        ("format",),
        ("spec", "digest"),
        ("run", "seed"),
        ("cases", 0, "verdict"),
        ("badges", 0, "state"),
        ("cases", 0, "id"),
    ],
)
def test_the_schema_refuses_what_is_wrong(path: tuple[Any, ...]) -> None:
    content = sample().to_json()
    where = content
    for step in path[:-1]:
        where = where[step]
    where[path[-1]] = "wrong"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(content, SCHEMA)


def test_a_report_survives_a_file(tmp_path: Path) -> None:
    made = sample(Keep.ALL)
    made.save(tmp_path / "report.json")
    assert Report.load(tmp_path / "report.json") == made


def test_keys_of_later_versions_are_left_out() -> None:
    content = sample().to_json()
    content["weather"] = content["cases"][0]["mood"] = "fine"
    assert Report.from_json(content) == sample()


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        (lambda c: c.update(format=2), "no report of format 1"),
        (lambda c: c.pop("cases"), "report: `cases` belongs here"),
        (lambda c: c["cases"][1].update(verdict="GOOD"), r"report.cases\[1\].verdict: one of"),
        (lambda c: c["cases"][1].update(level="SHALL"), r"report.cases\[1\].level: MUST"),
        (lambda c: c["run"].update(seed="7"), "report.run.seed: an integer"),
        (lambda c: c["run"].update(seed=True), "report.run.seed: an integer"),
        (lambda c: c.update(passed=0), "report.passed: true or false"),
        (lambda c: c.update(cases={}), "report.cases: a list"),
        (lambda c: c.update(summary=[]), "report.summary: an object"),
        (lambda c: c.update(testee=None), "report.testee: an object"),
    ],
)
def test_what_is_no_report_is_refused_with_the_place(change: Any, wrong: str) -> None:
    content = copy.deepcopy(sample().to_json())
    change(content)
    with pytest.raises(ReportError, match=wrong):
        Report.from_json(content)


def test_files_that_are_no_reports(tmp_path: Path) -> None:
    for content, wrong in ((b"{", "no JSON"), (b"[]", "found: list"), (b"\xff\xfe", "no JSON")):
        path = tmp_path / "x.json"
        path.write_bytes(content)
        with pytest.raises(ReportError, match=wrong):
            Report.load(path)
    with pytest.raises(ReportError, match="No such file"):
        Report.load(tmp_path / "none.json")


def test_a_report_names_all_versions_and_how_to_repeat_it() -> None:
    made = sample()
    assert (made.testee.name, made.testee.version) == ("rusty-dsdp", "0.3.1")
    assert made.suite.version
    assert made.spec.clauses == len(known())
    (case,) = (case for case in made.cases if case.id == "verify/truncated")
    assert case.reproduce == "dsdp-conformance run --exec './testee --strict' --seed 4711 --case verify/truncated"
    assert {clause.id for clause in made.clauses} >= {"V-6", "B-1"}
    assert not made.passed


def test_wire_logs_are_kept_where_there_was_trouble() -> None:
    def kept(keep: Keep) -> set[str]:
        return {case.id for case in sample(keep).cases if case.wire}

    assert kept(Keep.TROUBLE) == {"philox/known-answers", "verify/truncated", "heartbeat/pong-at-once"}
    assert kept(Keep.NONE) == set()


P, F, U, S = Verdict.PASS, Verdict.FAIL, Verdict.UNSUPPORTED, Verdict.SKIP


@pytest.mark.parametrize(
    ("verdicts", "state"),
    [
        ([P, P, U], BadgeState.PASSED),
        ([P, Verdict.WARN], BadgeState.PASSED),
        ([P, F], BadgeState.FAILED),
        ([P, Verdict.XPASS], BadgeState.FAILED),
        ([P, Verdict.XFAIL], BadgeState.KNOWN_FAILURES),
        ([P, S], BadgeState.INCOMPLETE),
        ([P, Verdict.INCONCLUSIVE], BadgeState.INCOMPLETE),
        ([P, Verdict.ERROR], BadgeState.INCOMPLETE),
        ([U, U], BadgeState.UNSUPPORTED),
        ([S, S], BadgeState.NOT_RUN),
        ([], BadgeState.NOT_RUN),
    ],
)
def test_badges(verdicts: list[Verdict], state: BadgeState) -> None:
    assert badge(Rung.STATIC, verdicts).state is state


def test_a_part_of_a_rung_is_not_the_rung() -> None:
    part = badge(Rung.LIVE, [P, P], 7, [Role.VERIFIER])
    assert (part.state, part.title) == (BadgeState.PARTIAL, "live peer (verifier)")
    assert part.text == "2 of 2 passed, 5 not asked for"
    assert badge(Rung.LIVE, [P, F], 7).state is BadgeState.FAILED
    assert badge(Rung.LIVE, [], 7).text == "none of 7 cases asked for"


def test_a_badge_for_a_page_is_a_picture_that_escapes_its_texts() -> None:
    made = sample(name=EVIL)
    good = badge(Rung.STATIC, [P, P, U])
    root = ElementTree.fromstring(svg(good, made))
    assert root.attrib["aria-label"] == "DSDP static vectors: 2/3 passed"
    assert float(root.attrib["width"]) > 100


# ---------------------------------------------------------------- JUnit


def test_junit_counts_and_names() -> None:
    root = ElementTree.fromstring(xml(sample()))
    assert root.attrib["tests"] == str(len(VERDICTS))
    assert (root.attrib["failures"], root.attrib["errors"], root.attrib["skipped"]) == ("3", "1", "4")
    cases = {f"{case.attrib['classname']}/{case.attrib['name']}": case for case in root.iter("testcase")}
    assert cases.keys() == VERDICTS.keys()
    outcome = {name: [child.tag for child in case] for name, case in cases.items()}
    assert outcome["prefix/empty"] == []
    assert outcome["verify/truncated"] == ["failure"]
    assert outcome["replay/broken-suite"] == ["error"]
    assert outcome["coupled/ties"] == ["skipped"]
    failure = cases["verify/truncated"].find("failure")
    assert failure is not None
    assert "again: dsdp-conformance run" in (failure.text or "")


def test_junit_holds_nothing_that_xml_cannot() -> None:
    """The texts of a testee may have control characters, lone surrogates and markup."""
    root = ElementTree.fromstring(xml(sample(name=f"{EVIL}\x00\ud800")))
    (value, *_) = (p.attrib["value"] for p in root.iter("property") if p.attrib["name"] == "testee")
    assert value.startswith("<script>alert(1)</script>\ufffd[31m\ufffd\ufffd")


# ---------------------------------------------------------------- terminal


def test_the_summary_says_what_went_wrong_and_how_to_repeat_it() -> None:
    said = summary(sample(), colour=False)
    assert "rung 1  static vectors       failed" in said
    assert "V-6: a truncated VERIFY was answered with the wrong code" in said
    assert "again: dsdp-conformance run --exec './testee --strict' --seed 4711 --case verify/truncated" in said
    assert said.rstrip().endswith("2 failed, 1 passed against expectation, 1 broke the suite; 8 cases judged")
    assert "\x1b" not in said
    assert "\x1b[1;31m" in summary(sample(), colour=True)


def test_a_flood_of_failures_is_not_shown_in_full() -> None:
    content = sample().to_json()
    failure = next(case for case in content["cases"] if case["id"] == "verify/truncated")
    content["cases"] = [failure | {"id": f"verify/number-{number}"} for number in range(40)]
    said = summary(Report.from_json(content), colour=False)
    assert said.count("again:") == 25
    assert "15 more than are shown in detail" in said
    assert all(f"verify/number-{number}" in said for number in range(40))


def test_a_terminal_obeys_no_testee() -> None:
    """Clause SEC-3."""
    assert "\x1b[31m" not in summary(sample(name=EVIL), colour=False)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_on_a_terminal_and_in_a_file() -> None:
    live, plain = Terminal(), io.StringIO()
    for stream in (live, plain):
        progress = TerminalProgress(stream, colour=False, clock=Clock())
        Runner(FakeDoor(), Options(seed=1), progress).run(registry())
    assert "11/11" in live.getvalue()
    assert "\r" not in plain.getvalue()
    assert "FAIL         verify/truncated" in plain.getvalue()
    assert "prefix/empty" not in plain.getvalue()


# ---------------------------------------------------------------- the annotated wire log


def entry(data: bytes, peer: str = "leader", direction: str = "sent", **more: Any) -> WireEntry:
    return WireEntry(**{"t": 0.0, "direction": direction, "peer": peer, "hex": data.hex(), "text": "", "door": False,
                        "size": len(data), **more})  # fmt: skip


@pytest.mark.parametrize("step", handshake() + session(), ids=lambda step: type(step.message).__name__)
def test_every_field_of_a_message_is_named_and_every_byte_shown(step: Any) -> None:
    (row,) = annotate.rows([entry(step.frame)])
    (frame,) = row.frames
    assert (frame.fault, row.rest) == ("", "")
    spec = SPECS[type(step.message)]
    labels = {part.name for part in frame.parts if part.depth == 1}
    assert labels == {f"{f.key} {f.name}" for f in spec.fields if getattr(step.message, f.name) is not None}
    assert all(name in known() for part in frame.parts for name in part.clauses)
    if not any("..." in part.hex for part in frame.parts):
        assert "".join(part.hex for part in frame.parts) == step.frame.hex()


def test_enumerated_fields_exist() -> None:
    fields = {(cls.__name__, field.name) for cls, spec in SPECS.items() for field in spec.fields}
    assert annotate.NAMES.keys() <= fields


def test_frames_in_pieces_are_put_together() -> None:
    frame = handshake()[0].frame
    found = annotate.rows([entry(frame[:3]), entry(frame[3:20]), entry(frame[20:] + frame)])
    assert [len(row.frames) for row in found] == [0, 0, 2]
    assert found[0].rest == "3 of the 8 bytes of a header"
    assert found[1].rest == f"12 of {len(frame) - 8} payload bytes of HELLO on channel 0"


def test_peers_and_directions_are_kept_apart_and_connections_begin_anew() -> None:
    frame = handshake()[0].frame
    found = annotate.rows([
        entry(frame[:5]), entry(frame, direction="received"), entry(frame, peer="client"), entry(frame[5:]),
        entry(frame[:5]), entry(b"", direction="event", text="connected as leader"), entry(frame),
    ])  # fmt: skip
    assert [len(row.frames) for row in found] == [0, 1, 1, 1, 0, 0, 1]


@pytest.mark.parametrize(
    ("payload", "clause", "says"),
    [
        ("a2010102", "B-1", "no CBOR item"),
        ("a202010101", "B-3", "map of 2"),
        ("bf0107ff", "B-4", "map of 1"),
        ("a10107f6", "B-6", "1 bytes behind the item"),
        ("a1011807", "B-4", "7"),
        ("a101c24101", "B-2", "tag 2(1 bytes 01)"),
        ("a101fb3ff0000000000000", "B-2", "float, 8 bytes"),
        ("a1010743", "B-6", "1 bytes behind the item"),
        ("07", "B-8", "7"),
        ("a2010702f6", "B-2", "null: not assigned, even: to be refused"),
        ("a20107184107", "", "7: not assigned, odd: to be ignored"),
    ],
)
def test_what_is_wrong_is_taken_apart_as_far_as_it_goes(payload: str, clause: str, says: str) -> None:
    (row,) = annotate.rows([entry(encode_frame(6, 0, bytes.fromhex(payload)))])
    (frame,) = row.frames
    assert frame.fault_clause == clause
    assert any(says in part.value for part in frame.parts), frame.parts


def test_no_bytes_make_the_annotation_fail() -> None:
    """Every cut and every flipped byte of a message is shown somehow."""
    payload = session()[0].frame[8:]
    for at in range(len(payload)):
        for broken in (payload[:at], payload[:at] + bytes([payload[at] ^ 0x5F]) + payload[at + 1 :]):
            (row,) = annotate.rows([entry(encode_frame(0x20, 1, broken))])
            assert row.frames[0].parts


def test_deep_nesting_is_no_trouble() -> None:
    with pytest.raises(ValueError, match="nested more than"):
        items.items(b"\x81" * 10000)


def test_logs_that_were_cut_say_so() -> None:
    frame = handshake()[0].frame
    first, second = annotate.rows([entry(frame[:40], size=len(frame)), entry(frame)])
    assert first.rest == f"the log holds 40 of {len(frame)} bytes"
    assert first.frames[0].title == "HELLO on channel 0"
    assert second.frames[0].fault == "", "a frame that was cut at its end hides nothing of the next one"
    _, third = annotate.rows([entry(frame[:40], size=len(frame) + 5), entry(frame)])
    assert "not taken apart" in third.rest


def test_json_lines_are_shown_by_key() -> None:
    good, bad, odd = annotate.rows([
        entry(b'{"id": 7, "verb": "compute", "seed": "5"}', door=True), entry(b"\xff{", door=True),
        entry(b"[1]", door=True),
    ])  # fmt: skip
    assert good.frames[0].title == "compute, id 7"
    assert [(part.name, part.value) for part in good.frames[0].parts][-1] == ("seed", "5")
    assert bad.frames[0].fault
    assert odd.frames[0].title == "a JSON line that is no object"


def test_what_a_testee_is_to_decode_is_taken_apart_too() -> None:
    def decoded(layer: str, data: str) -> list[annotate.Decoded]:
        line = json.dumps({"id": 1, "verb": "decode", "layer": layer, "bytes": data}).encode()
        (row,) = annotate.rows([entry(line, door=True)])
        return row.frames[1:]

    ping = "0000030600000000a10107"
    assert [frame.title for frame in decoded("message", ping)] == ["PING on channel 0"]
    assert [frame.title for frame in decoded("frame", ping * 2 + "0000")] == ["PING on channel 0"] * 2 + ["the rest"]
    (item,) = decoded("cbor", "a20101")
    assert (item.fault_clause, item.parts[0].value[:12]) == ("B-1", "no CBOR item")
    assert decoded("cbor", "1807")[0].fault_clause == "B-4"
    assert decoded("message", "zz") == []


# ---------------------------------------------------------------- compare


def changed(made: Report, **verdicts: Any) -> Report:
    """The report with other verdicts, by the last word of the case id."""
    content = made.to_json()
    for case in content["cases"]:
        change = verdicts.get(case["id"].rpartition("/")[2].replace("-", "_"))
        if isinstance(change, str):
            case["verdict"] = change
        elif change is not None:
            case.update(change)
    return Report.from_json(content)


def without(made: Report, case_id: str) -> Report:
    content = made.to_json()
    content["cases"] = [case for case in content["cases"] if case["id"] != case_id]
    return Report.from_json(content)


def ids(changes: list[Any]) -> list[str]:
    return [change.case for change in changes]


def test_the_same_report_is_no_worse() -> None:
    found = compare(sample(), sample())
    assert not found.worse
    assert ids(found.still_failing) == [
        "philox/known-answers", "coupled/greedy", "replay/broken-suite", "verify/truncated",
    ]  # fmt: skip
    assert not (found.new_failures or found.fixed or found.other or found.added or found.removed or found.versions)


def test_what_got_worse_and_what_got_better() -> None:
    found = compare(sample(), changed(sample(), empty="FAIL", truncated="PASS", ed25519="PASS", ties="PASS"))
    assert found.worse
    assert ids(found.new_failures) == ["prefix/empty"]
    assert ids(found.fixed) == ["coupled/ties", "verify/truncated"]
    assert ids(found.other) == ["identity/ed25519"]
    said = text(found)
    assert "new failures (1)" in said
    assert "PASS -> FAIL" in said


def test_added_and_removed_cases() -> None:
    found = compare(without(sample(), "prefix/empty"), without(sample(), "verify/truncated"))
    assert (ids(found.added), ids(found.removed)) == (["prefix/empty"], ["verify/truncated"])
    assert not found.worse
    assert compare(without(sample(), "verify/truncated"), sample()).worse


def test_a_revised_case_is_another_question() -> None:
    found = compare(sample(), changed(sample(), empty={"revision": 2}))
    assert ids(found.revised) == ["prefix/empty"]
    assert not found.worse
    assert compare(sample(), changed(sample(), empty={"revision": 2, "verdict": "FAIL"})).worse


def test_other_versions_are_named() -> None:
    content = sample().to_json()
    content["suite"]["version"] = "9.9"
    assert compare(sample(), Report.from_json(content)).versions == [f"suite: {sample().suite.version} -> 9.9"]
