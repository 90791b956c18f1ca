"""Which network interfaces a node uses: named ones, never "all" (SPEC.md, section "Discovery").

A machine has more interfaces than networks: container bridges, tunnels, virtual machines. A node that
announces itself on those hands peers addresses that lead nowhere. So interfaces are chosen by name or
address, and the default leaves out what is known to be virtual and says why.
"""

from __future__ import annotations

import ipaddress
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import ifaddr

from reference_nodes.errors import NodeError

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_VIRTUAL = (
    (r"docker|br-[0-9a-f]{12}$|podman|cni|flannel|cali|lxc|lxd|vEthernet", "container bridge"),
    (r"veth", "one end of a container's cable"),
    (r"virbr|vmnet|vboxnet|vnet|bridge1\d\d", "network of virtual machines"),
    (r"tun|tap|wg|utun|tailscale|zt|ppp|ipsec", "tunnel: multicast does not pass"),
    (r"awdl|llw|anpi|ap\d", "Apple peer-to-peer link"),
)
_WILDCARDS = {"all", "*", "any", "0.0.0.0", "::"}


class InterfaceError(NodeError):
    """No such interface, or a choice that names none."""

    code = "interface"


@dataclass(frozen=True)
class Interface:
    """One interface with its usable addresses."""

    name: str
    index: int
    ipv4: tuple[str, ...]
    ipv6: tuple[str, ...]
    """link-local ones carry their zone: ``fe80::1%eth0``"""
    skip: str = ""
    """why it is left out by default; empty: it is not"""

    @property
    def loopback(self) -> bool:
        return any(_address(text).is_loopback for text in self.addresses)

    @property
    def addresses(self) -> tuple[str, ...]:
        """What to listen on and to announce: IPv4 first, then IPv6 that others can reach without a zone."""
        return self.ipv4 + tuple(text for text in self.ipv6 if "%" not in text)

    @property
    def multicast_address(self) -> str | None:
        """The address that stands for this interface when multicast is sent: the first IPv4 one, else an IPv6
        one.
        """
        return (self.ipv4 + self.ipv6 + (None,))[0]


def list_interfaces(
    adapters: Iterable[ifaddr.Adapter] | None = None, *, is_up: Callable[[str], bool] | None = None
) -> list[Interface]:
    """All interfaces that are up and have an address, in the order of their index, loopback last.

    :param adapters: what :func:`ifaddr.get_adapters` returns, for tests.
    :param is_up: whether the interface of that name is up; by default asked of the operating system.
    """
    is_up = is_up or _is_up
    found = []
    for adapter in ifaddr.get_adapters() if adapters is None else adapters:
        name = adapter.nice_name if sys.platform == "win32" else adapter.name
        name = name.decode() if isinstance(name, bytes) else name
        ipv4 = tuple(str(item.ip) for item in adapter.ips if item.is_IPv4)
        ipv6 = tuple(_with_zone(item.ip, name) for item in adapter.ips if item.is_IPv6)
        if not (ipv4 or ipv6):
            continue
        interface = Interface(name, adapter.index or 0, ipv4, ipv6)
        found.append(Interface(name, adapter.index or 0, ipv4, ipv6, _reason_to_skip(interface, is_up(name))))
    return sorted(found, key=lambda item: (item.loopback, item.index, item.name))


def choose_interfaces(wanted: Sequence[str] = (), available: Sequence[Interface] | None = None) -> list[Interface]:
    """The interfaces that ``wanted`` names, by interface name or by address; without names, the sensible
    default.

    The default is every interface without a reason to skip it, or loopback if there is none. Naming an
    interface overrides its reason; naming an address takes only that address of it. Raises
    :class:`InterfaceError` for names that do not exist, and for "all" in any spelling.
    """
    available = list_interfaces() if available is None else available
    if not wanted:
        usual = [item for item in available if not item.skip]
        chosen = usual or [item for item in available if item.loopback]
        if not chosen:
            raise InterfaceError(f"no usable network interface. {_overview(available)}", "Name one with --interface.")
        return chosen
    chosen = [_find(text, available) for text in wanted]
    return list(dict.fromkeys(chosen))


def _find(text: str, available: Sequence[Interface]) -> Interface:
    if text.lower() in _WILDCARDS:
        raise InterfaceError(
            f"{text!r} means every interface, and a node only uses interfaces that were named.",
            f"Name one by its name or address. {_overview(available)}",
        )
    for item in available:
        if item.name == text:
            return item
        if text in item.ipv4:
            return Interface(item.name, item.index, (text,), (), item.skip)
        if text in item.ipv6:
            return Interface(item.name, item.index, (), (text,), item.skip)
    try:
        if ipaddress.ip_address(text).is_loopback:
            # The whole of 127.0.0.0/8 is this machine, though the system lists 127.0.0.1 alone.
            index = next((item.index for item in available if item.loopback), 0)
            return Interface(text, index, (text,), (), "loopback")
    except ValueError:
        pass  # not an address: said below
    raise InterfaceError(f"no interface has the name or address {text!r}.", _overview(available))


def _overview(available: Sequence[Interface]) -> str:
    if not available:
        return "No interface is up and has an address."
    return "There are: " + "; ".join(
        f"{item.name} ({', '.join(item.addresses or item.ipv6)}{', skipped: ' + item.skip if item.skip else ''})"
        for item in sorted(available, key=lambda item: bool(item.skip))
    )


def _reason_to_skip(interface: Interface, up: bool) -> str:
    if interface.loopback:
        return "loopback: reaches only this machine"
    for pattern, reason in _VIRTUAL:
        if re.match(pattern, interface.name):
            return reason
    if not up:
        return "down, or without a cable or network"
    if not interface.addresses:
        return "only link-local IPv6 addresses, which peers cannot use without a zone"
    return ""


def _is_up(name: str) -> bool:
    """Linux tells; elsewhere an interface with an address counts as up."""
    state = Path("/sys/class/net") / name / "operstate"
    try:
        return state.read_text().strip() not in ("down", "lowerlayerdown", "notpresent", "dormant")
    except OSError:
        return True


def _with_zone(ip: tuple[str, int, int], name: str) -> str:
    return f"{ip[0]}%{name}" if _address(ip[0]).is_link_local else ip[0]


def _address(text: str) -> IPAddress:
    return ipaddress.ip_address(text.partition("%")[0])
