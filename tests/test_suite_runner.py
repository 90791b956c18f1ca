"""The runner, expectations, selection, cases: which verdict comes out of what a case does."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from suite_samples import EXPECTED, VERDICTS, FakeDoor, registry

from conformance import expectations
from conformance.case import Case, Registry, Rung, case, load
from conformance.clauses import Level
from conformance.runner import Options, Result, Runner, concluded
from conformance.selection import Selection, SelectionError
from conformance.trial import Trial
from conformance.verdict import Failed, Finding, Gone, Inconclusive, Info, Skipped, Unsupported, Verdict
from dsdproto.errors import LocalError
from dsdproto.registry import Role


def one_case(check: Any, *, clauses: tuple[str, ...] = ("V-6",), **how: Any) -> Case:
    cases = Registry()
    how.setdefault("rung", Rung.STATIC)
    case("made/up", "made up", clauses=clauses, registry=cases, **how)(check)
    return cases["made/up"]


def run_one(made: Case, door: FakeDoor | None = None, **options: Any) -> Result:
    (result,) = Runner(door or FakeDoor(), Options(seed=1, **options)).run([made])
    return result


# ---------------------------------------------------------------- verdicts


def test_every_verdict_comes_from_the_case_that_gives_it() -> None:
    results = Runner(FakeDoor(), Options(seed=1, expectations=EXPECTED)).run(registry())
    assert {result.case.id: result.outcome.verdict for result in results} == VERDICTS
    assert set(VERDICTS.values()) == set(Verdict)


def test_the_results_are_in_the_order_of_the_cases() -> None:
    cases = list(registry())[::-1]
    assert [result.case for result in Runner(FakeDoor(), Options(seed=1, jobs=3)).run(cases)] == cases


def test_two_findings_of_one_case_are_both_kept() -> None:
    def check(t: Any) -> None:
        t.trial.failed("V-6", "first", 1, 2)
        raise Failed("V-1", "second", b"\x01", None)

    outcome = run_one(one_case(check)).outcome
    assert outcome.verdict is Verdict.FAIL
    assert outcome.reason == "first"
    assert outcome.findings == [Finding("V-6", "first", "1", "2"), Finding("V-1", "second", "01", "None")]


def test_a_should_only_warns_unless_a_must_of_another_clause_breaks() -> None:
    def fails_with(clause: str) -> Verdict:
        def check(t: Any) -> None:
            raise Failed(clause, "wrong")

        return run_one(one_case(check, clauses=("D-17",))).outcome.verdict

    assert fails_with("D-17") is Verdict.WARN
    assert fails_with("D-16") is Verdict.WARN
    assert fails_with("E-3") is Verdict.FAIL
    assert fails_with("door") is Verdict.FAIL


def test_a_clause_that_does_not_exist_is_our_error() -> None:
    def check(t: Any) -> None:
        raise Failed("V-999", "wrong")

    outcome = run_one(one_case(check)).outcome
    assert outcome.verdict is Verdict.ERROR
    assert "V-999" in outcome.reason


@pytest.mark.parametrize(
    ("raised", "verdict"),
    [
        ([Inconclusive("late"), Failed("V-6", "wrong")], Verdict.FAIL),
        ([Skipped("no"), Inconclusive("late")], Verdict.INCONCLUSIVE),
        ([Info("well"), Unsupported("not here")], Verdict.UNSUPPORTED),
        ([Failed("V-6", "wrong"), KeyError("x")], Verdict.ERROR),
    ],
)
def test_groups_of_exceptions_are_unpacked(raised: list[Exception], verdict: Verdict) -> None:
    """What the tasks of a nursery raise comes in (nested) groups."""
    made = one_case(lambda t: None)
    group = ExceptionGroup("outer", [raised[0], ExceptionGroup("inner", raised[1:])])
    assert concluded(made, Trial(made, seed=1), group).verdict is verdict


def test_an_error_leaves_a_trace() -> None:
    def check(t: Any) -> None:
        raise ZeroDivisionError("division by zero")

    outcome = run_one(one_case(check)).outcome
    assert outcome.reason == "ZeroDivisionError: division by zero"
    assert 'raise ZeroDivisionError("division by zero")' in outcome.trace


def test_what_the_door_lacks_is_not_run() -> None:
    def check(t: Any) -> None:
        raise AssertionError("ran")

    door = FakeDoor(missing={"made/up": Unsupported("no trees")})
    assert run_one(one_case(check), door).outcome.verdict is Verdict.UNSUPPORTED
    assert door.trials == []


# ---------------------------------------------------------------- brackets


@pytest.mark.parametrize("rung", [Rung.STATIC, Rung.LIVE])
def test_a_negative_case_counts_only_with_a_happy_path_behind_it(rung: Rung) -> None:
    def sync(t: Any) -> None:
        t.trial.note("refused")

    async def live(t: Any) -> None:
        t.trial.note("refused")

    how: dict[str, Any] = {"rung": rung, "bracket": True, "role": Role.VERIFIER}
    made = one_case(live if rung is Rung.LIVE else sync, **how)
    door = FakeDoor()
    assert run_one(made, door).outcome.verdict is Verdict.PASS
    assert door.happy == ["made/up"]
    outcome = run_one(made, FakeDoor(broken=True)).outcome
    assert outcome.verdict is Verdict.FAIL
    assert outcome.findings[0].clause == "E-3"


def test_without_bracket_there_is_no_happy_path() -> None:
    door = FakeDoor(broken=True)
    assert run_one(one_case(lambda t: None), door).outcome.verdict is Verdict.PASS
    assert door.happy == []


# ---------------------------------------------------------------- time


def test_a_live_case_that_does_not_end_is_inconclusive() -> None:
    """Run inside of Trio's test clock, where 60 seconds pass at once."""

    async def check(t: Any) -> None:
        await trio.sleep_forever()

    made = one_case(check, rung=Rung.LIVE, role=Role.VERIFIER, timeout=60.0)
    runner = Runner(FakeDoor(), Options(seed=1, patience=2.0))

    async def main() -> None:
        await runner._all_live([made])

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    outcome = runner._results["made/up"].outcome
    assert outcome.verdict is Verdict.INCONCLUSIVE
    assert "120 s" in outcome.reason


def test_patience_stretches_steps_and_the_end_of_a_case_ends_them() -> None:
    now = [0.0]
    made = one_case(lambda t: None, timeout=10.0)
    trial = Trial(made, seed=1, patience=3.0, clock=lambda: now[0])
    assert trial.seconds() == 15.0
    assert trial.seconds(1) == 3.0
    now[0] = 29.9
    assert trial.seconds(1) == 3.0
    now[0] = 30.0
    with pytest.raises(Inconclusive, match="30 s"):
        trial.seconds(1)


def test_no_more_live_cases_at_a_time_than_jobs() -> None:
    running, most = 0, 0

    async def check(t: Any) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await trio.testing.wait_all_tasks_blocked()
        running -= 1

    cases = Registry()
    for number in range(7):
        case(f"made/case-{number}", "x", clauses=("V-6",), rung=Rung.LIVE, role=Role.VERIFIER, registry=cases)(check)
    results = Runner(FakeDoor(), Options(seed=1, jobs=3)).run(cases)
    assert [result.outcome.verdict for result in results] == [Verdict.PASS] * 7
    assert most == 3


# ---------------------------------------------------------------- seeds


def test_randomness_depends_on_seed_and_case_alone() -> None:
    def drawn(seed: int, case_id: str) -> int:
        cases = Registry()
        case(case_id, "x", clauses=("V-6",), rung=Rung.STATIC, registry=cases)(lambda t: None)
        random.seed(99)
        return Trial(cases[case_id], seed=seed).rng.getrandbits(64)

    assert drawn(1, "made/up") == drawn(1, "made/up")
    assert len({drawn(seed, name) for seed in (1, 2) for name in ("made/up", "made/down")}) == 4


# ---------------------------------------------------------------- interruptions


def test_an_interrupt_leaves_a_report_of_what_was_done() -> None:
    cases = Registry()

    def interrupted(t: Any) -> None:
        raise KeyboardInterrupt

    for name, check in (("first", lambda t: None), ("second", interrupted), ("third", lambda t: None)):
        case(f"made/{name}", "x", clauses=("V-6",), rung=Rung.STATIC, registry=cases)(check)
    runner = Runner(FakeDoor(), Options(seed=1))
    verdicts = [result.outcome.verdict for result in runner.run(cases)]
    assert verdicts == [Verdict.PASS, Verdict.SKIP, Verdict.SKIP]
    assert runner.interrupted == "interrupted"


def test_an_interrupt_among_live_cases_too() -> None:
    async def interrupted(t: Any) -> None:
        raise KeyboardInterrupt

    runner = Runner(FakeDoor(), Options(seed=1))
    (result,) = runner.run([one_case(interrupted, rung=Rung.LIVE, role=Role.VERIFIER)])
    assert (result.outcome.verdict, runner.interrupted) == (Verdict.SKIP, "interrupted")


def test_fail_fast_stops_at_the_first_failure() -> None:
    runner = Runner(FakeDoor(), Options(seed=1, fail_fast=True))
    results = {result.case.id: result.outcome.verdict for result in runner.run(registry())}
    assert results["philox/known-answers"] is Verdict.FAIL
    assert results["verify/truncated"] is Verdict.SKIP
    assert "philox/known-answers" in runner.interrupted


def test_a_testee_that_is_gone_fails_one_case_and_stops_the_run() -> None:
    async def gone(t: Any) -> None:
        raise Gone("nothing answers at 127.0.0.1:7051")

    async def fine(t: Any) -> None:
        t.trial.note("fine")

    cases = Registry()
    for name, check in (("first", fine), ("second", gone), ("third", fine)):
        case(f"made/{name}", "x", clauses=("V-6",), rung=Rung.LIVE, role=Role.VERIFIER, registry=cases)(check)
    runner = Runner(FakeDoor(), Options(seed=1))
    assert [r.outcome.verdict for r in runner.run(cases)] == [Verdict.PASS, Verdict.FAIL, Verdict.SKIP]
    assert runner.interrupted == "the testee is gone since made/second"


# ---------------------------------------------------------------- expectations


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "known.toml"
    path.write_text(text, "utf-8")
    return path


def test_expectations_are_read(tmp_path: Path) -> None:
    text = '["coupled/ties"]\nverdict = "FAIL"\nreason = "issue 12"\nrevision = 1\n["prefix/empty"]\nreason = "x"\n'
    found = expectations.read(written(tmp_path, text), registry())
    assert found == {
        "coupled/ties": expectations.Expectation(Verdict.FAIL, "issue 12"),
        "prefix/empty": expectations.Expectation(Verdict.FAIL, "x"),
    }


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ('["coupled/tie"]\nreason = "x"', "no such case"),
        ('["coupled/ties"]\nverdict = "PASS"\nreason = "x"', "'PASS' cannot be expected"),
        ('["coupled/ties"]\nverdict = "ERROR"\nreason = "x"', "'ERROR' cannot be expected"),
        ('["coupled/ties"]\nverdict = ["FAIL"]\nreason = "x"', "cannot be expected"),
        ('["coupled/ties"]\nverdict = "FAIL"', "`reason` is missing"),
        ('["coupled/ties"]\nreason = "x"\nrevison = 1', "unknown key revison"),
        ('["coupled/ties"]\nreason = "x"\nrevision = 2', "written for revision 2"),
        ('"coupled/ties" = "FAIL"', "a table belongs here"),
        ("[coupled/ties]", "known.toml"),
    ],
)
def test_a_wrong_expectations_file_is_refused(tmp_path: Path, text: str, wrong: str) -> None:
    with pytest.raises(expectations.ExpectationsError, match=wrong):
        expectations.read(written(tmp_path, text), registry())


def test_a_missing_expectations_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(expectations.ExpectationsError, match="No such file"):
        expectations.read(tmp_path / "none.toml", registry())


def test_another_failure_than_the_expected_one_stays_as_it_is() -> None:
    def check(t: Any) -> None:
        raise Inconclusive("late")

    expected = {"made/up": expectations.Expectation(Verdict.FAIL, "issue 1")}
    assert run_one(one_case(check), expectations=expected).outcome.verdict is Verdict.INCONCLUSIVE


# ---------------------------------------------------------------- selection and registry


@pytest.mark.parametrize(
    ("chosen", "ids"),
    [
        (Selection(ids=("coupled",)), ["coupled/ties", "coupled/greedy"]),
        (Selection(ids=("*/ties", "prefix/*")), ["prefix/empty", "coupled/ties"]),
        (Selection(rungs=(Rung.CHAOS,)), ["chaos/partition"]),
        (Selection(sections=("17",)), ["philox/known-answers", "coupled/ties", "coupled/greedy"]),
        (Selection(sections=("17.1",)), ["philox/known-answers"]),
        (Selection(sections=("1",), rungs=(Rung.CHAOS,)), None),
        (Selection(clauses=("D-17",)), ["drafter/fills-the-window"]),
        (Selection(levels=(Level.SHOULD,)), ["drafter/fills-the-window"]),
        (Selection(roles=(Role.VOTER,), rungs=(Rung.LIVE, Rung.CHAOS)), ["chaos/partition"]),
        (Selection(ids=("nothing",)), None),
        (Selection(clauses=("V-999",)), None),
    ],
)
def test_selection(chosen: Selection, ids: list[str] | None) -> None:
    if ids is None:
        with pytest.raises(SelectionError):
            chosen.of(registry())
    else:
        assert [case.id for case in chosen.of(registry())] == ids


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"case_id": "Made/Up"}, "not of the form"),
        ({"case_id": "made-up"}, "not of the form"),
        ({"clauses": ("V-999",)}, "no clause V-999"),
        ({"clauses": ()}, "none given"),
        ({"rung": Rung.LIVE}, "names the role"),
        ({"rung": Rung.LIVE, "role": Role.VOTER}, "plain functions"),
        ({"case_id": "prefix/empty"}, "in use"),
    ],
)
def test_a_wrong_case_is_refused(change: dict[str, Any], wrong: str) -> None:
    how = {"case_id": "made/up", "title": "x", "clauses": ("V-6",), "rung": Rung.STATIC, **change}
    with pytest.raises(LocalError, match=wrong):
        case(**how, registry=registry())(lambda t: None)


def test_the_level_is_the_strongest_of_the_clauses() -> None:
    assert one_case(lambda t: None, clauses=("D-17",)).level is Level.SHOULD
    assert one_case(lambda t: None, clauses=("D-17", "D-1")).level is Level.MUST
    assert one_case(lambda t: None, clauses=("D-1",), level=Level.SHOULD).level is Level.SHOULD


def test_the_cases_of_the_suite_load_once() -> None:
    first = [made.id for made in load()]
    assert first == [made.id for made in load()]
