"""A sample of what `python -m tests.conformance.seeds` runs on hundreds of seeds."""

from __future__ import annotations

import pytest

from .seeds import FRAMEWORKS, divergences


@pytest.mark.parametrize("framework", ["numpy", "torch32", "torch64"])
def test_right_steps_conform_on_any_seed(framework):
    if framework != "numpy":
        pytest.importorskip("torch")
    made, wrong = divergences(framework, range(3))
    assert wrong == []
    assert made.total() == 3


@pytest.mark.frameworks
def test_right_steps_in_jax_conform_on_any_seed():
    pytest.importorskip("optax")
    made, wrong = divergences("jax", range(3))
    assert wrong == []
    assert set(made) == {"sam", "asam", "rsam"}


def test_each_framework_has_all_three_algorithms():
    for name in ("numpy", "torch64"):
        assert all(FRAMEWORKS[name]().values())
