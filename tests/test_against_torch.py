"""Ten steps beside PyTorch: every method, around every base, on nets of every kind of parameter.

The weights may differ by 1e-12 at the end, and so may every quantity of every step on the way. Both
sides get the same batches and the same normal draws; nothing else is shared.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, fields

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rsam_backends import Stream
from rsam_ref import RSAM, SAM, SGD, AdamW, NoiseOnly, Trace, nn, objective
from rsam_ref.algorithms.schedules import at, cosine, linear, rsam_sigma, warmup
from tests.helpers import torch_reference as reference
from tests.helpers.problems import batches

STEPS = 10
TOLERANCE = 1e-12


@dataclass(frozen=True)
class Case:
    """The settings of a run."""

    lr: float = 0.1
    momentum: float = 0.9
    nesterov: bool = False
    dampening: float = 0.0
    weight_decay: float = 0.01
    adam_eps: float = 1e-5  # a smaller one magnifies the rounding of vanishing gradients
    clip_norm: float | None = None
    rho: float = 0.3
    sigma: float = 0.02
    lam: float = 2.0
    eta: float = 0.01
    scheduled: bool = True
    seed: int = 0

    def schedules(self, base):
        """lr, rho and sigma: numbers, or functions of the step."""
        lr = self.lr if base == "sgd" else self.lr / 10
        if not self.scheduled:
            return lr, self.rho, self.sigma
        return (
            warmup(lr, 2, cosine(lr, STEPS - 2, 0.1 * lr)),
            linear(self.rho, STEPS, 0.5 * self.rho),
            rsam_sigma(self.sigma, STEPS),
        )


@st.composite
def cases(draw):
    momentum = draw(st.sampled_from([0.0, 0.5, 0.9]))
    nesterov = momentum > 0 and draw(st.booleans())
    return Case(
        lr=draw(st.floats(0.01, 0.3)),
        momentum=momentum,
        nesterov=nesterov,
        dampening=0.0 if nesterov else draw(st.sampled_from([0.0, 0.3])),
        weight_decay=draw(st.sampled_from([0.0, 0.01, 0.1])),
        adam_eps=draw(st.sampled_from([1e-5, 1e-3])),
        clip_norm=draw(st.sampled_from([None, 0.2, 5.0])),
        rho=draw(st.floats(0.01, 1.0)),
        sigma=draw(st.floats(0.0, 0.1)),
        lam=draw(st.floats(0.1, 10.0)),
        eta=draw(st.sampled_from([0.0, 0.01])),
        scheduled=draw(st.booleans()),
        seed=draw(st.integers(0, 10**6)),
    )


# The base optimizers: ours, and PyTorch's (whose lr is set before every step).
BASES = {
    "sgd": (
        lambda c, lr: SGD(lr, c.momentum, c.weight_decay, c.nesterov, c.dampening, c.clip_norm),
        lambda c, p: torch.optim.SGD(
            p,
            lr=1.0,
            momentum=c.momentum,
            weight_decay=c.weight_decay,
            nesterov=c.nesterov,
            dampening=c.dampening,
        ),
    ),
    "adamw": (
        lambda c, lr: AdamW(lr, eps=c.adam_eps, weight_decay=c.weight_decay, clip_norm=c.clip_norm),
        lambda c, p: torch.optim.AdamW(p, lr=1.0, eps=c.adam_eps, weight_decay=c.weight_decay),
    ),
}

# The methods: our optimizer (base, settings, rho, sigma), and one step of the reference
# (probe, settings, draw, rho), where ``draw(kind)`` is the noise.
METHODS = {
    "base": (lambda b, c, rho, sigma: b, lambda probe, c, draw, rho: reference.base(probe)),
    "sam": (
        lambda b, c, rho, sigma: SAM(b, rho),
        lambda probe, c, draw, rho: reference.sam(probe, rho),
    ),
    "2-step sam": (
        lambda b, c, rho, sigma: SAM(b, rho, ascent_steps=2),
        lambda probe, c, draw, rho: reference.sam(probe, rho, 2),
    ),
    "3-step sam": (
        lambda b, c, rho, sigma: SAM(b, rho, ascent_steps=3),
        lambda probe, c, draw, rho: reference.sam(probe, rho, 3),
    ),
    "asam": (
        lambda b, c, rho, sigma: SAM(b, rho, adaptive=True, eta=c.eta),
        lambda probe, c, draw, rho: reference.asam(probe, rho, c.eta),
    ),
    "noise": (
        lambda b, c, rho, sigma: NoiseOnly(b, sigma, seed=c.seed),
        lambda probe, c, draw, rho: reference.noise_only(probe, draw("filter")),
    ),
    "rsam": (
        lambda b, c, rho, sigma: RSAM(b, rho, sigma, c.lam, c.seed),
        lambda probe, c, draw, rho: reference.rsam(probe, draw("filter"), rho, c.lam),
    ),
    "ball": (
        lambda b, c, rho, sigma: RSAM(b, rho, sigma, c.lam, c.seed, variant="ball"),
        lambda probe, c, draw, rho: reference.rsam(probe, draw("ball"), rho, c.lam),
    ),
    "stacked": (
        lambda b, c, rho, sigma: RSAM(b, rho, sigma, c.lam, c.seed, variant="stacked"),
        lambda probe, c, draw, rho: reference.stacked(probe, draw("filter"), rho),
    ),
    "gradient": (
        lambda b, c, rho, sigma: RSAM(b, rho, sigma, c.lam, c.seed, variant="gradient"),
        lambda probe, c, draw, rho: reference.gradient(probe, draw("filter"), rho),
    ),
}

every_method = pytest.mark.parametrize("method", METHODS)
every_base = pytest.mark.parametrize("base", BASES)


def flat(tensors):
    """A list of tensors as one NumPy vector; a number and None as they are."""
    if not isinstance(tensors, list):
        return tensors
    return np.concatenate([t.detach().numpy().ravel() for t in tensors])


def assert_equal_steps(trace, step, t):
    for name in [field.name for field in fields(Trace)]:
        ours, theirs = getattr(trace, name), flat(getattr(step, name))
        if theirs is None:
            assert ours is None, f"step {t}: {name}"
        else:
            error = np.abs(np.asarray(ours) - np.asarray(theirs)).max()
            assert error <= TOLERANCE, f"step {t}: {name} differs by {error}"


def compare(model, twin, inputs, classes, method, base, case):
    """Take the same steps with both, and hold one to the other."""
    twin = twin.double()
    twin.load_state_dict({k: torch.tensor(v) for k, v in model.state_dict().items()}, strict=False)
    parameters = list(twin.parameters())
    sizes = [p.numel() for p in parameters]
    lr, rho, sigma = case.schedules(base)
    our_base, their_base = BASES[base]
    make, find = METHODS[method]
    optimizer = make(our_base(case, lr), case, rho, sigma)
    torch_optimizer = their_base(case, parameters)

    for t, (x, y) in enumerate(batches(STEPS, inputs, classes, seed=case.seed)):
        draws = torch.as_tensor(Stream("noise", case.seed, t).normal(sum(sizes), "float64")).split(
            sizes
        )
        z = [draw.view_as(p) for draw, p in zip(draws, parameters)]

        def draw(kind, z=z, t=t):
            make_noise = {"filter": reference.filter_noise, "ball": reference.ball_noise}[kind]
            return make_noise(parameters, z, at(sigma, t))

        trace = optimizer.step(objective(model, x, y), model.weights.flat)
        step = find(reference.Probe(twin, x, y), case, draw, at(rho, t))
        reference.descend(torch_optimizer, parameters, step.gradient, at(lr, t), case.clip_norm)
        assert_equal_steps(trace, step, t)

    ours, theirs = model.state_dict(), twin.state_dict()  # parameters and running statistics
    for name, value in ours.items():
        assert np.abs(value - theirs[name].numpy()).max() <= TOLERANCE, name


# The nets, each told once: the layers of both libraries go by the same names.


def mlp(lib, sizes):
    layers = [f for a, b in itertools.pairwise(sizes) for f in (lib.Linear(a, b), lib.ReLU())]
    return lib.Sequential(*layers[:-1])


def convolutions(lib):
    return lib.Sequential(
        lib.Conv2d(2, 5, (3, 2), stride=(1, 2), padding=1),
        lib.ReLU(),
        lib.Conv2d(5, 4, 2),
        lib.ReLU(),
        lib.Flatten(),
        lib.Linear(32, 3),
    )


def batch_norm(lib):
    return lib.Sequential(
        lib.Conv2d(2, 5, 3, bias=False),
        lib.BatchNorm2d(5),
        lib.ReLU(),
        lib.Conv2d(5, 6, 2),
        lib.ReLU(),
        lib.Flatten(),
        lib.Linear(24, 3),
    )


@every_base
@every_method
@settings(deadline=None, max_examples=5)
@given(case=cases(), hidden=st.lists(st.integers(4, 9), min_size=1, max_size=2))
def test_ten_steps_of_an_mlp(method, base, case, hidden):
    sizes = [5, *hidden, 3]
    model = mlp(nn, sizes).build(case.seed, "float64")
    compare(model, mlp(torch.nn, sizes), (5,), 3, method, base, case)


@every_base
@every_method
@pytest.mark.parametrize("net", [convolutions, batch_norm])
def test_ten_steps_of_an_image_net(net, method, base):
    model = net(nn).build(1, "float64")
    compare(model, net(torch.nn), (2, 5, 5), 3, method, base, Case(clip_norm=1.0, seed=1))
