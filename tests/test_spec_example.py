"""Appendix A of SPEC.md, read back from its hexadecimal: by this package's machines, and by hand."""

from __future__ import annotations

import re
from functools import cache
from hashlib import sha256
from struct import pack, unpack

from spec_text import between, spec

from conformance import example_session as example
from conformance import reference
from dsdproto.effects import Computed, Deliver, LinkUp, Received, Refuse, Send
from dsdproto.registry import Feature, Role
from dsdproto.roles.client import Client, ClientState, Completed
from dsdproto.roles.draft_tree import DraftNode
from dsdproto.roles.drafter import Drafter, DrafterConfig
from dsdproto.roles.verifier import Verifier, VerifierConfig
from dsdproto.roles.work import VerifyDone, Walked
from dsdproto.testmodel import context_of
from dsdproto.wire.codec import decode_message
from dsdproto.wire.frames import FrameDecoder
from dsdproto.wire.messages import ModelOffer, Propose, Verdict


@cache
def frames() -> list[tuple[str, str, int, object]]:
    """(sender, receiver, channel, message) of the session in appendix A, from its hexadecimal alone."""
    out = []
    for block in re.findall(r"^(\w+) -> (\w+): \w+.*\n((?:    [0-9a-f ]+\n?)+)", between(spec(), "session"), re.M):
        (frame,) = FrameDecoder().feed(bytes.fromhex(block[2].replace("\n", " ")))
        out.append((block[0], block[1], frame.channel, decode_message(frame)))
    return out


def test_the_example_is_complete() -> None:
    said = [type(message).__name__ for _, _, _, message in frames()]
    assert len(said) == len(example.handshake()) + len(example.session())
    assert {"Hello", "Ready", "Open", "Opened", "Block", "End", "Attach", "Attached", "Propose", "Advance"} <= set(said)
    assert {"Detach", "Assign", "Assigned", "Verify", "Verdict", "Release"} <= set(said)


def test_the_example_satisfies_the_client() -> None:
    client = Client(example.SESSION, example.CONTRACT, max_drafters=1, origins=True)
    sent = client.open(7, 1)
    assert [effect.message for effect in sent] == [
        message for sender, _, channel, message in frames() if sender == "client" and channel
    ]
    effects = []
    for sender, receiver, channel, message in frames():
        if (sender, receiver) == ("leader", "client") and channel:
            effects += client.handle(Received(7, channel, message), 0.0)
    assert not [effect for effect in effects if isinstance(effect, Refuse)]
    assert client.state is ClientState.ENDED
    assert isinstance(effects[-1], Deliver) and isinstance(effects[-1].item, Completed)
    assert client.tokens == (723, 531, 555, 371, 908, 2729, 2011, 464)


def test_the_example_is_what_the_target_alone_says() -> None:
    """The stream above is also the example of TM-1's own section."""
    prefix = list(example.CONTRACT.prompt)
    for _ in range(example.CONTRACT.max_tokens):
        logits, ids = example.TARGET.candidates(context_of(prefix))
        prefix.append(example.SAMPLER.choose(logits, len(prefix), ids).token)
    assert prefix[3:] == [723, 531, 555, 371, 908, 2729, 2011, 464]


def test_the_example_is_what_a_verifier_answers() -> None:
    offer = ModelOffer(
        role=int(Role.VERIFIER),
        name=example.TARGET.name,
        vocabulary_size=example.TARGET.vocabulary,
        vocabulary_digest=example.VOCABULARY,
        max_context=example.MAX_CONTEXT,
        profile=example.PROFILE,
        profile_text=example.PROFILE_TEXT,
    )
    verifier = Verifier(VerifierConfig(offer, max_nodes=example.MAX_NODES))
    answers = []
    for sender, receiver, channel, message in frames():
        if (sender, receiver) != ("leader", "verifier"):
            continue
        effects = verifier.handle(Received(7, channel, message), 0.0)
        while effects:
            effect = effects.pop(0)
            if isinstance(effect, Send):
                answers.append(effect.message)
            else:
                assert not isinstance(effect, Refuse), effect
                walks = [example.judge(item.prefix, item.tokens, item.parents) for item in effect.work.score]
                walked = tuple(Walked(w.accepted[-1] if w.accepted else 0, w.tokens, w.margin) for w in walks)
                prefilled = effect.work.prefill and len(effect.work.prefill.prefix)
                done = VerifyDone(walked, prefilled, rows=0, seconds=0.0)
                effects += verifier.handle(Computed(effect.job, done), 0.0)
    want = [message for sender, _, _, message in frames() if sender == "verifier"]
    fields = ("round", "accepted", "token", "digest", "margin", "finish")
    assert answers[0] == want[0]
    assert [[getattr(m, f) for f in fields] for m in answers[1:]] == [[getattr(m, f) for f in fields] for m in want[1:]]
    assert all(isinstance(message, Verdict) for message in want[1:])


def test_the_example_is_legal_for_a_drafter() -> None:
    """ATTACH, the proposals that follow from it, ADVANCE with its reference to node 5, DETACH: nothing is refused."""
    offer = ModelOffer(
        role=int(Role.DRAFTER),
        name=example.DRAFTER.name,
        vocabulary_size=example.DRAFTER.vocabulary,
        vocabulary_digest=example.VOCABULARY,
        max_context=example.MAX_CONTEXT,
    )
    drafter = Drafter(DrafterConfig(offer))
    hello = example.hello("leader", Role.LEADER)
    drafter.handle(LinkUp(7, hello, frozenset(int(f) for f in Feature), dialer=True), 0.0)
    key = (7, 2)
    for sender, receiver, channel, message in frames():
        if receiver == "drafter":
            effects = drafter.handle(Received(7, channel, message), 0.0)
            assert not [effect for effect in effects if isinstance(effect, Refuse)], effects
        elif sender == "drafter" and isinstance(message, Propose):
            _number_as_proposed(drafter, key, message)
    assert key not in drafter.sessions


def _number_as_proposed(drafter: Drafter, key: tuple[int, int], propose: Propose) -> None:
    """Make the machine's session hold the nodes that the example's PROPOSE numbered."""
    tree = drafter.sessions[key].tree
    assert (propose.position, propose.base) == (tree.root.position, tree.root.digest[:16])
    nodes = [tree.root]
    parents = propose.parents if propose.parents is not None else bytes(range(len(propose.tokens)))
    for token, parent in zip(propose.tokens, parents):
        above = nodes[parent]
        node = DraftNode(token, above, None, above.position + 1)
        above.children[token] = node
        tree.add(node)
        tree.number(node)
        nodes.append(node)


# ---------------------------------------------------------------- by hand, with nothing of dsdproto


def cbor(data: bytes, at: int = 0) -> tuple[object, int]:
    """(item, offset behind it): sections 7 and 8, for payloads that are known to be right."""
    kind, short = data[at] >> 5, data[at] & 31
    size = 0 if short < 24 else 1 << (short - 24)
    value = short if short < 24 else int.from_bytes(data[at + 1 : at + 1 + size], "big")
    at += 1 + size
    if kind in (2, 3):
        return data[at : at + value], at + value
    items = []
    for _ in range({0: 0, 4: value, 5: 2 * value}[kind]):
        item, at = cbor(data, at)
        items.append(item)
    return {0: value, 4: items, 5: dict(zip(items[::2], items[1::2]))}[kind], at


def ids(string: bytes) -> list[int]:
    return [int.from_bytes(string[at : at + 3], "big") for at in range(0, len(string), 3)]


def by_hand() -> list[tuple[int, int, dict[int, object], bytes]]:
    """(type, channel, fields, payload) of every frame of the appendix."""
    out = []
    for block in re.findall(r"^\w+ -> \w+: .*\n((?:    [0-9a-f ]+\n?)+)", between(spec(), "session"), re.M):
        frame = bytes.fromhex(block.replace("\n", " "))
        length, payload = int.from_bytes(frame[:3], "big"), frame[8:]
        item, end = cbor(payload)
        assert length == len(payload) == end
        out.append((frame[3], int.from_bytes(frame[4:8], "big"), item, payload))
    return out


def test_the_example_by_a_second_implementation() -> None:
    """Names, choices and margins, from the text alone: `conformance.reference` and the lines above."""
    said = by_hand()
    hellos = [payload for kind, _, _, payload in said if kind == 0x02]
    readies = [fields[1] for kind, _, fields, _ in said if kind == 0x04]
    assert readies == [sha256(hellos[0] + hellos[1] + bytes.fromhex("a201010283010305")).digest()] * 2

    (opened,) = [(fields, payload) for kind, _, fields, payload in said if kind == 0x20]
    contract, payload = opened[0][2], opened[1]
    # The contract's own bytes within OPEN: behind the map's head, key 1 with its 16 bytes, and key 2.
    start = 1 + 1 + 17 + 1
    tokens, digests = ids(contract[1]), None
    sampling = {"temperature": contract[2][2], "top_k": contract[2][3], "top_p": contract[2][4]}
    limit = len(tokens) + contract[3]
    model = {"v": 4096, "s": 7, "e": 0, "a": 65536, "d": 0}
    pending: dict[int, object] = {}
    for kind, _, fields, _ in said:
        if kind == 0x44:
            pending = fields
        if kind != 0x46:
            continue
        digests = reference.chain(payload[start : cbor(payload, start)[1]], tokens)
        assert (pending[2], pending[3]) == (len(tokens), digests[-1][:16])
        drafts = ids(pending[4])
        parents = pending.get(5, bytes(range(len(drafts))))
        node, margin, own, finish = 0, 2**32 - 1, None, None
        while True:
            row = reference.tm1_row(model, reference.context_of(tokens))
            bits = {token: unpack(">I", pack(">f", logit))[0] for token, logit in row.items()}
            choice = reference.choose(bits, sampling, contract[2][5], len(tokens))
            tokens.append(choice["token"])
            margin = min(margin, choice["margin"])
            child = next((n for n, t in enumerate(drafts, 1) if t == tokens[-1] and parents[n - 1] == node), None)
            node, own = (child, None) if child else (node, tokens[-1])
            finish = 0 if tokens[-1] in ids(contract[4]) else 2 if len(tokens) == limit else None
            if child is None or finish is not None:
                break
        digests = reference.chain(payload[start : cbor(payload, start)[1]], tokens)
        want = {1: pending[1], 2: node, 3: own, 4: digests[-1][:16], 5: margin, 6: finish}
        assert fields == {key: value for key, value in want.items() if value is not None}
    (end,) = [fields for kind, _, fields, _ in said if kind == 0x26]
    assert digests is not None and (end[1], end[2], end[3]) == (finish, len(tokens), digests[-1])
