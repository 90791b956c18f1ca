"""The messages of DSDP version 1 (SPEC.md, sections "Connection", "Session", "Draft", "Verify", "Join").

Each class is one row of the registry: its type code, the plane it belongs to, who sends it, and its fields
with their map keys and bounds. Encoding, decoding and validation all follow from this table
(:mod:`dsdproto.wire.schema`).

A *token string* is a byte string of three-byte big-endian ids: never longer than the CBOR array of the same
ids for vocabularies above 255, and checked with one comparison. A *digest* is the name of a prefix
(:mod:`dsdproto.prefix`).
"""

from __future__ import annotations

from dsdproto.registry import (
    DIGEST_BYTES,
    MAX_GROUP,
    MAX_NODES,
    MAX_TEXT,
    MAX_VOCABULARY,
    NODE_ID_BYTES,
    SESSION_ID_BYTES,
    SHORT_DIGEST_BYTES,
    MessageType,
    Role,
)
from dsdproto.wire.schema import array, bstr, closed, message, record, sub, tokens, tstr, uint, uints

U16 = (1 << 16) - 1
U32 = (1 << 32) - 1
U64 = (1 << 64) - 1
MAX_PROMPT = 1 << 18
MAX_MODELS = 16

ANY = (Role.CLIENT, Role.LEADER, Role.DRAFTER, Role.VERIFIER, Role.VOTER)

# ---------------------------------------------------------------- connection plane


@record
class ModelOffer:
    """One model that a node drafts or verifies with."""

    role: int = uint(1, max=U16)
    name: str = tstr(2, max=128)
    vocabulary_size: int = uint(3, min=1, max=MAX_VOCABULARY)
    vocabulary_digest: bytes = bstr(4, size=DIGEST_BYTES)
    max_context: int = uint(5, min=1, max=U32)
    profile: bytes | None = bstr(6, size=DIGEST_BYTES, default=None)
    profile_text: str | None = tstr(7, max=MAX_TEXT, default=None)


@record
class Limits:
    """What the sender is ready to receive."""

    max_payload: int = uint(1, min=1 << 16, max=(1 << 24) - 1)
    max_channels: int = uint(2, min=1, max=U16)
    heartbeat_ms: int = uint(3, min=50, max=600_000)


@message(MessageType.HELLO, plane="connection", senders=ANY)
class Hello:
    """First message of each side; the acceptor speaks first (clause C-3)."""

    version_min: int = uint(1, min=1, max=U16)
    version_max: int = uint(2, min=1, max=U16)
    node_id: bytes = bstr(3, size=32)
    instance: bytes = bstr(4, size=8)
    roles: tuple[int, ...] = uints(5, max=U16, max_items=16)
    cluster: bytes = bstr(6, size=16)
    features: tuple[int, ...] = uints(7, max=U16, max_items=64)
    limits: Limits = sub(8, Limits)
    models: tuple[ModelOffer, ...] = array(9, ModelOffer, max_items=MAX_MODELS)
    nonce: bytes = bstr(10, size=16)
    agent: str = tstr(11, max=128)


@message(MessageType.READY, plane="connection", senders=ANY)
class Ready:
    """Digest of what was negotiated: a downgrade by anyone in between is visible (clause C-6)."""

    negotiated: bytes = bstr(1, size=DIGEST_BYTES)


@message(MessageType.PING, plane="connection", senders=ANY)
class Ping:
    sequence: int = uint(1, max=U32)


@message(MessageType.PONG, plane="connection", senders=ANY)
class Pong:
    sequence: int = uint(1, max=U32)


@message(MessageType.GOODBYE, plane="connection", senders=ANY)
class Goodbye:
    """The sender leaves in good order: it opens no more channels and finishes none of the open ones."""

    reason: int = uint(1, max=U16)


@message(MessageType.ERROR, plane="any", senders=ANY)
class Error:
    """What was wrong, where, and by which clause. Ends the connection (channel 0) or its channel."""

    code: int = uint(1, max=U16)
    clause: str = tstr(2, max=32)
    text: str = tstr(3, max=MAX_TEXT)
    message_type: int | None = uint(4, max=255, default=None)
    offset: int | None = uint(5, max=U32, default=None)


@message(MessageType.STATUS_REQUEST, plane="connection", senders=ANY)
class StatusRequest:
    pass


@message(MessageType.STATUS, plane="connection", senders=ANY)
class Status:
    """A JSON document for people and monitors; its content is not normative (clause C-12)."""

    document: str = tstr(1, max=1 << 18)


# ---------------------------------------------------------------- the session contract


@closed
@record
class Sampling:
    """Integers, applied in the order temperature, top-k, top-p, noise (section "Sampling")."""

    method: int = uint(1, max=U16)
    temperature: int = uint(2, max=U32)
    """in 1/65536; 0 is greedy"""
    top_k: int = uint(3, max=MAX_VOCABULARY)
    """0 is off"""
    top_p: int = uint(4, min=1, max=65536)
    """in 1/65536; 65536 is off"""
    seed: int = uint(5, max=U64)


@closed
@record
class Contract:
    """All that determines a stream. The SHA-256 of its encoding names the empty prefix, d(0) (clause S-2)."""

    prompt: tuple[int, ...] = tokens(1, min_items=1, max_items=MAX_PROMPT)
    sampling: Sampling = sub(2, Sampling)
    max_tokens: int = uint(3, min=1, max=U32)
    stop_tokens: tuple[int, ...] = tokens(4, max_items=64)
    """ascending, no duplicates"""
    vocabulary_size: int = uint(5, min=1, max=MAX_VOCABULARY)
    vocabulary_digest: bytes = bstr(6, size=DIGEST_BYTES)
    model: str = tstr(7, max=128)
    """name of the target model; empty: any with this vocabulary"""
    commit_profile: int = uint(8, max=U16)
    profile: bytes | None = bstr(9, size=DIGEST_BYTES, default=None)
    """numeric profile that the stream must come from; absent: any"""


# ---------------------------------------------------------------- session plane


@message(MessageType.OPEN, plane="session", senders=(Role.CLIENT,), opens=True)
class Open:
    session: bytes = bstr(1, size=SESSION_ID_BYTES)
    contract: Contract = sub(2, Contract)
    max_drafters: int = uint(3, max=U16)
    """0: decode on the target alone"""
    origins: int = uint(4, max=1)
    """1: say in each BLOCK who proposed each token"""


@message(MessageType.RESUME, plane="session", senders=(Role.CLIENT,), opens=True)
class Resume:
    """Go on with a stream of the `quorum` profile, at any voter of its group (clause Q-50)."""

    session: bytes = bstr(1, size=SESSION_ID_BYTES)
    position: int = uint(2, max=U32)
    """length of the prefix that the client holds, prompt included"""
    digest: bytes = bstr(3, size=DIGEST_BYTES)


@message(MessageType.OPENED, plane="session", senders=(Role.LEADER, Role.VOTER))
class Opened:
    position: int = uint(1, max=U32)
    model: str = tstr(2, max=128)
    profile: bytes = bstr(3, size=DIGEST_BYTES)
    profile_text: str = tstr(4, max=MAX_TEXT)
    group: bytes | None = bstr(5, min=NODE_ID_BYTES, max=MAX_GROUP * NODE_ID_BYTES, default=None)
    """node ids of the session's voters, in the order of their views; absent under `solo`"""
    view: int | None = uint(7, max=U32, default=None)


@record
class DrafterEntry:
    """A number that ``origins`` uses from now on, and whose it is."""

    number: int = uint(1, min=1, max=255)
    node_id: bytes = bstr(2, size=32)
    model: str = tstr(3, max=128)


@message(MessageType.BLOCK, plane="session", senders=(Role.LEADER, Role.VOTER))
class Block:
    """Committed tokens, in order, without gap or repetition (clause S-8)."""

    position: int = uint(1, max=U32)
    """length of the prefix that the block extends, prompt included"""
    tokens: tuple[int, ...] = tokens(2, min_items=1, max_items=MAX_NODES + 1)
    origins: bytes | None = bstr(3, max=MAX_NODES + 1, default=None)
    """one byte a token: 0 the target's own, k the drafter with number k"""
    drafters: tuple[DrafterEntry, ...] | None = array(5, DrafterEntry, max_items=255, default=None)


@record
class Stats:
    """What a session cost. Counts of tokens unless said otherwise."""

    rounds: int = uint(1, max=U64)
    """verdicts, that is target forwards that this session took part in"""
    drafted: int = uint(2, max=U64)
    """draft nodes received"""
    verified: int = uint(3, max=U64)
    """draft nodes sent to a verifier"""
    accepted: int = uint(4, max=U64)
    waste: tuple[int, ...] = uints(5, max=U64, max_items=16)
    """drafted - accepted - live, by cause, in the order of the registry "waste causes" """


@message(MessageType.END, plane="session", senders=(Role.LEADER, Role.VOTER))
class End:
    """The stream is complete. Closes the channel."""

    finish: int = uint(1, max=U16)
    position: int = uint(2, max=U32)
    digest: bytes = bstr(3, size=DIGEST_BYTES)
    stats: Stats | None = sub(5, Stats, default=None)


@message(MessageType.CLOSE, plane="session", senders=(Role.CLIENT,))
class Close:
    """The client wants no more; the leader answers with END (finish CLOSED)."""


# ---------------------------------------------------------------- draft plane


@message(MessageType.ATTACH, plane="draft", senders=(Role.LEADER,), opens=True)
class Attach:
    session: bytes = bstr(1, size=SESSION_ID_BYTES)
    contract: Contract = sub(2, Contract)
    committed: tuple[int, ...] = tokens(3, max_items=MAX_PROMPT)
    """tokens committed after the prompt so far"""
    credit: int = uint(4, max=U16)
    """draft nodes that may be outstanding (clause D-6)"""
    window: int = uint(5, min=1, max=MAX_NODES)
    """nodes that the leader would like in one PROPOSE"""
    width: int = uint(6, min=1, max=16)
    """children of one node that the leader can use; 1 asks for chains"""


@message(MessageType.ATTACHED, plane="draft", senders=(Role.DRAFTER,))
class Attached:
    model: str = tstr(1, max=128)


@message(MessageType.PROPOSE, plane="draft", senders=(Role.DRAFTER,))
class Propose:
    """Draft nodes below a named prefix. Nodes count from 1 in each channel, in order (clause D-4)."""

    position: int = uint(1, max=U32)
    base: bytes = bstr(2, size=SHORT_DIGEST_BYTES)
    tokens: tuple[int, ...] = tokens(3, min_items=1, max_items=MAX_NODES)
    parents: bytes | None = bstr(4, max=MAX_NODES, default=None)
    """one byte a node: 0 the base, j the j-th node of this message; absent: a chain"""
    scores: bytes | None = bstr(5, max=MAX_NODES, default=None)
    """one byte a node: -16 log2 of the drafter's estimate that it is accepted, given that its parent is"""


@message(MessageType.ADVANCE, plane="draft", senders=(Role.LEADER,))
class Advance:
    """The committed prefix moved: along the drafter's own node ``ref``, then by ``tokens`` (clause D-7)."""

    position: int = uint(1, max=U32)
    """length of the committed prefix after this message"""
    ref: int = uint(2, max=U32)
    """number of the drafter's deepest node on the committed path; 0: start at the last announced prefix"""
    tokens: tuple[int, ...] = tokens(3, max_items=MAX_NODES + 1)
    credit: int | None = uint(4, max=U16, default=None)
    window: int | None = uint(5, min=1, max=MAX_NODES, default=None)


@message(MessageType.DETACH, plane="draft", senders=(Role.LEADER, Role.DRAFTER))
class Detach:
    """Closes the channel."""

    reason: int = uint(1, max=U16)


# ---------------------------------------------------------------- verify plane


@message(MessageType.ASSIGN, plane="verify", senders=(Role.LEADER,), opens=True)
class Assign:
    session: bytes = bstr(1, size=SESSION_ID_BYTES)
    contract: Contract = sub(2, Contract)
    committed: tuple[int, ...] = tokens(3, max_items=MAX_PROMPT)
    model: str | None = tstr(5, max=128, default=None)
    """which of the verifier's targets to use; absent: any that the contract allows (clause S-5)"""


@message(MessageType.ASSIGNED, plane="verify", senders=(Role.VERIFIER,))
class Assigned:
    model: str = tstr(1, max=128)
    profile: bytes = bstr(2, size=DIGEST_BYTES)
    profile_text: str = tstr(3, max=MAX_TEXT)
    max_nodes: int = uint(4, max=MAX_NODES)
    """largest tree of one VERIFY"""
    max_context: int = uint(5, min=1, max=U32)


@message(MessageType.VERIFY, plane="verify", senders=(Role.LEADER,))
class Verify:
    """Score a tree below the named prefix. ``round`` counts up by one in each channel."""

    round: int = uint(1, max=U32)
    position: int = uint(2, max=U32)
    base: bytes = bstr(3, size=SHORT_DIGEST_BYTES)
    tokens: tuple[int, ...] = tokens(4, max_items=MAX_NODES)
    parents: bytes | None = bstr(6, max=MAX_NODES, default=None)


@message(MessageType.VERDICT, plane="verify", senders=(Role.VERIFIER,))
class Verdict:
    """The target's walk down the tree: the path to node ``accepted``, then the target's own ``token``."""

    round: int = uint(1, max=U32)
    accepted: int = uint(2, max=MAX_NODES)
    """number of the deepest accepted node; 0: none"""
    token: int | None = uint(3, max=MAX_VOCABULARY - 1, default=None)
    """the target's own token after it; absent only when the path itself ended the stream"""
    digest: bytes = bstr(4, size=SHORT_DIGEST_BYTES)
    """name of the prefix after path and token"""
    margin: int = uint(5, max=U32)
    """smallest margin of the walk (section "Sampling")"""
    finish: int | None = uint(6, max=U16, default=None)
    compute_us: int | None = uint(7, max=U32, default=None)
    """duration of the forward, microseconds"""
    rows: int | None = uint(9, max=U32, default=None)
    """rows of the forward, all sessions together"""
    queue_us: int | None = uint(11, max=U32, default=None)
    """from receipt of VERIFY to the start of the forward"""


@message(MessageType.RELEASE, plane="verify", senders=(Role.LEADER,))
class Release:
    """Closes the channel; the verifier forgets the session."""


# ---------------------------------------------------------------- commit plane


@message(MessageType.ENLIST, plane="commit", senders=(Role.LEADER,), opens=True)
class Enlist:
    """Take part in ``view`` of the session: promise no older one, and report the log (clause Q-10)."""

    session: bytes = bstr(1, size=SESSION_ID_BYTES)
    contract: Contract = sub(2, Contract)
    group: bytes = bstr(3, min=NODE_ID_BYTES, max=MAX_GROUP * NODE_ID_BYTES)
    """node ids of the voters; the leader of view v is number v mod n"""
    view: int = uint(4, max=U32)
    committed: int = uint(5, max=U32)
    """length of the prefix that this leader knows to be committed, prompt included"""
    model: str = tstr(6, max=128)
    profile: bytes = bstr(7, size=DIGEST_BYTES)
    profile_text: str = tstr(8, max=MAX_TEXT)
    max_drafters: int | None = uint(9, max=U16, default=None)
    """what the client allowed in OPEN, for whoever takes over; absent: none (clause ROLE-1)"""


@message(MessageType.ENLISTED, plane="commit", senders=(Role.VOTER,))
class Enlisted:
    """The promise is stored. Describes the voter's log."""

    view: int = uint(1, max=U32)
    """of its last block; 0 without blocks"""
    height: int = uint(2, max=U32)
    """of its last block; 0 without blocks"""
    committed: int = uint(3, max=U32)
    position: int = uint(4, max=U32)
    """end of the log, prompt included"""
    digest: bytes = bstr(5, size=DIGEST_BYTES)
    tokens: tuple[int, ...] = tokens(6, max_items=MAX_PROMPT)
    """what the log holds beyond ``committed`` of ENLIST"""
    finish: int | None = uint(8, max=U16, default=None)
    """the log ends the stream"""


@message(MessageType.PREPARE, plane="commit", senders=(Role.LEADER,))
class Prepare:
    """Extend the log from a named base (clause Q-20)."""

    view: int = uint(1, max=U32)
    height: int = uint(2, min=1, max=U32)
    """of the last block that this message completes"""
    position: int = uint(3, max=U32)
    base: bytes = bstr(4, size=DIGEST_BYTES)
    tokens: tuple[int, ...] = tokens(5, max_items=MAX_PROMPT)
    digest: bytes = bstr(6, size=DIGEST_BYTES)
    finish: int | None = uint(8, max=U16, default=None)


@message(MessageType.VOTE, plane="commit", senders=(Role.VOTER,))
class Vote:
    """Everything up to this block is stored as the leader named it."""

    view: int = uint(1, max=U32)
    height: int = uint(2, min=1, max=U32)
    digest: bytes = bstr(3, size=DIGEST_BYTES)


@message(MessageType.COMMIT, plane="commit", senders=(Role.LEADER,))
class Commit:
    """A majority voted for everything up to this block."""

    view: int = uint(1, max=U32)
    height: int = uint(2, min=1, max=U32)
    position: int = uint(3, max=U32)
    digest: bytes = bstr(4, size=DIGEST_BYTES)


@message(MessageType.DISMISS, plane="commit", senders=(Role.LEADER,))
class Dismiss:
    """Closes the channel."""

    reason: int = uint(1, max=U16)


# ---------------------------------------------------------------- join plane


@message(MessageType.JOIN, plane="join", senders=ANY)
class Join:
    secret_id: bytes = bstr(1, size=8)
    secret: bytes = bstr(2, size=16)
    public_key: bytes = bstr(3, max=1024)
    """DER SubjectPublicKeyInfo"""
    proof: bytes = bstr(4, max=256)
    """signature over the statement "dsdp-join/1" || secret_id || secret || SHA-256(public_key)"""
    name: str = tstr(5, max=64)


@message(MessageType.JOINED, plane="join", senders=ANY)
class Joined:
    certificate: bytes = bstr(1, max=8192)
    authority: bytes = bstr(2, max=8192)
    cluster: bytes = bstr(3, size=16)
