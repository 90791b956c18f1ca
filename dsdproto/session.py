"""What every role derives from a session contract and from a tree on the wire."""

from __future__ import annotations

from functools import lru_cache

from dsdproto.errors import PeerError
from dsdproto.prefix import PrefixChain
from dsdproto.registry import ErrorCode, Finish, Method
from dsdproto.wire.codec import encode_payload
from dsdproto.wire.messages import Contract, ModelOffer

SCORE_UNITS = 16
"""Scores are in 1/16 of a bit: u8 = -16 log2 p (clause D-5)."""


def chain_of(contract: Contract, committed: tuple[int, ...] = ()) -> PrefixChain:
    """The session's prefix: d(0) names the contract, then the prompt, then what was committed (clause S-2)."""
    chain = _prompt_chain(contract).copy()
    chain.extend(committed)
    return chain


@lru_cache(maxsize=64)
def _prompt_chain(contract: Contract) -> PrefixChain:
    # Every role of a node asks for it, and each leader that takes a session over.
    return PrefixChain.for_contract(encode_payload(contract), contract.prompt)


def check_vocabulary(contract: Contract, offer: ModelOffer, who: str) -> None:
    """Refuse a contract whose vocabulary is not the model's (clause S-3).

    The digest covers the real entries only, so a head padded beyond them is no mismatch.
    """
    if (contract.vocabulary_size, contract.vocabulary_digest) != (offer.vocabulary_size, offer.vocabulary_digest):
        raise PeerError(
            ErrorCode.VOCABULARY_MISMATCH,
            "S-3",
            f"the session's vocabulary has {contract.vocabulary_size} entries, digest "
            f"{contract.vocabulary_digest.hex()[:16]}; this {who}'s model {offer.name!r} has {offer.vocabulary_size}, "
            f"digest {offer.vocabulary_digest.hex()[:16]}",
        )


def check_method(contract: Contract) -> None:
    """Refuse a verification method that this implementation does not have (clause S-4)."""
    if contract.sampling.method != Method.COUPLED:
        raise PeerError(
            ErrorCode.METHOD_UNSUPPORTED,
            "S-4",
            f"verification method {contract.sampling.method} is not supported; supported: 0 (coupled)",
        )


def check_token_ids(
    tokens: tuple[int, ...],
    contract: Contract,
    where: str,
    clause: str,
    code: ErrorCode = ErrorCode.PROPOSAL_INVALID,
) -> None:
    """Refuse ids outside the session's vocabulary."""
    if tokens and max(tokens) >= contract.vocabulary_size:
        raise PeerError(
            code,
            clause,
            f"{where} holds id {max(tokens)}; the vocabulary has {contract.vocabulary_size} entries",
        )


def parents_of(tokens: tuple[int, ...], parents: bytes | None) -> tuple[int, ...]:
    """Parent numbers of a tree, 0 the base and j its j-th node; an absent field is a chain (clause D-3)."""
    return tuple(range(len(tokens))) if parents is None else tuple(parents)


def parents_field(parents: tuple[int, ...]) -> bytes | None:
    """The inverse of :func:`parents_of`: a chain leaves the field out."""
    return None if parents == tuple(range(len(parents))) else bytes(parents)


def tree_depth(tokens: tuple[int, ...], parents: bytes | None) -> int:
    """Length of the longest path; 0 for an empty tree."""
    if parents is None:
        return len(tokens)
    depths = [0]
    for parent in parents:
        depths.append(depths[parent] + 1)
    return max(depths)


def check_siblings(tokens: tuple[int, ...], parents: tuple[int, ...], where: str, clause: str) -> None:
    """Refuse a tree that says the same token twice below one node: such nodes are one prefix (clause D-3)."""
    seen: set[tuple[int, int]] = set()
    for number, pair in enumerate(zip(parents, tokens), start=1):
        if pair in seen:
            raise PeerError(
                ErrorCode.PROPOSAL_INVALID,
                clause,
                f"{where}: node {number} repeats token {pair[1]} below node {pair[0]}",
            )
        seen.add(pair)


def path_to(node: int, parents: tuple[int, ...]) -> list[int]:
    """Node numbers from the first below the base down to ``node``; empty for 0."""
    path = []
    while node:
        path.append(node)
        node = parents[node - 1]
    path.reverse()
    return path


def finish_of(contract: Contract, chain: PrefixChain, max_context: int) -> Finish | None:
    """Why the stream ends at the end of ``chain``, or None (clause S-9)."""
    position = chain.position
    return finish_at(contract, position, chain.last if position else 0, max_context)


def finish_at(contract: Contract, position: int, last: int, max_context: int) -> Finish | None:
    """Why a stream of ``position`` tokens, prompt included, of which the last is ``last``, ends there, or None (clause
    S-9; the first that holds counts)."""
    answered = position - len(contract.prompt)
    if answered > 0 and last in contract.stop_tokens:
        return Finish.STOP_TOKEN
    if answered >= contract.max_tokens:
        return Finish.LENGTH
    if position >= max_context:
        return Finish.CONTEXT_FULL
    return None
