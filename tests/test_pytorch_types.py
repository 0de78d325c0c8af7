"""The optimizers for PyTorch on weights of every type, and on weights that are computed."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from rsam_backends import Stream
from rsam_ref.pytorch import RSAM, SAM
from rsam_ref.pytorch.filters import filter_norms, transposed_weights
from rsam_ref.pytorch.layout import Layout
from rsam_ref.pytorch.vectors import add_, clip_

LOW = [torch.float16, torch.bfloat16]
low = pytest.mark.parametrize("dtype", LOW)
UNIT = {torch.float16: 2.0**-10, torch.bfloat16: 2.0**-7}

METHODS = {
    "sam": (SAM, {}),
    "asam": (SAM, {"adaptive": True}),
    "rsam": (RSAM, {}),
    "rsam without noise": (RSAM, {"sigma": 0.0}),
}
every_method = pytest.mark.parametrize("method", METHODS)


@pytest.fixture(params=[False, True], ids=["one by one", "by lists"])
def _both_ways(request, monkeypatch):
    """The functions for lists, which a GPU takes, as well."""
    if request.param:
        monkeypatch.setattr("rsam_ref.pytorch.vectors._by_lists", bool)


both_ways = pytest.mark.usefixtures("_both_ways")


def ascent(sam, gradients):
    """The perturbation of the first step by these gradients, in float64."""
    params = [p for group in sam.param_groups for p in group["params"]]
    before = [p.detach().clone() for p in params]
    if isinstance(sam, RSAM):
        sam.draw_step()
    for p, g in zip(params, gradients):
        p.grad = torch.as_tensor(g).expand_as(p).to(p.dtype, copy=True)
    sam.first_step()
    return [(p.detach().double() - b.double()) for p, b in zip(params, before)]


# Low precision


@low
@every_method
@pytest.mark.parametrize("at", [0.0, 1.0])
@both_ways
def test_no_gradient_gives_no_nan_in_low_precision(dtype, method, at):
    kind, own = METHODS[method]
    w = nn.Parameter(torch.full((4, 3), at, dtype=dtype))
    optimizer = kind([w], torch.optim.SGD, rho=0.05, **own, lr=0.1)
    seen = []

    def closure():
        seen.append(w.detach().clone())
        loss = (0 * w).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert torch.equal(w.detach(), torch.full_like(w, at))
    assert torch.isfinite(seen[1]).all()
    if method != "rsam":
        assert torch.equal(seen[1], seen[0])
    assert torch.isfinite(optimizer.trace.adversarial_loss)


@low
@pytest.mark.parametrize(
    ("own", "at", "slope", "rho"),
    [
        ({}, 1.0, 3e-7, 0.05),
        ({}, 1.0, 3e4, 0.05),
        ({"adaptive": True}, 1.0, 1e-6, 0.5),
        ({"adaptive": True}, 20.0, 200.0, 0.5),
        ({"adaptive": True}, 100.0, 1e4, 0.5),
    ],
)
@both_ways
def test_small_and_large_gradients_climb_as_in_float64(dtype, own, at, slope, rho):
    ends = []
    for kind in (dtype, torch.float64):
        w = nn.Parameter(torch.full((4,), at, dtype=kind))
        g = torch.tensor([1, -1, 0.5, 1]) * slope
        ends += ascent(SAM([w], torch.optim.SGD, rho=rho, **own, lr=0.1), [g.to(dtype)])
    torch.testing.assert_close(*ends, rtol=1e-3, atol=UNIT[dtype] * at)


@low
@both_ways
def test_weights_of_low_precision_are_rounded_once(dtype):
    generator = torch.Generator().manual_seed(0)
    w, v = (torch.randn(1000, generator=generator).to(dtype) for _ in range(2))
    factor = torch.tensor(0.0123)
    expected = (w.float() + factor * v.float()).to(dtype)
    add_([w], [v], factor)
    assert torch.equal(w, expected)


@both_ways
def test_a_part_of_low_precision_stays_where_its_gradient_is_zero():
    """Beside another one in float32, whose gradient is small."""
    half = nn.Parameter(torch.ones(3, dtype=torch.float16))
    whole = nn.Parameter(torch.ones(2))
    sam = SAM([half, whole], torch.optim.SGD, rho=0.5, lr=0.1)
    a, b = ascent(sam, [0.0, 1e-8])
    assert torch.equal(a, torch.zeros(3).double())
    assert b.norm().item() == pytest.approx(0.5, rel=1e-3)


@both_ways
def test_rsams_direction_of_large_gradients_is_finite_in_float16():
    w = nn.Parameter(torch.ones(4, 3, dtype=torch.float16))
    rsam = RSAM([w], torch.optim.SGD, rho=1.0, lam=2.0, lr=0.1)
    [eps] = ascent(rsam, [4e4])  # lam g0 is no float16
    torch.testing.assert_close(eps, torch.full_like(eps, 1 / math.sqrt(12)), rtol=0, atol=1e-3)


@low
@both_ways
def test_clipping_of_low_precision_is_as_in_float32(dtype):
    p = nn.Parameter(torch.zeros(5000, dtype=dtype))
    p.grad = torch.full_like(p, 4e3)  # their length is no float16
    length = clip_([p], 1.0)
    assert length.item() == pytest.approx(4e3 * math.sqrt(5000), rel=1e-2)
    assert p.grad.double().norm().item() == pytest.approx(1.0, rel=1e-2)


def test_clipping_is_torchs():
    gradients = [torch.randn(s, dtype=torch.float64) for s in [(3, 2), (5,)]]
    for longest in (0.1, 100.0):
        ours, theirs = ([nn.Parameter(torch.zeros_like(g)) for g in gradients] for _ in range(2))
        for p, q, g in zip(ours, theirs, gradients):
            p.grad, q.grad = g.clone(), g.clone()
        length = clip_(ours, longest)
        torch.testing.assert_close(length, nn.utils.clip_grad_norm_(theirs, longest))
        for p, q in zip(ours, theirs):
            torch.testing.assert_close(p.grad, q.grad, rtol=1e-14, atol=0)


def test_float32_gradients_that_have_no_norm_give_no_perturbation():
    """What docs/pytorch.md says of very large gradients."""
    w = nn.Parameter(torch.ones(4))
    sam = SAM([w], torch.optim.SGD, rho=0.5, lr=0.1)
    assert torch.equal(ascent(sam, [1e19])[0], torch.zeros(4).double())


def test_a_bias_of_zeros_is_hardly_moved():
    """What docs/pytorch.md says of R-SAM without gradient: s is 1e-16 there."""
    w = nn.Parameter(torch.zeros(100))
    [eps] = ascent(RSAM([w], torch.optim.SGD, rho=0.05, lr=0.1), [0.0])
    assert 1e-10 < eps.abs().max() < 1e-7


# Complex weights


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
@pytest.mark.parametrize("eta", [0.0, 0.01])
def test_complex_weights_are_two_real_ones_each_for_asam(dtype, eta):
    generator = torch.Generator().manual_seed(0)
    pair = torch.randn(2, 3, 2, 2, generator=generator, dtype=torch.float64)
    w, g = (torch.view_as_complex(part.contiguous()).to(dtype) for part in pair)
    ends = []
    for values, slopes in ((w, g), (torch.view_as_real(w), torch.view_as_real(g))):
        p = nn.Parameter(values.clone())
        sam = SAM([p], torch.optim.SGD, rho=0.5, adaptive=True, eta=eta, lr=0.1)
        p.grad = slopes.clone()
        sam.first_step()
        ends.append(p.detach() - values)
    torch.testing.assert_close(torch.view_as_real(ends[0]), ends[1])


def test_the_references_draw_takes_both_parts_of_complex_weights():
    """z of a complex weight and of a real one: the numbers of one stream, in their order."""
    for dtype in (torch.complex128, torch.complex64):
        real = torch.float64 if dtype == torch.complex128 else torch.float32
        w = nn.Parameter(torch.ones(2, 3, dtype=dtype))
        b = nn.Parameter(torch.ones(4, dtype=real))
        rsam = RSAM([w, b], torch.optim.SGD, sigma=1.0, seed=3, draw="reference", lr=0.1)
        rsam.draw_step()
        kind = "float64" if real == torch.float64 else "float32"
        z = Stream("noise", 3, 0).normal(16, kind)
        drawn = torch.view_as_real(w.detach() - 1).reshape(-1) / math.sqrt(3)
        np.testing.assert_allclose(drawn.numpy(), z[:12], atol=1e-6)
        np.testing.assert_allclose((b.detach() - 1).numpy() / 2, z[12:], atol=1e-6)


def test_a_draw_of_the_other_kind_of_numbers_is_refused():
    for dtype, wrong in ((torch.complex64, torch.float32), (torch.float32, torch.complex64)):
        w = nn.Parameter(torch.ones(3, 2, dtype=dtype))
        z = torch.ones(3, 2, dtype=wrong)
        rsam = RSAM([w], torch.optim.SGD, draw=lambda step, ws, z=z: [z], lr=0.1)
        with pytest.raises(ValueError, match=f"the draw gave {wrong} for a weight of {dtype}"):
            rsam.draw_step()
        assert torch.equal(w, torch.ones(3, 2, dtype=dtype))


# Weights that are computed of others

COMPUTED = {
    "spectral norm": nn.utils.parametrizations.spectral_norm,
    "weight norm": nn.utils.parametrizations.weight_norm,
    "old spectral norm": nn.utils.spectral_norm,
    "old weight norm": nn.utils.weight_norm,
    "pruned": lambda m: prune.random_unstructured(m, "weight", 0.3),
}
computed = pytest.mark.parametrize("how", COMPUTED)
with_old_ones = pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")


def norms_of_outputs(w, groups):
    """By hand: the norm of all that makes one output, for every weight (in, out / groups, ...)."""
    found = torch.empty_like(w)
    for part in range(groups):
        rows = slice(part * len(w) // groups, (part + 1) * len(w) // groups)
        for out in range(w.shape[1]):
            found[rows, out] = w[rows, out].norm()
    return found


@with_old_ones
@computed
@pytest.mark.parametrize("groups", [1, 2])
def test_what_a_transposed_weight_is_computed_from_has_its_filters(how, groups):
    model = nn.Sequential(COMPUTED[how](nn.ConvTranspose2d(4, 6, 2, groups=groups)))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    ones = [torch.ones_like(p) for p in model.parameters()]
    rsam = RSAM(model, torch.optim.SGD, sigma=0.5, draw=lambda step, ws: ones, lr=0.1)
    rsam.draw_step()
    seen = 0
    for name, p in model.named_parameters():
        if p.ndim == 4:
            norms = norms_of_outputs(before[name], groups)
            torch.testing.assert_close(p.detach() - before[name], 0.5 * norms)
            seen += 1
    assert seen == (2 if "weight norm" in how else 1)


@pytest.mark.parametrize("groups", [1, 2])
def test_flatness_lays_them_out_by_outputs(groups):
    layer = nn.utils.parametrizations.weight_norm(nn.ConvTranspose2d(4, 6, 2, groups=groups))
    layout = Layout(layer)
    tensors = {name: p.detach() for name, p in layer.named_parameters()}
    vector = layout.vector(tensors, torch.float32)
    for name, tensor in layout.tensors(vector).items():
        assert torch.equal(tensor, tensors[name])
    size = 4 // groups
    shapes = dict(zip(layout.names, layout.shapes))
    assert shapes["parametrizations.weight.original0"] == (groups, size, 1, 1)
    assert shapes["parametrizations.weight.original1"] == (6, size, 2, 2)


@pytest.mark.parametrize("groups", [1, 2])
def test_lengths_by_output_are_a_filter_each(groups):
    layer = nn.ConvTranspose2d(4, 6, 2, groups=groups)
    nn.utils.parametrizations.weight_norm(layer, dim=1)
    lengths = layer.parametrizations.weight.original0
    norms = filter_norms(lengths, 1, transposed_weights([layer])[lengths])
    torch.testing.assert_close(norms.expand_as(lengths), lengths.abs())


@with_old_ones
@computed
def test_a_computed_weight_that_the_model_does_not_tell_is_noticed(how):
    layer = COMPUTED[how](nn.ConvTranspose1d(4, 3, 2))
    rsam = RSAM(layer.parameters(), torch.optim.SGD, lr=0.1)
    with pytest.raises(RuntimeError, match=r"\(4, .*\) is of a transposed convolution"):
        rsam.step(lambda: layer(torch.ones(1, 4, 5)).square().sum().backward())


def test_other_parameters_of_a_parametrization_go_by_their_groups_axis():
    class Low(nn.Module):
        def __init__(self):
            super().__init__()
            self.left = nn.Parameter(torch.ones(4, 2))

        def forward(self, weight):
            return weight + (self.left @ self.left.T)[:, :3, None]

    layer = nn.ConvTranspose1d(4, 3, 2)
    nn.utils.parametrize.register_parametrization(layer, "weight", Low())
    assert set(transposed_weights([layer])) == {layer.parametrizations.weight.original}


def test_a_bare_function_tells_nothing():
    """What docs/pytorch.md says: only modules are seen."""
    w = nn.Parameter(torch.ones(4, 3, 2))
    rsam = RSAM([w], torch.optim.SGD, lr=0.1)
    rsam.step(lambda: nn.functional.conv_transpose1d(torch.ones(1, 4, 5), w).sum().backward())


# Seeds


@pytest.mark.parametrize("draw", ["torch", "reference", lambda step, weights: list(weights)])
@pytest.mark.parametrize(
    ("seed", "error"),
    [("a", TypeError), (1.5, TypeError), (None, TypeError), (True, TypeError), (-1, ValueError)],
)
def test_a_seed_that_can_be_none_is_refused_at_once(draw, seed, error):
    with pytest.raises(error, match=r"seed is a whole number"):
        RSAM([nn.Parameter(torch.ones(2))], torch.optim.SGD, seed=seed, draw=draw, lr=0.1)


@pytest.mark.parametrize("draw", ["torch", "reference"])
def test_whole_numbers_of_any_kind_are_seeds(draw, tmp_path):
    ends = []
    for seed in (3, np.int64(3), torch.tensor(3)):
        w = nn.Parameter(torch.ones(5))
        rsam = RSAM([w], torch.optim.SGD, sigma=0.1, seed=seed, draw=draw, lr=0.1)
        rsam.draw_step()
        ends.append(w.detach().clone())
        rsam.restore()
        torch.save(rsam.state_dict(), tmp_path / "saved.pt")
        torch.load(tmp_path / "saved.pt", weights_only=True)
    assert all(torch.equal(end, ends[0]) for end in ends)


def test_a_seed_is_as_large_as_its_draw_takes_it():
    def made(seed, draw):
        w = nn.Parameter(torch.ones(2))
        rsam = RSAM([w], torch.optim.SGD, seed=seed, draw=draw, lr=0.1)
        rsam.draw_step()

    made(2**64 - 1, "torch")
    made(2**70, "reference")
    with pytest.raises(ValueError, match=r"seed is below 2\*\*64"):
        made(2**64, "torch")


MISSPELT = ["rh0", "roh", "ro", "lm", "lma", "simga", "sixma", "rhoo", "sigm"]


@pytest.mark.parametrize("name", MISSPELT)
def test_a_setting_misspelt_by_a_letter_is_refused(name):
    with pytest.raises(ValueError, match=f"a group has '{name}', which is no setting"):
        RSAM([{"params": nn.Linear(2, 2).parameters(), name: 0.3}], torch.optim.SGD, lr=0.1)


@pytest.mark.parametrize("name", ["beta", "row", "layer", "depth"])
def test_a_name_of_ones_own_is_taken(name):
    RSAM([{"params": nn.Linear(2, 2).parameters(), name: 0.3}], torch.optim.SGD, lr=0.1)
