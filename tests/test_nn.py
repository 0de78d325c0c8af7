"""Layers, models and objectives beside PyTorch's, with the same weights and the same names."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp
from torch import nn as tnn

from rsam_backends import Stream
from rsam_ref import GraphError, ShapeError, Tensor, models, nn, no_grad, objective, rsam_gradient
from rsam_ref.algorithms.noise import filter_noise
from rsam_ref.autograd import ops
from tests.helpers.oracle import assert_close, normal

# Ours, theirs, the input's shape.
TWINS = {
    "Linear": (lambda: nn.Linear(4, 3), lambda: tnn.Linear(4, 3), (5, 4)),
    "Linear of rows": (
        lambda: nn.Linear(4, 3, bias=False),
        lambda: tnn.Linear(4, 3, bias=False),
        (2, 5, 4),
    ),
    "Conv2d": (lambda: nn.Conv2d(2, 3, 3), lambda: tnn.Conv2d(2, 3, 3), (2, 2, 5, 6)),
    "Conv2d, all options": (
        lambda: nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 2), groups=2, bias=False),
        lambda: tnn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 2), groups=2, bias=False),
        (2, 4, 5, 6),
    ),
    "BatchNorm2d": (
        lambda: nn.BatchNorm2d(3, eps=1e-3, momentum=0.3),
        lambda: tnn.BatchNorm2d(3, eps=1e-3, momentum=0.3),
        (4, 3, 2, 2),
    ),
    "LayerNorm": (lambda: nn.LayerNorm(6, 1e-3), lambda: tnn.LayerNorm(6, 1e-3), (2, 3, 6)),
    "GroupNorm": (
        lambda: nn.GroupNorm(2, 6, 1e-3),
        lambda: tnn.GroupNorm(2, 6, 1e-3),
        (3, 6, 2, 3),
    ),
    "ReLU": (nn.ReLU, tnn.ReLU, (3, 4)),
    "GELU": (nn.GELU, tnn.GELU, (3, 4)),
    "GELU by tanh": (lambda: nn.GELU("tanh"), lambda: tnn.GELU("tanh"), (3, 4)),
    "Tanh": (nn.Tanh, tnn.Tanh, (3, 4)),
    "MaxPool2d": (lambda: nn.MaxPool2d(2), lambda: tnn.MaxPool2d(2), (2, 3, 4, 6)),
    "MaxPool2d, all options": (
        lambda: nn.MaxPool2d(3, 2, 1),
        lambda: tnn.MaxPool2d(3, 2, 1),
        (2, 3, 5, 6),
    ),
    "GlobalAvgPool2d": (
        nn.GlobalAvgPool2d,
        lambda: tnn.Sequential(tnn.AdaptiveAvgPool2d(1), tnn.Flatten()),
        (2, 3, 4, 5),
    ),
    "Flatten": (nn.Flatten, tnn.Flatten, (2, 3, 4)),
    "Sequential": (
        lambda: nn.Sequential(nn.Linear(4, 5), nn.Sequential(nn.Tanh(), nn.Linear(5, 2))),
        lambda: tnn.Sequential(tnn.Linear(4, 5), tnn.Sequential(tnn.Tanh(), tnn.Linear(5, 2))),
        (3, 4),
    ),
    "mlp": (
        lambda: models.mlp([4, 6, 5, 3]),
        lambda: tnn.Sequential(
            *(tnn.Linear(4, 6), tnn.ReLU(), tnn.Linear(6, 5), tnn.ReLU(), tnn.Linear(5, 3))
        ),
        (7, 4),
    ),
    "cnn": (
        lambda: models.cnn(channels=2, size=8, classes=3, width=4),
        lambda: tnn.Sequential(
            tnn.Conv2d(2, 4, 3, padding=1),
            *(tnn.ReLU(), tnn.MaxPool2d(2)),
            tnn.Conv2d(4, 8, 3, padding=1),
            *(tnn.ReLU(), tnn.MaxPool2d(2)),
            tnn.Flatten(),
            tnn.Linear(32, 3),
        ),
        (5, 2, 8, 8),
    ),
    "normalised cnn": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 4)
        ),
        lambda: tnn.Sequential(
            tnn.Conv2d(1, 3, 3), tnn.BatchNorm2d(3), tnn.ReLU(), tnn.Flatten(), tnn.Linear(12, 4)
        ),
        (6, 1, 4, 4),
    ),
}


def twins(name, seed=0):
    """Both models in float64 with the same random weights, and a batch."""
    make_ours, make_theirs, shape = TWINS[name]
    ours, theirs = make_ours().build(0, "float64"), make_theirs().double()
    weights, x = normal(seed, ours.weights.flat.shape, shape)
    ours.weights.flat[...] = weights
    carry_over(ours, theirs)
    return ours, theirs, x


def carry_over(ours, theirs):
    state = {key: torch.tensor(value) for key, value in ours.state_dict().items()}
    theirs.load_state_dict(state, strict=True)


def flat_gradient(theirs):
    """PyTorch's gradients end to end, 0 where there is none."""
    parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in theirs.parameters()]
    return torch.cat([part.ravel() for part in parts] or [torch.zeros(0)]).numpy()


def assert_same_state(ours, theirs):
    state = {k: v for k, v in theirs.state_dict().items() if "num_batches" not in k}
    assert list(ours.state_dict()) == list(ours.weights.names) + [
        key for key in state if key not in ours.weights.names
    ]
    for key, value in ours.state_dict().items():
        assert_close(key, value, state[key].numpy())


@pytest.mark.parametrize("name", TWINS)
def test_outputs_and_gradients(name):
    ours, theirs, x = twins(name)
    given, given_theirs = ops.Tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    out, expected = ours(given), theirs(given_theirs)
    assert_close(f"{name}: output", out.data, expected.detach())
    seed = normal(1, out.shape)[0]
    out.backward(seed)
    expected.backward(torch.tensor(seed))
    assert_close(f"{name}: gradient at the input", given.grad, given_theirs.grad)
    assert_close(f"{name}: gradient at the weights", ours.weights.gradient, flat_gradient(theirs))
    assert_same_state(ours, theirs)


@pytest.mark.parametrize("name", TWINS)
def test_states_are_taken_over_from_torch(name):
    make_ours, make_theirs, shape = TWINS[name]
    ours, theirs = make_ours(), make_theirs()
    x = normal(0, shape)[0].astype("float32")
    theirs(torch.tensor(x))  # moves the running statistics
    ours.load_state_dict(theirs.state_dict())
    assert_same_state(ours, theirs)
    with no_grad(), torch.no_grad():
        found, expected = ours.eval()(x).data, theirs.eval()(torch.tensor(x))
    assert found.dtype == "float32"
    assert_close(f"{name}: output", found, expected, 1e-5)


def test_running_statistics_after_three_batches():
    ours, theirs, _ = twins("normalised cnn")
    for x in normal(2, *[(6, 1, 4, 4)] * 3):
        assert_close("training output", ours(x).data, theirs(torch.tensor(x)).detach())
    assert_same_state(ours, theirs)
    before = ours.state_dict()
    ours.eval(), theirs.eval()
    x = normal(3, (6, 1, 4, 4))[0]
    out, expected = ours(x), theirs(torch.tensor(x))
    assert_close("output in evaluation", out.data, expected.detach())
    out.sum().backward()
    expected.sum().backward()
    assert_close("gradient in evaluation", ours.weights.gradient, flat_gradient(theirs))
    after = ours.state_dict()
    assert all((before[key] == after[key]).all() for key in before)


# The flat vector


class Ours(nn.Module):
    def __init__(self):
        self.blocks = [nn.Conv2d(1, 2, 3), nn.Sequential(nn.BatchNorm2d(2), nn.ReLU())]
        self.head = nn.Linear(8, 3)
        self.unused = nn.Linear(2, 2)
        self.scale = nn.Parameter((3,), nn.constant(1.0))

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.head(x.reshape(x.shape[0], -1)) * self.scale


class Theirs(tnn.Module):
    def __init__(self):
        super().__init__()
        block = tnn.Sequential(tnn.BatchNorm2d(2), tnn.ReLU())
        self.blocks = tnn.ModuleList([tnn.Conv2d(1, 2, 3), block])
        self.head = tnn.Linear(8, 3)
        self.unused = tnn.Linear(2, 2)
        self.scale = tnn.Parameter(torch.ones(3))

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.head(x.flatten(1)) * self.scale


TWINS["a module of one's own"] = (Ours, Theirs, (5, 1, 4, 4))


@pytest.mark.parametrize("name", TWINS)
def test_the_flat_vector_has_torchs_names_and_order(name):
    ours, theirs, _ = twins(name)
    assert ours.weights.names == [key for key, _ in theirs.named_parameters()]
    flat = [p.detach().ravel() for p in theirs.parameters()]
    np.testing.assert_array_equal(ours.weights.flat, torch.cat(flat or [torch.zeros(0)]).numpy())


@pytest.mark.parametrize("name", ["cnn", "a module of one's own"])
def test_parameters_are_views_and_filters_are_runs(name):
    ours, _, _ = twins(name)
    weights = ours.weights
    assert weights.flat.flags.c_contiguous
    assert weights.slices[0].start == 0
    assert weights.slices[-1].stop == weights.flat.size
    for p, at in zip(weights.parameters, weights.slices):
        assert np.shares_memory(p.data, weights.flat[at])
        start = at.start
        for i in range(p.shape[0]):
            one_filter = p.data[i : i + 1]
            run = weights.flat[start : start + one_filter.size]
            assert np.shares_memory(one_filter, run)
            np.testing.assert_array_equal(one_filter.ravel(), run)
            start += one_filter.size
        assert start == at.stop
    weights.flat[...] = 7  # still allowed, though `data` is read-only
    assert all((p.data == 7).all() for p in weights.parameters)


def test_a_copy_of_a_model_follows_its_own_weights():
    model = models.mlp([3, 4, 2])
    other = copy.deepcopy(model)
    other.weights.flat[...] = 0
    x = np.ones((1, 3), "float32")
    assert (other(x).data == 0).all()
    assert (model(x).data != 0).any()


@pytest.mark.parametrize("kind", ["one name", "two names"])
def test_a_layer_used_twice(kind):
    class Tied(nn.Module):
        def __init__(self):
            self.a = nn.Linear(3, 3)
            if kind == "two names":
                self.b = self.a

        def forward(self, x):
            return getattr(self, "b", self.a)(self.a(x))

    ours = Tied().build(0, "float64")
    theirs = tnn.Linear(3, 3).double()
    state = ours.state_dict()
    theirs.load_state_dict({key: torch.tensor(state[f"a.{key}"]) for key in ("weight", "bias")})
    x, y = normal(0, (4, 3))[0], np.array([0, 1, 2, 0])
    loss, gradient = objective(ours, x, y)(ours.weights.flat)
    expected = tnn.functional.cross_entropy(theirs(theirs(torch.tensor(x))), torch.tensor(y))
    expected.backward()
    assert_close("loss", loss, expected.item())
    assert ours.weights.names == ["a.weight", "a.bias"]
    assert_close("gradient", gradient, flat_gradient(theirs))


# First weights


@pytest.mark.parametrize(
    ("ours", "theirs", "fan_in"),
    [
        (nn.Linear(300, 200), tnn.Linear(300, 200), 300),
        (nn.Linear(3, 20000), tnn.Linear(3, 20000), 3),
        (nn.Conv2d(16, 64, 3), tnn.Conv2d(16, 64, 3), 144),
        (nn.Conv2d(4, 20000, (2, 1), groups=4), tnn.Conv2d(4, 20000, (2, 1), groups=4), 2),
    ],
    ids=["matrix", "biases", "filters", "grouped filters"],
)
def test_first_weights_are_distributed_as_in_torch(ours, theirs, fan_in):
    torch.manual_seed(0)
    theirs.reset_parameters()
    bound, state = 1 / math.sqrt(fan_in), ours.build(1).state_dict()
    for key, drawn in state.items():
        expected = theirs.state_dict()[key].numpy()
        assert np.abs(drawn).max() <= bound
        if drawn.size > 1000:
            assert np.abs(drawn).max() > 0.99 * bound
            assert ks_2samp(drawn.ravel(), expected.ravel(), method="asymp").pvalue > 1e-3


@pytest.mark.parametrize("build", [models.mlp, lambda sizes, **given: models.cnn(**given)])
def test_seeds_name_the_weights(build):
    first, again, other = (build([4, 4, 4], seed=seed).weights for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.flat, again.flat)
    for a, b in zip(first.views(first.flat), other.views(other.flat)):
        assert not (a == b).any()


def test_layers_draw_different_weights():
    weights = models.mlp([4, 4, 4]).weights
    first, _, second, _ = weights.views(weights.flat)
    assert not (first == second).any()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_type_of_a_model(dtype):
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten()).build(0, dtype)
    out = model(np.ones((2, 1, 4, 4), dtype))
    out.sum().backward()
    arrays = [model.weights.flat, out, model.weights.gradient, *model.state_dict().values()]
    assert {str(a.dtype) for a in arrays} == {dtype}
    if dtype == "float64":
        assert (model.weights.flat != model.weights.flat.astype("float32")).any()


def test_a_model_builds_itself_at_the_first_call():
    implicit, explicit = nn.Linear(3, 2), nn.Linear(3, 2).build(0, "float32")
    x = np.ones((1, 3), "float32")
    np.testing.assert_array_equal(implicit(x).data, explicit(x).data)


# States


def spoil(key, change):
    def apply(state):
        state[key] = change(state[key])

    return apply


def not_finite(array):
    array.flat[-1] = np.nan
    return array


@pytest.mark.parametrize(
    ("spoilt", "error", "match"),
    [
        (lambda state: state.pop("4.bias"), KeyError, r"no 4\.bias"),
        (lambda state: state.pop("1.running_var"), KeyError, r"no 1\.running_var"),
        (lambda state: state.update(extra=np.ones(1)), KeyError, "no extra"),
        (spoil("4.weight", np.transpose), ValueError, r"4\.weight.*\(12, 4\).*\(4, 12\)"),
        (spoil("1.running_mean", lambda a: a[:1]), ValueError, r"1\.running_mean.*\(1,\).*\(3,\)"),
        (spoil("4.bias", not_finite), ValueError, r"4\.bias.*not finite"),
        (spoil("1.running_var", not_finite), ValueError, r"1\.running_var.*not finite"),
    ],
)
def test_a_wrong_state_changes_nothing(spoilt, error, match):
    model, _, _ = twins("normalised cnn")
    before = model.state_dict()
    state = {key: value + 1 for key, value in before.items()}
    spoilt(state)
    with pytest.raises(error, match=match):
        model.load_state_dict(state)
    after = model.state_dict()
    assert all((before[key] == after[key]).all() for key in before)


def test_states_are_copies():
    model, _, _ = twins("normalised cnn")
    flat, state = model.weights.flat, model.state_dict()
    model.load_state_dict(state)
    assert model.weights.flat is flat
    before = model.state_dict()
    for value in state.values():
        value += 1
    after = model.state_dict()
    assert all((before[key] == after[key]).all() for key in before)


# Objectives


@pytest.fixture
def problem():
    """Twin models with a part that the loss does not depend on, and a batch."""
    ours, theirs, x = twins("a module of one's own")
    return ours, theirs, x, np.array([0, 2, 1, 2, 0])


def torch_loss_and_gradient(theirs, x, y):
    theirs.zero_grad()
    loss = tnn.functional.cross_entropy(theirs(torch.tensor(x)), torch.tensor(y))
    loss.backward()
    return loss.item(), flat_gradient(theirs)


def test_loss_and_gradient(problem):
    ours, theirs, x, y = problem
    loss, gradient = objective(ours, x, y)(ours.weights.flat)
    expected = torch_loss_and_gradient(theirs, x, y)
    assert_close("loss", loss, expected[0])
    assert_close("gradient", gradient, expected[1])
    at = ours.weights.slices[ours.weights.names.index("unused.weight")]
    assert (gradient[at] == 0).all()
    again = objective(ours, x, y)(ours.weights.flat)[1]
    assert not np.shares_memory(gradient, again)
    np.testing.assert_array_equal(gradient, again)


def test_the_weights_are_looked_at_elsewhere_and_not_changed(problem):
    ours, theirs, x, y = problem
    flat, before = ours.weights.flat, ours.weights.flat.copy()
    w = before + normal(5, before.shape)[0]
    kept = w.copy()
    loss, gradient = objective(ours, x, y)(w)
    assert ours.weights.flat is flat
    np.testing.assert_array_equal(flat.view("int64"), before.view("int64"))
    np.testing.assert_array_equal(w, kept)
    assert all(np.shares_memory(p.data, flat) for p in ours.weights.parameters)
    assert all(p.grad is None for p in ours.weights.parameters)
    flat[...] = w
    carry_over(ours, theirs)
    expected = torch_loss_and_gradient(theirs, x, y)
    assert_close("loss", loss, expected[0])
    assert_close("gradient", gradient, expected[1])


def test_a_failing_loss_leaves_the_model_as_it_was(problem):
    ours, _, x, y = problem
    w = ours.weights.flat + 1

    def failing(out, y):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        objective(ours, x, y, failing)(w)
    assert all(np.shares_memory(p.data, ours.weights.flat) for p in ours.weights.parameters)
    out = ours(x).sum()  # guarded again, and gradients go to the parameters again
    out.backward()
    assert np.abs(ours.weights.gradient).max() > 0


def test_the_batch_stays_the_callers(problem):
    ours, _, x, y = problem
    before = x.copy()
    objective(ours, x, y, lambda out, y: (out * y.data[:, None]).sum())(ours.weights.flat)
    np.testing.assert_array_equal(x, before)
    x[...], y[...] = 0, 0  # neither has become read-only


def test_inputs_take_the_type_of_the_model():
    model = models.mlp([3, 2])
    loss, gradient = objective(model, np.ones((4, 3)), np.zeros(4, int))(model.weights.flat)
    assert loss.dtype == gradient.dtype == "float32"


def test_weights_take_the_type_of_the_model():
    """A radius that is a float64 scalar of NumPy widens the vectors of the pure functions."""
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten()).build()
    x, y = np.ones((3, 1, 4, 4), "float32"), np.zeros(3, int)
    w, shapes = model.weights.flat, model.weights.shapes
    noise = filter_noise(w, shapes, sigma=np.float64(0.01), stream=Stream("noise"))
    assert noise.dtype == "float32"
    trace = rsam_gradient(objective(model, x, y), w, noise, rho=np.float64(0.1))
    assert trace.gradient.dtype == trace.adversarial_loss.dtype == "float32"
    assert {values.dtype.name for values in model.state_dict().values()} == {"float32"}


def test_tensors_are_inputs_as_well(problem):
    ours, _, x, y = problem
    w = ours.weights.flat
    loss = lambda out, y: (out * y.data[:, None]).sum()
    expected = objective(ours, x, y, loss)(w)[1]
    np.testing.assert_array_equal(objective(ours, Tensor(x), Tensor(y), loss)(w)[1], expected)


def test_objectives_check_shapes(problem):
    ours, _, x, y = problem
    with pytest.raises(ShapeError, match=r"objective:.*\(5, 1, 4, 4\).*\(4,\).*give"):
        objective(ours, x, y[:4])
    with pytest.raises(ShapeError, match="a mini-batch of no samples"):
        objective(ours, x[:0], y[:0])
    for w in (ours.weights.flat[:-1], ours.weights.flat[None], 3.0):
        with pytest.raises(ShapeError, match=rf"objective:.* {ours.weights.flat.size} .*give"):
            objective(ours, x, y)(w)


def test_running_statistics_move_once_a_step_from_its_first_pass(problem):
    ours, theirs, x, y = problem
    f, w = objective(ours, x, y), ours.weights.flat
    for step in range(3):
        if step:
            f.begin_step()
        first = w + 0.1 * step
        for offset in (0.0, 0.5, -0.5):
            f(first + offset)
        for p, view in zip(theirs.parameters(), ours.weights.views(first)):
            p.data = torch.tensor(view)
        theirs(torch.tensor(x))
        for key, value in ours.state_dict().items():
            if "running" in key:
                assert_close(f"step {step}: {key}", value, theirs.state_dict()[key])


def test_dropout_masks_last_for_a_step():
    model = nn.Sequential(nn.Linear(4, 50), nn.Dropout(0.5), nn.Dropout(0.5)).build(0, "float64")
    seen = []

    def loss(out, y):
        seen.append(out.data != 0)
        return out.sum()

    f = objective(model, np.ones((3, 4)), np.zeros(3), loss, seed=1)
    w = model.weights.flat
    for offset in (0.0, 0.1):
        f(w + offset)
    f.begin_step()
    f(w)
    objective(model, np.ones((3, 4)), np.zeros(3), loss, seed=2)(w)
    objective(model, np.ones((3, 4)), np.zeros(3), loss, seed=1)(w)
    np.testing.assert_array_equal(seen[0], seen[1])
    np.testing.assert_array_equal(seen[0], seen[4])
    assert (seen[0] != seen[2]).any()
    assert (seen[0] != seen[3]).any()
    assert 0.1 < seen[0].mean() < 0.4  # a quarter; half if both layers had the same mask


def test_dropout_outside_of_an_objective():
    model, x = nn.Dropout(0.5).build(), np.ones((4, 25), "float32")
    assert (model(x).data != model(x).data).any()
    model.eval()
    np.testing.assert_array_equal(model(x).data, x)
    np.testing.assert_array_equal(nn.Dropout(0).build()(x).data, x)


# Where values stop being finite


class Overflow(nn.Module):
    def forward(self, x):
        return x * math.inf


def test_first_not_finite_names_the_layer():
    broken = nn.Sequential(
        nn.Linear(3, 4), nn.Sequential(nn.Tanh(), Overflow()), nn.BatchNorm2d(4), nn.Linear(4, 2)
    ).build(0, "float64")
    sound = models.mlp([3, 4, 2], dtype="float64")
    x, before = normal(0, (5, 3))[0], broken.state_dict()
    with np.errstate(all="ignore"):
        assert "1.1 (Overflow)" in nn.first_not_finite(broken, x)
        assert "1.1 (Overflow)" in nn.first_not_finite(broken, x)
        assert "model (Overflow)" in nn.first_not_finite(Overflow().build(), x)
    after = broken.state_dict()
    assert all((before[key] == after[key]).all() for key in before)
    assert nn.first_not_finite(sound, x) is None
    sound.weights.flat[sound.weights.slices[2].start] = np.nan
    assert "2.weight" in nn.first_not_finite(sound, x)


# Misuse


@pytest.mark.parametrize(
    "build",
    [
        lambda: models.mlp([3]),
        lambda: models.mlp([3, 0, 2]),
        lambda: models.cnn(size=30),
        lambda: nn.Conv2d(3, 4, 3, groups=2),
        lambda: nn.Linear(0, 2),
        lambda: nn.Conv2d(1, 0, 3),
        lambda: nn.Conv2d(1, 2, 0),
        lambda: nn.Conv2d(2, 2, 3, groups=0),
        lambda: nn.Dropout(1),
        lambda: nn.Dropout(-0.1),
        lambda: nn.GELU("exact"),
    ],
)
def test_impossible_layers_are_errors(build):
    with pytest.raises(ValueError, match=r"not|cannot"):
        build()


@pytest.mark.parametrize(("made_for", "given"), [(4, 3), (3, 1), (1, 3)])
def test_batch_norm_of_other_channels_changes_nothing(made_for, given):
    layer = nn.BatchNorm2d(made_for).build()
    before = layer.state_dict()
    message = (
        rf"BatchNorm2d: inputs of shape \(2, {given}, 4, 4\), but it is for {made_for} channels"
    )
    with pytest.raises(ShapeError, match=message):
        layer(np.ones((2, given, 4, 4), "float32"))
    after = layer.state_dict()
    assert all(before[name].tobytes() == after[name].tobytes() for name in before)


class Holding(nn.Module):
    def __init__(self, what):
        self.held = what
        self.linear = nn.Linear(3, 3)

    def forward(self, x):
        return self.linear(x)


@pytest.mark.parametrize(
    "what",
    [
        lambda: {"a": nn.Linear(3, 3)},
        lambda: [[nn.Linear(3, 3)]],
        lambda: [nn.Parameter((3,), nn.constant(1))],
        lambda: {"a": [nn.Parameter((3,), nn.constant(1))]},
        lambda: ({"a": nn.Tanh()},),
    ],
)
def test_what_would_not_be_trained_is_refused(what):
    with pytest.raises(TypeError, match=r"Holding.held: what lies in it would never be trained"):
        nn.Sequential(Holding(what())).build()


def test_what_is_no_module_may_lie_anywhere():
    model = Holding({"a": [1, "b"], "c": {np.float32(1)}}).build()
    other = Holding([nn.Linear(3, 3), nn.Tanh(), 3, None]).build()
    assert model.weights.names == ["linear.weight", "linear.bias"]
    assert other.weights.names == ["held.0.weight", "held.0.bias", *model.weights.names]


def test_a_module_that_comes_after_the_building_is_refused():
    model: Any = nn.Sequential(nn.Linear(3, 3)).build()
    model.layers.append(nn.Linear(3, 2))
    with pytest.raises(RuntimeError, match="this Linear was no part of the Sequential when"):
        model(np.ones((2, 3), "float32"))
    model.build()
    assert model(np.ones((2, 3), "float32")).shape == (2, 2)


def test_a_whole_model_may_be_used_inside_another():
    inner = nn.Linear(3, 3).build(seed=1)

    class Outer(Holding):
        def forward(self, x):
            return self.linear(x) + self.held(x)

    model = Outer(lambda x: inner(x)).build()
    model(np.ones((2, 3), "float32")).sum().backward()
    assert np.abs(model.weights.gradient).max() > 0


def test_an_input_that_passes_through_keeps_its_gradient():
    model: Any = nn.Sequential(nn.Dropout(0.5), nn.Linear(3, 3)).build().eval()
    model.layers.pop()
    x = Tensor(np.ones((2, 3), "float32"), requires_grad=True)
    model(x).sum().backward()
    np.testing.assert_array_equal(x.grad, np.ones((2, 3)))


def test_a_part_has_no_flat_vector_of_its_own():
    model: Any = models.mlp([3, 4, 2])
    with pytest.raises(AttributeError, match="part of a larger model"):
        model.layers[0].weights  # noqa: B018
    with pytest.raises(NotImplementedError, match="Module"):
        nn.Module()(np.ones(1))


def test_evaluation_leaves_nothing_on_the_tape():
    with no_grad(), pytest.raises(GraphError):
        models.mlp([3, 2])(np.ones((1, 3), "float32")).sum().backward()


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model._orig_mod."])
def test_a_state_with_a_prefix_says_so_in_one_short_line(prefix):
    model = models.resnet20()
    state = {prefix + name: array for name, array in model.state_dict().items()}
    with pytest.raises(KeyError) as told:
        model.load_state_dict(state)
    assert told.value.args[0].startswith(f'the names of the state begin with "{prefix}"')
    assert len(told.value.args[0]) < 160
    model.load_state_dict({name.removeprefix(prefix): value for name, value in state.items()})


@pytest.mark.parametrize("dtype", ["float16", np.float16, "int64", "single"])
def test_weights_are_of_two_types(dtype):
    with pytest.raises(ValueError, match="a model's weights are float32 or float64, not"):
        models.mlp([2, 2], dtype=dtype)


@pytest.mark.parametrize("kind", ["int64", "uint8", "bool"])
def test_whole_numbers_as_inputs_leave_the_models_type(kind):
    """NumPy makes float64 of int64 beside float32, but not of uint8."""
    for model, shape in ((models.mlp([4, 3]), (2, 4)), (models.cnn(size=8, width=2), (2, 1, 8, 8))):
        x = np.arange(np.prod(shape)).reshape(shape).astype(kind)
        loss, _ = objective(model, x, np.array([0, 1]))(model.weights.flat)
        wide, _ = objective(model, x.astype("float32"), np.array([0, 1]))(model.weights.flat)
        assert loss.dtype == "float32"
        np.testing.assert_allclose(loss, wide, rtol=1e-6)
        assert model(x).dtype == "float32"
