"""Writes the generated parts of SPEC.md anew, and the suite's copy of its clauses.

    python -m conformance.update_spec [SPEC.md] [--reworded CLAUSE ...]

CDDL, the session in hexadecimal and the known answers for identities stand in SPEC.md between markers; tests compare
them with the code. `clauses.json` is the other direction: the suite's copy of the clauses, and the record of what each
revision says. A clause whose text is not what the record has needs a decision: a new meaning gets a new revision in
SPEC.md (`**V-7r2**`), a mere change of words is said with ``--reworded V-7``. Ids that vanish are never used again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from conformance import example_identity, example_session
from conformance.clauses import Clause, read
from dsdproto.errors import LocalError
from dsdproto.registry import VERSION
from dsdproto.wire.cddl import cddl

CLAUSES = Path(__file__).with_name("clauses.json")
PARTS = {
    "cddl": lambda: f"```cddl\n{cddl()}```",
    "session": example_session.markdown,
    "identities": example_identity.markdown,
}


def updated(text: str) -> str:
    """``text`` with every generated part as the code has it now. Raises LocalError when a marker is missing."""
    for name, make in PARTS.items():
        pattern = re.compile(rf"(<!-- begin: {name} -->\n).*?(\n<!-- end: {name} -->)", re.S)
        if not pattern.search(text):
            raise LocalError(f"no markers 'begin: {name}' and 'end: {name}' in the text")
        part = make()
        text = pattern.sub(lambda match, part=part: match[1] + part + match[2], text)
    return text


class Undecided(LocalError):
    """Clauses changed, and nobody said whether they mean something else now."""


def document(clauses: Mapping[str, Clause], withdrawn: Sequence[str]) -> dict[str, Any]:
    """What `clauses.json` holds. ``digest`` names this state of the clauses in reports."""
    entries = [clause.to_json() for clause in clauses.values()]
    digest = hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()
    return {"protocol": VERSION, "digest": digest, "withdrawn": sorted(withdrawn), "clauses": entries}


def next_document(old: Mapping[str, Any], text: str, reworded: Collection[str] = ()) -> dict[str, Any]:
    """`clauses.json` for the SPEC.md ``text``, which follows on ``old``. Raises Undecided, and LocalError when an id
    that was withdrawn is used again or a revision goes back."""
    before = {entry["id"]: Clause.from_json(entry) for entry in old["clauses"]}
    now = read(text)
    reused = sorted(now.keys() & set(old["withdrawn"]))
    if reused:
        raise LocalError(f"withdrawn ids are never used again: {', '.join(reused)}")
    changed = []
    for name, clause in now.items():
        was = before.get(name, clause)
        if clause.revision < was.revision:
            raise LocalError(f"{name} had revision {was.revision} and now has {clause.revision}")
        same_words = (clause.text, clause.level) == (was.text, was.level)
        if clause.revision == was.revision and not same_words and name not in reworded:
            changed.append(name)
    if changed:
        raise Undecided(
            f"changed without a new revision: {', '.join(changed)}. If one means something else now, write its "
            f"revision (**{changed[0]}r{now[changed[0]].revision + 1}**); if only the words changed, "
            f"--reworded {changed[0]}"
        )
    return document(now, [*old["withdrawn"], *(before.keys() - now.keys())])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m conformance.update_spec", description="see the module's text")
    parser.add_argument("spec", nargs="?", type=Path, default=Path("SPEC.md"))
    parser.add_argument("--reworded", action="append", default=[], metavar="CLAUSE", help="its meaning is the same")
    options = parser.parse_args()
    text = updated(options.spec.read_text("utf-8"))
    try:
        content = next_document(json.loads(CLAUSES.read_text("utf-8")), text, options.reworded)
    except LocalError as error:
        print(f"{options.spec}: {error}", file=sys.stderr)
        return 1
    options.spec.write_text(text, "utf-8")
    CLAUSES.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
