"""Discovery on 127.0.0.1 with real sockets.

Each test has a cluster id of its own, so tests side by side do not meet.
"""

from __future__ import annotations

import secrets
from contextlib import asynccontextmanager

import pytest
import trio
from zeroconf import ServiceInfo

from dsdproto.registry import SERVICE_TYPE, Role
from reference_nodes import discovery
from reference_nodes.discovery import Found, Ignored, Lost, announce, browse, open_multicast, service_name
from reference_nodes.interfaces import choose_interfaces
from reference_nodes.txt import Description, encode_txt

LOOPBACK = choose_interfaces(["127.0.0.1"])
PATIENCE = 30
"""seconds until a test gives up; no outcome depends on it"""


def node(cluster: bytes, **changes) -> Description:
    values = {
        "node_id": secrets.token_bytes(32),
        "instance": secrets.token_bytes(8),
        "cluster": cluster,
        "roles": (Role.DRAFTER,),
        "models": ("tm-1",),
    }
    return Description(**(values | changes))


@asynccontextmanager
async def raw_service(label: str, properties: dict, port: int = 4711):
    """A service of our type as another program might announce it."""
    async with open_multicast(LOOPBACK) as multicast:
        name = f"{label}-{secrets.token_hex(8)}.{SERVICE_TYPE}"
        info = ServiceInfo(
            SERVICE_TYPE, name, port=port, properties=properties, server=f"{secrets.token_hex(8)}.local.",
            parsed_addresses=["127.0.0.1"],
        )  # fmt: skip
        await trio.to_thread.run_sync(lambda: multicast.zc.register_service(info, cooperating_responders=True))
        yield name


@pytest.mark.trio
async def test_two_nodes_find_and_lose_each_other():
    cluster = secrets.token_bytes(16)
    one, two = node(cluster), node(cluster, roles=(Role.LEADER, Role.VERIFIER), models=("smollm2", "tm-1"))
    with trio.fail_after(PATIENCE):
        async with (
            open_multicast(LOOPBACK) as a,
            open_multicast(LOOPBACK) as b,
            announce(a, one, 1001, label="one"),
            browse(a, cluster, one.instance) as seen_by_one,
        ):
            async with announce(b, two, 1002), browse(b, cluster, two.instance) as seen_by_two:
                found = await anext(seen_by_one)
                assert isinstance(found, Found)
                assert found.peer.description == two
                assert found.peer.addresses == ("127.0.0.1",)
                assert found.peer.port == 1002
                other = await anext(seen_by_two)
                assert isinstance(other, Found)
                assert other.peer.description == one
                assert other.peer.service == service_name("one", one.instance)
            lost = await anext(seen_by_one)
            assert lost == Lost(found.peer)


@pytest.mark.trio
async def test_a_browser_that_comes_later_finds_what_is_there():
    cluster = secrets.token_bytes(16)
    there = node(cluster)
    with trio.fail_after(PATIENCE):
        async with (
            open_multicast(LOOPBACK) as a,
            announce(a, there, 1003),
            open_multicast(LOOPBACK) as b,
            browse(b, cluster) as events,
        ):
            event = await anext(events)
    assert event.peer.node_id == there.node_id


@pytest.mark.trio
async def test_a_restarted_node_is_another_instance_of_the_same_node():
    cluster = secrets.token_bytes(16)
    first = node(cluster)
    again = node(cluster, node_id=first.node_id)
    with trio.fail_after(PATIENCE):
        async with (
            open_multicast(LOOPBACK) as a,
            open_multicast(LOOPBACK) as b,
            browse(b, cluster) as events,
            announce(a, first, 1004),
        ):
            before = await anext(events)
            async with announce(a, again, 1005):
                after = await anext(events)
    assert before.peer.node_id == after.peer.node_id
    assert (before.peer.instance, after.peer.instance) == (first.instance, again.instance)
    assert before.peer.service != after.peer.service


@pytest.mark.trio
async def test_strangers_are_ignored_and_said_to_be(caplog):
    """Another cluster, another version and garbage; then a good peer, which is the only one found."""
    caplog.set_level("INFO", logger="dsdp.discovery")
    cluster = secrets.token_bytes(16)
    foreign = encode_txt(node(secrets.token_bytes(16)))
    future = encode_txt(node(cluster, versions=(7, 9)))
    broken = encode_txt(node(cluster)) | {"id": "not base32!"}
    with trio.fail_after(PATIENCE):
        async with (
            open_multicast(LOOPBACK) as a,
            browse(a, cluster, report_ignored=True) as events,
            raw_service("foreign", foreign) as name_1,
            raw_service("future", future) as name_2,
            raw_service("broken", broken) as name_3,
        ):
            names = {name_1: "other-cluster", name_2: "other-version", name_3: "malformed"}
            told = {}
            while len(told) < 3:
                event = await anext(events)
                # Tests running beside this one are other clusters too.
                if isinstance(event, Ignored) and event.service in names:
                    told[event.service] = event.code
                assert not isinstance(event, Found)
            assert told == names
            async with open_multicast(LOOPBACK) as b, announce(b, node(cluster), 1006):
                while not isinstance(event := await anext(events), Found):
                    assert isinstance(event, Ignored)
                assert event.peer.port == 1006
    assert all(name in caplog.text for name in names)


@pytest.mark.trio
async def test_unknown_keys_are_ignored():
    cluster = secrets.token_bytes(16)
    peer = node(cluster)
    with trio.fail_after(PATIENCE):
        async with (
            open_multicast(LOOPBACK) as a,
            browse(a, cluster) as events,
            raw_service("grease", encode_txt(peer) | {"zz": "\x00\xff", "flag": None}),
        ):
            event = await anext(events)
    assert event.peer.description == peer


@pytest.mark.trio
async def test_errors_in_the_block_come_out_as_they_are():
    class Mine(Exception):
        pass

    with pytest.raises(Mine):
        async with open_multicast(LOOPBACK) as a, announce(a, node(b"c" * 16), 1007), browse(a, b"c" * 16):
            raise Mine


@pytest.mark.trio
async def test_cancelling_takes_the_announcement_back():
    cluster = secrets.token_bytes(16)
    with trio.fail_after(PATIENCE):
        async with (
            open_multicast(LOOPBACK) as watcher,
            browse(watcher, cluster) as events,
            trio.open_nursery() as nursery,
        ):

            async def announcing():
                async with open_multicast(LOOPBACK) as a, announce(a, node(cluster), 1008):
                    await trio.sleep_forever()

            nursery.start_soon(announcing)
            found = await anext(events)
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                assert await anext(events) == Lost(found.peer)


@pytest.mark.trio
async def test_no_interface_is_a_clear_error():
    with pytest.raises(discovery.MulticastUnavailable, match="--peer"):
        async with open_multicast([]):
            raise AssertionError("opened without an interface")


@pytest.mark.trio
async def test_an_address_that_is_not_ours_is_a_clear_error():
    with pytest.raises(discovery.MulticastUnavailable, match=r"192\.0\.2\.77"):
        async with open_multicast([choose_interfaces(["lo"])[0].__class__("192.0.2.77", 9, ("192.0.2.77",), ())]):
            raise AssertionError("opened an address that this machine does not have")


@pytest.mark.trio
async def test_a_flood_of_names_is_bounded():
    """Reports pile up in a table of fixed size while nobody reads; a later one replaces an earlier one."""
    async with open_multicast(LOOPBACK) as a, browse(a, b"c" * 16) as events:
        for number in range(discovery.MAX_SERVICES + 50):
            events._note(f"x{number}.{SERVICE_TYPE}", discovery.ServiceStateChange.Added)
            events._note(f"x{number}.{SERVICE_TYPE}", discovery.ServiceStateChange.Removed)
        assert len(events._changed) == discovery.MAX_SERVICES
        assert set(events._changed.values()) == {discovery.ServiceStateChange.Removed}
        with trio.move_on_after(0):
            await anext(events)
        assert not events._known


@pytest.mark.parametrize("label", ["plain", "ünïcode " * 20, "dots.and.dots", "\x00\x07", ""])
def test_service_names_are_valid_labels(label):
    name = service_name(label, bytes(8))
    first = name.removesuffix(f".{SERVICE_TYPE}")
    assert len(first.encode()) <= 63
    assert "." not in first
    assert first.endswith("-" + "00" * 8)
    ServiceInfo(SERVICE_TYPE, name)  # zeroconf's own checks
