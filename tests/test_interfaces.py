"""Choosing interfaces, on made-up machines."""

from __future__ import annotations

import pytest
from ifaddr import IP, Adapter

from reference_nodes.interfaces import Interface, InterfaceError, choose_interfaces, list_interfaces


def adapter(name: str, index: int, *ips: str) -> Adapter:
    return Adapter(
        name, name, [IP((ip, 0, 0) if ":" in ip else ip, 64 if ":" in ip else 24, name) for ip in ips], index=index
    )


MACHINE = [
    adapter("lo", 1, "127.0.0.1", "::1"),
    adapter("docker0", 2, "172.17.0.1"),
    adapter("br-0123456789ab", 3, "172.18.0.1"),
    adapter("br-lan", 4, "10.0.0.1"),
    adapter("veth12ab", 5, "169.254.7.7"),
    adapter("wg0", 6, "10.8.0.2"),
    adapter("eth1", 7, "192.168.7.5"),
    adapter("bare", 8),
    adapter("wlan0", 9, "192.168.1.20", "fe80::1", "2001:db8::20"),
    adapter("eth2", 10, "fe80::2"),
]


@pytest.fixture
def machine():
    return list_interfaces(MACHINE, is_up=lambda name: name != "eth1")


def test_virtual_interfaces_are_left_out_and_why(machine):
    reasons = {item.name: item.skip for item in machine}
    assert [item.name for item in machine][-1] == "lo"
    assert "bare" not in reasons
    assert {name for name, reason in reasons.items() if not reason} == {"wlan0", "br-lan"}
    assert reasons["docker0"] == reasons["br-0123456789ab"] == "container bridge"
    assert "tunnel" in reasons["wg0"]
    assert "cable" in reasons["eth1"]
    assert "link-local" in reasons["eth2"]


def test_the_default_is_every_ordinary_interface(machine):
    assert [item.name for item in choose_interfaces((), machine)] == ["br-lan", "wlan0"]


def test_loopback_only_when_there_is_nothing_else(machine):
    virtual = [item for item in machine if item.skip]
    assert [item.name for item in choose_interfaces((), virtual)] == ["lo"]
    with pytest.raises(InterfaceError, match="no usable"):
        choose_interfaces((), [item for item in virtual if not item.loopback])
    with pytest.raises(InterfaceError, match="No interface is up"):
        choose_interfaces((), [])


def test_a_name_overrides_the_reason(machine):
    assert [item.name for item in choose_interfaces(["docker0", "eth1"], machine)] == ["docker0", "eth1"]
    assert [item.name for item in choose_interfaces(["lo"], machine)] == ["lo"]


def test_an_address_takes_that_address_alone(machine):
    (chosen,) = choose_interfaces(["2001:db8::20"], machine)
    assert (chosen.name, chosen.addresses) == ("wlan0", ("2001:db8::20",))
    (chosen,) = choose_interfaces(["192.168.1.20"], machine)
    assert (chosen.name, chosen.addresses, chosen.multicast_address) == ("wlan0", ("192.168.1.20",), "192.168.1.20")
    (chosen,) = choose_interfaces(["127.0.0.2"], machine)
    assert (chosen.loopback, chosen.addresses) == (True, ("127.0.0.2",))


def test_naming_one_twice_takes_it_once(machine):
    assert len(choose_interfaces(["wlan0", "wlan0"], machine)) == 1


def test_link_local_addresses_are_not_for_peers(machine):
    wlan = next(item for item in machine if item.name == "wlan0")
    assert wlan.ipv6 == ("fe80::1%wlan0", "2001:db8::20")
    assert wlan.addresses == ("192.168.1.20", "2001:db8::20")


@pytest.mark.parametrize("everything", ["all", "ALL", "*", "any", "0.0.0.0", "::"])
def test_never_everything(machine, everything):
    with pytest.raises(InterfaceError, match="every interface"):
        choose_interfaces([everything], machine)


@pytest.mark.parametrize("unknown", ["eth9", "192.168.99.99", "wlan", ""])
def test_unknown_names_list_what_there_is(machine, unknown):
    with pytest.raises(InterfaceError, match=r"wlan0 \(192\.168\.1\.20, 2001:db8::20\).*docker0 .*container bridge"):
        choose_interfaces([unknown], machine)


def test_this_machine_has_loopback():
    loopback = [item for item in list_interfaces() if item.loopback]
    assert loopback
    assert isinstance(loopback[0], Interface)
    assert "127.0.0.1" in loopback[0].ipv4
