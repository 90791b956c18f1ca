"""The second-language testee: Node.js from the documents alone, asked through the door that strangers use."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from dsdproto.registry import Role

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "conformance" / "examples" / "node"


def node_version() -> int:
    """Major version of the Node.js that is installed; 0: none."""
    if shutil.which("node") is None:
        return 0
    said = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    found = re.match(r"v(\d+)\.", said)
    return int(found.group(1)) if found else 0


needs_node = pytest.mark.skipif(node_version() < 20, reason="there is no Node.js 20 or later here")


def run_suite(report: Path, *which: str) -> dict[str, Counter[str]]:
    """Runs the suite against the example; gives for each rung the verdicts and how often they came."""
    testee = f"node '{EXAMPLE / 'testee.mjs'}'"
    command = [sys.executable, "-m", "conformance", "run", "--exec", testee, "--json", str(report), "--quiet"]
    command += ["--seed", "1", "--patience", "3", *which]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    verdicts: dict[str, Counter[str]] = {}
    for case in json.loads(report.read_text())["cases"]:
        verdicts.setdefault(str(case["rung"]), Counter())[case["verdict"]] += 1
    return verdicts


@needs_node
def test_static_vectors_and_transcripts(tmp_path: Path) -> None:
    verdicts = run_suite(tmp_path / "report.json", "--rung", "1", "--rung", "2")
    assert set(verdicts) == {"1", "2"}
    assert all(set(found) == {"PASS"} for found in verdicts.values()), verdicts


@needs_node
def test_rung_3(tmp_path: Path) -> None:
    roles = [part for role in Role for part in ("--role", role.name.lower())]
    found = run_suite(tmp_path / "report.json", "--rung", "3", *roles)["3"]
    assert set(found) <= {"PASS", "SKIP"} and found["SKIP"] <= 2, found
    assert found["PASS"] > 900


def test_it_stands_on_the_standard_library_alone() -> None:
    sources = sorted(EXAMPLE.glob("*.mjs"))
    assert len(sources) > 20
    for source in sources:
        for name in re.findall(r"^(?:import|export) .*from '([^']+)';$", source.read_text(), re.MULTILINE):
            assert name.startswith("node:") or (EXAMPLE / name).is_file(), f"{source.name} imports {name}"


UNOPENED = """
import { mock } from 'node:test';
import { VerifySeat } from './assignment.mjs';

const contract = {
  prompt: [4, 5],
  max_tokens: 8,
  stop_tokens: [],
  vocabulary_size: 16,
  vocabulary_digest: Buffer.alloc(32),
  sampling: { method: 0, temperature: 0, top_k: 0, top_p: 65536, seed: 1n },
};
mock.timers.enable({ apis: ['setTimeout'] });
const seat = new VerifySeat({}, { session: Buffer.alloc(16), contract, committed: [] }, { openChannel: () => null });
console.log(seat.open());
mock.timers.tick(3600_000);
"""


@needs_node
def test_a_verifier_that_cannot_be_sent_assign_is_not_waited_for() -> None:
    """ASSIGN may be longer than it takes (clause L-11); a timer that went off later ended the whole process."""
    command = ["node", "--input-type=module", "--eval", UNOPENED]
    done = subprocess.run(command, capture_output=True, text=True, cwd=EXAMPLE)
    assert (done.returncode, done.stdout) == (0, "false\n"), done.stderr
