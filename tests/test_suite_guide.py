"""IMPLEMENTERS.md: the first testee in it works as it stands, and what it says of the door is what the schema has."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from conformance.case import CASES, load
from conformance.door.exec import ExecDoor
from conformance.door.functions import FUNCTIONS
from conformance.door.verbs import LAYERS, VERBS
from conformance.examples.python.__main__ import answer
from conformance.runner import Options, Runner
from conformance.verdict import Verdict

GUIDE = (Path(__file__).parents[1] / "conformance" / "IMPLEMENTERS.md").read_text()
INDENT = " " * 3


def first_testee() -> str:
    block = re.search(r"   ```python\n(.*?)   ```\n", GUIDE, re.DOTALL)
    assert block is not None
    return "".join(line.removeprefix(INDENT) for line in block[1].splitlines(keepends=True))


def test_the_testee_of_the_first_ten_minutes_passes_a_family(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(first_testee())
    load()
    cases = [case for case in CASES if case.family in ("frame", "philox", "fixed")]
    cases += [case for case in CASES if case.family == "cbor"][:5]
    with ExecDoor([sys.executable, str(path)]) as door:
        results = Runner(door, Options(seed=1)).run(cases)
    verdicts = {each.case.id: each.outcome.verdict for each in results}
    assert {verdict for name, verdict in verdicts.items() if name.startswith("frame/")} == {Verdict.PASS}
    assert {verdict for name, verdict in verdicts.items() if not name.startswith("frame/")} == {Verdict.UNSUPPORTED}


def test_every_verb_function_and_layer_is_described() -> None:
    for name in (*VERBS, *FUNCTIONS, *LAYERS):
        assert f"`{name}`" in GUIDE, name


def test_the_exchange_shown_is_a_real_one() -> None:
    asked = re.search(r"^--> (.*)$", GUIDE, re.MULTILINE)
    said = re.search(r"^<-- (.*)$", GUIDE, re.MULTILINE)
    assert asked is not None and said is not None
    request = json.loads(asked[1])
    assert {"id": request["id"], **answer(request)} == json.loads(said[1])


def test_the_example_ends_with_its_input() -> None:
    line = json.dumps({"id": 1, "verb": "describe"}).encode() + b"\n"
    done = subprocess.run(
        [sys.executable, "-m", "conformance.examples.python"], input=line, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0 and done.stdout.count(b"\n") == 1 and not done.stderr
