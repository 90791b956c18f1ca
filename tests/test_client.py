"""The client's machine: what a leader may not send it (clauses S-8, S-9)."""

from __future__ import annotations

import pytest
from cluster import contract

from dsdproto.effects import Deliver, Received, Refuse
from dsdproto.registry import ErrorCode
from dsdproto.roles.client import Client, Committed, Failed
from dsdproto.wire.messages import Block, Opened


def streaming(max_tokens: int = 6, stop: tuple[int, ...] = ()) -> Client:
    """A client at the end of its prompt, which has three tokens."""
    client = Client(bytes(16), contract((3, 1, 4), max_tokens=max_tokens, stop=stop), 1, False)
    client.open(1, 1)
    client.handle(Received(1, 1, Opened(position=3, model="m", profile=bytes(32), profile_text="")), 0.0)
    return client


def block(client: Client, *tokens: int) -> list[object]:
    """What the client says to these tokens, at its own position."""
    return client.handle(Received(1, 1, Block(position=client.chain.position, tokens=tokens)), 0.0)


@pytest.mark.parametrize(
    "blocks",
    [[(5, 6, 7, 8, 9, 10, 11)], [(5, 6, 7, 8, 9, 10), (11,)], [(9, 5)], [(5, 9, 6)], [(5, 9), (6,)]],
    ids=["beyond max_tokens", "after max_tokens", "behind a stop token", "in the middle", "after the block with it"],
)
def test_s8_no_token_follows_the_one_that_ended_the_stream(blocks: list[tuple[int, ...]]) -> None:
    client = streaming(stop=(9,) if len(blocks[0]) < 6 else ())
    for good in blocks[:-1]:
        (took,) = block(client, *good)
        assert isinstance(took, Deliver) and isinstance(took.item, Committed)
    refusal, failed = block(client, *blocks[-1])
    assert isinstance(refusal, Refuse) and refusal.error.code is ErrorCode.ADVANCE_INVALID
    assert refusal.error.clause == "S-8"
    assert isinstance(failed, Deliver) and isinstance(failed.item, Failed)
    assert client.tokens == tuple(token for good in blocks[:-1] for token in good)


def test_s9_a_stop_token_in_the_prompt_ends_nothing() -> None:
    client = streaming(stop=(4,))
    (took,) = block(client, 5, 6)
    assert isinstance(took, Deliver) and isinstance(took.item, Committed)
