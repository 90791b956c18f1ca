"""Vectors of sections 12 and 14: what a verifier answers and refuses, what a leader refuses, what a drafter refuses."""

from __future__ import annotations

from typing import Any

from conformance.static.sessions import CLOSED, LENGTH, STOP, Terms, V
from conformance.static.vectors import Vector, compute, numbers, vector

TERMS = Terms()
SAID = TERMS.alone(12)
OFF = [(token + 1) % V or 7 for token in SAID]
"""At each place a token that the target does not say there."""
CONTEXT = 4096
PROPOSAL, VERDICT, ADVANCE = (("session", name) for name in ("PROPOSAL_INVALID", "VERDICT_INVALID", "ADVANCE_INVALID"))


def trees() -> dict[str, tuple[Terms, list[int], list[int], list[int] | None, int]]:
    """name -> terms, stream so far, tokens, parents (None: a chain), max_context."""
    s, o = SAID, OFF
    greedy = Terms(temperature=0)
    g = greedy.alone(8)
    ends = Terms(end_q16=65536, temperature=0)
    short = Terms(max_tokens=3)
    stop = Terms(stop=sorted({s[2]}))
    twice = Terms(stop=sorted({s[0]}))
    return {
        "no-drafts": (TERMS, [], [], None, CONTEXT),
        "no-drafts-later": (TERMS, s[:5], [], None, CONTEXT),
        "chain-all-right": (TERMS, [], s[:4], None, CONTEXT),
        "chain-first-wrong": (TERMS, [], [o[0], s[1], s[2]], None, CONTEXT),
        "chain-last-wrong": (TERMS, [], [s[0], s[1], o[2]], None, CONTEXT),
        "wrong-then-right": (TERMS, [], [s[0], o[1], s[2]], None, CONTEXT),
        "second-sibling": (TERMS, [], [o[0], s[0], s[1]], [0, 0, 2], CONTEXT),
        "deep-branch": (TERMS, [], [s[0], o[1], s[1], o[2], s[2], s[3]], [0, 1, 1, 3, 3, 5], CONTEXT),
        "right-token-below-the-wrong-node": (TERMS, [], [o[0], s[0], s[1]], [0, 0, 1], CONTEXT),
        "interleaved-branches": (TERMS, [], [s[0], o[0], s[1], s[1], s[2]], [0, 0, 2, 1, 4], CONTEXT),
        "breadth-first-last-child": (TERMS, [], [o[0], s[0], o[1], o[2], s[1]], [0, 0, 2, 2, 2], CONTEXT),
        "in-the-middle-of-a-stream": (TERMS, s[:6], s[6:9], None, CONTEXT),
        "greedy-chain": (greedy, [], g[:5], None, CONTEXT),
        "greedy-wrong": (greedy, g[:2], [g[2], (g[3] + 1) % V], None, CONTEXT),
        "ends-by-length-on-a-draft": (short, [], s[:3], None, CONTEXT),
        "ends-by-length-with-its-own": (short, [], s[:2], None, CONTEXT),
        "goes-not-beyond-the-length": (short, s[:1], s[1:5], None, CONTEXT),
        "one-token-left": (short, s[:2], s[2:4], None, CONTEXT),
        "ends-by-stop-token-on-a-draft": (stop, [], s[:5], None, CONTEXT),
        "ends-by-stop-token-of-its-own": (stop, [], s[:2], None, CONTEXT),
        "stop-token-at-once": (twice, [], s[:3], None, CONTEXT),
        "stop-before-length": (Terms(max_tokens=3, stop=[s[2]]), [], s[:3], None, CONTEXT),
        "ends-by-context-on-a-draft": (TERMS, [], s[:4], None, 7),
        "ends-by-context-of-its-own": (TERMS, [], s[:3], None, 7),
        "length-before-context": (short, [], s[:3], None, 6),
        "end-of-stream-token": (ends, [], [0], None, CONTEXT),
        "end-of-stream-is-no-stop-token": (Terms(end_q16=65536, temperature=0, stop=[]), [], [0, 0], None, CONTEXT),
        "stop-token-in-the-prompt": (Terms(prompt=[5, 0], stop=[0]), [], [], None, CONTEXT),
        "top-k": (Terms(top_k=1), [], Terms(top_k=1).alone(3), None, CONTEXT),
        "top-p": (Terms(top_p=30000), [], Terms(top_p=30000).alone(3), None, CONTEXT),
        "another-seed": (Terms(seed=2**64 - 1), [], Terms(seed=2**64 - 1).alone(2), None, CONTEXT),
        "hot": (Terms(temperature=2**20), [], Terms(temperature=2**20).alone(6), None, CONTEXT),
    }


def verdicts() -> list[Vector]:
    out = []
    for name, (terms, stream, tokens, parents, context) in trees().items():
        order = list(range(len(tokens))) if parents is None else parents
        said = {"round": 3, **terms.walk(stream, tokens, order, context)}
        verify = terms.verify(stream, tokens, parents, 3)
        given = {"contract": terms.json, "committed": stream, "max_context": context, "verify": verify}
        title = f"the verdict on a tree of {len(tokens)}: {name.replace('-', ' ')}"
        clauses = "V-10 S-SAMP-12 S-9 S-PFX-4"
        out.append(
            vector(f"verdict/{name}", title, clauses, compute("verdict", **given), ok={"verdict": numbers(said)})
        )
        # And a leader takes what a verifier rightly says.
        path = path_to(said["accepted"], order)
        taken = [tokens[number - 1] for number in path] + ([said["token"]] if "token" in said else [])
        answer = {"path": path, "tokens": taken}
        request = compute("check_verdict", **given, verdict=numbers(said))
        out.append(vector(f"verdict/taken-{name}", f"a leader takes {title}", "V-6", request, ok=answer))
    return out


def path_to(node: int, parents: list[int]) -> list[int]:
    path: list[int] = []
    while node:
        path.insert(0, node)
        node = parents[node - 1]
    return path


def refused_verdicts() -> list[Vector]:
    s, o = SAID, OFF
    short = Terms(max_tokens=3)
    stop = Terms(stop=[s[1]])
    chain = s[:4]

    def said(terms: Terms, path: list[int], **fields: Any) -> dict[str, Any]:
        out = {"round": 3, "digest": terms.short(path), "margin": 9, **fields}
        return {key: value for key, value in out.items() if value is not None}

    cases: dict[str, tuple[str, Terms, list[int], list[int] | None, dict[str, Any]]] = {
        "another-round": ("V-2", TERMS, chain, None, said(TERMS, s[:5], accepted=4, token=s[4], round=2)),
        "a-later-round": ("V-2", TERMS, chain, None, said(TERMS, s[:5], accepted=4, token=s[4], round=4)),
        "node-beyond-the-tree": ("V-6", TERMS, chain, None, said(TERMS, s[:5], accepted=5, token=s[4])),
        "node-of-an-empty-tree": ("V-6", TERMS, [], None, said(TERMS, s[:1], accepted=1, token=s[0])),
        "no-token-at-all": ("V-6", TERMS, chain, None, said(TERMS, [], accepted=0, finish=LENGTH)),
        "no-own-token-in-the-middle": ("V-6", TERMS, chain, None, said(TERMS, s[:2], accepted=2, finish=LENGTH)),
        "digest-of-the-path-alone": ("V-6", TERMS, chain, None, said(TERMS, s[:4], accepted=4, token=s[4])),
        "digest-of-the-base": ("V-6", TERMS, chain, None, said(TERMS, [], accepted=4, token=s[4])),
        "digest-of-another-token": ("V-6", TERMS, chain, None, said(TERMS, [*s[:4], o[4]], accepted=4, token=s[4])),
        "digest-of-another-branch": (
            "V-6",
            TERMS,
            [s[0], o[1], s[1]],
            [0, 1, 1],
            said(TERMS, s[:3], accepted=2, token=s[2]),
        ),
        "token-outside-the-vocabulary": ("V-6", TERMS, chain, None, said(TERMS, [*s[:4], V], accepted=4, token=V)),
        "token-far-outside": ("V-6", TERMS, [], None, said(TERMS, [2**24 - 1], accepted=0, token=2**24 - 1)),
        "beyond-the-length": ("V-6", short, chain, None, said(short, s[:4], accepted=4, finish=LENGTH)),
        "own-token-beyond-the-length": (
            "V-6",
            short,
            s[:3],
            None,
            said(short, s[:4], accepted=3, token=s[3], finish=LENGTH),
        ),
        "beyond-a-stop-token": ("V-6", stop, chain, None, said(stop, s[:3], accepted=2, token=s[2])),
        "beyond-a-stop-token-on-drafts": ("V-6", stop, chain, None, said(stop, s[:5], accepted=4, token=s[4])),
        "finish-missing-at-the-length": ("V-6", short, s[:2], None, said(short, s[:3], accepted=2, token=s[2])),
        "finish-missing-at-a-stop-token": ("V-6", stop, chain, None, said(stop, s[:2], accepted=1, token=s[1])),
        "finish-too-early": ("V-6", short, s[:1], None, said(short, s[:2], accepted=1, token=s[1], finish=LENGTH)),
        "wrong-finish-at-the-length": (
            "V-6",
            short,
            s[:2],
            None,
            said(short, s[:3], accepted=2, token=s[2], finish=STOP),
        ),
        "wrong-finish-at-a-stop-token": (
            "V-6",
            stop,
            chain,
            None,
            said(stop, s[:2], accepted=1, token=s[1], finish=LENGTH),
        ),
        "closed-is-not-the-verifiers-to-say": (
            "V-6",
            TERMS,
            chain,
            None,
            said(TERMS, s[:5], accepted=4, token=s[4], finish=CLOSED),
        ),
        "unknown-finish": ("V-6", TERMS, chain, None, said(TERMS, s[:5], accepted=4, token=s[4], finish=9)),
    }
    out = []
    for name, (clause, terms, tokens, parents, verdict) in cases.items():
        given = {
            "contract": terms.json,
            "committed": [],
            "max_context": CONTEXT,
            "verify": terms.verify([], tokens, parents, 3),
        }
        request = compute("check_verdict", **given, verdict=numbers(verdict))
        out.append(
            vector(
                f"verdict/refused-{name}", f"a leader refuses: {name.replace('-', ' ')}", clause, request, error=VERDICT
            )
        )
    return out


def requests() -> list[Vector]:
    """What a verifier takes and refuses."""
    s, o = SAID, OFF
    invalid, unknown = ("session", "MESSAGE_INVALID"), ("session", "PREFIX_UNKNOWN")
    base = TERMS.verify([], s[:3], None, 2)
    other = Terms(seed=43)
    cases: dict[str, tuple[str, Any, dict[str, Any], tuple[str, str] | None]] = {
        "chain": ("V-4 V-5", base, {}, None),
        "empty": ("V-5", TERMS.verify([], [], None, 2), {}, None),
        "tree": ("V-5", TERMS.verify([], [s[0], o[0], s[1]], [0, 0, 1], 2), {}, None),
        "same-token-below-different-nodes": ("V-5", TERMS.verify([], [7, 8, 9, 9], [0, 0, 1, 2], 2), {}, None),
        "as-many-nodes-as-allowed": ("V-5", base, {"max_nodes": 3}, None),
        "up-to-the-end-of-the-context": ("V-5", base, {"max_context": 6}, None),
        "round-behind": ("V-2", {**base, "round": 1}, {}, invalid),
        "round-ahead": ("V-2", {**base, "round": 3}, {}, invalid),
        "round-zero": ("V-2", {**base, "round": 0}, {}, invalid),
        "position-behind": ("V-4 S-PFX-3", {**base, "position": 2}, {}, unknown),
        "position-ahead": ("V-4 S-PFX-3", {**base, "position": 4}, {}, unknown),
        "digest-of-a-later-prefix": ("V-4", {**base, "base": TERMS.short(s[:1]).hex()}, {}, unknown),
        "digest-of-another-contract": ("V-4 S-2", {**base, "base": other.short([]).hex()}, {}, unknown),
        "later-prefix-as-a-whole": ("V-4", TERMS.verify(s[:1], s[1:3], None, 2), {}, unknown),
        "one-node-too-many": ("V-5", base, {"max_nodes": 2}, PROPOSAL),
        "nodes-where-none-are-allowed": ("V-5", TERMS.verify([], s[:1], None, 2), {"max_nodes": 0}, PROPOSAL),
        "beyond-the-context": ("V-5", base, {"max_context": 5}, PROPOSAL),
        "one-branch-beyond-the-context": (
            "V-5",
            TERMS.verify([], [7, 8, 9, 10], [0, 0, 2, 3], 2),
            {"max_context": 5},
            PROPOSAL,
        ),
        "token-outside-the-vocabulary": ("V-5", TERMS.verify([], [7, V], None, 2), {}, PROPOSAL),
        "same-token-twice": ("V-5 D-3", TERMS.verify([], [7, 7], [0, 0], 2), {}, PROPOSAL),
        "same-token-twice-deep": ("V-5 D-3", TERMS.verify([], [7, 8, 9, 8], [0, 1, 1, 1], 2), {}, PROPOSAL),
        "parents-without-the-feature": ("C-10 V-5", TERMS.verify([], [7, 8], [0, 0], 2), {"features": []}, invalid),
        "chain-without-the-feature": ("C-10", base, {"features": []}, None),
    }
    out = []
    for name, (clauses, verify, more, error) in cases.items():
        given = {
            "contract": TERMS.json,
            "committed": [],
            "features": ["TREES"],
            "max_nodes": 255,
            "max_context": CONTEXT,
            "round": 2,
        }
        request = compute("check_verify", **{**given, **more}, verify=verify)
        title = f"a verifier {'refuses' if error else 'takes'}: {name.replace('-', ' ')}"
        result: dict[str, Any] = {"error": error} if error else {"ok": {}}
        out.append(vector(f"verify/{name}", title, clauses, request, **result))
    return out


def proposals() -> list[Vector]:
    """What a leader takes and refuses, wherever the base is."""
    invalid = ("session", "MESSAGE_INVALID")
    both = ["TREES", "SCORES"]

    def propose(tokens: list[int], parents: bytes | None = None, scores: bytes | None = None) -> dict[str, Any]:
        values = {"position": 9, "base": bytes(16), "tokens": tokens, "parents": parents, "scores": scores}
        return numbers({key: value for key, value in values.items() if value is not None})

    cases: dict[str, tuple[str, Any, list[str], tuple[str, str] | None]] = {
        "chain": ("D-9", propose([7, 8, 9]), both, None),
        "chain-with-a-repeated-token": ("D-3", propose([7, 7, 7]), both, None),
        "tree": ("D-3", propose([7, 8, 9], b"\0\0\1", b"\0\xff\x10"), both, None),
        "same-token-below-different-nodes": ("D-3", propose([7, 8, 9, 9], b"\0\0\1\2"), both, None),
        "highest-token": ("D-4", propose([V - 1]), both, None),
        "many-children": ("D-15", propose(list(range(200)), bytes(200)), both, None),
        "token-outside-the-vocabulary": ("D-4", propose([7, V]), both, PROPOSAL),
        "token-far-outside": ("D-4", propose([2**24 - 1]), both, PROPOSAL),
        "same-token-twice": ("D-3", propose([7, 7], b"\0\0"), both, PROPOSAL),
        "same-token-twice-apart": ("D-3", propose([7, 8, 9, 7], b"\0\1\0\0"), both, PROPOSAL),
        "same-token-twice-deep": ("D-3", propose([7, 8, 9, 8], b"\0\1\1\1"), both, PROPOSAL),
        "parents-without-the-feature": ("C-10 D-15", propose([7, 8], b"\0\0"), ["SCORES"], invalid),
        "chain-parents-without-the-feature": ("C-10 D-15", propose([7, 8], b"\0\1"), ["SCORES"], invalid),
        "scores-without-the-feature": ("C-10 D-15", propose([7, 8], None, b"\0\0"), ["TREES"], invalid),
        "neither-without-features": ("C-10", propose([7, 8]), [], None),
    }
    out = []
    for name, (clauses, message, features, error) in cases.items():
        request = compute("check_propose", contract=TERMS.json, features=features, propose=message)
        title = f"a leader {'refuses' if error else 'takes'} a PROPOSE: {name.replace('-', ' ')}"
        result: dict[str, Any] = {"error": error} if error else {"ok": {}}
        out.append(vector(f"propose/{name}", title, clauses, request, **result))
    return out


def make() -> list[Vector]:
    return verdicts() + refused_verdicts() + requests() + proposals()
