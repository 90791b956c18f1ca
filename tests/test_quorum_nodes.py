"""The `quorum` profile on real nodes in this process: streams go on, votes are kept, errors say what to do."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio
from live import Brake, Guest, Town, alone, contract, in_trio

from dsdproto.effects import Effect, Event, Received
from dsdproto.registry import CommitProfile, ErrorCode, Finish, Role
from dsdproto.roles.client import Committed, Interrupted, Resumed, Started
from dsdproto.roles.leader import LeaderConfig
from dsdproto.roles.voter import Voter, VoterConfig
from dsdproto.wire.messages import Open
from reference_nodes.cli.main import main
from reference_nodes.client import NoLeader, SessionFailed, open_session
from reference_nodes.journal_file import JournalBusy
from reference_nodes.node import ConfigError, Node, NodeConfig, open_node
from reference_nodes.status import status_document
from reference_nodes.votes import FILE

ROLES = (Role.LEADER, Role.VERIFIER, Role.VOTER)
CALM = 5000
"""Nobody falls silent here, so a busy machine must not look like it."""


def quorum(max_tokens: int = 60, temperature: float = 0.0):
    asked = contract(max_tokens, temperature)
    return dataclasses.replace(asked, commit_profile=int(CommitProfile.QUORUM))


@dataclass
class Three:
    """Nodes that lead, verify and vote, and a client of all of them."""

    town: Town
    client: Node
    guests: list[Guest]
    configs: list[NodeConfig]

    @property
    def nodes(self) -> list[Node]:
        return [guest.node for guest in self.guests]

    async def linked(self) -> None:
        for node in self.nodes:
            await node.wait_for(Role.VOTER, len(self.guests) - 1)
        await self.client.wait_for(Role.VOTER, len(self.guests))


@asynccontextmanager
async def three(tmp_path: Path, voters: int = 3, **more: object) -> AsyncIterator[Three]:
    town = Town.found(tmp_path)
    configs: list[NodeConfig] = []
    guests: list[Guest] = []
    async with AsyncExitStack() as stack:
        nursery = await stack.enter_async_context(trio.open_nursery())
        stack.callback(nursery.cancel_scope.cancel)
        for _ in range(voters):
            peers = tuple(str(guest.node.address) for guest in guests)
            configs.append(town.config(*ROLES, peers=peers, heartbeat_ms=CALM, **more))
            guests.append(await Guest.arrive(nursery, configs[-1]))
        peers = tuple(str(guest.node.address) for guest in guests)
        config = town.config(Role.CLIENT, host=None, peers=peers, heartbeat_ms=CALM)
        client = await stack.enter_async_context(open_node(config))
        here = Three(town, client, guests, configs)
        await here.linked()
        yield here


def voter_of(node: Node) -> Voter:
    voter = node.host.machine.roles[Role.VOTER]
    assert isinstance(voter, Voter)
    return voter


@in_trio
async def test_a_stream_is_stored_by_a_majority_and_says_what_solo_says(tmp_path: Path) -> None:
    async with three(tmp_path) as here:
        asked = quorum(temperature=0.8)
        async with open_session(here.client, asked, leader=here.nodes[0].node_id) as session:
            result = await session.finish()
            assert session.group[0] == here.nodes[0].node_id and set(session.group) == {n.node_id for n in here.nodes}
        assert session.tokens == alone(asked) and result.finish is Finish.LENGTH and result.stats is not None
        kept = [voter_of(node).seats[session.id].ledger for node in here.nodes]
        assert sum(ledger.committed == len(asked.prompt) + 60 for ledger in kept) >= 2
        assert all(node.votes is not None and node.votes.syncs for node in here.nodes)



@in_trio
async def test_the_stream_goes_on_when_its_leader_leaves(tmp_path: Path) -> None:
    async with three(tmp_path) as here:
        asked = quorum(120, 0.8)
        brake = Brake(here.nodes[0], wait_for_drafts=False)
        brake.stop(len(asked.prompt) + 30)
        items = []
        async with open_session(here.client, asked, leader=here.nodes[0].node_id) as session:
            async for item in session:
                items.append(item)
                if isinstance(item, Started):
                    await brake.stopped()
                    await here.guests[0].leave()
                    brake.go()
        assert session.tokens == alone(asked)
        kinds = [type(item) for item in items]
        assert kinds.count(Started) == 1 and kinds.index(Interrupted) < kinds.index(Resumed)
        positions = [item.position for item in items if isinstance(item, Committed)]
        assert positions == sorted(set(positions))
        resumed = next(item for item in items if isinstance(item, Resumed))
        assert resumed.model == "tm-1:v=512,s=7"


def hold_openings(node: Node) -> trio.Event:
    """The leader of ``node`` hears no OPEN from now on; the event says that it would have."""
    came, handle = trio.Event(), node.host._handle

    def deaf(event: Event, now: float) -> list[Effect]:
        if isinstance(event, Received) and isinstance(event.message, Open):
            came.set()
            return []
        return handle(event, now)

    node.host._handle = deaf  # type: ignore[method-assign]
    return came


@in_trio
async def test_a_leader_that_is_lost_before_it_answers_is_replaced_by_another(tmp_path: Path) -> None:
    async with three(tmp_path) as here:
        asked, came = quorum(), hold_openings(here.nodes[0])
        async with open_session(here.client, asked, leader=here.nodes[0].node_id) as session:
            first = session.id
            await came.wait()
            await here.guests[0].leave()
            result = await session.finish()
            assert result.finish is Finish.LENGTH and session.tokens == alone(asked)
            assert session.id != first and session.group[0] in {node.node_id for node in here.nodes[1:]}
            assert list(here.client.book.sessions) == [session.id]
        assert not here.client.book.sessions


@in_trio
async def test_where_no_other_leader_is_left_the_caller_hears_how_the_first_was_lost(tmp_path: Path) -> None:
    async with three(tmp_path) as here:
        came = hold_openings(here.nodes[0])
        async with open_session(here.client, quorum(), leader=here.nodes[0].node_id, patience=0.2) as session:
            await came.wait()
            for guest in (*here.guests[1:], here.guests[0]):
                await guest.leave()
            with pytest.raises(SessionFailed, match="the link to the leader was lost") as caught:
                await session.finish()
        assert caught.value.failure.clause == "E-4" and not here.client.book.sessions


@in_trio
async def test_a_voter_that_comes_back_remembers(tmp_path: Path) -> None:
    async with three(tmp_path) as here:
        asked = quorum(80)
        async with open_session(here.client, asked, leader=here.nodes[0].node_id) as session:
            await session.finish()
        before = voter_of(here.nodes[1]).seats[session.id].ledger
        await here.guests[1].leave()
        async with open_node(here.configs[1]) as again:
            after = voter_of(again).seats[session.id].ledger
            assert (after.promised, after.view, after.height) == (before.promised, before.view, before.height)
            assert after.chain.digest == before.chain.digest


@in_trio
async def test_a_client_that_finds_no_majority_gives_up_and_says_why(tmp_path: Path) -> None:
    async with three(tmp_path) as here:
        asked = quorum(120)
        brake = Brake(here.nodes[0], wait_for_drafts=False)
        brake.stop(len(asked.prompt) + 20)
        with pytest.raises(SessionFailed) as caught:
            async with open_session(here.client, asked, leader=here.nodes[0].node_id, patience=0.6) as session:
                async for item in session:
                    if isinstance(item, Started):
                        await brake.stopped()
                        for guest in here.guests[:2]:
                            await guest.leave()
                        brake.go()
        text = str(caught.value)
        assert "1 of its 3 voters can be reached" in text and "majority" in text
        assert caught.value.failure.clause == "Q-53"
        assert session.tokens == alone(asked)[: len(session.tokens)]


@in_trio
async def test_a_group_that_cannot_be_founded_is_refused(tmp_path: Path) -> None:
    async with three(tmp_path, voters=2) as here:
        with pytest.raises(SessionFailed, match="2 voters") as caught:
            async with open_session(here.client, quorum()) as session:
                await session.finish()
        assert caught.value.failure.code == ErrorCode.QUORUM_UNAVAILABLE


@in_trio
async def test_a_session_is_founded_while_one_voter_is_away_and_it_joins_when_it_comes(tmp_path: Path) -> None:
    async with three(tmp_path) as here:
        asked, away = quorum(120), here.nodes[2].node_id
        await here.guests[2].leave()
        while here.nodes[0].link_to(away) is not None:
            await here.nodes[0].peers.wait_for_change()
        brake = Brake(here.nodes[0], wait_for_drafts=False)
        brake.stop(len(asked.prompt) + 30)
        async with open_session(here.client, asked, leader=here.nodes[0].node_id) as session:
            await brake.stopped()
            assert session.group == (here.nodes[0].node_id, here.nodes[1].node_id, away)
            async with open_node(here.configs[2]) as again:
                while here.nodes[0].link_to(away) is None:
                    await here.nodes[0].peers.wait_for_change()
                brake.go()
                await session.finish()
                assert session.tokens == alone(asked)
                while not (seat := voter_of(again).seats.get(session.id)) or not seat.ledger.finished:
                    await again.host.call(lambda machine, now: [])
                assert seat.ledger.chain.tokens_from(len(asked.prompt)) == session.tokens


@in_trio
async def test_one_voter_is_a_group_too(tmp_path: Path) -> None:
    async with three(tmp_path, voters=1, leader=LeaderConfig(group_size=1)) as here:
        async with open_session(here.client, quorum()) as session:
            await session.finish()
        assert session.tokens == alone(quorum())


@in_trio
async def test_status_tells_of_votes(tmp_path: Path) -> None:
    async with three(tmp_path) as here:
        asked = quorum(100)
        brake = Brake(here.nodes[0], wait_for_drafts=False)
        brake.stop(len(asked.prompt) + 40)
        async with open_session(here.client, asked, leader=here.nodes[0].node_id) as session:
            await brake.stopped()
            document = status_document(here.nodes[0])
            (leading,) = document["leader"]["sessions"]
            assert leading["quorum"]["view"] == 0 and len(leading["quorum"]["members"]) == 3
            (voting,) = document["voter"]["sessions"]
            assert (voting["session"], voting["view"], voting["state"]) == (session.id.hex(), 0, "following")
            assert voting["lag"] == voting["end"] - voting["committed"] >= 0
            assert document["voter"]["journal"]["bytes"] > 0
            json.dumps(document)
            brake.go()
            await session.finish()
        document = status_document(here.nodes[0])
        assert document["leader"]["sessions"] == []
        assert document["voter"]["sessions"][0]["state"] == "finished"


# ---------------------------------------------------------------- configuration


@in_trio
async def test_a_leader_without_votes_is_not_asked_for_quorum(tmp_path: Path) -> None:
    town = Town.found(tmp_path)
    async with open_node(town.config(Role.LEADER, Role.VERIFIER)) as leader:
        client = town.config(Role.CLIENT, host=None, peers=(str(leader.address),))
        async with open_node(client) as node:
            await node.wait_for(Role.LEADER)
            with pytest.raises(NoLeader, match="voter role"):
                async with open_session(node, quorum(), wait=0.1):
                    pass


@in_trio
async def test_two_nodes_cannot_share_an_identity_s_votes(tmp_path: Path) -> None:
    config = Town.found(tmp_path).config(Role.VOTER)
    async with open_node(config) as node:
        assert config.identity is not None and (config.identity.directory / FILE).exists()
        assert node.hello.limits.heartbeat_ms == 1000
        with pytest.raises(JournalBusy):
            async with open_node(config):
                pass
    async with open_node(config):
        pass


@in_trio
async def test_a_voter_needs_a_place_for_its_votes(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="directory for its votes"):
        async with open_node(NodeConfig(roles=(Role.VOTER,), plain_loopback=True)):
            pass
    config = NodeConfig(roles=(Role.VOTER,), plain_loopback=True, store=tmp_path, voter=VoterConfig(retention=5.0))
    async with open_node(config) as node:
        assert (tmp_path / FILE).exists() and voter_of(node).config.retention == 5.0


# ---------------------------------------------------------------- commands


@in_trio
async def test_dsdp_run_finds_voters_and_survives_its_leader(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with three(tmp_path) as here:
        asker = here.town.identity()
        peers = [option for node in here.nodes for option in ("--peer", str(node.address))]
        where = [*peers, "--home", str(here.town.home), "--name", asker.name]
        run = ["run", "hello", "--raw", "--max-tokens", "40", "--commit", "auto", "--json", "--no-mdns", *where]
        brakes = [Brake(node, wait_for_drafts=False) for node in here.nodes]
        codes = []

        async def ask() -> None:
            codes.append(await trio.to_thread.run_sync(main, run))

        async def leave_when_held(number: int) -> None:
            await brakes[number].stopped()
            for other in range(3):
                if other != number:
                    brakes[other].go()
            await here.guests[number].leave()
            brakes[number].go()

        async with trio.open_nursery() as nursery:
            for number, brake in enumerate(brakes):
                brake.stop(20)
                nursery.start_soon(leave_when_held, number)
            await ask()
            nursery.cancel_scope.cancel()
        captured = capsys.readouterr()
        found = json.loads(captured.out)
        prompt = tuple(4 + byte % 508 for byte in b"hello")
        assert codes == [0] and tuple(found["token_ids"]) == alone(contract(40, prompt=prompt))
        assert [stall["at_token"] > 0 for stall in found["interruptions"]] == [True]
        assert "interrupted after" in captured.err and "the text goes on after" in captured.err

        status = ["status", *where]
        assert await trio.to_thread.run_sync(main, status) == 1  # one of the three is away
        text = capsys.readouterr().out
        assert text.count("committed 45") >= 1 and "finished" in text
