"""From the name of a model to something whose steps can be timed."""

from __future__ import annotations

from reference_nodes.cli.options import Prompt
from reference_nodes.cli.texts import Vocabulary
from reference_nodes.offers import load_drafter, load_verifier
from reference_nodes.profile.steps import DraftStepper, Stepper, VerifyStepper, sampling_of

TEXT = (
    "A train leaves the station at 3 pm and travels at 60 km/h. Another one leaves two hours later from the same "
    "station and follows it at 90 km/h. Explain step by step when and where the second train catches up with the "
    "first, and write a short Python function that computes the time for any two speeds and any delay."
)


def ids_of(target: str) -> list[int]:
    """:data:`TEXT` in a model's vocabulary: what prefixes are made of. Raises ModelError, BackendError, UsageError."""
    return Vocabulary(target).encode(Prompt(TEXT))


def load_stepper(role: str, model: str, target: str, temperature: float = 0.0) -> Stepper:
    """``role``: "verifier" or "drafter"; ``target``: the model whose vocabulary it is, ``model`` itself for a verifier.

    Raises ModelError, BackendError, UsageError, LocalError.
    """
    text = ids_of(target)
    sampling = sampling_of(temperature)
    if role == "verifier":
        verifier = load_verifier(model)
        return VerifyStepper(verifier.executor, model, text, sampling)
    drafter = load_drafter(model, target)
    return DraftStepper(drafter.executor, model, text, sampling)
