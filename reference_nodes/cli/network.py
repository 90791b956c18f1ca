"""Where a command listens and looks for peers, and whether multicast DNS works there."""

from __future__ import annotations

import argparse
import os

import trio

from dsdproto.registry import Role
from reference_nodes.cli.options import UsageError, client_name, home_of
from reference_nodes.discovery import Found, MulticastUnavailable, announce, browse, open_multicast
from reference_nodes.interfaces import choose_interfaces, list_interfaces
from reference_nodes.node import NodeConfig
from reference_nodes.trust import NodeIdentity, load_identity
from reference_nodes.txt import Description

LOOPBACK = "127.0.0.1"
PROBE_SECONDS = 5.0


def serving_place(args: argparse.Namespace) -> tuple[str, tuple[str, ...]]:
    """(address to listen on, interfaces to announce on) from ``--host`` and ``--interface``; loopback without them.

    Nothing is ever bound or announced on "all" interfaces. Raises InterfaceError, :class:`UsageError`.
    """
    wanted = tuple(args.interface)
    if args.host is None and not wanted:
        return LOOPBACK, (LOOPBACK,)
    if not wanted:
        return args.host, (args.host,)
    chosen = choose_interfaces(wanted)
    if args.host is not None:
        return args.host, wanted
    if not chosen[0].addresses:
        raise UsageError(f"interface {chosen[0].name} has no address to listen on; name one with --host")
    return chosen[0].addresses[0], wanted


def looking_places(args: argparse.Namespace) -> tuple[str, ...]:
    """Interfaces that a client looks for leaders on: those named, or all real ones and loopback."""
    if args.interface:
        return tuple(item.name for item in choose_interfaces(args.interface))
    return tuple(item.name for item in list_interfaces() if not item.skip or item.loopback)


async def multicast_fault(interfaces: tuple[str, ...]) -> str:
    """Empty if multicast DNS sockets can be opened on ``interfaces``, else why not."""
    try:
        async with open_multicast(choose_interfaces(interfaces)):
            return ""
    except MulticastUnavailable as error:
        return error.text


async def loopback_fault(seconds: float = PROBE_SECONDS) -> str:
    """Empty if an announcement on the loopback interface is really seen by a listener there, else why not."""
    me = Description(os.urandom(32), os.urandom(8), os.urandom(16), (int(Role.LEADER),))
    try:
        interfaces = choose_interfaces([LOOPBACK])
        async with (
            open_multicast(interfaces) as speaking,
            open_multicast(interfaces) as listening,
            browse(listening, me.cluster) as events,
            announce(speaking, me, 1, label="probe"),
        ):
            with trio.move_on_after(seconds):
                async for event in events:
                    if isinstance(event, Found):
                        return ""
    except MulticastUnavailable as error:
        return error.text
    return f"an announcement on {LOOPBACK} was not heard within {seconds:g} s"


async def client_config(args: argparse.Namespace, identity: NodeIdentity | None = None) -> tuple[NodeConfig, str]:
    """A node that only asks: it does not listen. With it, why it goes without multicast DNS, or nothing.

    Raises the errors of :func:`reference_nodes.trust.load_identity`.
    """
    identity = identity or load_identity(home_of(args), client_name(args))
    interfaces: tuple[str, ...] | None = None
    fault = ""
    # An address that was given by hand is enough; looking around besides would only take time.
    if not args.no_mdns and not args.peer:
        interfaces = looking_places(args)
        fault = await multicast_fault(interfaces)
    config = NodeConfig(
        roles=(Role.CLIENT,),
        identity=identity,
        name=identity.name,
        host=None,
        peers=tuple(args.peer),
        interfaces=None if fault else interfaces,
    )
    return config, fault
