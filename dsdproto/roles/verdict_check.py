"""Does a verdict hold together? Checked by the leader before it uses any of it (clause V-6)."""

from __future__ import annotations

from dsdproto.errors import PeerError
from dsdproto.prefix import PrefixChain, extend_digest, short_digest
from dsdproto.registry import ErrorCode
from dsdproto.session import check_token_ids, finish_at, path_to
from dsdproto.trie import Subtree
from dsdproto.wire.messages import Contract, Verdict


def check_verdict(
    contract: Contract, chain: PrefixChain, max_context: int, number: int, subtree: Subtree, verdict: Verdict
) -> tuple[list[int], tuple[int, ...]]:
    """The accepted path (node numbers of ``subtree``) and all new tokens.

    :param chain: the verified prefix that the VERIFY named.
    :param number: round of the VERIFY.

    Raises PeerError(VERDICT_INVALID).
    """
    if verdict.round != number:
        raise _invalid("V-2", f"verdict for round {verdict.round}, asked was {number}")
    if verdict.accepted > len(subtree.tokens):
        raise _invalid("V-6", f"accepted node {verdict.accepted} of a tree of {len(subtree.tokens)}")
    path = path_to(verdict.accepted, subtree.parents)
    tokens = tuple(subtree.tokens[node - 1] for node in path)
    if verdict.token is not None:
        tokens += (verdict.token,)
    if not tokens:
        raise _invalid("V-6", "a verdict without any token")
    check_token_ids(tokens, contract, "VERDICT", "V-6", ErrorCode.VERDICT_INVALID)
    digest, position = chain.digest, chain.position
    finish = None
    for index, token in enumerate(tokens):
        if finish is not None:
            raise _invalid("V-6", f"the verdict goes on after token {index}, which ended the stream")
        digest, position = extend_digest(digest, token), position + 1
        finish = finish_at(contract, position, token, max_context)
    short = short_digest(digest)
    if short != verdict.digest:
        raise _invalid("V-6", f"digest {verdict.digest.hex()[:16]}, but path and token give {short.hex()[:16]}")
    if (None if finish is None else int(finish)) != verdict.finish:
        raise _invalid("V-6", f"finish {verdict.finish}, but by the contract it is {finish and int(finish)}")
    if finish is None and verdict.token is None:
        raise _invalid("V-6", "no token of the target's own, although the stream goes on")
    return path, tokens


def _invalid(clause: str, text: str) -> PeerError:
    return PeerError(ErrorCode.VERDICT_INVALID, clause, text)
