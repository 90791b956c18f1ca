"""Records of acceptance: what a drafter would have got right of a target's stream."""

import json

import pytest

from dsdproto.testmodel import TestModel
from reference_nodes.backends.base import BackendError
from reference_nodes.bench.cluster import contracts
from reference_nodes.cli.main import main
from reference_nodes.cli.options import Prompt
from reference_nodes.cli.prompts import USUAL
from reference_nodes.cli.texts import Vocabulary
from reference_nodes.offers import load_drafter, load_verifier
from reference_nodes.profile.record import (
    ABSENT,
    RecordError,
    read_records,
    record_of,
    record_stream,
    summary,
    write_records,
)
from reference_nodes.simulator.tables import alone

TARGET = "tm-1:v=512,s=7"


def drafter(agreement):
    return f"tm-1:v=512,s=7,a={agreement},d=1"


def recorded(agreement=52429, temperature=0.0, tokens=60, width=3, seed=5):
    target, draft = load_verifier(TARGET), load_drafter(drafter(agreement), TARGET)
    (contract,) = contracts(Vocabulary(TARGET), [Prompt("recorded")], tokens, temperature, seed)
    return record_stream(target.executor, draft.executor, contract, width, (TARGET, "d")), contract


def test_a_drafter_that_always_agrees_is_always_first():
    record, _ = recorded(agreement=65536)
    assert set(record.ranks) == {0} and record.acceptance == record.among == 1.0


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_ranks_are_where_the_target_s_tokens_stand(temperature):
    record, contract = recorded(temperature=temperature, tokens=60)
    assert record.tokens == len(record.ranks) == len(record.scores) <= 60
    assert record.temperature == pytest.approx(temperature, abs=1e-4)
    assert record.prompt_tokens == len(contract.prompt)
    assert all(len(scores) <= 3 and list(scores) == sorted(scores) for scores in record.scores)
    assert all(rank == ABSENT or rank < len(scores) for rank, scores in zip(record.ranks, record.scores))
    assert 0.5 < record.acceptance < 1.0


def test_a_record_is_of_the_target_s_own_stream():
    """The drafter is asked below the true prefix: its first choices where it is right are the stream's tokens."""
    from dsdproto.roles.work import DraftWork, ExpandItem
    from reference_nodes.simulator.tables import TableDrafter

    record, contract = recorded(temperature=0.8, tokens=30)
    model = TestModel.parse(drafter(52429))
    stream = alone(
        contract.__class__(**{name: getattr(contract, name) for name in contract.__slots__} | {"stop_tokens": ()}),
        TestModel.parse(TARGET),
    )
    table = TableDrafter(model)
    for index, rank in enumerate(record.ranks):
        prefix = (*contract.prompt, *stream[:index])
        (children,) = table.run(DraftWork((ExpandItem("s", prefix, (), (), (0,), contract.sampling, 3),), ())).children
        tokens = [child.token for child in children[0]]
        assert rank == (tokens.index(stream[index]) if stream[index] in tokens else ABSENT)
        assert record.scores[index] == tuple(child.score for child in children[0])


def test_the_same_seed_gives_the_same_record():
    assert recorded(temperature=0.8)[0] == recorded(temperature=0.8)[0]
    assert recorded(temperature=0.8)[0] != recorded(temperature=0.8, seed=6)[0]


def test_a_record_ends_where_the_stream_does():
    record, _ = recorded(tokens=7)
    assert record.tokens == 7
    target, draft = load_verifier(TARGET), load_drafter("ngram", TARGET)
    (contract,) = contracts(Vocabulary(TARGET), [Prompt("x")], 5, 0.0, 0)
    target.backend.max_context = len(contract.prompt) + 2
    assert record_stream(target.executor, draft.executor, contract, 3, ("t", "ngram")).tokens == 2
    target.backend.max_context = 1
    with pytest.raises(BackendError, match="leaves no room in a context of 1"):
        record_stream(target.executor, draft.executor, contract, 3, ("t", "ngram"))


# ---------------------------------------------------------------- files


def test_records_come_back_as_they_were_written(tmp_path):
    records = [recorded()[0], recorded(agreement=39322)[0]]
    path = tmp_path / "r.jsonl"
    write_records(path, records)
    assert read_records(path) == records
    assert list(json.loads(path.read_text().splitlines()[0])) == [
        "v", "target", "drafter", "temperature", "prompt_tokens", "tokens", "width", "ranks", "scores",
    ]  # fmt: skip
    with pytest.raises(RecordError, match="cannot write"):
        write_records(tmp_path / "nowhere" / "r.jsonl", records)


LINE = {
    "v": 1, "target": "t", "drafter": "d", "temperature": 0, "prompt_tokens": 3, "tokens": 2, "width": 2,
    "ranks": [0, 255], "scores": [[1, 2], []],
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"v": 2}, "v is 2"),
        ({"ranks": []}, "ranks must be"),
        ({"ranks": [0, 256]}, "ranks must be"),
        ({"ranks": [0, 0]}, r"ranks\[1\] is 0, but there are 0 scores"),
        ({"scores": [[1]]}, "scores must be"),
        ({"tokens": 3}, "tokens is 3, but there are 2 ranks"),
        ({"prompt_tokens": 0}, "prompt_tokens and width"),
        ({"temperature": -1}, "temperature is -1"),
    ],
)
def test_a_line_that_cannot_be_used_is_refused(change, text):
    assert record_of(LINE, "here").ranks == (0, ABSENT)
    with pytest.raises(RecordError, match=f"here: {text}"):
        record_of(LINE | change, "here")


def test_a_file_that_cannot_be_used_is_refused_with_the_line(tmp_path):
    path = tmp_path / "r.jsonl"
    path.write_text(json.dumps(LINE) + "\n{\n")
    with pytest.raises(RecordError, match="line 2: is no JSON"):
        read_records(path)
    path.write_text("\n")
    with pytest.raises(RecordError, match="holds no streams"):
        read_records(path)
    with pytest.raises(RecordError, match=r"none\.jsonl.*dsdp record"):
        read_records(tmp_path / "none.jsonl")


def test_the_figures_of_a_record():
    line = record_of(LINE | {"ranks": [0, 0, 1, 0], "scores": [[1, 2]] * 4, "tokens": 4}, "here")
    found = summary([line, record_of(LINE, "here")])
    assert found["first_choice"] == round(4 / 6, 4)
    assert found["by_rank"] == [round(4 / 6, 4), round(1 / 6, 4)]
    assert found["run_length"] == 1.0  # 4 hits, 2 misses, 2 ends
    assert (found["streams"], found["tokens"]) == (2, 6)


# ---------------------------------------------------------------- the command


def test_the_command_writes_a_record(tmp_path, capsys):
    prompts, out = tmp_path / "p.jsonl", tmp_path / "r.jsonl"
    prompts.write_text('{"prompt": "one"}\n{"prompt": "two"}\n')
    options = ["--model", TARGET, "--draft-model", drafter(52429), "-n", "20", "-o", str(out)]
    assert main(["record", *options, "--prompts", str(prompts), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    records = read_records(out)
    assert found["streams"] == len(records) == 2
    assert found["tokens"] == sum(record.tokens for record in records)
    assert records[0].drafter == drafter(52429)


def test_the_command_has_prompts_of_its_own(tmp_path, capsys):
    out = tmp_path / "r.jsonl"
    options = ["--model", TARGET, "--draft-model", "ngram", "-n", "4", "-t", "0.8", "--seed", "3", "-o", str(out)]
    assert main(["record", *options]) == 0
    assert len(read_records(out)) == len(USUAL)
    assert "first choice right" in capsys.readouterr().out.replace("first, second, ... choice", "first choice")


@pytest.mark.parametrize(
    ("options", "text"),
    [(["-o", "/nowhere/at/all.jsonl"], "/nowhere/at does not exist"), (["-t", "-1"], "temperature")],
)
def test_the_command_says_what_is_wrong(tmp_path, capsys, options, text):
    assert main(["record", "--model", TARGET, "-o", str(tmp_path / "x.jsonl"), *options]) == 2
    assert text in capsys.readouterr().err
