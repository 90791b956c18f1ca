"""Data runs one way, one floor at a time: which module may import which, what the core must not touch.

The rules are those of the package docstrings: ``dsdproto`` is sans-IO and deterministic, ``conformance`` sees a
node only from outside, and nothing below knows what is above.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CORE = sorted((ROOT / "dsdproto").rglob("*.py"))
SUITE = sorted((ROOT / "conformance").rglob("*.py"))
NODES = sorted((ROOT / "reference_nodes").rglob("*.py"))

CORE_MAY = {"cbor2", "cryptography", "numpy", "dsdproto"}
# Sockets, clocks, threads, processes, files, randomness, logs: whatever reaches the world or brings it in.
WORLD = frozenset(
    name
    for line in (
        "_thread asyncio concurrent contextvars ctypes datetime faulthandler fileinput ftplib getpass glob",
        "http imaplib io locale logging mmap multiprocessing os pathlib pickle platform poplib queue random",
        "resource sched secrets select selectors shelve shutil signal smtplib socket socketserver sqlite3 ssl",
        "subprocess syslog tempfile threading time tkinter urllib uuid warnings webbrowser xmlrpc zoneinfo",
    )
    for name in line.split()
)
WORLDLY_CALLS = frozenset({"open", "input", "print", "exec", "eval", "hash", "__import__"})

FLOORS = (
    ("dsdproto.registry",),
    ("dsdproto.errors",),
    ("dsdproto.wire",),
    ("dsdproto.effects", "dsdproto.identity", "dsdproto.versions", "dsdproto.phases", "dsdproto.channels"),
    ("dsdproto.grease",),
    ("dsdproto.connection",),
)
"""Each floor imports from floors below it and from itself, and from nothing else of the package."""


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, absolute module) of every import at module level or inside functions, type-checking ones left out."""
    for node in _running(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield node.lineno, module
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def _running(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    children: list[ast.AST] = list(ast.iter_child_nodes(node))
    if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
        children = list(node.orelse)
    for child in children:
        yield from _running(child)


def parse(path: Path) -> ast.AST:
    return ast.parse(path.read_text(), filename=str(path))


def core_faults(tree: ast.AST) -> list[str]:
    faults = []
    for line, name in imports(tree):
        top = name.split(".")[0]
        if not top:
            faults.append(f"line {line}: a relative import; the core's are absolute")
        elif top in WORLD or (top not in sys.stdlib_module_names and top not in CORE_MAY):
            faults.append(f"line {line}: imports {name}")
        if name.startswith("numpy.random"):
            faults.append(f"line {line}: imports {name}")
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in WORLDLY_CALLS:
            faults.append(f"line {node.lineno}: calls {node.func.id}()")
        if isinstance(node, ast.Attribute) and node.attr == "random" and isinstance(node.value, ast.Name):
            faults.append(f"line {node.lineno}: uses {node.value.id}.random")
        if isinstance(node, ast.AsyncFunctionDef):
            faults.append(f"line {node.lineno}: async def {node.name}")
    return faults + set_order_faults(tree)


ORDERED = frozenset({"list", "tuple", "iter", "enumerate", "zip", "map", "next", "dict"})


def set_order_faults(tree: ast.AST) -> list[str]:
    """Places where the order of a set gets out, as far as its expression shows that it is one."""
    # {*a_set, x} and {f(x) for x in a_set} make sets again: no order gets out.
    harmless = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Set):
            harmless |= {element for element in node.elts if isinstance(element, ast.Starred)}
        elif isinstance(node, ast.SetComp):
            harmless |= set(node.generators)
    sources: list[ast.expr] = []
    for node in ast.walk(tree):
        if node in harmless:
            continue
        if isinstance(node, (ast.For, ast.comprehension)):
            sources.append(node.iter)
        elif isinstance(node, ast.Starred):
            sources.append(node.value)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ORDERED:
            sources += node.args
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr in ("join", "extend", "fromkeys"):
                sources += node.args
            elif node.func.attr == "pop" and not node.args:
                sources.append(node.func.value)
    return [f"line {source.lineno}: order of a set" for source in sources if is_set(source)]


def is_set(node: ast.expr) -> bool:
    if isinstance(node, (ast.Set, ast.SetComp)):
        return True
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.BitOr, ast.BitAnd, ast.Sub, ast.BitXor)):
        return is_set(node.left) or is_set(node.right)
    if isinstance(node, ast.Call):
        if isinstance(node.func, ast.Name):
            return node.func.id in ("set", "frozenset")
        if isinstance(node.func, ast.Attribute):
            return node.func.attr in ("union", "intersection", "difference", "symmetric_difference")
    return False


@pytest.mark.parametrize("path", CORE, ids=lambda path: module_of(path))
def test_the_core_is_sans_io_and_deterministic(path: Path) -> None:
    assert core_faults(parse(path)) == []


@pytest.mark.parametrize("path", SUITE, ids=lambda path: module_of(path))
def test_the_suite_sees_nodes_only_from_outside(path: Path) -> None:
    foreign = [
        f"line {line}: {name}" for line, name in imports(parse(path)) if name.split(".")[0] == "reference_nodes"
    ]
    assert foreign == []


@pytest.mark.parametrize("path", NODES, ids=lambda path: module_of(path))
def test_nodes_do_not_lean_on_the_suite_or_the_tests(path: Path) -> None:
    foreign = [
        f"line {line}: {name}" for line, name in imports(parse(path)) if name.split(".")[0] in ("conformance", "tests")
    ]
    assert foreign == []


def floor_of(module: str) -> int | None:
    for floor, names in enumerate(FLOORS):
        if any(module == name or module.startswith(name + ".") for name in names):
            return floor
    return None


@pytest.mark.parametrize("path", [path for path in CORE if floor_of(module_of(path)) is not None], ids=module_of)
def test_one_floor_at_a_time(path: Path) -> None:
    mine = floor_of(module_of(path))
    for line, name in imports(_module_level(parse(path))):
        if name.startswith("dsdproto."):
            theirs = floor_of(name)
            assert theirs is not None, f"line {line}: {name} is above the wire floor"
            assert theirs <= mine, f"line {line}: {name} is on a higher floor"


def _module_level(tree: ast.AST) -> ast.AST:
    """The tree without function bodies: an import in a function is how errors.py gets at the ERROR message."""

    class Strip(ast.NodeTransformer):
        def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
            node.body = [ast.Pass()]
            return node

    return Strip().visit(tree)


def test_roles_do_not_know_the_wire() -> None:
    """Role machines see messages, never bytes, connections or the node around them."""
    hidden = ("dsdproto.connection", "dsdproto.channels", "dsdproto.wire.frames", "dsdproto.wire.cbor", "dsdproto.node")
    for path in CORE:
        if not module_of(path).startswith(("dsdproto.roles", "dsdproto.policy", "dsdproto.sampling", "dsdproto.trie")):
            continue
        for line, name in imports(parse(path)):
            assert not name.startswith(hidden), f"{module_of(path)}, line {line}: {name}"


def test_no_import_cycles_in_the_core() -> None:
    # A package's __init__ is loaded with whatever it holds, so only what holds code of its own counts.
    known = {module_of(path) for path in CORE if path.name != "__init__.py"}
    graph = {}
    for path in CORE:
        used = {name for _, name in imports(_module_level(parse(path))) if name in known}
        graph[module_of(path)] = sorted(used - {module_of(path)})
    done: dict[str, bool] = {}

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join([*trail, module])
        if not done.get(module):
            for other in graph[module]:
                visit(other, (*trail, module))
            done[module] = True

    for module in graph:
        visit(module, ())


@pytest.mark.parametrize(
    "line",
    [
        "import socket",
        "from os import path",
        "import torch",
        "import trio.lowlevel",
        "def f():\n    import time",
        "import numpy.random",
        "x = numpy.random.default_rng()",
        "open('x')",
        "async def f(): ...",
        "for x in set(y): ...",
        "for x in {1, 2}: ...",
        "for x in a | frozenset(y): ...",
        "z = [x for x in {v for v in y}]",
        "z = list(set(y))",
        "z = (*set(y), 1)",
        "z = b''.join(set(y))",
        "z = set(y).pop()",
        "z = tuple(a.union(b))",
        "from reference_nodes import node",
    ],
)
def test_the_checks_find_what_they_look_for(line: str) -> None:
    assert core_faults(ast.parse(line)), line


@pytest.mark.parametrize(
    "line",
    [
        "import hashlib",
        "from dsdproto.wire import cbor",
        "z = sorted(set(y))",
        "z = {x for x in set(y)}",
        "z = {*set(y), 1}",
        "z = len(set(y)) and 3 in {1, 2}",
        "if TYPE_CHECKING:\n    import socket",
        "for x in sorted({1, 2}): ...",
        "x.pop(0)",
    ],
)
def test_the_checks_let_pass_what_is_right(line: str) -> None:
    assert core_faults(ast.parse(line)) == []
