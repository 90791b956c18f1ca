"""Fixed-point logarithm, exponential and Gumbel noise: the same integers on every machine (SPEC S-SAMP-4).

All scores are in bits (base-2 logarithms), as integers in units of 2^-24 ("Q24"). Three tables of pure
mathematics and linear interpolation in integers are the whole of it. Every scalar function has an array twin
that yields the same integers; the scalar ones serve the simulator, where a row has a handful of candidates.
"""

from __future__ import annotations

import math
from hashlib import sha256
from struct import pack

import numpy as np

FRACTION_BITS = 24
ONE = 1 << FRACTION_BITS
SEGMENTS = 1 << 12

# floor(2^32 * log2(e)): natural logits to bits.
LOG2E_Q32 = 6196328018

# A logit is saturated to +-2^28, so that its Q24 form is exact in a binary64 as well.
LOGIT_MAX = 1 << 28

# No score is pushed further than 64 bits below the best logit; the noise spans under 38 bits.
DROP_MAX = 64 << FRACTION_BITS

WEIGHT_SHIFT = 8  # softmax weights are Q40: the Q32 table shifted up


def _log2_entry(j: int) -> int:
    return math.floor(ONE * math.log2(1 + j / SEGMENTS) + 0.5)


def _tail_entry(j: int) -> int:
    t = j / (2 * SEGMENTS)
    ratio = -math.log1p(-t) / t if j else 1.0
    return math.floor(ONE * math.log2(ratio / math.log(2)) + 0.5)


def _exp2_entry(j: int) -> int:
    return math.floor(math.ldexp(2.0 ** (-j / SEGMENTS), 32) + 0.5)


LOG2_TABLE = [_log2_entry(j) for j in range(SEGMENTS + 1)]
TAIL_TABLE = [_tail_entry(j) for j in range(SEGMENTS + 1)]
EXP2_TABLE = [_exp2_entry(j) for j in range(SEGMENTS + 1)]

TABLE_DIGESTS = {
    "log2": "6fdab5116dcc89edd561ff8414c7084437058ea98a27dbebaaa6af5a32de2800",
    "tail": "99fa07a0e3f5a8c270295e9200c588f72c4699e211bee823df624a03dcf8db38",
    "exp2": "f73ea64387dd6bcd8354e18da146d22ded9b311d7f3b5ad0fb45483171790752",
}


def table_digest(table: list[int]) -> str:
    """SHA-256 (hex) of the entries as big-endian u64."""
    return sha256(pack(f">{len(table)}Q", *table)).hexdigest()


for _name, _table in (("log2", LOG2_TABLE), ("tail", TAIL_TABLE), ("exp2", EXP2_TABLE)):
    if table_digest(_table) != TABLE_DIGESTS[_name]:
        raise ImportError(
            f"the {_name} table (SPEC S-SAMP-4) came out wrong: this platform's math library is too inexact"
        )

_LOG2 = np.array(LOG2_TABLE, np.int64)
_LOG2_STEP = np.diff(_LOG2)
_TAIL = np.array(TAIL_TABLE, np.int64)
_TAIL_STEP = np.diff(_TAIL)
_EXP2 = np.array(EXP2_TABLE, np.int64)
_EXP2_STEP = np.diff(_EXP2)


def log2_q24(n: int) -> int:
    """log2 of an integer 1 <= n < 2^36, in Q24, within 2^-23 or so below."""
    exponent = n.bit_length() - 1
    fraction = (n << (36 - exponent)) - (1 << 36)
    j, r = fraction >> 24, fraction & 0xFF_FFFF
    low = LOG2_TABLE[j]
    return (exponent << 24) + low + (((LOG2_TABLE[j + 1] - low) * r) >> 24)


def log2_q24_array(n: np.ndarray) -> np.ndarray:
    """`log2_q24` of an int64 array."""
    # frexp is exact here (n < 2^53), so this reads the exponent and does not round.
    exponent = np.frexp(n.astype(np.float64))[1].astype(np.int64) - 1
    fraction = (n << (36 - exponent)) - (1 << 36)
    j, r = fraction >> 24, fraction & 0xFF_FFFF
    return (exponent << 24) + _LOG2[j] + ((_LOG2_STEP[j] * r) >> 24)


def noise_q24(word: int) -> int:
    """Gumbel noise in bits, Q24, of one u32 word: -log2(-log2 u) with u = (2 word + 1) / 2^33."""
    odd = 2 * word + 1
    if word < 0x8000_0000:
        return (24 << 24) - log2_q24((33 << 24) - log2_q24(odd))
    # Near u = 1 the inner logarithm would cancel; z = 2^33 (1 - u) is small and exact.
    z = (1 << 33) - odd
    j, r = z >> 20, z & 0xF_FFFF
    low = TAIL_TABLE[j]
    return (33 << 24) - log2_q24(z) - low - (((TAIL_TABLE[j + 1] - low) * r) >> 20)


def noise_q24_array(words: np.ndarray) -> np.ndarray:
    """`noise_q24` of a uint32 array, as int64."""
    odd = (words.astype(np.int64) << 1) + 1
    upper = words >= 0x8000_0000
    z = (1 << 33) - odd
    inner = log2_q24_array(np.where(upper, z, odd))
    j, r = np.where(upper, z >> 20, 0), z & 0xF_FFFF
    tail = (33 << 24) - inner - _TAIL[j] - ((_TAIL_STEP[np.minimum(j, SEGMENTS - 1)] * r) >> 20)
    head = (24 << 24) - log2_q24_array(np.where(upper, ONE, (33 << 24) - inner))
    return np.where(upper, tail, head)


NOISE_MAX = noise_q24(0xFFFF_FFFF)
NOISE_MIN = noise_q24(0)


def scale_factor(temperature_q16: int) -> int:
    """S: multiplies a Q24 logit difference to Q56 bits at this temperature (> 0)."""
    return (LOG2E_Q32 << 16) // temperature_q16


def logit_q24(logit: float) -> int:
    """A finite or infinite float32 value (not NaN) as a saturated Q24 integer, rounded down."""
    if logit >= LOGIT_MAX:
        return LOGIT_MAX << 24
    if logit <= -LOGIT_MAX:
        return -LOGIT_MAX << 24
    return math.floor(logit * ONE)


def logit_q24_array(logits: np.ndarray) -> np.ndarray:
    """`logit_q24` of a float32 array, as int64."""
    wide = logits.astype(np.float64)
    np.clip(wide, -LOGIT_MAX, LOGIT_MAX, out=wide)
    wide *= ONE
    return np.floor(wide, out=wide).astype(np.int64)


def drop_q24(difference: int, factor: int) -> int:
    """Bits by which a candidate starts below the best one. difference: best minus its Q24 logit, >= 0."""
    return min((difference * factor) >> 32, DROP_MAX)


def drop_q24_array(differences: np.ndarray, factor: int) -> np.ndarray:
    """`drop_q24` of an int64 array; the products stay within 63 bits."""
    reach = (1 << 62) // factor
    return np.where(differences > reach, DROP_MAX, (np.minimum(differences, reach) * factor) >> 32)


def weight_q40(drop: int) -> int:
    """2^-drop in Q40: the softmax weight of a candidate relative to the best one. drop: Q24, 0..DROP_MAX."""
    j, r = (drop >> 12) & 0xFFF, drop & 0xFFF
    high = EXP2_TABLE[j]
    return ((high - (((high - EXP2_TABLE[j + 1]) * r) >> 12)) << WEIGHT_SHIFT) >> (drop >> 24)


def weight_q40_array(drops: np.ndarray) -> np.ndarray:
    """`weight_q40` of an int64 array."""
    j, r = (drops >> 12) & 0xFFF, drops & 0xFFF
    # A numpy shift by 64 is undefined, so whole bits stop at 63; the weight is 0 from 41 on.
    whole = np.minimum(drops >> 24, 63)
    return ((_EXP2[j] - ((-_EXP2_STEP[j] * r) >> 12)) << WEIGHT_SHIFT) >> whole
