"""Vectors of section 7: frames in a byte stream."""

from __future__ import annotations

from typing import Any

from conformance.static.vectors import Vector, vector
from conformance.static.wirebytes import frame

TOO_LONG, CUT = ("frame", "FRAME_TOO_LONG"), ("frame", "FRAME_MALFORMED")
PING = frame(0x06, 0, b"\xa1\x01\x07")


def ask(data: bytes, **more: Any) -> dict[str, Any]:
    return {"verb": "decode", "layer": "frame", "bytes": data.hex(), **more}


def shown(*frames: tuple[int, int, bytes], rest: int = 0) -> dict[str, Any]:
    return {"frames": [{"type": t, "channel": c, "payload": p.hex()} for t, c, p in frames], "rest": rest}


def make() -> list[Vector]:
    def v(name: str, title: str, clauses: str, request: dict[str, Any], **result: Any) -> Vector:
        return vector(f"frame/{name}", title, clauses, request, **result)

    ping = (0x06, 0, b"\xa1\x01\x07")
    extremes = {
        "one": ping,
        "empty-payload": (0x0E, 0, b""),
        "highest-channel": (0x24, 2**32 - 1, b"\xa0"),
        "highest-type": (0xFF, 1, b"\xa0"),
        "payload-is-not-looked-at": (0x02, 0, b"\xff\x00\xf6"),
        "length-256": (0x24, 2, b"\x00" * 256),
        "length-65536": (0x24, 2, b"\x00" * 65536),
    }
    out = [
        v(name, "a frame: " + name.replace("-", " "), "F-1", ask(frame(*parts)), ok=shown(parts))
        for name, parts in extremes.items()
    ]
    channels = [(0x24, channel, b"\xa0") for channel in (1, 255, 256, 65536, 2**24)]
    three = [(0x06, 0, b"\xa1\x01\x01"), (0x24, 3, b""), (0x36, 70000, b"\x01\x02\x03")]
    out += [
        v("none", "no bytes, no frames", "F-1 F-5", ask(b""), ok=shown()),
        v(
            "several",
            "frames follow each other with nothing between them",
            "F-1 F-4",
            ask(b"".join(frame(*f) for f in three)),
            ok=shown(*three),
        ),
        v(
            "channels",
            "the channel is four bytes in network byte order",
            "F-1",
            ask(b"".join(frame(*f) for f in channels)),
            ok=shown(*channels),
        ),
    ]
    for cut in range(1, len(PING)):
        part = PING[:cut]
        out.append(
            v(f"cut-{cut:02}", f"the stream ends {cut} bytes into a frame", "F-5", ask(part), error=CUT),
        )
        out.append(
            v(
                f"open-{cut:02}",
                f"{cut} bytes of a frame have come so far",
                "F-4",
                ask(part, end=False),
                ok=shown(rest=cut),
            )
        )
    limit = 65536
    over = frame(0x24, 2, b"", length=limit + 1)
    out += [
        v(
            "cut-after-a-whole-one",
            "a whole frame, then the stream ends within the next",
            "F-5",
            ask(PING + PING[:5]),
            error=CUT,
        ),
        v(
            "open-after-a-whole-one",
            "a whole frame and a part of the next",
            "F-4",
            ask(PING + PING[:5], end=False),
            ok=shown(ping, rest=5),
        ),
        v(
            "at-the-limit",
            "a payload of exactly the limit",
            "F-2",
            ask(frame(0x24, 2, b"\x00" * limit), max_payload=limit),
            ok=shown((0x24, 2, b"\x00" * limit)),
        ),
        v(
            "beyond-the-limit",
            "a payload of one byte more than the limit",
            "F-2",
            ask(frame(0x24, 2, b"\x00" * (limit + 1)), max_payload=limit),
            error=TOO_LONG,
        ),
        v(
            "judged-from-the-header",
            "a header that announces too much is refused before its payload has come",
            "F-2 F-3",
            ask(over, max_payload=limit, end=False),
            error=TOO_LONG,
        ),
        v(
            "judged-behind-good-frames",
            "good frames before it do not change that",
            "F-2 F-3",
            ask(PING + over, max_payload=limit, end=False),
            error=TOO_LONG,
        ),
        v(
            "header-not-yet-complete",
            "seven bytes of a header that announces too much: not judged yet",
            "F-3",
            ask(over[:7], max_payload=limit, end=False),
            ok=shown(rest=7),
        ),
        v(
            "default-limit",
            "without another limit a payload of 1048576 bytes is taken",
            "F-2",
            ask(frame(0x24, 2, b"\x00" * (1 << 20))),
            ok=shown((0x24, 2, b"\x00" * (1 << 20))),
        ),
        v(
            "beyond-the-default",
            "and one byte more is not",
            "F-2",
            ask(frame(0x24, 2, b"", length=(1 << 20) + 1), end=False),
            error=TOO_LONG,
        ),
        v(
            "longest",
            "with the highest limit a payload may have 2^24-1 bytes: the header alone says so",
            "F-2",
            ask(frame(0x24, 2, b"", length=(1 << 24) - 1), max_payload=(1 << 24) - 1, end=False),
            ok=shown(rest=8),
        ),
    ]
    return out
