"""The nodes of recorded sessions: TM-1 models, contracts, and shorthand for what a script lets them do."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from struct import pack, unpack

from conformance import reference as ref
from conformance.example_session import profile_text, vocabulary_digest
from conformance.transcripts.world import Node, World
from dsdproto.node import NodeMachine
from dsdproto.registry import CommitProfile, Method, Role
from dsdproto.roles.client import Client, Clients
from dsdproto.roles.drafter import Drafter, DrafterConfig
from dsdproto.roles.leader import Leader, LeaderConfig
from dsdproto.roles.verifier import Verifier, VerifierConfig
from dsdproto.roles.voter import Voter, VoterConfig
from dsdproto.testmodel import TestModel
from dsdproto.wire.messages import Contract, Hello, Limits, ModelOffer, Sampling

V = 4096
VOCABULARY = vocabulary_digest([str(token).encode() for token in range(V)])
TARGET = TestModel.parse(f"tm-1:v={V},s=7")
CONTEXT = 4096
FEATURES = (1, 3, 5)


def alone(terms: Contract, length: int) -> list[int]:
    """What the target decodes alone, by the reference."""
    sampling = terms.sampling
    tokens = list(terms.prompt)
    for _ in range(length):
        row = ref.tm1_row({"v": V, "s": 7, "e": 0, "a": 65536, "d": 0}, ref.context_of(tokens))
        bits = {token: unpack(">I", pack(">f", logit))[0] for token, logit in row.items()}
        how = {"temperature": sampling.temperature, "top_k": sampling.top_k, "top_p": sampling.top_p}
        tokens.append(ref.choose(bits, how, sampling.seed, len(tokens))["token"])
    return tokens[len(terms.prompt) :]


def node_id(name: str) -> bytes:
    """A stand-in: a real one is the SHA-256 of a public key."""
    return sha256(f"transcript node: {name}".encode()).digest()


def offer(model: TestModel, role: Role, max_context: int = CONTEXT) -> ModelOffer:
    text = profile_text(model)
    target = role is Role.VERIFIER
    return ModelOffer(
        role=int(role),
        name=model.name,
        vocabulary_size=model.vocabulary,
        vocabulary_digest=VOCABULARY,
        max_context=max_context,
        profile=sha256(text.encode()).digest() if target else None,
        profile_text=text if target else None,
    )


def contract(**changes: object) -> Contract:
    terms = Contract(
        prompt=(11, 22, 33),
        sampling=Sampling(method=int(Method.COUPLED), temperature=52429, top_k=0, top_p=65536, seed=42),
        max_tokens=24,
        stop_tokens=(0,),
        vocabulary_size=V,
        vocabulary_digest=VOCABULARY,
        model=TARGET.name,
        commit_profile=int(CommitProfile.SOLO),
    )
    return replace(terms, **changes)  # type: ignore[arg-type]


GREEDY = Sampling(method=int(Method.COUPLED), temperature=0, top_k=0, top_p=65536, seed=7)


class Stage(World):
    """A world with shorthand for nodes."""

    def node(
        self,
        name: str,
        *roles: Role,
        features: tuple[int, ...] = FEATURES,
        leader: LeaderConfig | None = None,
        agreement: float = 0.8,
        number: int = 1,
        max_context: int = CONTEXT,
        max_nodes: int = 15,
        width: int = 2,
        expand: float = 0.003,
        max_channels: int = 64,
    ) -> Node:
        models = []
        drafts = TestModel(V, 7, 0, round(agreement * 65536), number) if Role.DRAFTER in roles else None
        if drafts is not None:
            models.append(offer(drafts, Role.DRAFTER, max_context))
        if Role.VERIFIER in roles:
            models.append(offer(TARGET, Role.VERIFIER, max_context))
        hello = Hello(
            version_min=1,
            version_max=1,
            node_id=node_id(name),
            instance=node_id(name)[:8],
            roles=tuple(sorted(int(role) for role in roles)),
            cluster=node_id("authority")[:16],
            features=features,
            limits=Limits(max_payload=1 << 20, max_channels=max_channels, heartbeat_ms=1000),
            models=tuple(models),
            nonce=sha256(f"{self.seed} nonce of {name}".encode()).digest()[:16],
            agent="transcript/1",
        )
        machine = NodeMachine(hello)
        if Role.CLIENT in roles:
            machine.roles[Role.CLIENT] = Clients()
        if Role.LEADER in roles:
            config = leader or LeaderConfig(credit=16, window=4, width=2)
            machine.roles[Role.LEADER] = Leader(config, machine.channel)
        if Role.DRAFTER in roles:
            machine.roles[Role.DRAFTER] = Drafter(DrafterConfig(models[0], width=width))
        if Role.VERIFIER in roles:
            machine.roles[Role.VERIFIER] = Verifier(VerifierConfig(models[-1], max_nodes=max_nodes))
        if Role.VOTER in roles:
            machine.roles[Role.VOTER] = Voter(VoterConfig(), hello.node_id)
        return self.add(Node(name, machine, TARGET, drafts, expand=expand))

    def meet(self, *pairs: tuple[str, str]) -> None:
        """Links, each from dialer to acceptor, and time for their handshakes."""
        for dialer, acceptor in pairs:
            self.connect(dialer, acceptor)
        self.run(lambda: all(end.open for node in self.nodes.values() for end in node.ends.values()))
        self.settle()

    def settle(self, seconds: float = 0.02) -> None:
        """Let some time pass, for grease and the like."""
        done: list[bool] = []
        self.later(seconds, lambda: done.append(True))
        self.run(lambda: bool(done))

    def idle(self, seconds: float) -> None:
        """Time passes with nothing to say but heartbeats."""
        end = self.now + seconds
        while self.now < end:
            for node in self.nodes.values():
                self.beat(node)
            self.settle(0.1)

    def link(self, name: str, peer: str) -> int:
        return next(link for link in self.nodes[name].ends if self.wires[link][2] == peer)

    def open(
        self, terms: Contract, *, session: int = 0, drafters: int = 8, origins: bool = True, leader: str = "leader"
    ) -> Client:
        node = self.nodes["client"]
        clients = node.machine.roles[Role.CLIENT]
        assert isinstance(clients, Clients)
        name = sha256(f"{self.seed} session {session}".encode()).digest()[:16]
        client = Client(session=name, contract=terms, max_drafters=drafters, origins=origins)
        link = self.link("client", leader)
        self.do(node, Role.CLIENT, clients.open(client, link, node.machine.channel(link)))
        return client

    def close(self, client: Client) -> None:
        node = self.nodes["client"]
        clients = node.machine.roles[Role.CLIENT]
        assert isinstance(clients, Clients)
        self.do(node, Role.CLIENT, clients.close(client.session))

    def resume(self, client: Client, voter: str) -> None:
        node = self.nodes["client"]
        clients = node.machine.roles[Role.CLIENT]
        assert isinstance(clients, Clients)
        link = self.link("client", voter)
        self.do(node, Role.CLIENT, clients.resume(client.session, link, node.machine.channel(link)))

    def finish(self, *sessions: Client) -> None:
        self.run(lambda: all(client.over for client in sessions))
        self.settle()
