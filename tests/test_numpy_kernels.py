"""The NumPy backend's kernels, each against its definition: shapes, memory layouts, threads."""

import multiprocessing
import os
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_info, threadpool_limits

from rsam_backends import numpy_kernels, threads, use_backend
from rsam_ref import models, objective, ops_nn
from rsam_ref.tensor import Tensor

LAYOUTS = {
    "channels first": lambda x: x,
    "channels last": lambda x: np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2),
    "every other": lambda x: np.repeat(x, 2, axis=3)[..., ::2],
}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Blocks so small that a few images need several, on two threads."""
    monkeypatch.setattr(numpy_kernels, "BLOCK", 2000)
    monkeypatch.setattr(numpy_kernels, "ROW", 12)
    threads.set_threads(2)
    yield
    threads.set_threads(None)


def values_and_gradients(f, inputs, seed=0):
    """f's value, and the gradients of a random combination of it, as host arrays."""
    tensors = [Tensor(x, requires_grad=True) for x in inputs]
    value = f(*tensors)
    weight = np.random.default_rng(seed).standard_normal(value.shape).astype(value.dtype)
    (value * weight).sum().backward()
    return [value.data, *(t.grad for t in tensors)]


def agree(f, inputs, rtol):
    with use_backend("numpy", kernels="fast"):
        fast = values_and_gradients(f, inputs)
    with use_backend("numpy", kernels="plain"):
        plain = values_and_gradients(f, inputs)
    for a, b in zip(fast, plain, strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * max(1, np.abs(b).max()))


@given(
    data=st.data(),
    dtype=st.sampled_from([("float64", 1e-10), ("float32", 1e-4)]),
    layout=st.sampled_from(sorted(LAYOUTS)),
    bias=st.booleans(),
)
def test_conv2d_is_its_definition(data, dtype, layout, bias):
    draw = lambda low, high, name: data.draw(st.integers(low, high), name)
    n, c, o = draw(1, 5, "n"), draw(1, 4, "c"), draw(1, 4, "o")
    kh, kw = draw(1, 3, "kh"), draw(1, 3, "kw")
    stride = draw(1, 3, "sh"), draw(1, 3, "sw")
    padding = draw(0, 3, "ph"), draw(0, 3, "pw")
    h = draw(max(1, kh - 2 * padding[0]), 7, "h")
    w = draw(max(1, kw - 2 * padding[1]), 7, "w")
    rng = np.random.default_rng(0)
    x, weight, b = (rng.standard_normal(s) for s in ((n, c, h, w), (o, c, kh, kw), (o,)))
    name, rtol = dtype
    inputs = [LAYOUTS[layout](x.astype(name)), weight.astype(name)]
    inputs += [b.astype(name)] if bias else []
    agree(lambda *xs: ops_nn.conv2d(*xs, stride=stride, padding=padding), inputs, rtol)


@given(
    shape=st.tuples(*(st.integers(1, high) for high in (6, 5, 4, 4))),
    layout=st.sampled_from(sorted(LAYOUTS)),
    dtype=st.sampled_from([("float64", 1e-9), ("float32", 2e-3)]),
    constant=st.booleans(),
)
def test_batch_norm_is_its_definition(shape, layout, dtype, constant):
    name, rtol = dtype
    rng = np.random.default_rng(0)
    x = LAYOUTS[layout]((rng.standard_normal(shape) * 3 + 2).astype(name))
    gamma, beta = (rng.standard_normal(shape[1]).astype(name) for _ in range(2))
    fixed = rng.uniform(0.5, 2, (2, shape[1])).astype(name)

    def f(x, gamma, beta):
        mean, var = fixed if constant else ops_nn.batch_statistics(x._data)
        return ops_nn.batch_norm(x, gamma, beta, mean=mean, var=var, eps=0.1, constant=constant)

    agree(f, [x, gamma, beta], rtol)


@given(shape=st.tuples(*(st.integers(1, high) for high in (6, 5, 4, 4))))
def test_statistics_of_a_large_mean_do_not_cancel(shape):
    x = LAYOUTS["channels last"]((np.random.default_rng(0).random(shape) + 1000).astype("float32"))
    mean, var = numpy_kernels.batch_statistics(x)
    np.testing.assert_allclose(mean, x.astype("float64").mean(axis=(0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(var, x.astype("float64").var(axis=(0, 2, 3)), rtol=1e-2, atol=1e-6)


def step_bits(n):
    threads.set_threads(n)
    model = models.wide_resnet(depth=10, width=1, seed=0)
    rng = np.random.default_rng(0)
    batch = objective(model, rng.standard_normal((6, 3, 8, 8), "float32"), rng.integers(0, 10, 6))
    loss, gradient = batch(model.weights.flat)
    return loss.tobytes() + gradient.tobytes()


def test_the_number_of_threads_changes_no_bit():
    with threadpool_limits(1, user_api="blas"):
        assert step_bits(1) == step_bits(2) == step_bits(3)


def fork_and_step(pipe):
    pipe.send(step_bits(2))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_has_threads_of_its_own():
    expected = step_bits(2)
    here, there = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=fork_and_step, args=(there,))
    child.start()
    assert here.poll(60), "the child waits for threads that it does not have"
    assert here.recv() == expected
    child.join()


def test_it_works_inside_the_user_s_own_threads():
    expected, found = step_bits(2), []
    own = [threading.Thread(target=lambda: found.append(step_bits(2))) for _ in range(4)]
    for thread in own:
        thread.start()
    for thread in own:
        thread.join()
    assert found == [expected] * 4


def blas_threads():
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


@pytest.mark.parametrize("failing", [False, True])
def test_blas_has_its_threads_back_afterwards(failing):
    with threadpool_limits(2, user_api="blas"):
        before, inside = blas_threads(), []

        def work(piece):
            inside.append(blas_threads())
            if failing and piece == 1:
                raise ZeroDivisionError

        if failing:
            with pytest.raises(ZeroDivisionError):
                threads.share_out(work, range(4))
        else:
            threads.share_out(work, range(4))
        assert all(numbers == {1} for numbers in inside)
        assert blas_threads() == before


def test_every_piece_is_worked_on_once():
    for n in (1, 2, 3, 7):
        threads.set_threads(n)
        done = []
        threads.share_out(done.append, range(5))
        assert sorted(done) == [0, 1, 2, 3, 4]


def test_overflow_is_as_quiet_in_the_threads_as_outside():
    def work(piece):
        np.float32(3e38) * np.full(10, 10, "float32")

    with np.errstate(all="ignore"):
        threads.share_out(work, range(4))
    with np.errstate(over="raise"), pytest.raises(FloatingPointError):
        threads.share_out(work, range(4))


def test_the_number_of_threads_is_checked(monkeypatch):
    with pytest.raises(ValueError, match="must be >= 1, not 0"):
        threads.set_threads(0)
    threads.set_threads(None)
    monkeypatch.setenv("RSAM_REF_THREADS", "many")
    with pytest.raises(ValueError, match=r"RSAM_REF_THREADS is a number of threads .* 'many'"):
        threads.threads()
    monkeypatch.setenv("RSAM_REF_THREADS", "3")
    assert threads.threads() == 3


def test_kernels_are_fast_or_plain(monkeypatch):
    with pytest.raises(ValueError, match="kernels are 'fast' or 'plain'"):
        use_backend("numpy", kernels="slow")
    called = []
    backend_kernels = use_backend("numpy").__enter__().kernels
    monkeypatch.setitem(backend_kernels, "conv2d", lambda *a, **k: called.append(1))
    x, weight = np.ones((1, 1, 3, 3)), np.ones((1, 1, 3, 3))
    with use_backend("numpy", kernels="plain"):
        assert ops_nn.conv2d(x, weight).data.item() == 9
        monkeypatch.setenv("RSAM_REF_KERNELS", "fast")
    monkeypatch.setenv("RSAM_REF_KERNELS", "plain")
    with use_backend("numpy"):
        assert ops_nn.conv2d(x, weight).data.item() == 9
    assert not called
