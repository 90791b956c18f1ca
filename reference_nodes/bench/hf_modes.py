"""transformers on the same prompts, its usual ways: plain, prompt lookup, and assisted by our draft model."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reference_nodes.models_store import ModelError, ModelFiles, locate

LOOKUP_TOKENS = 10
"""prompt_lookup_num_tokens, as in transformers' own documentation"""
PLAIN, LOOKUP, ASSISTED = "transformers", "transformers prompt lookup", "transformers assisted"


@dataclass(frozen=True, slots=True)
class Answer:
    tokens: tuple[int, ...]
    seconds: float


class HfModel:
    """The target in bfloat16 under transformers, greedy."""

    def __init__(self, files: ModelFiles, draft: str | None, threads: int = 1) -> None:
        """``draft``: name of the draft model for assisted generation. Raises ModelError, UnsupportedModel, OSError."""
        import torch
        from transformers import AutoModelForCausalLM
        from transformers.utils import logging

        # Its bars and advice would drown ours.
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        torch.set_num_threads(threads)
        self._torch = torch
        self.missing = ""
        """why there is no assisted generation"""
        self._model = AutoModelForCausalLM.from_pretrained(files.path, dtype=torch.bfloat16).eval()
        self._draft: Any = None
        try:
            self._draft = None if draft is None else self._load_draft(files, locate(draft))
        except ModelError as error:
            self.missing = str(error)

    def _load_draft(self, files: ModelFiles, draft: ModelFiles) -> Any:
        from transformers import AutoModelForCausalLM

        from reference_nodes.backends.loading import draft_as_transformers

        if draft.kind == "draft":
            return draft_as_transformers(draft, files, self._torch.bfloat16)
        if draft.kind == "llama":
            return AutoModelForCausalLM.from_pretrained(draft.path, dtype=self._torch.bfloat16).eval()
        self.missing = f"transformers cannot load {draft.name}"
        return None

    @property
    def modes(self) -> list[str]:
        return [PLAIN, LOOKUP, *([ASSISTED] if self._draft is not None else [])]

    def generate(self, mode: str, prompt: Sequence[int], max_tokens: int, stop: Sequence[int]) -> Answer:
        """Greedy; the prompt is left out of the answer."""
        more: dict[str, Any] = {}
        if mode == LOOKUP:
            more["prompt_lookup_num_tokens"] = LOOKUP_TOKENS
        if mode == ASSISTED:
            more["assistant_model"] = self._draft
        ids = self._torch.tensor([list(prompt)])
        begin = time.perf_counter()
        with self._torch.inference_mode():
            out = self._model.generate(
                ids,
                attention_mask=self._torch.ones_like(ids),
                max_new_tokens=max_tokens,
                do_sample=False,
                eos_token_id=list(stop) or None,
                pad_token_id=stop[0] if stop else 0,
                **more,
            )
        return Answer(tuple(out[0, len(prompt) :].tolist()), time.perf_counter() - begin)
