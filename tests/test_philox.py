from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dsdproto.sampling import philox

U32 = st.integers(0, 2**32 - 1)
U64 = st.integers(0, 2**64 - 1)


def test_known_answers_of_the_paper_authors():
    """kat_vectors of Random123, lines philox4x32 10."""
    ones = 2**32 - 1
    assert philox.philox4x32((0,) * 4, (0,) * 2) == (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)
    assert philox.philox4x32((ones,) * 4, (ones,) * 2) == (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)
    counter, key = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0)
    assert philox.philox4x32(counter, key) == (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)


@settings(deadline=None, derandomize=True)
@given(U64, U32, U64, st.lists(U32, min_size=1, max_size=20))
def test_arrays_give_the_same_words(seed, domain, position, blocks):
    array = philox.words_array(seed, domain, position, np.array(blocks, np.int64))
    assert [tuple(row) for row in array.tolist()] == [philox.words(seed, domain, position, b) for b in blocks]


@settings(deadline=None, derandomize=True)
@given(U64, U64, st.sets(U32, max_size=30))
def test_a_token_has_the_same_word_whoever_else_is_asked_for(seed, position, tokens):
    tokens = sorted(tokens)
    array = philox.token_words(seed, 1, position, np.array(tokens, np.int64))
    assert array.tolist() == [philox.words(seed, 1, position, t // 4)[t % 4] for t in tokens]


@settings(deadline=None, derandomize=True)
@given(st.tuples(U64, U32, U64, U32), st.tuples(U64, U32, U64, U32))
def test_two_uses_never_share_a_counter(one, other):
    """Different (domain, position, block) under one seed must read different Philox inputs."""

    def inputs(seed, domain, position, block):
        return (block, domain, position & philox.MASK32, position >> 32), (seed & philox.MASK32, seed >> 32)

    assert (inputs(*one) == inputs(*other)) == (one == other)
    assert philox.words(*one) == philox.philox4x32(*inputs(*one))


def test_domains_are_distinct():
    domains = [value for name, value in vars(philox).items() if name.startswith("DOMAIN_")]
    assert len(domains) == len(set(domains)) == 5 and 0 not in domains


def test_words_are_uniform():
    """Chi-square of the top and the low bytes over 2^16 words, 255 degrees of freedom."""
    words = philox.words_array(5, 1, 9, np.arange(1 << 14)).ravel()
    for byte in (words >> 24, words & 0xFF):
        counts = np.bincount(byte, minlength=256)
        chi2 = ((counts - 256.0) ** 2 / 256.0).sum()
        assert 170 < chi2 < 360  # beyond six sigma either way
