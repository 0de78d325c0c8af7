"""`sam.py` and `variants.py` know no array library, so the same lines run on every one; so does the
draw, by the library that its vector comes from."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks.portable import cell
from benchmarks.portable_vectors import DTYPES, LIBRARIES, rows
from rsam_backends import Stream, use_backend, xp
from rsam_ref import asam_gradient, rsam_gradient, sam_gradient
from rsam_ref.algorithms import sam, variants
from rsam_ref.algorithms.noise import ball_noise, filter_noise, filter_scale
from rsam_ref.algorithms.settings import check_precision
from rsam_ref.algorithms.variants import gradient_rsam_gradient, stacked_rsam_gradient
from tests.helpers.problems import bumpy

ALLOWED = {
    "__future__",
    "collections.abc",
    "dataclasses",
    "typing",
    "rsam_ref.algorithms.sam",
    "rsam_ref.algorithms.settings",
}


def numpy_vectors():
    return np.asarray


def torch_vectors():
    torch = pytest.importorskip("torch")
    return lambda values: torch.tensor(values, dtype=torch.float64)


def jax_vectors():
    jax = pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", True)
    return jax.numpy.asarray


# Each rule as a function of (loss_and_grad, w, noise).
RULES = {
    "sam": lambda f, w, noise: sam_gradient(f, w, rho=0.3),
    "3-step sam": lambda f, w, noise: sam_gradient(f, w, rho=0.3, ascent_steps=3),
    "asam": lambda f, w, noise: asam_gradient(f, w, rho=0.3),
    "rsam": lambda f, w, noise: rsam_gradient(f, w, noise, rho=0.3),
    "stacked": lambda f, w, noise: stacked_rsam_gradient(f, w, noise, rho=0.3),
    "gradient": lambda f, w, noise: gradient_rsam_gradient(f, w, noise, rho=0.3),
}


@pytest.mark.parametrize("module", [sam, variants], ids=lambda m: m.__name__)
def test_the_rules_import_no_array_library(module):
    imported = set()
    for node in ast.walk(ast.parse(Path(module.__file__).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            imported.add("." * node.level + (node.module or ""))
        elif isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id != "__import__"
    assert imported <= ALLOWED


@pytest.mark.parametrize("rule", [sam_gradient, rsam_gradient], ids=lambda rule: rule.__name__)
def test_each_rule_fits_one_screen(rule):
    assert len(inspect.getsource(rule).splitlines()) <= 30


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
@pytest.mark.parametrize("library", [torch_vectors, jax_vectors], ids=["torch", "jax"])
def test_every_library_finds_what_numpy_finds(library, rule):
    c, w, noise = np.random.default_rng(3).standard_normal((3, 20))
    traces = []
    for vector in (numpy_vectors(), library()):
        own = vector(w)
        traces.append(rule(bumpy(vector(c)), own, vector(0.1 * noise)))
        assert type(traces[-1].gradient) is type(own)
        assert np.array_equal(np.asarray(own), w)
    for name in type(traces[0]).__slots__:
        ours, theirs = (getattr(trace, name) for trace in traces)
        assert (ours is None) == (theirs is None)
        if ours is not None:
            np.testing.assert_allclose(np.asarray(theirs), ours, rtol=1e-12, atol=1e-12)


def test_settings_that_jax_traces_are_no_mistake():
    jax_vectors()
    import jax

    c, w, noise = np.random.default_rng(3).standard_normal((3, 20))
    compiled = jax.jit(
        lambda rho, lam: rsam_gradient(bumpy(c), w, noise, rho=rho, lam=lam).gradient
    )
    ours = rsam_gradient(bumpy(c), w, noise, rho=0.3, lam=1.5).gradient
    np.testing.assert_allclose(compiled(0.3, 1.5), ours, rtol=1e-12)
    with pytest.raises(ValueError, match="rho is a radius"):
        rsam_gradient(bumpy(c), w, noise, rho=jax.numpy.asarray(-0.3))


def test_torch_vectors_in_single_precision_stay_so():
    torch = pytest.importorskip("torch")
    f, w = bumpy(torch.ones(5)), torch.linspace(-1, 1, 5)
    for trace in (sam_gradient(f, w, rho=0.3), rsam_gradient(f, w, 0.1 * w, rho=0.3)):
        assert trace.perturbation.dtype == trace.gradient.dtype == torch.float32


@pytest.mark.parametrize("number", [np.float64, np.float32, np.float16])
def test_numbers_of_a_sweep_leave_float32_as_it_is(number):
    w = np.linspace(-1, 1, 5, dtype=np.float32)
    f, rho, other = bumpy(np.ones(5, np.float32)), number(0.25), number(0.5)
    for trace in (
        sam_gradient(f, w, rho=rho),
        sam_gradient(f, w, rho=rho, ascent_steps=2),
        rsam_gradient(f, w, 0.1 * w, rho=rho, lam=other),
        asam_gradient(f, w, rho=rho, eta=other),
        stacked_rsam_gradient(f, w, 0.1 * w, rho=rho),
        gradient_rsam_gradient(f, w, 0.1 * w, rho=rho),
    ):
        assert trace.perturbation.dtype == trace.gradient.dtype == np.float32


@pytest.mark.parametrize("library", [numpy_vectors, torch_vectors, jax_vectors])
def test_half_precision_is_refused_for_its_range(library):
    """In float16 the square of 260 is infinite, and eps was 0 without a word."""
    w = library()(np.ones(4))
    half = w.half() if hasattr(w, "half") else w.astype("float16")
    with pytest.raises(TypeError, match="float16 have no norm"):
        sam_gradient(lambda w: (0.0, w), half, rho=0.1)


RULES_OF_VECTORS = [
    lambda f, w: sam_gradient(f, w, rho=0.1),
    lambda f, w: rsam_gradient(f, w, w, rho=0.1),
    lambda f, w: rsam_gradient(f, numpy_vectors()([1.0]), w, rho=0.1),
    lambda f, w: asam_gradient(f, w, rho=0.1),
    lambda f, w: stacked_rsam_gradient(f, w, w, rho=0.1),
]


def never(w):
    raise AssertionError("the loss is asked")


@pytest.mark.parametrize("rule", RULES_OF_VECTORS)
def test_vectors_without_a_norm_are_refused_before_the_loss_is_asked(rule):
    """A library may have an error of its own for a matrix product of such numbers."""
    for vector in (np.ones(3, "float16"), np.array([1 + 1j, 2 - 1j])):
        with pytest.raises(TypeError, match="have no"):
            rule(never, vector)


@pytest.mark.parametrize("kind", ["complex64", "complex128"])
@pytest.mark.parametrize("library", [numpy_vectors, torch_vectors, jax_vectors])
def test_complex_vectors_are_refused(library, kind):
    """Their v @ v is no squared length: eps was 1.46 long where rho is 1."""
    w = library()(np.ones(3))
    w = w.to(getattr(pytest.importorskip("torch"), kind)) if hasattr(w, "to") else w.astype(kind)
    with pytest.raises(TypeError, match=f"vectors in {kind} have no real v @ v.* real numbers"):
        sam_gradient(lambda w: (0.0, 1 * w), w, rho=1.0)
    with pytest.raises(TypeError, match="no real v @ v"):
        sam_gradient(lambda _: (0.0, 1 * w), library()(np.ones(3)), rho=1.0)


@pytest.mark.intel
@pytest.mark.parametrize("kind", ["float16", "complex64"])
def test_dpnps_vectors_without_a_norm_are_refused_first(kind):
    with use_backend("dpnp"), pytest.raises(TypeError, match=f"vectors in {kind} have no"):
        sam_gradient(never, xp.ones(3, dtype=kind), rho=1.0)


@pytest.mark.parametrize("kind", ["torch.float16", "Float16", SimpleNamespace(name="half")])
def test_half_precision_is_known_by_every_name(kind):
    """ndonnx's, tinygrad's (beside TensorFlow's float16), which have nothing else in common."""
    with pytest.raises(TypeError, match="float16 have no norm"):
        check_precision(SimpleNamespace(dtype=kind))
    check_precision(SimpleNamespace(dtype=SimpleNamespace(name="bfloat16")))


def in_the_table(library):
    """The cells of a library's row in docs/portable.md, by type."""
    page = (Path(__file__).parent.parent / "docs" / "portable.md").read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| ")]
    [cells] = [row[1:-1] for row in rows if row[0] == LIBRARIES[library].title]
    return dict(zip(DTYPES, cells, strict=True))


@pytest.mark.parametrize(
    "library",
    ["numpy", "cupy", "torch", "jax", "strict", pytest.param("dpnp", marks=pytest.mark.intel)],
)
def test_the_table_of_libraries_is_what_is_measured(library):
    try:
        measured = rows(library)
    except ImportError as error:
        pytest.skip(str(error))
    told = in_the_table(library)
    for row in measured:
        found, expected = cell(row), told[row["dtype"]]
        if "error" in row and expected[0].isdigit():
            assert row["error"] <= 10 * max(float(expected), 1e-16), row
            assert row["kept"], row
        else:
            assert found == expected, row


def test_bfloat16_has_the_range():
    torch = pytest.importorskip("torch")
    for length in (1e-4, 1.0, 260.0, 3e8):
        g = torch.full((10_000,), length / 100, dtype=torch.bfloat16)
        eps = sam_gradient(lambda _, g=g: (0.0, g), torch.zeros_like(g), rho=0.3).perturbation
        assert eps.dtype == torch.bfloat16
        assert eps.float().norm().item() == pytest.approx(0.3, rel=0.02)


SHAPES = [(2, 3), (4,), (2, 1, 2, 2), (1,), ()]

DRAWS = {
    "scale": lambda w, stream: filter_scale(w, SHAPES),
    "filter noise": lambda w, stream: filter_noise(w, SHAPES, sigma=0.3, stream=stream),
    "ball noise": lambda w, stream: ball_noise(w, sigma=0.3, stream=stream),
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS.keys())
@pytest.mark.parametrize("library", [torch_vectors, jax_vectors], ids=["torch", "jax"])
def test_every_library_draws_what_numpy_draws(library, draw):
    w = np.random.default_rng(3).standard_normal(20)
    own = library()(w)
    drawn = draw(own, Stream("noise", 0, 0))
    assert type(drawn) is type(own)
    assert drawn.dtype == own.dtype
    np.testing.assert_allclose(np.asarray(drawn), draw(w, Stream("noise", 0, 0)), rtol=1e-14)
    assert np.array_equal(np.asarray(own), w)


@pytest.mark.parametrize("library", [torch_vectors, jax_vectors], ids=["torch", "jax"])
def test_shapes_that_do_not_fill_a_vector_of_another_library(library):
    with pytest.raises(ValueError, match=r"shapes .* 6 weights, the vector 5"):
        filter_scale(library()(np.ones(5)), [(2, 3)])
    assert filter_scale(library()(np.ones(0)), []).shape == (0,)


@pytest.mark.parametrize("name", ["float32", "float16", "bfloat16"])
def test_a_torch_draw_has_the_type_of_its_vector(name):
    torch = pytest.importorskip("torch")
    w = torch.ones(20, dtype=getattr(torch, name))
    noise: Any = filter_noise(w, SHAPES, sigma=0.3, stream=Stream(0))
    assert noise.dtype == w.dtype
    expected = filter_noise(np.ones(20, "float32"), SHAPES, sigma=0.3, stream=Stream(0))
    np.testing.assert_allclose(noise.to(torch.float32).numpy(), expected, rtol=2e-2)


def test_a_torch_loss_of_ones_own_takes_r_sam_steps_in_ten_lines():
    """The lines of docs/pytorch.md, beside the optimizer."""
    torch = pytest.importorskip("torch")
    f, w = bumpy(torch.ones(20, dtype=torch.float64)), torch.linspace(-1, 1, 20).double()
    from rsam_ref import RSAM, SGD

    peer = w.numpy().copy()
    optimizer = RSAM(SGD(lr=0.1), rho=0.1, sigma=0.01, seed=4, shapes=SHAPES)
    for step in range(3):
        noise = filter_noise(w, SHAPES, sigma=0.01, stream=Stream("noise", 4, step))
        w = w - 0.1 * rsam_gradient(f, w, noise, rho=0.1).gradient
        optimizer.step(bumpy(np.ones(20)), peer)
    np.testing.assert_allclose(w.numpy(), peer, rtol=1e-12)
