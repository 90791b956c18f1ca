"""The loop: one request a line, one answer a line."""

from __future__ import annotations

import json
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


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """The answer to one request, without its number."""
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
    for line in sys.stdin.buffer:
        request = json.loads(line)
        sys.stdout.write(json.dumps({"id": request["id"], **answer(request)}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
