"""The chat format of SmolLM2-Instruct (ChatML), and the system prompts that training text is made under."""

from __future__ import annotations

DEFAULT_SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
STOP = "<|im_end|>"
ANSWER = "\n<|im_start|>assistant\n"

# The default is what the chat template adds on its own, so most prompts carry it.
SYSTEMS = {
    "default": DEFAULT_SYSTEM,
    "maths": "You are a patient maths tutor. Work through each problem step by step.",
    "python": "You are an expert Python programmer. Answer with code and a short explanation.",
    "plain": "You are a helpful assistant.",
    "writer": "You are a writing assistant. Be concise and clear.",
}


def user_header(system: str) -> str:
    """Everything up to the user's first word."""
    return f"<|im_start|>system\n{system}{STOP}\n<|im_start|>user\n"


def chat(system: str, user: str) -> str:
    """A whole prompt, up to the assistant's first word; equal to the model's own chat template."""
    return f"{user_header(system)}{user}{STOP}{ANSWER}"
