"""Every op, by name, against finite differences: a judge that knows no formula.

The ops are found in their modules, so a new one has no case at first, and fails.
"""

from __future__ import annotations

import numpy as np
import pytest

from rsam_backends import to_device
from rsam_ref.autograd import ops, ops_nn
from tests.helpers.oracle import check_finite_differences, normal, positive

pytestmark = pytest.mark.usefixtures("device")

OPS = {
    f.__name__: f
    for module in (ops, ops_nn)
    for name, f in vars(module).items()
    # The definition is kept by the decorator @op (and by @replaceable, on what is no op).
    if hasattr(f, "__wrapped__") and f.__name__ == name and f is not ops_nn.batch_statistics
}


def apart(seed, *shapes):
    """Values 0.1 apart from each other, in random order, none nearer to 0 than 0.05."""
    total = sum(int(np.prod(shape)) for shape in shapes)
    values = (np.random.default_rng(seed).permutation(total) - total // 2 + 0.5) * 0.1
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1]
    return [part.reshape(shape) for part, shape in zip(np.split(values, ends), shapes)]


def options(name, **given):
    return lambda *xs: OPS[name](*xs, **given)


def batch_norm(x, gamma, beta, op=ops_nn.batch_norm):
    mean, var = ops_nn.batch_statistics(x._data)
    return op(x, gamma, beta, mean=mean, var=var)


def by_running_statistics(x, gamma, beta):
    mean, var = to_device(np.ones(4)), to_device(np.full(4, 2.0))
    return ops_nn.batch_norm(x, gamma, beta, mean=mean, var=var, constant=True)


PAIR, IMAGES = ((2, 3, 4), (3, 1)), (2, 4, 5, 6)
MASK = np.array([[True, False, True], [False, True, True]])
AXES: tuple[dict, ...] = {}, {"axis": -1}, {"axis": (0, 2), "keepdims": True}

CASES = {  # the function, or functions, and the inputs
    "add": (ops.add, *normal(1, *PAIR)),
    "sub": (ops.sub, *normal(1, *PAIR)),
    "mul": (ops.mul, *normal(1, *PAIR)),
    "div": (ops.div, *positive(1, *PAIR)),
    "maximum": (ops.maximum, *apart(1, *PAIR)),
    "minimum": (ops.minimum, *apart(1, *PAIR)),
    "where": (ops.where, MASK, *normal(1, (2, 3), (4, 1, 3))),
    "neg": (ops.neg, *normal(1, (2, 3))),
    "power": ([options("power", exponent=e) for e in (2.5, -1, 2)], *positive(1, (2, 3))),
    "exp": (ops.exp, *normal(1, (2, 3))),
    "log": (ops.log, *positive(1, (2, 3))),
    "sqrt": (ops.sqrt, *positive(1, (2, 3))),
    "absolute": (ops.absolute, *apart(1, (4, 5))),
    "tanh": (ops.tanh, *normal(1, (2, 3))),
    "clip": (options("clip", low=-0.5, high=0.6), *apart(1, (4, 5))),
    **{
        name: ([options(name, **given) for given in AXES], *apart(1, (2, 3, 4)))
        for name in ("sum", "mean", "var", "amax", "amin")
    },
    "reshape": (options("reshape", shape=(4, -1)), *normal(1, (2, 3, 4))),
    "transpose": ([ops.transpose, options("transpose", axes=(1, 2, 0))], *normal(1, (2, 3, 4))),
    "broadcast_to": (options("broadcast_to", shape=(2, 3, 4)), *normal(1, (3, 1))),
    "pad": (options("pad", widths=((1, 0), (2, 3))), *normal(1, (2, 3))),
    "concatenate": (options("concatenate", axis=-2), *normal(1, (2, 3, 4), (2, 1, 4))),
    "stack": (options("stack", axis=1), *normal(1, (2, 3), (2, 3))),
    "getitem": (
        [options("getitem", index=at) for at in ([1, 1, 0], np.s_[::-1, None, 1:], MASK)],
        *normal(1, (2, 3)),
    ),
    "matmul": (ops.matmul, *normal(1, (5, 2, 3), (3, 4))),
    "relu": (ops_nn.relu, *apart(1, (4, 5))),
    "sigmoid": (ops_nn.sigmoid, *normal(1, (2, 3))),
    "gelu": ([options("gelu", approximate=by) for by in (False, True)], *normal(1, (2, 3))),
    "softmax": ([options("softmax", axis=axis) for axis in (0, -1)], *normal(1, (2, 3))),
    "log_softmax": ([options("log_softmax", axis=axis) for axis in (0, -1)], *normal(1, (2, 3))),
    "cross_entropy": (
        [options("cross_entropy", label_smoothing=s) for s in (0, 0.2)],
        *normal(1, (4, 3)),
        np.array([2, 0, 1, 2]),
    ),
    "sigmoid_cross_entropy": (
        ops_nn.sigmoid_cross_entropy,
        *normal(1, (4, 3)),
        np.array([2, 0, 1, 2]),
    ),
    "linear": (ops_nn.linear, *normal(1, (2, 3, 4), (5, 4), (5,))),
    "conv2d": (
        options("conv2d", stride=(2, 1), padding=(1, 2), groups=2),
        *normal(1, IMAGES, (6, 2, 3, 2), (6,)),
    ),
    "max_pool2d": (options("max_pool2d", window=(3, 2), stride=1, padding=1), *apart(1, IMAGES)),
    "avg_pool2d": (options("avg_pool2d", window=(3, 2), stride=1, padding=1), *apart(1, IMAGES)),
    "global_avg_pool2d": (ops_nn.global_avg_pool2d, *normal(1, IMAGES)),
    "batch_norm": (
        [batch_norm, by_running_statistics],
        *normal(1, IMAGES, (4,), (4,)),
    ),
    "_add_relu": (ops_nn._add_relu, *apart(1, (4, 5)), np.zeros((4, 5))),
    "_batch_norm_relu": (
        lambda *xs: batch_norm(*xs, op=ops_nn._batch_norm_relu),
        *(*apart(1, IMAGES), *normal(1, (4,), (4,))),
    ),
    "layer_norm": (ops_nn.layer_norm, *normal(1, (2, 3, 4), (4,), (4,))),
    "group_norm": (options("group_norm", groups=2), *normal(1, IMAGES, (4,), (4,))),
    "scaled_dot_product_attention": (
        ops_nn.scaled_dot_product_attention,
        *normal(1, (5, 2, 4), (5, 3, 4), (5, 3, 6)),
        MASK,
    ),
    "self_attention": (ops_nn.self_attention, *normal(1, (3, 2, 4, 5))),
}


def test_the_cases_are_of_ops():
    assert CASES.keys() <= OPS.keys()


@pytest.mark.parametrize("name", sorted(OPS))
def test_gradients_are_slopes(name):
    assert name in CASES, f"no finite differences for the op {name}: add a case to CASES"
    functions, *inputs = CASES[name]
    for f in functions if isinstance(functions, list) else [functions]:
        check_finite_differences(name, f, *inputs)
