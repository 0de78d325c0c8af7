"""The optimizers as objects (settings, errors, state, clipping), the schedules, the bases."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rsam_ref import (
    RSAM,
    SAM,
    SGD,
    AdamW,
    NoiseOnly,
    models,
    objective,
    rsam_gradient,
    sam_gradient,
)
from rsam_ref.algorithms.schedules import at, cosine, linear, rsam_rho, rsam_sigma, warmup
from rsam_ref.algorithms.variants import (
    asam_gradient,
    gradient_rsam_gradient,
    stacked_rsam_gradient,
)
from tests.helpers.problems import BASES, WRAPPERS, Watched, batches, net, points, train

NAN, INF = math.nan, math.inf

# What is made, the error, what its message must hold.
WRONG = {
    "lr < 0": (lambda: SGD(-0.1), ValueError, "lr .*-0.1"),
    "lr nan": (lambda: SGD(NAN), ValueError, "lr .*nan"),
    "lr inf": (lambda: AdamW(INF), ValueError, "lr .*inf"),
    "momentum < 0": (lambda: SGD(0.1, momentum=-0.5), ValueError, "momentum .*-0.5"),
    "weight decay < 0": (lambda: SGD(0.1, weight_decay=-1e-3), ValueError, "weight_decay .*-0.001"),
    "weight decay nan": (lambda: AdamW(0.1, weight_decay=NAN), ValueError, "weight_decay .*nan"),
    "nesterov alone": (lambda: SGD(0.1, nesterov=True), ValueError, "momentum"),
    "nesterov damped": (
        lambda: SGD(0.1, momentum=0.9, nesterov=True, dampening=0.1),
        ValueError,
        "dampening",
    ),
    "dampening nan": (lambda: SGD(0.1, momentum=0.9, dampening=NAN), ValueError, "dampening .*nan"),
    "clip 0": (lambda: SGD(0.1, clip_norm=0.0), ValueError, "clip_norm .*0"),
    "clip nan": (lambda: AdamW(0.1, clip_norm=NAN), ValueError, "clip_norm .*nan"),
    "betas": (lambda: AdamW(0.1, betas=(0.9, 1.0)), ValueError, "betas .*1.0"),
    "adam eps < 0": (lambda: AdamW(0.1, eps=-1e-8), ValueError, "eps .*-1e-08"),
    "rho < 0": (lambda: SAM(SGD(0.1), -0.05), ValueError, "rho .*-0.05"),
    "rho nan": (lambda: SAM(SGD(0.1), NAN), ValueError, "rho .*nan"),
    "rho inf": (lambda: RSAM(SGD(0.1), INF), ValueError, "rho .*inf"),
    "rho schedule": (lambda: SAM(SGD(0.1), lambda step: -1.0), ValueError, "rho .*-1.0"),
    "eta < 0": (lambda: SAM(SGD(0.1), adaptive=True, eta=-0.5), ValueError, "eta .*-0.5"),
    "no ascent": (lambda: SAM(SGD(0.1), ascent_steps=0), ValueError, "ascent_steps .*0"),
    "half an ascent": (lambda: SAM(SGD(0.1), ascent_steps=1.5), ValueError, "ascent_steps .*1.5"),
    "ascents as a float": (lambda: SAM(SGD(0.1), ascent_steps=2.0), ValueError, "ascent_steps .*2"),
    "ascents nan": (lambda: SAM(SGD(0.1), ascent_steps=NAN), ValueError, "ascent_steps .*nan"),
    "asam in steps": (
        lambda: SAM(SGD(0.1), adaptive=True, ascent_steps=2),
        ValueError,
        "ASAM .*ascent_steps",
    ),
    "sigma < 0": (lambda: RSAM(SGD(0.1), sigma=-1e-3), ValueError, "sigma .*-0.001"),
    "sigma nan": (lambda: NoiseOnly(SGD(0.1), sigma=NAN), ValueError, "sigma .*nan"),
    "lam 0": (lambda: RSAM(SGD(0.1), lam=0.0), ValueError, "lam .*0"),
    "lam < 0": (lambda: RSAM(SGD(0.1), lam=-2.0), ValueError, "lam .*-2.0"),
    "lam nan": (lambda: RSAM(SGD(0.1), lam=NAN), ValueError, "lam .*nan"),
    "seed < 0": (lambda: RSAM(SGD(0.1), seed=-1), ValueError, "seed .*-1"),
    "variant": (lambda: RSAM(SGD(0.1), variant="renyi"), ValueError, "'renyi'.*stacked"),
    "sam of a number": (lambda: SAM(0.1), TypeError, "SAM .*float"),
    "sam of a class": (lambda: SAM(SGD), TypeError, "SAM .*optimizer"),
    "sam of sam": (lambda: SAM(RSAM(SGD(0.1))), TypeError, "RSAM inside would be ignored"),
    "lr schedule nan": (
        lambda: SGD(lambda step: NAN).step(lambda w: (w @ w, 2 * w), np.ones(2)),
        ValueError,
        "lr .*nan",
    ),
    "empty schedule": (lambda: cosine(0.1, 0), ValueError, "at least one step, not 0"),
    "rsam of a torch optimizer": (
        lambda: RSAM(torch.optim.SGD([torch.zeros(1)], lr=0.1)),
        TypeError,
        "RSAM .*SGD",
    ),
}


@pytest.mark.parametrize(("make", "error", "match"), WRONG.values(), ids=WRONG.keys())
def test_wrong_settings_are_named_at_once(make, error, match):
    with pytest.raises(error, match=match) as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("bad", [-1.0, NAN, INF])
@pytest.mark.parametrize(
    "rule",
    [sam_gradient, rsam_gradient, asam_gradient, stacked_rsam_gradient, gradient_rsam_gradient],
)
def test_the_pure_functions_check_the_radius_too(rule, bad):
    f, w = points()
    noise = {} if rule in (sam_gradient, asam_gradient) else {"noise": 0 * w}
    with pytest.raises(ValueError, match=f"rho .*{bad}"):
        rule(f, w, **noise, rho=bad)


@pytest.mark.parametrize("wrapper", [SAM, RSAM])
def test_a_schedule_that_goes_wrong_later_stops_the_run_there(wrapper):
    f, w = points()
    optimizer = wrapper(SGD(0.1), lambda step: 0.3 - 0.2 * step)
    for _ in range(2):
        optimizer.step(f, w)
    before = w.tobytes()
    with pytest.raises(ValueError, match=r"rho .*-0\.1"):
        optimizer.step(f, w)
    assert w.tobytes() == before


@pytest.mark.parametrize("name", ["lr", "momentum", "rho", "sigma", "lam"])
def test_numpy_scalars_as_settings_change_neither_type_nor_result(name):
    """The values of a sweep, of ``np.linspace``, are float64 scalars; the weights are float32."""
    runs = []
    for number in (float, np.float64):
        c = {"lr": 0.1, "momentum": 0.9, "rho": 0.3, "sigma": 0.05, "lam": 2.0}
        c[name] = number(c[name])
        base = SGD(c["lr"], momentum=c["momentum"])
        model = net("float32")
        trace = train(model, RSAM(base, c["rho"], c["sigma"], c["lam"]), 2)[-1]
        assert trace.perturbation.dtype == trace.noise.dtype == np.float32
        runs.append(model.weights.flat.tobytes())
    assert runs[0] == runs[1]


# Schedules


def test_warmup_rises_evenly_and_hands_over():
    schedule = warmup(2.0, 4, lambda step: 100.0 + step)
    assert [schedule(t) for t in range(7)] == [0.0, 0.5, 1.0, 1.5, 100.0, 101.0, 102.0]
    assert warmup(2.0, 0, lambda step: 100.0 + step)(0) == 100.0


def test_cosine_and_linear():
    for schedule in (cosine(3.0, 10, 1.0), linear(3.0, 10, 1.0)):
        values = [schedule(t) for t in range(13)]
        assert values[0] == 3.0
        assert values[5] == pytest.approx(2.0)
        assert values[10:] == [1.0] * 3
        assert values == sorted(values, reverse=True)
    assert cosine(3.0, 8)(2) == pytest.approx(1.5 * (1 + math.sqrt(0.5)))
    assert linear(3.0, 8)(2) == pytest.approx(2.25)


def test_warmup_then_cosine_peaks_where_they_meet():
    schedule = warmup(0.4, 5, cosine(0.4, 20))
    values = [schedule(t) for t in range(26)]
    assert max(values) == values[5] == 0.4
    assert values[25] == 0.0


@pytest.mark.parametrize("share", [0, 0.1, 0.25, 0.5, 0.75, 1])
def test_rsams_sigma_rises_five_times_along_half_a_cosine(share):
    sigma_0, steps = 0.0005, 1000
    expected = sigma_0 * (1 + 4 * (1 - math.cos(math.pi * share)) / 2)
    assert rsam_sigma(sigma_0, steps)(int(share * steps)) == pytest.approx(expected, rel=1e-14)
    ends = {0: 0.0005, 0.5: 0.0015, 1: 0.0025}
    assert expected == pytest.approx(ends.get(share, expected))


def test_rsams_radius_follows_the_learning_rate():
    lr = warmup(3e-3, 10, linear(3e-3, 90))
    rho = rsam_rho(lr, 3e-3, 10)
    for step, expected in {0: 0.0, 5: 1.25, 10: 2.5, 55: 2.0, 100: 1.5}.items():
        assert rho(step) == pytest.approx(expected), step


def test_a_number_is_a_schedule_that_stays():
    assert [at(0.3, step) for step in (0, 9)] == [0.3, 0.3]
    assert at(lambda step: step / 2, 9) == 4.5


@pytest.mark.parametrize("wrapper", ["sam", "rsam"])
def test_schedules_are_read_at_the_steps_taken(wrapper):
    f, w = points()
    f_rho = linear(0.5, 4, 0.1)
    seen = []
    optimizer = WRAPPERS[wrapper](SGD(lambda step: seen.append(step) or 0.1), f_rho)
    for step in range(4):
        assert optimizer.steps == step
        trace = optimizer.step(f, w)
        assert np.linalg.norm(trace.perturbation) == pytest.approx(f_rho(step))
    assert seen == [0, 1, 2, 3]


# Clipping


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_clipping_below_the_norm_changes_nothing(dtype):
    f, w = points(dtype=dtype)
    length = float(np.linalg.norm(f(w)[1]))
    twin = w.copy()
    SGD(0.1, clip_norm=1.001 * length).step(f, w)
    SGD(0.1).step(f, twin)
    assert w.tobytes() == twin.tobytes()


@given(share=st.floats(1e-4, 0.999))
def test_clipping_above_the_norm_gives_the_norm(share):
    f, w = points()
    gradient = f(w)[1]
    clip_norm = share * np.linalg.norm(gradient)
    before = w.copy()
    SGD(1.0, clip_norm=clip_norm).step(f, w)
    moved = before - w
    assert np.linalg.norm(moved) == pytest.approx(clip_norm, rel=1e-6)
    np.testing.assert_allclose(moved / np.linalg.norm(moved), gradient / np.linalg.norm(gradient))


@pytest.mark.parametrize("wrapper", ["sam", "rsam", "asam"])
def test_it_is_the_second_gradient_that_is_clipped(wrapper):
    """The trace has it as it was found; the first one's length has no part in it."""
    f, w = points()
    before = w.copy()
    trace = WRAPPERS[wrapper](SGD(1.0, clip_norm=0.5), 0.3).step(f, w)
    assert trace.gradient.tobytes() == f(before + trace.perturbation)[1].tobytes()
    assert np.linalg.norm(trace.gradient) > 0.5
    expected = 0.5 * trace.gradient / np.linalg.norm(trace.gradient)
    np.testing.assert_allclose(before - w, expected, rtol=1e-5)


def test_weight_decay_is_added_after_clipping():
    _, w = points()
    before = w.copy()
    SGD(1.0, clip_norm=0.5, weight_decay=0.2).step(lambda w: (0.0, np.full_like(w, 9.0)), w)
    expected = 0.5 * np.full(w.size, 1 / math.sqrt(w.size)) + 0.2 * before
    np.testing.assert_allclose(before - w, expected, rtol=1e-5)


# State


# Each base alone, and each wrapper around each base; with schedules.
OPTIMIZERS: dict[str, Any] = {
    **BASES,
    **{
        f"{name} of {base}": lambda wrapper=wrapper, base=base: wrapper(
            BASES[base](), linear(0.5, 6, 0.1)
        )
        for base in BASES
        for name, wrapper in WRAPPERS.items()
    },
}
every_optimizer = pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())


def steps_of(optimizer):
    return [optimizer.steps, getattr(optimizer, "base", optimizer).steps]


@every_optimizer
def test_a_run_goes_on_from_its_state_bit_for_bit(make):
    model, optimizer = net(), make()
    train(model, optimizer, 3)
    saved = model.state_dict(), optimizer.state_dict()
    kept = copy.deepcopy(saved[1])
    train(model, optimizer, 3, first=3)
    end = [v.tobytes() for v in model.state_dict().values()]
    assert repr(saved[1]) == repr(kept), "a state is a copy"
    assert steps_of(optimizer) == [6, 6]

    for _ in range(2):  # a state can be loaded twice: loading copies as well
        again, resumed = net(seed=1), make()
        again.load_state_dict(saved[0])
        resumed.load_state_dict(saved[1])
        assert steps_of(resumed) == [3, 3]
        train(again, resumed, 3, first=3)
        assert [v.tobytes() for v in again.state_dict().values()] == end


@every_optimizer
def test_a_state_from_before_the_first_step_starts_anew(make):
    optimizer = make()
    start = optimizer.state_dict()
    f, w = points()
    twin = w.copy()
    optimizer.step(f, w)
    optimizer.load_state_dict(start)
    optimizer.step(f, twin)
    assert w.tobytes() == twin.tobytes()


def test_the_bases_settings_may_change_in_the_middle_of_a_run():
    """As a sweep or a plateau schedule does it: the settings are plain attributes."""
    f, w = points()
    base = SGD(0.1)
    optimizer = SAM(base, 0.3)
    base.lr, optimizer.rho = 0.0, 0.0
    before = w.tobytes()
    trace = optimizer.step(f, w)
    assert w.tobytes() == before
    assert not trace.perturbation.any()


def test_a_step_moves_the_given_vector_and_no_other():
    f, w = points()
    same, view = w, w[:]
    before = w.copy()
    SAM(SGD(0.1, momentum=0.9), 0.3).step(f, w)
    assert same is w
    assert np.array_equal(view, w)
    assert not np.array_equal(before, w)


@every_optimizer
def test_single_precision_stays_single(make):
    f, w = points(dtype="float32")
    optimizer = make()
    for _ in range(2):
        trace = optimizer.step(f, w)
    state = optimizer.state_dict()
    arrays = [v for v in {**state, **state.get("base", {})}.values() if isinstance(v, np.ndarray)]
    for array in (w, trace.gradient, trace.perturbation, trace.noise, *arrays):
        assert array is None or array.dtype == np.float32


@pytest.mark.parametrize("make", [*OPTIMIZERS.values(), lambda: SGD(0.1, momentum=0.9)])
def test_a_trace_stays_as_it_was_when_the_run_goes_on(make):
    f, w = points()
    optimizer = make()
    trace = optimizer.step(f, w)
    before = repr(trace)
    train_on = [optimizer.step(f, w) for _ in range(3)]
    assert repr(trace) == before
    assert len({repr(t.gradient) for t in train_on}) == 3


def test_one_gradient_a_step_or_two():
    costs = {"sam": 2, "3-step sam": 4, "asam": 2, "rsam": 2, "stacked": 2, "noise": 1}
    for name, cost in costs.items():
        f, w = points()
        f = Watched(f)
        WRAPPERS[name](SGD(0.1), 0.3).step(f, w)
        assert len(f.visited) == cost, name


# The bases beside PyTorch

PAIRS = {
    "plain": (SGD, torch.optim.SGD, {}),
    "momentum": (SGD, torch.optim.SGD, {"momentum": 0.9, "weight_decay": 0.01}),
    "dampened": (SGD, torch.optim.SGD, {"momentum": 0.9, "dampening": 0.3}),
    "nesterov": (SGD, torch.optim.SGD, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    "adamw": (AdamW, torch.optim.AdamW, {"weight_decay": 0.1}),
    "adamw, other": (AdamW, torch.optim.AdamW, {"betas": (0.8, 0.95), "eps": 1e-3}),
}


@pytest.mark.parametrize("clip_norm", [None, 0.5])
@pytest.mark.parametrize(("ours", "theirs", "settings"), PAIRS.values(), ids=PAIRS.keys())
def test_twenty_steps_beside_torch_in_single_precision(ours, theirs, settings, clip_norm):
    f, w = points(30, "float32")
    twin = torch.nn.Parameter(torch.from_numpy(w.copy()))
    optimizer = ours(0.02, clip_norm=clip_norm, **settings)
    torch_optimizer = theirs([twin], lr=0.02, **settings)
    for _ in range(20):
        optimizer.step(f, w)
        twin.grad = torch.from_numpy(f(twin.detach().numpy())[1])
        if clip_norm is not None:
            torch.nn.utils.clip_grad_norm_([twin], clip_norm)
        torch_optimizer.step()
    np.testing.assert_allclose(w, twin.detach().numpy(), rtol=1e-5, atol=1e-5)


def test_the_defaults_are_torchs():
    f, w = points()
    twin = torch.nn.Parameter(torch.from_numpy(w.copy()))
    optimizer, torch_optimizer = AdamW(), torch.optim.AdamW([twin])
    for _ in range(3):
        twin.grad = torch.from_numpy(f(twin.detach().numpy())[1])
        optimizer.step(f, w)
        torch_optimizer.step()
    np.testing.assert_allclose(w, twin.detach().numpy(), rtol=1e-12)


@pytest.mark.parametrize("wrap", [lambda b: b, SAM, RSAM, lambda b: SAM(b, adaptive=True)])
def test_weights_that_are_no_vector_are_refused(wrap):
    """A norm made with @ would be a matrix, and the step wrong without a word."""
    w = np.arange(1.0, 10).reshape(3, 3)
    with pytest.raises(ValueError, match=r"w is one flat vector of weights, not of shape \(3, 3\)"):
        wrap(SGD(0.1)).step(lambda w: ((w * w).sum() / 2, w), w)


# What a function says of itself


def test_half_of_a_protocol_is_no_protocol():
    f, w = points()
    halves = type("Half", (), {"__call__": lambda self, w: f(w), "begin_step": lambda self: None})
    with pytest.raises(TypeError, match="this Half has no shapes and no abandon_step"):
        SGD(0.1).step(halves(), w)


@pytest.mark.parametrize("method", [SGD(0.1), SAM(SGD(0.1)), RSAM(SGD(0.1))])
def test_an_objective_hidden_in_a_function_is_told(method):
    """Its batch norm and its dropout would not hear of the steps."""
    model = net()
    x, y = next(iter(batches(1)))
    batch = objective(model, x, y)
    before = model.state_dict()
    method.shapes = model.weights.shapes
    with pytest.raises(RuntimeError, match="give the optimizer the objective itself"):
        method.step(lambda w: batch(w), model.weights.flat)
    after = model.state_dict()
    assert all(np.array_equal(before[name], after[name]) for name in before)
    batch(model.weights.flat)  # outside of a step it is a function as any other
    method.step(batch, model.weights.flat)


@pytest.mark.parametrize("fail_at", [1, 2])
@pytest.mark.parametrize("name", ["sam", "rsam"])
def test_batch_norm_forgets_a_step_that_failed(name, fail_at):
    model = net()
    x, y = next(iter(batches(1)))
    before = model.state_dict()
    f = Watched(objective(model, x, y), fail_at=fail_at)
    with pytest.raises(ArithmeticError):
        WRAPPERS[name](SGD(0.1), 0.3).step(f, model.weights.flat)
    after = model.state_dict()
    assert all(np.array_equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("of_a_model", [lambda m: m, lambda m: m.weights, lambda m: m.parameters()])
def test_a_model_in_place_of_its_vector_is_told(of_a_model):
    model = models.mlp((4, 5, 2))
    f = objective(model, np.ones((3, 4)), np.array([0, 1, 0]))
    for optimizer in (SGD(0.1), SAM(SGD(0.1))):
        with pytest.raises(TypeError, match=r"it is step\(f, model.weights.flat\)"):
            optimizer.step(f, of_a_model(model))
