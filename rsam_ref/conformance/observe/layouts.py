"""The order of axes in which frameworks keep weights, and the trees in which JAX's users do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from rsam_ref.conformance.observe.problem import Problem


@dataclass(frozen=True)
class Layout:
    """The order of the axes of a weight, from the problem's (out, in) and (out, in, h, w)."""

    matrix: tuple[int, int] = (0, 1)
    kernel: tuple[int, int, int, int] = (0, 1, 2, 3)

    def _axes(self, part: np.ndarray) -> tuple[int, ...]:
        return {2: self.matrix, 4: self.kernel}.get(part.ndim, tuple(range(part.ndim)))

    def of(self, part: np.ndarray) -> np.ndarray:
        """A weight of the problem in this order."""
        return np.ascontiguousarray(part.transpose(self._axes(part)))

    def back(self, part: np.ndarray) -> np.ndarray:
        """A weight in this order as the problem has it."""
        return np.ascontiguousarray(part.transpose(np.argsort(self._axes(part))))


OUT_FIRST = Layout()
"""(out, in) and (out, in, h, w), as PyTorch and Equinox have them."""
OUT_LAST = Layout((1, 0), (2, 3, 1, 0))
"""(in, out) and (h, w, in, out), as Flax and Keras have them."""
CHANNELS_LAST = Layout(kernel=(0, 2, 3, 1))
"""(out, in) and (out, h, w, in), as MLX has them."""


def tree_of(kind: str, names: list[str], parts: list[Any]) -> Any:
    """The weights as a "dict" by name, or as "pairs", a list of (weight, bias)."""
    if kind == "pairs":
        return [(weight, bias) for weight, bias in zip(parts[::2], parts[1::2])]
    return dict(zip(names, parts))


def parts_of(tree: Any) -> list[Any]:
    """The weights of a tree, in the problem's order. Raises where it is no tree of that kind."""
    if isinstance(tree, dict):
        return list(_in_order(tree))
    return [part for pair in tree for part in pair]


def _in_order(tree: dict[str, Any]) -> Iterator[Any]:
    """JAX gives dicts back with their keys sorted."""
    for name in sorted(tree, key=lambda name: (int(name.split(".")[0]), name.endswith("bias"))):
        yield tree[name]


def filters_fit(problem: Problem, w: np.ndarray, draw: np.ndarray, axis: int) -> bool:
    """Whether draws are as large as the norms of filters along an axis say: 0 or -1, (P,) each."""
    ratios = []
    for part, d in zip(problem.parts(w), problem.parts(draw)):
        if part.ndim > 1:
            others = tuple(a for a in range(part.ndim) if a != axis % part.ndim)
            sizes = (d**2).mean(axis=others) / (part**2).sum(axis=others)
            ratios += [(float(size), part.size // len(sizes)) for size in sizes]
    middle = np.mean([size for size, _ in ratios])
    return all(abs(size / middle - 1) < DEVIATIONS * np.sqrt(2 / n) for size, n in ratios)


DEVIATIONS = 7.0
"""How many standard errors the variance of a filter's draws may be off."""
