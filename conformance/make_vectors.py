"""Writes the test vectors of `conformance/vectors`: python -m conformance.make_vectors [--check]

--check writes nothing and fails if a file would change. Arithmetic comes from `conformance.reference`, bytes from
`conformance.static.wirebytes`, tables of messages from SPEC.md: nothing here leans on `dsdproto`.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable

from conformance.static import (
    make_cbor,
    make_commit,
    make_drafts,
    make_frames,
    make_identity,
    make_joining,
    make_messages,
    make_rules,
    make_sampling,
    make_testmodel,
    make_trie,
    make_verify,
    make_voter,
)
from conformance.static.vectors import VECTORS, Vector, document

MAKERS: dict[str, Callable[[], list[Vector]]] = {
    "cbor": make_cbor.make,
    "frames": make_frames.make,
    "messages": make_messages.make,
    "rules": make_rules.make,
    "philox": make_sampling.philox,
    "prefix": make_sampling.prefix,
    "fixed": make_sampling.fixed,
    "coupled": make_sampling.coupled,
    "testmodel": make_testmodel.testmodel,
    "identity": make_identity.make,
    "joining": make_joining.make,
    "negotiation": make_identity.negotiation,
    "verify": make_verify.make,
    "drafts": make_drafts.make,
    "trie": make_trie.make,
    "commit": make_commit.make,
    "voter": make_voter.make,
}
"""What each file holds."""


def main() -> int:
    check = "--check" in sys.argv[1:]
    changed = []
    ids: Counter[str] = Counter()
    for name, make in MAKERS.items():
        path = VECTORS / f"{name}.json"
        vectors = make()
        ids.update(each["id"] for each in vectors)
        text = document(name, vectors)
        if not path.exists() or path.read_text() != text:
            changed.append(path.name)
            if not check:
                path.write_text(text)
        print(f"{len(vectors):5}  {name}")
    twice = [name for name, count in ids.items() if count > 1]
    if twice:
        raise SystemExit(f"ids in use twice: {twice}")
    print(f"{ids.total()} vectors; files that {'differ' if check else 'were written'}: {', '.join(changed) or 'none'}")
    return 1 if check and changed else 0


if __name__ == "__main__":
    raise SystemExit(main())
