"""The distillation tools: prompts, writing text, shortlist, training, file format, and the shipped draft."""

from __future__ import annotations

import json
import random
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from safetensors.torch import load_file, save_file  # noqa: E402

from reference_nodes.backends.base import Candidates  # noqa: E402
from reference_nodes.backends.hf_files import from_bf16, read_config, read_weights  # noqa: E402
from reference_nodes.backends.llama import Head, Llama  # noqa: E402
from reference_nodes.backends.loading import draft_as_transformers  # noqa: E402
from reference_nodes.distill import prompts  # noqa: E402
from reference_nodes.distill.chat import SYSTEMS, chat, user_header  # noqa: E402
from reference_nodes.distill.checkpoint import (  # noqa: E402
    EMBEDDING,
    SHORTLIST,
    DraftFileError,
    build_shortlist,
    expected_shapes,
    load_draft,
    save_draft,
    shared_names,
    trunk_of,
)
from reference_nodes.distill.data import Rows, TrainingRow  # noqa: E402
from reference_nodes.distill.evaluate import Guess, measure, milliseconds, served_guesses, student_guesses, walk  # noqa: E402
from reference_nodes.distill.generate import jobs_of, save_shard, shards  # noqa: E402
from reference_nodes.distill.stubs import spec_stub  # noqa: E402
from reference_nodes.distill.student import Student, draft_config, initial_state, rounded  # noqa: E402
from reference_nodes.distill.tapped import Tapped  # noqa: E402
from reference_nodes.distill.train import Plan, Trainer, averaged, rate_at, served_weights  # noqa: E402
from reference_nodes.distill.writer import Job, Limits, Writer  # noqa: E402
from reference_nodes.models import draft_dir  # noqa: E402
from reference_nodes.models_store import ModelFiles  # noqa: E402

VOCAB = 96


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    """A Llama model of random weights, saved as a target is."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(7)
    config = LlamaConfig(
        vocab_size=VOCAB, hidden_size=32, intermediate_size=64, num_hidden_layers=4, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, tie_word_embeddings=True, rms_norm_eps=1e-5, initializer_range=0.4,
        max_position_embeddings=256,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("target")
    LlamaForCausalLM(config).bfloat16().save_pretrained(path)
    return path


TRUNK = 2
LIMITS = Limits(answer=12, turn=8, prompt=24)


def student_of(target, layers=(2, 3)):
    embedding, state = initial_state(target, TRUNK, list(layers))
    student = Student(draft_config(target, TRUNK + len(layers)), TRUNK)
    student.load_own(state)
    return student, embedding


def writer_of(target, headers=(), lanes=3, rows=7, stop=2, taps=(TRUNK,), limits=LIMITS, **more):
    weights = read_weights(target)
    model = Llama(read_config(target), weights, Writer.slots(headers, limits, lanes), limits.total)
    head = Head(model, model.head_weight(weights))
    return Writer(Tapped(model, taps, rows), head, stop, [7, 8], headers, limits, lanes, rows, **more)


def random_jobs(count, seed, temperature=1.0):
    rng = random.Random(seed)
    return [
        Job(n, [5, 6, *(rng.randrange(9, VOCAB) for _ in range(rng.randrange(1, 9)))], temperature, seed)
        for n in range(count)
    ]


def shards_of(target, folder, seed=3):
    """Two shards of the target's own text: one to train on, one held out."""
    folder.mkdir(exist_ok=True)
    for n, rows in shards(writer_of(target).write(iter(random_jobs(12, seed))), set(), 6, 12):
        save_shard(folder / f"shard-{n:05d}.safetensors", rows, [TRUNK])


def rows_of(target, folder, **more):
    shards_of(target, folder)
    rows = Rows([folder], TRUNK, 2, **more)
    rows.refresh()
    return rows


# --- prompts


def test_pool_is_fixed_by_its_seed():
    assert prompts.pool(60, 5, []) == prompts.pool(60, 5, [])
    assert prompts.pool(60, 5, []) != prompts.pool(60, 6, [])


def test_pool_has_every_kind_and_no_repeats():
    records = prompts.pool(300, 1, [])
    texts = [r["prompt"] for r in records]
    assert {r["kind"] for r in records} == {"maths", "code", "chat"}
    assert len(set(texts)) == len(texts)
    assert {r["system"] for r in records} <= set(SYSTEMS.values())


def test_pool_leaves_out_what_evaluation_holds():
    before = prompts.pool(120, 2, [])
    banned = [r["prompt"] for r in before[:40]]
    after = prompts.pool(120, 2, banned)
    assert not {r["prompt"] for r in after} & set(banned)
    overlaps = prompts.Overlap(banned)
    assert not any(overlaps(r["prompt"]) for r in after)
    assert 0 < len(after) < len(before)


def test_overlap_sees_a_run_of_eight_words_through_case_and_punctuation():
    overlaps = prompts.Overlap(["Jan has nine red kites, and Ali has two blue kites."])
    assert overlaps("Today JAN HAS nine; red kites and Ali has many.")
    assert not overlaps("Jan has nine red kites and Ali, none at all today.")


def test_prompt_file_without_a_prompt_names_the_line(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text('{"prompt": "a"}\n{"text": "b"}\n')
    with pytest.raises(ValueError, match=r"p\.jsonl:2"):
        prompts.load_prompts(path)


def test_doctests_in_stubs_are_right():
    """The examples of a pure-Python stub must agree with a solution of it."""
    rng, seen = random.Random(4), 0
    for _ in range(400):
        stub = spec_stub(rng)
        if "def count_even(" in stub and ">>>" in stub:
            call = stub.split(">>> ")[1].splitlines()
            values = json.loads(call[0].removeprefix("count_even(").removesuffix(")"))
            assert int(call[1]) == sum(v % 2 == 0 for v in values)
            seen += 1
    assert seen


def test_chat_begins_with_the_user_header():
    assert chat("S", "hello").startswith(user_header("S") + "hello<|im_end|>")


def test_jobs_mix_prompts_and_turns_and_pass_over_long_prompts():
    records = [{"system": "s", "prompt": "x" * (200 if n % 3 else 3)} for n in range(40)]
    limits = Limits(prompt=150)
    jobs = jobs_of(records, lambda text: [ord(c) for c in text], 30, 1, 0.5, 0.6, limits)
    assert jobs == jobs_of(records, lambda text: [ord(c) for c in text], 30, 1, 0.5, 0.6, limits)
    assert [job.key for job in jobs] == list(range(30))
    assert 0 < sum(job.turn for job in jobs) < 30 and {job.temperature for job in jobs} == {0.0, 0.8}
    assert all(len(job.ids) <= 150 for job in jobs)
    assert len(jobs_of(records, lambda text: [ord(c) for c in text], 30, 1, 0.5, 0.0, limits)) == 14, "no more that fit"


def test_prose_prompts_for_measuring_are_kept_out_of_the_pool():
    path = Path(prompts.__file__).parent / "prose_prompts.jsonl"
    prose = prompts.load_prompts(path)
    assert len(prose) == len(set(prose)) == 20
    overlaps = prompts.Overlap(prose)
    assert all(map(overlaps, prose))
    assert not any(overlaps(r["prompt"]) for r in prompts.pool(2000, 3, prose))


# --- writing text


def test_taps_have_the_bits_of_the_whole_forward_and_of_a_shorter_model(target):
    config, weights = read_config(target), read_weights(target)
    ids, positions = np.array([5, 9, 33, 2, 61]), np.arange(5, dtype=np.int32)
    paths = np.tile(positions, (5, 1))
    whole = Llama(config, weights, 8, 8).forward(ids, positions, positions, paths)
    tapped = Tapped(Llama(config, weights, 8, 8), [1, 3], 5)
    out, taps = tapped.forward(ids, positions, positions, paths)
    assert np.array_equal(out, whole)
    short = Llama(replace(config, layers=3), weights, 8, 8).forward(ids, positions, positions, paths)
    scale = from_bf16(weights["model.norm.weight"]) / np.sqrt((taps[1] ** 2).mean(1, keepdims=True) + config.eps)
    np.testing.assert_allclose(taps[1] * scale, short, rtol=1e-5, atol=1e-5)
    again = Tapped(Llama(config, weights, 8, 8), [1, 3], 5).forward(ids, positions, positions, paths, last=False)[1]
    assert np.array_equal(taps, again)


@pytest.mark.parametrize("taps", [[2, 2], [0], [4], [3, 1]])
def test_taps_must_ascend_inside_the_model(target, taps):
    with pytest.raises(ValueError, match="must ascend"):
        Tapped(Llama(read_config(target), read_weights(target), 8, 8), taps, 5)


def test_a_row_is_the_same_whatever_is_written_beside_it(target):
    jobs = random_jobs(9, 1, 0.0) + [replace(job, key=job.key + 9) for job in random_jobs(9, 2)]
    together = {job.key: row for job, row in writer_of(target, headers=[[5, 6]]).write(iter(jobs))}
    assert sorted(together) == list(range(18))
    for job in jobs:
        ((_, alone),) = writer_of(target, lanes=1, rows=2).write(iter([job]))
        row = together[job.key]
        assert row.tokens.tolist() == alone.tokens.tolist() and row.prompt == len(job.ids)
        assert np.array_equal(row.hidden, alone.hidden) and np.array_equal(row.taps, alone.taps)


def test_greedy_rows_agree_with_transformers_and_end_at_the_stop_token(target):
    from transformers import LlamaForCausalLM

    reference = LlamaForCausalLM.from_pretrained(target, dtype=torch.float32).eval()
    free = {job.key: row for job, row in writer_of(target, stop=-1).write(iter(random_jobs(5, 4, 0.0)))}
    for row in free.values():
        tokens = torch.from_numpy(row.tokens).long()
        with torch.no_grad():
            out = reference.model(tokens[None], output_hidden_states=True)
            best = reference.lm_head(out.last_hidden_state[0, row.prompt - 1 : -1]).argmax(-1)
        assert np.allclose(out.last_hidden_state[0, :-1], row.hidden[:-1], atol=2e-2)
        assert np.allclose(out.hidden_states[TRUNK][0, :-1], row.taps[0, :-1], atol=2e-2, rtol=2e-3)
        assert best.tolist() == row.tokens[row.prompt :].tolist()
        assert len(row.tokens) - row.prompt == LIMITS.answer
    stop = int(free[0].tokens[-4])
    for job, row in writer_of(target, stop=stop).write(iter(random_jobs(5, 4, 0.0))):
        assert row.tokens.tolist() == free[job.key].tokens.tolist()[: len(row.tokens)]
        assert stop not in row.tokens[row.prompt : -1]
        assert row.tokens[-1] == stop or len(row.tokens) == len(free[job.key].tokens)


def test_turns_are_written_then_answered_or_dropped(target):
    jobs = [Job(n, [5, 6], 0.0, 3, turn=True) for n in range(60)]
    limits = replace(LIMITS, turn=20, prompt=30, turn_temperature=9.0)
    judged = []

    def even(turn):
        judged.append(list(turn))
        return len(turn) % 2 == 0

    kept = 0
    for _, row in writer_of(target, [[5, 6]], stop=2, limits=limits, keep_turn=even).write(iter(jobs)):
        if row is not None:
            kept += 1
            turn = row.tokens[2 : row.prompt - 3].tolist()
            assert row.tokens[row.prompt - 3 : row.prompt].tolist() == [2, 7, 8]
            assert turn in judged and len(turn) % 2 == 0
    assert 0 < kept < 60


def test_a_writer_refuses_what_does_not_fit(target):
    with pytest.raises(ValueError, match="1 to 24 fit"):
        list(writer_of(target).write(iter([Job(0, [5] * 25)])))
    model = Llama(read_config(target), read_weights(target), 10, 36)
    with pytest.raises(ValueError, match="need 36 cache slots"):
        Writer(Tapped(model, [1], 4), Head(model, model.embedding), 2, [7], [], LIMITS, lanes=1)


def test_shards_gather_rows_in_the_order_of_their_keys():
    jobs = [Job(n, [1]) for n in range(7)]
    order = [3, 0, 4, 1, 6, 2, 5]
    found = list(shards(((jobs[n], None if n == 1 else n) for n in order), {5}, 3, 7))
    assert found == [(2, [6]), (0, [0, 2]), (1, [3, 4, 5])]


# --- shortlist and training


def test_shortlist_takes_the_most_frequent_and_sorts_them():
    counts = torch.tensor([0, 5, 1, 9, 5, 0, 7])
    assert build_shortlist(counts, 3).tolist() == [1, 3, 6]
    assert build_shortlist(counts, 3, always=[0]).tolist() == [0, 3, 6]
    assert build_shortlist(counts, 3).dtype == torch.int32
    with pytest.raises(ValueError, match="vocabulary"):
        build_shortlist(counts, 8)


def test_rows_hold_shards_apart_and_mark_answers(target, tmp_path):
    rows, held = rows_of(target, tmp_path), Rows([tmp_path], TRUNK, 2, held=True)
    assert rows.refresh() == held.refresh() == 6, "a shard is read once"
    assert rows.answer_tokens() == sum(len(r.tokens) - r.prompt for r in rows.rows)
    batch = next(rows.epoch(random.Random(0), 10_000))
    assert len(batch.trunk) == 6
    for row in rows.rows:
        n = len(row.tokens) - 1
        (b,) = (i for i in range(6) if torch.equal(batch.trunk[i, :n], row.trunk[:-1].float()))
        assert batch.answer[b].nonzero()[:, 0].tolist() == list(range(row.prompt - 1, n))
        assert batch.text[b].nonzero()[:, 0].tolist() == list(range(2, n))
        assert torch.equal(batch.hidden[b, :n], row.hidden[:-1].float())


def test_shards_without_the_trunks_tap_are_named(target, tmp_path):
    shards_of(target, tmp_path)
    with pytest.raises(ValueError, match=r"shard-00001\.safetensors has no tap3"):
        Rows([tmp_path], 3, 2).refresh()


def test_training_lowers_the_loss_and_the_average_follows(target, tmp_path):
    torch.manual_seed(0)
    student, embedding = student_of(target, layers=(0, 1))
    plan = Plan(steps=40, rate=5e-3, warm=2, round_from=0.5)
    trainer = Trainer(student, embedding[:48], plan)
    batch = next(rows_of(target, tmp_path).epoch(random.Random(1), 400))
    before = {n: t.clone() for n, t in student.own_state().items()}
    parts = [trainer.train_step(batch, n / 40) for n in range(40)]
    assert parts[-1]["soft"] < 0.8 * parts[0]["soft"]
    assert parts[-1]["match"] < parts[0]["match"]
    for n, t in student.own_state().items():
        assert not torch.equal(before[n], t), n
        assert not torch.equal(trainer.average[n], t), n
    name = f"model.layers.{TRUNK}.mlp.up_proj.weight"
    assert torch.equal(averaged(trainer).own_state()[name], rounded(trainer.average[name]))


def test_rounding_is_what_the_engine_computes_with():
    weight = torch.randn(64, 96, generator=torch.Generator().manual_seed(1)).bfloat16()
    weight[3, :32] = 0.25  # a group without a spread
    served = rounded(weight.float())
    assert torch.equal(rounded(served), served) or (rounded(served) - served).abs().max() < 2e-2
    assert torch.equal(served[3, :32], torch.full((32,), 0.25))
    groups = served.unflatten(1, (-1, 32))
    assert max(len(g.unique()) for g in groups.flatten(0, 1)) <= 16
    step = (weight.float().unflatten(1, (-1, 32)).amax(2) - weight.float().unflatten(1, (-1, 32)).amin(2)) / 15
    assert ((served - weight.float()).abs().unflatten(1, (-1, 32)).amax(2) <= 0.6 * step + 1e-2).all()
    assert torch.equal(rounded(weight.float()[:, :40]), weight.float()[:, :40])


def test_served_weights_give_the_exact_ones_back(target):
    student, _ = student_of(target)
    before = [p.data.clone() for p in student.matrices()]
    with served_weights(student):
        assert all(torch.equal(p.data, rounded(b)) for p, b in zip(student.matrices(), before))
        assert not torch.equal(student.matrices()[0].data, before[0])
    assert all(torch.equal(p.data, b) for p, b in zip(student.matrices(), before))


def test_rate_warms_up_then_falls():
    plan = Plan(rate=1.0, warm=10)
    assert rate_at(plan, 0, 0.0) == pytest.approx(0.1)
    assert rate_at(plan, 50, 0.5) == pytest.approx(0.51)
    assert rate_at(plan, 50, 2.0) == pytest.approx(0.02)


# --- measuring


def test_walk_counts_rounds():
    agree = [True, True, True, False, True, True, False, True]
    sure = [True] * 8
    # From 1: drafts 2 and 3 right, 4th wrong -> 2 of 4; the target adds index 3. From 4: 2 of 4; from 7: 1 of 1.
    assert walk(agree, sure, 4) == (9, 5, 3)
    assert walk(agree, [False] * 8, 4) == (0, 0, 7)
    assert walk([True], sure, 4) == (0, 0, 0)


def test_measure_counts_ranks_and_rounds(target, tmp_path):
    row = rows_of(target, tmp_path).rows[0]
    answer = row.tokens[row.prompt :].numpy()
    best = np.stack([answer, answer + 1, answer + 2], 1)
    best[0] = best[0][[1, 0, 2]]
    result = measure([row], [Guess(best, np.full(len(answer), 0.4))])
    assert result["tokens"] == len(answer)
    assert result["top1"] == pytest.approx(1 - 1 / len(answer), abs=1e-4) and result["top2"] == 1
    assert result["w4@0.0"]["acceptance"] == 1.0 and result["w8@0.5"]["drafted"] == 0


class Successor:
    """A drafter that expects every token to be followed by the next higher id, over even ids or over all."""

    def __init__(self, ids):
        self.ids, self.seen, self.released = ids, [], []

    def expand(self, requests):
        self.seen += requests
        return [[self.guess([*r.prefix, *r.tokens][len(r.prefix) - 1 + n]) for n in r.nodes] for r in requests]

    def guess(self, token):
        known = np.arange(VOCAB) if self.ids is None else self.ids
        return Candidates(self.ids, -np.abs(known - (token + 1.25)).astype(np.float32))

    def release(self, key):
        self.released.append(key)


@pytest.mark.parametrize("ids", [None, np.arange(0, VOCAB, 2, dtype=np.int32)])
def test_served_guesses_ask_for_every_token_of_an_answer(ids):
    row = TrainingRow(torch.tensor([9, 3, 4, 5, 6, 9]), torch.zeros(6, 1), torch.zeros(6, 1), 2)
    draft = Successor(ids)
    (guess,) = served_guesses(draft, [row])
    (request,) = draft.seen
    assert (request.prefix, request.tokens) == ([9, 3], [4, 5, 6])
    assert request.nodes == [0, 1, 2, 3] and request.parents == [0, 1, 2]
    expected = (
        [[4, 5, 3], [5, 6, 4], [6, 7, 5], [7, 8, 6]] if ids is None else [[4, 6, 2], [6, 4, 8], [6, 8, 4], [8, 6, 10]]
    )
    assert guess.best.tolist() == expected
    assert ((guess.confidence > 0) & (guess.confidence < 1)).all()
    assert draft.released == ["text"]
    top1 = 0.75 if ids is None else 0.5
    assert measure([row], [guess])["top1"] == top1


def test_milliseconds_drafts_a_chain_of_its_own_choices():
    draft = Successor(None)
    assert milliseconds(draft, [3, 4], 5) > 0
    assert [r.tokens for r in draft.seen][-1] == [5, 6, 7, 8, 9]
    assert all(r.nodes == [len(r.tokens)] for r in draft.seen) and draft.released == ["timing"]


def test_a_draft_of_all_the_targets_layers_is_always_right(target, tmp_path):
    student, embedding = student_of(target)
    ids = torch.arange(VOCAB)
    rows_of(target, tmp_path)
    limits = replace(LIMITS, answer=10)
    greedy = [row for _, row in writer_of(target, limits=limits, stop=-1).write(iter(random_jobs(4, 8, 0.0)))]
    save_shard(tmp_path / "shard-00020.safetensors", greedy, [TRUNK])
    held = Rows([tmp_path], TRUNK, 2, held=True)
    held.refresh()
    rows = held.rows[-4:]
    result = measure(rows, student_guesses(student.eval(), embedding, ids, rows))
    assert result["top1"] == result["w8@0.0"]["acceptance"] == 1.0
    assert result["tokens"] == 40


# --- the file format


def saved(target, directory):
    student, embedding = student_of(target)
    short = torch.arange(0, VOCAB, 2)
    save_draft(directory, student.config, TRUNK, student.own_state(), short, "T", "00" * 32)
    return student, embedding, short


def test_a_draft_survives_saving_and_loading(target, tmp_path):
    student, _, short = saved(target, tmp_path)
    config, state, shortlist = load_draft(tmp_path)
    shared = shared_names(config, TRUNK)
    assert config["dsdp_draft"] == {
        "format": 1, "target": "T", "target_sha256": "00" * 32, "shared": shared, "shortlist": VOCAB // 2,
    }  # fmt: skip
    assert shared[0] == EMBEDDING and len(shared) == 1 + 9 * TRUNK and trunk_of(config) == TRUNK
    assert config["tie_word_embeddings"] is True and config["num_hidden_layers"] == TRUNK + 2
    assert shortlist.tolist() == short.tolist()
    other = Student(config, TRUNK)
    other.load_own({n: t.float() for n, t in state.items()})
    for n, t in student.own_state().items():
        assert torch.equal(t.bfloat16().float(), other.own_state()[n])


def files_of(target, directory):
    return ModelFiles("draft", "d", directory), ModelFiles("llama", "t", target)


def test_a_draft_with_all_the_targets_layers_is_the_target(target, tmp_path):
    from transformers import LlamaForCausalLM

    saved(target, tmp_path)
    model = draft_as_transformers(*files_of(target, tmp_path), torch.float32)
    ids = torch.tensor([[4, 5, 6, 7]])
    with torch.no_grad():
        assert torch.equal(model(ids).logits, LlamaForCausalLM.from_pretrained(target, dtype=torch.float32)(ids).logits)


@pytest.mark.parametrize("fault", ["missing", "surplus", "shape", "order", "format"])
def test_a_damaged_draft_is_refused(target, tmp_path, fault):
    saved(target, tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    if fault == "missing":
        del tensors["model.norm.weight"]
    elif fault == "surplus":
        tensors["lm_head.weight"] = torch.zeros(2)
    elif fault == "shape":
        tensors["model.norm.weight"] = torch.zeros(3)
    elif fault == "order":
        tensors[SHORTLIST] = tensors[SHORTLIST].flip(0).contiguous()
    else:
        config = json.loads((tmp_path / "config.json").read_text())
        config["dsdp_draft"]["format"] = 9
        (tmp_path / "config.json").write_text(json.dumps(config))
    save_file(tensors, file)
    with pytest.raises(DraftFileError):
        load_draft(tmp_path)


def test_the_shipped_draft_matches_its_config():
    directory = draft_dir()
    file = directory / "model.safetensors"
    assert file.stat().st_size <= 20_000_000
    config = json.loads((directory / "config.json").read_text())
    with file.open("rb") as f:
        header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
    header.pop("__metadata__", None)
    assert {n: tuple(t["shape"]) for n, t in header.items()} == expected_shapes(config)
    assert {t["dtype"] for n, t in header.items() if n != SHORTLIST} == {"BF16"}
    _, _, shortlist = load_draft(directory)
    assert len(shortlist) == config["dsdp_draft"]["shortlist"]
    assert (directory / "README.md").is_file()


def test_an_unknown_model_name_lists_what_there_is():
    with pytest.raises(FileNotFoundError, match="smollm2-135m-draft"):
        draft_dir("no-such-draft")
