"""Where things live on disk, and how they get there in one piece.

::

    $DSDP_HOME/            or the platform's user data directory for "dsdp"
        cluster/           only on the machine that ran `dsdp init`: the authority's key and certificate
        nodes/<name>/      one identity each: several nodes on one machine need one name each; votes.db is a voter's
        models/            weights that `dsdp pull` fetched
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path

import platformdirs

from reference_nodes.errors import NodeError

HOME_VARIABLE = "DSDP_HOME"
DEFAULT_NAME = "default"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,47}")


class BadName(NodeError):
    """A node name that cannot be a directory and a label at the same time."""

    code = "bad-name"


class AlreadyThere(NodeError):
    """Something exists already that would have been overwritten."""

    code = "already-there"


def home() -> Path:
    """``$DSDP_HOME`` if set, else the platform's user data directory. Not created."""
    chosen = os.environ.get(HOME_VARIABLE)
    if chosen:
        return Path(chosen).expanduser().absolute()
    return Path(platformdirs.user_data_dir("dsdp", appauthor=False))


def cluster_dir(base: Path) -> Path:
    return base / "cluster"


def models_dir(base: Path) -> Path:
    return base / "models"


def node_dir(base: Path, name: str = DEFAULT_NAME) -> Path:
    """Directory of the identity ``name``. Raises :class:`BadName`."""
    return base / "nodes" / check_name(name)


def check_name(name: str) -> str:
    """Return ``name`` if it may name a node: 1 to 48 of ``A-Z a-z 0-9 . _ -``, letter or digit first.

    Raises :class:`BadName`.
    """
    if not _NAME.fullmatch(name):
        raise BadName(
            f"{name!r} cannot name a node.",
            "Use 1 to 48 letters, digits, dots, dashes and underscores, beginning with a letter or digit.",
        )
    return name


def publish_directory(target: Path, files: Mapping[str, tuple[bytes, int]]) -> None:
    """Make the directory ``target`` (mode 0700) appear with all of ``files`` (content, mode), or not at all.

    Raises :class:`AlreadyThere` if ``target`` exists and is not an empty directory, whoever made it, however
    late.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.{secrets.token_hex(6)}")
    draft.mkdir(mode=0o700)
    try:
        for name, (content, mode) in files.items():
            _write_new(draft / name, content, mode)
        sync_directory(draft)
        try:
            draft.rename(target)
        except OSError as fault:
            if fault.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EACCES):
                raise
            if not target.exists():
                raise
            raise AlreadyThere(f"{target} exists already; nothing was changed.") from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    sync_directory(target.parent)


def replace_file(target: Path, content: bytes, mode: int) -> None:
    """Replace ``target`` in one step: a reader sees the old content or the new, never a part."""
    draft = target.with_name(f".{target.name}.{secrets.token_hex(6)}")
    try:
        _write_new(draft, content, mode)
        os.replace(draft, target)
    finally:
        with contextlib.suppress(FileNotFoundError):
            draft.unlink()
    sync_directory(target.parent)


def _write_new(path: Path, content: bytes, mode: int) -> None:
    # O_EXCL with the mode given at creation: a secret is never readable by others, not even for a moment.
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_directory(path: Path) -> None:
    """Make names that were added to or taken from the directory survive a crash, where the system lets us ask."""
    if os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
