"""Philox4x32-10, a counter-based generator with random access (Salmon et al., SC 2011; SPEC S-RNG).

The counter layout keeps every use apart:

    counter = [block, domain, position mod 2^32, position div 2^32]      key = [seed mod 2^32, seed div 2^32]

A call yields four 32-bit words. Noise for token v is word v mod 4 of block v div 4.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

MASK32 = 0xFFFF_FFFF
M0, M1 = 0xD251_1F53, 0xCD9E_8D57
W0, W1 = 0x9E37_79B9, 0xBB67_AE85
ROUNDS = 10

# The domain word (registry in SPEC S-RNG): two uses of randomness never read the same counter.
DOMAIN_COUPLED = 1
DOMAIN_REJECTION_DRAFT = 2
DOMAIN_REJECTION_ACCEPT = 3
DOMAIN_TM1_TARGET = 16
DOMAIN_TM1_DRAFT = 17


Schedule = tuple[tuple[int, int], ...]


def key_schedule(key: tuple[int, int]) -> Schedule:
    """The ten round keys."""
    k0, k1 = key
    return tuple(((k0 + n * W0) & MASK32, (k1 + n * W1) & MASK32) for n in range(ROUNDS))


@lru_cache(maxsize=4096)
def _schedule_of(seed: int) -> Schedule:
    return key_schedule((seed & MASK32, seed >> 32))


def _rounds(c0: int, c1: int, c2: int, c3: int, schedule: Schedule) -> tuple[int, int, int, int]:
    for k0, k1 in schedule:
        p0 = M0 * c0
        p1 = M1 * c2
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 & MASK32, (p0 >> 32) ^ c3 ^ k1, p0 & MASK32
    return c0, c1, c2, c3


def philox4x32(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, int, int, int]:
    """The bare bijection: four counter words and two key words (each u32) to four words."""
    return _rounds(*counter, key_schedule(key))


def words(seed: int, domain: int, position: int, block: int) -> tuple[int, int, int, int]:
    """The four words of one block. seed, position: u64; domain, block: u32."""
    return _rounds(block, domain, position & MASK32, position >> 32, _schedule_of(seed))


def words_array(seed: int, domain: int, position: int, blocks: np.ndarray) -> np.ndarray:
    """`words` for many blocks at once. blocks: integers, shape (n,); returns uint32, shape (n, 4)."""
    u64 = np.uint64
    low, s32 = u64(MASK32), u64(32)
    m0, m1 = u64(M0), u64(M1)
    n = len(blocks)
    c0 = blocks.astype(u64)
    c1, c2, c3 = (np.full(n, word, u64) for word in (domain, position & MASK32, position >> 32))
    p0, p1 = np.empty(n, u64), np.empty(n, u64)
    for k0, k1 in _schedule_of(seed):
        np.multiply(c0, m0, out=p0)
        np.multiply(c2, m1, out=p1)
        # c0 and c2 are read by now, so their memory takes the new words.
        np.right_shift(p1, s32, out=c0)
        c0 ^= c1
        c0 ^= u64(k0)
        np.right_shift(p0, s32, out=c2)
        c2 ^= c3
        c2 ^= u64(k1)
        np.bitwise_and(p1, low, out=c1)
        np.bitwise_and(p0, low, out=c3)
    out = np.empty((n, 4), np.uint32)
    out[:, 0], out[:, 1], out[:, 2], out[:, 3] = c0, c1, c2, c3
    return out


def token_words(seed: int, domain: int, position: int, tokens: np.ndarray) -> np.ndarray:
    """One word per token id. tokens: ascending integer array of shape (n,); returns uint32 of shape (n,)."""
    blocks = tokens >> 2
    fresh = np.empty(len(blocks), bool)
    if len(blocks):
        fresh[0] = True
        np.not_equal(blocks[1:], blocks[:-1], out=fresh[1:])
    table = words_array(seed, domain, position, blocks[fresh])
    return table[np.cumsum(fresh) - 1, tokens & 3]
