"""Prompts to ids and committed ids to text, for any model, TM-1 included. Reads tokenizer files, never weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from dsdproto.testmodel import EOS, TestModel
from reference_nodes.backends.tokens import Text, vocabulary_of
from reference_nodes.cli.options import Prompt, UsageError
from reference_nodes.models_store import ModelFiles, locate


class Stream(Protocol):
    """Ids in, text out as soon as it is certain."""

    def push(self, ids: Sequence[int]) -> str: ...

    def finish(self) -> str: ...


class Vocabulary:
    """What a client must know of the target: its name, its vocabulary, and how text becomes ids."""

    def __init__(self, name: str) -> None:
        """``name`` as :func:`reference_nodes.models_store.locate` takes it.

        Raises ModelError, BackendError, UsageError.
        """
        self.files: ModelFiles = locate(name)
        if self.files.kind in ("ngram", "draft"):
            raise UsageError(f"{name} only drafts; name the target model, for example smollm2")
        self.size, self.digest = vocabulary_of(self.files)
        self.name = self.files.name
        self._text: Text | None = None
        if self.files.kind == "tm-1":
            self.name = TestModel.parse(f"tm-1:{self.files.options}".rstrip(":")).target.name
        else:
            assert self.files.path is not None
            self._text = Text(self.files.path)

    def encode(self, prompt: Prompt) -> list[int]:
        """Ids of a prompt, chat template included unless it is raw. Raises :class:`UsageError` for an empty one."""
        if self._text is None:
            ids = [4 + byte % (self.size - 4) for byte in prompt.text.encode()]
        elif prompt.raw:
            ids = self._text.encode(prompt.text)
        else:
            ids = self._text.encode_chat([{"role": "user", "content": prompt.text}])
        if not ids:
            raise UsageError("the prompt is empty")
        return ids

    @property
    def stop_tokens(self) -> tuple[int, ...]:
        """Ids that end an answer."""
        return (EOS,) if self._text is None else self._text.eos_ids

    def decode(self, ids: Sequence[int]) -> str:
        return " ".join(map(str, ids)) if self._text is None else self._text.decode(ids)

    def stream(self) -> Stream:
        return Numbers() if self._text is None else self._text.stream()


class Numbers:
    """TM-1 has no text: its tokens are shown as their ids."""

    def __init__(self) -> None:
        self._first = True

    def push(self, ids: Sequence[int]) -> str:
        text = " ".join(map(str, ids))
        if not text:
            return ""
        lead, self._first = "" if self._first else " ", False
        return lead + text

    def finish(self) -> str:
        return ""
