"""The optimizers for PyTorch beside the NumPy ones, beside the checker, and at their limits."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import rsam_ref
from rsam_backends import Stream
from rsam_ref import objective
from rsam_ref.algorithms.noise import filter_noise
from rsam_ref.algorithms.schedules import (
    constant,
    cosine,
    linear,
    rsam_rho,
    rsam_sigma,
    warmup,
)
from rsam_ref.conformance import check
from rsam_ref.pytorch import RSAM, SAM
from rsam_ref.pytorch.filters import filter_norms, transposed_weights
from tests.helpers.problems import batches
from tests.helpers.torch_problems import (
    closure_of,
    flat,
    in_halves,
    numpy_net,
    torch_batches,
    torch_net,
    train,
)

STEPS = 50

BASES = {
    "sgd": (
        lambda: rsam_ref.SGD(0.05, momentum=0.9, weight_decay=0.01),
        torch.optim.SGD,
        {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.01},
    ),
    "adamw": (
        lambda: rsam_ref.AdamW(0.01, eps=1e-5, weight_decay=0.1),
        torch.optim.AdamW,
        {"lr": 0.01, "eps": 1e-5, "weight_decay": 0.1},
    ),
}

SIGMA = rsam_sigma(0.01, STEPS)
RHO = linear(0.1, STEPS, 0.05)
METHODS = {
    "sam": (lambda base: rsam_ref.SAM(base, RHO), SAM, {"rho": RHO}),
    "asam": (
        lambda base: rsam_ref.SAM(base, 0.5, adaptive=True, eta=0.02),
        SAM,
        {"rho": 0.5, "adaptive": True, "eta": 0.02},
    ),
    "rsam": (
        lambda base: rsam_ref.RSAM(base, 0.1, SIGMA, 1.5, seed=3),
        RSAM,
        {"rho": 0.1, "sigma": SIGMA, "lam": 1.5, "seed": 3, "draw": "reference"},
    ),
}


class Lion(torch.optim.Optimizer):
    """A base from elsewhere: the sign of a running mean."""

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.99)):
        super().__init__(params, {"lr": lr, "betas": betas})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    m = self.state[p].setdefault("m", torch.zeros_like(p))
                    p.sub_(group["lr"] * (m.lerp(p.grad, 1 - group["betas"][0])).sign())
                    m.lerp_(p.grad, 1 - group["betas"][1])


def rsam_options(sigma=0.02, **more):
    return {"rho": 0.1, "sigma": sigma, "lam": 1.5, **more}


# Beside the reference


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("halves", [False, True], ids=["closure", "halves"])
def test_fifty_steps_are_the_references(method, base, halves):
    ours, kind, options = METHODS[method]
    make, torch_base, settings_of_base = BASES[base]
    model, optimizer = numpy_net(), ours(make())
    other = torch_net()
    peer = kind(other, torch_base, **options, **settings_of_base)
    losses, theirs = [], []
    for (x, y), (tx, ty) in zip(batches(STEPS), torch_batches(STEPS)):
        trace = optimizer.step(objective(model, x, y), model.weights.flat)
        losses.append(float(trace.loss))
        if halves:
            in_halves(other, peer, tx, ty)
        else:
            theirs.append(peer.step(closure_of(other, peer, tx, ty)).item())
    assert np.abs(flat(other).numpy() - model.weights.flat).max() < 1e-11
    if not halves:
        np.testing.assert_allclose(theirs, losses, rtol=1e-11)
    running = {k: v for k, v in other.state_dict().items() if "running" in k}
    norm = model.layers[1]
    np.testing.assert_allclose(running["1.running_mean"].numpy(), norm.running_mean, atol=1e-11)
    np.testing.assert_allclose(running["1.running_var"].numpy(), norm.running_var, atol=1e-11)
    assert int(other[1].num_batches_tracked) == STEPS


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_references_draw_is_its_noise(dtype):
    model = torch_net(dtype=dtype)
    optimizer = RSAM(model, torch.optim.SGD, sigma=0.1, seed=5, draw="reference", lr=0.1)
    w, shapes = flat(model).numpy(), [tuple(p.shape) for p in model.parameters()]
    optimizer.draw_step()
    expected = filter_noise(w, shapes, sigma=0.1, stream=Stream("noise", 5, 0))
    tolerance = 1e-12 if dtype == torch.float64 else 1e-6
    np.testing.assert_allclose(flat(model).numpy() - w, expected, atol=tolerance)


# Beside the checker


@pytest.mark.parametrize(
    ("kind", "algorithm"),
    [(SAM, "sam"), (SAM, "asam"), (RSAM, "rsam")],
    ids=["sam", "asam", "rsam"],
)
def test_the_checker_finds_nothing(kind, algorithm):
    report = check(kind, algorithm)
    assert report.conforms
    assert [f.code for f in report.findings] == []


def test_the_checker_finds_nothing_around_an_optimizer_that_is_built():
    def make(params, hyper):
        own = {"momentum": hyper.momentum, "weight_decay": hyper.weight_decay}
        return SAM(torch.optim.SGD(params, lr=hyper.lr, **own), rho=hyper.rho)

    report = check(make, "sam")
    assert [f.code for f in report.findings if not f.note] == []


# Limits


def plain(model, optimizer, steps):
    for x, y in torch_batches(steps):
        closure_of(model, optimizer, x, y)()
        optimizer.step()


EVERY_BASE = {
    "sgd": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    "adam": (torch.optim.Adam, {"lr": 0.01, "amsgrad": True}),
    "adamw": (torch.optim.AdamW, {"lr": 0.01}),
    "rmsprop": (torch.optim.RMSprop, {"lr": 0.01, "momentum": 0.5}),
    "lion": (Lion, {"lr": 0.01}),
}
every_base = pytest.mark.parametrize("base", EVERY_BASE)


@every_base
@pytest.mark.parametrize("method", ["sam", "asam", "rsam"])
def test_without_radius_it_is_the_base_bit_for_bit(base, method):
    make, options = EVERY_BASE[base]
    with torch.random.fork_rng():
        torch.manual_seed(4)
        model = torch_net(dropout=0.3)
        plain(model, make(model.parameters(), **options), 5)
        expected, stands = copy.deepcopy(model.state_dict()), torch.get_rng_state()
        torch.manual_seed(4)
        model = torch_net(dropout=0.3)
        kind = RSAM if method == "rsam" else SAM
        own = {"sigma": 0.0} if method == "rsam" else {"adaptive": method == "asam"}
        train(model, kind(model, make, rho=0.0, **own, **options), 5)
        assert torch.equal(torch.get_rng_state(), stands)
    for name, value in model.state_dict().items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_without_noise_and_with_lam_1_it_is_sam_bit_for_bit(dtype):
    ends = []
    for kind, own in ((SAM, {}), (RSAM, {"sigma": 0.0, "lam": 1.0})):
        model = torch_net(dtype=dtype)
        optimizer = kind(model, torch.optim.SGD, rho=0.2, **own, lr=0.1, momentum=0.9)
        for x, y in torch_batches(5, dtype):
            optimizer.step(closure_of(model, optimizer, x, y))
        ends.append(flat(model))
    assert torch.equal(*ends)


@pytest.mark.parametrize("kind", [SAM, RSAM])
@pytest.mark.parametrize("adaptive", [False, True])
def test_no_gradient_and_no_noise_give_no_perturbation(kind, adaptive):
    w = nn.Parameter(torch.zeros(3, 2))
    own = {"sigma": 0.5} if kind is RSAM else {"adaptive": adaptive}
    optimizer = kind([w], torch.optim.SGD, rho=1.0, **own, lr=0.1)
    seen = []

    def closure():
        optimizer.zero_grad()
        seen.append(w.detach().clone())
        (w.sum() * 0).backward()
        return w.sum()

    optimizer.step(closure)
    assert all(torch.equal(at, torch.zeros(3, 2)) for at in [*seen, w.detach()])


@given(
    rho=st.floats(0.01, 5.0),
    scale=st.sampled_from([1e-3, 1.0, 1e3]),
    adaptive=st.booleans(),
    seed=st.integers(0, 10**6),
)
@settings(max_examples=20)
def test_the_perturbation_has_its_length_and_no_scale_of_the_loss(rho, scale, adaptive, seed):
    generator = torch.Generator().manual_seed(seed)
    values = [torch.randn(s, generator=generator, dtype=torch.float64) for s in [(3, 2), (4,)]]
    slopes = [torch.randn(v.shape, generator=generator, dtype=torch.float64) for v in values]
    eps = []
    for by in (1.0, scale):
        params = [nn.Parameter(v.clone()) for v in values]
        sam = SAM(params, torch.optim.SGD, rho=rho, adaptive=adaptive, eta=0.0, lr=0.1)
        sum((by * p * s).sum() for p, s in zip(params, slopes)).backward()
        sam.first_step()
        away = torch.cat([(p - v).detach().reshape(-1) for p, v in zip(params, values)])
        if adaptive:  # ||T^-1 eps|| = rho
            away = away / torch.cat([v.abs().reshape(-1) for v in values])
        eps.append(away)
        sam.restore()
        assert all(torch.equal(p.detach(), v) for p, v in zip(params, values))
    assert eps[0].norm().item() == pytest.approx(rho, rel=1e-9)
    torch.testing.assert_close(*eps, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_norm_of_low_precision_is_taken_in_float32(dtype):
    w = nn.Parameter(torch.zeros(5000, dtype=dtype))
    sam = SAM([w], torch.optim.SGD, rho=100.0, lr=0.1)
    w.grad = torch.full_like(w, 50.0)  # the sum of squares is no float16
    sam.first_step()
    expected = 100 / math.sqrt(5000)
    assert w[0].item() == pytest.approx(expected, rel=1e-2)


def test_complex_weights_have_one_norm_over_both_parts():
    w = nn.Parameter(torch.tensor([3.0 + 0j, 0 + 4.0j], dtype=torch.complex128))
    seen = []
    sam = SAM([w], torch.optim.SGD, rho=1.0, lr=0.5)

    def closure():
        sam.zero_grad()
        seen.append(w.detach().clone())
        loss = (w.abs() ** 2).sum() / 2
        loss.backward()
        return loss

    sam.step(closure)
    torch.testing.assert_close(seen[1], torch.tensor([3.6 + 0j, 4.8j], dtype=torch.complex128))
    rsam = RSAM([w], torch.optim.SGD, rho=1.0, sigma=0.1, lr=0.5)
    rsam.draw_step()
    drawn = (w.detach() - seen[0] + 0.5 * seen[1]) / 0.1
    assert (drawn.real.abs() > 0).all()
    assert (drawn.imag.abs() > 0).all()


# Filters

LAYERS = {
    "linear": (nn.Linear(3, 4), lambda w: w.norm(dim=1, keepdim=True)),
    "conv2d": (nn.Conv2d(2, 3, 2), lambda w: w.flatten(1).norm(dim=1).reshape(3, 1, 1, 1)),
    "conv1d": (nn.Conv1d(4, 6, 3, groups=2), lambda w: w.flatten(1).norm(dim=1)[:, None, None]),
    "transposed": (
        nn.ConvTranspose2d(2, 3, 2),
        lambda w: w.transpose(0, 1).flatten(1).norm(dim=1).reshape(1, 3, 1, 1),
    ),
    "transposed 1d": (
        nn.ConvTranspose1d(4, 3, 2),
        lambda w: w.transpose(0, 1).flatten(1).norm(dim=1).reshape(1, 3, 1),
    ),
    "transposed, groups": (  # weight (4, 3, 2): inputs 0, 1 make outputs 0, 1, 2
        nn.ConvTranspose1d(4, 6, 2, groups=2),
        lambda w: (
            w.reshape(2, 2, 3, 2).norm(dim=(1, 3), keepdim=True).expand(2, 2, 3, 2).reshape(4, 3, 2)
        ),
    ),
}


@pytest.mark.parametrize("layer", LAYERS)
def test_a_filter_is_what_makes_one_output(layer):
    module, norms = LAYERS[layer]
    w = module.weight.detach()
    groups = transposed_weights([module])
    axis = 1 if module.weight in groups else 0
    found = filter_norms(w, axis, groups.get(module.weight, 1))
    torch.testing.assert_close(found.expand_as(w), norms(w).expand_as(w))
    # by outputs: a filter of zeros makes nothing but the bias of one output
    if layer == "transposed, groups":
        with torch.no_grad():
            module.weight[2:, 1] = 0
        out = module(torch.randn(1, 4, 5)) - module.bias[:, None]
        assert [bool(out[0, c].abs().max() < 1e-6) for c in range(6)] == [False] * 4 + [True, False]


@pytest.mark.parametrize("layer", LAYERS)
def test_the_draw_takes_filters_from_the_modules(layer):
    module, norms = copy.deepcopy(LAYERS[layer][0]), LAYERS[layer][1]
    w = module.weight.detach().clone()
    z = [torch.ones_like(p) for p in module.parameters()]
    rsam = RSAM(module, torch.optim.SGD, sigma=0.5, draw=lambda step, weights: z, lr=0.1)
    rsam.draw_step()
    expected = (w + 0.5 * norms(w)).expand_as(w)
    torch.testing.assert_close(module.weight.detach(), expected)
    rsam.restore()
    assert torch.equal(module.weight.detach(), w)


def test_a_group_may_have_its_outputs_along_another_axis():
    w = nn.Parameter(torch.tensor([[3.0, 0.0], [4.0, 2.0]]))
    rsam = RSAM(
        [{"params": [w], "output_axis": 1}],
        torch.optim.SGD,
        sigma=1.0,
        draw=lambda step, weights: [torch.ones_like(v) for v in weights],
        lr=0.1,
    )
    rsam.draw_step()
    assert w.tolist() == [[8.0, 2.0], [9.0, 4.0]]


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2])
def test_axes_are_counted_from_either_end(axis):
    w = torch.randn(3, 4, 5)
    over = [a for a in range(3) if a != axis % 3]
    torch.testing.assert_close(filter_norms(w, axis), w.norm(dim=over, keepdim=True))


def test_a_transposed_convolution_that_the_model_does_not_tell_is_noticed():
    layer = nn.ConvTranspose1d(4, 3, 2)
    before = layer.weight.detach().clone()

    def step(rsam):
        def closure():
            loss = layer(torch.ones(1, 4, 5)).square().sum()
            loss.backward()
            return loss

        rsam.step(closure)

    for more in ({}, {"model": nn.ModuleList([nn.Linear(2, 2)])}):
        head = [*more["model"].parameters()] if more else []
        rsam = RSAM([*layer.parameters(), *head], torch.optim.SGD, lr=0.1, **more)
        with pytest.raises(RuntimeError, match=r"the shape \(4, 3, 2\) is of a transposed"):
            step(rsam)
        assert torch.equal(layer.weight, before)
    step(SAM(layer.parameters(), torch.optim.SGD, lr=0.1))
    step(RSAM(layer, torch.optim.SGD, lr=0.1))
    step(RSAM(layer.parameters(), torch.optim.SGD, output_axis=1, lr=0.1))


def test_a_draw_that_gives_another_shape_is_refused_before_anything_moves():
    w = nn.Parameter(torch.ones(3, 2))
    for wrong in ([], [torch.ones(2, 3)], [torch.ones(3, 2)] * 2):
        rsam = RSAM([w], torch.optim.SGD, draw=lambda step, weights, z=wrong: z, lr=0.1)
        with pytest.raises(ValueError, match=r"the draw gave .*, not \[\(3, 2\)\]"):
            rsam.draw_step()
        assert torch.equal(w, torch.ones(3, 2))


def test_the_draw_is_standard_normal_and_moves_no_global_generator():
    w = nn.Parameter(torch.ones(100, 400, dtype=torch.float64))
    before = torch.get_rng_state()
    draws = []
    rsam = RSAM([w], torch.optim.SGD, sigma=1.0, seed=3, lr=0.1)
    for _ in range(2):
        rsam.draw_step()
        draws.append(((w.detach() - 1) / 20).reshape(-1))
        w.sum().backward()
        rsam.first_step()
        rsam.restore()
        rsam.restore()  # nothing more to do
    assert torch.equal(draws[0], draws[1]), "an abandoned step is drawn again"
    z = draws[0]
    assert abs(z.mean()) < 5 / 200
    assert abs(z.var() - 1) < 5 * math.sqrt(2 / 40000)
    assert abs((z**4).mean() - 3) < 5 * math.sqrt(96 / 40000)
    assert torch.equal(torch.get_rng_state(), before)


def test_steps_and_seeds_draw_apart():
    def draws(seed):
        w = nn.Parameter(torch.ones(1000, dtype=torch.float64))
        rsam, seen = RSAM([w], torch.optim.SGD, rho=0.0, sigma=1.0, seed=seed, lr=0.0), []

        def closure():
            rsam.zero_grad()
            seen.append(w.detach().clone())
            w.sum().backward()
            return w.sum()

        for _ in range(2):
            rsam.step(closure)
        return [seen[0], seen[2]]

    found = torch.stack(draws(0) + draws(1))
    assert (torch.corrcoef(found) - torch.eye(4)).abs().max() < 5 / math.sqrt(1000)
    assert torch.equal(torch.stack(draws(0)), found[:2])


# Groups and schedules


def test_groups_have_settings_of_their_own_and_one_norm():
    a, b = (nn.Parameter(torch.tensor(v, dtype=torch.float64)) for v in ([3.0], [4.0]))
    sam = SAM(
        [{"params": [a], "rho": 1.0, "lr": 0.5}, {"params": [b]}],
        torch.optim.SGD,
        rho=0.1,
        lr=0.1,
    )
    ((a @ a + b @ b) / 2).backward()
    sam.first_step()
    torch.testing.assert_close(
        torch.cat([a, b]).detach(), torch.tensor([3 + 0.6, 4 + 0.08], dtype=torch.float64)
    )
    ((a @ a + b @ b) / 2).backward()
    sam.second_step()
    torch.testing.assert_close(
        torch.cat([a, b]).detach(), torch.tensor([3 - 1.8, 4 - 0.408], dtype=torch.float64)
    )


def test_a_group_that_is_added_later_takes_part():
    a, b = (nn.Parameter(torch.ones(2)) for _ in range(2))
    rsam = RSAM([a], torch.optim.SGD, **rsam_options(sigma=linear(0.1, 10)), lr=0.1, momentum=0.9)
    rsam.add_param_group({"params": [b], "lam": 5.0, "rho": lambda step: 0.2 + step})
    assert rsam.param_groups is rsam.base_optimizer.param_groups
    assert rsam.param_groups[1]["rho"] == 0.2
    assert rsam.param_groups[1]["sigma"] == 0.1
    assert rsam.param_groups[1]["momentum"] == 0.9
    with pytest.raises(ValueError, match="rho"):
        rsam.add_param_group({"params": [nn.Parameter(torch.ones(1))], "rho": -1.0})


def test_schedules_are_read_at_every_step_and_go_on_after_a_resume():
    steps, peak = 10, 0.1
    lr = warmup(peak, 3, cosine(peak, steps - 3))
    schedules = {"rho": rsam_rho(lr, peak, 3), "sigma": rsam_sigma(5e-4, steps)}

    def made():
        model = torch_net()
        optimizer = RSAM(model, torch.optim.SGD, **schedules, lam=linear(2, steps, 1), lr=1.0)
        return model, optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lr)

    model, optimizer, scheduler = made()
    seen = []
    for step, (x, y) in enumerate(torch_batches(steps)):
        if step == 4:
            saved = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
            rest = scheduler.state_dict()
            model, optimizer, scheduler = made()
            model.load_state_dict(saved[0])
            scheduler.load_state_dict(rest)
            optimizer.load_state_dict(saved[1])
        optimizer.step(closure_of(model, optimizer, x, y))
        group = optimizer.param_groups[0]
        seen.append([group[k] for k in ("rho", "sigma", "lam", "lr")])
        scheduler.step()
    expected = [
        [schedules["rho"](t), schedules["sigma"](t), 2 - t / steps, lr(t)] for t in range(steps)
    ]
    np.testing.assert_allclose(seen, expected, rtol=1e-12)


@pytest.mark.parametrize("kind", [SAM, RSAM])
def test_a_number_beside_a_function_is_refused(kind):
    model = torch_net()
    optimizer = kind(model, torch.optim.SGD, rho=linear(0.1, 10), lr=0.1)
    train(model, optimizer, 1)
    before = flat(model)
    optimizer.param_groups[0]["rho"] = 0.3
    with pytest.raises(ValueError, match="rho of group 0 is a function of the step"):
        train(model, optimizer, 1)
    assert torch.equal(flat(model), before)
    other = kind(torch_net(), torch.optim.SGD, rho=0.1, lr=0.1)
    other.param_groups[0]["rho"] = np.float64(0.3)  # a number can be set
    other.add_param_group({"params": [nn.Parameter(torch.ones(2))], "rho": np.float32(0.5)})
    optimizer.param_groups[0]["rho"] = optimizer._settings._values[0]["rho"]
    train(model, optimizer, 1)


# Saving


@pytest.mark.parametrize("kind", [SAM, RSAM])
def test_the_groups_hold_python_numbers(kind, tmp_path):
    own: dict[str, Any] = {"sigma": np.float64(1e-3), "output_axis": np.int64(0)}
    own = own if kind is RSAM else {"adaptive": np.bool_(True), "eta": np.float32(0.5)}
    model = torch_net()
    optimizer = kind(model, torch.optim.SGD, rho=np.float64(0.1), **own, lr=0.1)
    train(model, optimizer, 1)
    optimizer.param_groups[0]["rho"] = np.float64(0.2)
    train(model, optimizer, 1)
    torch.save(optimizer.state_dict(), tmp_path / "saved.pt")
    group = torch.load(tmp_path / "saved.pt", weights_only=True)["param_groups"][0]
    assert group["rho"] == 0.2
    assert {type(group[name]) for name in (*own, "rho")} <= {float, int, bool}


@pytest.mark.parametrize("draw", ["torch", "reference"])
@pytest.mark.parametrize("steps", [0, 2])
def test_the_seed_is_saved(draw, steps):
    def made(seed):
        w = nn.Parameter(torch.ones(20, 3))
        return w, RSAM([w], torch.optim.SGD, sigma=0.1, seed=seed, draw=draw, lr=0.0)

    def some(rsam, w, steps):
        for _ in range(steps):
            rsam.step(lambda: w.square().sum().backward())

    w, rsam = made(1)
    other, peer = made(2)
    some(rsam, w, steps)
    peer.load_state_dict(rsam.state_dict())
    for optimizer in (rsam, peer):
        optimizer.draw_step()
    assert torch.equal(w, other)
    peer.restore()
    peer.draw_step()
    assert torch.equal(w, other)


def test_a_state_of_another_algorithm_or_draw_is_refused_and_changes_nothing():
    def made(kind, **own):
        model = torch_net()
        optimizer = kind(model, torch.optim.SGD, lr=0.1, momentum=0.9, **own)
        train(model, optimizer, 2)
        return optimizer

    sam, rsam = made(SAM), made(RSAM)
    reference, own = (made(RSAM, draw=d) for d in ("reference", lambda step, ws: list(ws)))
    two_groups = SAM(
        [{"params": [nn.Parameter(torch.ones(2))]} for _ in range(2)], torch.optim.SGD, lr=0.1
    )
    for optimizer, other, says in (
        (rsam, sam, "another algorithm than RSAM"),
        (sam, rsam, "another algorithm than SAM"),
        (rsam, reference, "not of draw='torch'"),
        (reference, rsam, "not of draw='reference'"),
        (own, rsam, "another draw"),
        (rsam, own, "another draw"),
        (sam, two_groups, "parameter group"),
    ):
        before, state = copy.deepcopy(optimizer.state_dict()), copy.deepcopy(other.state_dict())
        state["sharpness"]["steps"] = 7
        state["param_groups"][0]["lr"] = 0.7
        with pytest.raises(ValueError, match=says):
            optimizer.load_state_dict(state)
        torch.testing.assert_close(optimizer.state_dict(), before, rtol=0, atol=0)


@pytest.mark.parametrize("kind", [SAM, RSAM])
def test_a_copy_in_the_middle_of_a_step_is_refused(kind):
    model = torch_net()
    optimizer = kind(model, torch.optim.SGD, lr=0.1)
    for part in optimizer.PARTS[:-1]:
        for p in model.parameters():
            p.grad = torch.ones_like(p)
        getattr(optimizer, part)()
        for copied in (copy.deepcopy, copy.copy, pickle.dumps):
            with pytest.raises(RuntimeError, match="in the middle of a step"):
                copied(optimizer)
    optimizer.restore()
    copy.deepcopy(optimizer)


def test_schedules_can_be_pickled_and_so_can_what_holds_them():
    lr = warmup(0.1, 3, cosine(0.1, 7))
    schedules = [lr, linear(1, 5, 0.5), constant(0.2, 3), rsam_sigma(0.1, 9), rsam_rho(lr, 0.1, 3)]
    for schedule in schedules:
        again = pickle.loads(pickle.dumps(schedule))
        assert [again(t) for t in range(12)] == [schedule(t) for t in range(12)]
    model = torch_net()
    rsam = RSAM(model, torch.optim.SGD, rho=schedules[4], sigma=schedules[3], lr=0.1)
    train(model, rsam, 2)
    other, peer = pickle.loads(pickle.dumps((model, rsam)))
    train(model, rsam, 3)
    train(other, peer, 3)
    assert torch.equal(flat(model), flat(other))


@every_base
@pytest.mark.parametrize("method", ["sam", "rsam", "reference"])
def test_a_run_that_is_resumed_at_any_step_is_the_run_that_was_not(base, method, tmp_path):
    make, options = EVERY_BASE[base]

    def made():
        with torch.random.fork_rng():
            model = torch_net(dropout=0.2)
        if method == "sam":
            return model, SAM(model, make, rho=0.1, **options)
        draw = "torch" if method == "rsam" else method
        return model, RSAM(
            model, make, **rsam_options(sigma=linear(0.05, 20), draw=draw), **options
        )

    def one_step(model, optimizer, x, y, number):
        with torch.random.fork_rng():
            torch.manual_seed(number)
            optimizer.step(closure_of(model, optimizer, x, y))

    model, optimizer = made()
    other, peer = made()
    for number, (x, y) in enumerate(torch_batches(20)):
        torch.save([other.state_dict(), peer.state_dict()], tmp_path / "saved.pt")
        saved = torch.load(tmp_path / "saved.pt", weights_only=True)
        other, peer = made()
        other.load_state_dict(saved[0])
        peer.load_state_dict(saved[1])
        one_step(model, optimizer, x, y, number)
        one_step(other, peer, x, y, number)
        assert torch.equal(flat(model), flat(other)), number
        assert peer.steps == optimizer.steps == number + 1


@pytest.mark.parametrize("kind", [SAM, RSAM])
def test_a_copy_goes_on_alike(kind):
    model = torch_net()
    optimizer = kind(model, torch.optim.SGD, rho=0.1, lr=0.1, momentum=0.9)
    train(model, optimizer, 3)
    other, peer = copy.deepcopy((model, optimizer))
    assert peer.base_optimizer.param_groups is peer.param_groups
    assert peer.param_groups[0]["params"][0] is next(other.parameters())
    train(model, optimizer, 3)
    assert not torch.equal(flat(model), flat(other))
    train(other, peer, 3)
    assert torch.equal(flat(model), flat(other))
    assert peer.state is peer.base_optimizer.state


def test_a_state_of_the_base_alone_is_refused_and_can_be_loaded_into_the_base():
    model = torch_net()
    base = torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.9)
    plain(model, base, 2)
    sam = SAM(model, torch.optim.SGD, rho=0.2, lr=0.1, momentum=0.9)
    with pytest.raises(ValueError, match=r"base_optimizer\.load_state_dict"):
        sam.load_state_dict(base.state_dict())
    sam.base_optimizer.load_state_dict(base.state_dict())
    assert sam.param_groups[0]["lr"] == 0.3
    assert sam.param_groups[0]["rho"] == 0.2
    assert sam.param_groups is sam.base_optimizer.param_groups
    train(model, sam, 2)
