"""What is compiled with torch.compile is run as it was written.

It computes the same, up to rounding; and to compile it would take minutes, in which nothing is
learned of the algorithm.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

TOLD = "not done: what is compiled was run as it was written, so what compiling changes is not seen"


@contextmanager
def run_as_written(subject: Any) -> Iterator[list[str]]:
    """Inside, torch.compile changes nothing. Gives a list, in which it is told once it was used."""
    told: list[str] = []
    torch: Any = sys.modules.get("torch")
    if torch is None:
        yield told
        return
    if any(map(_is_compiled, _parts(subject))):
        told.append(TOLD)
    own = torch.compile

    def compiles(model: Any = None, **settings: Any) -> Any:
        told[:] = [TOLD]
        return model if model is not None else lambda function: function

    torch.compile = compiles
    try:
        with _eager(torch):
            yield told
    finally:
        torch.compile = own


def _eager(torch: Any) -> Any:
    """Where what was compiled before is run as it was written, too (PyTorch 2.6 or later)."""
    if "torch._dynamo" in sys.modules and hasattr(torch.compiler, "set_stance"):
        return torch.compiler.set_stance("force_eager")
    return nullcontext()


def _parts(subject: Any) -> Iterator[Any]:
    """A function, what it names and holds; a class and its methods."""
    yield subject
    if inspect.isclass(subject):
        yield from vars(subject).values()
    function = inspect.unwrap(subject) if callable(subject) else subject
    named = getattr(getattr(function, "__code__", None), "co_names", ())
    known = getattr(function, "__globals__", {})
    yield from (known[name] for name in named if name in known)


def _is_compiled(part: Any) -> bool:
    kind = type(part)
    return "_torchdynamo_orig_callable" in getattr(part, "__dict__", {}) or (
        kind.__name__ == "OptimizedModule" and kind.__module__.startswith("torch._dynamo")
    )
