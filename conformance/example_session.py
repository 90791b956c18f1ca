"""A whole tiny session, frame by frame: appendix A of SPEC.md. ``python -m conformance.example_session`` prints it.

A client, a leader, a drafter and a verifier on TM-1, each on a node of its own, say what SPEC.md lets them say. All
choices that a node is free to make (how much to draft, when to ask for a verification) are made here, by hand, so that
the text does not change with anybody's policy.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from hashlib import sha256
from typing import Any

from dsdproto.registry import CommitProfile, DetachReason, Feature, Finish, MessageType, Method, Role
from dsdproto.sampling import CoupledSampler, SamplingParameters, Walk, walk
from dsdproto.session import chain_of, finish_of, parents_field
from dsdproto.testmodel import TestModel, context_of
from dsdproto.trie import Waste
from dsdproto.wire import cbor
from dsdproto.wire.codec import encode_message, encode_payload, type_of
from dsdproto.wire.messages import (
    Advance,
    Assign,
    Assigned,
    Attach,
    Attached,
    Block,
    Contract,
    Detach,
    DrafterEntry,
    End,
    Hello,
    Limits,
    ModelOffer,
    Open,
    Opened,
    Propose,
    Ready,
    Release,
    Sampling,
    Stats,
    Verdict,
    Verify,
)

TARGET = TestModel.parse("tm-1:v=4096,s=7")
DRAFTER = TestModel.parse("tm-1:v=4096,s=7,a=52429,d=1")
MAX_CONTEXT = 4096
MAX_NODES = 15
SESSION = bytes(range(16))
BYTES_A_LINE = 32
EDGE = 24
"""So many bytes are shown at the start of a byte string in the reading beside a frame."""


@dataclass(frozen=True, slots=True)
class Step:
    """One frame. ``sender`` and ``receiver``: client, leader, drafter or verifier."""

    sender: str
    receiver: str
    channel: int
    message: Any

    @property
    def frame(self) -> bytes:
        return encode_message(self.channel, self.message)


def vocabulary_digest(entries: list[bytes]) -> bytes:
    """Clause S-11."""
    return sha256(b"".join(len(entry).to_bytes(4, "big") + entry for entry in entries)).digest()


def profile_text(model: TestModel) -> str:
    """Clause S-16."""
    return f"weights=none\ndtype=integers\nkernels=tm-1 {model.name}\nthreads=any\n"


VOCABULARY = vocabulary_digest([str(i).encode() for i in range(TARGET.vocabulary)])
PROFILE_TEXT = profile_text(TARGET)
PROFILE = sha256(PROFILE_TEXT.encode()).digest()

CONTRACT = Contract(
    prompt=(11, 22, 33),
    sampling=Sampling(method=int(Method.COUPLED), temperature=52429, top_k=0, top_p=65536, seed=42),
    max_tokens=8,
    stop_tokens=(0,),
    vocabulary_size=TARGET.vocabulary,
    vocabulary_digest=VOCABULARY,
    model=TARGET.name,
    commit_profile=int(CommitProfile.SOLO),
)
SAMPLER = CoupledSampler(SamplingParameters(temperature_q16=52429), 42)


def node_id(name: str) -> bytes:
    """A stand-in: a real one is the SHA-256 of a public key."""
    return sha256(f"example node: {name}".encode()).digest()


def hello(name: str, role: Role, models: tuple[ModelOffer, ...] = ()) -> Hello:
    return Hello(
        version_min=1,
        version_max=1,
        node_id=node_id(name),
        instance=node_id(name)[:8],
        roles=(int(role),),
        cluster=node_id("authority")[:16],
        features=tuple(int(feature) for feature in Feature),
        limits=Limits(max_payload=1 << 20, max_channels=1024, heartbeat_ms=1000),
        models=models,
        nonce=sha256(f"nonce of {name}".encode()).digest()[:16],
        agent="example/1",
    )


def handshake() -> list[Step]:
    """The client dials the leader, so the leader speaks first. Grease is left out here."""
    first, second = hello("leader", Role.LEADER), hello("client", Role.CLIENT)
    chosen = cbor.encode({1: 1, 2: list(first.features)})
    ready = Ready(negotiated=sha256(encode_payload(first) + encode_payload(second) + chosen).digest())
    return [
        Step("leader", "client", 0, first),
        Step("client", "leader", 0, second),
        Step("client", "leader", 0, ready),
        Step("leader", "client", 0, ready),
    ]


def judge(prefix: tuple[int, ...], tokens: tuple[int, ...], parents: tuple[int, ...]) -> Walk:
    """The verifier's walk (clause S-SAMP-12)."""
    paths: list[tuple[int, ...]] = [()]
    for token, parent in zip(tokens, parents):
        paths.append((*paths[parent], token))
    limit = min(len(CONTRACT.prompt) + CONTRACT.max_tokens, MAX_CONTEXT) - len(prefix)
    return walk(
        tokens,
        parents,
        lambda node: TARGET.candidates(context_of(prefix + paths[node])),
        SAMPLER,
        len(prefix),
        limit,
        CONTRACT.stop_tokens,
    )


def draft(prefix: tuple[int, ...], width: int = 1) -> list[tuple[int, int]]:
    """(token, score) of the drafter's best guesses after ``prefix``."""
    logits, ids = DRAFTER.candidates(context_of(prefix))
    return [(choice.token, choice.cost) for choice in SAMPLER.ranked(logits, len(prefix), width, ids)]


def session() -> list[Step]:
    """The steps after the three handshakes. The leader was dialed by all three, so it opens even channels."""
    steps = [
        Step("client", "leader", 1, Open(session=SESSION, contract=CONTRACT, max_drafters=1, origins=1)),
        Step("leader", "verifier", 2, Assign(session=SESSION, contract=CONTRACT, committed=())),
        Step(
            "leader",
            "drafter",
            2,
            Attach(session=SESSION, contract=CONTRACT, committed=(), credit=16, window=4, width=2),
        ),
        Step(
            "verifier",
            "leader",
            2,
            Assigned(
                model=TARGET.name,
                profile=PROFILE,
                profile_text=PROFILE_TEXT,
                max_nodes=MAX_NODES,
                max_context=MAX_CONTEXT,
            ),
        ),
        Step(
            "leader",
            "client",
            1,
            Opened(position=3, model=TARGET.name, profile=PROFILE, profile_text=PROFILE_TEXT),
        ),
        Step("drafter", "leader", 2, Attached(model=DRAFTER.name)),
    ]
    chain = chain_of(CONTRACT)
    rounds = accepted = drafted = verified = 0
    numbers: dict[tuple[int, ...], int] = {}
    waste = [0] * len(Waste)
    for shape in (tree_below, chain_below):
        prefix = chain.tokens
        tokens, parents, scores, paths = shape(prefix)
        for path in paths:
            drafted += 1
            numbers[prefix + path] = drafted
        steps.append(
            Step(
                "drafter",
                "leader",
                2,
                Propose(
                    position=chain.position,
                    base=chain.short,
                    tokens=tokens,
                    parents=parents_field(parents),
                    scores=bytes(scores),
                ),
            )
        )
        rounds += 1
        verified += len(tokens)
        steps.append(
            Step(
                "leader",
                "verifier",
                2,
                Verify(
                    round=rounds,
                    position=chain.position,
                    base=chain.short,
                    tokens=tokens,
                    parents=parents_field(parents),
                ),
            )
        )
        done = judge(prefix, tokens, parents)
        took = len(done.accepted)
        accepted += took
        waste[tuple(Waste).index(Waste.WRONG)] += len(tokens) - took
        position = chain.position
        chain.extend(done.tokens)
        finish = finish_of(CONTRACT, chain, MAX_CONTEXT)
        steps.append(
            Step(
                "verifier",
                "leader",
                2,
                Verdict(
                    round=rounds,
                    accepted=done.accepted[-1] if done.accepted else 0,
                    token=done.tokens[took] if len(done.tokens) > took else None,
                    digest=chain.short,
                    margin=done.margin,
                    finish=None if finish is None else int(finish),
                ),
            )
        )
        if finish is None:
            ref = numbers[prefix + done.tokens[:took]] if took else 0
            advance = Advance(position=chain.position, ref=ref, tokens=done.tokens[took:])
            steps.append(Step("leader", "drafter", 2, advance))
        entry = DrafterEntry(number=1, node_id=node_id("drafter"), model=DRAFTER.name)
        block = Block(
            position=position,
            tokens=done.tokens,
            origins=bytes([1] * took + [0] * (len(done.tokens) - took)),
            drafters=(entry,) if rounds == 1 else None,
        )
        steps.append(Step("leader", "client", 1, block))
    assert finish is Finish.LENGTH, "the example is made to end by its length"
    stats = Stats(rounds=rounds, drafted=drafted, verified=verified, accepted=accepted, waste=tuple(waste))
    return [
        *steps,
        Step(
            "leader",
            "client",
            1,
            End(finish=int(finish), position=chain.position, digest=chain.digest, stats=stats),
        ),
        Step("leader", "drafter", 2, Detach(reason=int(DetachReason.SESSION_ENDED))),
        Step("leader", "verifier", 2, Release()),
    ]


Tree = tuple[tuple[int, ...], tuple[int, ...], list[int], list[tuple[int, ...]]]
"""tokens, parents, scores, and the path to each node"""


def tree_below(prefix: tuple[int, ...]) -> Tree:
    """Five guesses in a row, and a second choice beside the fourth."""
    tokens, parents, scores, paths = chain_below(prefix, 5)
    second, score = draft(prefix + paths[2], 2)[1]
    return (*tokens, second), (*parents, 3), [*scores, score], [*paths, (*paths[2], second)]


def chain_below(prefix: tuple[int, ...], length: int = 2) -> Tree:
    """Guesses in a row."""
    path: tuple[int, ...] = ()
    scores, paths = [], []
    for _ in range(length):
        token, score = draft(prefix + path)[0]
        path = (*path, token)
        scores.append(score)
        paths.append(path)
    return path, tuple(range(length)), scores, paths


# ---------------------------------------------------------------- as text


def shown(value: Any) -> str:
    """A field for the reader; the frame has all of it."""
    if isinstance(value, bytes):
        return value.hex() if len(value) <= EDGE else f"{value[:8].hex()}..({len(value)} bytes)"
    if isinstance(value, str):
        return repr(value)
    if isinstance(value, tuple):
        return "[" + ", ".join(shown(item) for item in value) + "]"
    if isinstance(value, int):
        return str(value)
    return "{" + reading(value) + "}"


def reading(message: Any) -> str:
    """The fields that are present."""
    pairs = [(field.name, getattr(message, field.name)) for field in fields(message)]
    return ", ".join(f"{name}={shown(value)}" for name, value in pairs if value is not None)


def hex_lines(data: bytes) -> list[str]:
    return [f"    {data[start : start + BYTES_A_LINE].hex()}" for start in range(0, len(data), BYTES_A_LINE)]


def listing(steps: list[Step]) -> str:
    """Each frame: who to whom, what it says, header, payload."""
    out = []
    for step in steps:
        frame = step.frame
        name = MessageType(type_of(step.message)).name
        out.append(f"{step.sender} -> {step.receiver}: {name} {reading(step.message)}".rstrip())
        out.append(f"    {frame[:3].hex()} {frame[3:4].hex()} {frame[4:8].hex()}")
        out += hex_lines(frame[8:])
    return "\n".join(out)


def names() -> str:
    """The contract, and the full digests of the prefixes that the session names (clauses S-2, S-PFX-1)."""
    chain = chain_of(CONTRACT, judge_all())
    lines = ["contract", *hex_lines(encode_payload(CONTRACT))]
    for position in (0, 3, 9, 11):
        lines += [f"d({position})", *hex_lines(chain.digest_at(position))]
    return "\n".join(lines)


def judge_all() -> tuple[int, ...]:
    """The stream as the target alone says it."""
    tokens: tuple[int, ...] = ()
    for _ in range(CONTRACT.max_tokens):
        tokens += judge((*CONTRACT.prompt, *tokens), (), ()).tokens
    return tokens


def markdown() -> str:
    """What stands between the markers of appendix A."""
    return "\n\n".join(f"```\n{part}\n```" for part in (listing(handshake()), names(), listing(session())))


if __name__ == "__main__":
    print(markdown())
