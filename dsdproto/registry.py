"""Every code point of DSDP version 1 in one place (SPEC.md, section "Registries").

The message classes of :mod:`dsdproto.wire.messages` are the rest of this table: each names its type code, its
plane, who may send it and its fields, next to each other. A test compares both with the tables of SPEC.md.

Parity rule (clause R-1): a receiver that meets a code point it does not know ignores it when it is odd and refuses it
when it is even. The rule holds for message types, map keys, features, error codes, roles and limits alike.
"""

from __future__ import annotations

from enum import IntEnum

ALPN = "dsdp/1"
ALPN_JOIN = "dsdp-join/1"
SERVICE_TYPE = "_dsdp._tcp.local."
VERSION = 1

FRAME_HEADER_BYTES = 8
MAX_PAYLOAD = 1 << 20
"""Largest payload that every receiver must be ready for, and the default limit, in bytes. u24 would allow 16 MiB."""
MAX_DEPTH = 4
"""Deepest nesting of maps and arrays in any payload."""
MAX_VOCABULARY = 1 << 24
"""Token ids travel in three bytes."""
MAX_NODES = 255
"""Draft nodes in one PROPOSE or VERIFY; a parent index fits in one byte."""
MAX_TEXT = 512
SHORT_DIGEST_BYTES = 16
DIGEST_BYTES = 32
SESSION_ID_BYTES = 16
NODE_ID_BYTES = 32
MAX_GROUP = 9
"""Voters of one session."""
FIRST_MANDATORY_PRIVATE_KEY = 64
"""Map keys 64 and above are for private use; the parity rule applies to them too."""


class Role(IntEnum):
    """What a node does (SPEC.md, "Roles")."""

    CLIENT = 1
    LEADER = 2
    DRAFTER = 3
    VERIFIER = 4
    VOTER = 5


class MessageType(IntEnum):
    """The u8 of the frame header. Odd types are optional, even ones must be understood."""

    # connection plane, channel 0
    HELLO = 0x02
    READY = 0x04
    PING = 0x06
    PONG = 0x08
    GOODBYE = 0x0A
    ERROR = 0x0C
    STATUS_REQUEST = 0x0E
    STATUS = 0x10
    # session plane, client and leader
    OPEN = 0x20
    OPENED = 0x22
    BLOCK = 0x24
    END = 0x26
    CLOSE = 0x28
    RESUME = 0x2A
    # draft plane, leader and drafter
    ATTACH = 0x30
    ATTACHED = 0x32
    PROPOSE = 0x34
    ADVANCE = 0x36
    DETACH = 0x38
    # verify plane, leader and verifier
    ASSIGN = 0x40
    ASSIGNED = 0x42
    VERIFY = 0x44
    VERDICT = 0x46
    RELEASE = 0x48
    # commit plane, leader and voter
    ENLIST = 0x50
    ENLISTED = 0x52
    PREPARE = 0x54
    VOTE = 0x56
    COMMIT = 0x58
    DISMISS = 0x5A
    # 0x5c to 0x6f: commit plane, reserved
    # join plane, ALPN dsdp-join/1
    JOIN = 0x70
    JOINED = 0x72


RESERVED_TYPES = range(0x5C, 0x70)
PRIVATE_TYPES = range(0xC0, 0xE0)
GREASE_TYPES = tuple(range(0xE1, 0x100, 2))
"""Odd types that nobody will ever assign: each side sends at least one in every connection."""

GREASE_FEATURES = tuple(0x0A0A + 0x1010 * i | 1 for i in range(8))
GREASE_KEYS = (33, 35, 37, 39)
"""Odd map keys reserved for grease in HELLO."""


class Feature(IntEnum):
    """Negotiated by intersection of the two HELLO messages."""

    TREES = 1
    """PROPOSE and VERIFY may carry ``parents``."""
    SCORES = 3
    """PROPOSE may carry ``scores``."""
    ORIGINS = 5
    """BLOCK may carry ``origins``."""


class Method(IntEnum):
    """Verification methods (contract, sampling)."""

    COUPLED = 0
    REJECTION = 2
    """Reserved: see SPEC.md, "Rejection"."""


class CommitProfile(IntEnum):
    SOLO = 0
    QUORUM = 2
    """Crash faults, n = 2f + 1."""


class Scope(IntEnum):
    """The smallest thing that an error ends."""

    SESSION = 0
    CONNECTION = 2


class Finish(IntEnum):
    """Why a stream ended. Never a timeout: those are errors (clause E-4)."""

    STOP_TOKEN = 0
    LENGTH = 2
    CONTEXT_FULL = 4
    CLOSED = 6


class DismissReason(IntEnum):
    """Why a leader lets a voter go."""

    SESSION_ENDED = 0
    RESIGNED = 2


class DetachReason(IntEnum):
    SESSION_ENDED = 0
    SESSION_MOVED = 2
    UNHELPFUL = 4
    LEAVING = 6
    OVERLOADED = 8


class ErrorCode(IntEnum):
    """u16. Each has a default scope and the clause that it usually cites (see :data:`ERROR_SCOPE`)."""

    # connection scope
    FRAME_TOO_LONG = 0x0002
    FRAME_MALFORMED = 0x0004
    CBOR_MALFORMED = 0x0006
    CBOR_NOT_DETERMINISTIC = 0x0008
    MESSAGE_UNKNOWN = 0x000A
    MESSAGE_INVALID = 0x000C
    MESSAGE_UNEXPECTED = 0x000E
    VERSION_UNSUPPORTED = 0x0010
    NEGOTIATION_MISMATCH = 0x0012
    IDENTITY_MISMATCH = 0x0014
    CLUSTER_MISMATCH = 0x0016
    HEARTBEAT_TIMEOUT = 0x0018
    HANDSHAKE_TIMEOUT = 0x001A
    CHANNEL_MISUSED = 0x001C
    FLOODED = 0x001E
    INTERNAL = 0x0020
    JOIN_REFUSED = 0x0022
    SHUTTING_DOWN = 0x0024
    # session scope
    CONTRACT_INVALID = 0x0100
    VOCABULARY_MISMATCH = 0x0102
    PROFILE_MISMATCH = 0x0104
    MODEL_UNAVAILABLE = 0x0106
    METHOD_UNSUPPORTED = 0x0108
    COMMIT_PROFILE_UNSUPPORTED = 0x010A
    CONTEXT_TOO_LONG = 0x010C
    OVERLOADED = 0x010E
    SESSION_UNKNOWN = 0x0110
    SESSION_EXISTS = 0x0112
    PREFIX_UNKNOWN = 0x0114
    PROPOSAL_INVALID = 0x0116
    CREDIT_EXCEEDED = 0x0118
    VERDICT_INVALID = 0x011A
    COMPUTE_FAILED = 0x011C
    ROLE_UNSUPPORTED = 0x011E
    VERIFIER_LOST = 0x0120
    ADVANCE_INVALID = 0x0122
    QUORUM_UNAVAILABLE = 0x0124
    QUORUM_LOST = 0x0126
    VIEW_STALE = 0x0128
    LEADER_ALIVE = 0x012A
    LEDGER_MISMATCH = 0x012C


def default_scope(code: int) -> Scope:
    """Codes below 0x100 end the connection, the others a session (clause E-2)."""
    return Scope.CONNECTION if code < 0x100 else Scope.SESSION
