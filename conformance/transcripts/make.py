"""Records and writes the transcripts: python -m conformance.transcripts.make [--check]

What is expected of a reader comes from the example testee's reader (`conformance/examples/python`), and is held against
what the recording machines know (`tests/test_suite_transcripts.py`) and, for a breach, against where it was put.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from conformance.examples.python.replaying import replay
from conformance.static.vectors import Vector, document, vector
from conformance.transcripts import HERE, KIND
from conformance.transcripts.breach_table import breaches
from conformance.transcripts.breaches import Breach, scene, steps_with
from conformance.transcripts.recording import steps_of, transcript
from conformance.transcripts.scenes import SCENES, Scene

BEHIND = 6
"""So many recorded frames stand behind a breach, for a reader that does not stop."""


def recorded(where: Scene) -> Iterator[Vector]:
    """One transcript for each recorder of a scene."""
    for recorder in where.recorders:
        node = where.stage.nodes[recorder]
        taken = transcript(node, steps_of(node), f"{where.name}/{recorder}")
        conclusions = replay(taken)
        if "violation" in conclusions:
            raise ValueError(f"{where.name} at {recorder}: {conclusions['violation']}")
        name = f"transcript/{where.name}-at-{recorder}"
        yield vector(name, f"{where.title}: at the {recorder}", where.clauses, ask(taken), ok=conclusions)


def ask(taken: dict[str, Any]) -> dict[str, Any]:
    return {"verb": "replay", "transcript": taken}


def broken(breach: Breach) -> Vector:
    """The transcript of a breach. Raises ValueError if it is not found where it was put."""
    node = scene(breach.scene).stage.nodes[breach.recorder]
    steps, at = steps_with(breach)
    conclusions = replay(transcript(node, steps[: at + BEHIND], f"breach/{breach.name}"))
    found = dict(conclusions.get("violation", {}))
    found.pop("clause", None)
    wanted = {
        "frame": sum(bool(data) for _, _, data in steps[:at]),
        "connection": breach.connection,
        "channel": breach.channel,
        "code": breach.code,
        "scope": "session" if breach.channel else "connection",
    }
    if found != wanted:
        raise ValueError(f"{breach.name}: expected {wanted}, found {conclusions.get('violation')}")
    request = ask(transcript(node, steps[: at + BEHIND], f"breach/{breach.name}"))
    return vector(
        f"breach/{breach.name}", breach.title, breach.clauses, request, ok={**conclusions, "violation": wanted}
    )


def documents() -> dict[str, list[Vector]]:
    """What each file holds."""
    out = {f"session-{where.name}": list(recorded(where)) for where in (scene(make) for make in SCENES)}
    for breach in breaches():
        out.setdefault(f"breach-{scene(breach.scene).name}-{breach.recorder}", []).append(broken(breach))
    return out


def main() -> int:
    check = "--check" in sys.argv[1:]
    changed, total = [], 0
    for name, transcripts in documents().items():
        path = HERE / f"{name}.json"
        text = document(name, transcripts, KIND)
        total += len(transcripts)
        if not path.exists() or path.read_text() != text:
            changed.append(path.name)
            if not check:
                path.write_text(text)
    print(f"{total} transcripts; files that {'differ' if check else 'were written'}: {', '.join(changed) or 'none'}")
    return 1 if check and changed else 0


if __name__ == "__main__":
    raise SystemExit(main())
