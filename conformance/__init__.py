"""The conformance suite: what a peer in any language is tested with. Imports nothing but `dsdproto`."""
