"""Functions of `compute`: drafts, the trie, verification (SPEC.md, 12 to 14)."""

from __future__ import annotations

from collections import Counter
from typing import Any

from conformance.examples.python.answers import from_json, to_json
from dsdproto.errors import PeerError
from dsdproto.prefix import PrefixChain
from dsdproto.registry import ErrorCode, Scope
from dsdproto.roles.verdict_check import check_verdict
from dsdproto.sampling import CoupledSampler, SamplingParameters, walk
from dsdproto.session import (
    chain_of,
    check_siblings,
    check_token_ids,
    finish_of,
    parents_of,
    tree_depth,
)
from dsdproto.testmodel import TestModel, context_of
from dsdproto.trie import DraftTrie, Subtree, Waste
from dsdproto.wire.messages import Advance, Contract, Propose, Verdict, Verify

Input = dict[str, Any]
NEUTRAL = 16
"""Score of a node that has none (clause D-5)."""


def contract_of(given: Input) -> Contract:
    return from_json(Contract, given["contract"])


def chain_given(given: Input) -> PrefixChain:
    return chain_of(contract_of(given), tuple(given["committed"]))


def need_features(given: Input, message: Propose | Verify) -> None:
    for field, feature in (("parents", "TREES"), ("scores", "SCORES")):
        if getattr(message, field, None) is not None and feature not in given["features"]:
            text = f"{field} without the feature {feature}"
            raise PeerError(ErrorCode.MESSAGE_INVALID, "C-10", text, scope=Scope.SESSION)


def check_propose(given: Input) -> dict[str, Any]:
    message = from_json(Propose, given["propose"])
    need_features(given, message)
    check_token_ids(message.tokens, contract_of(given), "PROPOSE", "D-4")
    check_siblings(message.tokens, parents_of(message.tokens, message.parents), "PROPOSE", "D-3")
    return {}


def check_verify(given: Input) -> dict[str, Any]:
    message, contract, chain = from_json(Verify, given["verify"]), contract_of(given), chain_given(given)
    need_features(given, message)
    if message.round != given["round"]:
        raise PeerError(ErrorCode.MESSAGE_INVALID, "V-2", f"round {message.round}", scope=Scope.SESSION)
    if (message.position, message.base) != (chain.position, chain.short):
        raise PeerError(ErrorCode.PREFIX_UNKNOWN, "V-4", "another base")
    check_token_ids(message.tokens, contract, "VERIFY", "V-5")
    check_siblings(message.tokens, parents_of(message.tokens, message.parents), "VERIFY", "V-5")
    reach = message.position + tree_depth(message.tokens, message.parents)
    if len(message.tokens) > given["max_nodes"] or reach > given["max_context"]:
        raise PeerError(ErrorCode.PROPOSAL_INVALID, "V-5", "the tree is too large")
    return {}


def verdict(given: Input) -> dict[str, Any]:
    message, contract, chain = from_json(Verify, given["verify"]), contract_of(given), chain_given(given)
    target, sampling = TestModel.parse(contract.model), contract.sampling
    parents = parents_of(message.tokens, message.parents)
    paths: list[tuple[int, ...]] = [()]
    for token, parent in zip(message.tokens, parents, strict=True):
        paths.append((*paths[parent], token))
    sampler = CoupledSampler(SamplingParameters(sampling.temperature, sampling.top_k, sampling.top_p), sampling.seed)
    end = min(len(contract.prompt) + contract.max_tokens, given["max_context"])
    done = walk(
        message.tokens,
        parents,
        lambda node: target.candidates(context_of(chain.tokens + paths[node])),
        sampler,
        chain.position,
        end - chain.position,
        contract.stop_tokens,
    )
    chain.extend(done.tokens)
    took = len(done.accepted)
    finish = finish_of(contract, chain, given["max_context"])
    said = Verdict(
        round=message.round,
        accepted=done.accepted[-1] if took else 0,
        token=done.tokens[took] if len(done.tokens) > took else None,
        digest=chain.short,
        margin=done.margin,
        finish=None if finish is None else int(finish),
    )
    return {"verdict": to_json(said)}


def checked_verdict(given: Input) -> dict[str, Any]:
    request, chain = from_json(Verify, given["verify"]), chain_given(given)
    parents = parents_of(request.tokens, request.parents)
    tree = Subtree(chain.position, chain.digest, request.tokens, parents, ())
    said = from_json(Verdict, given["verdict"])
    path, tokens = check_verdict(contract_of(given), chain, given["max_context"], request.round, tree, said)
    return {"path": path, "tokens": list(tokens)}


def drafter(given: Input) -> dict[str, Any]:
    """The drafter's books of one channel: outstanding nodes, and what ADVANCE makes of the prefix (D-4 to D-7)."""
    contract, chain = contract_of(given), chain_given(given)
    nodes: dict[int, tuple[int, ...]] = {}
    """all tokens up to each outstanding node, by its number"""
    count = 0
    results = []
    for step in given["steps"]:
        if "propose" in step:
            message = from_json(Propose, step["propose"])
            bases = [chain.tokens, *nodes.values()]
            paths = [
                next(
                    base
                    for base in bases
                    if len(base) == message.position and chain_of_path(contract, base).short == message.base
                )
            ]
            for token, parent in zip(message.tokens, parents_of(message.tokens, message.parents), strict=True):
                paths.append((*paths[parent], token))
                count += 1
                nodes[count] = paths[-1]
            continue
        advance = from_json(Advance, step["advance"])
        check_token_ids(advance.tokens, contract, "ADVANCE", "D-7", ErrorCode.ADVANCE_INVALID)
        if advance.ref and advance.ref not in nodes:
            raise PeerError(ErrorCode.ADVANCE_INVALID, "D-7", f"no node {advance.ref} below the announced prefix")
        path = (nodes[advance.ref] if advance.ref else chain.tokens) + advance.tokens
        if advance.position != len(path):
            raise PeerError(ErrorCode.ADVANCE_INVALID, "D-7", f"position {advance.position}, not {len(path)}")
        chain.extend(path[chain.position :])
        nodes = {number: node for number, node in nodes.items() if len(node) > len(path) and node[: len(path)] == path}
        results.append({"position": chain.position, "digest": chain.digest.hex(), "outstanding": len(nodes)})
    return {"results": results}


def chain_of_path(contract: Contract, tokens: tuple[int, ...]) -> PrefixChain:
    return chain_of(contract, tokens[len(contract.prompt) :])


# ---------------------------------------------------------------- the trie


def trie(given: Input) -> dict[str, Any]:
    tree = DraftTrie(
        given["position"],
        bytes.fromhex(given["digest"]),
        max_nodes=given["max_nodes"],
        max_ahead=given["max_ahead"],
        max_parked=given["max_parked"],
    )
    results = []
    for step in given["steps"]:
        before = Counter(tree.waste)
        result: dict[str, Any] = {}
        if "verify" in step:
            chosen = tree.best_subtree(step["verify"]["budget"], step["verify"].get("depth"))
            tree.pinned = frozenset(chosen.nodes)
            paths: list[list[int]] = [[]]
            for token, parent in zip(chosen.tokens, chosen.parents, strict=True):
                paths.append([*paths[parent], token])
            results.append({"paths": paths[1:]})
            continue
        if "graft" in step:
            one = step["graft"]
            costs = one.get("scores", [NEUTRAL] * len(one["tokens"]))
            base = bytes.fromhex(one["base"])
            tree.graft(one["position"], base, one["tokens"], one.get("parents"), one["source"], costs)
        elif "advance" in step:
            tree.pinned = frozenset()
            done = tree.commit(step["advance"]["tokens"], step["advance"]["accepted"])
            result = {"position": tree.position, "digest": tree.digest.hex()}
            result["origins"] = [sources[0] if sources else None for sources in done.origins]
        else:
            tree.close()
        added = tree.waste - before
        waste = [sum(n for (_, cause), n in added.items() if cause is each) for each in Waste]
        results.append({**result, "live": len(tree), "parked": tree.parked, "waste": waste})
    live, parked = tree.live_by_source(), tree.parked_by_source()
    books = {
        source: {
            "drafted": drafted,
            "accepted": tree.accepted[source],
            "waste": [tree.waste[source, cause] for cause in Waste],
            "live": live[source],
            "parked": parked[source],
        }
        for source, drafted in tree.drafted.items()
    }
    return {"results": results, "books": books}


FUNCTIONS = {
    "check_propose": check_propose,
    "check_verify": check_verify,
    "verdict": verdict,
    "check_verdict": checked_verdict,
    "drafter": drafter,
    "trie": trie,
}
