"""The suite's copy of the clauses, and which of them have cases."""

from __future__ import annotations

import copy
import json
import re

import pytest
from spec_text import clauses as clauses_of_tests
from spec_text import spec

from conformance import coverage, update_spec
from conformance.case import Case, Rung, load
from conformance.clauses import document, known, read
from dsdproto.errors import LocalError


def reworded(text: str, clause: str) -> str:
    return text.replace(f"**{clause}** (MUST) ", f"**{clause}** (MUST) Indeed, ")


def test_the_copy_is_that_of_the_spec() -> None:
    """`python -m conformance.update_spec` brings it up to date."""
    assert update_spec.next_document(document(), spec()) == document()
    assert update_spec.CLAUSES.read_text("utf-8") == json.dumps(document(), indent=1, ensure_ascii=False) + "\n"


def test_every_clause_is_read_whole() -> None:
    """Another reader of the same text finds the same ids, levels and words."""
    found, other = read(spec()), clauses_of_tests(spec())
    assert {name: clause.level.name for name, clause in found.items()} == {n: level for n, (level, _) in other.items()}
    for name, (_, body) in other.items():
        mine, theirs = ("".join(re.findall(r"\w+", text)) for text in (found[name].title + found[name].text, body))
        assert mine == theirs, name


def test_sections_are_those_of_the_headings() -> None:
    assert {known()[name].section for name in ("T-1", "ROLE-1", "V-7", "S-16")} == {"4.1", "3", "14.3", "11.6"}
    anchors = set(re.findall(r"\]\(#([^)]+)\)", spec()[: spec().index("## 1 ")]))
    top = {clause.anchor for clause in known().values() if "." not in clause.section}
    assert top, "some clauses stand right below a heading of the first level"
    assert top <= anchors


def test_a_changed_text_without_a_revision_is_noticed() -> None:
    with pytest.raises(update_spec.Undecided, match=r"V-7.*\*\*V-7r2\*\*.*--reworded V-7"):
        update_spec.next_document(document(), reworded(spec(), "V-7"))


def test_a_changed_level_without_a_revision_is_noticed() -> None:
    with pytest.raises(update_spec.Undecided, match="V-7"):
        update_spec.next_document(document(), spec().replace("**V-7** (MUST)", "**V-7** (SHOULD)"))


def test_a_new_revision_or_mere_words_are_taken() -> None:
    text = reworded(spec(), "V-7")
    words = update_spec.next_document(document(), text, ["V-7"])
    meaning = update_spec.next_document(document(), text.replace("**V-7**", "**V-7r2**"))
    for made, revision in ((words, 1), (meaning, 2)):
        (entry,) = (entry for entry in made["clauses"] if entry["id"] == "V-7")
        assert entry["revision"] == revision
        assert "Indeed" in entry["text"]
        assert made["digest"] != document()["digest"]


def test_a_revision_does_not_go_back() -> None:
    old = copy.deepcopy(document())
    next(entry for entry in old["clauses"] if entry["id"] == "V-7")["revision"] = 2
    with pytest.raises(LocalError, match="V-7 had revision 2 and now has 1"):
        update_spec.next_document(old, spec())


def test_withdrawn_ids_are_never_used_again() -> None:
    without = spec().replace("**V-7** (MUST) ", "")
    made = update_spec.next_document(document(), without, list(known()))
    assert made["withdrawn"] == ["V-7"]
    with pytest.raises(LocalError, match="V-7"):
        update_spec.next_document(made, spec())


def test_an_id_that_is_there_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="A-1 is there twice"):
        read("## 1 One\n\n**A-1** (MUST) x.\n\n**A-1** (MUST) y.\n")


# ---------------------------------------------------------------- coverage


def test_each_must_has_a_case_or_an_excuse() -> None:
    """`dsdp-conformance list --uncovered` shows what is missing."""
    assert coverage.coverage(load()).faults() == []


def made_case(*clauses: str) -> Case:
    return Case("made/up", "made up", clauses, Rung.STATIC, lambda t: None)


@pytest.mark.parametrize(
    ("cases", "excuses", "fault"),
    [
        ([], {}, "V-7: a MUST with neither"),
        ([made_case("V-7")], {"V-7": "it cannot be seen from outside"}, "V-7: excused, but tested by made/up"),
        ([made_case("V-7")], {"X-1": "it cannot be seen from outside"}, "X-1: excused, but SPEC.md has no such"),
        ([], {"V-7": "hard"}, "V-7: excused without a reason"),
        ([made_case("V-7", "X-1")], {}, "X-1: has cases, but SPEC.md has no such"),
    ],
)
def test_faults_of_the_tables_are_found(cases: list[Case], excuses: dict[str, str], fault: str) -> None:
    faults = coverage.coverage(cases, excuses).faults()
    assert [line for line in faults if line.startswith(fault)], faults


def test_a_covered_clause_is_no_fault() -> None:
    faults = coverage.coverage([made_case("V-7")], {}).faults()
    assert faults and not [line for line in faults if line.startswith("V-7:")]
