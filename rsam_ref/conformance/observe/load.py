"""Loading an implementation from "FILE.py:NAME" or "package.module:NAME"."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

from rsam_ref.conformance.observe.keras_backend import choose_backend
from rsam_ref.conformance.observe.observer import BrokenError


def load(target: str) -> Any:
    """What is called NAME there. Raises `BrokenError` with what is missing, or what went wrong."""
    place, colon, name = target.rpartition(":")
    if not colon or not place or not name:
        raise BrokenError(f"{target!r}: write FILE.py:NAME or package.module:NAME")
    try:
        module = (
            _from_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
        )
    except BrokenError:
        raise
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        where = f" in line {error.lineno}" if isinstance(error, SyntaxError) else ""
        raise BrokenError(
            f"{place} cannot be loaded: {type(error).__name__}: {error}{where}"
        ) from error
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            names = sorted(n for n, v in vars(module).items() if callable(v) and n[0] != "_")
            there = f"; there are {', '.join(names)}" if names else ""
            raise BrokenError(f"{place} has no {name!r}{there}")
        found = getattr(found, part)
    return found


def _from_file(path: Path) -> Any:
    if not path.is_file():
        raise BrokenError(f"there is no file {path}")
    choose_backend(path.read_text(encoding="utf-8", errors="replace"))
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)  # for its imports of its neighbours
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get(path.stem)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        if before is None:
            del sys.modules[path.stem]
        else:
            sys.modules[path.stem] = before
        raise
    return module
