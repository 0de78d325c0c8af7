"""The tape: shared values, accumulation, what is computed, what is freed, and what is refused."""

from __future__ import annotations

import gc
import re
import threading
import weakref

import numpy as np
import pytest

from rsam_ref import GraphError, ShapeError, Tensor, models, no_grad
from rsam_ref.autograd import ops, ops_nn
from rsam_ref.autograd.op import op
from rsam_ref.autograd.tensor import Node


def leaf(*values, dtype="float64"):
    return Tensor(values, requires_grad=True, dtype=dtype)


def ones(*shape):
    return Tensor(np.ones(shape), requires_grad=True)


def counting():
    """An op x + y, and the list of the inputs that a gradient was asked for."""
    asked = []

    @op
    def counted(x, y):
        return x + y, (lambda g: asked.append("x") or g, lambda g: asked.append("y") or g)

    return counted, asked


# A value used more than once

SHARED = {  # f(x), its derivative
    "x * x": (lambda x: x * x, lambda x: 2 * x),
    "x + x": (lambda x: x + x, lambda x: 2 + 0 * x),
    "x - x": (lambda x: x - x, lambda x: 0 * x),
    "x / x": (lambda x: x / x, lambda x: 0 * x),
    "x * x * x": (lambda x: x * x * x, lambda x: 3 * x**2),
    "x itself": (lambda x: x, lambda x: 1 + 0 * x),
    "short and long way": (lambda x: x + ((x * 2) * 3) * x, lambda x: 1 + 12 * x),
}


def diamond(x):
    a, b = 2 * x, x * x
    return a * b


SHARED["diamond"] = (diamond, lambda x: 6 * x**2)
SHARED["diamond of diamonds"] = (lambda x: diamond(diamond(x)), lambda x: 16 * 9 * x**8)


@pytest.mark.parametrize("name", SHARED)
def test_all_ways_to_a_value_add_up(name):
    f, derivative = SHARED[name]
    x = leaf(1.5, -0.5, 2.0)
    f(x).sum().backward()
    np.testing.assert_allclose(x.grad, derivative(x.data), rtol=1e-13, atol=1e-13)


def test_nested_diamonds_are_walked_once():
    counted, asked = counting()
    x = leaf(1.0)
    y = x
    for _ in range(40):  # 2 ** 40 ways lead to x
        y = counted(y, y)
    y.backward()
    assert x.grad == 2.0**40
    assert asked == ["x", "y"] * 40


def test_consumers_at_different_depths_are_waited_for():
    """Every order in which the consumers are found must wait for the slowest."""
    for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0]):
        x = leaf(2.0)
        shared = x * x
        ways = [shared, shared * 3 * 5, shared * 7]
        total = Tensor(0.0)
        for i in order:
            total = total + ways[i]
        total.backward()
        assert x.grad == (1 + 15 + 7) * 4


def test_a_broadcast_value_gets_the_sum():
    x, y = ones(3, 1), ones(4)
    (x + y + x * 2).sum().backward()
    np.testing.assert_array_equal(x.grad, np.full((3, 1), 12.0))
    np.testing.assert_array_equal(y.grad, np.full(4, 3.0))


@pytest.mark.parametrize(
    "view",
    [lambda x: x.reshape(4, 3), lambda x: x.transpose(), lambda x: x[1:, ::2], lambda x: x[None]],
)
def test_views_share_memory_and_not_gradients(view):
    x = Tensor(np.arange(12.0).reshape(3, 4), requires_grad=True)
    y = view(x)
    assert np.shares_memory(x.data, y.data)
    with pytest.raises(ValueError, match="read-only"):
        y.data[...] = 0
    (y * y).sum().backward()
    taken = np.isin(x.data, y.data)
    np.testing.assert_array_equal(x.grad, np.where(taken, 2 * x.data, 0))


# Leaves keep gradients


def test_gradients_add_up_until_zero_grad():
    x = leaf(1.0, 2.0)
    assert x.grad is None
    for times in (1, 2):
        (x * x).sum().backward()
        np.testing.assert_array_equal(x.grad, times * 2 * x.data)
    x.zero_grad()
    assert x.grad is None
    (x * 3).sum().backward()
    np.testing.assert_array_equal(x.grad, [3, 3])


def test_a_gradient_belongs_to_its_leaf():
    x, y = leaf(1.0), leaf(1.0)
    seed = np.ones(1)
    (x + y).backward(seed)
    x.grad[...] = 7
    assert y.grad == 1
    assert seed == 1
    assert (x * y).grad is None


def test_a_seed_is_the_gradient_at_the_result():
    x = leaf(1.0, 2.0)
    (x * x).backward([10, 100])
    np.testing.assert_array_equal(x.grad, [20, 400])
    x.zero_grad()
    (x * x).backward(Tensor([1.0, 0.0]))
    np.testing.assert_array_equal(x.grad, [2, 0])


def test_detach():
    x = leaf(1.0, 2.0)
    still = x.detach()
    assert np.shares_memory(still.data, x.data)
    assert not still.requires_grad
    (x * still).sum().backward()
    np.testing.assert_array_equal(x.grad, x.data)


# no_grad


def test_no_grad_records_nothing():
    x = leaf(1.0)
    with no_grad():
        y = x * 2
        with no_grad():
            assert not (x * 2).requires_grad
        assert not (x * 2).requires_grad
    assert not y.requires_grad
    assert (x * 2).requires_grad
    with pytest.raises(GraphError, match="no_grad"):
        y.backward()


def test_no_grad_ends_with_an_exception():
    with pytest.raises(ZeroDivisionError), no_grad(), no_grad():
        1 / 0  # noqa: B018
    assert (leaf(1.0) * 2).requires_grad


def in_a_thread(f):
    """What ``f()`` returns in a thread of its own, which starts with the tape running."""
    returned = []
    thread = threading.Thread(target=lambda: returned.append(f()))
    thread.start()
    thread.join()
    return returned[0]


def test_no_grad_holds_for_its_thread_only():
    with no_grad():
        assert in_a_thread(lambda: (leaf(1.0) * 2).requires_grad)


def test_one_no_grad_may_be_entered_twice():
    def recording_afterwards():
        block = no_grad()
        with block, block:
            pass
        return (leaf(1.0) * 2).requires_grad

    assert in_a_thread(recording_afterwards)


def test_two_threads_walk_their_own_graphs():
    together, found = threading.Barrier(2, timeout=30), {}

    def work(factor):
        x = leaf(1.0, 2.0)
        y = x
        for _ in range(200):
            y = y * factor
        together.wait()
        y.sum().backward()
        found[factor] = x.grad

    threads = [threading.Thread(target=work, args=(factor,)) for factor in (1.01, 0.99)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for factor in (1.01, 0.99):
        np.testing.assert_allclose(found[factor], factor**200, rtol=1e-12)


# Operands and types

OPERATORS = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "@": lambda a, b: a @ b,
}


KINDS = {"array": np.asarray, "list": np.ndarray.tolist, "NumPy scalar": lambda a: a[0, 0]}


@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, kind) for name in OPERATORS for kind in KINDS if (name, kind) != ("@", "NumPy scalar")],
)
def test_an_array_on_either_side_of_an_operator(name, kind):
    f, a, x = OPERATORS[name], np.array([[2.0, 3.0], [4.0, 5.0]]), ones(2, 2)
    other = KINDS[kind](a)
    for y, plain in ((f(other, x), f(np.array(other), x.data)), (f(x, other), f(x.data, other))):
        assert isinstance(y, Tensor)
        assert y.requires_grad
        np.testing.assert_array_equal(y.data, plain)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "f",
    [
        *[lambda x, f=f: f(x, 2.5) for name, f in OPERATORS.items() if name != "@"],
        *[lambda x, f=f: f(3, x) for name, f in OPERATORS.items() if name != "@"],
        lambda x: x**2 + x**0.5 + x**-1,
        lambda x: ops.mean(x) + ops.var(x),
        lambda x: ops.maximum(x, 1.5) + ops.clip(x, low=0.5, high=1.5),
        lambda x: ops.where(np.array([True, False]), x, 0.0),
        lambda x: ops_nn.gelu(x) + ops_nn.gelu(x, approximate=True) + ops_nn.sigmoid(x),
        lambda x: ops_nn.softmax(x) + ops_nn.log_softmax(x),
    ],
)
def test_types_follow_the_input(dtype, f):
    x = leaf(1.0, 2.0, dtype=dtype)
    y = f(x)
    assert y.dtype == dtype
    y.sum().backward()
    assert x.grad.dtype == dtype


def test_a_gradient_has_the_type_of_its_leaf():
    """Whatever is computed in, and however often."""
    x = leaf(1.0, 2.0, dtype="float32")
    for _ in range(2):
        (x * np.ones(2)).sum().backward()
        assert x.grad.dtype == "float32"


def test_gradients_of_inputs_left_out_are_not_computed():
    asked = []

    @op
    def biased(x, bias=None):
        return x.copy(), (lambda g: g, lambda g: asked.append("bias"))

    biased(ones(3)).sum().backward()
    assert not asked


def test_gradients_that_nobody_needs_are_not_computed():
    counted, asked = counting()
    x, constant = leaf(1.0), Tensor(1.0)
    counted(x, constant).backward()
    assert asked == ["x"]
    counted(constant, counted(constant, x)).backward()
    assert asked == ["x", "y", "y"]
    assert not counted(constant, constant).requires_grad
    assert constant.grad is None


# Changes in place


@pytest.mark.parametrize("result", [lambda x: x, lambda x: x * 2, lambda x: x.sum()])
def test_values_are_read_only(result):
    t = result(ones(2, 3))
    before = np.array(t.data)
    with pytest.raises((ValueError, TypeError), match=r"read-only|not support item assignment"):
        t.data[...] = 1
    with pytest.raises(GraphError, match=r"in place.*compute a new one"):
        t[0] = 1
    with pytest.raises((ValueError, AttributeError)):
        t.data += 1
    np.testing.assert_array_equal(t.data, before)


def test_the_arrays_that_a_tensor_was_made_from_are_copied():
    start, factor, rows = np.ones(3), np.full(3, 2.0), np.array([0, 1])
    x = Tensor(start, requires_grad=True)
    y = ((x * factor) * x)[rows].sum()
    start[...], factor[...], rows[...] = 100, 100, 2
    y.backward()
    np.testing.assert_array_equal(x.data, [1, 1, 1])
    np.testing.assert_array_equal(x.grad, [4, 4, 0])


def test_making_a_tensor_leaves_the_array_writeable():
    array = np.ones(3)
    assert Tensor(array).data.sum() == 3
    array[0] = 2


def test_weights_changed_before_backward_are_an_error():
    model = models.mlp([3, 4, 2])
    loss = model(np.ones((5, 3), "float32")).sum()
    model.weights.flat[-1] += 1
    with pytest.raises(GraphError, match="weights were changed in place"):
        loss.backward()


@pytest.mark.parametrize("weight", [0.5, np.nan])
def test_weights_left_alone_are_no_error(weight):
    model = models.mlp([3, 4, 2])
    model.weights.flat[0] = weight
    loss = model(np.ones((5, 3), "float32")).sum()
    loss.backward()
    assert model.weights.gradient.shape == model.weights.flat.shape


# Errors


def test_a_graph_is_walked_once():
    x = leaf(1.0)
    shared = x * 2
    one, other = shared * 3, shared * 4
    one.backward()
    for again in (one, other, shared, shared + x):
        with pytest.raises(GraphError, match=r"already walked.*compute the value again"):
            again.backward()


def test_backward_needs_a_scalar_or_a_seed():
    with pytest.raises(GraphError, match=r"\(2, 3\).*sum.*seed"):
        (ones(2, 3) * 2).backward()
    with pytest.raises(ShapeError, match=r"\(3, 2\).*\(2, 3\)"):
        (ones(2, 3) * 2).backward(np.ones((3, 2)))
    with pytest.raises(ShapeError, match=r"\(1, 3\).*\(2, 3\)"):
        (ones(2, 3) * 2).backward(np.ones((1, 3)))


def test_backward_needs_a_graph():
    with pytest.raises(GraphError, match="requires_grad=True"):
        (Tensor(1.0) * 2).backward()


@pytest.mark.parametrize("values", [[1, 2], [True, False]])
def test_only_floats_have_gradients(values):
    with pytest.raises(TypeError, match=r"dtype='float32'"):
        Tensor(values, requires_grad=True)
    assert Tensor(values).dtype.kind in "ib"
    assert Tensor(values, requires_grad=True, dtype="float32").dtype == "float32"


def array(*shape):
    return np.ones(shape)


MISFITS = [  # the op's name, the call, what shapes the message has to give
    ("add", lambda: ones(2, 3) + ones(4), ["(2, 3)", "(4,)"]),
    ("mul", lambda: array(2, 3) * ones(3, 2), ["(2, 3)", "(3, 2)"]),
    ("matmul", lambda: ones(2, 3) @ ones(2, 3), ["(2, 3)", "(2, 3)"]),
    ("matmul", lambda: ones(2, 3, 4) @ ones(5, 4, 3), ["(2, 3, 4)", "(5, 4, 3)"]),
    ("matmul", lambda: ones(2, 3) @ 2, ["(2, 3)", "2"]),
    ("linear", lambda: ops_nn.linear(ones(2, 3), ones(4, 5)), ["(2, 3)", "(4, 5)"]),
    (
        "conv2d",
        lambda: ops_nn.conv2d(ones(1, 3, 5, 5), ones(4, 2, 3, 3)),
        ["(1, 3, 5, 5)", "(4, 2, 3, 3)"],
    ),
    (
        "conv2d",
        lambda: ops_nn.conv2d(ones(1, 3, 2, 5), ones(4, 3, 3, 3)),
        ["(1, 3, 2, 5)", "(3, 3)"],
    ),
    (
        "batch_norm",
        lambda: ops_nn.batch_norm(ones(2, 3), ones(4), ones(4), mean=array(4), var=array(4)),
        ["(2, 3)", "4"],
    ),
    ("layer_norm", lambda: ops_nn.layer_norm(ones(2, 3), ones(4), ones(4)), ["(2, 3)", "(4,)"]),
    (
        "group_norm",
        lambda: ops_nn.group_norm(ones(2, 3, 1, 1), ones(3), ones(3), groups=2),
        ["(2, 3, 1, 1)", "2 groups"],
    ),
    (
        "scaled_dot_product_attention",
        lambda: ops_nn.scaled_dot_product_attention(ones(2, 3), ones(4, 5), ones(4, 6)),
        ["(2, 3)", "(4, 5)", "(4, 6)"],
    ),
    ("cross_entropy", lambda: ops_nn.cross_entropy(ones(2, 3), array(3)), ["(2, 3)", "(3,)"]),
    (
        "concatenate",
        lambda: ops.concatenate(ones(2, 3), ones(2, 4), axis=0),
        ["(2, 3)", "(2, 4)"],
    ),
    ("reshape", lambda: ones(2, 3).reshape(4, 2), ["(2, 3)", "(4, 2)"]),
    ("reshape", lambda: ones(2, 3).reshape(4, -1), ["(2, 3)", "(4, -1)"]),
]


@pytest.mark.parametrize(("name", "call", "shapes"), MISFITS)
def test_misfits_name_the_op_the_shapes_and_the_remedy(name, call, shapes):
    with pytest.raises(ShapeError) as caught:
        call()
    message = str(caught.value)
    assert message.startswith(f"{name}:")
    for shape in shapes:
        assert shape.replace(" ", "") in message.replace(" ", ""), message
    assert re.search(r"\b(give|build|choose|flatten|transpose|reshape one)\b", message), message
    if "equal or 1" in message:
        assert name in ("add", "mul", "matmul"), "the remedy is that of ops that broadcast"


# Memory


@pytest.fixture
def counted_nodes():
    """The number of live nodes beyond those at the start, while nothing collects cycles."""
    count = lambda: sum(issubclass(type(x), Node) for x in gc.get_objects())
    gc.collect()
    gc.disable()
    before = count()
    yield lambda: count() - before
    gc.enable()


def long_computation(x):
    model = models.cnn(size=4, width=2, dtype="float64")
    y = model(x).sum()
    for _ in range(10):
        y = ops.tanh(y * y + y)
    return ops.concatenate(*[y.reshape(1)] * 3).sum()


def test_a_dropped_graph_is_freed_at_once(counted_nodes):
    x = ones(2, 1, 4, 4)
    loss = long_computation(x)
    assert counted_nodes() > 30
    del loss
    assert counted_nodes() == 1  # the leaf x; the model went with the graph


def test_after_backward_only_leaves_and_the_loss_are_left(counted_nodes):
    x = ones(2, 1, 4, 4)
    loss = long_computation(x)
    loss.backward()
    assert counted_nodes() == 2
    del loss
    assert counted_nodes() == 1


def test_what_ops_saved_is_freed_during_backward():
    saved, alive = [], []

    @op
    def saving(x):
        kept = x.copy()
        saved.append(weakref.ref(kept))

        def vjp(g):
            alive.append(sum(ref() is not None for ref in saved))
            return g * (kept > 0)

        return x + 1, (vjp,)

    y = ones(3)
    for _ in range(6):
        y = saving(y)
    y.sum().backward()
    assert alive == [6, 5, 4, 3, 2, 1]
    assert not any(ref() is not None for ref in saved)


@pytest.mark.parametrize("walked", [True, False])
def test_a_long_chain_needs_no_deep_stack(walked):
    x = leaf(1.0)
    y = x
    for _ in range(20_000):
        y = y + 1
    if walked:
        y.backward()
        assert x.grad == 1
    del y  # and freeing it must not recurse either


# What hands type


METHODS = {
    "exp": lambda x: x.exp(),
    "log": lambda x: x.log(),
    "sqrt": lambda x: x.sqrt(),
    "tanh": lambda x: x.tanh(),
    "abs": abs,
    "T": lambda x: x.T[1],
    "base": lambda x: 3**x,
    "numpy base": lambda x: np.float64(0.5) ** x,
    "max": lambda x: x.max(),
    "min": lambda x: x.min(),
    "amax of rows": lambda x: x.max(axis=1) if isinstance(x, Tensor) else x.amax(dim=1),
    "var": lambda x: x.var() if isinstance(x, Tensor) else x.var(correction=0),
}


@pytest.mark.parametrize("name", METHODS)
def test_methods_are_the_ops_of_that_name(name):
    torch = pytest.importorskip("torch")
    f, values = METHODS[name], np.array([[0.5, 2.0, 1.5], [0.25, 3.0, 0.75]])
    x = Tensor(values, requires_grad=True)
    t = torch.tensor(values, requires_grad=True)
    f(x).sum().backward()
    f(t).sum().backward()
    np.testing.assert_allclose(f(x).data, f(t).detach().numpy(), rtol=1e-12)
    np.testing.assert_allclose(x.grad, t.grad.numpy(), rtol=1e-12, atol=1e-15)


def test_the_base_of_a_power_has_a_logarithm():
    for base in (0, -2, "2"):
        with pytest.raises(TypeError, match="the base must be > 0"):
            base ** leaf(1.0)


def test_comparisons_are_element_by_element_and_have_no_gradient():
    x, y = leaf(1.0, 2.0, 3.0), Tensor([2.0, 2.0, 2.0])
    for found, expected in [
        (x < y, [True, False, False]),
        (x <= 2, [True, True, False]),
        (x > 2, [False, False, True]),
        (np.array([1.0, 1.0, 3.0]) >= x, [True, False, True]),
        (x == y, [False, True, False]),
        (x != 2, [True, False, True]),
    ]:
        assert found.data.tolist() == expected
        assert not found.requires_grad
    ops.where(x > 1.5, x * x, x).sum().backward()
    assert x.grad.tolist() == [1, 4, 6]
    assert float(x.sum()) == 6.0
    assert {x: 1}[x] == 1


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x: np.stack([x, x]), "use rsam_ref.autograd.ops.stack"),
        (lambda x: np.dot(np.ones(2), x), "use rsam_ref.autograd.ops.matmul"),
        (lambda x: np.max(x), "use rsam_ref.autograd.ops.amax"),
        (lambda x: np.allclose(x, x), "use ops of rsam_ref.autograd"),
        (lambda x: np.asarray(x), "take tensor.data"),
        (lambda x: np.array([x, x]), "take tensor.data"),
        (lambda x: np.ones((2, 2)).dot(x), "take tensor.data"),
        (lambda x: np.exp(x), "does not support ufuncs"),
    ],
)
def test_functions_of_numpy_are_refused_in_one_line(call, words):
    with pytest.raises(TypeError, match=words) as told:
        call(leaf(1.0, 2.0))
    assert "\n" not in str(told.value)
