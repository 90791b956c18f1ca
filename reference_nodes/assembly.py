"""From a configuration to the parts of a node: models, HELLO, role machines, votes."""

from __future__ import annotations

import gc
import importlib.metadata
import logging
import os
from collections.abc import Callable, Mapping
from typing import Any

import trio

from dsdproto.effects import Effect
from dsdproto.node import NodeMachine
from dsdproto.registry import MAX_PAYLOAD, VERSION, Feature, Role
from dsdproto.roles.client import Clients, SessionItem
from dsdproto.roles.drafter import Drafter, DrafterConfig
from dsdproto.roles.leader import Leader
from dsdproto.roles.leader_session import Note
from dsdproto.roles.verifier import Verifier, VerifierConfig
from dsdproto.roles.voter import Voter
from dsdproto.wire.messages import Hello, Limits, ModelOffer
from reference_nodes.client import SessionBook
from reference_nodes.config import ConfigError, NodeConfig
from reference_nodes.journal_sqlite import SqliteJournal
from reference_nodes.offers import Say, load_drafter, load_verifier
from reference_nodes.votes import open_votes

log = logging.getLogger("dsdp.node")

MAX_CHANNELS = 4096


async def load_models(config: NodeConfig, say: Say) -> dict[Role, Any]:
    """The models that its roles run. Raises :class:`ConfigError`, ModelError, BackendError."""
    roles = config.roles
    if not roles:
        raise ConfigError("a node needs at least one role.", "Roles are client, leader, drafter, verifier, voter.")
    if Role.VOTER in roles and config.identity is None and config.store is None:
        raise ConfigError("a voter without an identity needs a directory for its votes.", "Set `store`.")
    if config.identity is None and not config.plain_loopback:
        raise ConfigError("a node needs an identity.", "Run `dsdp init` or `dsdp join TOKEN` first.")
    loaded: dict[Role, Any] = {}
    if Role.VERIFIER in roles:
        if config.target is None:
            raise ConfigError("the verifier role needs a model.", "Name one with --model.")
        loaded[Role.VERIFIER] = await trio.to_thread.run_sync(load_verifier, config.target, say)
    if Role.DRAFTER in roles:
        if config.draft is None:
            raise ConfigError("the drafter role needs a draft model.", "Name one with --draft-model.")
        target = config.draft_for or config.target
        loaded[Role.DRAFTER] = await trio.to_thread.run_sync(load_drafter, config.draft, target, say)
    if loaded:
        # Vocabularies are hundreds of thousands of objects that never die. Left among the living, each full collection
        # walks them: a stall of 50 to 120 ms, several times a second under load.
        gc.collect()
        gc.freeze()
    return loaded


def hello_of(config: NodeConfig, loaded: Mapping[Role, Any]) -> Hello:
    """What the node says of itself on every link; a new instance each time."""
    identity = config.identity
    models: tuple[ModelOffer, ...] = tuple(item.offer for item in loaded.values())
    return Hello(
        version_min=VERSION,
        version_max=VERSION,
        node_id=os.urandom(32) if identity is None else identity.node_id,
        instance=os.urandom(8),
        roles=tuple(sorted(int(role) for role in set(config.roles))),
        cluster=bytes(16) if identity is None else identity.cluster_id,
        features=tuple(sorted(int(feature) for feature in Feature)),
        limits=Limits(max_payload=MAX_PAYLOAD, max_channels=MAX_CHANNELS, heartbeat_ms=config.heartbeat),
        models=models,
        nonce=os.urandom(16),
        agent=f"dsdp-reference/{importlib.metadata.version('dsdp')}",
    )


def machine_of(config: NodeConfig, hello: Hello, loaded: Mapping[Role, Any]) -> NodeMachine:
    """All its role machines."""
    machine = NodeMachine(hello)
    if Role.CLIENT in config.roles:
        machine.roles[Role.CLIENT] = Clients()
    if Role.LEADER in config.roles:
        machine.roles[Role.LEADER] = Leader(config.leader, machine.channel)
    if Role.VOTER in config.roles:
        machine.roles[Role.VOTER] = Voter(config.voter, hello.node_id)
    if Role.DRAFTER in loaded:
        machine.roles[Role.DRAFTER] = Drafter(DrafterConfig(loaded[Role.DRAFTER].offer))
    if Role.VERIFIER in loaded:
        target = loaded[Role.VERIFIER]
        rows = min(config.max_rows, target.backend.max_rows)
        machine.roles[Role.VERIFIER] = Verifier(
            VerifierConfig(target.offer, max_nodes=min(config.max_nodes, rows - 1), max_rows=rows)
        )
    return machine


def restore_votes(config: NodeConfig, machine: NodeMachine, say: Say) -> SqliteJournal:
    """Open the voter's journal and replay it. Raises JournalError."""
    directory = config.store or (config.identity and config.identity.directory)
    assert directory is not None
    votes = open_votes(directory, machine.hello.node_id)
    try:
        voter = machine.roles[Role.VOTER]
        assert isinstance(voter, Voter)
        voter.restore(votes.load())
        if voter.seats:
            say(f"{len(voter.seats)} sessions are known from before")
    except BaseException:
        votes.close()
        raise
    return votes


def wake_voter(machine: NodeMachine, now: float) -> list[Effect]:
    """Start the clocks of what was restored."""
    voter = machine.roles[Role.VOTER]
    assert isinstance(voter, Voter)
    return machine.perform(Role.VOTER, voter.wake(now), now)


def sink_of(book: SessionBook) -> Callable[[Any], None]:
    """Takes what the machines deliver: sessions' items to their readers, the rest to the log."""

    def deliver(item: Any) -> None:
        match item:
            case SessionItem():
                book.deliver(item)
            case Note(text, session):
                log.info("%s%s", "" if session is None else f"session {session.hex()[:8]}: ", text)
            case _:
                log.info("%s", item)

    return deliver
