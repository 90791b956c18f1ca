"""The distillation tools: prompts, shortlist, engine, training, file format, and the shipped draft."""

from __future__ import annotations

import json
import random
import struct

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from safetensors.torch import load_file, save_file  # noqa: E402

from reference_nodes.distill import prompts  # noqa: E402
from reference_nodes.distill.chat import SYSTEMS, chat, user_header  # noqa: E402
from reference_nodes.distill.checkpoint import (  # noqa: E402
    SHARED,
    SHORTLIST,
    DraftFileError,
    build_shortlist,
    expected_shapes,
    load_draft,
    save_draft,
)
from reference_nodes.distill.data import Rows  # noqa: E402
from reference_nodes.distill.engine import BulkLlama, Cache, generate  # noqa: E402
from reference_nodes.distill.evaluate import measure, walk  # noqa: E402
from reference_nodes.distill.generate import batches, save_shard  # noqa: E402
from reference_nodes.distill.stubs import spec_stub  # noqa: E402
from reference_nodes.distill.student import Student, draft_config, initial_state  # noqa: E402
from reference_nodes.distill.train import Plan, Trainer, averaged, rate_at  # noqa: E402
from reference_nodes.models import draft_dir  # noqa: E402

VOCAB = 96


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    """A Llama model of random weights, saved as a target is."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(7)
    config = LlamaConfig(
        vocab_size=VOCAB, hidden_size=24, intermediate_size=40, num_hidden_layers=3, num_attention_heads=6,
        num_key_value_heads=2, head_dim=4, tie_word_embeddings=True, rms_norm_eps=1e-5, initializer_range=0.4,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("target")
    LlamaForCausalLM(config).save_pretrained(path)
    return path


def student_of(target, layers=(0, 2), ffn=40, shortlist=48):
    embedding, state = initial_state(target, list(layers), ffn)
    student = Student(draft_config(target, len(layers), ffn), embedding, torch.arange(shortlist))
    student.load_own(state)
    return student, embedding


def shards_of(target, folder, seed=3):
    """Two shards of the target's own text: one to train on, one held out."""
    model = BulkLlama(target)
    g = torch.Generator().manual_seed(seed)
    for n in (0, 1):
        ids = torch.randint(3, VOCAB, (6, 5), generator=g)
        rows = generate(model, ids, 12, stop=2, temperature=1.0, generator=g, min_rows=1)
        save_shard(folder / f"shard-{n:05d}.safetensors", rows, 5)


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


def test_extra_prompts_are_checked_too():
    record = {"prompt": "one two three four five six seven eight nine", "kind": "magpie-default", "system": "s"}
    assert record in prompts.pool(10, 1, [], [record])
    assert record not in prompts.pool(10, 1, [record["prompt"]], [record])


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


def test_batches_hold_prompts_of_one_length():
    class Letters:
        def __call__(self, texts):
            self.input_ids = [[ord(c) for c in t] for t in texts]
            return self

    records = [{"system": "s", "prompt": "x" * (1 + n % 3)} for n in range(30)]
    found = batches(records, Letters(), rows=4, seed=1)
    assert found == batches(records, Letters(), rows=4, seed=1)
    assert len(found) == 6
    assert all(len(b) == 4 and len({len(row) for row in b}) == 1 for b in found)


# --- engine


def test_engine_agrees_with_transformers(target):
    from transformers import LlamaForCausalLM

    reference = LlamaForCausalLM.from_pretrained(target).eval()
    model = BulkLlama(target)
    ids = torch.randint(3, VOCAB, (3, 9), generator=torch.Generator().manual_seed(1))
    ids[:, :2] = ids[0, :2]
    rows = generate(model, ids, 10, stop=-1, temperature=0.0, generator=torch.Generator(), min_rows=1)
    for row in rows:
        with torch.no_grad():
            out = reference.model(row.tokens[None]).last_hidden_state[0]
        assert torch.allclose(out, row.hidden.float(), atol=2e-2)
        assert reference.lm_head(out[8:-1]).argmax(-1).tolist() == row.tokens[9:].tolist()


def test_finished_rows_end_at_the_stop_token(target):
    model = BulkLlama(target)
    ids = torch.randint(3, VOCAB, (8, 4), generator=torch.Generator().manual_seed(2))
    free = generate(model, ids, 12, stop=-1, temperature=0.0, generator=torch.Generator(), min_rows=1)
    stop = int(free[0].tokens[9])
    rows = generate(model, ids, 12, stop=stop, temperature=0.0, generator=torch.Generator(), min_rows=1)
    assert rows[0].finished
    for one, other in zip(rows, free):
        assert one.tokens.tolist() == other.tokens.tolist()[: len(one.tokens)]
        assert stop not in one.tokens[4:-1]
        assert one.finished == (int(one.tokens[-1]) == stop)


def test_cache_keeps_the_named_rows(target):
    cache = Cache(BulkLlama(target).shape, 3, 2)
    for t in (*cache.keys, *cache.values):
        t.copy_(torch.arange(3.0)[:, None, None, None].expand_as(t))
    cache.keep(torch.tensor([0, 2]))
    assert cache.keys[1][:, 0, 0, 0].tolist() == cache.values[2][:, 0, 0, 0].tolist() == [0.0, 2.0]


# --- shortlist and training


def test_shortlist_takes_the_most_frequent_and_sorts_them():
    counts = torch.tensor([0, 5, 1, 9, 5, 0, 7])
    assert build_shortlist(counts, 3).tolist() == [1, 3, 6]
    assert build_shortlist(counts, 3, always=[0]).tolist() == [0, 3, 6]
    assert build_shortlist(counts, 3).dtype == torch.int32
    with pytest.raises(ValueError, match="vocabulary"):
        build_shortlist(counts, 8)


def test_rows_hold_shards_apart_and_mark_answers(target, tmp_path):
    shards_of(target, tmp_path)
    rows, held = Rows([tmp_path], header=2), Rows([tmp_path], header=2, held=True)
    assert rows.refresh() == held.refresh() == 6
    assert rows.refresh() == 6, "a shard is read once"
    batch = next(rows.epoch(random.Random(0), 10_000))
    for b, (tokens, states, prompt) in enumerate(sorted(rows.rows, key=lambda r: 0)):
        assert prompt == 5
        match = [i for i in range(len(batch.ids)) if batch.ids[i, : len(tokens) - 1].tolist() == tokens[:-1].tolist()]
        assert match, b
        assert int(batch.answer[match[0]].sum()) == len(tokens) - 5
        assert batch.answer[match[0]].nonzero()[0].item() == 4
        assert batch.text[match[0]].nonzero()[0].item() == 2
        assert torch.equal(batch.hidden[match[0], : len(tokens) - 1], states[:-1].float())


def test_training_lowers_the_loss_and_the_average_follows(target, tmp_path):
    shards_of(target, tmp_path)
    rows = Rows([tmp_path], header=0)
    rows.refresh()
    torch.manual_seed(0)
    student, embedding = student_of(target)
    plan = Plan(steps=40, rate=5e-3, warm=2, tokens=400)
    trainer, batch = Trainer(student, plan), next(rows.epoch(random.Random(1), 400))
    before = student.own_state()["model.norm.weight"].clone()
    parts = [trainer.train_step(batch, n / 40) for n in range(40)]
    assert parts[-1]["soft"] < 0.8 * parts[0]["soft"]
    assert parts[-1]["match"] < parts[0]["match"]
    assert not torch.equal(before, student.own_state()["model.norm.weight"])
    assert torch.equal(student.model.embed_tokens.weight, embedding), "the shared embedding must stay"
    model = averaged(trainer, embedding)
    assert not torch.equal(model.own_state()["model.norm.weight"], before)


def test_rate_warms_up_then_falls():
    plan = Plan(rate=1.0, warm=10)
    assert rate_at(plan, 0, 0.0) == pytest.approx(0.1)
    assert rate_at(plan, 50, 0.5) == pytest.approx(0.51)
    assert rate_at(plan, 50, 2.0) == pytest.approx(0.02)


def test_fewer_feed_forward_units_keep_the_largest(target):
    _, full = initial_state(target, [1], 40)
    _, some = initial_state(target, [1], 10)
    name = "model.layers.0.mlp.up_proj.weight"
    size = full[name].norm(dim=1) * full[name.replace("up", "gate")].norm(dim=1)
    size *= full[name.replace("up", "down")].norm(dim=0)
    assert torch.equal(some[name], full[name][size.topk(10).indices.sort().values])


# --- measuring


def test_walk_counts_rounds():
    agree = [True, True, True, False, True, True, False, True]
    sure = [True] * 8
    # From 1: drafts 2 and 3 right, 4th wrong -> 2 of 4; the target adds index 3. From 4: 2 of 4; from 7: 1 of 1.
    assert walk(agree, sure, 4) == (9, 5, 3)
    assert walk(agree, [False] * 8, 4) == (0, 0, 7)
    assert walk([True], sure, 4) == (0, 0, 0)


def test_a_draft_equal_to_its_target_is_always_right(target):
    student, _ = student_of(target, layers=(0, 1, 2), shortlist=VOCAB)
    rows = generate(BulkLlama(target), torch.tensor([[5, 6, 7], [9, 8, 7]]), 12, -1, 0.0, torch.Generator(), min_rows=1)
    pairs = [(r.tokens[:3].tolist(), r.tokens[3:].tolist()) for r in rows]
    for full in (False, True):
        result = measure(student.eval(), pairs, full)
        assert result["top1"] == result["covered"] == result["w8@0.0"]["acceptance"] == 1.0
    assert result["tokens"] == 24


# --- the file format


def test_a_draft_survives_saving_and_loading(target, tmp_path):
    student, embedding = student_of(target, ffn=16)
    save_draft(tmp_path, student.config, student.own_state(), student.shortlist, "T", "00" * 32)
    config, state, shortlist = load_draft(tmp_path)
    assert config["dsdp_draft"] == {
        "format": 1, "target": "T", "target_sha256": "00" * 32, "shared": list(SHARED), "shortlist": 48,
    }  # fmt: skip
    assert config["tie_word_embeddings"] is True
    assert shortlist.tolist() == list(range(48))
    other = Student(config, embedding, shortlist)
    other.load_own({n: t.float() for n, t in state.items()})
    for n, t in student.own_state().items():
        assert torch.equal(t.bfloat16().float(), other.own_state()[n])


def test_transformers_loads_a_draft_once_the_embedding_is_put_in(target, tmp_path):
    from transformers import LlamaForCausalLM

    student, embedding = student_of(target)
    save_draft(tmp_path, student.config, student.own_state(), student.shortlist, "T", "00" * 32)
    file = tmp_path / "model.safetensors"
    save_file({**load_file(file), SHARED[0]: embedding.bfloat16()}, file, metadata={"format": "pt"})
    model = LlamaForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    ids = torch.tensor([[4, 5, 6, 7]])
    rounded = Student(student.config, embedding.bfloat16().float(), student.shortlist).eval()
    rounded.load_own({n: t.bfloat16().float() for n, t in student.own_state().items()})
    with torch.no_grad():
        assert torch.allclose(model(ids).logits, rounded.logits(rounded.states(ids), full_head=True), atol=1e-4)


@pytest.mark.parametrize("fault", ["missing", "surplus", "shape", "order", "format"])
def test_a_damaged_draft_is_refused(target, tmp_path, fault):
    student, _ = student_of(target)
    save_draft(tmp_path, student.config, student.own_state(), student.shortlist, "T", "00" * 32)
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
