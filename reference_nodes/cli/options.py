"""Options that several commands share, with the checks that make their errors precise."""

from __future__ import annotations

import argparse
import json
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsdproto.errors import DsdpError, LocalError
from dsdproto.registry import Role
from dsdproto.sampling.parameters import SEED_MAX, SamplingParameters
from reference_nodes.paths import DEFAULT_NAME, home, node_dir


class UsageError(DsdpError):
    """The command line asks for something that makes no sense; the text says what to write instead."""


def add_command(
    parsers: Any, name: str, run: Any, help: str, description: str, examples: str
) -> argparse.ArgumentParser:
    """A command's parser. ``examples``: one a line, as they would be typed."""
    lines = "\n".join(f"  {line}" for line in examples.strip().splitlines())
    parser = parsers.add_parser(
        name,
        help=help,
        description=textwrap.fill(description, 79),
        epilog=f"examples:\n{lines}\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def add_json(parser: argparse.ArgumentParser, what: str = "print one JSON object instead of text") -> None:
    parser.add_argument("--json", action="store_true", help=what)


CLIENT_NAME = "client"
"""The identity that `dsdp init` makes for commands that only ask: a node cannot be dialed with its own key."""


def add_node(parser: argparse.ArgumentParser, *, client: bool = False) -> None:
    """Which identity to use."""
    parser.add_argument(
        "--name",
        default=None if client else DEFAULT_NAME,
        help="which of this machine's identities (default: "
        + (f"{CLIENT_NAME} where there is one, else {DEFAULT_NAME})" if client else f"{DEFAULT_NAME})"),
    )
    parser.add_argument(
        "--home",
        type=Path,
        default=None,
        metavar="DIR",
        help="where identities are kept (default: $DSDP_HOME, or the user's data directory)",
    )


def home_of(args: argparse.Namespace) -> Path:
    return home() if args.home is None else args.home.expanduser().absolute()


def client_name(args: argparse.Namespace) -> str:
    """The identity for a command that only asks."""
    if args.name is not None:
        return args.name
    return CLIENT_NAME if node_dir(home_of(args), CLIENT_NAME).exists() else DEFAULT_NAME


def add_network(parser: argparse.ArgumentParser) -> None:
    """How to find peers."""
    parser.add_argument(
        "--peer",
        action="append",
        default=[],
        type=address,
        metavar="HOST:PORT",
        help="a node to connect to; may be given several times, works where multicast does not",
    )
    parser.add_argument(
        "--interface",
        action="append",
        default=[],
        metavar="IF",
        help="network interface to look for nodes on, by name or address (default: all real ones; else loopback)",
    )
    parser.add_argument("--no-mdns", action="store_true", help="do not use multicast DNS: only --peer finds nodes")


def add_settings(parser: argparse.ArgumentParser, over: str) -> None:
    """``--set KEY=VALUE``, as ``settings``; ``over``: what values are laid over."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="settings",
        metavar="KEY=VALUE",
        help=f"lay a value over {over}, for example workload.rate=4 or group.edge.count=10; may be repeated",
    )


def address(text: str) -> str:
    """``host:port`` or ``[v6]:port``, as it is. Raises argparse's error with what to write instead."""
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not host or not port.isdigit() or (":" in host and not bracketed):
        raise argparse.ArgumentTypeError(f"{text!r} is no address; write HOST:PORT or [IPV6]:PORT")
    if not 1 <= int(port) < 1 << 16:
        raise argparse.ArgumentTypeError(f"{text!r}: the port must be in 1..65535")
    return text


def count(low: int, high: int = 1 << 32) -> Any:
    """An argparse type: an integer in ``low..high - 1``."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
        if not low <= value < high:
            bound = f"at least {low}" if value < low else f"at most {high - 1}"
            raise argparse.ArgumentTypeError(f"{value} is out of range; it must be {bound}")
        return value

    return parse


def roles(text: str) -> tuple[Role, ...]:
    """``leader,verifier`` as roles, ascending. Raises argparse's error."""
    known = {role.name.lower(): role for role in (Role.LEADER, Role.DRAFTER, Role.VERIFIER, Role.VOTER)}
    chosen = set()
    for name in text.replace(" ", "").lower().split(","):
        if name not in known:
            raise argparse.ArgumentTypeError(f"{name!r} is no role to serve; there are: {', '.join(known)}")
        chosen.add(known[name])
    return tuple(sorted(chosen))


# ---------------------------------------------------------------- sampling


def add_sampling(parser: argparse.ArgumentParser, *, max_tokens: int, temperature: float = 0.0) -> None:
    parser.add_argument(
        "--max-tokens", "-n", type=count(1), default=max_tokens, metavar="N", help="length limit (default: %(default)s)"
    )
    parser.add_argument(
        "--temperature", "-t", type=float, default=temperature, metavar="T", help="0 is greedy (default: %(default)s)"
    )
    parser.add_argument(
        "--top-p", type=float, default=1.0, metavar="P", help="nucleus, above 0 and at most 1 (default: off)"
    )
    parser.add_argument("--top-k", type=count(0), default=0, metavar="K", help="the K likeliest only (default: 0, off)")
    parser.add_argument("--seed", type=count(0, SEED_MAX + 1), default=0, metavar="S", help="of the noise (default: 0)")


def sampling_of(args: argparse.Namespace) -> SamplingParameters:
    """Raises :class:`UsageError`."""
    try:
        return SamplingParameters.from_floats(args.temperature, args.top_k, args.top_p)
    except LocalError as error:
        raise UsageError(str(error)) from error


# ---------------------------------------------------------------- prompts


@dataclass(frozen=True, slots=True)
class Prompt:
    text: str
    raw: bool = False
    """as it is, without the model's chat template"""


def read_prompts(path: Path, limit: int = 0) -> list[Prompt]:
    """One ``{"prompt": "..."}`` a line; ``limit`` 0 reads all. Raises :class:`UsageError` naming the line."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read prompts from {path}: {error}") from error
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            text = json.loads(line)["prompt"]
        except (ValueError, KeyError, TypeError):
            text = None
        if not isinstance(text, str) or not text:
            raise UsageError(f'{path}, line {number}: expected {{"prompt": "some text"}}, found {line[:60]!r}')
        found.append(Prompt(text))
        if limit and len(found) == limit:
            break
    if not found:
        raise UsageError(f"{path} holds no prompts")
    return found
