"""The public names, as a table for test_public.py; `python -m tests.helpers.public_names` makes it.

It needs JAX and optax, which rsam_ref.jax is made with.

Names: what a user imports, with signatures. Commands: their options with defaults. What is in the
table is a promise: a name that goes, or a signature that changes, is a line in the changelog.
"""

from __future__ import annotations

import inspect
import json
import sys
from pathlib import Path
from typing import Any

TABLE = Path(__file__).with_suffix(".json")
MODULES = (
    *("rsam_ref", "rsam_ref.models", "rsam_ref.data", "rsam_ref.sharpness"),
    *("rsam_ref.conformance", "rsam_ref.pytorch", "rsam_backends"),
)
IN_JAX = "rsam_ref.jax"
"""Held to the table by `make frameworks`, since `make test` has no JAX."""


def signature(value: Any) -> str:
    """How a thing is called; for what is no function or class, its kind."""
    if inspect.ismodule(value):
        return "module"
    if not callable(value):
        return type(value).__name__
    try:
        taken = inspect.signature(value).parameters.values()
    except (TypeError, ValueError):
        return "callable"
    plain = [p.replace(annotation=p.empty, default=_named(p.default)) for p in taken]
    return str(inspect.Signature(plain))


def _named(default: Any) -> Any:
    """A default that is a function or class by its name, which no run changes."""
    if default is inspect.Parameter.empty or not callable(default):
        return default
    return getattr(default, "__name__", default)


def members(value: Any) -> dict[str, str]:
    """The public methods of a class."""
    return {
        name: signature(member)
        for name, member in inspect.getmembers(value)
        if not name.startswith("_") and callable(member)
    }


def names(module: str) -> dict[str, Any]:
    imported = __import__(module, fromlist=["_"])
    found: dict[str, Any] = {}
    for name in sorted(imported.__all__):
        value = getattr(imported, name)
        found[name] = signature(value)
        if inspect.isclass(value) and module == "rsam_ref":
            found[name] = {"": found[name], **members(value)}
    return found


def commands() -> dict[str, dict[str, str]]:
    from typer.main import get_command

    def told(command: Any, prefix: str) -> dict[str, dict[str, str]]:
        if hasattr(command, "commands"):
            found: dict[str, dict[str, str]] = {}
            for name, inner in command.commands.items():
                found |= told(inner, f"{prefix} {name}".strip())
            return found
        return {
            prefix: {
                " ".join([*p.opts, *p.secondary_opts]): repr(p.default) for p in command.params
            }
        }

    return told(get_command(_app()), "")


def _app() -> Any:
    from rsam_ref.commands.main import app

    return app


def table() -> dict[str, Any]:
    return {"names": {m: names(m) for m in (*MODULES, IN_JAX)}, "commands": commands()}


if __name__ == "__main__":
    TABLE.write_text(json.dumps(table(), indent=1, sort_keys=True) + "\n", encoding="utf-8")
    sys.stdout.write(f"wrote {TABLE}\n")
