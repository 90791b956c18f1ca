"""``dsdp``: finds the command, runs it, and turns what goes wrong into one line that says what to do.

Exit codes: 0 it worked, 1 it did not, 2 the command line was wrong, 130 ended by Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence

from dsdproto.errors import DsdpError
from dsdproto.registry import VERSION
from reference_nodes.cli import (
    bench_command,
    demo_command,
    doctor_command,
    init_command,
    join_command,
    profile_command,
    pull_command,
    record_command,
    run_command,
    serve_command,
    sim,
    status_command,
    token_command,
)
from reference_nodes.cli.about import version
from reference_nodes.cli.options import UsageError

COMMANDS = (
    demo_command,
    init_command,
    token_command,
    join_command,
    pull_command,
    serve_command,
    run_command,
    status_command,
    doctor_command,
    bench_command,
    profile_command,
    record_command,
    sim,
)

EXAMPLES = """\
first steps:
  dsdp demo                              watch a model being sped up by draft nodes on this machine

a cluster of two machines:
  one$ dsdp init && dsdp token           begin a cluster, let the other machine in
  two$ dsdp join TOKEN
  one$ dsdp serve --roles leader,verifier --model smollm2
  two$ dsdp serve --roles drafter --model smollm2 --draft-model smollm2-draft
  one$ dsdp run "Why is the sky blue?"
  two$ dsdp doctor                       if they do not find each other

environment:
  DSDP_HOME   where identities and models are kept (default: the user's data directory)
  NO_COLOR    any value: no colours
"""


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="dsdp",
        description="Distributed speculative decoding: draft nodes propose tokens, a target node verifies them,\n"
        "and the text is bit for bit that of the target alone.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"dsdp {version()}, protocol version {VERSION}")
    parsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add(parsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. Never raises for what a user can do wrong."""
    parser = make_parser()
    args = parser.parse_args(argv)
    try:
        return args.run(args)
    except UsageError as error:
        return _failed(args, str(error), "usage", 2)
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output has gone (`dsdp status | head`). Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except DsdpError as error:
        return _failed(args, str(error), getattr(error, "code", "error"), 1)
    except BaseExceptionGroup as group:
        if group.subgroup(KeyboardInterrupt) is not None:
            print("\ninterrupted", file=sys.stderr)
            return 130
        raise
    except (OSError, *_model_errors()) as error:
        return _failed(args, str(error), type(error).__name__, 1)


def _model_errors() -> tuple[type[Exception], ...]:
    """Imported late: they live beside modules that take a moment to load."""
    from reference_nodes.backends.base import BackendError
    from reference_nodes.models_store import ModelError

    return (BackendError, ModelError)


def _failed(args: argparse.Namespace, text: str, code: object, status: int) -> int:
    print(f"dsdp {args.command}: {text}", file=sys.stderr)
    if getattr(args, "json", False):
        print(json.dumps({"error": {"code": str(code), "text": text}}))
    return status


if __name__ == "__main__":
    sys.exit(main())
