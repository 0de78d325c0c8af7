"""What can be wrong with a computation: shapes, or its way back."""

from __future__ import annotations


class ShapeError(ValueError):
    """Arrays whose shapes do not fit an op. The message names the op, the shapes, the remedy."""


class GraphError(RuntimeError):
    """A backward pass that cannot give the right gradient."""
