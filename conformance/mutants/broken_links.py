"""Mutants of connections: TLS, the handshake, channels, errors, heartbeats (SPEC.md, 4, 6, 8). Played by a verifier."""

# ruff: noqa: E501 (pieces of source stand as they are)
from __future__ import annotations

from conformance.mutants.kinds import Mutant
from conformance.mutants.patching import Patch

CONNECTION = "dsdproto.connection"
CHANNELS = "dsdproto.channels"
TLS = "reference_nodes.tls"


def _link(name: str, breaks: str, clause: str, killers: tuple[str, ...], *patches: Patch, hopeless: bool = False) -> Mutant:
    full = tuple(killer if "/" in killer else f"verifier-link/{killer}" for killer in killers)
    return Mutant(name, breaks, clause, "verifier", full, patches, hopeless=hopeless)


MUTANTS = (
    _link("tls-without-certificate", "lets dialers in that show no certificate", "T-1", ("no-certificate",),
          Patch(TLS, "    context.verify_mode = ssl.CERT_REQUIRED\n", "    context.verify_mode = ssl.CERT_OPTIONAL\n"),
          Patch("reference_nodes.transport", "    try:\n        return tls.peer_node_id(stream)\n",
                "    if not stream.tls.getpeercert(binary_form=True):\n        return None\n    try:\n        return tls.peer_node_id(stream)\n")),
    _link("tls-any-date", "takes certificates that have expired or are not valid yet", "T-5",
          ("certificate-expired", "certificate-not-yet-valid"),
          Patch(TLS, "context.verify_flags |= ssl.VERIFY_X509_STRICT", "context.verify_flags |= ssl.VERIFY_X509_STRICT | 0x200000")),
    _link("tls-no-alert", "hangs up on dialers that it refuses, without an alert", "T-8",
          ("no-certificate", "certificate-expired"),
          Patch("reference_nodes.tls_stream", "                self._broken = True\n                with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):\n                    await self._push()\n                raise trio.BrokenResourceError from fault\n",
                "                self._broken = True\n                raise trio.BrokenResourceError from fault\n")),
    _link("tls-1-2-too", "takes TLS 1.2", "T-1", ("tls-1-2",),
          Patch(TLS, "context.minimum_version = ssl.TLSVersion.TLSv1_3", "context.minimum_version = ssl.TLSVersion.TLSv1_2")),
    _link("tls-tickets", "hands out session tickets", "T-7", ("no-tickets",),
          Patch(TLS, "    context.num_tickets = 0  # no resumption: each connection proves its key anew\n", "")),
    _link("tls-any-protocol", "greets dialers of any protocol", "T-2", ("no-protocol",),
          Patch(TLS, "        if chosen != alpn:\n", "        if False:\n")),
    _link("hello-any-node-id", "takes a HELLO with another node id than the certificate's", "C-5", ("other-node-id",),
          Patch(CONNECTION, "if self._peer_id is not None and peer.node_id != self._peer_id:", "if False:")),
    _link("hello-any-cluster", "takes a HELLO of another cluster", "C-5", ("other-cluster",),
          Patch(CONNECTION, "if peer.cluster != self._hello.cluster:", "if False:")),
    _link("hello-any-version", "takes a peer that does not speak its version", "C-7", ("version-too-new",),
          Patch("dsdproto.versions", "if version < max(mine.version_min, peer.version_min):", "if False:")),
    _link("hello-even-features", "ignores unknown even features", "R-1", ("features-even",),
          Patch("dsdproto.versions", "if feature % 2 == 0 and feature not in KNOWN_FEATURES:", "if False:")),
    _link("features-of-one-side", "takes its own features for the negotiated ones", "C-8", ("features-none",),
          Patch("dsdproto.versions", "if feature in theirs and feature not in GREASE_FEATURES)", "if feature not in GREASE_FEATURES)")),
    _link("ready-any-digest", "takes READY with any digest", "C-6", ("ready-of-another", "ready-with-grease"),
          Patch(CONNECTION, "if ready.negotiated != self._digest():", "if False:")),
    _link("ready-too-early", "says READY right behind its HELLO", "C-6", ("features-none", "verifier/greedy"),
          Patch(CONNECTION, "        if side is Side.ACCEPTOR:\n            self._send_hello()\n",
                "        if side is Side.ACCEPTOR:\n            self._send_hello()\n            self._emit(0, m.Ready(negotiated=bytes(32)))\n"),
          hopeless=True),
    _link("traffic-before-ready", "takes traffic before READY", "C-4", ("traffic-before-ready",),
          Patch(CONNECTION, "if not self.open and frame.type not in _HANDSHAKE_TYPES:", "if False:")),
    _link("hangs-up-on-everything", "hangs up at the first byte that it is sent", "E-3",
          ("verifier/greedy", "types-even", "version-too-new", "verifier/assign-model"),
          Patch(CONNECTION, "        if data:\n            self._heard = now\n", "        if data:\n            return self._down(\"enough\")\n"),
          hopeless=True),
    _link("hangs-up-on-faults", "hangs up without ERROR where it refuses a peer", "E-1", ("types-even", "key-even", "channel-parity"),
          Patch(CONNECTION, "        if self._me.state is not State.DONE:\n            self._emit(0, error.reply)\n", "")),
    _link("faults-end-the-link", "ends the connection for what is wrong with one session", "E-3",
          ("verifier/assign-model", "verifier/verify-other-digest"),
          Patch(CONNECTION, "if error.scope is Scope.SESSION and channel != 0:", "if False:")),
    _link("malformed-ends-the-link", "ends the connection for one malformed message of a session", "E-2",
          ("verifier/assign-prompt-empty", "verifier/verify-parent-wild"),
          Patch(CONNECTION, "narrowed = error.scope is Scope.SESSION or error.code is ErrorCode.MESSAGE_INVALID",
                "narrowed = error.scope is Scope.SESSION")),
    _link("garbage-ends-a-session", "ends no more than a session for bytes that are no CBOR", "E-2", ("verifier/verify-no-cbor",),
          Patch(CONNECTION, "narrowed = error.scope is Scope.SESSION or error.code is ErrorCode.MESSAGE_INVALID", "narrowed = True")),
    _link("error-answered", "answers ERROR with ERROR", "E-6", ("error-not-answered",),
          Patch(CONNECTION, "                events += self._down(f\"the peer reports {_describe(message)}\")\n",
                "                self._emit(0, m.Error(code=message.code, clause=\"\", text=\"\"))\n                events += self._down(\"\")\n")),
    _link("channels-of-any-parity", "lets the dialer open even channels", "CH-1", ("channel-parity",),
          Patch(CHANNELS, "if self.is_mine(number) != sender_is_me:", "if False:")),
    _link("channels-reused", "drops an opening message with a used number instead of refusing it", "CH-2", ("channel-again", "channel-lower"),
          Patch(CHANNELS, "if number <= highest:", "if False:")),
    _link("channels-never-opened", "ignores messages on channels that were never opened", "CH-4", ("channel-never-opened",),
          Patch(CONNECTION, "            message = decode_message(frame)\n            if message is None:\n",
                "            message = decode_message(frame)\n            if frame.channel and frame.channel not in self.channels.open and type(message) not in OPENING:\n                return\n            if message is None:\n")),
    _link("channels-of-any-plane", "ignores messages of another plane", "CH-6", ("channel-other-plane",),
          Patch(CONNECTION, "            self._judge(frame.channel, message, sender_is_me=False)\n",
                "            there = self.channels.open.get(frame.channel)\n"
                "            if there and SPECS[type(message)].plane not in (\"any\", there.plane.name) and type(message) not in OPENING:\n"
                "                return\n"
                "            self._judge(frame.channel, message, sender_is_me=False)\n")),
    _link("roles-undeclared", "takes opening messages from nodes without the role for them", "C-9", ("channel-undeclared-role",),
          Patch(CONNECTION, "            if role not in hello.roles:\n", "            if False:\n")),
    _link("pings-unanswered", "does not answer PING", "H-2", ("ping-pong",),
          Patch(CONNECTION, "                self._emit(0, m.Pong(sequence=message.sequence))\n", "")),
    _link("pongs-with-any-number", "answers PING with a sequence of its own", "H-2", ("ping-pong",),
          Patch(CONNECTION, "m.Pong(sequence=message.sequence)", "m.Pong(sequence=1)")),
    _link("silence-is-fine", "keeps connections on which nothing comes any more", "H-3", ("silence",),
          Patch(CONNECTION, "if silence >= SILENT_HEARTBEATS * self._heartbeat():", "if False:")),
    _link("never-pings", "sends no PING", "H-1", ("ping-after-interval",),
          Patch(CONNECTION, "            self._emit(0, m.Ping(sequence=self._ping))\n", "")),
    _link("floods-are-fine", "answers any number of PING", "C-11", ("flood-beyond",),
          Patch(CONNECTION, "if self._allowance < 1:", "if False:")),
    _link("stingy-with-frames", "ends a connection at the tenth frame that makes work for nothing", "C-11", ("flood-within",),
          Patch(CONNECTION, "ALLOWANCE = 128\n", "ALLOWANCE = 10\n")),
    _link("statuses-unasked", "ignores a STATUS that it did not ask for", "C-12", ("status-unasked",),
          Patch(CONNECTION, "                if not self._status_asked:\n", "                if False:\n")),
    _link("no-grease", "sends no grease", "R-10", ("sends-grease",),
          Patch(CONNECTION, "        self._out += encode_frame(*grease_frame(self._entropy))\n", "")),
    _link("trees-unagreed", "takes fields of features that were not negotiated", "C-10", ("verifier/verify-trees-unagreed",),
          Patch(CONNECTION, "if getattr(message, name) is not None and feature not in self._agreed().features:", "if False:")),
)  # fmt: skip
