"""How long forwards take on this machine: `python -m reference_nodes.backends.measure [MODEL] [--draft MODEL]`.

Thread CPU time, best of several: a busy machine changes it less than the clock on the wall.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

import numpy as np

from reference_nodes.models_store import locate

from .base import ExpandRequest, TreeRequest
from .loading import load_draft, load_target

ROWS = (1, 2, 3, 4, 5, 6, 8, 12, 16, 24, 32)
CONTEXTS = (16, 256, 1024)
REPEATS = 9
SEED = 0


def best_ms(work: Callable[[], object]) -> float:
    """Least thread time of `work`, in milliseconds."""
    times = []
    for _ in range(REPEATS):
        begin = time.thread_time()
        work()
        times.append(time.thread_time() - begin)
    return min(times) * 1e3


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="smollm2")
    parser.add_argument("--draft")
    args = parser.parse_args()
    rng = np.random.default_rng(SEED)
    files = locate(args.model)
    target = load_target(files)

    def ids(count: int) -> list[int]:
        return [int(t) for t in rng.integers(0, target.vocab_size, count)]

    def score(prefix: list[int], rows: int) -> None:
        target.score([TreeRequest("s", prefix, ids(rows), range(rows))])

    print(f"{target.name}: ms per forward without the head, by rows\ncontext " + "".join(f"{n:>8}" for n in ROWS))
    for context in CONTEXTS:
        prefix = ids(context)
        target.prefill("s", prefix, context)
        cells = [best_ms(partial(score, prefix, n)) for n in ROWS]
        print(f"{context:7} " + "".join(f"{cell:8.1f}" for cell in cells))
    begin = time.thread_time()
    target.prefill("new", ids(512), 512)
    print(f"prefill of 512 tokens: {512 / (time.thread_time() - begin):.0f} tokens/s")
    if args.draft:
        draft, prefix = load_draft(locate(args.draft), files), ids(256)
        draft.expand([ExpandRequest("s", prefix)])

        def expand(count: int) -> None:
            draft.expand([ExpandRequest("s", prefix, ids(count), [0] * count, range(1, count + 1))])

        print(f"{draft.name}: ms to expand new nodes below one parent, context 256")
        for n in (1, 2, 4, 8):
            print(f"{n:7} {best_ms(partial(expand, n)):7.2f}")


if __name__ == "__main__":
    main()
