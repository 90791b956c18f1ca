"""Nodes that look wrong at first sight and are not: a suite that fails one of them asks for more than SPEC.md does."""

# ruff: noqa: E501 (pieces of source stand as they are)
from __future__ import annotations

from conformance.mutants.kinds import CHAOS, Odd
from conformance.mutants.patching import Patch

CONNECTION = "dsdproto.connection"
ASSEMBLY = "reference_nodes.assembly"
DRAFTER = "dsdproto.roles.drafter"
DRAFT_TREE = "dsdproto.roles.draft_tree"
NO_FEATURES = Patch(ASSEMBLY, "features=tuple(sorted(int(feature) for feature in Feature)),", "features=(),")
BYTE_BY_BYTE = Patch(
    "reference_nodes.tls_stream",
    "            rest = rest[self._call(self.tls.write, rest) :]\n",
    "            rest = rest[self._call(self.tls.write, rest[: 1 if len(rest) < 600 else 512]) :]\n",
)
ONE_BY_ONE = Patch(
    DRAFT_TREE,
    "            top = group_of.get(id(parent), id(parent))\n",
    "            top = id(parent)\n",
)
FEWER_CHANNELS = Patch(ASSEMBLY, "MAX_CHANNELS = 4096\n", "MAX_CHANNELS = 64\n")
LEAST_PAYLOAD = Patch(ASSEMBLY, "max_payload=MAX_PAYLOAD,", "max_payload=1 << 16,")

ODD = (
    Odd("verifier-slow", "takes its time for every answer", ("V-7", "H-4"), "verifier",
        (Patch("reference_nodes.executors", '        """Never raises for what one item asks for; see :class:`VerifyDone`."""\n',
               "        time.sleep(0.01)\n"),)),
    Odd("verifier-byte-by-byte", "puts every byte into a TLS record of its own", ("F-4",), "verifier", (BYTE_BY_BYTE,)),
    Odd("verifier-private", "uses features, keys and message types of the private ranges besides", ("R-2", "R-1"), "verifier",
        (Patch(CONNECTION, "        self._out += encode_frame(*grease_frame(self._entropy))\n",
               "        self._out += encode_frame(*grease_frame(self._entropy))\n"
               "        for n in range(12):\n            self._out += encode_frame(0xC1 + 2 * n, n, b\"\\xa1\\x01\\x83\\x01\\xa0\\x40\")\n"),
         Patch("dsdproto.grease", "features=tuple(sorted({*hello.features, feature})))", "features=tuple(sorted({*hello.features, feature, 0xC001, 0xC0FF})))"),
         Patch("dsdproto.grease", "extra={key: noise[3 : 3 + noise[2] % 16]})", "extra={key: noise[3 : 3 + noise[2] % 16], 65: {2: 'mine'}, 99: [b'x']})"))),
    Odd("verifier-terse", "gives neither the type nor the offset of what it refuses", ("E-1",), "verifier",
        (Patch("dsdproto.errors", "code=int(self.code), clause=self.clause, text=text, message_type=self.message_type, offset=self.offset",
               "code=int(self.code), clause=self.clause, text=text"),)),
    Odd("verifier-small", "has small limits: 65536 bytes, 64 channels, 5 nodes a tree", ("F-2", "CH-5", "V-5"), "verifier",
        (FEWER_CHANNELS, LEAST_PAYLOAD, Patch(ASSEMBLY, "max_nodes=min(config.max_nodes, rows - 1), max_rows=rows)", "max_nodes=5, max_rows=6)"))),
    Odd("verifier-plain", "offers no optional feature", ("C-8",), "verifier", (NO_FEATURES,)),
    Odd("drafter-plain", "offers no optional feature", ("C-8", "D-15"), "drafter", (NO_FEATURES,)),
    Odd("drafter-other-order", "sends a message for each node with children, its second choice first", ("D-3", "D-10"), "drafter",
        (ONE_BY_ONE, Patch(DRAFT_TREE, "groups.setdefault(top, (parent, []))[1].append(node)", "groups.setdefault(top, (parent, []))[1].insert(0, node)"))),
    Odd("drafter-by-its-own-rule", "drafts what it likes, not by the coupled rule", ("D-11",), "drafter",
        (Patch("reference_nodes.executors", '        """Never raises for what one item asks for; see :class:`DraftDone`."""\n',
               "        import dataclasses\n        work = dataclasses.replace(work, expand=tuple(dataclasses.replace(item, sampling=dataclasses.replace(item.sampling, seed=1)) for item in work.expand))\n"),)),
    Odd("drafter-silent", "takes every session and drafts nothing", ("D-11",), "drafter",
        (Patch(DRAFTER, "        if not waiting:\n            return\n", "        return\n"),)),
    Odd("leader-plain", "offers no optional feature", ("C-8", "V-5", "D-15"), "leader", (NO_FEATURES,)),
    Odd("leader-small", "keeps few drafts, asks for few, and verifies few at a time", ("TRIE-5", "D-6"), "leader",
        (Patch("dsdproto.roles.leader", "    credit: int = 48\n", "    credit: int = 6\n"),
         Patch("dsdproto.roles.leader", "    window: int = 8\n", "    window: int = 1\n"),
         Patch("dsdproto.roles.leader", "    trie_nodes: int = 256\n", "    trie_nodes: int = 24\n"),
         Patch("dsdproto.roles.leader", "    max_ahead: int = 64\n", "    max_ahead: int = 12\n"))),
    Odd("leader-byte-by-byte", "puts every byte into a TLS record of its own", ("F-4",), "leader", (BYTE_BY_BYTE,)),
    Odd("leader-gathers", "has several rounds voted on together, and waits long for them", ("Q-36",), "leader",
        (Patch("dsdproto.roles.leader", "    gather_for: float = 0.1\n", "    gather_for: float = 0.6\n"),), ("voter",)),
    Odd("voter-slow", "takes its time to store what it says", ("Q-20",), "voter",
        (Patch("dsdproto.roles.voter", "    suspect_after: float = 0.3\n", "    suspect_after: float = 0.6\n"),), ("leader",)),
    Odd("client-plain", "offers no optional feature", ("C-8", "S-18"), "client", (NO_FEATURES,)),
    Odd("client-byte-by-byte", "puts every byte into a TLS record of its own", ("F-4",), "client", (BYTE_BY_BYTE,)),
    Odd("chaos-reconnects", "its verifiers and drafters end their links in good order every two seconds, whatever goes on, and dial again", ("C-13", "L-4", "L-6"), CHAOS,
        (Patch("reference_nodes.peers", '        """Called by a link once the machines know of it."""\n',
               "        async def leave():\n            await trio.sleep(2.0)\n            link.close('tired of it')\n\n"
               "        if link.dialer and (Role.VERIFIER in self.roles or Role.DRAFTER in self.roles):\n            self._nursery.start_soon(leave)\n"),),
        cases=("chaos/rough-roads", "chaos/drafters-come-and-go", "chaos/verifier-killed", "chaos/two-leaders", "chaos/leader-killed")),
)  # fmt: skip
