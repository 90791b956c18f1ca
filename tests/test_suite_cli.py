"""`dsdp-conformance` as its users meet it: help, selection, exit status, files, mistakes."""

from __future__ import annotations

import io
import json
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from suite_samples import VERDICTS, FakeDoor, registry, sample

from conformance import cli, commands
from conformance.clauses import known
from conformance.report.model import Report


@pytest.fixture
def faked(monkeypatch: pytest.MonkeyPatch) -> FakeDoor:
    """The made-up cases and door in place of the suite's."""
    door = FakeDoor()
    monkeypatch.setattr(commands, "_registry", registry)
    monkeypatch.setattr(commands, "_door", lambda options: door)
    return door


def test_help_carries_a_newcomer(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(["--help"])
    assert left.value.code == 0
    said = capsys.readouterr().out
    for word in (
        "run",
        "list",
        "vectors",
        "report",
        "compare",
        "issue",
        "--exec",
        "--dial",
        "IMPLEMENTERS.md",
        "rungs",
    ):
        assert word in said


@pytest.mark.parametrize("command", ["run", "list", "vectors", "report", "compare", "issue"])
def test_each_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main([command, "--help"])
    assert left.value.code == 0
    assert f"dsdp-conformance {command}" in capsys.readouterr().out


def test_examples_in_the_help_parse() -> None:
    """Every line of the help that begins with the program's name is a command line that it takes."""
    lines = [line.strip() for line in (cli.EXAMPLES + cli.RUN_EXAMPLES).splitlines()]
    commands_shown = [line.partition("   ")[0] for line in lines if line.startswith("dsdp-conformance ")]
    assert len(commands_shown) > 7
    for line in commands_shown:
        assert cli.parser().parse_args(shlex.split(line)[1:]).command


def test_a_run_writes_every_report(faked: FakeDoor, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {kind: tmp_path / f"report.{kind}" for kind in ("json", "html", "junit")}
    words = [word for kind, path in files.items() for word in (f"--{kind}", str(path))]
    words += ["--badges", str(tmp_path / "badges")]
    assert cli.main(["run", "--exec", "./testee", "--seed", "7", *words]) == 1
    made = Report.load(files["json"])
    assert [case.id for case in made.cases] == list(VERDICTS)
    assert made.run.seed == 7
    assert made.run.command.startswith("dsdp-conformance run --exec ./testee --seed 7")
    assert files["html"].read_text("utf-8").startswith("<!doctype html>")
    badges = sorted((tmp_path / "badges").iterdir())
    assert [path.name for path in badges] == [f"rung-{rung}.svg" for rung in (1, 2, 3, 4)]
    assert "DSDP static vectors: failed" in badges[0].read_text("utf-8")
    assert ElementTree.parse(files["junit"]).getroot().tag == "testsuites"
    said = capsys.readouterr()
    assert "seed 7" in said.err
    assert "rung 1" in said.out


def test_the_example_testee_through_the_door_that_strangers_use(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    testee = shlex.join([sys.executable, "-m", "conformance.examples.python"])
    words = [
        "run",
        "--exec",
        testee,
        "--case",
        "prefix",
        "--case",
        "frame",
        "--quiet",
        "--json",
        str(path),
        "--wire",
        "all",
    ]
    assert cli.main(words) == 0
    made = Report.load(path)
    assert made.summary == {"PASS": len(made.cases)}
    assert made.badges[0].state == "partial"
    assert all([entry.direction for entry in case.wire] == ["sent", "received"] for case in made.cases)


def test_the_seed_is_drawn_and_printed(faked: FakeDoor, capsys: pytest.CaptureFixture[str]) -> None:
    seeds = set()
    for _ in range(3):
        cli.main(["run", "--exec", "./testee"])
        seeds.add(capsys.readouterr().err.split()[1])
    assert len(seeds) > 1
    assert all(trial is None or str(trial.seed) in seeds for trial in faked.trials)


def test_expected_failures_do_not_fail_the_run(faked: FakeDoor, tmp_path: Path) -> None:
    known_failures = tmp_path / "known.toml"
    known_failures.write_text('["coupled/ties"]\nreason = "issue 12"\n', "utf-8")
    words = ["run", "--exec", "./testee", "--quiet", "--case", "coupled/ties"]
    assert cli.main(words) == 1
    assert cli.main([*words, "--expect", str(known_failures)]) == 0
    assert cli.main(["run", "--exec", "x", "--quiet", "--case", "coupled", "--expect", str(known_failures)]) == 0
    known_failures.write_text('["coupled/greedy"]\nreason = "issue 12"\n', "utf-8")
    assert cli.main(["run", "--exec", "x", "--quiet", "--case", "coupled/greedy", "--expect", str(known_failures)]) == 1


def test_a_role_has_a_badge_of_its_own(faked: FakeDoor, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    cli.main(["run", "--dial", "x:1", "--role", "voter", "--rung", "4", "--quiet", "--json", str(path)])
    badges = Report.load(path).badges
    assert [(badge.title, badge.total, badge.available) for badge in badges[2:]] == [
        ("live peer (voter)", 0, 0),
        ("chaos (voter)", 1, 1),
    ]
    cli.main(["run", "--exec", "x", "--case", "prefix", "--quiet", "--json", str(path)])
    assert Report.load(path).badges[0].state == "partial"


def test_fail_fast(faked: FakeDoor, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "--exec", "x", "--fail-fast"]) == 1
    assert "stopped after philox/known-answers" in capsys.readouterr().out


def test_an_interrupted_run(faked: FakeDoor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupted(self: FakeDoor, trial: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(FakeDoor, "trial", interrupted)
    path = tmp_path / "report.json"
    assert cli.main(["run", "--exec", "x", "--quiet", "--json", str(path)]) == 130
    assert Report.load(path).run.interrupted == "interrupted"


def test_a_dialed_node_is_asked_live_cases_only(faked: FakeDoor, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["run", "--dial", "127.0.0.1:1", "--role", "verifier", "--quiet"])
    assert {trial.case.id for trial in faked.trials if trial} == {"verify/truncated", "heartbeat/pong-at-once"}
    faked.trials.clear()
    cli.main(["run", "--dial", "127.0.0.1:1", "--certificates", "some where", "--quiet", "--case", "verify"])
    assert "--certificates 'some where' --seed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        (["--case", "verfy"], "no case matches 'verfy'"),
        (["--section", "99"], "no clause stands in section '99'"),
        (["--clause", "V-999"], "no clause 'V-999'"),
        (["--case", "verify", "--rung", "1"], "no case is left"),
        (["--expect", "none.toml"], "No such file"),
        (["--json", "/no/such/place.json"], "No such file"),
    ],
)
def test_mistakes_are_said(words: list[str], wrong: str, faked: FakeDoor, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "--exec", "./testee", "--quiet", *words]) == 2
    assert wrong in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["run"],
        ["run", "--exec", "x", "--dial", "y"],
        ["run", "--exec", "x", "--patience", "0"],
        ["run", "--exec", "x", "--jobs", "0"],
        ["run", "--exec", "x", "--seed", "-1"],
        ["run", "--exec", "x", "--rung", "5"],
        ["run", "--exec", "x", "--role", "leaders"],
        [],
    ],
)
def test_wrong_options_are_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(words)
    assert left.value.code == 2
    assert "usage: dsdp-conformance" in capsys.readouterr().err


def test_a_missing_testee_is_said(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.main(["run", "--exec", str(tmp_path / "no-such-program"), "--quiet", "--case", "*"]) == 2
    assert "no-such-program" in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["jinja2", "trio"])
def test_what_is_not_installed_is_said(missing: str) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None; from conformance.__main__ import main; sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"{missing} is not installed; `pip install 'dsdp[suite]'`" in done.stderr


def test_the_command_runs_as_a_module() -> None:
    words = [sys.executable, "-m", "conformance", "list", "--case", "philox"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("rung 1: static vectors")


# ---------------------------------------------------------------- list


def test_list_shows_cases(faked: FakeDoor, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list", "--rung", "3"]) == 0
    said = capsys.readouterr().out
    assert "rung 3: live peer (2 cases)" in said
    assert "verify/truncated" in said
    assert "prefix/empty" not in said


def test_list_as_json(faked: FakeDoor, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list", "--json", "--case", "verify"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert (entry["id"], entry["rung"], entry["role"], entry["level"]) == ("verify/truncated", 3, "verifier", "MUST")
    assert entry["source"].startswith("suite_samples.py:")


def test_list_clauses(faked: FakeDoor, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list", "--clauses", "--section", "14"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == sum(clause.section.startswith("14.") for clause in known().values())
    assert any(line.split()[:5] == ["V-6", "r1", "MUST", "14.3", "1"] for line in lines)
    assert cli.main(["list", "--clauses", "--json", "--clause", "J-4"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert "constant time" in entry["text"]
    assert entry["excused"]


def test_list_uncovered(faked: FakeDoor, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list", "--uncovered"]) == 1
    said = capsys.readouterr().out
    assert "V-7 " in said
    assert "V-6 " not in said
    assert "MUST clauses have neither case nor excuse" in said


# ---------------------------------------------------------------- vectors


def test_vectors_are_listed_printed_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["vectors"]) == 0
    listed = capsys.readouterr().out.splitlines()
    counts = {line.split()[0]: int(line.split()[1]) for line in listed}
    assert counts["philox"] > 0
    assert counts.pop("all") == sum(counts.values())
    assert cli.main(["vectors", "philox"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert len(printed) == counts["philox"]
    assert cli.main(["vectors", "--write", str(tmp_path / "out")]) == 0
    written = {path.stem: json.loads(path.read_text("utf-8"))["vectors"] for path in (tmp_path / "out").iterdir()}
    assert {name: len(found) for name, found in written.items()} == counts
    assert written["philox"] == printed
    assert not any("$repeat" in path.read_text("utf-8") for path in (tmp_path / "out").iterdir())


def test_unknown_vectors_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["vectors", "filox"]) == 2
    assert "philox" in capsys.readouterr().err


# ---------------------------------------------------------------- report, compare, issue


def test_a_report_is_rendered_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = tmp_path / "report.json", tmp_path / "again.html"
    sample().save(source)
    assert cli.main(["report", str(source), "--html", str(target), "--junit", str(tmp_path / "again.xml")]) == 1
    assert "rusty-dsdp" in target.read_text("utf-8")
    assert "2 failed" in capsys.readouterr().out


def test_comparing_two_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, after = tmp_path / "before.json", tmp_path / "after.json"
    sample().save(before)
    content = sample().to_json()
    content["cases"][0]["verdict"] = "FAIL"
    after.write_text(json.dumps(content), "utf-8")
    assert cli.main(["compare", str(before), str(before)]) == 0
    assert cli.main(["compare", str(before), str(after)]) == 1
    assert "new failures (1)" in capsys.readouterr().out
    assert cli.main(["compare", "--json", str(before), str(after)]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["worse"]
    assert [change["case"] for change in found["new_failures"]] == ["prefix/empty"]
    assert cli.main(["compare", str(before), str(tmp_path / "none.json")]) == 2


def test_issue_makes_what_both_sides_need(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = tmp_path / "certificates"
    assert cli.main(["issue", str(directory)]) == 0
    said = capsys.readouterr().out
    assert "--dial HOST:PORT" in said
    assert {path.name for path in (directory / "testee").iterdir()} == {"node.key", "node.pem", "authority.pem"}


def test_a_reader_that_goes_away_is_no_fault(monkeypatch: pytest.MonkeyPatch, faked: FakeDoor, tmp_path: Path) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    kept = (tmp_path / "stdout").open("w")
    gone = Gone()
    gone.fileno = kept.fileno  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stdout", gone)
    assert cli.main(["list"]) == 2
    kept.close()


def test_a_wheel_holds_every_file_of_the_suite() -> None:
    """What is no module has to be named as package data."""
    root = Path(cli.__file__).parent
    patterns = tomllib.loads((root.parent / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]["package-data"]
    packed = {path for pattern in patterns["conformance"] for path in root.glob(pattern)}
    data = {
        p for p in root.rglob("*") if p.is_file() and p.suffix not in (".py", ".pyc") and "node_modules" not in p.parts
    }
    assert data - packed == set()
