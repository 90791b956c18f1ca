"""Let the target answer the prompts, and keep its tokens and its states as training shards.

Besides given prompts there are turns that the target writes itself (Magpie, arXiv 2406.08464): it continues an empty
user turn, then answers it.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from reference_nodes.backends.hf_files import read_config, read_weights
from reference_nodes.backends.llama import Head, Llama
from reference_nodes.backends.tokens import Text

from .chat import ANSWER, DEFAULT_SYSTEM, STOP, SYSTEMS, chat, user_header
from .prompts import Overlap, load_prompts
from .tapped import Tapped
from .writer import Job, Limits, Row, Writer

Encode = Callable[[str], list[int]]


def jobs_of(
    records: Sequence[dict[str, str]], encode: Encode, count: int, seed: int, warm: float, magpie: float, limits: Limits
) -> list[Job]:
    """``count`` jobs, fixed by the arguments: a share ``magpie`` of turns to write, the rest prompts in their order.

    A share ``warm`` is answered at temperature 0.8. Prompts longer than ``limits.prompt`` are passed over; the list
    ends early where the prompts run out.
    """
    rng, found, left = random.Random(f"jobs/{seed}"), [], iter(records)
    systems = ["default"] * 4 + ["plain", "writer"]
    while len(found) < count:
        turn, temperature = rng.random() < magpie, 0.8 if rng.random() < warm else 0.0
        ids = encode(user_header(SYSTEMS[rng.choice(systems)])) if turn else []
        while not 0 < len(ids) <= limits.prompt:
            if (record := next(left, None)) is None:
                return found
            ids = encode(chat(record["system"], record["prompt"]))
        found.append(Job(len(found), ids, temperature, seed, turn))
    return found


def save_shard(path: Path, rows: Sequence[Row], taps: Sequence[int]) -> None:
    """Write one shard, all rows end to end: ``tokens`` int32, ``hidden`` and ``tap<n>`` float16.

    ``lengths`` and ``prompts`` are the lengths of the rows and of their prompts.
    """
    part = path.with_suffix(".part")
    tensors = {
        "tokens": np.concatenate([r.tokens for r in rows]),
        "hidden": np.concatenate([r.hidden for r in rows]),
        "lengths": np.array([len(r.tokens) for r in rows], np.int32),
        "prompts": np.array([r.prompt for r in rows], np.int32),
    }
    tensors |= {f"tap{layer}": np.concatenate([r.taps[i] for r in rows]) for i, layer in enumerate(taps)}
    save_file(tensors, str(part))
    os.replace(part, path)


def shards(
    written: Iterator[tuple[Job, Row | None]], done: set[int], size: int, total: int
) -> Iterator[tuple[int, list[Row]]]:
    """Gather finished rows into (shard number, its rows by key): shard n holds the jobs n * size and on.

    ``done`` shards do not come. The last shard may be short.
    """
    waiting: dict[int, dict[int, Row | None]] = {}
    for job, row in written:
        n = job.key // size
        waiting.setdefault(n, {})[job.key] = row
        if n not in done and len(waiting[n]) == min(size, total - n * size):
            yield n, [r for _, r in sorted(waiting.pop(n).items()) if r is not None]


def writer_of(
    target: Path,
    encode: Encode,
    taps: Sequence[int],
    limits: Limits,
    lanes: int,
    keep_turn: Callable[[Sequence[int]], bool] = lambda ids: True,
) -> Writer:
    """A writer for the model in ``target``. Raises UnsupportedModel."""
    headers = [encode(user_header(s)) for s in SYSTEMS.values()]
    weights, rows = read_weights(target), 3 * lanes // 2
    model = Llama(read_config(target), weights, Writer.slots(headers, limits, lanes), limits.total)
    (stop,) = encode(STOP)
    head = Head(model, model.head_weight(weights))
    return Writer(Tapped(model, taps, rows), head, stop, encode(ANSWER), headers, limits, lanes, rows, keep_turn)


def answer_all(path: Path, target: Path, prompts: Sequence[str], max_new: int, tap: int) -> None:
    """Write the target's greedy answers to all prompts, under the default system prompt, as one shard."""
    text = Text(target)
    jobs = [Job(n, text.encode(chat(DEFAULT_SYSTEM, p))) for n, p in enumerate(prompts)]
    limits = Limits(answer=max_new, prompt=max(len(job.ids) for job in jobs))
    rows: dict[int, Row] = {}
    for job, row in writer_of(target, text.encode, [tap], limits, 32).write(iter(jobs)):
        assert row is not None  # only turns are refused
        rows[job.key] = row
        print(f"{path.name}: {len(rows)} of {len(jobs)} prompts answered", file=sys.stderr, flush=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_shard(path, [rows[n] for n in range(len(jobs))], [tap])


def run(
    target: Path,
    prompts: Path,
    out: Path,
    taps: Sequence[int],
    size: int,
    count: int,
    limits: Limits,
    seed: int,
    warm: float,
    magpie: float,
    evaluation: Sequence[Path],
    lanes: int,
    minutes: float,
) -> None:
    """Write shards ``shard-NNNNN.safetensors`` until the jobs are done or the time is up.

    Shards that exist are skipped, so a stopped run can go on; the rows that were under way are written again. Raises
    ValueError for a bad prompt file, UnsupportedModel for the target.
    """
    text = Text(target)
    records = [json.loads(line) for line in prompts.read_text().splitlines()]
    overlaps = Overlap(p for path in evaluation for p in load_prompts(path))
    jobs = jobs_of(records, text.encode, count, seed, warm, magpie, limits)

    def keep_turn(ids: Sequence[int]) -> bool:
        turn = text.decode(ids)
        return len(turn.split()) >= 3 and not overlaps(turn)

    writer = writer_of(target, text.encode, taps, limits, lanes, keep_turn)
    out.mkdir(parents=True, exist_ok=True)
    done = {int(p.stem.split("-")[1]) for p in out.glob("shard-*.safetensors")}
    began, made = time.monotonic(), 0
    todo = (job for job in jobs if job.key // size not in done)
    for n, rows in shards(writer.write(todo), done, size, len(jobs)):
        save_shard(out / f"shard-{n:05d}.safetensors", rows, taps)
        made += sum(len(r.tokens) - r.prompt for r in rows)
        rate = made / (time.monotonic() - began)
        print(f"shard {n}: {len(rows)} rows; {made} answer tokens, {rate:.0f}/s", file=sys.stderr, flush=True)
        if time.monotonic() - began > 60 * minutes:
            break
