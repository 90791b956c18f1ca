"""Text to ids and back, and the name of a vocabulary. Needs the tokenizer's files only, no model."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from reference_nodes.models_store import ModelError, ModelFiles

from .base import UnsupportedModel
from .hf_files import read_json


def _entries(directory: Path) -> list[str]:
    """The raw vocabulary by id, added tokens included; an id that nothing uses has an empty entry."""
    path = directory / "tokenizer.json"
    if not path.is_file():
        raise UnsupportedModel(f"{directory}: no tokenizer.json; save the tokenizer in the fast format")
    raw = read_json(path)
    try:
        known = raw["model"]["vocab"]
        pairs = known.items() if isinstance(known, Mapping) else ((e[0], i) for i, e in enumerate(known))
        by_id = {int(i): str(token) for token, i in pairs}
        by_id.update({int(entry["id"]): str(entry["content"]) for entry in raw.get("added_tokens", ())})
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise UnsupportedModel(f"{path}: unknown tokenizer layout ({type(error).__name__}: {error})") from error
    if not by_id:
        raise UnsupportedModel(f"{path}: the vocabulary is empty")
    return [by_id.get(i, "") for i in range(max(by_id) + 1)]


def vocabulary(directory: Path) -> tuple[int, bytes]:
    """(entries n, SHA-256 over, for each id 0..n-1, u32be(byte length) and the UTF-8 bytes of its raw
    entry).
    """
    return _named(_entries(directory))


def vocabulary_of(files: ModelFiles, target: ModelFiles | None = None) -> tuple[int, bytes]:
    """`vocabulary` for any model. TM-1's entry for an id is its decimal; a drafter without a vocabulary
    of its own (ngram, the shipped draft) has the vocabulary of its `target`.

    Raises ModelError where such a drafter has no target; UnsupportedModel; TM-1's name errors.
    """
    if files.kind == "tm-1":
        from dsdproto.testmodel import TestModel

        return _named([str(i) for i in range(TestModel.parse(f"tm-1:{files.options}".rstrip(":")).vocabulary)])
    if files.kind in ("ngram", "draft"):
        if target is None:
            raise ModelError(f"{files.name} has no vocabulary of its own: name the target that it drafts for")
        return vocabulary_of(target)
    assert files.path is not None
    return vocabulary(files.path)


def _named(entries: Sequence[str]) -> tuple[int, bytes]:
    digest = hashlib.sha256()
    for entry in entries:
        data = entry.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(4, "big") + data)
    return len(entries), digest.digest()


class Text:
    """The tokenizer of a model directory."""

    def __init__(self, directory: Path) -> None:
        """Raises UnsupportedModel where tokenizer.json is missing or broken."""
        from tokenizers import Tokenizer

        self._directory = directory
        path = directory / "tokenizer.json"
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception
            raise UnsupportedModel(f"{path}: not a readable tokenizer: {error}") from error
        config = directory / "tokenizer_config.json"
        self._config: Mapping[str, Any] = read_json(config) if config.is_file() else {}

    def encode(self, text: str) -> list[int]:
        """Plain text to ids, special tokens in the text recognised, none added."""
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def encode_chat(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """A conversation ([{"role": ..., "content": ...}, ...]) to the ids that the model answers to.

        A model without a chat template gets the messages' contents as plain text.
        """
        template = self._chat_template
        if template is None:
            return self.encode("\n".join(message["content"] for message in messages))
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        def refuse(message: str) -> None:
            raise UnsupportedModel(f"the chat template refuses this conversation: {message}")

        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        environment.globals["raise_exception"] = refuse
        names = {key: self._special(key) for key in ("bos_token", "eos_token", "unk_token", "pad_token")}
        text = environment.from_string(template).render(messages=messages, add_generation_prompt=True, **names)
        return self.encode(text)

    @cached_property
    def eos_ids(self) -> tuple[int, ...]:
        """Ids that end an answer, ascending: from generation_config.json, config.json and the tokenizer."""
        found: set[int] = set()
        for name in ("generation_config.json", "config.json"):
            path = self._directory / name
            value = read_json(path).get("eos_token_id") if path.is_file() else None
            found.update(value if isinstance(value, list) else [value] if isinstance(value, int) else [])
        token = self._special("eos_token")
        if token and (known := self._tokenizer.token_to_id(token)) is not None:
            found.add(known)
        return tuple(sorted(found))

    def decode(self, ids: Sequence[int]) -> str:
        """Ids to text, special tokens left out."""
        return self._tokenizer.decode(list(ids), skip_special_tokens=True)

    def stream(self) -> Detokenizer:
        """A detokenizer for one stream."""
        return Detokenizer(self)

    @property
    def _chat_template(self) -> str | None:
        template = self._config.get("chat_template")
        if isinstance(template, list):
            template = next((entry["template"] for entry in template if entry.get("name") == "default"), None)
        separate = self._directory / "chat_template.jinja"
        return separate.read_text("utf-8") if separate.is_file() else template

    def _special(self, key: str) -> str:
        value = self._config.get(key) or ""
        return str(value.get("content", "")) if isinstance(value, Mapping) else str(value)


class Detokenizer:
    """Ids in, text out, as early as the text is certain: a character split over tokens waits for its
    end.
    """

    def __init__(self, text: Text) -> None:
        self._text = text
        self._ids: list[int] = []
        self._start, self._shown = 0, 0  # decode from _start; ids before _shown are out already

    def push(self, ids: Sequence[int]) -> str:
        """The text that became certain; may be empty."""
        self._ids.extend(ids)
        before = self._text.decode(self._ids[self._start : self._shown])
        now = self._text.decode(self._ids[self._start :])
        if len(now) <= len(before) or now.endswith("\ufffd"):
            return ""
        self._start, self._shown = self._shown, len(self._ids)
        return now[len(before) :]

    def finish(self) -> str:
        """What is left at the end of the stream, incomplete characters as U+FFFD."""
        before = self._text.decode(self._ids[self._start : self._shown])
        now = self._text.decode(self._ids[self._start :])
        self._start = self._shown = len(self._ids)
        return now[len(before) :]
