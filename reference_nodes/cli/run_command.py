"""``dsdp run``: one prompt, streamed as it commits, coloured by who proposed each token."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

import trio

from dsdproto.registry import CommitProfile, Role
from reference_nodes.cli.options import (
    CLIENT_NAME,
    Prompt,
    UsageError,
    add_command,
    add_json,
    add_network,
    add_node,
    add_sampling,
    client_name,
    count,
    sampling_of,
)
from reference_nodes.cli.output import Painter, figures, say
from reference_nodes.cli.runner import run_trio

if TYPE_CHECKING:
    from reference_nodes.cli.generation import Generation, Stall
    from reference_nodes.cli.texts import Vocabulary
    from reference_nodes.node import Node

DEFAULT_MODEL = "smollm2"
VOTERS = 3
GATHER_SECONDS = 1.0
"""How long `--commit auto` looks for voters, and `--commit quorum` for those that the text could go on at."""


def add(parsers: Any) -> None:
    parser = add_command(
        parsers,
        "run",
        run,
        "generate text from a prompt",
        "Generate text from a prompt on a leader that is found by multicast DNS or given with --peer. Text appears as "
        "it commits: "
        "coloured where a drafter proposed it, plain where it is the target's own token.",
        'dsdp run "Why is the sky blue?"\n'
        'dsdp run "Why is the sky blue?" --temperature 0.8 --seed 7 --max-tokens 200\n'
        'dsdp run "Count to ten." --peer 192.168.1.5:7171 --json\n'
        'dsdp run "Count to ten." --commit quorum      goes on when a machine dies\n'
        "dsdp run - < question.txt",
    )
    parser.add_argument("prompt", metavar="PROMPT", help="the text; - reads it from stdin")
    parser.add_argument(
        "--model",
        "-m",
        metavar="MODEL",
        help=f"the target, whose tokenizer must be here (default: what the leader offers, else {DEFAULT_MODEL})",
    )
    add_sampling(parser, max_tokens=256)
    parser.add_argument(
        "--drafters",
        type=count(0, 1 << 16),
        default=8,
        metavar="N",
        help="most drafters to use; 0: the target alone (default: %(default)s)",
    )
    parser.add_argument("--raw", action="store_true", help="the prompt as it is, without the model's chat template")
    parser.add_argument(
        "--wait", type=float, default=10.0, metavar="SECONDS", help="for a leader (default: %(default)s)"
    )
    parser.add_argument(
        "--commit",
        choices=("solo", "quorum", "auto"),
        default="solo",
        help="quorum: the text goes on when any minority of the voters dies; auto: quorum where at least "
        f"{VOTERS} voters are connected (default: %(default)s)",
    )
    parser.add_argument(
        "--patience",
        type=float,
        default=30.0,
        metavar="SECONDS",
        help="without a new token after an interruption, before giving up (default: %(default)s)",
    )
    add_node(parser, client=True)
    add_network(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    return run_trio(_run, args)


async def _run(args: argparse.Namespace) -> int:
    from reference_nodes.cli.generation import generate
    from reference_nodes.cli.network import client_config
    from reference_nodes.cli.texts import Vocabulary
    from reference_nodes.client import make_contract
    from reference_nodes.node import open_node

    text = sys.stdin.read() if args.prompt == "-" else args.prompt
    if not text:
        raise UsageError("the prompt is empty")
    sampling = sampling_of(args)
    config, fault = await client_config(args)
    async with open_node(config) as node:
        try:
            quorum = args.commit == "quorum" or (args.commit == "auto" and await gather_voters(node))
            link = node.peers.links[await node.leader_link(None, args.wait, voting=quorum)]
        except Exception:
            if fault:
                say(f"note: {fault}")
            if client_name(args) != CLIENT_NAME and not args.peer:
                say("note: a node that serves here under this identity is not seen by it: join once more as another")
            raise
        assert link.peer is not None
        offered = [offer.name for offer in link.peer.models if offer.role == Role.VERIFIER]
        name = args.model or (offered[0] if len(offered) == 1 else DEFAULT_MODEL)
        vocabulary = await trio.to_thread.run_sync(Vocabulary, name)
        contract = make_contract(
            (vocabulary.size, vocabulary.digest),
            vocabulary.encode(Prompt(text, args.raw)),
            max_tokens=args.max_tokens,
            sampling=sampling,
            seed=args.seed,
            stop_tokens=vocabulary.stop_tokens,
            model=vocabulary.name if vocabulary.name in offered else "",
            commit_profile=CommitProfile.QUORUM if quorum else CommitProfile.SOLO,
        )
        if quorum and not await gather_voters(node):
            known = len(node.links_to(Role.VOTER))
            say(f"note: connected to {known} voter(s); where these die, nobody is left to ask. See --peer.")
        shown = Shower(vocabulary, None if args.json else Painter())
        before = wire_bytes(node, link.number)
        done = await generate(
            node,
            contract,
            max_drafters=args.drafters,
            leader=link.peer_id,
            show=shown,
            watch=tell_stall,
            patience=args.patience,
        )
        shown.finish()
        delivery = None if done.stalls else wire_bytes(node, link.number) - before
    report = document(done, shown.text, delivery)
    if args.json:
        print(json.dumps(report))
    else:
        print("\n\n" + summary_text(done, report, Painter()))
    return 0


async def gather_voters(node: Node) -> bool:
    """Whether as many voters are connected as a group usually has; waits a moment for them."""
    with trio.move_on_after(GATHER_SECONDS):
        await node.wait_for(Role.VOTER, VOTERS)
    return len(node.links_to(Role.VOTER)) >= VOTERS


def tell_stall(stall: Stall) -> None:
    """Say on stderr what happens to a stream that was interrupted."""
    if stall.resumed is None:
        say(f"\nnote: interrupted after {stall.position} tokens: {stall.reason}; looking for another voter")
    elif stall.seconds is None:
        say(f"note: a voter serves the rest, view {stall.view}, after {stall.resumed:.2f} s")
    else:
        say(f"note: the text goes on after {stall.seconds:.2f} s")


class Shower:
    """Turns committed tokens into text, and shows it at once unless ``painter`` is None."""

    def __init__(self, vocabulary: Vocabulary, painter: Painter | None) -> None:
        self.text = ""
        self._stream = vocabulary.stream()
        self._painter = painter
        self._origin = 0

    def __call__(self, tokens: tuple[int, ...], origins: bytes) -> None:
        for token, origin in zip(tokens, origins):
            self._origin = origin
            self._out(self._stream.push([token]))

    def finish(self) -> None:
        """What was held back because a character was not complete."""
        self._out(self._stream.finish())

    def _out(self, text: str) -> None:
        self.text += text
        if self._painter is not None and text:
            self._painter.write(self._painter.origin(text, self._origin))


def wire_bytes(node: Node, number: int) -> int:
    """Bytes on the wire of one link so far, both directions, TLS records included."""
    link = node.peers.links.get(number)
    return 0 if link is None else link.traffic.wire.received + link.traffic.wire.sent


def document(done: Generation, text: str, delivery: int | None) -> dict[str, Any]:
    """What ``--json`` prints. ``delivery``: bytes on the wire between this client and the leader; None: it was lost."""
    from reference_nodes.cli.generation import drafter_list, finish_name, ratio, summary

    return {
        "model": done.model,
        "text": text,
        "finish": finish_name(done.finish),
        "drafters": drafter_list([done]),
        **summary([done]),
        "delivery_bytes_per_committed_token": None if delivery is None else ratio(delivery, len(done.tokens)),
        "tokens_per_s": round(done.rate, 3),
        "time_to_first_token_s": round(done.first, 4),
        "seconds": round(done.seconds, 4),
        "token_ids": done.tokens,
        "origins": list(done.origins),
        "profile": done.profile,
        "interruptions": [stall.document() for stall in done.stalls],
    }


def summary_text(done: Generation, report: dict[str, Any], painter: Painter) -> str:
    """The figures under the text."""
    from reference_nodes.cli.generation import finish_name

    rows = {
        "tokens": f"{report['tokens']}, ended by {finish_name(done.finish)}",
        "speed": f"{done.rate:.1f} tokens/s, first after {1000 * done.first:.0f} ms",
        "drafted": f"{done.drafted}, of which {done.accepted} accepted ({percent(report['acceptance_rate'])})",
        "per round": f"{shown(report['mean_acceptance_length'])} tokens; "
        f"{shown(report['target_forwards_per_token'])} target forwards per token",
        "delivery": f"{shown(report['delivery_bytes_per_committed_token'])} bytes per token between leader and here",
        "from": legend(done, painter),
    }
    if done.stalls:
        # A voter tells neither who proposed what nor what it cost (clause Q-54).
        del rows["drafted"], rows["per round"], rows["delivery"]
        stalls = ", ".join(f"{stall.seconds or 0:.2f} s" for stall in done.stalls)
        rows["stood still"] = f"{stalls}, while another node took over"
    return figures(rows)


def legend(done: Generation, painter: Painter) -> str:
    """Who proposed how many of the tokens, each in its colour."""
    parts = []
    for number, share in done.by_drafter.items():
        entry = done.drafters.get(number)
        who = "the target itself" if number == 0 else (entry.model if entry else f"drafter {number}")
        parts.append(painter.origin(f"{who} {share}", number))
    return ", ".join(parts) or "nobody"


def percent(share: float | None) -> str:
    return "none" if share is None else f"{100 * share:.0f} %"


def shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
