"""DSDP, the sans-IO core: codec, identities, digests, sampling, the draft trie and one state machine per role.

Nothing in here opens a socket, reads a clock, starts a thread or draws a random number. Bytes, time and entropy come in
as arguments; what should happen leaves as effects (:mod:`dsdproto.effects`). Data runs one way:

``bytes -> frame -> CBOR item -> message (typed, validated) -> role machine -> effects -> actor -> node``
"""
