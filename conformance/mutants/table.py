"""All mutants and all odd nodes, by name."""

from __future__ import annotations

from conformance.mutants import (
    broken_bytes,
    broken_histories,
    broken_leaders,
    broken_links,
    broken_numbers,
    broken_readers,
    broken_workers,
)
from conformance.mutants.kinds import Mutant, Odd
from conformance.mutants.odd_nodes import ODD as ALL_ODD

PARTS = (broken_bytes, broken_numbers, broken_readers, broken_links, broken_workers, broken_leaders, broken_histories)
MUTANTS: dict[str, Mutant] = {mutant.name: mutant for part in PARTS for mutant in part.MUTANTS}
ODD: dict[str, Odd] = {odd.name: odd for odd in ALL_ODD}
