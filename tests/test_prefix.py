from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsdproto.prefix import PrefixChain, PrefixError, contract_digest, extend_digest, short_digest

TOKENS = st.lists(st.integers(0, 2**32 - 1), max_size=12)


def naive(contract: bytes, tokens: list[int]) -> bytes:
    digest = sha256(contract).digest()
    for token in tokens:
        digest = sha256(digest + token.to_bytes(4, "big")).digest()
    return digest


@settings(deadline=None, derandomize=True)
@given(st.binary(max_size=40), TOKENS)
def test_every_prefix_has_the_digest_of_the_definition(contract, tokens):
    chain = PrefixChain.for_contract(contract, tokens)
    assert chain.tokens == tuple(tokens) and chain.position == len(chain) == len(tokens)
    for n in range(len(tokens) + 1):
        assert chain.digest_at(n) == naive(contract, tokens[:n])
        assert chain.short_at(n) == naive(contract, tokens[:n])[:16]
        assert chain.names(n, chain.short_at(n)) and chain.names(n, chain.digest_at(n))
        assert not chain.names(n, bytes(16))
    assert chain.digest == chain.digest_at(len(tokens)) and chain.short == short_digest(chain.digest)


@settings(deadline=None, derandomize=True)
@given(TOKENS, TOKENS, st.data())
def test_truncating_and_going_on_forgets_the_rest(tokens, more, data):
    n = data.draw(st.integers(0, len(tokens)))
    chain = PrefixChain.for_contract(b"c", tokens)
    chain.truncate(n)
    for token in more:
        chain.append(token)
    assert chain.tokens == tuple(tokens[:n] + more)
    assert chain.digest == naive(b"c", tokens[:n] + more)
    assert chain.tokens_from(n) == tuple(more)


def test_names_refuses_positions_outside_and_digests_of_other_positions():
    chain = PrefixChain.for_contract(b"c", [1, 2])
    assert not chain.names(3, chain.short) and not chain.names(-1, chain.short)
    assert not chain.names(1, chain.short)
    with pytest.raises(PrefixError, match="16 or 32 bytes, got 8"):
        chain.names(2, chain.digest[:8])


@pytest.mark.parametrize("token", [-1, 2**32, 1.5, "1", None])
def test_a_token_is_a_u32_and_a_bad_one_changes_nothing(token):
    chain = PrefixChain.for_contract(b"c", [1])
    before = chain.digest
    with pytest.raises(PrefixError, match=r"is not an integer in 0..4294967295"):
        chain.append(token)
    with pytest.raises(PrefixError):
        chain.extend([2, token])
    assert chain.tokens == (1,) and chain.digest == before and chain.position == 1


def test_short_digests_cannot_be_extended():
    with pytest.raises(PrefixError, match="only a full one"):
        PrefixChain(contract_digest(b"c")[:16])


def test_positions_are_checked():
    chain = PrefixChain.for_contract(b"c", [1, 2])
    for call in (chain.truncate, chain.digest_at, chain.short_at, chain.tokens_from):
        for position in (-1, 3):
            with pytest.raises(PrefixError, match="outside this chain of 2 tokens"):
                call(position)


def test_last_and_copy():
    chain = PrefixChain.for_contract(b"c")
    with pytest.raises(PrefixError, match="no last token"):
        _ = chain.last
    chain.append(5)
    twin = chain.copy()
    twin.append(6)
    assert (chain.last, twin.last) == (5, 6) and list(chain) == [5]
    assert twin.digest == extend_digest(chain.digest, 6)
