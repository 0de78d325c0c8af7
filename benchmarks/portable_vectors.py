"""SAM and R-SAM on vectors of one library, in each of its floating types.

    python -m benchmarks.portable_vectors NAME

prints a line of JSON for each type: how far a step is from the same step in float64, or why there
is none. What is asked of the vectors is what sam.py asks of them: operators.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np

from rsam_ref.algorithms.sam import rsam_gradient, sam_gradient

DTYPES = ("float64", "float32", "float16", "bfloat16")
SIZE = 20

Make = Callable[[np.ndarray, str], Any]
Host = Callable[[Any], np.ndarray]


@dataclass(frozen=True)
class Library:
    """Whose vectors, and how they are made and read."""

    packages: tuple[str, ...]
    """What pip installs, the one whose version is told first."""
    load: Callable[[], tuple[Make, Host]]
    lacks: tuple[str, ...] = ()
    """Types that it does not have."""
    title: str = ""


def _numpy() -> tuple[Make, Host]:
    return lambda values, dtype: values.astype(dtype), lambda v: np.asarray(v, "float64")


def _cupy_surface() -> tuple[Make, Host]:
    from tests.device.double import DeviceArray

    return lambda values, dtype: DeviceArray(values.astype(dtype)), lambda v: v.get()


def _torch() -> tuple[Make, Host]:
    import torch

    return (
        lambda values, dtype: torch.tensor(values, dtype=getattr(torch, dtype)),
        lambda v: v.to(torch.float64).numpy(),
    )


def _jax() -> tuple[Make, Host]:
    import jax

    jax.config.update("jax_enable_x64", True)
    return (
        lambda values, dtype: jax.numpy.asarray(values, dtype=dtype),
        lambda v: np.asarray(v.astype("float64")),
    )


def _tensorflow() -> tuple[Make, Host]:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    tf.experimental.numpy.experimental_enable_numpy_behavior()  # without it @ takes no vectors
    return (
        lambda values, dtype: tf.constant(values, dtype=getattr(tf, dtype)),
        lambda v: tf.cast(v, tf.float64).numpy(),
    )


def _mlx() -> tuple[Make, Host]:
    import mlx.core as mx

    mx.set_default_device(mx.cpu)  # where float64 is
    return (
        lambda values, dtype: mx.array(values.tolist(), dtype=getattr(mx, dtype)),
        lambda v: np.asarray(v.astype(mx.float64)),
    )


def _dpnp() -> tuple[Make, Host]:
    from rsam_backends import get_backend

    backend = get_backend("dpnp")
    return (
        lambda values, dtype: backend.to_device(values.astype(dtype)),
        lambda v: backend.to_host(v).astype("float64"),
    )


def _tinygrad() -> tuple[Make, Host]:
    os.environ.setdefault("DEV", "PYTHON")  # its device that needs no compiler
    from tinygrad import Tensor, dtypes

    return (
        lambda values, dtype: Tensor(values.tolist(), dtype=getattr(dtypes, dtype)),
        lambda v: v.cast(dtypes.float64).numpy(),
    )


def _ndonnx() -> tuple[Make, Host]:
    import ndonnx

    return (
        lambda values, dtype: ndonnx.asarray(values.astype(dtype)),
        lambda v: v.unwrap_numpy().astype("float64"),
    )


def _dask() -> tuple[Make, Host]:
    import dask.array

    return (
        lambda values, dtype: dask.array.from_array(values.astype(dtype), chunks=7),
        lambda v: v.compute().astype("float64"),
    )


def _strict() -> tuple[Make, Host]:
    import array_api_strict as strict

    return (
        lambda values, dtype: strict.asarray(values, dtype=getattr(strict, dtype)),
        lambda v: np.asarray(v).astype("float64"),
    )


NO_BFLOAT16 = ("bfloat16",)
LIBRARIES = {
    "numpy": Library(("numpy",), _numpy, NO_BFLOAT16, "NumPy"),
    "cupy": Library(("numpy",), _cupy_surface, NO_BFLOAT16, "CuPy's surface, on NumPy"),
    "torch": Library(("torch",), _torch, title="PyTorch"),
    "jax": Library(("jax",), _jax, title="JAX"),
    "tensorflow": Library(("tensorflow-cpu==2.21.0",), _tensorflow, title="TensorFlow"),
    "mlx": Library(("mlx", "mlx-cpu"), _mlx, title="MLX"),
    "dpnp": Library(("dpnp",), _dpnp, NO_BFLOAT16, "dpnp"),
    "tinygrad": Library(("tinygrad==0.14.0",), _tinygrad, title="tinygrad"),
    "ndonnx": Library(("ndonnx==0.23.0",), _ndonnx, NO_BFLOAT16, "ndonnx"),
    "dask": Library(("dask[array]==2026.8.0",), _dask, NO_BFLOAT16, "dask.array"),
    "strict": Library(("array-api-strict",), _strict, ("float16", "bfloat16"), "array-api-strict"),
}


def problem() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The weights, a constant of the loss, the draw."""
    w, c, noise = np.random.default_rng(3).standard_normal((3, SIZE))
    return w, c, 0.1 * noise


def steps(vectors: list[Any]) -> list[Any]:
    """What SAM and R-SAM find with these: perturbations and gradients."""
    w, c, noise = vectors

    def loss_and_grad(w: Any) -> tuple[Any, Any]:
        return 0.0, w * w * w - c  # the rules hand the loss on, and do nothing with it

    # NumPy's number, as a sweep has it, where the setting is asked for
    traces = [
        sam_gradient(loss_and_grad, w, rho=np.float64(0.3)),
        rsam_gradient(loss_and_grad, w, noise, rho=np.float64(0.3)),
    ]
    return [found for trace in traces for found in (trace.perturbation, trace.gradient)]


def measured(library: Library, make: Make, host: Host, dtype: str) -> dict[str, Any]:
    """The largest error, as a share of the vector's largest number; or what was said."""
    if dtype in library.lacks:
        return {"dtype": dtype, "says": "no such type"}
    try:
        vectors = [make(values, dtype) for values in problem()]
        found = steps(vectors)
        kept = all(
            type(v) is type(vectors[0]) and str(v.dtype) == str(vectors[0].dtype) for v in found
        )
        # float64 begins from the same rounded numbers.
        expected = steps([np.asarray(host(v), "float64") for v in vectors])
        errors = [abs(host(a) - b).max() / abs(b).max() for a, b in zip(found, expected)]
    except Exception as error:  # a library may refuse in any way, and it is told
        return {"dtype": dtype, "says": f"{type(error).__name__}: {str(error).splitlines()[0]}"}
    return {"dtype": dtype, "error": float(max(errors)), "kept": kept}


def bare(package: str) -> str:
    """A package's name, without what pip is told beside it."""
    return package.partition("==")[0].partition("[")[0]


def rows(name: str) -> list[dict[str, Any]]:
    """A row for each type. Raises ImportError where the library is not here."""
    library = LIBRARIES[name]
    make, host = library.load()
    told = version(bare(library.packages[0]))
    return [
        {"library": name, "version": told, **measured(library, make, host, dtype)}
        for dtype in DTYPES
    ]


if __name__ == "__main__":
    for row in rows(sys.argv[1]):
        print(json.dumps(row))
