"""SPEC.md against the code: tables, limits, CDDL, clause ids, examples.

Every check is a function of the text, so that `test_a_wrong_text_is_noticed` can hand it a text with one mistake in it.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Callable
from fractions import Fraction
from functools import cache

import pytest
from spec_text import CLAUSE, ROOT, between, clauses, prose, rows, section, spec

from conformance import example_identity
from conformance import example_session as example
from dsdproto import connection, identity, registry
from dsdproto.channels import PLANES
from dsdproto.commit import quorum
from dsdproto.policy.acceptance import UNSCORED
from dsdproto.registry import Role, default_scope
from dsdproto.roles.leader import LeaderConfig
from dsdproto.roles.voter import VoterConfig
from dsdproto.sampling import fixed
from dsdproto.testmodel import TestModel
from dsdproto.trie import Waste
from dsdproto.wire import messages
from dsdproto.wire.cddl import cddl
from dsdproto.wire.kinds import Bytes, Kind, Text, Tokens, Uint, Uints
from dsdproto.wire.schema import MESSAGES, SPECS, Array, Field, Sub, wire_classes
from reference_nodes import join_wire, txt

CODE = ("dsdproto", "reference_nodes", "conformance")
LEVELS = ("MAY", "SHOULD", "MUST")
NO_CLAUSES = {"UTF-8", "SHA-256", "P-256", "TM-1", "X-509"}
FAMILIES = re.compile(r"\b((?:S-(?:PFX|RNG|SAMP|TM1)|TRIE|ROLE|REJ|SEC|DI|CH|[A-Z])-\d+)\b")
"""What looks like a clause id of this document, in running text."""


# ---------------------------------------------------------------- clauses


def check_clauses(text: str) -> None:
    """Ids are unique, bold ids are all in the usual form, and no word of a clause is stronger than its level."""
    known = clauses(text)
    assert len(known) > 150
    for match in re.finditer(r"^\*\*([A-Z][A-Z0-9-]*-\d+)", text, re.M):
        assert match[1] in known, f"{match[0]!r} does not begin a clause in the form of section 2.2"
    for name, (level, body) in known.items():
        strongest = max(re.findall(r"\b(MUST|SHOULD|MAY)\b", body), key=LEVELS.index, default=level)
        assert LEVELS.index(strongest) <= LEVELS.index(level), f"clause {name} is {level}, but says {strongest}"


def check_key_words(text: str) -> None:
    """Key words of BCP 14 stand in clauses only; the sections that define and explain them are the exception."""
    rest = text.replace(section(text, "2.1 Words"), "").replace(section(text, "2.2 Clauses"), "")
    for level, body in clauses(rest).values():
        rest = rest.replace(f"({level}) {body}", "")
    for match in re.finditer(r"^.*\b(MUST|SHOULD|MAY)\b.*$", rest, re.M):
        assert "every MUST below" in match[0], f"outside of any clause: {match[0]}"


def check_references(text: str) -> None:
    known = clauses(text)
    for match in FAMILIES.finditer(text):
        if match[1] not in NO_CLAUSES:
            line = text.count("\n", 0, match.start()) + 1
            assert match[1] in known, f"line {line} refers to {match[1]}, which is no clause"


def check_links(text: str) -> None:
    """Every link within the document leads to a heading; section numbers that are referred to exist."""
    headings = re.findall(r"^#+ (.+?)\s*$", text, re.M)
    anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    for anchor in re.findall(r"\]\(#([^)]+)\)", text):
        assert anchor in anchors, f"no heading for the link #{anchor}"
    numbers = {match[0] for heading in headings if (match := re.match(r"\d+(\.\d+)*", heading))}
    outside = re.sub(r"(?:RFC|FIPS) ?\d+[^.;)]{0,12}[Ss]ections? [\d.]+", "", text)
    for number in re.findall(r"\bsections? (\d+(?:\.\d+)*)", outside):
        assert number in numbers, f"there is no section {number}"


@cache
def cited_in_code() -> dict[str, str]:
    """Clause ids that the code cites, each with a place. Test files are not searched."""
    found: dict[str, str] = {}
    for package in CODE:
        for path in sorted((ROOT / package).rglob("*.py")):
            source = path.read_text("utf-8")
            where = path.relative_to(ROOT).as_posix()
            for node in ast.walk(ast.parse(source)):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    whole = re.fullmatch(r"[A-Z][A-Z0-9]*(?:-[A-Z][A-Z0-9]*)?-\d+", node.value)
                    if whole and node.value not in NO_CLAUSES:
                        found[node.value] = f"{where}:{node.lineno}"
            for number, line in enumerate(source.splitlines(), 1):
                for match in FAMILIES.finditer(line):
                    if match[1] not in NO_CLAUSES:
                        found.setdefault(match[1], f"{where}:{number}")
    return found


def check_code_citations(text: str) -> None:
    known = clauses(text)
    missing = [f"{name} ({where})" for name, where in sorted(cited_in_code().items()) if name not in known]
    assert not missing, f"the code cites clauses that SPEC.md does not have: {', '.join(missing)}"


# ---------------------------------------------------------------- messages and records


def type_text(kind: Kind) -> str:
    """A field's type as section 2.3 writes it."""
    match kind:
        case Uint(low, high):
            return f"uint {low}..{high}"
        case Bytes(low, high):
            return f"bstr {low}" if low == high else f"bstr {low}..{high}"
        case Text(limit):
            return f"tstr 0..{limit}"
        case Tokens(low, high):
            return f"tokens {low}..{high}"
        case Uints(high, count):
            return f"[uint 0..{high}] 0..{count}"
        case Sub(record):
            return record.__name__
        case Array(record, count):
            return f"[{record.__name__}] 0..{count}"
    raise AssertionError(kind)


def field_row(field: Field) -> list[str]:
    optional = ", optional" if field.optional else ""
    return [str(field.key), field.name, type_text(field.kind) + optional]


def heading_of(cls: type) -> str:
    code = SPECS[cls].type
    return f"Record {cls.__name__}" if code is None else f"{registry.MessageType(code).name} (0x{code:02x})"


def check_fields(text: str) -> None:
    """Each message and record has a heading of its own with exactly the fields of the code."""
    for cls in wire_classes():
        table = SPECS[cls]
        title = heading_of(cls)
        if not table.fields:
            assert "| key |" not in section(text, title), f"{title} has no fields"
            continue
        found = [row[:3] for row in rows(text, title)]
        assert found == [field_row(field) for field in table.fields], f"fields of {title}"


def check_message_types(text: str) -> None:
    found = {int(row[0], 16): row[1:] for row in rows(text, "20.3 Message types")}
    assert found.keys() == MESSAGES.keys()
    for code, cls in MESSAGES.items():
        table = SPECS[cls]
        senders = "any" if len(table.senders) == len(Role) else ", ".join(role.name.lower() for role in table.senders)
        want = [registry.MessageType(code).name, table.plane, senders, "yes" if table.opens else ""]
        assert found[code] == want, f"type {code:#04x}"
    words = prose(text, "20.3 Message types")
    reserved, private = registry.RESERVED_TYPES, registry.PRIVATE_TYPES
    assert f"0x{reserved[0]:02x} to 0x{reserved[-1]:02x} are reserved" in words
    assert f"0x{private[0]:02x} to 0x{private[-1]:02x} are for private use" in words
    grease = registry.GREASE_TYPES
    assert f"0x{grease[0]:02x}, 0x{grease[1]:02x}, ..., 0x{grease[-1]:02x}" in words


# ---------------------------------------------------------------- registries and numbers

REGISTRIES = {
    "20.4 Roles": registry.Role,
    "20.5 Features": registry.Feature,
    "20.6 Verification methods": registry.Method,
    "20.7 Commit profiles": registry.CommitProfile,
    "20.8 Finish codes": registry.Finish,
    "20.9 Detach reasons": registry.DetachReason,
    "20.12 Dismiss reasons": registry.DismissReason,
}


def check_registries(text: str) -> None:
    for title, numbers in REGISTRIES.items():
        found = [(int(row[0]), row[1].upper()) for row in rows(text, title)]
        assert found == [(int(number), number.name) for number in numbers], title
    waste = [(int(row[0]), row[1]) for row in rows(text, "20.10 Waste causes")]
    assert waste == list(enumerate(str(cause) for cause in Waste))
    features = prose(text, "20.5 Features")
    assert ", ".join(f"0x{feature:04x}" for feature in registry.GREASE_FEATURES) in features
    assert f"Grease keys of HELLO: {', '.join(map(str, registry.GREASE_KEYS))}." in features


def check_errors(text: str) -> None:
    known = clauses(text)
    found = rows(text, "20.11 Error codes")
    want = [[f"0x{int(code):04x}", code.name, default_scope(code).name.lower()] for code in registry.ErrorCode]
    assert [row[:3] for row in found] == want
    for row in found:
        cited = re.findall(r"[A-Z][A-Z-]*-\d+", row[3])
        assert cited, f"{row[1]} is cited with no clause"
        assert all(name in known for name in cited), row
        assert row[4], f"{row[1]} has no meaning"


def ranges(cell: str) -> set[str]:
    """Clause ids of a cell; `B-5 to B-8` are four."""
    found = set(re.findall(r"[A-Z][A-Z-]*-\d+", cell))
    for family, first, last in re.findall(r"([A-Z]+)-(\d+) to [A-Z]+-(\d+)", cell):
        found.update(f"{family}-{number}" for number in range(int(first), int(last) + 1))
    return found


@cache
def raised_in_code() -> dict[tuple[str, str], str]:
    """(error code, clause) of every call in `dsdproto` that names both as constants, with a place."""
    found = {}
    for path in sorted((ROOT / "dsdproto").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            for code, clause in zip(node.args, node.args[1:]):
                if (
                    isinstance(code, ast.Attribute)
                    and isinstance(code.value, ast.Name)
                    and code.value.id == "ErrorCode"
                    and isinstance(clause, ast.Constant)
                ):
                    found[code.attr, clause.value] = f"{path.name}:{node.lineno}"
    return found


def check_error_citations(text: str) -> None:
    """Each pair of error code and clause that the code raises is in the table."""
    listed = {row[1]: ranges(row[3]) for row in rows(text, "20.11 Error codes")}
    pairs = raised_in_code()
    assert len(pairs) > 40
    for (code, clause), where in sorted(pairs.items()):
        assert clause in listed[code], f"{where} raises {code} with {clause}, which the table does not list"


def check_limits(text: str) -> None:
    for name, value, *_ in rows(text, "20.2 Limits and fixed numbers"):
        home = registry if hasattr(registry, name) else messages
        assert int(value) == getattr(home, name), name
    for name in (registry.ALPN, registry.ALPN_JOIN, registry.SERVICE_TYPE):
        assert f"`{name}`" in prose(text, "20.2 Limits and fixed numbers")


def check_planes(text: str) -> None:
    want = [
        [
            plane.name,
            plane.opening.__name__.upper(),
            plane.opener.name.lower(),
            plane.answerer.name.lower(),
            plane.answer.__name__.upper(),
            plane.closing.__name__.upper(),
        ]
        for plane in PLANES
    ]
    assert rows(text, "9.2 Channels") == want


def check_numbers_in_clauses(text: str) -> None:
    """Numbers that clauses give in words, against the constants that the code has."""
    known = clauses(text)
    for name, phrase in {
        "F-2": f"no longer than {connection.HANDSHAKE_MAX_PAYLOAD} bytes",
        "C-5": f"not open after {connection.HANDSHAKE_SECONDS:g} seconds",
        "C-11": f"{connection.ALLOWANCE} at once, {connection.REFILL_PER_SECOND} a second",
        "H-3": {4: "four heartbeat intervals"}[connection.SILENT_HEARTBEATS],
        "B-5": f"at most {registry.MAX_DEPTH} deep",
        "N-3": f"modulo {identity.CHECK_MODULUS}",
        "D-5": f"neutral score {UNSCORED}",
        "L-4": f"{LeaderConfig().verifier_patience:g} seconds by default",
        "L-8": f"{LeaderConfig().answer_patience:g} seconds by default",
        "D-19": f"{LeaderConfig().useless_messages} by default",
        "Q-1": f"the leader's to choose ({LeaderConfig().group_size} by default)",
        "Q-36": f"({LeaderConfig().pipeline} by default)",
        "Q-39": f"({1000 * LeaderConfig().tell_within:g} ms at most by default)",
        "Q-63": f"at least the latest {VoterConfig().max_forgotten}",
        "J-10": f"at most {join_wire.MAX_JOIN_PAYLOAD} bytes",
        "DI-8": f"more than {txt.MAX_VALUE_BYTES} bytes or a TXT record of more than {txt.MAX_TXT_BYTES} bytes",
        "S-SAMP-4": fixed.TABLE_DIGESTS["tail"],
        "S-SAMP-6": f"{fixed.LOG2E_Q32} * 2^16",
        "S-SAMP-8": f"at least {fixed.NOISE_MIN} and at most {fixed.NOISE_MAX}",
    }.items():
        # A table ends a clause for `clauses`, so look for the phrase up to the next clause.
        begin = re.search(rf"\n\*\*{name}(?:r\d+)?\*\* \(", text)
        assert begin, f"there is no clause {name}"
        body = text[begin.start() :]
        end = CLAUSE.search(body, begin.end() - begin.start())
        assert phrase in " ".join(body[: end.start() if end else None].split()), f"{name}: {phrase}"
        assert name in known


def check_times(text: str) -> None:
    """Defaults of the quorum profile, against what the machines have."""
    leader, voter = LeaderConfig(), VoterConfig()
    found = {row[0]: row[1] for row in rows(text, "16.8 Views")}
    assert found == {
        "suspicion time": f"{voter.suspect_after:g} s, times d",
        "back-off": f"doubles, up to {voter.max_back_off:g} s",
        "vote patience": f"{leader.vote_patience:g} s",
        "resignation time": f"{leader.resign_after:g} s",
        "verifier patience": f"{leader.verifier_patience:g} s",
        "retention": f"{voter.retention:g} s",
        "heartbeats": f"{connection.SILENT_HEARTBEATS} intervals (H-3)",
    }


def check_turns(text: str) -> None:
    """The example of whose turn it is, against the arithmetic of the voter."""
    said = prose(text, "16.8 Views")
    found = re.search(r"n = (\d), promised view (\d+): its leader is number (\d)", said)
    assert found
    n, promised, leader = map(int, found.groups())
    assert quorum.leader_of(promised, n) == leader
    turns = re.findall(r"number (\d)[^,.]*?(?:\([^)]*\))? waits ([\d.]+) s and asks for view (\d+)", said, re.I)
    assert {int(number) for number, _, _ in turns} == set(range(n))
    for number, wait, view in turns:
        distance = quorum.distance(promised, int(number), n)
        assert round(float(wait) / VoterConfig().suspect_after) == distance, f"number {number}"
        assert int(view) == quorum.next_view(promised, int(number), n) and int(view) % n == int(number)


def check_role_numbers(text: str) -> None:
    named = dict(re.findall(r"^\| (\w+) \((\d)\) \|", section(text, "3 Roles, and what each gets to see"), re.M))
    assert named == {role.name.lower(): str(int(role)) for role in Role}


def check_cddl(text: str) -> None:
    assert between(text, "cddl") == f"```cddl\n{cddl()}```"


# ---------------------------------------------------------------- examples


def check_example(text: str) -> None:
    assert between(text, "session") == example.markdown()


def check_identities(text: str) -> None:
    assert between(text, "identities") == example_identity.markdown()


def check_small_examples(text: str) -> None:
    digest = example.vocabulary_digest
    assert digest([b"a", b"", b"bc"]) == hashlib.sha256(bytes.fromhex("000000016100000000000000026263")).digest()
    vocabulary = prose(text, "11.3 Vocabulary")
    assert f"`{digest([b'a', b'', b'bc']).hex()}`" in vocabulary
    assert f"TM-1 with v = 8: `{digest([str(i).encode() for i in range(8)]).hex()}`" in vocabulary
    model = TestModel.parse("tm-1:v=4096,s=7")
    profile = hashlib.sha256(example.profile_text(model).encode()).hexdigest()
    profiles = prose(text, "11.6 Numeric profiles: when may bytes be compared")
    assert f"For N = `{model.name}` the digest is `{profile}`" in profiles


def check_bias_example(text: str) -> None:
    """22.8: two verifiers, the longest verdict wins."""
    p, q = (Fraction(1, 2), Fraction(1, 2)), (Fraction(3, 4), Fraction(1, 4))
    accept = [min(Fraction(1), p[x] / q[x]) for x in (0, 1)]
    some = [1 - (1 - a) ** 2 for a in accept]
    first = q[0] * some[0]  # the correction is never token 1: p - q is positive for token 2 alone
    assert (accept[0], some[0], first) == (Fraction(2, 3), Fraction(8, 9), Fraction(2, 3))
    for number in ("p/q = 2/3", "1 - (1/3)^2 = 8/9", "3/4 * 8/9 = 2/3, not 1/2"):
        assert number in prose(text, '22.8 Why no "longest verdict wins"')


CHECKS: list[Callable[[str], None]] = [
    check_clauses,
    check_key_words,
    check_references,
    check_links,
    check_code_citations,
    check_fields,
    check_message_types,
    check_registries,
    check_errors,
    check_error_citations,
    check_limits,
    check_planes,
    check_numbers_in_clauses,
    check_times,
    check_turns,
    check_role_numbers,
    check_cddl,
    check_example,
    check_identities,
    check_small_examples,
    check_bias_example,
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
def test_spec(check: Callable[[str], None]) -> None:
    check(spec())


MISTAKES: list[tuple[Callable[[str], None], str, str]] = [
    (check_clauses, "**S-3** (MUST) A drafter", "**S-2** (MUST) A drafter"),
    (check_clauses, "**S-3** (MUST) A drafter", "**S-3.** A drafter"),
    (check_clauses, "**S-13** (SHOULD)", "**S-13** (MAY)"),
    (check_key_words, "It does not fix", "It MUST NOT fix"),
    (check_references, "by S-9", "by S-99"),
    (check_links, "(#18-tm-1-the-test-model)", "(#18-tm-1)"),
    (check_links, "(section 17)", "(section 99)"),
    (check_code_citations, "**V-4** (MUST)", "**V-44** (MUST)"),
    (check_code_citations, "**S-SAMP-12** (MUST)", "**S-SAMP-92** (MUST)"),
    (check_fields, "| 3 | base | bstr 16 |", "| 3 | base | bstr 32 |"),
    (check_fields, "| 4 | credit | uint 0..65535, optional |", "| 4 | credit | uint 0..65535 |"),
    (check_fields, "| 2 | height | uint 1..4294967295 | of the last", "| 2 | height | uint 0..4294967295 | of the"),
    (check_message_types, "| 0x36 | ADVANCE | draft | leader |", "| 0x36 | ADVANCE | draft | drafter |"),
    (
        check_message_types,
        "0x5c to 0x6f are reserved for the commit plane (",
        "0x50 to 0x6f are reserved for the commit plane (",
    ),
    (check_registries, "| 4 | CONTEXT_FULL |", "| 3 | CONTEXT_FULL |"),
    (check_registries, "| 5 | evicted |", "| 5 | dropped |"),
    (check_registries, "| 2 | RESIGNED |", "| 1 | RESIGNED |"),
    (check_errors, "| 0x0118 | CREDIT_EXCEEDED | session |", "| 0x0118 | CREDIT_EXCEEDED | connection |"),
    (check_error_citations, "| PREFIX_UNKNOWN | session | V-4, ", "| PREFIX_UNKNOWN | session | V-5, "),
    (check_planes, "| OPEN | client |", "| OPEN | leader |"),
    (check_planes, "| RESUME | client | voter |", "| RESUME | client | leader |"),
    (check_numbers_in_clauses, "after 10 seconds", "after 20 seconds"),
    (check_numbers_in_clauses, "(16 by default)", "(8 by default)"),
    (check_times, "| retention | 600 s |", "| retention | 60 s |"),
    (check_turns, "asks for view 6", "asks for view 7"),
    (check_limits, "| MAX_NODES | 255 |", "| MAX_NODES | 256 |"),
    (check_role_numbers, "| drafter (3) |", "| drafter (4) |"),
    (check_cddl, "\nattach = {", "\nattach = { "),
    (check_example, "accepted=5, token=2729", "accepted=5, token=2730"),
    (check_identities, "aaaqeayei4", "aaaqeayei5"),
    (check_small_examples, "`a5453db8", "`b5453db8"),
    (check_bias_example, "8/9", "7/9"),
]


@pytest.mark.parametrize("check, right, wrong", MISTAKES, ids=lambda value: getattr(value, "__name__", None))
def test_a_wrong_text_is_noticed(check: Callable[[str], None], right: str, wrong: str) -> None:
    assert right in spec(), f"{right!r} is not in SPEC.md: choose another mistake for this test"
    with pytest.raises(AssertionError):
        check(spec().replace(right, wrong, 1))
