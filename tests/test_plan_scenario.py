"""Scenario files: what is wrong is said with key and remedy, and nothing unknown is accepted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reference_nodes.simulator.plan import ScenarioError, load, parse
from reference_nodes.simulator.plan.loader import apply, gallery, value_of
from reference_nodes.simulator.plan.scenario import Constant, Scenario, Static
from reference_nodes.simulator.plan.schema import plain, read
from tests.test_plan_run import small


@pytest.mark.parametrize(
    ("setting", "path", "text"),
    [
        ("windw.size=4", "windw", "did you mean 'window'"),
        ("window={kind='statik'}", "window.kind", "there are adaptive, static, threshold"),
        ("window={kind='static', sise=4}", "window.sise", "did you mean 'size'"),
        ("window={kind='static', size=-1}", "window.size", "-1 is too small, at least 0"),
        ("window={kind='static', size=2.5}", "window.size", "where a whole number belongs"),
        ("window={size=4}", "window", "needs a kind"),
        ("duration=0", "duration", "more than 0"),
        ("duration=inf", "duration", "finite"),
        ("duration=true", "duration", "where a number belongs"),
        ("warmup=30", "warmup", "leave nothing"),
        ("workload.rate=4", "workload.rate", "no such key; there are clients"),
        ("workload.prompt={kind='trace'}", "workload.prompt.file", "is missing"),
        ("workload.prompt={kind='recorded'}", "workload.prompt", "needs recorded acceptance"),
        ("routing.kind=rownd-robin", "routing.kind", "did you mean 'round-robin'"),
        ("group.edge.device=cpus", "group.edge.device", "did you mean 'cpu'"),
        ("group.edge.draft_model=tiny", "group.edge.draft_model", "there are default"),
        ("group.target.roles=['leader']", "group", "'verifier'"),
        ("group.edge.count=0", "group.edge.count", "at least 1"),
        ("group.edge.roles=['client', 'drafte']", "group.edge.roles.1", "did you mean 'drafter'"),
        ("link.between=['edge', 'cloud']", "link.0.between", "no group 'cloud'"),
        ("link.between=['edge']", "link.0.between", "1 items where 2 belong"),
        ("link.loss=1.5", "link.0.loss", "at most 1"),
        ("link.bandwith=1e6", "link.0.bandwith", "did you mean 'bandwidth'"),
        ("acceptance.default.rates=[0.9, 0.2]", "acceptance.default.rates", "adds up to 1.1"),
        ("acceptance.default.rates=[]", "acceptance.default.rates", "is empty"),
        ("commit=quorum", "group.target.roles", "voter"),
        ("fault=[{kind='kil', who='edge'}]", "fault.0.kind", "did you mean 'kill'"),
        ("fault=[{kind='kill', who='edge-7'}]", "fault.0.who", "did you mean 'edge-0'"),
        ("fault=[{kind='kill', who='edge', other='target'}]", "fault.0.other", "only a 'who'"),
    ],
)
def test_what_is_wrong_is_said_with_its_key(setting: str, path: str, text: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        parse(small(), [setting])
    assert caught.value.path == path
    assert text in caught.value.text


def test_the_folder_is_not_the_files_to_say() -> None:
    with pytest.raises(ScenarioError, match="folder: is no key of a scenario file"):
        parse(small(folder="x"))


def test_error_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(gallery()["edge-cloud"].read_text().replace("duration = 120.0", "duration = 'long'"))
    with pytest.raises(ScenarioError, match=r"mine\.toml: duration: 'long' where a number belongs"):
        load(file)
    file.write_text("duration = = 3\n")
    with pytest.raises(ScenarioError, match=r"mine\.toml: is no TOML"):
        load(file)
    with pytest.raises(ScenarioError, match="did you mean 'edge-cloud'"):
        load("edge-clowd")


def test_settings_reach_lists_by_name_number_or_all() -> None:
    table: dict[str, Any] = {"group": [{"name": "a"}, {"name": "b"}], "link": [{"rtt": 1}, {"rtt": 2}]}
    apply(table, "group.b.count=3")
    apply(table, "link.0.loss=0.5")
    apply(table, "link.rtt=0.03")
    apply(table, "deep.er.key=word")
    assert table["group"] == [{"name": "a"}, {"name": "b", "count": 3}]
    assert table["link"] == [{"rtt": 0.03, "loss": 0.5}, {"rtt": 0.03}]
    assert table["deep"] == {"er": {"key": "word"}}
    with pytest.raises(ScenarioError, match="no setting"):
        apply(table, "word")


@pytest.mark.parametrize(
    ("text", "value"), [("4", 4), ("0.5", 0.5), ("true", True), ("[1, 2]", [1, 2]), ("fifo", "fifo"), ("'x'", "x")]
)
def test_values_of_settings(text: str, value: object) -> None:
    assert value_of(text) == value


def test_number_stands_for_a_constant_length_and_a_kind_may_change() -> None:
    scenario = parse(small(), ["workload.prompt=7", "window.kind=static", "window.size=3"])
    assert scenario.workload.prompt == Constant(7)
    assert scenario.window == Static(size=3)


@pytest.mark.parametrize("name", sorted(gallery()))
def test_plain_values_are_the_inverse_of_reading(name: str) -> None:
    scenario = load(name)
    assert read(Scenario, plain(scenario)) == scenario


def test_gallery_holds_what_was_promised() -> None:
    assert set(gallery()) >= {"lan-laptops", "edge-cloud", "datacentre", "flaky-home", "thousand-drafters"}
