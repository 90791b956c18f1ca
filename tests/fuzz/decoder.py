"""Fuzz target of the decoder: bytes -> frames -> CBOR -> messages -> connection.

With atheris installed (``pip install atheris``), from the repository's root::

    python -m tests.fuzz.decoder -max_total_time=600 tests/fuzz/corpus

Without it, the tests put every file of the corpus through :func:`check`. ``python -m tests.fuzz.decoder
--make-corpus`` writes the corpus anew from the message table.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

FUZZING = __name__ == "__main__" and importlib.util.find_spec("atheris") is not None
if FUZZING:
    import atheris

with atheris.instrument_imports(include=["dsdproto"]) if FUZZING else contextlib.nullcontext():
    from wire_samples import HELLO, hello, sample

    from dsdproto.connection import Connection, Side
    from dsdproto.effects import LinkDown, LinkUp, Received
    from dsdproto.errors import PeerError
    from dsdproto.wire import cbor
    from dsdproto.wire.codec import decode_message, encode_message, encode_payload
    from dsdproto.wire.frames import FrameDecoder, encode_frame
    from dsdproto.wire.schema import MESSAGES, SPECS

CORPUS = Path(__file__).parent / "corpus"


def check(data: bytes) -> None:
    """Raises AssertionError, or whatever escapes, when the decoder breaks one of its promises."""
    _check_frames(data)
    _check_item(data)
    _check_connection(data)


def _check_frames(data: bytes) -> None:
    decoder = FrameDecoder(1 << 16)
    try:
        for frame in decoder.feed(data):
            try:
                message = decode_message(frame)
            except PeerError as error:
                encode_payload(error.reply)
                continue
            if message is not None:
                # Unknown odd keys were dropped, so the bytes may differ; the message does not.
                again = encode_message(frame.channel, message)
                (frame,) = FrameDecoder(1 << 16).feed(again)
                assert decode_message(frame) == message
    except PeerError as error:
        assert error.clause == "F-2"


def _check_item(data: bytes) -> None:
    """The compiled decoder and the plain reader agree on what is strict CBOR."""
    try:
        item = cbor.decode(data)
    except PeerError as error:
        assert cbor.explain(data) is not None, error
    else:
        assert cbor.explain(data) is None
        assert cbor.encode(item) == data


def _check_connection(data: bytes) -> None:
    """Events only, whatever comes, and the same events when it comes one byte at a time."""
    outcomes = []
    for step in (len(data) or 1, 1):
        connection = Connection(Side.ACCEPTOR, HELLO, None, bytes(16), 0.0)
        events = []
        for at in range(0, len(data), step):
            events += connection.receive(data[at : at + step], 0.0)
        assert all(isinstance(event, (LinkUp, LinkDown, Received)) for event in events)
        assert sum(isinstance(event, LinkDown) for event in events) == connection.closed
        outcomes.append((events, connection.data_to_send()))
    assert outcomes[0] == outcomes[1]


def make_corpus() -> dict[str, bytes]:
    """One small valid frame and one with all fields for every message, and the ways in which each may be wrong."""
    files = {}
    for cls in MESSAGES.values():
        for full in (False, True):
            name = f"{cls.__name__.lower()}-{'full' if full else 'least'}"
            channel = 0 if SPECS[cls].plane in ("connection", "join") else 1
            frame = encode_message(channel, sample(cls, full=full))
            files[name] = frame
        files[f"{cls.__name__.lower()}-cut"] = frame[: len(frame) * 2 // 3]
    heads = "9bffffffffffffffff bb0000000010000000 c249010000000000000000 a202000100 8181818180 d81c80"
    for head in heads.split():
        files[f"cbor-{head}"] = bytes.fromhex(head)
        files[f"framed-{head}"] = encode_frame(0xE1, 0, bytes.fromhex(head))
    dialer = Connection(Side.DIALER, HELLO, None, bytes(range(16)), 0.0)
    acceptor = Connection(Side.ACCEPTOR, hello(node_id=b"o" * 32), None, bytes(16), 0.0)
    dialer.receive(acceptor.data_to_send(), 0.0)
    files["dialer-handshake"] = dialer.data_to_send() + encode_frame(0xE3, 0, b"\xa0")
    return files


def main() -> None:
    if sys.argv[1:] == ["--make-corpus"]:
        CORPUS.mkdir(exist_ok=True)
        for name, data in make_corpus().items():
            (CORPUS / f"{name}-{hashlib.sha256(data).hexdigest()[:8]}").write_bytes(data)
        return
    if not FUZZING:
        sys.exit("No fuzzer here: `pip install atheris`, or run the corpus with `pytest tests/test_cbor.py`.")
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
