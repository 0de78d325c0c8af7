"""The core beside the array-API standard: what of it runs on nothing but the standard's names.

array-api-strict refuses what the standard does not promise. Each op is either run on it, value and
gradients held to NumPy's, or stands in `BEYOND` with the reason.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rsam_backends import switch, to_device, to_host, use_backend
from rsam_ref import Tensor
from rsam_ref.algorithms.base import sgd_update
from rsam_ref.autograd import ops
from rsam_ref.autograd.tensor import Leaf
from tests.helpers.oracle import assert_close, cotangent, is_float
from tests.test_finite_differences import CASES, OPS

array_api_strict = pytest.importorskip("array_api_strict", reason="array-api-strict is missing")

WINDOWS = "windows are views, and the standard has none"
BEYOND = {  # the op: why the standard alone cannot do it
    "conv2d": WINDOWS,
    "max_pool2d": WINDOWS,
    "avg_pool2d": WINDOWS,
    "getitem": "the standard has no index of arrays beside slices, and no adding at places",
    "gelu": "the standard has no erf",
}


@pytest.fixture(scope="module")
def strict():
    from tests.device.strict import StrictBackend

    switch._instances["strict", 0] = StrictBackend()
    with use_backend("strict"):
        yield
    del switch._instances["strict", 0]


def cases(name):
    functions, *inputs = CASES[name]
    return functions if isinstance(functions, list) else [functions], inputs


def value_and_gradients(f, inputs):
    given: list[Any] = [to_device(x) for x in inputs]
    leaves = [Tensor.over(x, Leaf(x.dtype)) for x, a in zip(given, inputs) if is_float(a)]
    tensors = iter(leaves)
    out = f(*[next(tensors) if is_float(a) else x for x, a in zip(given, inputs)])
    out.backward(to_device(cotangent(out.shape, "float64")))
    return [to_host(out.data), *[to_host(leaf.grad) for leaf in leaves]]


@pytest.mark.parametrize("name", sorted(OPS))
def test_an_op_runs_on_the_standard_or_is_beyond_it(name, strict):
    functions, inputs = cases(name)
    for f in functions:
        if name in BEYOND:
            continue
        found = value_and_gradients(f, inputs)
        with use_backend("numpy", kernels="plain"):
            expected = value_and_gradients(f, inputs)
        for a, b in zip(found, expected, strict=True):
            assert_close(name, a, b, 1e-14)


@pytest.mark.parametrize("name", BEYOND)
def test_what_is_beyond_the_standard_still_is(name, strict):
    functions, inputs = cases(name)
    with pytest.raises(NotImplementedError):
        value_and_gradients(functions[0], inputs)


def test_slices_and_gelu_by_tanh_run_on_the_standard(strict):
    x = np.linspace(-1, 1, 12).reshape(3, 4)
    for f in (lambda x: ops.getitem(x, index=np.s_[::-1, 1:]), cases("gelu")[0][1]):
        found = value_and_gradients(f, [x])
        with use_backend("numpy", kernels="plain"):
            expected = value_and_gradients(f, [x])
        for a, b in zip(found, expected, strict=True):
            assert_close("", a, b, 1e-14)


def test_a_step_of_sgd_runs_on_the_standard(strict):
    settings: Any = {"lr": 0.1, "momentum": 0.9, "dampening": 0.0, "weight_decay": 1e-2}
    settings["nesterov"] = True
    results = []
    for backend in ("strict", "numpy"):
        with use_backend(backend):
            w, velocity = to_device(np.linspace(-1, 1, 5)), None
            for _ in range(3):
                velocity = sgd_update(w, w * w, velocity, **settings)
            results.append(to_host(w))
    np.testing.assert_allclose(*results, rtol=1e-14)
