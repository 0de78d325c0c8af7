"""What a user names, a loss with its tree and batches, made into what a `TreeNetwork` is of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from rsam_backends.base import kind_of
from rsam_ref.data.errors import DataError
from rsam_ref.data.weight_files import read_weights
from rsam_ref.jax.axes import OutputAxis, equinox_axis, flax_axis, name_of
from rsam_ref.jax.batches import as_batches, count_samples, is_one
from rsam_ref.jax.network import TreeNetwork
from rsam_ref.sharpness import given as of_any
from rsam_ref.sharpness.given import GivenError, training_data, whole_batches

AXES = {"flax_axis": flax_axis, "equinox_axis": equinox_axis}
LOWER = ("float32", "float16", "bfloat16")


def is_pair(made: Any) -> bool:
    """Whether this is a loss and its tree of weights."""
    return isinstance(made, tuple) and len(made) == 2 and callable(made[0])


def output_axis(text: str, named: Callable[[str], Any]) -> OutputAxis:
    """What --output-axis says: a number, flax_axis, equinox_axis, or a function by its name."""
    if text in AXES:
        return AXES[text]
    try:
        return int(text)
    except ValueError:
        pass
    found = named(text)
    if not callable(found):
        raise GivenError(
            f"--output-axis {text} is {kind_of(found)}: give a number, {', '.join(AXES)}, "
            "or a function of a leaf's name and the leaf"
        )
    return found


def with_weights(params: Any, path: Path) -> Any:
    """The tree with its leaves from a safetensors or npz file, by their names (a/b or a.b).

    Raises DataError, with one line, for files that do not fit.
    """
    if not path.is_file():
        raise DataError(path, "no such file; give the weights as safetensors or npz")
    arrays = {name.replace("/", "."): array for name, array in read_weights(path).items()}

    def taken(where: Any, leaf: Any) -> Any:
        name = name_of(where).replace("/", ".")
        array = arrays.pop(name, arrays.pop(name.removesuffix(".value"), None))
        if array is None:
            raise DataError(path, f"does not fit the tree: it has no {name}")
        if array.shape != leaf.shape:
            raise DataError(
                path, f"does not fit the tree: {name} has shape {array.shape}, not {leaf.shape}"
            )
        return jnp.asarray(array, leaf.dtype)

    found = jax.tree_util.tree_map_with_path(taken, params)
    if arrays:
        raise DataError(path, f"does not fit the tree: it has {next(iter(arrays))} besides")
    return found


def batches(source: Any, name: str, samples: int) -> list[Any]:
    """Whole batches, in their order, until they hold so many samples."""
    return whole_batches(
        source,
        name,
        samples,
        each=lambda given: as_batches(given) if is_one(given) else given,
        count=count_samples,
        kind="a list of batches",
        told=_one_line,
    )


of_data = training_data


def use_double_precision() -> None:
    """Let JAX have float64, for the whole process."""
    jax.config.update("jax_enable_x64", True)


def try_out(network: TreeNetwork) -> None:
    """Compute the loss once; whatever goes wrong in it is told in one line."""
    of_any.try_out(network, _one_line)


def lowers(network: TreeNetwork) -> bool:
    """Whether the loss makes numbers of fewer digits of those in float64 that it is given."""
    of = network.in_float64.objective
    return _lowers(jax.make_jaxpr(of.uncompiled)(of.w, of._batches[0]).jaxpr)


def _lowers(jaxpr: Any) -> bool:
    for equation in jaxpr.eqns:
        types = [
            [str(getattr(v.aval, "dtype", "")) for v in side]
            for side in (equation.invars, equation.outvars)
        ]
        if "float64" in types[0] and any(kind in LOWER for kind in types[1]):
            return True
        for value in jax.tree.leaves(list(equation.params.values())):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns") and _lowers(inner):
                return True
    return False


def _one_line(error: BaseException) -> str:
    told = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(told[0].split()) if told else ''}"[:400]
