"""The planning guide, reference_nodes/simulator/README.md: commands parse, scenario and policy run, keys are there."""

from __future__ import annotations

import json
import re
import runpy
import shlex
import tomllib
from dataclasses import fields
from itertools import pairwise
from pathlib import Path

import pytest

from reference_nodes.cli.main import main, make_parser
from reference_nodes.simulator.plan import parse, run, scenario
from reference_nodes.simulator.plan.keys import LEFT_OUT, markdown, sections

GUIDE = Path(__file__).parents[1] / "reference_nodes" / "simulator" / "README.md"
TEXT = GUIDE.read_text(encoding="utf-8")


def blocks(kind: str) -> list[str]:
    """What stands between fences of a kind."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    return [body for each, body in found if each == kind]


COMMANDS = [line for block in blocks("") for line in block.splitlines() if line.startswith("dsdp ")]


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_are_as_the_program_takes_them(line: str) -> None:
    words = shlex.split(line, comments=True)
    if ">" in words:
        words = words[: words.index(">")]
    make_parser().parse_args(words[1:])


def test_guide_names_every_command_of_the_planning_simulator() -> None:
    said = {" ".join(line.split()[1:3]) for line in COMMANDS}
    wanted = {"sim list", "sim run", "sim sweep", "sim plot", "sim keys", "sim paper", "bench fidelity"}
    assert wanted <= said and {"profile verifier", "profile drafter"} <= said
    assert any(line.startswith("dsdp record ") for line in COMMANDS)


def test_scenario_of_the_guide_runs_with_each_setting_of_it() -> None:
    (text,) = blocks("toml")
    assert run(parse(tomllib.loads(text), ["duration=8"], name="my"))["requests.done"] > 0
    for line in COMMANDS:
        words = shlex.split(line, comments=True)
        # Files of profile and record are not there.
        if "my.toml" in words and "table" not in line:
            settings = [value for option, value in pairwise(words) if option == "--set"]
            parse(tomllib.loads(text), settings, name="my")


def test_policy_of_the_guide_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = blocks("python")
    (tmp_path / "policy.py").write_text(code.replace("duration=20", "duration=12"), encoding="utf-8")
    runpy.run_path(str(tmp_path / "policy.py"), run_name="policy")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["adaptive", "likely"]
    assert lines[0].split()[1:] != lines[1].split()[1:]


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", TEXT):
        assert (GUIDE.parent / target).exists(), target


# ---------------------------------------------------------------- keys


def test_keys_of_the_guide_are_the_schema() -> None:
    assert TEXT.partition("<!-- keys -->\n")[2] == markdown(), "write it anew: dsdp sim keys --markdown"


def test_every_field_of_the_schema_is_a_key_with_a_meaning() -> None:
    said = {(section.place, section.kind): {key.name for key in section.keys} for section in sections()}
    assert len(said) == len(sections())
    found = [section.keys for section in sections()]
    assert all(key.text for keys in found for key in keys)
    tables = [
        each for each in vars(scenario).values() if isinstance(each, type) and hasattr(each, "__dataclass_fields__")
    ]
    for table in tables:
        names = {field.name for field in fields(table)} - {name for cls, name in LEFT_OUT if cls == table.__name__}
        assert names in said.values(), table


def test_keys_say_limits_units_and_defaults() -> None:
    known = {(section.title, key.name): (key.value, key.default) for section in sections() for key in section.keys}
    assert known["[[link]]", "bandwidth"] == ("number ≥ 0, bit/s", "0")
    assert known["[[link]]", "loss"] == ("number 0 to 1", "0")
    assert known["[[group]]", "count"] == ("whole number ≥ 1", "")
    assert known['[workload], kind = "poisson"', "output"] == ("whole number ≥ 1, or see a length", "128")
    assert known["top of the file", "window"] == ("see [window]", 'kind = "adaptive"')
    assert known["[batching]", "kind"] == ('"fifo", "length-aware", "fair"', '"fifo"')


def test_keys_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sim", "keys", "slo"]) == 0
    assert "tpot" in capsys.readouterr().out
    assert main(["sim", "keys", "fault", "--json"]) == 0
    (table,) = json.loads(capsys.readouterr().out)["tables"]
    assert table["place"] == "[[fault]]" and table["keys"][0]["name"] == "kind"
    assert main(["sim", "keys", "--markdown"]) == 0
    assert capsys.readouterr().out == markdown()
    assert main(["sim", "keys", "winder"]) == 1
    assert "did you mean 'window'" in capsys.readouterr().err
