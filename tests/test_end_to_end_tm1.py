"""Whole sessions over real sockets and real TLS: whatever drafters do, the stream equals the target alone."""

from __future__ import annotations

import json
import socket
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from live import PROMPT, Brake, Guest, Stranger, Town, alone, contract, drafter, in_trio

from dsdproto.registry import ErrorCode, Finish, Role
from dsdproto.roles.client import Committed
from dsdproto.roles.leader import LeaderConfig
from dsdproto.wire.messages import Open, Propose
from reference_nodes.client import NoLeader, Session, SessionFailed, open_session
from reference_nodes.host import HostFailed
from reference_nodes.node import ConfigError, Node, NodeConfig, open_node

AT_ONCE = (Role.LEADER, Role.VERIFIER)


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Town:
    return Town.found(Path(tmp_path_factory.mktemp("town")))


async def client_of(stack: AsyncExitStack, town: Town, leader: Node) -> Node:
    return await stack.enter_async_context(
        open_node(town.config(Role.CLIENT, host=None, peers=(str(leader.address),)))
    )


async def draft_for(stack: AsyncExitStack, town: Town, leader: Node, *models: str) -> None:
    before = len(leader.links_to(Role.DRAFTER))
    for model in models:
        await stack.enter_async_context(
            open_node(town.config(Role.DRAFTER, draft=model, host=None, peers=(str(leader.address),)))
        )
    await leader.wait_for(Role.DRAFTER, before + len(models))


async def committed(session: Session, position: int) -> None:
    """Read the stream up to ``position`` tokens, prompt included."""
    while len(PROMPT) + len(session.tokens) < position:
        await anext(session)


@pytest.mark.parametrize("temperature", [0.0, 0.8])
@pytest.mark.parametrize("drafters", [0, 1, 3])
@in_trio
async def test_the_stream_equals_the_target_alone(town: Town, drafters: int, temperature: float) -> None:
    asked = contract(60, temperature)
    async with AsyncExitStack() as stack:
        leader = await stack.enter_async_context(open_node(town.config(*AT_ONCE)))
        Brake(leader)
        await draft_for(stack, town, leader, *(drafter(number + 1, 0.8) for number in range(drafters)))
        client = await client_of(stack, town, leader)
        async with open_session(client, asked) as session:
            origins = b"".join([item.origins or b"" async for item in session if isinstance(item, Committed)])
        assert session.tokens == alone(asked)
        assert session.result is not None and session.result.finish is Finish.LENGTH
        stats = session.result.stats
        assert stats is not None and len(origins) == 60
        if drafters:
            assert 20 <= stats.accepted < 60 and stats.rounds < 40
            assert sum(origin != 0 for origin in origins) == stats.accepted
            assert {origin for origin in origins if origin} <= set(session.drafters)
        else:
            assert (stats.drafted, stats.rounds, set(origins)) == (0, 60, {0})


@in_trio
async def test_trees_are_proposed_and_used(town: Town) -> None:
    asked = contract(60, 0.8)
    async with AsyncExitStack() as stack:
        config = town.config(*AT_ONCE, leader=LeaderConfig(width=3, credit=64))
        leader = await stack.enter_async_context(open_node(config))
        brake = Brake(leader)
        await draft_for(stack, town, leader, drafter(1, 0.6), drafter(2, 0.6))
        client = await client_of(stack, town, leader)
        async with open_session(client, asked) as session:
            await session.finish()
        assert session.tokens == alone(asked)
        proposals = [event.message for event in brake.seen if isinstance(event.message, Propose)]
        assert any(proposal.parents is not None for proposal in proposals)


@in_trio
async def test_a_session_on_the_leader_itself_needs_no_network(town: Town) -> None:
    asked = contract(30)
    async with (
        open_node(town.config(Role.CLIENT, *AT_ONCE, host=None)) as node,
        open_session(node, asked) as session,
    ):
        await session.finish()
    assert session.tokens == alone(asked)


@in_trio
async def test_drafters_join_and_leave_in_the_middle(town: Town) -> None:
    asked = contract(120)
    async with AsyncExitStack() as stack:
        leader = await stack.enter_async_context(open_node(town.config(*AT_ONCE)))
        brake = Brake(leader)
        client = await client_of(stack, town, leader)
        brake.stop(25)
        session = await stack.enter_async_context(open_session(client, asked))
        await brake.stopped()
        async with AsyncExitStack() as visit:
            await draft_for(visit, town, leader, drafter(1, 0.9))
            brake.go(75)
            await brake.stopped()
            accepted = next(iter(brake.leader.sessions.values())).accepted
            assert accepted > 10
        await brake.until(lambda: not leader.links_to(Role.DRAFTER))
        brake.go()
        result = await session.finish()
        assert session.tokens == alone(asked)
        assert result.stats is not None and result.stats.accepted >= accepted


@in_trio
async def test_another_verifier_takes_over(town: Town) -> None:
    asked = contract(80, 0.8)
    async with AsyncExitStack() as stack:
        leader = await stack.enter_async_context(open_node(town.config(Role.LEADER)))
        peers = (str(leader.address),)
        nursery = await stack.enter_async_context(trio.open_nursery())
        first = await Guest.arrive(nursery, town.config(Role.VERIFIER, host=None, peers=peers))
        brake = Brake(first.node, leader)
        await leader.wait_for(Role.VERIFIER)
        await draft_for(stack, town, leader, drafter(1))
        client = await client_of(stack, town, leader)
        brake.stop(40)
        session = await stack.enter_async_context(open_session(client, asked))
        await brake.stopped()
        await stack.enter_async_context(open_node(town.config(Role.VERIFIER, host=None, peers=peers)))
        await leader.wait_for(Role.VERIFIER, 2)
        await first.leave()
        await session.finish()
        assert session.tokens == alone(asked)


@in_trio
async def test_a_session_without_any_verifier_left_fails_and_says_so(town: Town) -> None:
    async with AsyncExitStack() as stack:
        config = town.config(Role.LEADER, leader=LeaderConfig(verifier_patience=0.01))
        leader = await stack.enter_async_context(open_node(config))
        nursery = await stack.enter_async_context(trio.open_nursery())
        peers = (str(leader.address),)
        first = await Guest.arrive(nursery, town.config(Role.VERIFIER, host=None, peers=peers))
        brake = Brake(first.node, leader)
        await leader.wait_for(Role.VERIFIER)
        client = await client_of(stack, town, leader)
        brake.stop(20)
        session = await stack.enter_async_context(open_session(client, contract(80)))
        await brake.stopped()
        await first.leave()
        with pytest.raises(SessionFailed) as caught:
            await session.finish()
        assert caught.value.failure.code == ErrorCode.VERIFIER_LOST
        assert "stands at position" in str(caught.value)
        assert session.tokens == alone(contract(80))[: len(session.tokens)]


@in_trio
async def test_a_wrong_vocabulary_is_refused_precisely(town: Town) -> None:
    asked = replace(contract(), vocabulary_digest=b"\x17" * 32)
    async with AsyncExitStack() as stack:
        leader = await stack.enter_async_context(open_node(town.config(*AT_ONCE)))
        client = await client_of(stack, town, leader)
        async with open_session(client, asked) as session:
            with pytest.raises(SessionFailed) as caught:
                await session.finish()
        assert caught.value.failure.code == ErrorCode.VOCABULARY_MISMATCH
        assert caught.value.failure.clause == "S-3"
        assert "17171717" in str(caught.value) and contract().vocabulary_digest.hex()[:16] in str(caught.value)
        # The link serves the next session.
        async with open_session(client, contract()) as session:
            await session.finish()
        assert session.tokens == alone(contract())


@in_trio
async def test_a_drafter_with_another_vocabulary_is_not_used(town: Town) -> None:
    async with AsyncExitStack() as stack:
        leader = await stack.enter_async_context(open_node(town.config(*AT_ONCE)))
        brake = Brake(leader)
        await draft_for(stack, town, leader, "tm-1:v=256,s=7,a=60000,d=1")
        client = await client_of(stack, town, leader)
        async with open_session(client, contract()) as session:
            result = await session.finish()
        assert session.tokens == alone(contract())
        assert result.stats is not None and result.stats.drafted == 0
        assert not any(isinstance(event.message, Propose) for event in brake.seen)


@in_trio
async def test_four_sessions_share_verifier_and_drafters(town: Town) -> None:
    asked = [contract(50, 0.8 * (number % 2), seed=number, prompt=(number + 1, 2, 3)) for number in range(4)]
    async with AsyncExitStack() as stack:
        leader = await stack.enter_async_context(open_node(town.config(*AT_ONCE)))
        Brake(leader)
        await draft_for(stack, town, leader, drafter(1), drafter(2))
        client = await client_of(stack, town, leader)
        sessions = [await stack.enter_async_context(open_session(client, one)) for one in asked]
        async with trio.open_nursery() as nursery:
            for session in sessions:
                nursery.start_soon(session.finish)
        assert [session.tokens for session in sessions] == [alone(one) for one in asked]
        assert all(session.result and session.result.stats and session.result.stats.accepted for session in sessions)


@in_trio
async def test_leaving_a_session_early_frees_it_everywhere(town: Town) -> None:
    async with AsyncExitStack() as stack:
        leader = await stack.enter_async_context(open_node(town.config(*AT_ONCE)))
        brake = Brake(leader)
        await draft_for(stack, town, leader, drafter(1))
        client = await client_of(stack, town, leader)
        async with open_session(client, contract(100_000)) as session:
            await committed(session, 20)
        await brake.until(lambda: not brake.leader.sessions)


@in_trio
async def test_a_contract_that_cannot_be_sent_is_the_callers_error(town: Town) -> None:
    async with open_node(town.config(Role.CLIENT, *AT_ONCE, host=None)) as node:
        with pytest.raises(Exception, match="max_tokens"):
            async with open_session(node, replace(contract(), max_tokens=0)):
                raise AssertionError("not reached")
        async with open_session(node, contract()) as session:
            await session.finish()


@in_trio
async def test_without_a_leader_the_error_says_who_was_tried(town: Town) -> None:
    async with open_node(town.config(Role.CLIENT, host=None, peers=("127.0.0.1:1",))) as node:
        with pytest.raises(NoLeader, match=r"127\.0\.0\.1:1.*refused"):
            async with open_session(node, contract(), wait=0.5):
                raise AssertionError("not reached")


# ---------------------------------------------------------------- links


@in_trio
async def test_two_nodes_that_dial_each_other_keep_one_link(town: Town) -> None:
    """Both dial at once, whoever has the lower id; the session runs over the link that stays."""
    async with AsyncExitStack() as stack:
        leader = await stack.enter_async_context(open_node(town.config(*AT_ONCE)))
        Brake(leader)
        for number in range(4):
            drafts = await stack.enter_async_context(
                open_node(town.config(Role.DRAFTER, draft=drafter(number), peers=(str(leader.address),)))
            )
            assert drafts.port is not None
            leader.peers.dial_static("127.0.0.1", drafts.port)
        await leader.wait_for(Role.DRAFTER, 4)
        client = await client_of(stack, town, leader)
        async with open_session(client, contract(60)) as session:
            await session.finish()
        assert session.tokens == alone(contract(60))
        peers = [link.peer_id for link in leader.peers.links.values()]
        assert len(peers) == len(set(peers)) == 5


@in_trio
async def test_a_node_that_dials_itself_gives_up(town: Town) -> None:
    async with open_node(town.config(*AT_ONCE)) as node:
        assert node.port is not None
        node.peers.dial_static("127.0.0.1", node.port)
        while node.peers.dialing():
            await trio.lowlevel.checkpoint()
        assert not node.peers.links


@in_trio
async def test_another_cluster_is_turned_away_and_says_so(town: Town, tmp_path: Path) -> None:
    foreign = Town.found(tmp_path)
    async with AsyncExitStack() as stack:
        leader = await stack.enter_async_context(open_node(town.config(*AT_ONCE)))
        stranger = await stack.enter_async_context(
            open_node(foreign.config(Role.CLIENT, host=None, peers=(str(leader.address),)))
        )
        with pytest.raises(NoLeader, match="cluster"):
            async with open_session(stranger, contract(), wait=1.0):
                raise AssertionError("not reached")
        assert not leader.peers.links


@in_trio
async def test_a_client_that_does_not_read_is_cut_off_and_hurts_nobody(town: Town) -> None:
    asked = contract(30_000)
    async with AsyncExitStack() as stack:
        leader = await stack.enter_async_context(open_node(town.config(*AT_ONCE, max_outbound=10_000)))
        brake = Brake(leader, wait_for_drafts=False)
        lazy = await Stranger.connect(town.identity(), leader, Role.CLIENT)
        (link,) = leader.peers.links.values()
        shrink(link._stream, socket.SO_SNDBUF)
        shrink(lazy.stream, socket.SO_RCVBUF)
        await lazy.send(1, Open(session=b"lazy".ljust(16), contract=asked, max_drafters=0, origins=1))
        client = await client_of(stack, town, leader)
        async with open_session(client, contract(40)) as session:
            await session.finish()
        assert session.tokens == alone(contract(40))
        await brake.until(lambda: not brake.leader.sessions)
        assert "reads too slowly" in link.reason and "10000" in link.reason
        async with open_session(client, contract(40)) as session:
            await session.finish()
        assert session.tokens == alone(contract(40))
        await trio.aclose_forcefully(lazy.stream)


def shrink(stream: Any, buffer: int) -> None:
    """A few kilobytes in the kernel, so that a peer that does not read is felt soon."""
    stream.transport_stream.stream.setsockopt(socket.SOL_SOCKET, buffer, 2048)


# ---------------------------------------------------------------- status


@in_trio
async def test_status_adds_up(town: Town) -> None:
    async with AsyncExitStack() as stack:
        leader = await stack.enter_async_context(open_node(town.config(*AT_ONCE, name="head")))
        brake = Brake(leader)
        await draft_for(stack, town, leader, drafter(1))
        client = await client_of(stack, town, leader)
        brake.stop(30)
        session = await stack.enter_async_context(open_session(client, contract(60)))
        await brake.stopped()
        (link,) = client.links_to(Role.LEADER)
        document = json.loads(await link.ask_status())
        (running,) = document["leader"]["sessions"]
        assert (document["name"], document["roles"]) == ("head", ["leader", "verifier"])
        assert running["session"] == session.id.hex() and running["position"] >= 30
        assert running["drafted"] >= running["accepted"] > 0 and len(running["drafters"]) == 1
        assert document["verifier"]["sessions"] == 1 and document["verifier"]["forwards"] >= running["rounds"]
        assert {tuple(entry["roles"]) for entry in document["links"]} == {("client",), ("drafter",)}
        for entry in document["links"]:
            frames, wire = entry["frame_bytes"], entry["wire_bytes"]
            assert 0 < frames["sent"] < wire["sent"] and 0 < frames["received"] < wire["received"]
            assert entry["messages"]["received"]["HELLO"] == 1
            # Accepted links see the TLS handshake as well.
            assert 1000 < entry["tls_handshake_bytes"]["received"] < wire["received"]
        brake.go()
        await session.finish()
        assert session.tokens == alone(contract(60))


# ---------------------------------------------------------------- discovery


@in_trio
async def test_nodes_find_each_other_by_mdns(town: Town) -> None:
    asked = contract(40)
    async with AsyncExitStack() as stack:
        nodes = []
        for roles, more in (
            ((Role.LEADER,), {}),
            ((Role.VERIFIER,), {}),
            ((Role.DRAFTER,), {"draft": drafter(1)}),
            ((Role.CLIENT,), {"host": None}),
        ):
            config = town.config(*roles, interfaces=("127.0.0.1",), **more)
            nodes.append(await stack.enter_async_context(open_node(config)))
        leader, verifier, _, client = nodes
        Brake(verifier, leader)
        await leader.wait_for(Role.DRAFTER)
        await leader.wait_for(Role.VERIFIER)
        await client.wait_for(Role.LEADER)
        async with open_session(client, asked) as session:
            result = await session.finish()
        assert session.tokens == alone(asked)
        assert result.stats is not None and result.stats.accepted > 0


# ---------------------------------------------------------------- what may not be hidden


@in_trio
async def test_a_bug_in_a_role_ends_the_node_with_one_exception(town: Town, caplog: pytest.LogCaptureFixture) -> None:
    config = town.config(Role.CLIENT, *AT_ONCE, host=None)
    with pytest.raises(HostFailed, match="KeyError") as caught:
        async with open_node(config) as node:

            def bug(event: object, now: float) -> list[object]:
                raise KeyError("oops")

            node.host.machine.roles[Role.LEADER] = SimpleNamespace(handle=bug)  # type: ignore[assignment]
            async with open_session(node, contract()) as session:
                await session.finish()
    assert isinstance(caught.value.__cause__, KeyError)
    assert "oops" in caplog.text


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"roles": ()}, "at least one role"),
        ({"roles": (Role.VERIFIER,)}, "needs a model"),
        ({"roles": (Role.DRAFTER,)}, "draft model"),
        ({"roles": (Role.CLIENT,), "identity": None}, "identity"),
        ({"roles": (Role.CLIENT,), "peers": ("nowhere",)}, "HOST:PORT"),
    ],
)
@in_trio
async def test_a_node_that_cannot_be_is_refused_precisely(town: Town, values: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        async with open_node(NodeConfig(**{"identity": town.identity(), "host": None, **values})):
            raise AssertionError("not reached")
