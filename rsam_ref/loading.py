"""Names: code of one's own as "FILE.py:NAME" or "package.module:NAME", and what was meant."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any


class LoadError(ValueError):
    """Code that is not there or cannot be loaded. The message says which, and why."""


def is_target(text: str) -> bool:
    """Whether a name tells where code is to be found, and is none of ours."""
    return ":" in text


def file_of(target: str) -> Path | None:
    """The file of "FILE.py:NAME"; None for a module's."""
    place = target.rpartition(":")[0]
    return Path(place) if place.endswith(".py") else None


def absolute(target: str) -> str:
    """The same target from any folder; a name of ours as it is."""
    path = file_of(target)
    return target if path is None else f"{path.resolve()}:{target.rpartition(':')[2]}"


def name_in(target: str) -> str:
    """The NAME of a target."""
    return target.rpartition(":")[2]


def fingerprint(target: str) -> str | None:
    """SHA-256, its first 16 hex digits, of the file of a target; None for a module's."""
    path = file_of(target)
    if path is None or not path.is_file():
        return None
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def line_of(error: BaseException, target: str) -> str:
    """Where in the file of a target an error was raised, in words; nothing if it was elsewhere."""
    path = file_of(target)
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if path is not None and Path(frame.filename).name == path.name
    ]
    return f" (line {lines[-1]})" if lines else ""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The known name that is nearest to a wrong one, in words; nothing where none is near."""
    close = get_close_matches(name, list(known), 1)
    return f" (did you mean {close[0]}?)" if close else ""


def load(target: str, before: Callable[[str], Any] = lambda text: None) -> Any:
    """What is called NAME in a file or a module, which is run.

    ``before`` is called with a file's text before it is run. Raises LoadError.
    """
    place, colon, name = target.rpartition(":")
    if not colon or not place or not name:
        raise LoadError(f"{target!r}: write FILE.py:NAME or package.module:NAME")
    try:
        module = (
            _from_file(Path(place), before)
            if place.endswith(".py")
            else importlib.import_module(place)
        )
    except (LoadError, KeyboardInterrupt):
        raise
    except BaseException as error:
        hint = _hint(error, place, name)
        raise LoadError(f"{place} cannot be loaded: {_told(error)}{hint}") from error
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            names = sorted(n for n, v in vars(module).items() if callable(v) and n[0] != "_")
            there = f"; there are {', '.join(names)}" if names else ""
            raise LoadError(f"{place} has no {name!r}{there}")
        found = getattr(found, part)
    return found


def _told(error: BaseException) -> str:
    """An error by its name and what it says, in one line."""
    said = str(error)
    if isinstance(error, SyntaxError):
        said = error.msg + (f" in line {error.lineno}" if error.lineno else "")
    return ": ".join(filter(None, (type(error).__name__, " ".join(said.split()))))


def _hint(error: BaseException, place: str, name: str) -> str:
    """What was meant, where a file was named as no file is, or is a part of a package."""
    if isinstance(error, SystemExit):
        return '; what it does as a script belongs under if __name__ == "__main__"'
    if not place.endswith(".py"):
        missing = isinstance(error, ModuleNotFoundError) and error.name == place.partition(".")[0]
        if missing and Path(place).is_file():
            return f"; {place} is a file, and the name of one has to end in .py"
        if Path(f"{place}.py").is_file():
            return f"; did you mean {place}.py:{name}?"
        return ""
    if not (isinstance(error, ImportError) and "relative import" in str(error)):
        return ""
    path = Path(place).resolve()
    parts, folder = [path.parent.name, path.stem], path.parent.parent
    while (folder / "__init__.py").is_file():
        parts, folder = [folder.name, *parts], folder.parent
    return f"; it is a part of a package: in {folder} it is {'.'.join(parts)}:{name}"


FRAMEWORKS = ("numpy", "scipy", "torch", "jax", "optax", "flax", "equinox", "keras", "mlx")
"""Modules of others that a file of one's own must not be called like."""


def _is_taken(name: str) -> bool:
    """Whether a module of this name is one that others look for: loaded, or a framework."""
    return name in FRAMEWORKS or (name in sys.stdlib_module_names and name in sys.modules)


def shadowing(target: str, message: str) -> Path | None:
    """The file beside a target that a message is about and that is called as another module is.

    None where there is none.
    """
    path = file_of(target)
    if path is None or not path.parent.is_dir():
        return None
    beside = (*path.parent.glob("*.py"), *path.parent.glob("*/__init__.py"))
    for file in sorted(beside):
        name = file.parent.name if file.name == "__init__.py" else file.stem
        taken = name in FRAMEWORKS or name in sys.stdlib_module_names
        if taken and re.search(rf"'{name}'|\b{name}\.py\b", message):
            return file.parent if file.name == "__init__.py" else file
    return None


def _from_file(path: Path, before: Callable[[str], Any]) -> Any:
    if not path.is_file():
        raise LoadError(f"there is no file {path}")
    if _is_taken(path.stem):
        raise LoadError(
            f"{path} is called as the module {path.stem!r} is, and stands before it: rename it"
        )
    before(path.read_text(encoding="utf-8", errors="replace"))
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)  # for its imports of its neighbours
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    known = sys.modules.get(path.stem)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        if known is None:
            del sys.modules[path.stem]
        else:
            sys.modules[path.stem] = known
        raise
    return module
