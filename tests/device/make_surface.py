"""Write ``cupy_surface.json``: what CuPy offers, read off CuPy itself (no GPU is needed).

    python -m tests.device.make_surface

The device double offers exactly these names, keywords and array members.
"""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

PATH = Path(__file__).with_name("cupy_surface.json")


def signature(function: Any) -> list[Any] | None:
    """[names of the arguments, whether **keywords, whether *positional]; None if unknown."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    kinds = {p.kind for p in parameters}
    names = [p.name for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    return [
        names,
        inspect.Parameter.VAR_KEYWORD in kinds,
        inspect.Parameter.VAR_POSITIONAL in kinds,
    ]


def functions(module: Any, ufunc: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in sorted(vars(module)):
        value = getattr(module, name)
        if name.startswith("_") or inspect.ismodule(value) or isinstance(value, type):
            continue
        if isinstance(value, ufunc):
            found[name] = {"ufunc": value.nout}
        elif callable(value):
            found[name] = {"signature": signature(value)}
    return found


def main() -> None:
    import cupy

    surface = {
        "version": cupy.__version__,
        "cupy": functions(cupy, cupy.ufunc),
        "linalg": functions(cupy.linalg, cupy.ufunc),
        "ndarray": sorted(dir(cupy.ndarray)),
    }
    PATH.write_text(json.dumps(surface, indent=0, sort_keys=True) + "\n", encoding="utf-8")
    print(f"{PATH.name}: CuPy {cupy.__version__}, {len(surface['cupy'])} functions")


if __name__ == "__main__":
    main()
