"""Where the authors' code comes from, and how a part of a file is run by itself.

A file is named by repository and commit and known by its checksum. It comes from GitHub into
runs/survey/authors, or from a folder of repositories, and is never committed. Of a file the named
classes and functions alone are run, without the file's imports: what they use of these is given.
May import: the standard library. Imported by: the adapters and the command beside it.
"""

from __future__ import annotations
import __future__

import ast
import hashlib
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CACHE = Path(__file__).parent.parent.parent / "runs" / "survey" / "authors"


class NotHereError(Exception):
    """A file that cannot be had, or is another than the one that was read."""


@dataclass(frozen=True)
class Source:
    """A file of a public repository at one commit."""

    place: str
    """owner/name@commit/path"""
    sha256: str
    licence: str

    @property
    def repository(self) -> str:
        """owner/name"""
        return self.place.partition("@")[0]

    @property
    def commit(self) -> str:
        """All of its digits."""
        return self.place.partition("@")[2].partition("/")[0]

    @property
    def path(self) -> str:
        """Within the repository."""
        return self.place.partition("@")[2].partition("/")[2]

    @property
    def address(self) -> str:
        """Where the bare file is."""
        place = f"{self.repository}/{self.commit}/{self.path}"
        return f"https://raw.githubusercontent.com/{place}"

    @property
    def page(self) -> str:
        """Where it is shown to readers."""
        return f"https://github.com/{self.repository}/blob/{self.commit}/{self.path}"


def text(source: Source, folder: Path | None = None) -> str:
    """The file, from ``folder`` if given (owner/name in it: a checkout or a bare repository).

    Raises NotHereError with the reason.
    """
    if folder is not None:
        return _verified(source, _from_folder(source, folder)).decode()
    kept = CACHE / source.sha256
    if not kept.exists():
        data = _verified(source, _downloaded(source))
        CACHE.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(data)
    return _verified(source, kept.read_bytes()).decode()


def _verified(source: Source, data: bytes) -> bytes:
    found = hashlib.sha256(data).hexdigest()
    if found != source.sha256:
        raise NotHereError(
            f"{source.repository}: {source.path} is not the file at commit {source.commit[:7]}: "
            f"its SHA-256 is {found[:12]}..., not {source.sha256[:12]}..."
        )
    return data


def _downloaded(source: Source) -> bytes:
    try:
        with urllib.request.urlopen(source.address, timeout=60) as answer:
            data: bytes = answer.read()
    except (urllib.error.URLError, TimeoutError) as error:
        raise NotHereError(f"{source.address} cannot be had: {error}") from None
    return data


def _from_folder(source: Source, folder: Path) -> bytes:
    place = folder / source.repository
    if not place.is_dir():
        raise NotHereError(f"{folder} holds no {source.repository}")
    git = ["git", "-C", str(place), "show", f"{source.commit}:{source.path}"]
    if shutil.which("git"):
        shown = subprocess.run(git, capture_output=True)
        if shown.returncode == 0:
            return shown.stdout
    if not (place / source.path).is_file():
        raise NotHereError(
            f"{place} has no {source.path}, neither at commit {source.commit[:7]} nor as a file"
        )
    return (place / source.path).read_bytes()


def load(code: str, names: Sequence[str], **given: Any) -> dict[str, Any]:
    """The definitions of these names, wherever in the file they stand, with ``given`` as globals.

    Types are not evaluated. Raises NotHereError if the file does not define one of them.
    """
    found = {
        node.name: node
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name in names
    }
    if missing := [name for name in names if name not in found]:
        raise NotHereError(f"the file does not define {missing[0]}")
    module = ast.Module([found[name] for name in names], type_ignores=[])
    flags = __future__.annotations.compiler_flag
    space = dict(given)
    exec(compile(module, "<the authors' file>", "exec", flags=flags, dont_inherit=True), space)
    return space
