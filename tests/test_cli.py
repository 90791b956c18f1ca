"""The command line: what it accepts, what it refuses and in which words, and what its helpers print."""

from __future__ import annotations

import argparse
import io
import json
import sys
from pathlib import Path

import pytest

from dsdproto.registry import Finish, Role
from dsdproto.wire.messages import DrafterEntry, Stats
from reference_nodes.cli import options
from reference_nodes.cli.generation import Generation, drafter_list, summary
from reference_nodes.cli.local import Wire, draft_names, usual_drafters
from reference_nodes.cli.main import COMMANDS, main, make_parser
from reference_nodes.cli.options import Prompt, UsageError, read_prompts, sampling_of
from reference_nodes.cli.output import RESET, Painter, Progress, colours_wanted, figures, table
from reference_nodes.cli.processes import tail
from reference_nodes.cli.run_command import Shower
from reference_nodes.cli.texts import Vocabulary

TM1 = "tm-1:v=512,s=7"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DSDP_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def usage(*argv: str) -> int:
    """The exit code with which argparse leaves."""
    with pytest.raises(SystemExit) as left:
        main(argv)
    return int(left.value.code or 0)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


# ---------------------------------------------------------------- parsing


@pytest.mark.parametrize("command", [name.__name__.split(".")[-1].removesuffix("_command") for name in COMMANDS])
def test_every_command_explains_itself_with_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert usage(command, "--help") == 0
    text = capsys.readouterr().out
    assert "examples:" in text
    assert f"dsdp {command}" in text.split("examples:")[1]


def test_the_overview_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert usage("--help") == 0
    text = capsys.readouterr().out
    assert all(f"\n    {name.__name__.split('.')[-1].removesuffix('_command')} " in text for name in COMMANDS)
    assert "NO_COLOR" in text and "DSDP_HOME" in text


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "COMMAND"),
        (["dance"], "invalid choice: 'dance'"),
        (["run", "hello", "--peer", "nowhere"], "write HOST:PORT"),
        (["run", "hello", "--peer", "::1:80"], "write HOST:PORT or [IPV6]:PORT"),
        (["run", "hello", "--peer", "host:70000"], "must be in 1..65535"),
        (["run", "hello", "--max-tokens", "0"], "at least 1"),
        (["run", "hello", "--seed", "-1"], "at least 0"),
        (["run", "hello", "--top-k", "many"], "not a whole number"),
        (["serve", "--roles", "leader,king"], "'king' is no role to serve; there are: leader, drafter, verifier"),
        (["serve"], "--roles"),
        (["serve", "--roles", "leader", "--port", "65536"], "at most 65535"),
        (["demo", "--prompt", "a", "--prompts", "b"], "not allowed with"),
        (["bench"], "WHAT"),
    ],
)
def test_a_wrong_command_line_is_refused_with_the_reason(
    argv: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert usage(*argv) == 2
    assert said in capsys.readouterr().err


def test_addresses_of_both_families_pass() -> None:
    assert options.address("192.168.1.5:7171") == "192.168.1.5:7171"
    assert options.address("[fe80::1%eth0]:7171") == "[fe80::1%eth0]:7171"


def test_roles_come_in_registry_order() -> None:
    assert options.roles("verifier,leader,leader") == (Role.LEADER, Role.VERIFIER)


def test_sampling_becomes_integers() -> None:
    args = make_parser().parse_args(["run", "x", "-t", "0.8", "--top-p", "0.5", "--top-k", "40"])
    sampling = sampling_of(args)
    assert (sampling.temperature_q16, sampling.top_p_q16, sampling.top_k) == (52429, 32768, 40)


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (["serve", "--roles", "drafter", "--model", TM1], 2, "needs --draft-model"),
        (["serve", "--roles", "verifier"], 2, "needs --model"),
        (["serve", "--roles", "leader", "--no-mdns"], 1, "Run `dsdp join TOKEN`"),
        (["run", "hello", "--no-mdns"], 1, "has no node named 'default'"),
        (["run", ""], 2, "the prompt is empty"),
        (["run", "hello", "--top-p", "0"], 2, "top_p = 0.0: must be above 0 and at most 1"),
        (["token"], 1, "Tokens are made on the machine that ran `dsdp init`"),
        (["join", "dsdp-join-1-abc"], 1, "Copy it again"),
        (["status", "--no-mdns"], 1, "`dsdp init` here to begin a new cluster"),
        (["pull", "gpt-9"], 1, "no model 'gpt-9' to pull; known: smollm2"),
        (["demo", "--model", "nonsense"], 1, "neither a known model nor an existing path"),
        (["demo", "--model", TM1, "--drafters", ","], 2, "give a number, or names"),
        (["demo", "--model", TM1, "--temperature", "-1"], 2, "temperature = -1.0"),
        (["demo", "--model", "tm-1:v=3", "--drafters", "0"], 1, "must be in 8.."),
        (["bench", "speed", "--prompts", "none.jsonl"], 2, "cannot read prompts from none.jsonl"),
    ],
)
def test_an_error_is_one_line_that_says_what_to_do(
    argv: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == code
    captured = capsys.readouterr()
    lines = captured.err.strip().splitlines()
    assert said in lines[-1]
    assert lines[-1].startswith(f"dsdp {argv[0]}: ")
    assert "Traceback" not in captured.err


def test_with_json_an_error_is_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["token", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "no-cluster"


def test_ctrl_c_ends_quietly(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(name: str, progress: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("reference_nodes.models_store.pull", interrupted)
    assert main(["pull", "smollm2"]) == 130
    assert capsys.readouterr().err.strip() == "interrupted"


# ---------------------------------------------------------------- init


def test_init_makes_a_cluster_once(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "--name", "lab", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["name"] == "lab"
    assert Path(made["identity"]) == home / "nodes" / "default"
    assert (home / "nodes" / "client" / "node.key").exists()
    assert main(["init"]) == 1
    assert "nothing was changed" in capsys.readouterr().err


def test_status_shows_the_identity_for_asking(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "--json"]) == 0
    cluster = json.loads(capsys.readouterr().out)["cluster"]
    assert main(["status", "--no-mdns", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["identity"]["cluster"], found["identity"]["name"], found["nodes"]) == (cluster, "client", [])


def test_status_of_a_node_that_is_not_there_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "--json"]) == 0
    # Port 1 on loopback: nothing listens there, so the system refuses at once.
    assert main(["status", "--peer", "127.0.0.1:1", "--json"]) == 1
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["nodes"][0]["error"]["code"] == "refused"


# ---------------------------------------------------------------- prompts and texts


def test_prompts_are_read_up_to_the_limit(tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    file.write_text('{"prompt": "one"}\n\n{"prompt": "two", "id": 3}\n')
    assert read_prompts(file) == [Prompt("one"), Prompt("two")]
    assert read_prompts(file, 1) == [Prompt("one")]


@pytest.mark.parametrize("line", ["[1]", '{"question": "?"}', '{"prompt": 3}', '{"prompt": ""}', "text"])
def test_a_line_that_is_no_prompt_is_named(tmp_path: Path, line: str) -> None:
    file = tmp_path / "p.jsonl"
    file.write_text('{"prompt": "one"}\n' + line + "\n")
    with pytest.raises(UsageError, match="line 2: expected"):
        read_prompts(file)


def test_a_file_without_prompts_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    file.write_text("\n")
    with pytest.raises(UsageError, match="holds no prompts"):
        read_prompts(file)


def test_tm1_speaks_in_numbers() -> None:
    vocabulary = Vocabulary(f"{TM1},a=1")
    assert (vocabulary.name, vocabulary.size) == (TM1, 512)
    ids = vocabulary.encode(Prompt("ab"))
    assert ids == [4 + 97, 4 + 98]
    stream = vocabulary.stream()
    assert stream.push([7]) + stream.push([]) + stream.push([8, 9]) + stream.finish() == "7 8 9"
    assert vocabulary.decode([7, 8]) == "7 8"


def test_a_drafter_has_no_text_of_its_own() -> None:
    with pytest.raises(UsageError, match="only drafts"):
        Vocabulary("ngram")


# ---------------------------------------------------------------- draft models


@pytest.mark.parametrize(
    ("text", "model", "names"),
    [
        ("0", TM1, []),
        ("2", "smollm2", ["smollm2-draft", "ngram"]),
        ("4", "smollm2", ["smollm2-draft", "ngram", "ngram:3-1", "smollm2-draft"]),
        ("1", "some/model.gguf", ["ngram"]),
        ("ngram, smollm2-draft", "smollm2", ["ngram", "smollm2-draft"]),
        ("tm-1:v=512,s=7,a=52429,d=1,ngram", TM1, ["tm-1:v=512,s=7,a=52429,d=1", "ngram"]),
    ],
)
def test_drafters_are_a_number_or_names(
    text: str, model: str, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reference_nodes.cli.local._is_here", lambda name: True)
    assert draft_names(text, model) == names


def test_an_installation_without_the_draft_model_has_other_drafters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reference_nodes.cli.local._is_here", lambda name: name != "smollm2-draft")
    assert draft_names("2", "smollm2") == ["ngram", "ngram:3-1"]


def test_tm1_drafters_draft_for_their_target() -> None:
    assert usual_drafters("tm-1:v=512,s=7,a=5")[0] == "tm-1:v=512,s=7,a=52429,d=1"
    assert usual_drafters("tm-1")[0] == "tm-1:a=52429,d=1"


# ---------------------------------------------------------------- what is shown


@pytest.mark.parametrize(
    ("environment", "terminal", "wanted"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"NO_COLOR": "1"}, True, False),
        ({"NO_COLOR": "", "TERM": "xterm"}, True, True),
        ({"TERM": "dumb"}, True, False),
        ({"FORCE_COLOR": "1"}, False, True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, True, False),
    ],
)
def test_colours_only_where_they_are_wanted(environment: dict[str, str], terminal: bool, wanted: bool) -> None:
    assert colours_wanted(Terminal() if terminal else io.StringIO(), environment) is wanted


def test_text_is_coloured_by_who_proposed_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    out = io.StringIO()
    shower = Shower(Vocabulary(TM1), Painter(out))
    shower((11, 12, 13), bytes([0, 1, 2]))
    shower.finish()
    assert shower.text == "11 12 13"
    plain, first, second = out.getvalue().split(" 1")
    assert plain == "11\x1b[32m"
    assert first == f"2{RESET}\x1b[36m"
    assert second == f"3{RESET}"


def test_progress_is_a_bar_on_a_terminal_and_lines_elsewhere() -> None:
    screen, file = Terminal(), io.StringIO()
    for stream in (screen, file):
        progress = Progress(stream=stream)
        progress("downloading", 0, 20_000_000)
        progress("downloading", 20_000_000, 20_000_000)
        progress("checking", 0, 1)
        progress.finish()
    assert file.getvalue() == "downloading ...\nchecking ...\n"
    assert "[########################] 100 % 20 of 20 MB" in screen.getvalue()
    assert screen.getvalue().endswith("\n")


def test_figures_and_tables_line_up() -> None:
    assert figures({"a": 1, "long": "x"}) == "  a     1\n  long  x"
    assert table(("name", "n"), [("a", 10), ("bcdef", 2)]) == "name    n\na      10\nbcdef   2"


def test_the_tail_of_a_log_is_short(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_text("".join(f"{n}\n" for n in range(50)))
    assert tail(log).splitlines()[0] == "  | 38" and tail(log).splitlines()[-1] == "  | 49"
    assert "cannot be read" in tail(tmp_path / "none.log")


# ---------------------------------------------------------------- figures


def generation(tokens: int, rounds: int, drafted: int, accepted: int) -> Generation:
    node = bytes(32)
    return Generation(
        tokens=list(range(tokens)),
        origins=bytearray([1] * accepted + [0] * (tokens - accepted)),
        drafters={1: DrafterEntry(number=1, node_id=node, model="d")},
        finish=Finish.LENGTH,
        stats=Stats(rounds=rounds, drafted=drafted, verified=drafted, accepted=accepted, waste=(1, 0, 2)),
        seconds=2.0,
    )


def test_the_summary_counts_over_all_streams() -> None:
    found = summary([generation(10, 4, 12, 6), generation(6, 4, 4, 2)])
    assert (found["tokens"], found["rounds"], found["drafted"], found["accepted"]) == (16, 8, 16, 8)
    assert found["acceptance_rate"] == 0.5
    assert found["mean_acceptance_length"] == 2.0
    assert found["target_forwards_per_token"] == 0.5
    assert sum(found["waste"].values()) == 6 and len(found["waste"]) == 2


def test_a_summary_of_nothing_divides_by_nothing() -> None:
    found = summary([])
    assert (found["tokens"], found["acceptance_rate"], found["mean_acceptance_length"]) == (0, None, None)


def test_drafters_are_listed_by_node_with_their_share() -> None:
    found = drafter_list([generation(10, 4, 12, 6), generation(6, 4, 4, 2)])
    assert [(row["model"], row["committed"]) for row in found] == [("d", 8)]
    assert generation(10, 4, 12, 6).by_drafter == {0: 4, 1: 6}
    assert generation(10, 4, 12, 6).rate == 5.0


def test_wire_bytes_are_differences_of_links_that_live() -> None:
    before = Wire({"draft": {1: 100, 2: 50}, "verify": {}})
    after = Wire({"draft": {1: 180, 3: 30}, "verify": {}})
    assert after.since(before, "draft") == 110


def test_namespace_of_every_command_has_its_function() -> None:
    args = make_parser().parse_args(["bench", "wire"])
    assert isinstance(args, argparse.Namespace) and callable(args.run)
    assert sys.modules["reference_nodes.cli.bench_command"]._wire is args.run
