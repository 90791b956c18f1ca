"""Breaks a module as it is imported: its source is changed, nothing on disk is.

A patch names a module and a piece of its source, which must occur exactly once, so that a patch that no longer fits
its module is found out at once instead of testing nothing. Import this before anything of the patched packages.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import CodeType, ModuleType


class PatchError(Exception):
    """A patch that does not fit its module, or comes too late; says which and why."""


@dataclass(frozen=True)
class Patch:
    """``old``, a piece of the source of ``module``, becomes ``new``."""

    module: str
    old: str
    new: str

    def applied(self, source: str) -> str:
        """Raises PatchError unless ``old`` is there exactly once."""
        found = source.count(self.old)
        if found != 1:
            raise PatchError(f"{self.module}: {self.old.strip()!r} occurs {found} times in it, not once")
        return source.replace(self.old, self.new)


class _Loader(importlib.machinery.SourceFileLoader):
    """Compiles the changed source; nothing is read from or written to the cache of compiled modules."""

    def __init__(self, name: str, path: str, patches: Sequence[Patch]) -> None:
        super().__init__(name, path)
        self.patches = patches

    def get_code(self, fullname: str) -> CodeType:
        source = self.get_source(fullname) or ""
        for patch in self.patches:
            source = patch.applied(source)
        return compile(source, self.path, "exec", dont_inherit=True)


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, patches: Iterable[Patch]) -> None:
        self.patches: dict[str, list[Patch]] = {}
        for patch in patches:
            self.patches.setdefault(patch.module, []).append(patch)
        self._asking = False

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in self.patches or self._asking:
            return None
        self._asking = True
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self._asking = False
        if spec is None or spec.origin is None:
            raise PatchError(f"{fullname} is not installed, or not as source")
        spec.loader = _Loader(fullname, spec.origin, self.patches[fullname])
        spec.cached = None
        return spec


def install(patches: Iterable[Patch]) -> None:
    """From here on, modules are imported with these patches. Raises PatchError where one is imported already."""
    finder = _Finder(patches)
    late = [name for name in finder.patches if name in sys.modules]
    if late:
        raise PatchError(f"{late[0]} is imported already; a patch would come too late")
    sys.meta_path.insert(0, finder)
