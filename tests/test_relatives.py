"""SAM's relatives: each beside PyTorch, in its limits, by hand, on other libraries, in a run."""

from __future__ import annotations

import ast
import copy
import inspect
import json
import math
import os
import signal
import typing
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rsam_backends import Stream
from rsam_ref import SAM, SGD, AdamW, NoiseOnly, Trace, nn, objective
from rsam_ref.algorithms.relatives import RELATIVES, ApartTrace, Related, make
from rsam_ref.algorithms.schedules import at, linear
from rsam_ref.autograd.ops_nn import cross_entropy
from rsam_ref.nn.batch_parts import Accumulated, Sharded
from rsam_ref.training import checkpoint, recipe
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


def parted(name, model, x, y, seed=0, parts=2):
    """The function of a mini-batch; in parts for the one that takes them."""
    if name == "m-sam":
        return Accumulated(model, x, y, cross_entropy, [seed] * parts)
    return objective(model, x, y, seed=seed)


# Beside PyTorch

# For every relative settings other than its defaults, schedules among them.
OTHERS = {
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
            torch_optimizer.state[p].get("momentum_buffer", torch.zeros_like(p))
            for p in parameters
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
