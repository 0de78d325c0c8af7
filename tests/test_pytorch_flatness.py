"""`rsam_ref.pytorch.objective` and `flatness`: ours and PyTorch's agree, and nothing is changed."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch.func import functional_call
from torch.nn.utils import parameters_to_vector
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset

from rsam_backends import Stream
from rsam_ref import models, rsam_gradient, sam_gradient
from rsam_ref.algorithms.noise import filter_noise, filter_scale
from rsam_ref.pytorch import flatness, objective
from rsam_ref.pytorch.filters import filter_norms
from rsam_ref.sharpness import (
    Landscape,
    average_sharpness,
    filter_normalised_direction,
    gradient_stability,
    hessian_eigenvalues,
    inner_maximum,
    loss_over_plane,
    rho_sharpness,
)
from rsam_ref.sharpness.survey import MEASURES, SurveySettings
from tests.helpers.torch_models import CifarResNet

QUICK = SurveySettings(
    rhos=(0.1,),
    sigmas=(1e-2,),
    batches=2,
    draws=2,
    directions=1,
    points=3,
    steps=10,
    restarts=1,
    eigenvalues=2,
    lowest=1,
    parts=2,
    probes=2,
    iterations=20,
)


def stream(*key):
    return Stream("test", *key)


def classes(n, k=10, seed=0):
    return np.random.default_rng(seed).integers(0, k, n)


def images(*shape, seed=1):
    return np.random.default_rng(seed).standard_normal(shape)


def convolutions():
    """Every kind of layer whose state or draws a look at it could move."""
    return nn.Sequential(
        nn.Conv2d(2, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Dropout(0.4),
        nn.ConvTranspose2d(4, 6, 3, groups=2),
        nn.Flatten(),
        nn.Linear(6 * 36, 5),
    )


@pytest.fixture(autouse=True)
def own_draws():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


# The same weights here and there


def mlps():
    ours = models.mlp([64, 16, 16, 10], seed=3, dtype="float64")
    layers = [nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 10)]
    return ours, nn.Sequential(nn.Flatten(), *layers), images(40, 64)


def cnns():
    ours = models.make_model("cnn", shape=(1, 8, 8), classes=10, seed=2, dtype="float64", width=3)
    theirs = nn.Sequential(
        *(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(24, 10)),
    )
    return ours, theirs, images(20, 1, 8, 8)


def resnets():
    ours = models.resnet20(seed=4).build(4, "float64")
    return ours, CifarResNet(20), images(6, 3, 12, 12)


TWINS = {"mlp": mlps, "cnn": cnns, "resnet20": resnets}


def losses(name, *, batch_statistics):
    ours, theirs, x = TWINS[name]()
    theirs = theirs.double()
    given = {name: torch.tensor(value) for name, value in ours.state_dict().items()}
    own = theirs.state_dict()
    if name != "resnet20":  # whose names are ours; here the order is
        given = dict(zip(own, given.values(), strict=True))
    theirs.load_state_dict(own | given)
    y = classes(len(x))
    here = Landscape(ours, x, y, batch_statistics=batch_statistics)
    there = objective(theirs, F.cross_entropy, (x, y), batch_statistics=batch_statistics)
    np.testing.assert_array_equal(there.w.numpy(), ours.weights.flat)
    return here, ours.weights.flat, there


VALUES = {
    "loss": lambda f, w: float(f(w)[0]),
    "SAM": lambda f, w: float(sam_gradient(f, w, rho=0.1).adversarial_loss),
    "R-SAM": lambda f, w: float(
        rsam_gradient(
            f, w, filter_noise(w, f.shapes, sigma=0.01, stream=stream()), rho=0.1
        ).adversarial_loss
    ),
    "plane": lambda f, w: loss_over_plane(
        f.loss,
        w,
        filter_normalised_direction(w, f.shapes, stream(0)),
        filter_normalised_direction(w, f.shapes, stream(1)),
        [-0.1, 0.1],
        [0, 0.1],
    ).tolist(),
    "worst": lambda f, w: rho_sharpness(f, w, rho=0.1, steps=6, restarts=1, stream=stream()).rise,
    "average": lambda f, w: (
        average_sharpness(f.loss, w, f.shapes, sigma=0.01, draws=2, stream=stream()).mean
    ),
    "stability": lambda f, w: (
        gradient_stability(f, w, f.shapes, sigma=0.01, draws=2, stream=stream()).mean
    ),
    "inner": lambda f, w: [
        reached.rise
        for reached in inner_maximum(
            f, w, f.shapes, rho=0.1, draws=1, steps=10, restarts=1, stream=stream()
        ).reached
    ],
}


@pytest.mark.parametrize("name", TWINS)
@pytest.mark.parametrize("batch_statistics", [False, True])
def test_every_measure_is_the_same_here_and_in_pytorch(name, batch_statistics):
    here, w, there = losses(name, batch_statistics=batch_statistics)
    for measure, value in VALUES.items():
        found, expected = np.array(value(there, there.w)), np.array(value(here, w))
        assert np.isfinite(expected).all()
        scale = np.abs(expected).max()
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10 * scale, err_msg=measure)


# The Hessian


def networks():
    def dense(activation):
        return nn.Sequential(
            *(nn.Linear(64, 16), activation(), nn.Linear(16, 16), activation()), nn.Linear(16, 10)
        )

    small = nn.Sequential(
        *(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU()),
        *(nn.Conv2d(4, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()),
        nn.Linear(16, 10),
    )
    return {"relu": dense(nn.ReLU), "tanh": dense(nn.Tanh), "batch norm": small}


def whole_hessian(model, x, y):
    """By double backward, a row at a time, with the model's own parameters."""
    names = [name for name, _ in model.named_parameters()]
    weights = [p.detach().clone().requires_grad_() for p in model.parameters()]
    loss = F.cross_entropy(functional_call(model, dict(zip(names, weights)), (x,)), y)
    gradient = torch.cat(
        [g.reshape(-1) for g in torch.autograd.grad(loss, weights, create_graph=True)]
    )
    rows = []
    for g in gradient:
        row = torch.autograd.grad(g, weights, retain_graph=True, allow_unused=True)
        parts = [0 * w if r is None else r for r, w in zip(row, weights)]
        rows.append(torch.cat([part.reshape(-1) for part in parts]))
    return torch.stack(rows)


@pytest.mark.parametrize("name", networks())
def test_eigenvalues_are_those_of_the_whole_hessian(name):
    model = networks()[name].double()
    x = torch.randn(60, 64, dtype=torch.float64)
    if name == "batch norm":
        x = x.reshape(60, 1, 8, 8)
        model(3 * x)  # statistics of its own
    model.eval()
    y = torch.tensor(classes(60))
    whole = whole_hessian(model, x, y)
    exact = torch.linalg.eigvalsh(whole).flip(0)[:5].numpy()
    loss = objective(model, F.cross_entropy, [(x[:25], y[:25]), (x[25:], y[25:])])
    v = torch.randn(loss.w.shape, dtype=torch.float64)
    product = loss.hessian_product(loss.w, v)
    assert float((product - whole @ v).norm() / (whole @ v).norm()) < 1e-12
    found = hessian_eigenvalues(loss, loss.w, 5, iterations=200, tolerance=1e-6, stream=stream())
    np.testing.assert_allclose(found.values, exact, rtol=1e-8)


@pytest.mark.parametrize("batch_statistics", [False, True])
def test_products_are_the_differences_of_gradients(batch_statistics):
    x, y = torch.randn(9, 2, 6, 6), torch.tensor(classes(9, 5))
    model = convolutions()
    model[2] = nn.Tanh()
    loss = objective(
        model, F.cross_entropy, (x, y), batch_statistics=batch_statistics, dtype=torch.float64
    )
    w, h = loss.w, 1e-5
    v = torch.randn_like(w)
    difference = (loss(w + h * v)[1] - loss(w - h * v)[1]) / (2 * h)
    found = loss.hessian_product(w, v)
    assert float((found - difference).norm() / difference.norm()) < 1e-7


def test_attention_has_its_second_derivative():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation="gelu")
    model = nn.Sequential(layer, nn.Flatten(), nn.Linear(24, 5))
    loss = objective(
        model, F.cross_entropy, (torch.randn(4, 3, 8), torch.arange(4)), dtype=torch.float64
    )
    w, h = loss.w, 1e-5
    v = torch.randn_like(w)
    difference = (loss(w + h * v)[1] - loss(w - h * v)[1]) / (2 * h)
    assert float((loss.hessian_product(w, v) - difference).norm() / difference.norm()) < 1e-7


def slope_and_curvature(loss):
    """How far gradient and product are from differences of the loss and of the gradient."""
    w, h = loss.w, 1e-5
    v = torch.randn(w.shape, dtype=w.dtype)
    slope = (loss.loss(w + h * v) - loss.loss(w - h * v)) / (2 * h)
    bent = (loss(w + h * v)[1] - loss(w - h * v)[1]) / (2 * h)
    found = loss.hessian_product(w, v)
    return abs(float(slope - loss(w)[1] @ v)), float((found - bent).norm() / bent.norm())


class Checkpointed(nn.Module):
    def __init__(self, *, reentrant):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Tanh())
        self.outer, self.reentrant = nn.Linear(4, 2), reentrant

    def forward(self, x):
        x = x.clone().requires_grad_()
        return self.outer(checkpoint(self.inner, x, use_reentrant=self.reentrant))


NORMS = nn.utils.parametrizations
HARD: dict[str, Any] = {
    "checkpointed": lambda: Checkpointed(reentrant=False),
    "weight norm": lambda: nn.Sequential(
        NORMS.weight_norm(nn.Linear(3, 4)), nn.Tanh(), nn.Linear(4, 2)
    ),
    "spectral norm": lambda: nn.Sequential(
        NORMS.spectral_norm(nn.Linear(3, 4)), nn.Tanh(), nn.Linear(4, 2)
    ),
    "sparse gradients": lambda: nn.Sequential(Digitised(), nn.Flatten(), nn.Linear(6, 2)),
}


class Digitised(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(2, 2, sparse=True)

    def forward(self, x):
        return self.embedding((x > 0).long()).tanh()


# Spectral norm's training loss depends on w by its power iteration too, which no gradient follows.
MODES = [
    (name, training) for name in HARD for training in (False, True)[: 2 - (name == "spectral norm")]
]


@pytest.mark.parametrize(("name", "batch_statistics"), MODES)
def test_derivatives_of_layers_that_make_them_hard(name, batch_statistics):
    model = HARD[name]()
    before = everything(model)
    batch = torch.randn(6, 3), torch.arange(6) % 2
    loss = objective(
        model, F.cross_entropy, batch, batch_statistics=batch_statistics, dtype=torch.float64
    )
    drawn = torch.get_rng_state()
    slope, curvature = slope_and_curvature(loss)
    assert slope < 1e-7
    assert curvature < 1e-7
    torch.set_rng_state(drawn)
    assert everything(model)[2:4] == before[2:4]
    assert [getattr(m, "sparse", None) for m in model.modules()].count(True) == (
        name == "sparse gradients"
    )


def test_layers_that_hide_their_weights_are_told():
    loss = objective(
        Checkpointed(reentrant=True), F.cross_entropy, (torch.ones(4, 3), torch.arange(4) % 2)
    )
    with pytest.raises(ValueError, match="give use_reentrant=False"):
        loss(loss.w)


def test_a_model_that_keeps_to_float32_is_told_what_to_do():
    class Keeps(nn.Linear):
        def forward(self, x):
            return super().forward(x.float())

    batch = np.ones((4, 3)), np.zeros(4, int)
    loss = objective(Keeps(3, 2), F.cross_entropy, batch, dtype=torch.float64)
    with pytest.raises(RuntimeError, match=r"does not run in torch.float64 .* give dtype=None"):
        loss(loss.w)
    own = objective(Keeps(3, 2), F.cross_entropy, batch)  # float64 arrays, too
    assert own(own.w)[0].dtype == torch.float32


class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        return 2 * g


@pytest.mark.parametrize("other_way", [False, True])
def test_a_function_without_a_second_derivative_is_told(other_way):
    def loss(out, y):
        return F.mse_loss(Once.apply(out), y) + other_way * out.exp().mean()

    made = objective(nn.Linear(3, 2), loss, (torch.ones(4, 3), torch.ones(4, 2)))
    with pytest.raises(NotImplementedError, match=r"once_differentiable; .* lambda w: objective"):
        made.hessian_product(made.w, made.w)
    found = hessian_eigenvalues(lambda w: made(w), made.w, stream=stream())
    assert found.values[0] > 1


def test_a_linear_loss_has_the_hessian_0():
    loss = objective(nn.Linear(3, 1), lambda out, _: out.mean(), (torch.ones(4, 3), torch.ones(4)))
    assert not loss.hessian_product(loss.w, torch.ones(4)).any()


# Nothing is changed


def everything(model):
    state = {name: t.clone() for name, t in model.state_dict().items()}
    grads = {n: None if p.grad is None else p.grad.clone() for n, p in model.named_parameters()}
    flags = [(m.training, id(m)) for m in model.modules()]
    wanted = [(p.requires_grad, id(p), p._version) for p in model.parameters()]
    return state, grads, flags, wanted, torch.get_rng_state().clone()


def assert_unchanged(model, before):
    after = everything(model)
    assert after[2:4] == before[2:4]
    assert torch.equal(after[4], before[4])
    for now, then in zip(after[:2], before[:2]):
        assert now.keys() == then.keys()
        for name, value in then.items():
            assert now[name] is value is None or torch.equal(now[name], value), name


def a_model_in_use():
    model = convolutions()
    model(torch.randn(8, 2, 6, 6)).sum().backward()
    model[1].eval()  # frozen, in a model that trains
    model[0].bias.requires_grad_(False)
    return model


@pytest.mark.parametrize("batch_statistics", [False, True])
@pytest.mark.parametrize("dtype", [None, torch.float64])
def test_the_model_stays_as_it_is_bit_for_bit(batch_statistics, dtype):
    model = a_model_in_use()
    data = TensorDataset(torch.randn(10, 2, 6, 6), torch.tensor(classes(10, 5)))
    loader = DataLoader(data, 4, shuffle=True)
    before = everything(model)
    loss = objective(model, F.cross_entropy, loader, batch_statistics=batch_statistics, dtype=dtype)
    w = loss.w
    first = loss(w)
    assert loss.loss(w) == pytest.approx(float(first[0]), rel=1e-6)
    loss.hessian_product(w, w)
    again = loss(w)
    assert torch.equal(first[0], again[0])  # the same masks
    assert torch.equal(first[1], again[1])
    assert not first[0].requires_grad
    assert not first[1].requires_grad
    assert_unchanged(model, before)


def test_all_measures_leave_the_model_as_it_is():
    model = a_model_in_use()
    x, y = torch.randn(10, 2, 6, 6), torch.tensor(classes(10, 5))
    before, x_before = everything(model), x.clone()
    batches = [(x[:4], y[:4]), (x[4:], y[4:])]
    rows = flatness(model, F.cross_entropy, batches, measures=list(MEASURES), settings=QUICK)
    assert {row["measure"] for row in rows} == set(MEASURES)
    assert all(np.isfinite(row["value"]) for row in rows)
    layers = {row["part"] for row in rows if row["measure"] == "trace"}
    assert layers == {None, "0", "1", "4", "6"}
    assert_unchanged(model, before)
    assert torch.equal(x, x_before)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("call", ["__call__", "loss", "hessian_product"])
def test_the_model_is_as_it_was_after_an_error(error, call):
    model = a_model_in_use()
    loss = objective(
        model,
        F.cross_entropy,
        (torch.randn(4, 2, 6, 6), torch.tensor([0, 1, 2, 3])),
        batch_statistics=True,
    )
    w = loss.w
    before = everything(model)

    def fail(module, inputs):
        torch.rand(3)
        raise error

    hook = model[5].register_forward_pre_hook(fail)
    with pytest.raises(error):
        getattr(loss, call)(*([w, w] if call == "hessian_product" else [w]))
    hook.remove()
    assert_unchanged(model, before)
    loss(w)
    assert_unchanged(model, before)


def test_a_model_that_changes_its_own_inputs_and_buffers_gives_the_same_loss_again():
    class Restless(nn.Module):
        count: torch.Tensor

        def __init__(self):
            super().__init__()
            self.linear, self.embedding = nn.Linear(4, 3), nn.Embedding(6, 4, max_norm=0.5)
            self.register_buffer("count", torch.zeros(()))

        def forward(self, x):
            self.count = self.count + 1
            x.remainder_(6)
            return self.linear(self.embedding(x).mean(1)) + self.count

    model, x = Restless(), torch.arange(8).reshape(4, 2)
    loss = objective(model, lambda out, y: (out * y).mean(), (x, torch.randn(4, 3)))
    before, w = everything(model), loss.w
    kept = w.clone()
    assert torch.equal(loss(w)[0], loss(w)[0])
    assert torch.equal(w, kept)
    assert torch.equal(x, torch.arange(8).reshape(4, 2))
    assert_unchanged(model, before)


# What the loss is a function of


def test_batches_of_unequal_size_count_by_their_samples():
    model, x, y = convolutions().eval(), torch.randn(11, 2, 6, 6), torch.tensor(classes(11, 5))
    whole = objective(model, F.cross_entropy, (x, y), dtype=torch.float64)
    parts = objective(
        model,
        F.cross_entropy,
        [(x[:2], y[:2]), (x[2:3], y[2:3]), (x[3:], y[3:])],
        dtype=torch.float64,
    )
    w = whole.w
    v = torch.randn_like(w)
    for found, expected in zip(
        [*parts(w), parts.loss(w), parts.hessian_product(w, v)],
        [*whole(w), whole.loss(w), whole.hessian_product(w, v)],
    ):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


def test_the_training_loss_is_that_of_training():
    model, x, y = convolutions(), torch.randn(8, 2, 6, 6), torch.tensor(classes(8, 5))
    loss = objective(model, F.cross_entropy, (x, y), batch_statistics=True, seed=7)
    torch.manual_seed(7)
    trained = copy.deepcopy(model).train()
    assert torch.equal(loss(loss.w)[0], F.cross_entropy(trained(x), y).detach())
    other = objective(model, F.cross_entropy, (x, y), batch_statistics=True, seed=8)
    assert not torch.equal(loss(loss.w)[0], other(other.w)[0])
    evaluated = objective(model, F.cross_entropy, (x, y))
    expected = F.cross_entropy(copy.deepcopy(model).eval()(x), y)
    assert torch.equal(evaluated(evaluated.w)[0], expected.detach())


def test_the_gradient_is_that_of_backward():
    model, x, y = convolutions().double().eval(), torch.randn(8, 2, 6, 6), classes(8, 5)
    x = x.double()
    loss = objective(model, F.cross_entropy, (x, torch.tensor(y)))
    gradient = loss.parameters(loss(loss.w)[1])
    F.cross_entropy(model(x), torch.tensor(y)).backward()
    for name, p in model.named_parameters():
        torch.testing.assert_close(gradient[name], p.grad, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("groups", [1, 2])
def test_filters_are_those_of_the_modules(groups):
    convolution = nn.ConvTranspose2d(4, 6, (2, 3), groups=groups)
    model = nn.Sequential(convolution, nn.Flatten())
    loss = objective(model, lambda out, y: out.mean(), (torch.ones(2, 4, 3, 3), torch.ones(2)))
    assert loss.shapes == [(6, 4 // groups, 2, 3), (6,)]
    found = loss.parameters(filter_scale(loss.w, loss.shapes))["0.weight"]
    expected = filter_norms(convolution.weight.detach(), output_axis=1, groups=groups)
    torch.testing.assert_close(found, expected.expand_as(found))
    torch.testing.assert_close(loss.parameters(loss.w)["0.weight"], convolution.weight.detach())


def test_shared_weights_are_there_once_and_frozen_ones_not_at_all():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.head = nn.Embedding(7, 4), nn.Linear(4, 7, bias=False)
            self.frozen = nn.Linear(4, 4).requires_grad_(False)
            self.head.weight = self.embedding.weight

        def forward(self, x):
            return self.head(self.frozen(self.embedding(x))).transpose(1, 2)

    model, x = Tied(), torch.arange(6).reshape(2, 3)
    loss = objective(model, F.cross_entropy, (x, x), dtype=torch.float64)
    assert loss.names == ["embedding.weight"]
    assert loss.shapes == [(7, 4)]
    w, h = loss.w, 1e-6
    gradient = loss(w)[1]
    model.double()
    F.cross_entropy(model(x), x).backward()
    torch.testing.assert_close(gradient, model.embedding.weight.grad.reshape(-1))
    v = torch.randn_like(w)
    slope = (loss.loss(w + h * v) - loss.loss(w - h * v)) / (2 * h)
    assert float(gradient @ v) == pytest.approx(float(slope), rel=1e-6)
    assert model.frozen.weight.grad is None


def test_complex_weights_are_pairs_of_real_ones():
    class Complex(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(3, 2, dtype=torch.complex64))
            self.bias = nn.Parameter(torch.randn(3, dtype=torch.complex64))

        def forward(self, x):
            return (x.to(self.weight.dtype) @ self.weight.T + self.bias).abs()

    model = Complex()
    loss = objective(model, F.cross_entropy, (torch.randn(5, 2), torch.arange(5) % 3))
    assert loss.shapes == [(3, 2, 2), (6,)]
    for name, part in loss.parameters(loss.w).items():
        torch.testing.assert_close(part, getattr(model, name).detach())
    norms = loss.parameters(filter_scale(loss.w, loss.shapes))["weight"].real
    expected = filter_norms(model.weight.detach()).expand(3, 2)
    torch.testing.assert_close(norms, expected)
    w = loss.w
    assert float(loss.loss(w - 0.01 * loss(w)[1])) < float(loss.loss(w))


FORMS: dict[str, Any] = {
    "a tuple": lambda x, y: (x, y),
    "arrays": lambda x, y: (x.numpy(), y.numpy()),
    "a list of a pair": lambda x, y: [x, y],
    "batches": lambda x, y: [(x[:3], y[:3]), [x[3:], y[3:]]],
    "a loader": lambda x, y: DataLoader(TensorDataset(x, y), 4, shuffle=True),
    "a generator": lambda x, y: ((x[i : i + 1], y[i : i + 1]) for i in range(len(x))),
    "several inputs": lambda x, y: ((x,), y),
    "named inputs": lambda x, y: ({"input": x}, y),
}


@pytest.mark.parametrize("form", FORMS)
def test_batches_have_many_forms(form):
    model, x, y = nn.Linear(4, 3), torch.randn(8, 4), torch.tensor(classes(8, 3))
    loss = objective(model, F.cross_entropy, FORMS[form](x, y), dtype=torch.float64)
    expected = F.cross_entropy(model.double()(x.double()), y).detach()
    assert float(loss.loss(loss.w)) == pytest.approx(float(expected), rel=1e-12)


def test_other_batches_and_outputs_go_through_a_function_of_the_user():
    model = nn.LSTM(4, 3, batch_first=True)
    batches = [{"input": torch.randn(n, 5, 4), "labels": torch.arange(n) % 3} for n in (2, 3)]

    def forward(model, batch):
        return model(batch["input"])[0][:, -1], batch["labels"]

    loss = objective(model, F.cross_entropy, batches, forward=forward)
    losses = [F.cross_entropy(*forward(model, batch), reduction="sum") for batch in batches]
    expected = sum(float(loss.detach()) for loss in losses)
    assert float(loss.loss(loss.w)) == pytest.approx(expected / 5, rel=1e-6)
    doubled = objective(
        model, F.cross_entropy, batches, forward=forward, count=lambda b: 6 // len(b["labels"])
    )
    assert not torch.equal(doubled.loss(loss.w), loss.loss(loss.w))


def test_weights_of_a_loss_are_computed_in_the_same_precision():
    criterion = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0]))
    batch = torch.randn(8, 4), torch.tensor(classes(8, 3))
    loss = objective(nn.Linear(4, 3), criterion, batch, dtype=torch.float64)
    assert loss(loss.w)[0].dtype == torch.float64
    assert criterion.weight.dtype == torch.float32


NAN: Any = float("nan")
PAIR = (torch.ones(4, 3), torch.zeros(4, dtype=torch.long))
WRONG: dict[str, tuple[Any, str]] = {
    "no parameters": (lambda: objective(nn.ReLU(), F.cross_entropy, PAIR), "no parameters that"),
    "all frozen": (
        lambda: objective(nn.Linear(3, 2).requires_grad_(False), F.cross_entropy, PAIR),
        "not frozen",
    ),
    "a lazy layer": (
        lambda: objective(nn.LazyLinear(2), F.cross_entropy, PAIR),
        "run the model once",
    ),
    "no model": (lambda: objective(lambda x: x, F.cross_entropy, PAIR), "a torch.nn.Module"),
    "no loss": (lambda: objective(nn.Linear(3, 2), "mse", PAIR), "the loss is a str"),
    "no batch": (lambda: objective(nn.Linear(3, 2), F.cross_entropy, []), "no batches"),
    "a number for batches": (
        lambda: objective(nn.Linear(3, 2), F.cross_entropy, 3),
        "batches is an int",
    ),
    "no samples": (
        lambda: objective(nn.Linear(3, 2), F.cross_entropy, (torch.ones(0, 3), torch.ones(0))),
        "a batch counts 0 samples",
    ),
    "a count that is no number": (
        lambda: objective(nn.Linear(3, 2), F.cross_entropy, PAIR, count=lambda b: NAN),
        "a batch counts nan samples",
    ),
    "text for batches": (
        lambda: objective(nn.Linear(3, 2), F.cross_entropy, "digits"),
        "batches is text: give a batch",
    ),
    "a seed below 0": (
        lambda: objective(nn.Linear(3, 2), F.cross_entropy, PAIR, seed=-1),
        "seed .* not -1",
    ),
    "a sum": (
        lambda: flatness(nn.Linear(3, 2), nn.CrossEntropyLoss(reduction="sum"), PAIR),
        "the loss is the sum over a batch's samples",
    ),
    "half a point": (lambda: SurveySettings(points=2.5), "points must be a whole number, not 2.5"),
    "another precision": (
        lambda: objective(nn.Linear(3, 2), F.cross_entropy, PAIR, dtype=torch.float16),
        "float32 or torch.float64",
    ),
    "a vector of losses": (
        lambda: evaluated(nn.Linear(3, 2), nn.CrossEntropyLoss(reduction="none")),
        r"a tensor of shape \(4,\), not one real number",
    ),
    "a float": (
        lambda: evaluated(nn.Linear(3, 2), lambda out, y: 1.0),
        "a float and no tensor, .* item",
    ),
    "a complex loss": (
        lambda: evaluated(nn.Linear(3, 2), lambda out, y: out.mean().to(torch.complex64)),
        "a complex tensor",
    ),
    "a tuple of outputs": (
        lambda: evaluated(nn.LSTM(3, 2), F.cross_entropy),
        "the model's output is a tuple of 2",
    ),
    "a batch of three": (
        lambda: evaluated(nn.Linear(3, 2), F.cross_entropy, (*PAIR, 1)),
        "a batch is a tuple of 3",
    ),
    "a constant": (
        lambda: evaluated(nn.Linear(3, 2), lambda out, y: out.detach().mean()),
        "depends on no weight",
    ),
    "a vector of another length": (
        lambda: objective(nn.Linear(3, 2), F.cross_entropy, PAIR)(torch.ones(9)),
        r"\(9,\), but the model has 8",
    ),
    "a direction of another length": (
        lambda: product_with(nn.Linear(3, 2), torch.ones(9)),
        r"a vector of shape \(9,\), and of weights \(8,\)",
    ),
}


def product_with(model, v):
    made = objective(model, F.cross_entropy, PAIR)
    return made.hessian_product(made.w, v)


def evaluated(model, loss, batch=PAIR):
    made = objective(model, loss, batch)
    return made(made.w)


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_is_told_in_one_line(wrong):
    call, says = WRONG[wrong]
    with pytest.raises((TypeError, ValueError), match=says) as raised:
        call()
    assert "\n" not in str(raised.value)


def test_a_loss_that_is_not_finite_is_told_before_measuring():
    x = torch.full((4, 3), torch.inf)
    with pytest.raises(ArithmeticError, match="the loss of model at the weights themselves is nan"):
        flatness(nn.Linear(3, 2), F.cross_entropy, (x, PAIR[1]))
    loss = objective(nn.Linear(3, 2), F.cross_entropy, (x, PAIR[1]))
    with pytest.raises(ArithmeticError, match="no Hessian"):
        loss.hessian_product(loss.w, loss.w)


def test_a_vector_of_a_model_s_parameters():
    """torch's own order, but for transposed convolutions: `vector` and `parameters` know it."""
    model = nn.Sequential(nn.ConvTranspose2d(2, 3, 2), nn.Flatten(), nn.Linear(27, 3))
    loss = objective(model, F.cross_entropy, (torch.randn(4, 2, 2, 2), PAIR[1]))
    named = dict(model.named_parameters())
    torch.testing.assert_close(loss.vector(named), loss.w)
    torch.testing.assert_close(loss.parameters(loss.w), named)
    assert not torch.equal(parameters_to_vector(model.parameters()), loss.w)
    assert loss.shapes[0] == (3, 2, 2, 2)


def test_an_unknown_measure_is_told():
    with pytest.raises(ValueError, match="unknown measure 'flat'; there are line"):
        flatness(nn.Linear(3, 2), F.cross_entropy, PAIR, measures=["flat"])


def test_rows_are_those_of_the_survey():
    model, x, y = nn.Linear(4, 3), torch.randn(8, 4), torch.tensor(classes(8, 3))
    rows = flatness(
        model, F.cross_entropy, (x, y), measures=["worst", "inner"], settings=QUICK, name="mine"
    )
    assert {row["model"] for row in rows} == {"mine"}
    worst, *inner = rows
    loss = objective(model, F.cross_entropy, (x, y), dtype=torch.float64)
    found = rho_sharpness(loss, loss.w, rho=0.1, steps=10, restarts=1, stream=Stream("worst", 0, 0))
    assert worst["value"] == found.rise
    assert sum(row["method"] == "maximum" for row in inner) == 1  # one batch, one radius


def test_in_inference_mode_and_without_gradients_it_is_the_same():
    loss = objective(nn.Linear(3, 2), F.cross_entropy, PAIR)
    expected = loss(loss.w)
    for around in (torch.no_grad, torch.inference_mode):
        with around():
            found = loss(loss.w)
        assert all(map(torch.equal, found, expected))
