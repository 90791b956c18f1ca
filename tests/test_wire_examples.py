"""The worked bytes in the text of the specification, against the code."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from dsdproto.errors import PeerError
from dsdproto.registry import MessageType
from dsdproto.wire import cbor
from dsdproto.wire.codec import decode_message, encode_message, payload_item
from dsdproto.wire.frames import Frame, FrameDecoder

ROOT = Path(__file__).resolve().parents[1]
TEXTS = [path for path in (ROOT / "SPEC.md", ROOT / "docs/spec/wire.md") if path.exists()]


def blocks(name: str) -> list[str]:
    texts = [path.read_text() for path in TEXTS]
    return [match[1] for text in texts for match in re.finditer(rf"<!-- {name} -->\n```\n(.*?)```", text, re.S)]


def item_of(notation: str) -> dict:
    """A map in the diagnostic notation of the examples: integers, texts and h'..', over one line or more."""
    return ast.literal_eval(re.sub(r"h'([0-9a-f]*)'", lambda m: repr(bytes.fromhex(m[1])), notation))


def test_frames_in_the_text() -> None:
    examples = [
        match.groups()
        for block in blocks("frames")
        for match in re.finditer(r"^([0-9a-f\n]+)\n    ([A-Z_]+) on (\d+): (\{[^}]*\})$", block, re.M)
    ]
    assert len(examples) >= 9
    for data, name, channel, notation in examples:
        raw = bytes.fromhex(data)
        (frame,) = FrameDecoder().feed(raw)
        assert (frame.type, frame.channel) == (MessageType[name], int(channel))
        assert cbor.decode(frame.payload) == item_of(notation)
        assert encode_message(frame.channel, decode_message(frame)) == raw


def test_refused_payloads_in_the_text() -> None:
    rows = [
        (payload, clause, int(at))
        for path in TEXTS
        for payload, clause, at in re.findall(r"^\| `([0-9a-f]+)` \| (B-\d): [^|]*\| (\d+) \|$", path.read_text(), re.M)
    ]
    assert len(rows) >= 7
    for payload, clause, at in rows:
        with pytest.raises(PeerError) as caught:
            payload_item(Frame(0xE1, 0, bytes.fromhex(payload)))
        assert (caught.value.clause, caught.value.offset) == (clause, at)
