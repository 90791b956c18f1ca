"""Mutants below the messages: CBOR, frames, fields (SPEC.md, 5 to 7). Asked over the exec door, but for the live ones."""

# ruff: noqa: E501 (pieces of source stand as they are)
from __future__ import annotations

from conformance.mutants.kinds import EXEC, Mutant
from conformance.mutants.patching import Patch

CBOR = "dsdproto.wire.cbor"
READER_DECIDES = Patch(
    CBOR,
    """    raise explain(payload) or PeerError(ErrorCode.CBOR_MALFORMED, "B-1", "the item could not be decoded")
""",
    """    fault = explain(payload)
    if fault is None:
        import io
        return cbor2.CBORDecoder(io.BytesIO(payload), str_errors="replace").decode()
    raise fault
""",
)
"""Otherwise a second decoder would catch what a broken reader lets through."""


def _cbor(name: str, breaks: str, clause: str, killers: tuple[str, ...], old: str, new: str) -> Mutant:
    return Mutant(name, breaks, clause, EXEC, killers, (READER_DECIDES, Patch(CBOR, old, new)))


MUTANTS = (
    _cbor("cbor-longer-integers", "takes integers in more bytes than they need", "B-4",
          ("cbor/uint-23-in-1", "cbor/map-key-in-1", "cbor/bytes-length-in-2"),
          "if value < (24, 1 << 8, 1 << 16, 1 << 32)[info - 24]:", "if False:"),
    _cbor("cbor-indefinite-lengths", "takes strings and containers of indefinite length", "B-4",
          ("cbor/indefinite-array", "cbor/indefinite-map-within"),
          """            raise _error(ErrorCode.CBOR_NOT_DETERMINISTIC, "B-4", "an indefinite length", at)
""",
          """            import io
            source = io.BytesIO(self.payload[at:])
            cbor2.CBORDecoder(source, read_size=1).decode()
            return BYTES, 0, at + source.tell()
"""),
    _cbor("cbor-duplicate-keys", "takes a key twice", "B-3", ("cbor/key-twice", "cbor/key-twice-other-value"),
          "if key <= last:", "if key < last:"),
    _cbor("cbor-unsorted-keys", "takes keys in any order", "B-3", ("cbor/keys-swapped", "cbor/keys-large-first"),
          "if key <= last:", "if key == last:"),
    _cbor("cbor-any-depth", "takes items nested deeper than four levels", "B-5",
          ("cbor/depth-5-maps", "cbor/depth-5-arrays"),
          """        if not depth:
            raise _error(""", """        if depth < -60:
            raise _error("""),
    _cbor("cbor-bytes-behind", "ignores bytes behind the item", "B-6", ("cbor/behind-zero", "cbor/behind-garbage"),
          "if end != len(payload):", "if False:"),
    _cbor("cbor-any-text", "replaces what is no UTF-8", "B-7", ("cbor/utf8-surrogate", "cbor/utf8-latin-1"),
          "if major == TEXT:", "if False:"),
    Mutant("cbor-negative-integers", "takes negative integers", "B-2", EXEC, ("cbor/forbidden-negative-1",),
           (READER_DECIDES, Patch(CBOR, "_FORBIDDEN = {NEGATIVE: \"a negative integer\", ", "_FORBIDDEN = {"),
            Patch(CBOR, "if major == UINT:", "if major in (UINT, NEGATIVE):"))),
    Mutant("cbor-floats", "takes floats, booleans and null", "B-2", EXEC,
           ("cbor/forbidden-double-float", "cbor/forbidden-null", "cbor/forbidden-true-within"),
           (READER_DECIDES, Patch(CBOR, ", SIMPLE: \"a float or simple value\"}", "}"),
            Patch(CBOR, "        if info < 24:\n",
                  "        if major == SIMPLE:\n            return UINT, 0, at + (1, 2, 3, 5, 9)[max(0, info - 23)]\n"
                  "        if info < 24:\n"))),
    Mutant("cbor-payload-no-map", "takes a payload that is no map for an empty one", "B-8", "verifier",
           ("verifier-link/cbor-no-map",),
           (Patch("dsdproto.wire.codec", "    if type(item) is not dict:\n", "    if type(item) is not dict:\n        return {}\n"),)),
    Mutant("cbor-lenient-on-the-wire", "takes longer integers on a connection", "B-4", "verifier",
           ("verifier-link/cbor-not-shortest",),
           (READER_DECIDES, Patch(CBOR, "if value < (24, 1 << 8, 1 << 16, 1 << 32)[info - 24]:", "if False:"))),
    Mutant("cbor-unread-where-ignored", "does not look at the payload of a frame that it ignores", "B-1", "verifier",
           ("verifier-link/cbor-tag", "verifier-link/cbor-item-cut-off"),
           (Patch("dsdproto.wire.codec", "        payload_item(frame)\n        return None\n", "        return None\n"),)),
    Mutant("frames-of-any-length", "takes frames beyond its max_payload", "F-2", "verifier",
           ("verifier-link/frame-too-long", "verifier-link/handshake-frame-too-long"),
           (Patch("dsdproto.wire.frames", "if length > self.max_payload:", "if False:"),)),
    Mutant("frames-long-in-the-handshake", "takes its full max_payload in the handshake already", "F-2", "verifier",
           ("verifier-link/handshake-frame-too-long",),
           (Patch("dsdproto.connection", "self._decoder = FrameDecoder(HANDSHAKE_MAX_PAYLOAD)",
                  "self._decoder = FrameDecoder(hello.limits.max_payload)"),)),
    Mutant("frames-judged-when-whole", "judges a frame's length when all of it is there", "F-3", "verifier",
           ("verifier-link/frame-too-long",),
           (Patch("dsdproto.wire.frames", "if length > self.max_payload:",
                  "if length > self.max_payload and start + FRAME_HEADER_BYTES + length <= len(buffer):"),)),
    Mutant("frames-one-at-a-time", "takes the first frame of what arrives and drops the rest", "F-4", "verifier",
           ("verifier-link/frames-in-pieces",),
           (Patch("dsdproto.wire.frames", "                self._start = end\n",
                  "                self._start = end if end == len(buffer) or buffer[end + 3 : end + 4] < b'\\x03' else len(buffer)\n"),),
           hopeless=True),
    Mutant("types-even-ignored", "ignores frames of unknown even types", "R-1", "verifier",
           ("verifier-link/types-even",),
           (Patch("dsdproto.wire.codec", "if frame.type % 2 == 0:", "if False:"),)),
    Mutant("types-odd-refused", "refuses frames of unknown odd types", "R-1", "verifier",
           ("verifier-link/types-odd", "verifier/greedy"),
           (Patch("dsdproto.wire.codec", "if frame.type % 2 == 0:", "if True:"),), hopeless=True),
    Mutant("keys-even-ignored", "ignores unknown even keys", "R-1", "verifier",
           ("verifier-link/key-even", "verifier-link/hello-even-key"),
           (Patch("dsdproto.wire.schema", "if key % 2 == 0:", "if False:"),)),
    Mutant("keys-odd-refused", "refuses unknown odd keys", "R-1", "verifier",
           ("verifier-link/keys-odd", "verifier/greedy"),
           (Patch("dsdproto.wire.schema", "if key % 2 == 0:", "if True:"),), hopeless=True),
    Mutant("contract-keys-ignored", "ignores unknown odd keys in a contract", "S-12", "verifier",
           ("verifier/assign-contract-odd-key", "verifier/assign-sampling-odd-key"),
           (Patch("dsdproto.wire.schema", "            if spec.closed:\n", "            if False:\n"),)),
    Mutant("integers-without-bounds", "takes integers beyond the bounds of their field", "R-5", "verifier",
           ("verifier/assign-top-p-zero", "verifier-link/field-bounds"),
           (Patch("dsdproto.wire.kinds", "        raise bounds_fault(f\"{item} is outside {self.min}..{self.max}\")",
                  "        return item"),)),
    Mutant("lists-in-any-order", "takes roles, features and stop tokens in any order", "R-6", "verifier",
           ("verifier/assign-stop-descends", "verifier-link/hello-roles-descend"),
           (Patch("dsdproto.wire.checks", "if after <= before:", "if False:"),)),
    Mutant("parents-unchecked", "takes a node whose parent comes behind it", "R-8", "verifier",
           ("verifier/verify-parent-wild", "verifier/verify-parent-cycle"),
           (Patch("dsdproto.wire.checks", "if parent > index:", "if False:"),)),
)  # fmt: skip
