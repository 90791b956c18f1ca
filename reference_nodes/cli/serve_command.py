"""``dsdp serve``: run a node until Ctrl-C."""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from dsdproto.registry import MAX_GROUP, Role
from reference_nodes.cli.options import UsageError, add_command, add_json, add_network, add_node, count, home_of, roles
from reference_nodes.cli.output import say
from reference_nodes.cli.runner import run_trio

if TYPE_CHECKING:
    from reference_nodes.link import Link
    from reference_nodes.node import Node, NodeConfig

MODELS = (
    "MODEL is a name (smollm2, tm-1:v=4096,s=7), a Hugging Face directory or a .gguf file; a draft model may also be "
    "smollm2-draft, "
    "ngram, or tm-1 with an agreement (tm-1:v=4096,s=7,a=52429,d=1)."
)


def add(parsers: Any) -> None:
    parser = add_command(
        parsers,
        "serve",
        run,
        "run a node: leader, verifier, drafter, voter, or any of them together",
        f"Run a node until Ctrl-C. Nodes of one cluster find each other by multicast DNS, or at the addresses given "
        f"with --peer. {MODELS}",
        "dsdp serve --roles leader,verifier --model smollm2 --interface eth0\n"
        "dsdp serve --roles voter                     a third vote, on a machine without the model\n"
        "dsdp serve --roles drafter --model smollm2 --draft-model smollm2-draft --interface wlan0\n"
        "dsdp serve --roles drafter --model smollm2 --draft-model ngram --peer 192.168.1.5:7171",
    )
    parser.add_argument(
        "--roles",
        type=roles,
        required=True,
        help="of leader, verifier, drafter, voter; separated by commas. A leader is a voter too",
    )
    parser.add_argument("--no-voter", action="store_true", help="a leader that keeps no votes: solo sessions only")
    parser.add_argument(
        "--model", "-m", metavar="MODEL", help="target model: what a verifier runs, what a drafter drafts for"
    )
    parser.add_argument("--draft-model", metavar="MODEL", help="what a drafter runs")
    add_node(parser)
    parser.add_argument(
        "--identity",
        type=Path,
        default=None,
        metavar="DIR",
        help="an identity that another tool issued, in place of --name: a directory with node.key, node.pem and "
        "authority.pem",
    )
    parser.add_argument(
        "--host", metavar="ADDRESS", help="address to listen on (default: of --interface, else 127.0.0.1)"
    )
    parser.add_argument("--port", type=count(0, 1 << 16), default=0, help="port to listen on (default: any free one)")
    add_network(parser)
    leader = parser.add_argument_group("as a leader")
    leader.add_argument(
        "--max-sessions",
        type=count(1, 1 << 16),
        default=256,
        metavar="N",
        help="sessions at once (default: %(default)s)",
    )
    leader.add_argument(
        "--num-speculative-tokens",
        type=count(1, 256),
        default=8,
        metavar="N",
        help="draft tokens that a drafter is asked to send at once (default: %(default)s)",
    )
    leader.add_argument(
        "--width",
        type=count(1, 17),
        default=3,
        metavar="N",
        help="alternatives after one token; 1 asks for chains (default: %(default)s)",
    )
    leader.add_argument(
        "--credit",
        type=count(1, 1 << 16),
        default=48,
        metavar="N",
        help="draft tokens that a drafter may be ahead (default: %(default)s)",
    )
    leader.add_argument(
        "--group-size",
        type=odd,
        default=3,
        metavar="N",
        help="voters of a quorum session, this node's included: 1, 3, 5, 7 or 9 (default: %(default)s)",
    )
    parser.add_argument(
        "--log",
        default="warning",
        choices=("debug", "info", "warning", "error"),
        help="what to log on stderr (default: %(default)s)",
    )
    parser.add_argument(
        "--trace-jobs",
        type=Path,
        metavar="FILE.jsonl",
        help="write a JSON line for each forward: when it ran, rows, sessions, what the node did meanwhile",
    )
    parser.add_argument("--until-eof", action="store_true", help="end when stdin ends: for programs that start nodes")
    add_json(parser, "print JSON lines: one when ready (port, node), then one for each link that comes or goes")


def odd(text: str) -> int:
    """An argparse type: a size of a group of voters."""
    size = count(1, MAX_GROUP + 1)(text)
    if size % 2 == 0:
        raise argparse.ArgumentTypeError(f"{size} is even; a group has an odd number of voters")
    return size


def run(args: argparse.Namespace) -> int:
    logging.basicConfig(
        level=args.log.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    return run_trio(_serve, args)


async def _serve(args: argparse.Namespace) -> int:
    from dsdproto.roles.leader import LeaderConfig
    from reference_nodes.cli.network import multicast_fault, serving_place
    from reference_nodes.host import HostFailed
    from reference_nodes.journal_file import JournalError
    from reference_nodes.node import NodeConfig, open_node
    from reference_nodes.trust import load_identity, read_identity

    if Role.LEADER in args.roles and not args.no_voter:
        args.roles = tuple(sorted({*args.roles, Role.VOTER}))
    if Role.DRAFTER in args.roles and args.draft_model is None:
        raise UsageError("a drafter needs --draft-model, for example: --draft-model smollm2-draft")
    if Role.VERIFIER in args.roles and args.model is None:
        raise UsageError("a verifier needs --model, for example: --model smollm2")
    host, interfaces = serving_place(args)
    fault = "" if args.no_mdns else await multicast_fault(interfaces)
    if fault:
        say(f"note: {fault} Other nodes reach this one with --peer.")
    config = NodeConfig(
        roles=args.roles,
        identity=read_identity(args.identity) if args.identity else load_identity(home_of(args), args.name),
        name=args.name,
        target=args.model if Role.VERIFIER in args.roles else None,
        draft=args.draft_model,
        draft_for=args.model,
        host=host,
        port=args.port,
        peers=tuple(args.peer),
        interfaces=None if args.no_mdns or fault else interfaces,
        leader=LeaderConfig(
            max_sessions=args.max_sessions,
            credit=args.credit,
            window=args.num_speculative_tokens,
            width=args.width,
            group_size=args.group_size,
        ),
        trace_jobs=args.trace_jobs,
    )
    failed = False
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_end_on_signal, signals, nursery.cancel_scope)
            if args.until_eof:
                nursery.start_soon(_end_on_eof, nursery.cancel_scope)
            try:
                async with open_node(config, say if sys.stderr.isatty() else _log) as node:
                    _ready(node, config, args.json)
                    await _report_links(node, args.json)
            except HostFailed as error:
                # The host has logged what led to it, with a traceback.
                if isinstance(error.__cause__, JournalError):
                    say(f"dsdp serve: the votes cannot be stored, which ends the node: {error.__cause__}")
                else:
                    say(f"dsdp serve: a bug in this program ends the node: {error}")
                failed = True
                nursery.cancel_scope.cancel()
    return 70 if failed else 0


def _log(text: str) -> None:
    logging.getLogger("dsdp.serve").info("%s", text)


async def _end_on_signal(signals: Any, scope: trio.CancelScope) -> None:
    async for number in signals:
        logging.getLogger("dsdp.serve").info("%s: leaving", signal.Signals(number).name)
        scope.cancel()
        return


async def _end_on_eof(scope: trio.CancelScope) -> None:
    """Whoever started us holds the other end of stdin, and lets go of it however it dies."""
    async with trio.lowlevel.FdStream(os.dup(sys.stdin.fileno())) as stdin:
        while await stdin.receive_some():
            continue
    scope.cancel()


def _ready(node: Node, config: NodeConfig, as_json: bool) -> None:
    from dsdproto.identity import node_id_text
    from reference_nodes.status import role_names

    names = role_names(node.hello.roles)
    models = [offer.name for offer in node.hello.models]
    if as_json:
        _line(
            event="ready",
            name=config.name,
            node=node_id_text(node.node_id),
            host=config.host,
            port=node.port,
            roles=names,
            models=models,
            mdns=node.announced,
            pid=os.getpid(),
        )
        return
    print(f"node {node_id_text(node.node_id)} ({config.name})")
    print(f"  serves   {', '.join(names)}{': ' if models else ''}{', '.join(models)}")
    print(f"  listens  {node.address}")
    found = f"announced by multicast DNS on {', '.join(config.interfaces or ())}" if node.announced else "not announced"
    print(f"  found    {found}", flush=True)
    if (config.host or "").startswith("127."):
        say("note: loopback only; for other machines name an --interface or a --host")


async def _report_links(node: Node, as_json: bool) -> None:
    """One line for each link that comes or goes, for ever."""
    known: dict[int, Link] = {}
    while True:
        live = {number: link for number, link in node.peers.links.items() if link.up}
        for number in [number for number in known if number not in live]:
            _link_line("unlinked", known.pop(number), as_json)
        for number, link in live.items():
            if number not in known:
                known[number] = link
                _link_line("linked", link, as_json)
        await node.peers.wait_for_change()


def _link_line(event: str, link: Link, as_json: bool) -> None:
    from dsdproto.identity import node_id_text, short_node_id
    from reference_nodes.status import role_names

    peer = link.peer
    assert peer is not None
    names = role_names(peer.roles)
    models = [offer.name for offer in peer.models]
    if as_json:
        _line(event=event, node=node_id_text(peer.node_id), roles=names, models=models, address=link.address)
    else:
        what = ": ".join(filter(None, (", ".join(names), ", ".join(models))))
        print(f"{event:<8} {short_node_id(peer.node_id)} at {link.address} ({what})", flush=True)


def _line(**fields: Any) -> None:
    print(json.dumps(fields), flush=True)
