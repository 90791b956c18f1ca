"""Nodes that are broken on purpose, and odd ones that are not: with them the suite proves itself.

A *mutant* is a reference implementation of which one piece of source is changed as it is imported
(:mod:`.patching`), so that it breaks one clause; it names the cases that have to fail for it. An *odd* node is unusual
but within the rules and has to pass. :mod:`.table` lists them all, ``python -m conformance.mutants NAME`` runs one,
``dsdp-conformance selftest`` runs them all against the suite.
"""
