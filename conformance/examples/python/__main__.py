"""The loop: one request a line, one answer a line.

With `--nodes MODULE` live nodes are those of another program that speaks the same door, `python -m MODULE`; so
`--nodes reference_nodes.door` has all that the reference implementation is behind one door: library and nodes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import traceback
from typing import Any

from conformance.examples.python import codec, commits, drafts, identities, newcomers, numbers, replaying
from conformance.examples.python.answers import Refused
from conformance.examples.python.live import Nodes
from dsdproto.errors import PeerError

PARTS = (numbers, identities, newcomers, drafts, commits)
COMPUTE = {name: function for part in PARTS for name, function in part.FUNCTIONS.items()}
"""Functions of `compute`: each takes the request's input and gives the result."""


NODES = Nodes()


def describe(request: dict[str, Any]) -> dict[str, Any]:
    return {
        "door": 1,
        "name": "dsdproto example testee",
        "version": "0.1.0",
        "spec": 1,
        "roles": ["client", "leader", "drafter", "verifier", "voter"],
        "supports": ["decode", "encode", "replay", "start", *COMPUTE],
        "language": "Python",
    }


def compute(request: dict[str, Any]) -> dict[str, Any]:
    return COMPUTE[request["function"]](request["input"])


VERBS = {
    "describe": describe,
    "decode": codec.decode,
    "encode": codec.encode,
    "compute": compute,
    "replay": lambda request: replaying.replay(request["transcript"]),
    "start": NODES.start,
    "stop": NODES.stop,
    "reset": NODES.reset,
}


class Elsewhere:
    """Live nodes behind a door of their own."""

    VERBS = ("start", "stop", "reset")

    def __init__(self, module: str) -> None:
        command = [sys.executable, "-m", module]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Its answer, without the number. Raises EOFError where the program has ended."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise EOFError(f"the program of the live nodes ended with {self._process.wait()}")
        return {key: value for key, value in json.loads(line).items() if key != "id"}


def answer(request: dict[str, Any], elsewhere: Elsewhere | None = None) -> dict[str, Any]:
    """The answer to one request, without its number."""
    if elsewhere is not None and request["verb"] in Elsewhere.VERBS:
        return elsewhere.ask(request)
    verb = VERBS.get(request["verb"])
    if verb is None or (verb is compute and request["function"] not in COMPUTE):
        return {"unsupported": f"no {request['verb']} {request.get('function', '')}".rstrip()}
    try:
        return {"ok": verb(request)}
    except PeerError as error:
        layer = codec.layer_of(error) if request["verb"] == "decode" else "session"
        return {"error": {"layer": layer, "code": error.code.name, "clause": error.clause, "text": error.text}}
    except Refused as error:
        return {"error": {"layer": error.layer, "text": str(error)}}
    except Exception as error:
        traceback.print_exc()
        return {"error": {"layer": "internal", "text": f"{type(error).__name__}: {error}"}}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m conformance.examples.python", description=__doc__)
    parser.add_argument("--nodes", metavar="MODULE", help="whose live nodes to start (default: the example's own)")
    arguments = parser.parse_args()
    elsewhere = Elsewhere(arguments.nodes) if arguments.nodes else None
    for line in sys.stdin.buffer:
        request = json.loads(line)
        sys.stdout.write(json.dumps({"id": request["id"], **answer(request, elsewhere)}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
