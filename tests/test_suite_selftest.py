"""The suite against broken and odd nodes: the tables fit the sources, a sample is run, and what counts as a kill."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from importlib import resources
from pathlib import Path

import jsonschema
import pytest

from conformance import cli
from conformance.case import load
from conformance.clauses import known
from conformance.mutants import command
from conformance.mutants.kinds import Mutant, Odd
from conformance.mutants.patching import Patch, PatchError, install
from conformance.mutants.results import Control, Kill, OddResult, SelfTest
from conformance.mutants.selftest import UnknownName, select, selftest
from conformance.mutants.table import MUTANTS, ODD, PARTS
from conformance.report.html import page, selftest_page
from conformance.report.model import Report, built, plain

SCHEMA = json.loads(resources.files("conformance.report").joinpath("report.schema.json").read_text("utf-8"))
ALL: list[Mutant | Odd] = [*MUTANTS.values(), *ODD.values()]


def source_of(module: str) -> str:
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).read_text("utf-8")


# ---------------------------------------------------------------- the tables


def test_there_are_enough() -> None:
    assert len(MUTANTS) >= 40
    assert len(ODD) >= 8
    assert len(MUTANTS) == sum(len(part.MUTANTS) for part in PARTS)
    assert not set(MUTANTS) & set(ODD)


@pytest.mark.parametrize("node", ALL, ids=lambda node: node.name)
def test_patches_fit_their_modules(node: Mutant | Odd) -> None:
    """A patch that no longer fits would test nothing."""
    sources: dict[str, str] = {}
    for patch in node.patches:
        sources[patch.module] = patch.applied(sources.get(patch.module) or source_of(patch.module))
    assert sources
    for module, source in sources.items():
        assert source != source_of(module)
        compile(source, module, "exec")


@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=lambda mutant: mutant.name)
def test_a_mutant_breaks_a_must_that_its_cases_are_about(mutant: Mutant) -> None:
    cases = load()
    assert mutant.killers
    assert mutant.clause in known()
    assert mutant.clause in {clause for case in mutant.killers for clause in cases[case].clauses}


@pytest.mark.parametrize("odd", ODD.values(), ids=lambda odd: odd.name)
def test_an_odd_node_names_what_allows_it(odd: Odd) -> None:
    assert odd.clauses
    assert set(odd.clauses) <= set(known())


def test_a_patch_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(PatchError, match="occurs 0 times"):
        Patch("x", "nothing like this", "").applied("a = 1\n")
    with pytest.raises(PatchError, match="occurs 2 times"):
        Patch("x", "a", "").applied("a = a\n")
    with pytest.raises(PatchError, match="imported already"):
        install([Patch("dsdproto.errors", "a", "b")])


def test_a_mutant_is_the_reference_and_one_difference() -> None:
    """In a process of its own: the patched module differs, and no other."""
    script = (
        "from conformance.mutants.patching import Patch, install\n"
        "install([Patch('dsdproto.commit.quorum', 'return n // 2 + 1', 'return n')])\n"
        "from dsdproto.commit.quorum import leader_of, majority\n"
        "print(majority(5), leader_of(7, 5))\n"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["5", "2"]


# ---------------------------------------------------------------- what counts


def kill(**changes: object) -> Kill:
    values: dict[str, object] = {
        "name": "m", "breaks": "<b>something</b>", "clause": "V-4", "role": "verifier",
        "meant": {"verify/a": "FAIL"},
        "reasons": {"verify/a": "wrong"}, "probe": "PASS", "hopeless": False, "others": [],
        "trouble": "", "seconds": 1.0,
    }  # fmt: skip
    return Kill(**{**values, **changes})  # type: ignore[arg-type]


def test_what_is_a_kill() -> None:
    assert kill().killed
    assert kill(meant={"verify/a": "WARN"}).killed
    for verdict in ("PASS", "ERROR", "SKIP", "INCONCLUSIVE", "UNSUPPORTED"):
        lives = kill(meant={"verify/a": "FAIL", "verify/b": verdict}, others=["verify/c"])
        assert not lives.killed
        assert f"verify/b says {verdict}" in lives.why_not and "verify/c" in lives.why_not
    assert not kill(trouble="it does not start").killed
    assert not kill(probe="FAIL").killed
    assert kill(probe="FAIL", hopeless=True).killed


def sample(*kills: Kill) -> SelfTest:
    odd = OddResult("o", "odd", ["F-4"], "verifier", {"PASS": 2, "FAIL": 1}, {"verify/a": "FAIL: why"}, "", 1.0)
    control = Control("verifier", {"PASS": 1}, {}, "", 1.0)
    count = sum(each.killed for each in kills)
    return SelfTest("1.0", "ab" * 32, 7, 12.0, len(kills), count, 1, 0, [control], list(kills), [odd])


def test_json_and_page(tmp_path: Path) -> None:
    found = sample(kill(), kill(name="n", meant={"verify/a": "PASS"}))
    assert not found.passed
    as_json = command.as_json(found)
    assert [as_json[key] for key in ("mutants", "mutants_killed", "odd", "odd_passed")] == [2, 1, 1, 0]
    jsonschema.validate(as_json, {**SCHEMA["$defs"]["selftest"], "$defs": SCHEMA["$defs"]})
    assert built(SelfTest, json.loads(json.dumps(as_json)), "selftest") == found
    alone = selftest_page(found)
    assert "1 of 2 mutants killed" in alone and "&lt;b&gt;something" in alone and "<b>something" not in alone
    text = command.text(found)
    assert "LIVES: verify/a says PASS" in text and "1 of 2 mutants killed" in text


def test_the_matrix_is_part_of_a_report() -> None:
    from suite_samples import sample as report_sample

    content = report_sample().to_json()
    without = Report.from_json({key: value for key, value in content.items() if key != "selftests"})
    assert 'id="selftest"' not in page(without)
    content["selftests"] = [plain(sample(kill()))]
    jsonschema.validate(content, SCHEMA)
    assert 'id="selftest"' in page(Report.from_json(content))


# ---------------------------------------------------------------- running


def test_names_are_checked() -> None:
    with pytest.raises(UnknownName, match="there is verifier-"):
        select(["verifier-nonsense"])
    mutants, odd = select(["verifier-any-digest", "verifier-terse"])
    assert [mutants[0].name, odd[0].name] == ["verifier-any-digest", "verifier-terse"]


def test_a_sample_is_killed(capsys: pytest.CaptureFixture[str]) -> None:
    names = ["cbor-duplicate-keys", "coupling-ties-to-the-highest", "verifier-any-digest"]
    assert cli.main(["selftest", "--quiet", "--json", "--only", *names]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [said["mutants"], said["mutants_killed"], said["odd"]] == [3, 3, 0]
    assert [each["name"] for each in said["kills"]] == names
    assert all(control["counts"].keys() == {"PASS"} for control in said["controls"])


def test_a_mutant_that_lives_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The unchanged testee in a mutant's place: its cases pass, so it lives."""
    harmless = Mutant("none", "nothing", "B-3", "exec", ("cbor/key-twice",), ())
    monkeypatch.setitem(MUTANTS, "none", harmless)
    found = selftest(["none"], version="test", seed=1, jobs=1)
    assert not found.passed
    assert found.kills[0].why_not == "cbor/key-twice says PASS"


@pytest.mark.slow
def test_every_mutant_is_killed_and_every_odd_node_passes() -> None:
    found = selftest(version="test", seed=1, jobs=4)
    assert {each.name: each.why_not for each in found.kills if not each.killed} == {}
    assert {each.name: each.failed or each.trouble for each in found.odd_nodes if not each.passed} == {}
    assert {each.role: each.failed or each.trouble for each in found.controls if not each.passed} == {}
