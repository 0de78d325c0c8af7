"""Training steps around an accelerator: one that is given, and one of their own."""

import importlib.util

import pytest

torch = pytest.importorskip("torch")

from rsam_ref.conformance import check  # noqa: E402
from tests.conformance.right_torch import still_statistics  # noqa: E402

pytestmark = [
    pytest.mark.frameworks,
    pytest.mark.skipif(
        importlib.util.find_spec("accelerate") is None, reason="accelerate is not installed"
    ),
]


def step(model, optimizer, loss_fn, batch, accelerator, rho, *, length, zero_between=True):
    x, y = batch
    optimizer.zero_grad()
    loss = loss_fn(model(x), y)
    accelerator.backward(loss)
    params = [p for p in model.parameters() if p.grad is not None]
    saved = [p.detach().clone() for p in params]
    norm = torch.stack([p.grad.norm() for p in params]).norm()
    with torch.no_grad():
        for p in params:
            p.add_(p.grad * (rho / length(norm)))
    if zero_between:
        optimizer.zero_grad()
    with still_statistics(model):
        accelerator.backward(loss_fn(model(x), y))
    with torch.no_grad():
        for p, old in zip(params, saved):
            p.copy_(old)
    optimizer.step()
    return accelerator.gather(loss.detach().reshape(1)).mean()


def right(norm):
    return norm + 1e-12


def given(model, optimizer, loss_fn, batch, accelerator, rho=0.05):
    return step(model, optimizer, loss_fn, batch, accelerator, rho, length=right)


def of_its_own(model, optimizer, loss_fn, batch, hyper):
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    model, optimizer = accelerator.prepare(model, optimizer)
    with accelerator.accumulate(model):
        return step(model, optimizer, loss_fn, batch, accelerator, hyper.rho, length=right)


def squares(model, optimizer, loss_fn, batch, accelerator, rho):
    return step(model, optimizer, loss_fn, batch, accelerator, rho, length=lambda n: n**2)


def adds(model, optimizer, loss_fn, batch, accelerator, hyper):
    return step(
        model, optimizer, loss_fn, batch, accelerator, hyper.rho, length=right, zero_between=False
    )


@pytest.mark.parametrize("train_step", [given, of_its_own])
def test_a_right_step_conforms(train_step):
    report = check(train_step, "sam")
    assert report.form == "loop"
    assert report.conforms, str(report)


@pytest.mark.parametrize(
    ("train_step", "code"), [(squares, "ascent.squared-norm"), (adds, "update.gradients-added")]
)
def test_a_wrong_step_is_named(train_step, code):
    found = [f.code for f in check(train_step, "sam").findings if not f.note]
    assert found[0] == code
