"""How many draft nodes to verify next, and whether to wait for more: both maximise tokens per second.

With the nodes of a trie in order of the probability that the target's walk reaches them, p1 >= p2 >= ..., verifying the
first n yields 1 + p1 + ... + pn tokens in the mean and takes cost(1 + n). The closed form for one chain with i.i.d.
acceptance a (Leviathan et al. 2023, section 3) is the special case p_i = a**i.
"""

from __future__ import annotations

from collections.abc import Sequence


def best_count(reach: Sequence[float], seconds: Sequence[float], overhead: float = 0.0) -> int:
    """Number of nodes, best first, that maximises expected tokens per second.

    :param reach: probability of each node to be accepted, in the order in which nodes would be taken.
    :param seconds: predicted duration of a forward by number of rows, up to 1 + len(reach).
    :param overhead: seconds of a round besides the forward (network, queue).
    """
    best, best_rate = 0, 1.0 / (seconds[1] + overhead)
    gain = 1.0
    for n, p in enumerate(reach, start=1):
        gain += p
        rate = gain / (seconds[1 + n] + overhead)
        if rate > best_rate:
            best, best_rate = n, rate
    return best


def worth_waiting(gain_now: float, gain_later: float, wait: float, round_time: float) -> bool:
    """Is it better to verify ``wait`` seconds later, with more drafts?

    :param gain_now: expected accepted nodes of what is there.
    :param gain_later: expected accepted nodes once the next proposal is in.
    :param round_time: seconds of a round, waiting excluded.
    """
    if wait <= 0.0 or round_time <= 0.0:
        return False
    return (1.0 + gain_later) / (round_time + wait) > (1.0 + gain_now) / round_time
