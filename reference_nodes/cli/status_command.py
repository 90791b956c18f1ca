"""``dsdp status``: who is there, with whom they are linked, and what they are doing."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

import trio

from reference_nodes.cli.options import add_command, add_json, add_network, add_node, client_name, home_of
from reference_nodes.cli.output import figures, say
from reference_nodes.cli.runner import run_trio
from reference_nodes.errors import NodeError

if TYPE_CHECKING:
    from reference_nodes.trust import NodeIdentity

LISTEN_SECONDS = 2.0
SHORT = 9


def add(parsers: Any) -> None:
    parser = add_command(
        parsers,
        "status",
        run,
        "show this node's identity and what the nodes in reach are doing",
        "Show this machine's identity, and ask every node that announces itself, or those given with --peer, what it "
        "is doing.",
        "dsdp status\ndsdp status --peer 192.168.1.5:7171\ndsdp status --json | jq .nodes[].links",
    )
    add_node(parser, client=True)
    add_network(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    return run_trio(_status, args)


async def _status(args: argparse.Namespace) -> int:
    from dsdproto.identity import node_id_text
    from reference_nodes.trust import load_identity

    identity = load_identity(home_of(args), client_name(args))
    addresses = list(args.peer) or ([] if args.no_mdns else await _announced(args, identity))
    nodes = [await _ask(address, identity) for address in addresses]
    failed = sum("error" in node for node in nodes)
    own = {
        "node": node_id_text(identity.node_id),
        "name": identity.name,
        "cluster": identity.cluster_id.hex(),
        "expires": identity.expires.isoformat(),
        "identity": str(identity.directory),
    }
    if args.json:
        print(json.dumps({"identity": own, "nodes": nodes}))
    else:
        print("identity")
        print(figures({key: own[key] for key in ("name", "node", "cluster", "expires")}))
        for node in nodes:
            print(_text(node))
        if not nodes:
            say("no node announced itself; give addresses with --peer, or see `dsdp doctor`")
    return 1 if failed else 0


async def _announced(args: argparse.Namespace, identity: NodeIdentity) -> list[str]:
    """Addresses of the nodes of our cluster that announce themselves now."""
    from reference_nodes.cli.network import looking_places
    from reference_nodes.discovery import Found, Lost, MulticastUnavailable, browse, open_multicast
    from reference_nodes.interfaces import choose_interfaces

    found: dict[str, str] = {}
    try:
        async with (
            open_multicast(choose_interfaces(looking_places(args))) as multicast,
            browse(multicast, identity.cluster_id) as events,
        ):
            with trio.move_on_after(LISTEN_SECONDS):
                async for event in events:
                    if isinstance(event, Found):
                        host = event.peer.addresses[0]
                        found[event.peer.service] = f"{f'[{host}]' if ':' in host else host}:{event.peer.port}"
                    elif isinstance(event, Lost):
                        found.pop(event.peer.service, None)
    except MulticastUnavailable as error:
        say(f"note: {error}")
    return sorted(found.values())


async def _ask(address: str, identity: NodeIdentity) -> dict[str, Any]:
    from reference_nodes.cli.asking import ask_status

    try:
        return {"asked_at": address, **await ask_status(address, identity)}
    except NodeError as error:
        return {"asked_at": address, "error": {"code": error.code, "text": str(error)}}


def _text(node: dict[str, Any]) -> str:
    if "error" in node:
        return f"\n{node['asked_at']}\n{figures({'no answer': node['error']['text']})}"
    rows: dict[str, Any] = {
        "node": node["node"],
        "serves": ", ".join(node["roles"]),
        "models": ", ".join(f"{item['name']} ({item['role']})" for item in node["models"]) or "-",
        "up for": f"{node['uptime_s']:.0f} s",
    }
    for section in ("leader", "voter", "verifier", "drafter"):
        if section in node:
            rows[section] = ", ".join(
                f"{key} {_count(value)}" for key, value in node[section].items() if not isinstance(value, dict)
            )
    for session in node.get("voter", {}).get("sessions", ()):
        rows[f"votes {session['session'][:8]}"] = (
            f"view {session['view']} of {short(session['leader'])}, {session['state']}, "
            f"committed {session['committed']}, log ends at {session['end']}, lag {session['lag']}"
        )
    for session in node.get("leader", {}).get("sessions", ()):
        if "quorum" in session:
            rows[f"leads {session['session'][:8]}"] = _members_text(session["quorum"])
    for link in node["links"]:
        wire = link["wire_bytes"]
        rows[f"link {link['link']}"] = (
            f"{', '.join(link['roles'])} {', '.join(link['models'])} at {link['address']}, "
            f"{wire['received']} bytes in, {wire['sent']} out"
        )
    for peer in node["dialing"]:
        rows["dialing"] = f"{peer['peer']}: {peer['error'] or 'no answer yet'}"
    return f"\n{node['name']} at {node['asked_at']}\n{figures(rows)}"


def _members_text(ballot: dict[str, Any]) -> str:
    members = ", ".join(
        f"{short(member['node'])} {member['voted'] if member['enlisted'] else 'away'}" for member in ballot["members"]
    )
    return f"view {ballot['view']}, height {ballot['height']}, committed {ballot['committed']}; voters at: {members}"


def short(node: str) -> str:
    """The beginning of a node id's text, which is enough to tell nodes apart."""
    return node[:SHORT]


def _count(value: Any) -> Any:
    return len(value) if isinstance(value, list) else value
