"""Writes the generated parts of SPEC.md anew: ``python -m conformance.update_spec [SPEC.md]``.

CDDL, the session in hexadecimal and the known answers for identities stand in SPEC.md between markers; tests compare
them with the code. After a change on the wire this brings them up to date.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from conformance import example_identity, example_session
from dsdproto.errors import LocalError
from dsdproto.wire.cddl import cddl

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


def main() -> int:
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "SPEC.md")
    path.write_text(updated(path.read_text("utf-8")), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
