"""A case of each transcript: rung 2."""

from __future__ import annotations

from conformance.case import Rung, case
from conformance.static import vectors
from conformance.static.cases import check_of
from conformance.transcripts import HERE, KIND

for name in vectors.files(HERE):
    for each in vectors.load(name, HERE, KIND):
        case(
            each["id"],
            each["title"],
            clauses=tuple(each["clauses"]),
            rung=Rung.TRANSCRIPT,
            revision=each["revision"],
            needs=("replay",),
        )(check_of(each))
