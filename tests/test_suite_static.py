"""Rung 1 through the exec door: the example testee passes, one that errs fails the right cases, crashes are its own."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest

from conformance.case import CASES, Case, Rung, load
from conformance.door import make_schema
from conformance.door.exec import ExecDoor
from conformance.door.process import DoorBroken, Process, read_answer
from conformance.examples.python.__main__ import answer
from conformance.runner import Options, Result, Runner
from conformance.static import vectors
from conformance.static.compare import differs
from conformance.verdict import Verdict
from dsdproto.errors import LocalError

TESTEE = [sys.executable, "-m", "conformance.examples.python"]


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    load()
    return [case for case in CASES if case.rung is Rung.STATIC]


@pytest.fixture
def script(tmp_path: Path) -> Iterator[object]:
    """Makes a testee of a few lines: the example's ``answer`` is at hand as `answer`."""

    def make(*lines: str) -> list[str]:
        path = tmp_path / "testee.py"
        head = ["import json, sys", "from conformance.examples.python.__main__ import answer", "out = sys.stdout"]
        loop = ["for line in sys.stdin.buffer:", "    request = json.loads(line)"]
        path.write_text("\n".join([*head, *loop, *(f"    {line}" for line in lines)]) + "\n")
        return [sys.executable, str(path)]

    yield make


REPLY = "out.write(json.dumps({'id': request['id'], **said}) + chr(10)); out.flush()"


def run(command: list[str], cases: list[Case], **options: object) -> dict[str, Result]:
    with ExecDoor(command) as door:
        results = Runner(door, Options(seed=1, **options)).run(cases)  # type: ignore[arg-type]
    return {result.case.id: result for result in results}


def some(cases: list[Case], *ids: str) -> list[Case]:
    return [case for case in cases if case.id in ids]


# ---------------------------------------------------------------- the example passes


def test_the_example_testee_passes_every_vector(cases: list[Case]) -> None:
    assert len(cases) > 2500
    results = run(TESTEE, cases)
    wrong = {name: each.outcome for name, each in results.items() if each.outcome.verdict is not Verdict.PASS}
    assert not wrong


def test_requests_and_answers_keep_to_the_schema() -> None:
    """A part of the vectors of each file; the whole takes long."""
    document = make_schema.schema()
    jsonschema.Draft202012Validator.check_schema(document)
    number = {"id": 7}
    for name in vectors.files():
        for each in vectors.load(name)[:: 40 if name in ("messages", "cbor") else 7]:
            if len(json.dumps(each)) > 5000:
                continue
            request = {**number, **each["request"]}
            shape = f"request.{request['verb']}"
            check(document, shape, request, each["id"])
            said = {**number, **answer(each["request"])}
            check(document, "answer", said, each["id"])
            if "ok" in said and request["verb"] == "compute":
                check(document, f"out.{request['function']}", said["ok"], each["id"])


def check(document: dict, definition: str, value: object, name: str) -> None:
    schema = {"$schema": document["$schema"], "$ref": f"#/$defs/{definition}", "$defs": document["$defs"]}
    errors = list(jsonschema.Draft202012Validator(schema).iter_errors(value))
    assert not errors, (name, definition, errors[0].message[:500])


def test_the_published_schema_is_up_to_date() -> None:
    assert json.loads(make_schema.SCHEMA.read_text()) == make_schema.schema()


# ---------------------------------------------------------------- planted faults fail the right cases

FAULTS = {
    "takes-long-integers": (
        "if request.get('layer') == 'cbor' and said.get('error', {}).get('code') == 'CBOR_NOT_DETERMINISTIC':"
        " said = {'ok': {'item': {'uint': 0}}}",
        {"cbor/uint-23-in-1", "cbor/key-twice", "cbor/indefinite-map"},
    ),
    "wrong-code": (
        "said = json.loads(json.dumps(said).replace('MESSAGE_UNKNOWN', 'MESSAGE_INVALID'))",
        {"message/type-5c", "message/type-00"},
    ),
    "wrong-layer": (
        'said = json.loads(json.dumps(said).replace(\'"layer": "frame"\', \'"layer": "cbor"\'))',
        {"frame/cut-03", "frame/beyond-the-limit"},
    ),
    "margin-off-by-one": (
        "if request.get('function') == 'choose' and 'ok' in said: said['ok']['margin'] ^= 1",
        {"choice/example-example", "choice/ties-greedy"},
    ),
    "drops-large-seeds": (
        "if isinstance(request.get('input', {}).get('seed'), str):"
        " said = answer({**request, 'input': {**request['input'], 'seed': 0}})",
        {"philox/word-everything-highest"},
    ),
}


@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_a_planted_fault_fails_its_cases_and_no_others(fault: str, cases: list[Case], script) -> None:  # type: ignore[no-untyped-def]
    line, expected = FAULTS[fault]
    families = {name.partition("/")[0] for name in expected} | {"prefix"}
    chosen = [case for case in cases if case.family in families and (case.family != "message" or "type-" in case.id)]
    results = run(script("said = answer(request)", line, REPLY), chosen)
    failed = {name for name, each in results.items() if each.outcome.verdict is Verdict.FAIL}
    assert expected <= failed
    passed = {name for name, each in results.items() if each.outcome.verdict is Verdict.PASS}
    assert failed | passed == set(results)
    assert {case.id for case in chosen if case.family == "prefix"} <= passed


# ---------------------------------------------------------------- the door itself


def test_a_crash_fails_that_case_and_the_next_one_is_asked(cases: list[Case], script) -> None:  # type: ignore[no-untyped-def]
    command = script(
        "if request.get('bytes') == 'a0': print('boom', file=sys.stderr, flush=True); sys.exit(3)",
        "said = answer(request)",
        REPLY,
    )
    results = run(command, some(cases, "cbor/uint-0", "cbor/map-0", "cbor/uint-1"))
    assert [results[name].outcome.verdict for name in ("cbor/uint-0", "cbor/map-0", "cbor/uint-1")] == [
        Verdict.PASS,
        Verdict.FAIL,
        Verdict.PASS,
    ]
    outcome = results["cbor/map-0"].outcome
    assert "status 3" in outcome.findings[0].said and any("boom" in note for note in outcome.notes)


def test_silence_fails_the_case(cases: list[Case], script) -> None:  # type: ignore[no-untyped-def]
    command = script("if request.get('bytes') == 'a0': continue", "said = answer(request)", REPLY)
    with ExecDoor(command, seconds=0.3) as door:
        door.about()
        results = Runner(door, Options(seed=1)).run(some(cases, "cbor/map-0", "cbor/uint-1"))
    verdicts = {each.case.id: each.outcome.verdict for each in results}
    assert verdicts == {"cbor/map-0": Verdict.FAIL, "cbor/uint-1": Verdict.PASS}


def test_what_is_declared_unsupported_is_no_failure(cases: list[Case], script) -> None:  # type: ignore[no-untyped-def]
    lines = (
        "said = answer(request)",
        "if request['verb'] == 'describe': said['ok']['supports'].remove('fixed')",
        "if request.get('function') == 'tables': said = {'unsupported': 'later'}",
    )
    results = run(script(*lines, REPLY), some(cases, "fixed/tables", "fixed/factor", "cbor/uint-0"))
    verdicts = {name: each.outcome.verdict for name, each in results.items()}
    unsupported = Verdict.UNSUPPORTED
    assert verdicts == {"fixed/tables": unsupported, "fixed/factor": unsupported, "cbor/uint-0": Verdict.PASS}


@pytest.mark.parametrize(
    "line",
    [
        b"hello\n",
        b"[]\n",
        b'{"id": 2, "ok": {}}\n',
        b'{"id": true, "ok": {}}\n',
        b'{"id": 1}\n',
        b'{"id": 1, "ok": []}\n',
        b'{"id": 1, "ok": {}, "error": {}}\n',
        b'{"id": 1, "ok": {}, "more": 1}\n',
        b'{"id": 1, "error": {}}\n',
        b'{"id": 1, "ok": {}}',
    ],
)
def test_what_is_no_answer_is_refused(line: bytes) -> None:
    with pytest.raises(DoorBroken):
        read_answer(line, 1)


@pytest.mark.parametrize("command", [["/nonexistent/testee"], [sys.executable, "-c", "raise SystemExit(4)"]])
def test_a_testee_that_does_not_start_says_so(command: list[str]) -> None:
    with ExecDoor(command) as door, pytest.raises(LocalError, match=r"cannot be started|status 4"):
        door.about()


def test_another_door_version_is_refused(script) -> None:  # type: ignore[no-untyped-def]
    command = script("said = answer(request)", "said['ok']['door'] = 2", REPLY)
    with ExecDoor(command) as door, pytest.raises(LocalError, match="door 2"):
        door.about()


def test_a_testee_that_ignores_the_end_of_its_input_is_ended() -> None:
    loop = 'import sys, time; print(\'{"id": 1, "ok": {}}\', flush=True); time.sleep(600)'
    process = Process([sys.executable, "-c", loop])
    process.ask({"verb": "reset"}, 20)
    child = process._child
    assert child is not None
    process.close()
    assert child.poll() is not None


@pytest.mark.parametrize(
    ("wanted", "got", "same"),
    [
        (5, "5", True),
        ("18446744073709551615", 18446744073709551615, True),
        (5, 5.0, False),
        (1, True, False),
        (5, "05", False),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ({"a": 1}, {}, False),
        ([1], [1, 2], False),
        ("aa", "AA", False),
        ({"paths": [[1], [2]]}, {"paths": [[2], [1]]}, True),
        ({"paths": [[1], [2]]}, {"paths": [[2], [3]]}, False),
    ],
)
def test_answers_are_compared_exactly(wanted: object, got: object, same: bool) -> None:
    assert (differs(wanted, got) is None) == same
