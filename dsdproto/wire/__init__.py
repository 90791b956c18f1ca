"""Bytes to messages and back: frames, deterministic CBOR, the message table."""
