"""`sam.py` and `variants.py` know no array library, so the same lines run on every one."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import numpy as np
import pytest

from rsam_ref import asam_gradient, rsam_gradient, sam_gradient
from rsam_ref.algorithms import sam, variants
from rsam_ref.algorithms.variants import gradient_rsam_gradient, stacked_rsam_gradient
from tests.helpers.problems import bumpy

ALLOWED = {"__future__", "collections.abc", "dataclasses", "typing", "rsam_ref.algorithms.sam"}


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


def test_torch_vectors_in_single_precision_stay_so():
    torch = pytest.importorskip("torch")
    f, w = bumpy(torch.ones(5)), torch.linspace(-1, 1, 5)
    for trace in (sam_gradient(f, w, rho=0.3), rsam_gradient(f, w, 0.1 * w, rho=0.3)):
        assert trace.perturbation.dtype == trace.gradient.dtype == torch.float32
