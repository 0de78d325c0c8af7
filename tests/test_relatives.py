"""SAM's relatives: each beside PyTorch, in its limits, by hand, on other libraries, in a run."""

from __future__ import annotations

import ast
import copy
import dataclasses
import functools
import inspect
import json
import math
import os
import signal
import typing
from contextlib import nullcontext
from dataclasses import fields
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rsam_backends import Stream
from rsam_ref import SAM, SGD, AdamW, NoiseOnly, nn, objective
from rsam_ref.algorithms.optimizer import Optimizer
from rsam_ref.algorithms.relatives import RELATIVES, ApartTrace, Related, make
from rsam_ref.algorithms.schedules import at, linear
from rsam_ref.autograd.ops_nn import cross_entropy
from rsam_ref.nn.batch_parts import Accumulated, Sharded
from rsam_ref.training import checkpoint, recipe
from rsam_ref.training.loop import DivergedError, run_steps
from rsam_ref.training.recipe import Recipe, RecipeError
from rsam_ref.training.run import Run
from tests.helpers import torch_reference as reference
from tests.helpers.commands import called
from tests.helpers.problems import OneFilter, Watched, batches, bumpy, net, points
from tests.helpers.torch_relatives import STATEMENTS, Given
from tests.test_against_torch import assert_equal_steps, batch_norm, convolutions

STEPS = 10
TOLERANCE = 1e-12

every_relative = pytest.mark.parametrize("name", RELATIVES)


def has_rho(name):
    return "rho" in RELATIVES[name].settings


class Batch(OneFilter):
    """A plain function that says its parts and its samples: itself, if nothing else is given."""

    def __init__(self, function, size, parts=None):
        super().__init__(function, size)
        self.parts = parts or [self]

    def samples(self, count):
        return [self] * count


def problem(dtype="float64", seed=0):
    """A bumpy function for every relative, and weights."""
    f, w = points(dtype=dtype, seed=seed)
    return Batch(f.function, w.size), w


def parted(name, model, x, y, seed=0, parts=2):
    """The function of a mini-batch; in parts for the one that takes them."""
    if name == "m-sam":
        return Accumulated(model, x, y, cross_entropy, [seed] * parts)
    return objective(model, x, y, seed=seed)


def with_numpys_numbers(relative):
    """The relative with every setting as a sweep over np.linspace gives it."""

    @functools.wraps(relative.rule)
    def rule(*places, **given):
        told = relative.settings
        return relative.rule(
            *places,
            **{k: np.float64(v) if type(v) is float and k in told else v for k, v in given.items()},
        )

    return dataclasses.replace(relative, rule=rule)


@every_relative
def test_numbers_of_numpy_leave_float32_as_it_is(name):
    f, w = problem("float32")
    base = SGD(0.1, momentum=0.9)
    relative = Related(with_numpys_numbers(RELATIVES[name]), base, shapes=[w.shape])
    for _ in range(3):
        trace = relative.step(f, w)
        for part in fields(trace):
            value = getattr(trace, part.name)
            assert getattr(value, "dtype", np.float32) == np.float32, part.name
        for key, value in relative.state.items():
            assert getattr(value, "dtype", np.float32) == np.float32, key


# Beside PyTorch

# For every relative settings other than its defaults, schedules among them.
OTHERS: dict[str, dict[str, Any]] = {
    "usam": {"rho": linear(0.3, STEPS, 0.1)},
    "unified-sam": {"rho": 0.2, "share": linear(1.0, STEPS, 0.0)},
    "m-sam": {"rho": linear(0.3, STEPS, 0.1)},
    "gsam": {"rho": linear(0.3, STEPS, 0.1), "alpha": 1.5},
    "wsam": {"rho": 0.2, "gamma": linear(0.3, STEPS, 0.8)},
    "wsam-coupled": {"rho": 0.2, "gamma": linear(0.3, STEPS, 0.8)},
    "looksam": {"rho": 0.2, "k": 3, "alpha": 0.3},
    "looksam-by-tensor": {"rho": 0.2, "k": 3, "alpha": 0.3},
    "rst": {"rho": 0.2, "p": linear(0.9, STEPS, 0.2)},
    "esam": {"rho": 0.2, "beta": linear(0.3, STEPS, 1.0)},
    "sparse-sam": {"rho": 0.2, "sparsity": 0.8, "period": 3, "count": 5},
    "fisher-sam": {"rho": 0.2, "eta": 30.0},
    "friendly-sam": {"rho": 0.2, "sigma": linear(0.5, STEPS, 1.5), "lam": 0.6},
    "vasso": {"rho": 0.2, "theta": linear(0.2, STEPS, 0.9)},
    "momentum-sam": {"rho": linear(0.1, STEPS, 1.0)},
    "cr-sam": {"rho": 0.2, "gamma": 0.5, "beta": linear(0.3, STEPS, 0.0)},
    "le-sam": {"rho": 0.4, "sigma": linear(0.5, STEPS, 0.0)},
    "rwp": {"sigma": linear(0.01, STEPS, 0.1)},
    "m-rwp": {"sigma": 0.05, "lam": linear(0.2, STEPS, 0.9)},
    "arwp": {"sigma": 0.05, "eta": 3.0, "beta": 0.7},
    "bayesian-sam": {
        **{"rho": 0.1, "n": 300.0, "delta": 0.1, "gamma": 0.3, "beta1": 0.5, "beta2": 0.8},
    },
}

# The base optimizers, ours and PyTorch's.
BASES = {
    "sgd": (
        lambda: SGD(0.1, momentum=0.9, weight_decay=0.01),
        lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.01),
    ),
    "nesterov": (
        lambda: SGD(0.05, momentum=0.8, weight_decay=0.1, nesterov=True),
        lambda p: torch.optim.SGD(p, 0.05, momentum=0.8, weight_decay=0.1, nesterov=True),
    ),
    "adamw": (
        lambda: AdamW(0.01, eps=1e-5, weight_decay=0.01),
        lambda p: torch.optim.AdamW(p, 0.01, eps=1e-5, weight_decay=0.01),
    ),
}


def settings_at(optimizer, t):
    """Every setting's number in step t; whole ones as they are."""
    return {k: v if isinstance(v, int) else at(v, t) for k, v in optimizer.settings.items()}


def given_in(optimizer, torch_optimizer, parameters, t, parts):
    """What Related gives its rule in step t, for the other side."""
    seed, sizes = optimizer.seed, [p.numel() for p in parameters]

    def tensors(draw):
        return [d.view_as(p) for d, p in zip(torch.as_tensor(draw).split(sizes), parameters)]

    found = Given(
        t=t,
        memory={},
        velocity=[
            torch_optimizer.state[p].get("momentum_buffer", torch.zeros_like(p)) for p in parameters
        ],
        parts=parts,
        coin=Stream("coin", seed, t).integers(0, 1 << 53, 1)[0] / 2**53,
        z=tensors(Stream("noise", seed, t).normal(sum(sizes), "float64")),
    )
    if "sigma" in optimizer.settings:
        sigma = at(optimizer.settings["sigma"], t)
        found.noise = reference.filter_noise(parameters, found.z, sigma)
    if "beta" in optimizer.settings:
        keep = at(optimizer.settings["beta"], t)
        found.mask = tensors(Stream("mask", seed, t).keep_mask((sum(sizes),), keep, "float64"))
    return found


def compare(name, base, optimizer, make_net, parts):
    """Ten steps of both, held to one another."""
    model, twin = make_net(nn).build(1, "float64"), make_net(torch.nn).double()
    twin.load_state_dict({k: torch.tensor(v) for k, v in model.state_dict().items()}, strict=False)
    parameters = list(twin.parameters())
    torch_optimizer = BASES[base][1](parameters)
    lr = torch_optimizer.param_groups[0]["lr"]
    memory: dict = {}
    for t, (x, y) in enumerate(batches(STEPS, (2, 5, 5), 3, seed=1)):
        function = parted(name, model, x, y, parts=parts)
        trace = optimizer.step(function, model.weights.flat)
        told = given_in(optimizer, torch_optimizer, parameters, t, parts)
        told.memory = memory
        probe = reference.Probe(twin, x, y)
        step = STATEMENTS[name](probe, told, **settings_at(optimizer, t))
        reference.descend(torch_optimizer, parameters, step.gradient, lr)
        assert_equal_steps(trace, step, t)
        assert isinstance(trace, ApartTrace) == hasattr(step, "apart")
        if isinstance(trace, ApartTrace):
            theirs = torch.cat([a.flatten() for a in step.apart])
            assert np.abs(trace.apart - theirs.numpy()).max() <= TOLERANCE
            with torch.no_grad():
                for p, a in zip(parameters, step.apart):
                    p -= lr * a
    ours, theirs = model.state_dict(), twin.state_dict()
    for key, value in ours.items():
        assert np.abs(value - theirs[key].numpy()).max() <= TOLERANCE, key


def test_every_relative_is_stated_twice():
    assert STATEMENTS.keys() == OTHERS.keys() == RELATIVES.keys()


def cases(*bases):
    """Every relative around every base; momentum SAM needs a velocity, which AdamW has not."""
    pairs = [(name, base) for name in RELATIVES for base in bases]
    return [pair for pair in pairs if pair != ("momentum-sam", "adamw")]


@pytest.mark.parametrize(("name", "base"), cases("sgd", "adamw"))
def test_ten_steps_with_the_defaults(name, base):
    compare(name, base, make(name, BASES[base][0]()), convolutions, parts=2)


@pytest.mark.parametrize(("name", "base"), cases("nesterov", "adamw"))
def test_ten_steps_with_other_settings_and_batch_norm(name, base):
    optimizer = make(name, BASES[base][0](), seed=7, **OTHERS[name])
    compare(name, base, optimizer, batch_norm, parts=4)


# Limits


def trained(optimizer, name="", dtype="float64", on_net=True, parts=1):
    """The bytes of the weights, and of a net's statistics, after four steps."""
    if not on_net:
        f, w = problem(dtype)
        for _ in range(4):
            optimizer.step(f, w)
        return {"w": w.tobytes()}
    model = net(dtype)
    for i, (x, y) in enumerate(batches(4)):
        optimizer.step(parted(name, model, x, y, seed=i, parts=parts), model.weights.flat)
    return {key: value.tobytes() for key, value in model.state_dict().items()}


def base():
    return SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.05)


# What each says of when it is SAM: the settings that it names.
IS_SAM: dict[str, tuple[str, dict[str, Any]]] = {
    "unified-sam": ("share = 1, to rounding", {"share": 1.0}),
    "m-sam": ("one part", {}),
    "gsam": ("alpha = 0", {"alpha": 0.0}),
    "wsam": ("gamma = 1/2, around SGD without momentum, to rounding", {"gamma": 0.5}),
    "wsam-coupled": ("gamma = 1/2, to rounding", {"gamma": 0.5}),
    "looksam": ("k = 1", {"k": 1}),
    "looksam-by-tensor": ("k = 1", {"k": 1}),
    "rst": ("p = 1", {"p": 1.0}),
    "esam": ("beta = 1", {"beta": 1.0}),
    "sparse-sam": ("sparsity = 0", {"sparsity": 0.0}),
    "fisher-sam": ("eta = 0", {"eta": 0.0}),
    "friendly-sam": ("sigma = 0", {"sigma": 0.0}),
    "vasso": ("theta = 1", {"theta": 1.0}),
    "cr-sam": ("gamma = beta = 0", {"gamma": 0.0, "beta": 0.0}),
    "le-sam": ("sigma so large that rho binds", {"sigma": 1e6}),
}


def test_every_limit_that_is_told_is_tried():
    told = {name: r.is_sam for name, r in RELATIVES.items() if r.is_sam}
    assert told == {name: said for name, (said, _) in IS_SAM.items()}


@pytest.mark.parametrize(
    ("on_net", "dtype"),
    [(True, "float32"), (True, "float64"), (False, "float64")],
    ids=["net, float32", "net", "function"],
)
@pytest.mark.parametrize("name", IS_SAM)
def test_where_it_says_that_it_is_sam_it_is(name, on_net, dtype):
    """Bit for bit, unless it says that it is so to rounding."""
    said, own = IS_SAM[name]
    momentum = 0.0 if "without momentum" in said else 0.9
    runs = []
    for wrap in (lambda b: make(name, b, rho=0.3, **own), lambda b: SAM(b, 0.3)):
        optimizer = wrap(SGD(0.1, momentum=momentum, weight_decay=0.05))
        runs.append(trained(optimizer, name, dtype, on_net))
    if "to rounding" not in said:
        assert runs[0] == runs[1]
    else:
        for key, value in runs[1].items():
            ours, theirs = (np.frombuffer(run, dtype) for run in (runs[0][key], value))
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=30 * np.finfo(dtype).eps)


# Of those that have a radius: with 0 they are their base, to rounding where g0 is taken apart or
# mixed with g. Bayesian SAM has momentum, decay and a draw of its own.
MIXED = {"gsam", "wsam-coupled"}
RADIUS_ZERO = [name for name in RELATIVES if has_rho(name) and name != "bayesian-sam"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", RADIUS_ZERO)
def test_radius_zero_is_the_base(name, dtype):
    optimizer = make(name, base(), rho=0.0)
    runs = [trained(o, name, dtype, parts=2) for o in (optimizer, base())]
    if name not in MIXED:
        assert runs[0] == runs[1]
    else:
        for key, value in runs[1].items():
            ours, theirs = (np.frombuffer(run, dtype) for run in (runs[0][key], value))
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=30 * np.finfo(dtype).eps)


def test_the_noisy_ones_at_their_ends():
    noise = trained(NoiseOnly(base(), 0.05, seed=3))
    assert trained(make("rwp", base(), sigma=0.05, seed=3)) == noise
    assert trained(make("arwp", base(), sigma=0.05, seed=3, eta=0.0)) == noise
    alone = trained(base())
    assert trained(make("m-rwp", base(), sigma=0.05, lam=0.0)) == alone
    assert trained(make("rwp", base(), sigma=0.0)) == alone
    whole = trained(make("m-rwp", base(), sigma=0.05, seed=3, lam=1.0))
    moved = [key for key in whole if whole[key] != noise[key]]
    assert moved  # batch norm's running statistics are those of the pass at w
    assert all("running" in key for key in moved)


def test_other_neighbours():
    usam = trained(make("usam", base(), rho=0.3))
    assert trained(make("unified-sam", base(), rho=0.3, share=0.0)) == usam
    alone = trained(base())
    for name in ("wsam", "wsam-coupled"):
        assert trained(make(name, base(), gamma=0.0)) == alone
    assert trained(make("rst", base(), p=0.0)) == alone
    assert trained(make("le-sam", base(), sigma=0.0)) == alone


def test_friendly_sams_two_orders_are_one_for_sigma_one():
    """With the mean updated first d is lam times as long, and points the same way."""
    f, w = points()
    optimizer = make("friendly-sam", SGD(0.1), rho=0.3, lam=0.8)
    optimizer.step(f, w)
    old = optimizer.state["m"]
    trace = optimizer.step(f, w)
    late = trace.ascent_gradient - optimizer.state["m"]
    np.testing.assert_allclose(late, 0.8 * (trace.ascent_gradient - old), rtol=1e-12)
    eps = 0.3 * late / np.linalg.norm(late)
    np.testing.assert_allclose(trace.perturbation, eps, rtol=1e-10)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@every_relative
def test_a_zero_gradient_gives_numbers(name, dtype):
    """And leaves the weights, but for Bayesian SAM's own decay."""
    w = points(dtype=dtype)[1]
    before = w.copy()
    f = Batch(lambda w: (w.dtype.type(1), 0 * w), w.size)
    optimizer = make(name, SGD(0.1, momentum=0.9), **({"k": 2} if "look" in name else {}))
    for _ in range(3):
        trace = optimizer.step(f, w)
        assert w.dtype == trace.gradient.dtype == dtype
        assert np.isfinite(trace.gradient).all()
    assert all(np.isfinite(v).all() for v in optimizer.state.values())
    assert np.isfinite(w).all()
    assert np.array_equal(w, before) == (name != "bayesian-sam")


# By hand: L = 3 w1 + 4 w2 + 5/2 w2^2 at w = 0, so g0 = (3, 4), and g = (3, 4 + 5 eps2).

F = Fraction
BY_HAND: dict[str, tuple[dict[str, Any], list[tuple[Any, Any]]]] = {
    "usam": ({"rho": F(1, 10)}, [(3, 6)]),
    "unified-sam": ({"rho": F(1, 10), "share": F(1, 2)}, [(3, F(26, 5))]),
    "m-sam": ({"rho": 1}, [(3, 8)]),
    "gsam": ({"rho": 1, "alpha": F(1, 2)}, [(3 - F(48, 73), 8 + F(18, 73))]),
    "wsam": ({"rho": 1, "gamma": F(3, 4)}, [(3, 4)]),
    "wsam-coupled": ({"rho": 1, "gamma": F(3, 4)}, [(3, 16)]),
    "looksam": (
        {"rho": 1, "k": 2, "alpha": F(1, 2)},
        [(3, 8), (3 - F(1, 2) * 4, 4 + F(1, 2) * 3), (3, 8)],  # v is 12/5 long, along (-4, 3)
    ),
    "friendly-sam": ({"rho": 1, "sigma": 2, "lam": 1}, [(3, 8), (3, 0)]),
    "vasso": ({"rho": 1, "theta": F(1, 2)}, [(3, 8), (3, 8)]),
    "momentum-sam": ({"rho": 1}, [(3, 4), (3, 0)]),
    "cr-sam": ({"rho": 1, "gamma": F(1, 2), "beta": F(1, 4)}, [(3, 10)]),
    "le-sam": ({"rho": 1, "sigma": F(5, 2)}, [(3, 6)]),
    "sparse-sam": ({"rho": 1, "sparsity": F(1, 2)}, [(3, 8), (3, 8)]),
}


def slope(w):
    """The loss above and its gradient; one mini-batch of two equal parts, or of equal samples."""
    return 3 * w[0] + 4 * w[1] + 2.5 * w[1] ** 2, np.array([3.0, 4.0 + 5.0 * w[1]])


@pytest.mark.parametrize("name", BY_HAND)
def test_steps_by_hand(name):
    own, expected = BY_HAND[name]
    half = OneFilter(lambda w: tuple(v / 2 for v in slope(w)), 2)
    f = Batch(slope, 2, parts=[half, half])
    numbers = {k: v if isinstance(v, int) and k == "k" else float(v) for k, v in own.items()}
    optimizer = make(name, SGD(0.0, momentum=0.5), **numbers)  # w stays 0
    for gradient in expected:
        trace: Any = optimizer.step(f, np.zeros(2))
        np.testing.assert_allclose(trace.gradient, [float(x) for x in gradient], atol=1e-10)
    if name == "wsam":
        np.testing.assert_allclose(trace.apart, [0, 12], atol=1e-10)  # 3 (g - g0)


# What each promises of its parts

few = settings(max_examples=10)
seeds = st.integers(0, 10**6)
sizes = st.floats(0.01, 3.0)


def one_step(name, seed, **own):
    f, w = problem(seed=seed)
    optimizer = make(name, SGD(0.1), seed=seed, **own)
    return optimizer, optimizer.step(f, w)


@few
@given(seeds, sizes, sizes)
def test_what_gsam_takes_away_is_orthogonal_to_g(seed, rho, alpha):
    _, trace = one_step("gsam", seed, rho=rho, alpha=alpha)
    f, w = points(seed=seed)
    g = f(w + trace.perturbation)[1]
    taken = g - trace.gradient
    assert abs(taken @ g) <= 1e-9 * np.linalg.norm(g) * (1 + np.linalg.norm(taken))
    across = trace.ascent_gradient - taken / alpha  # the rest of g0 is along g
    assert abs(across @ g) == pytest.approx(np.linalg.norm(across) * np.linalg.norm(g), rel=1e-9)


@few
@given(seeds, sizes)
def test_what_looksam_keeps_is_orthogonal_to_g0(seed, rho):
    for name, parts in (("looksam", 1), ("looksam-by-tensor", 2)):
        f, w = points(seed=seed)
        optimizer = make(name, SGD(0.0), rho=rho, alpha=0.4, shapes=[(w.size // parts,)] * parts)
        first = optimizer.step(f, w)
        between = optimizer.step(f, w)
        for g0, v, u in zip(
            *(
                np.split(a, parts)
                for a in (first.ascent_gradient, optimizer.state["v"], between.gradient)
            )
        ):
            assert abs(v @ g0) <= 1e-9 * np.linalg.norm(g0) * (1 + np.linalg.norm(v))
            assert np.linalg.norm(u - g0) == pytest.approx(0.4 * np.linalg.norm(g0), rel=1e-7)


@few
@given(seeds, sizes, st.floats(0.0, 0.95))
def test_sparse_sam_perturbs_the_share_it_says(seed, rho, sparsity):
    optimizer, trace = one_step("sparse-sam", seed, rho=rho, sparsity=sparsity)
    kept = optimizer.state["mask"] == 1
    assert kept.sum() == int(12 * (1 - sparsity))
    g0 = trace.ascent_gradient
    expected = rho * np.where(kept, g0, 0) / np.linalg.norm(g0)
    np.testing.assert_allclose(trace.perturbation, expected, rtol=1e-9)
    assert np.abs(g0[kept]).min(initial=np.inf) >= np.abs(g0[~kept]).max(initial=0)


@few
@given(seeds, sizes, sizes)
def test_the_radii_are_measured_as_they_say(seed, rho, eta):
    trace = one_step("fisher-sam", seed, rho=rho, eta=eta)[1]
    metric = 1 + eta * trace.ascent_gradient**2
    assert trace.perturbation**2 @ metric == pytest.approx(rho**2, rel=1e-9)
    trace = one_step("le-sam", seed, rho=rho, sigma=eta)[1]
    rise = min(eta, rho * np.linalg.norm(trace.ascent_gradient))
    assert trace.perturbation @ trace.ascent_gradient == pytest.approx(rise, rel=1e-9)


def test_esams_mean_perturbation_is_sams():
    """Over draws of the mask: within five standard errors, weight by weight."""
    f, w = points()
    sam = SAM(SGD(0.0), 0.3).step(f, w).perturbation
    optimizer = make("esam", SGD(0.0), rho=0.3, beta=0.4, seed=1)
    drawn = np.array([optimizer.step(f, w).perturbation for _ in range(1000)])
    error = abs(sam) * np.sqrt((1 - 0.4) / 0.4 / len(drawn))
    assert (abs(drawn.mean(axis=0) - sam) < 5 * error).all()


def test_rsts_coin_falls_as_often_as_it_says():
    f, w = points()
    optimizer = make("rst", SGD(0.0), p=0.3, seed=1)
    climbed = [optimizer.step(f, w).perturbation is not None for _ in range(1000)]
    assert abs(np.mean(climbed) - 0.3) < 5 * np.sqrt(0.3 * 0.7 / 1000)


# On other libraries

NAMES_A_LIBRARY = {"le-sam", "sparse-sam"}
ALLOWED = {
    *{"__future__", "collections.abc", "dataclasses", "typing"},
    *{"rsam_ref.algorithms.relatives.form", "rsam_ref.algorithms.sam"},
    "rsam_ref.algorithms.settings",
}


@every_relative
def test_a_rules_file_knows_no_array_library(name):
    path = Path(inspect.getsourcefile(inspect.unwrap(RELATIVES[name].rule)))
    imported = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            imported.add(node.module)
        assert not isinstance(node, ast.Import)
    assert imported <= ALLOWED | ({"rsam_backends"} if name in NAMES_A_LIBRARY else set())
    assert "rsam_backends" in imported or name not in NAMES_A_LIBRARY


def vectors(library):
    if library == "torch":
        return lambda values: torch.tensor(values, dtype=torch.float64)
    jax = pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", True)
    return jax.numpy.asarray


# LookSAM by tensors writes in vectors; JAX's cannot be written in.
PORTABLE = [(n, lib) for n in RELATIVES for lib in ("torch", "jax") if n not in NAMES_A_LIBRARY]
PORTABLE.remove(("looksam-by-tensor", "jax"))


@pytest.mark.parametrize(("name", "library"), PORTABLE)
def test_other_libraries_find_what_numpy_finds(name, library):
    """In two steps, so that what is kept is used."""
    relative = RELATIVES[name]
    c, start, draw = np.random.default_rng(3).standard_normal((3, 20))
    runs = []
    for vector in (np.asarray, vectors(library)):
        f, w = bumpy(vector(c)), vector(start)
        state: dict[str, Any] = {}
        traces = []
        for step in range(2):
            needed = {
                **{"state": state, "step": step, "coin": 0.6 * step, "parts": [f, f]},
                **{"noise": vector(0.1 * draw), "z": vector(draw), "velocity": vector(draw)},
                **{"mask": vector((draw > 0) * 1.0), "filter_sum": lambda h: h + h.sum()},
                "tensors": [slice(0, 5), slice(5, 20)],
            }
            own = {k: s.default for k, s in relative.settings.items()}
            if "noise" in relative.needs:
                del own["sigma"]
            found = relative.rule(f, w, **{k: needed[k] for k in relative.needs}, **own)
            trace, state = found if "state" in relative.needs else (found, state)
            assert type(trace.gradient) is type(w)
            traces.append({field.name: getattr(trace, field.name) for field in fields(trace)})
            w = w - 0.1 * trace.gradient
        runs.append((*traces, state))
    for ours, theirs in zip(*runs):
        assert ours.keys() == theirs.keys()
        for key, value in ours.items():
            assert (value is None) == (theirs[key] is None)
            if value is not None:
                np.testing.assert_allclose(np.asarray(theirs[key]), value, rtol=1e-12, atol=1e-12)


# In a run


def small(name, **changes):
    own = {"accumulate": 2} if name == "m-sam" else {}
    options = {"k": 2} if name.startswith("looksam") else {}
    options |= {"period": 3, "count": 4} if name == "sparse-sam" else {}
    return recipe.check(
        {
            **{"model": "mlp", "model_options": {"hidden": [6]}, "epochs": 1, "limit": 160},
            **{"batch_size": 32, "log_every": 5, "evaluate_every": 1.0, "optimizer": name},
            **{"optimizer_options": options, **own, **changes},
        },
        "test",
    )


def stop_at(end):
    return lambda step: step == end and os.kill(os.getpid(), signal.SIGINT)


def kept_names(told):
    """Of what `keeps` says: s and m of "s, m (P,)", mask of "the mask (P,)"."""
    if told == "nothing":
        return set()
    vectors = told.removesuffix(" (P,)").split(", ")
    return {each.removeprefix("the ") for each in vectors}


@every_relative
def test_stopped_and_resumed_it_ends_with_the_same_bits(name, tmp_path, monkeypatch):
    monkeypatch.setattr(Run, "_finish", lambda run: None)  # which draws the curves
    whole = Run.start(tmp_path / "whole", small(name))
    assert whole.go()
    run = Run.start(tmp_path / "run", small(name))
    for end in (1, 3):
        assert not run.go(on_step=stop_at(end))
        run = Run.resume(tmp_path / "run")
        kept = run.optimizer.state_dict()["kept"]
        assert kept.keys() == kept_names(RELATIVES[name].keeps)
        assert all(v.shape == run.model.weights.flat.shape for v in kept.values())
    assert run.go()
    ends = [checkpoint.load_newest(tmp_path / f / "checkpoints")[1:3] for f in ("whole", "run")]
    (arrays, state), (resumed, resumed_state) = ends
    assert state["step"] == resumed_state["step"] == 5
    assert arrays.keys() == resumed.keys()
    assert all(arrays[key].tobytes() == resumed[key].tobytes() for key in arrays)
    [row] = map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    assert row["rho"] == (RELATIVES[name].settings["rho"].default if has_rho(name) else None)


def test_a_run_with_another_setting_is_another_run(tmp_path, monkeypatch):
    monkeypatch.setattr(Run, "_finish", lambda run: None)
    ends = []
    for i, alpha in enumerate((0.4, 0.4, 0.8)):
        run = Run.start(tmp_path / str(i), small("gsam", optimizer_options={"alpha": alpha}))
        assert run.go()
        ends.append(run.model.weights.flat.tobytes())
    assert ends[0] == ends[1] != ends[2]


@every_relative
def test_a_step_that_diverges_leaves_nothing_of_itself(name):
    """What is kept is that of the step before, too."""

    def state_after(steps, broken):
        model, optimizer = net("float32"), make(name, SGD(0.01, momentum=0.9))
        made = list(batches(3))

        def batch(i):  # made anew, as in a run: a second time its dropout masks are the same
            x, y = made[i]
            return parted(name, model, x + np.inf if broken and i == 2 else x, y, seed=i)

        fails = pytest.raises(DivergedError, match="step 3 of epoch 1")
        with fails if broken else nullcontext():
            run_steps(model, optimizer, batch, range(steps), 3)
        arrays, values = checkpoint.flatten(
            {**model.state_dict(), "of": optimizer.state_dict()}, ""
        )
        return {key: array.tobytes() for key, array in arrays.items()} | values

    assert state_after(3, broken=True) == state_after(2, broken=False)


def test_a_loss_that_is_not_finite_is_looked_for_where_it_was_taken():
    """Momentum SAM's only pass is at the perturbed weights."""
    model = net("float32")
    optimizer = make("momentum-sam", SGD(0.1, momentum=0.9), rho=lambda step: 1e30 * (step > 0))
    made = [objective(model, x, y) for x, y in batches(2)]
    with pytest.raises(DivergedError, match=r"step 2 of epoch 1: the loss is .*: the output of"):
        run_steps(model, optimizer, lambda i: made[i], range(2), 2)


@pytest.mark.parametrize("parts", [{"accumulate": 2}, {"shards": 2}], ids=str)
def test_sparse_sam_finds_its_samples_in_parts(parts, tmp_path, monkeypatch):
    monkeypatch.setattr(Run, "_finish", lambda run: None)
    masks = []
    for i, changes in enumerate((parts, {})):
        run = Run.start(tmp_path / str(i), small("sparse-sam", dtype="float64", **changes))
        assert run.go()
        masks.append(run.optimizer.state_dict()["kept"]["mask"])
    assert np.array_equal(*masks)


def test_samples_are_the_first_of_the_mini_batch_whatever_its_parts():
    model = net()
    x, y = next(batches(1))
    whole = [f(model.weights.flat)[1] for f in objective(model, x, y).samples(5)]
    for function in (
        Accumulated(model, x, y, cross_entropy, [0, 0, 0]),
        Sharded(model, x, y, cross_entropy, [0, 0, 0]),
    ):
        before = {k: v.tobytes() for k, v in model.state_dict().items()}
        found = [f(model.weights.flat)[1] for f in function.samples(5)]
        assert [v.tobytes() for v in found] == [v.tobytes() for v in whole]
        assert {k: v.tobytes() for k, v in model.state_dict().items()} == before
        assert len(function.samples(100)) == len(y)


# Errors


def refused(call, *parts):
    """The message, in which all parts stand."""
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    for part in parts:
        assert part in str(caught.value), caught.value
    return str(caught.value)


def test_an_unknown_name_or_setting_is_told_with_those_there_are():
    refused(lambda: make("sam2", SGD(0.1)), "unknown relative 'sam2'", "gsam", "bayesian-sam")
    refused(lambda: make("gsam", SGD(0.1), beta=1), "GSAM has no setting beta", "rho, alpha")
    refused(lambda: make("rwp", SGD(0.1), rho=1), "RWP has no setting rho", "there are: sigma")
    refused(lambda: make("gsam", SAM(SGD(0.1))), "finds its own gradient")
    refused(lambda: make("gsam", "sgd"), "wraps a base optimizer such as SGD(lr=0.1)")
    refused(lambda: make("gsam", SGD(0.1), seed=-1), "a seed must be a whole number >= 0")


EVERY_SETTING = [(name, key) for name, r in RELATIVES.items() for key in r.settings]


@pytest.mark.parametrize(("name", "key"), EVERY_SETTING)
def test_a_setting_is_a_number_in_its_range(name, key):
    setting = RELATIVES[name].settings[key]
    momentum = SGD(0.1, momentum=0.9)
    kind = "a whole number" if setting.whole else "a number"
    for strange in (True, "0.5", None, [0.1], *([0.5, linear(3, 2, 1)] if setting.whole else [])):
        refused(lambda v=strange: make(name, momentum, **{key: v}), f"{key} must be {kind}, not")
    bad = [setting.low - 1, *([setting.low] if setting.above else [])]
    bad += [] if setting.whole else [math.nan, math.inf, -math.inf]
    if setting.high < math.inf:
        bad += [setting.high + 1, *([setting.high] if setting.below else [])]
    for value in bad:
        message = refused(lambda v=value: make(name, momentum, **{key: v}), f"{key} is ")
        assert setting.told in message
        assert message.endswith(f", not {value}")
        least = f"{'>' if setting.above else '>='} {setting.low:g}"
        assert f"it must be {least}" in message or f"it must be finite and {least}" in message
        if setting.high < math.inf:
            assert f" and {'<' if setting.below else '<='} {setting.high:g}, " in message
    ends = [*([] if setting.above else [setting.low]), *([] if setting.below else [setting.high])]
    for value in [setting.default, *(v for v in ends if math.isfinite(v))]:
        right = int(value) if setting.whole else value
        make(name, momentum, **{key: right})


@every_relative
def test_numpys_numbers_are_taken_and_widen_nothing(name):
    """A sweep over linspace or arange has them."""
    ends = []
    for whole, real in ((int, float), (np.int64, np.float64)):
        known = RELATIVES[name].settings
        own = {k: (whole if s.whole else real)(s.default) for k, s in known.items()}
        f, w = problem("float32")
        optimizer = make(name, SGD(0.1, momentum=0.9), **own)
        for _ in range(3):
            assert optimizer.step(f, w).gradient.dtype == "float32"
        ends.append(w.tobytes())
    assert ends[0] == ends[1]


def test_what_a_relative_needs_is_asked_for():
    for base in (SGD(0.1), AdamW(0.1)):
        refused(
            lambda b=base: make("momentum-sam", b),
            f"this {type(base).__name__} has none: give SGD(lr, momentum=0.9)",
        )
    f, w = points()
    plain = f.function
    refused(lambda: make("m-sam", SGD(0.1)).step(f, w), "give an Accumulated", "accumulate = 4")
    refused(lambda: make("sparse-sam", SGD(0.1)).step(f, w), "objective(model, x, y)", "samples")
    for name in ("rwp", "m-rwp", "arwp", "looksam-by-tensor"):
        told = "give objective(model, x, y) itself, or shapes=[...]"
        refused(lambda n=name: make(n, SGD(0.1)).step(plain, w), told)
        make(name, SGD(0.1), shapes=[w.shape]).step(plain, w)


class WatchedBatch(Watched):
    """Counts the passes of two parts that are both the whole."""

    @property
    def parts(self):
        return [self, self]

    def samples(self, count):
        return [self.inner]


def passes(name, optimizer):
    """How many the next step makes."""
    f = WatchedBatch(problem()[0])
    copy.deepcopy(optimizer).step(f, problem()[1])
    return len(f.visited)


@pytest.mark.parametrize("how", ["the last pass", "the move"])
@every_relative
def test_a_step_that_fails_has_not_happened(name, how):
    """Not to the weights, the momentum, the count or what is kept; then the run goes on."""
    runs = []
    for failing in (False, True):
        f, w = problem()
        base = SGD(0.1, momentum=0.9)
        optimizer = make(name, base, seed=2)
        for _ in range(2):
            optimizer.step(f, w)
        if failing:
            before, state = w.tobytes(), repr(optimizer.state_dict())
            last = passes(name, optimizer) if how == "the last pass" else None
            base.lr = 0.1 if last else lambda step: math.nan
            with pytest.raises((ArithmeticError, ValueError), match=r"out of order|lr must be"):
                optimizer.step(WatchedBatch(f, fail_at=last), w)
            base.lr = 0.1
            assert w.tobytes() == before
            assert repr(optimizer.state_dict()) == state
        for _ in range(2):
            optimizer.step(f, w)
        runs.append(w.tobytes())
    assert runs[0] == runs[1]


@pytest.mark.parametrize(
    ("name", "key"), [(n, k) for n, k in EVERY_SETTING if not RELATIVES[n].settings[k].whole]
)
def test_a_schedule_that_leaves_the_range_is_refused_in_its_step(name, key):
    f, w = problem()
    default = RELATIVES[name].settings[key].default
    schedule = {0: default, 1: -1.0}.get
    optimizer = make(name, SGD(0.1, momentum=0.9), **{key: schedule})
    optimizer.step(f, w)
    before = w.tobytes()
    refused(lambda: optimizer.step(f, w), f"{key} ", "not -1.0")
    assert (optimizer.steps, optimizer.base.steps, w.tobytes()) == (1, 1, before)


@every_relative
def test_a_state_is_a_copy_and_goes_on(name):
    f, w = problem()
    optimizer = make(name, SGD(0.1, momentum=0.9), seed=2)
    optimizer.step(f, w)
    state, start = optimizer.state_dict(), w.copy()
    for value in copy.deepcopy(state)["kept"].values():
        value += 1  # nobody else's
    ends = []
    for _ in range(2):
        other, w = make(name, SGD(0.1, momentum=0.9), seed=2), start.copy()
        other.load_state_dict(state)
        for _ in range(6):
            other.step(f, w)
        ends.append(w.tobytes())
    assert ends[0] == ends[1]
    w = start.copy()
    for _ in range(6):
        optimizer.step(f, w)
    assert w.tobytes() == ends[0]


# In recipes and on the command line


def test_a_recipe_knows_every_relative():
    choices = typing.get_args(Recipe.model_fields["optimizer"].annotation)
    assert choices == ("sgd", "adamw", "sam", "asam", "rsam", "noise", *RELATIVES)
    assert recipe.UNUSED.keys() == {*choices}


@every_relative
def test_a_recipe_makes_the_relative_with_its_settings(name):
    others = {k: v for k, v in OTHERS[name].items() if k != "rho" and not callable(v)}
    made: Any = recipe.optimizer(small(name, optimizer_options=others, rho=0.7, seed=5), steps=10)
    assert isinstance(made, Related)
    assert made.relative is RELATIVES[name]
    assert made.seed == 5
    radius = {"rho": 0.7} if has_rho(name) else {}
    defaults = {k: s.default for k, s in RELATIVES[name].settings.items()}
    assert made.settings == {**defaults, **others, **radius}


def test_a_recipes_radius_follows_the_learning_rate():
    made: Any = recipe.optimizer(small("gsam", rho=0.7, rho_low=0.1, warmup_steps=2), steps=10)
    assert at(made.settings["rho"], 0) == 0
    assert at(made.settings["rho"], 2) == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("gsam", {"optimizer_options": {"beta": 1}}, "beta is no option of gsam; there are: alpha"),
        ("gsam", {"optimizer_options": {"rho": 1}}, "rho is no option of gsam; there are: alpha"),
        ("usam", {"optimizer_options": {"eta": 1}}, "eta is no option of usam; there are: none"),
        ("sam", {"optimizer_options": {"eta": 1}}, "eta is no option of sam; there are: none"),
        ("m-sam", {"accumulate": 1}, "give accumulate = 2 or more"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(name, changes, message):
    with pytest.raises(RecipeError, match=message):
        small(name, **changes)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("gsam", {"optimizer_options": {"alpha": "x"}}, "gsam: alpha must be a number, not 'x'"),
        (
            "gsam",
            {"optimizer_options": {"alpha": -1}},
            "gsam: alpha is .* it must be finite and >=",
        ),
        ("wsam", {"optimizer_options": {"gamma": 1.0}}, "wsam: gamma is .* >= 0 and < 1, not 1.0"),
        ("looksam", {"optimizer_options": {"k": 2.5}}, "looksam: k must be a whole number"),
        ("momentum-sam", {"base": "adamw"}, "this AdamW has none: give SGD"),
        ("momentum-sam", {"momentum": 0.0}, "this SGD has none: give SGD"),
    ],
)
def test_a_recipe_with_a_wrong_option_is_refused(name, changes, message):
    with pytest.raises(RecipeError, match=message):
        small(name, **changes)


@every_relative
def test_a_recipe_without_a_radius_has_the_relatives_own(name):
    own = RELATIVES[name].settings["rho"].default if has_rho(name) else 0.05
    assert small(name).rho == own
    assert small(name, rho=0.7).rho == 0.7


def test_the_recipe_of_a_run_that_has_no_radius_of_its_own_is_as_before():
    assert small("sam").rho == small("rsam").rho == 0.05


class WithoutLr(Optimizer):
    """A base that has a step length and does not say it."""

    def find(self, loss_and_grad, w):
        raise NotImplementedError

    def move(self, w, gradient):
        w -= 0.1 * gradient


def test_what_goes_past_the_base_needs_its_learning_rate():
    with pytest.raises(TypeError, match=r"WSAM moves .* this WithoutLr has none: give SGD\(lr\)"):
        make("wsam", WithoutLr())
    assert make("wsam-coupled", WithoutLr()).relative.apart is False


@every_relative
def test_it_is_known_of_which_relatives_a_part_goes_past_the_base(name):
    f, w = problem()
    trace = make(name, SGD(0.1, 0.9), shapes=[w.shape]).step(f, w)
    assert isinstance(trace, ApartTrace) == RELATIVES[name].apart


TRAIN = ("train", "--model", "mlp", "--model-option", "hidden=[4]", "--epochs", "1", "--out")


def test_training_by_options(tmp_path):
    options = ("--optimizer", "gsam", "--optimizer-option", "alpha=0.2")
    done = called(*TRAIN, tmp_path / "run", *options)
    assert done.returncode == 0, done.stderr
    used = recipe.read(tmp_path / "run" / "recipe.toml")
    assert used["optimizer"] == "gsam"
    assert used["optimizer_options"] == {"alpha": 0.2}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--optimizer", "gsam", "--optimizer-option", "beta=1"], "beta is no option of gsam"),
        (["--optimizer", "gsam", "--optimizer-option", "alpha"], "--optimizer-option alpha: write"),
        (["--optimizer", "gsam", "--optimizer-option", "alpha=-1"], "alpha is how much"),
        (
            ["--optimizer", "gsam", "--optimizer-option", "alpha=-1", "--data", "/no/folder"],
            "train: gsam: alpha is how much",  # before the data
        ),
        (["--optimizer", "gsam", "--optimizer-option", "alpha=much"], "alpha must be a number"),
        (["--optimizer-option", "alpha=1"], "alpha is no option of rsam; there are: none"),
        (["--optimizer", "rwp", "--sigma", "0.1"], "give --optimizer-option sigma=..."),
        (["--optimizer", "m-rwp", "--lam", "0.1"], "give --optimizer-option lam=..."),
        (["--optimizer", "gsam", "--sigma", "0.1"], "--sigma means nothing to --optimizer gsam"),
        (["--optimizer", "rwp", "--rho", "0.1"], "--rho means nothing to --optimizer rwp"),
        (["--optimizer", "m-sam"], "give accumulate = 2 or more"),
        (["--optimizer", "momentum-sam", "--base", "adamw"], "give SGD(lr, momentum=0.9)"),
        (["--resume", "x", "--optimizer-option", "alpha=1"], "--resume goes on with the recipe"),
    ],
)
def test_wrong_options_are_one_line_and_exit_code_2(arguments, message, tmp_path):
    out = [] if "--resume" in arguments else ["--out", tmp_path / "run"]
    done = called("train", "--model", "mlp", "--epochs", "1", *arguments, *out)
    if "--resume" in arguments:
        done = called("train", *arguments)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "run" / "recipe.toml").exists()


def test_options_of_another_optimizer_are_dropped(tmp_path):
    """Of the recipe that is changed; its own stay, and those given are laid over them."""
    path = tmp_path / "my.toml"
    path.write_text(
        'model = "mlp"\nepochs = 1\noptimizer = "friendly-sam"\n'
        "[model_options]\nhidden = [4]\n[optimizer_options]\nsigma = 0.5\nlam = 0.8\n"
    )
    for i, (options, left) in enumerate(
        [
            (["--optimizer", "sam"], {}),
            (["--optimizer", "gsam", "--optimizer-option", "alpha=0.1"], {"alpha": 0.1}),
            (["--optimizer-option", "lam=0.5"], {"sigma": 0.5, "lam": 0.5}),
        ]
    ):
        done = called("train", path, "--out", tmp_path / str(i), *options)
        assert done.returncode == 0, done.stderr
        used = recipe.read(tmp_path / str(i) / "recipe.toml")
        assert used.get("optimizer_options", {}) == left
