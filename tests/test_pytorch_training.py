"""The optimizers for PyTorch in training: every way in which a second pass could go wrong."""

from __future__ import annotations

import contextlib
import copy
import itertools
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from rsam_ref.pytorch import RSAM, SAM
from tests.helpers.torch_problems import (
    closure_of,
    flat,
    in_halves,
    torch_batches,
    torch_net,
    train,
)

both = pytest.mark.parametrize("kind", [SAM, RSAM])
SGD = {"lr": 0.1, "momentum": 0.9}


def made(kind=SAM, model=None, **options):
    model = torch_net() if model is None else model
    return model, kind(model, torch.optim.SGD, rho=0.1, **options, **SGD)


def batch():
    return next(torch_batches(1))


# The contract


@both
def test_step_without_a_closure_is_refused(kind):
    model, optimizer = made(kind)
    before = flat(model)
    with pytest.raises(RuntimeError, match=r"two gradients a step, so step\(\) needs a closure"):
        optimizer.step()
    assert torch.equal(flat(model), before)


@both
@given(data=st.data())
@settings(max_examples=25)
def test_parts_out_of_turn_are_refused_and_change_nothing(kind, data):
    w = nn.Parameter(torch.tensor([3.0, 4.0]))
    optimizer = kind([w], torch.optim.SGD, rho=0.1, lr=0.1)
    turn = 0
    for _ in range(8):
        w.grad = torch.ones(2)
        before = w.detach().clone()
        name = data.draw(st.sampled_from([*kind.PARTS, "step", "state_dict"]))
        if name == kind.PARTS[turn]:
            getattr(optimizer, name)()
            turn = (turn + 1) % len(kind.PARTS)
        elif name in kind.PARTS:
            with pytest.raises(RuntimeError, match=rf"{kind.PARTS[turn]}\(\) is due"):
                getattr(optimizer, name)()
            assert torch.equal(w, before)
        elif turn:
            with pytest.raises(RuntimeError, match="in the middle of a step"):
                optimizer.step(lambda: 0) if name == "step" else optimizer.state_dict()
            assert torch.equal(w, before)


@both
def test_a_part_without_a_backward_pass_before_it_is_refused(kind):
    model, optimizer = made(kind)
    x, y = batch()
    before = flat(model)
    if kind is RSAM:
        optimizer.draw_step()
    with pytest.raises(RuntimeError, match=r"first_step\(\) found no gradient"):
        optimizer.first_step()
    nn.functional.cross_entropy(model(x), y).backward()
    optimizer.first_step()
    assert all(p.grad is None for p in model.parameters()), "they must not be added to the next"
    with pytest.raises(RuntimeError, match=r"second_step\(\) found no gradient"):
        optimizer.second_step()
    assert not torch.equal(flat(model), before), "nothing has changed"
    other, peer = made(kind)
    in_halves(other, peer, x, y)
    nn.functional.cross_entropy(model(x), y).backward()
    optimizer.second_step()
    assert torch.equal(flat(model), flat(other)), "and it can be called again"


def test_the_closure_is_called_twice_with_gradients_on_and_the_first_loss_is_returned():
    for kind in (SAM, RSAM):
        model, optimizer = made(kind)
        log: list = []
        loss = optimizer.step(closure_of(model, optimizer, *batch(), log=log))
        assert len(log) == 2
        assert loss.item() == log[0][1] < log[1][1]


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"rho": -1.0}, ValueError, "rho"),
        ({"rho": float("nan")}, ValueError, "rho"),
        ({"eta": -1.0}, ValueError, "eta"),
        ({"max_grad_norm": 0.0}, ValueError, "max_grad_norm"),
        ({"max_grad_norm": "1"}, TypeError, "max_grad_norm is a number"),
        ({"rho": "0.1"}, TypeError, "rho is a number or a function of the step, not '0.1'"),
        ({"rho": lambda step: None}, TypeError, "rho is a number"),
        ({"rho": torch.ones(2)}, TypeError, "rho is a number"),
        ({"adaptive": "no"}, TypeError, "adaptive is True or False"),
        ({"adaptive": lambda step: step > 3}, TypeError, "adaptive is True or False"),
        ({"sigma": 0.1}, TypeError, "neither SAM nor SGD has an option 'sigma'"),
        ({"differentiable": True}, ValueError, "differentiable=True"),
        (
            {"model": [nn.Linear(2, 2)]},
            TypeError,
            r"nn\.ModuleList\(\[\.\.\.\]\) of several, not a l",
        ),
        ({"model": nn.Linear(2, 2)}, ValueError, "has none of the parameters"),
        ({"momentum": -1.0}, ValueError, "momentum"),
    ],
)
def test_settings_that_cannot_be(options, error, says):
    with pytest.raises(error, match=says):
        SAM([nn.Parameter(torch.ones(2))], torch.optim.SGD, **{"lr": 0.1, **options})


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"sigma": -1.0}, "sigma"),
        ({"lam": 0.0}, "lam"),
        ({"draw": "dice"}, "'torch', 'reference'"),
        ({"output_axis": 2}, r"output_axis is 2, .* the shape \(3, 2\)"),
        ({"output_axis": -3}, "output_axis is -3"),
    ],
)
def test_settings_of_the_draw_that_cannot_be(options, says):
    with pytest.raises(ValueError, match=says):
        RSAM([nn.Parameter(torch.ones(3, 2))], torch.optim.SGD, lr=0.1, **options)


@pytest.mark.parametrize(
    ("kind", "own", "says"),
    [
        (
            SAM,
            {"Rho": 0.1},
            "'Rho', which is no setting of SAM for a group: those are rho, adaptive, eta",
        ),
        (SAM, {"sigma": 0.1}, "'sigma', which is no setting of SAM"),
        (RSAM, {"adaptive": True}, "'adaptive', which is no setting of RSAM"),
    ],
)
def test_a_setting_of_a_group_that_nobody_reads_is_refused(kind, own, says):
    first, late = ({"params": [nn.Parameter(torch.ones(2))], **own} for _ in range(2))
    with pytest.raises(ValueError, match=says):
        kind([first], torch.optim.SGD, lr=0.1)
    optimizer = kind([nn.Parameter(torch.ones(2))], torch.optim.SGD, lr=0.1)
    with pytest.raises(ValueError, match=says):
        optimizer.add_param_group(late)
    assert len(optimizer.param_groups) == 1


def test_a_parameter_of_the_model_is_enough():
    """Of several networks a list; of frozen layers and heads elsewhere, whatever it has."""
    one, other = nn.Linear(2, 2), nn.Linear(2, 2)
    params = [*one.parameters(), *other.parameters()]
    for model in (one, nn.ModuleList([one, other])):
        SAM(params, torch.optim.SGD, model=model, lr=0.1)


def test_what_is_called_as_elsewhere_is_told_in_words():
    model = nn.Linear(2, 2)
    with pytest.raises(TypeError, match="the model comes first, then the base's class"):
        SAM(torch.optim.SGD, model, lr=0.1)
    with pytest.raises(TypeError, match="the model comes first"):
        SAM(model.parameters(), model, lr=0.1)
    with pytest.raises(TypeError, match="Adadelta has a rho of its own"):
        SAM(model, torch.optim.Adadelta)
    sam = SAM(model, torch.optim.SGD, lr=0.1)
    assert repr(sam).startswith("SAM around SGD (")
    model(torch.ones(1, 2)).sum().backward()
    before = flat(model)
    with pytest.raises(ValueError, match="always zeroes the gradients"):
        sam.first_step(zero_grad=False)
    with pytest.raises(TypeError, match="GradScaler"):
        sam.first_step(True)
    assert torch.equal(flat(model), before)
    sam.first_step(zero_grad=True)
    model(torch.ones(1, 2)).sum().backward()
    sam.second_step(zero_grad=True)
    assert all(p.grad is None for p in model.parameters())


def test_bases_that_can_be_none():
    params = [nn.Parameter(torch.ones(2))]
    built = torch.optim.SGD(params, lr=0.1)
    for wrong in (
        lambda: SAM(params, torch.optim.LBFGS),
        lambda: SAM(params, built),
        lambda: SAM(params),
        lambda: SAM(built, torch.optim.SGD),
        lambda: SAM(built, lr=0.1),
        lambda: SAM(params, list),
        lambda: RSAM(SAM(params, torch.optim.SGD, lr=0.1)),
    ):
        with pytest.raises(TypeError):
            wrong()


def test_a_base_that_is_built_keeps_its_groups_and_state():
    model, other = torch_net(), torch_net()
    groups = [{"params": [p], "lr": 0.1 / (i + 1)} for i, p in enumerate(model.parameters())]
    sam = SAM(torch.optim.SGD(groups, momentum=0.9), rho=0.1, model=model)
    groups = [{"params": [p], "lr": 0.1 / (i + 1)} for i, p in enumerate(other.parameters())]
    peer = SAM(groups, torch.optim.SGD, rho=0.1, model=other, momentum=0.9)
    train(model, sam, 3)
    train(other, peer, 3)
    assert torch.equal(flat(model), flat(other))


def test_a_base_has_one_wrapper():
    base = torch.optim.SGD([nn.Parameter(torch.ones(2))], lr=0.1)
    sam = SAM(base, rho=0.3)
    with pytest.raises(ValueError, match="the base of a SAM already"):
        RSAM(base, rho=0.1)
    assert base.param_groups[0]["rho"] == 0.3
    assert "sigma" not in base.param_groups[0]
    assert copy.deepcopy(copy.deepcopy(sam)).param_groups[0]["rho"] == 0.3  # has its own base


@pytest.mark.parametrize("wrong", [{"rho": -1.0}, {"rho": "wide"}])
def test_what_is_refused_leaves_a_base_as_it_was(wrong):
    base = torch.optim.SGD([nn.Parameter(torch.ones(2))], lr=0.1)
    base.add_param_group({"params": [nn.Parameter(torch.ones(3))]})
    with pytest.raises((ValueError, TypeError)):
        SAM(base, **wrong)
    assert all("rho" not in group for group in base.param_groups)
    sam = SAM(base, rho=0.1)
    for _ in range(2):
        with pytest.raises((ValueError, TypeError)):
            sam.add_param_group({"params": [nn.Parameter(torch.ones(4))], **wrong})
    assert len(sam.param_groups) == len(base.param_groups) == 2
    sam.add_param_group({"params": [nn.Parameter(torch.ones(4))], "rho": lambda step: 0.5})
    assert [group["rho"] for group in sam.param_groups] == [0.1, 0.1, 0.5]


def test_named_parameters_are_taken():
    model = torch_net()
    sam = SAM(model.named_parameters(), torch.optim.SGD, lr=0.1, model=model)
    assert sam.state_dict()["param_groups"][0]["param_names"][0] == "0.weight"
    train(model, sam, 2)


# The way back


@both
@pytest.mark.parametrize("fails", [1, 2])
def test_weights_are_back_when_the_closure_raises(kind, fails):
    model, optimizer = made(kind)
    train(model, optimizer, 2)
    x, y = batch()
    inner, calls = closure_of(model, optimizer, x, y), itertools.count(1)
    before = flat(model)

    def closure():
        loss = inner()
        if next(calls) == fails:
            raise ArithmeticError("out of order")
        return loss

    other, peer = copy.deepcopy((model, optimizer))
    with pytest.raises(ArithmeticError):
        optimizer.step(closure)
    assert torch.equal(flat(model), before)
    model.load_state_dict(other.state_dict())  # the statistics have moved
    optimizer.step(closure_of(model, optimizer, x, y))
    peer.step(closure_of(other, peer, x, y))
    assert torch.equal(flat(model), flat(other)), "the step that failed has left nothing behind"


@both
@pytest.mark.parametrize("used_in", [(), (0,), (1,), (0, 1)], ids=str)
def test_a_parameter_without_gradient_in_a_pass_comes_back(kind, used_in):
    w, extra = (nn.Parameter(torch.randn(4, 3)) for _ in range(2))
    optimizer = kind([w, extra], torch.optim.SGD, rho=0.5, lr=0.1)
    before, seen, calls = extra.detach().clone(), [], itertools.count()

    def closure():
        optimizer.zero_grad()
        seen.append(extra.detach().clone())
        loss = (w**2).sum()
        if next(calls) in used_in:
            loss = loss + (extra**3).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    if 1 in used_in:  # it moves, from where it was
        torch.testing.assert_close(extra.detach(), before - 0.1 * 3 * seen[1] ** 2)
    else:
        assert torch.equal(extra.detach(), before)
    assert torch.equal(seen[1], before) == (kind is SAM and 0 not in used_in)


@both
def test_frozen_parameters_stay_and_do_not_count(kind):
    ends = []
    for known in (True, False):
        w, frozen = nn.Parameter(torch.ones(3, 2)), nn.Parameter(torch.full((2,), 5.0))
        frozen.requires_grad_(False)
        params = [w, frozen] if known else [w]
        optimizer = kind(params, torch.optim.SGD, rho=0.5, lr=0.1, weight_decay=0.1)

        def closure(optimizer=optimizer, w=w, frozen=frozen):
            optimizer.zero_grad()
            loss = ((w @ frozen) ** 2).sum()
            loss.backward()
            return loss

        for _ in range(3):
            optimizer.step(closure)
        ends.append(w.detach())
        assert torch.equal(frozen, torch.full((2,), 5.0))
    assert torch.equal(*ends)


@both
def test_a_group_in_which_nothing_is_used_is_let_be(kind):
    w, unused, frozen = (nn.Parameter(torch.ones(3)) for _ in range(3))
    frozen.requires_grad_(False)
    groups = [{"params": [p]} for p in (unused, w, frozen)]
    optimizer = kind(groups, torch.optim.SGD, rho=0.5, lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = (w**2).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert torch.equal(unused, torch.ones(3))
    assert torch.equal(frozen, torch.ones(3))
    assert (w < 1).all()


def test_the_ways_of_a_gpu_are_those_of_the_host(monkeypatch):
    """The functions for lists, which on the host are not faster."""
    ends = []
    for by_lists in (False, True):
        if by_lists:
            monkeypatch.setattr("rsam_ref.pytorch.vectors._by_lists", lambda vector: bool(vector))
        for kind in (SAM, RSAM):
            model, optimizer = made(kind)
            train(model, optimizer, 3)
            ends.append(flat(model))
    torch.testing.assert_close(ends[:2], ends[2:], rtol=0, atol=1e-13)


@both
def test_tied_weights_are_moved_once(kind):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.into = nn.Embedding(5, 3, dtype=torch.float64)
            self.out = nn.Linear(3, 5, bias=False, dtype=torch.float64)
            self.out.weight = self.into.weight

        def forward(self, x):
            return self.out(self.into(x))

    model = Tied()
    optimizer = (
        kind(model, torch.optim.SGD, rho=0.5, sigma=0.0, lr=0.0)
        if kind is RSAM
        else kind(model, torch.optim.SGD, rho=0.5, lr=0.0)
    )
    before, seen = flat(model), []

    def closure():
        optimizer.zero_grad()
        seen.append(flat(model))
        loss = nn.functional.cross_entropy(model(torch.arange(5)), torch.arange(5))
        loss.backward()
        return loss

    optimizer.step(closure)
    assert (seen[1] - before).norm().item() == pytest.approx(0.5, rel=1e-9)
    assert torch.equal(flat(model), before)
    assert model.out.weight is model.into.weight


@pytest.mark.parametrize("adaptive", [False, True])
@both
def test_sparse_gradients_climb_as_dense_ones(kind, adaptive):
    ends = []
    for sparse in (True, False):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            table = nn.Embedding(6, 3, sparse=sparse, dtype=torch.float64)
        own = {} if kind is RSAM else {"adaptive": adaptive}
        optimizer = kind(table, torch.optim.SGD, rho=0.5, lr=0.1, **own)

        def closure(table=table, optimizer=optimizer):
            optimizer.zero_grad()
            loss = (table(torch.tensor([1, 1, 4])) ** 3).sum()
            loss.backward()
            return loss

        for _ in range(3):
            optimizer.step(closure)
        ends.append(flat(table))
    torch.testing.assert_close(*ends, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("rows", [[1, 1, 4], [1, 4]], ids=["a row twice", "once"])
@both
def test_sparse_gradients_are_clipped_as_dense_ones(kind, rows):
    ends = []
    for sparse in (True, False):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            table = nn.Embedding(6, 3, sparse=sparse, dtype=torch.float64)
            head = nn.Linear(3, 1, dtype=torch.float64)
        both_of = nn.ModuleList([table, head])
        optimizer = kind(both_of, torch.optim.SGD, rho=0.5, lr=0.1, max_grad_norm=0.3)

        def closure(table=table, head=head):
            loss = (head(table(torch.tensor(rows))) ** 3).sum()
            loss.backward()
            return loss

        for _ in range(3):
            optimizer.step(closure)
            full = [p.grad.to_dense() for p in both_of.parameters()]
            assert nn.utils.get_total_norm(full) < 0.3001
            assert optimizer.trace.gradient_norm > 0.3
        ends.append(flat(both_of))
    torch.testing.assert_close(*ends, rtol=1e-12, atol=1e-12)


@both
def test_a_base_that_maximizes_is_the_one_that_minimizes_the_negative(kind):
    ends = []
    for sign in (1, -1):
        model = torch_net()
        optimizer = kind(
            model, torch.optim.SGD, rho=0.5, maximize=sign < 0, max_grad_norm=0.5, lr=0.1
        )
        for x, y in torch_batches(4):

            def closure(model=model, x=x, y=y, sign=sign):
                loss = sign * nn.functional.cross_entropy(model(x), y)
                loss.backward()
                return loss

            optimizer.step(closure)
        trace = optimizer.trace
        assert (sign * (trace.adversarial_loss - trace.loss)) > 0, "eps makes it worse"
        ends.append(flat(model))
    assert torch.equal(*ends)


def test_groups_that_maximize_climb_down():
    """A saddle, u v: one player's worst place is up, the other's down."""
    u, v = (nn.Parameter(torch.tensor([1.0], dtype=torch.float64)) for _ in range(2))
    groups = [{"params": [u]}, {"params": [v], "maximize": True}]
    sam = SAM(groups, torch.optim.SGD, rho=2**0.5, lr=0.1)
    (u * v).sum().backward()
    sam.first_step()
    torch.testing.assert_close(torch.cat([u, v]).detach(), torch.tensor([2.0, 0.0]).double())


# Batch norm and dropout


@both
@pytest.mark.parametrize("halves", [False, True], ids=["closure", "halves"])
@pytest.mark.parametrize("momentum", [0.1, None])
def test_running_statistics_are_those_of_the_first_pass(kind, halves, momentum):
    model = torch_net()
    model[1].momentum = momentum
    optimizer = kind(
        model, torch.optim.SGD, rho=0.5, **({"sigma": 0.1} if kind is RSAM else {}), lr=0.1
    )
    x, y = batch()
    other = copy.deepcopy(model)
    peer = copy.deepcopy(optimizer)
    if kind is RSAM:  # at w + D
        peer.draw_step()
        with torch.no_grad():
            for p, q in zip(other.parameters(), peer.param_groups[0]["params"]):
                p.copy_(q)
    other(x)
    if halves:
        in_halves(model, optimizer, x, y)
    else:
        optimizer.step(closure_of(model, optimizer, x, y))
    for name, buffer in other.named_buffers():
        assert torch.equal(buffer, dict(model.named_buffers())[name]), name
    assert int(model[1].num_batches_tracked) == 1


LAYERS = {
    "batch norm": lambda: nn.BatchNorm1d(4),
    "instance norm": lambda: nn.InstanceNorm1d(4, affine=True, track_running_stats=True),
    "spectral norm": lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4)),
    "frozen batch norm": lambda: nn.BatchNorm1d(4).eval(),
}


@pytest.mark.parametrize("layer", LAYERS)
def test_whatever_a_layer_keeps_moves_once(layer):
    def data():
        return torch.randn(6, 4, 3 if layer == "instance norm" else 4).squeeze(-1)

    with torch.random.fork_rng():
        torch.manual_seed(0)
        inner = LAYERS[layer]()
        x = data() if layer == "instance norm" else torch.randn(6, 4)
    model = nn.Sequential(inner)
    optimizer = SAM(model, torch.optim.SGD, rho=0.5, lr=0.1)
    other = copy.deepcopy(model)
    other(x)

    def closure():
        optimizer.zero_grad()
        loss = (model(x) ** 3).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    for a, b in zip(model.buffers(), other.buffers()):
        assert torch.equal(a, b)


@both
@pytest.mark.parametrize("halves", [False, True], ids=["closure", "halves"])
@pytest.mark.parametrize("known", ["nothing", "one", "both"])
def test_statistics_of_every_network_that_runs_move_once(kind, halves, known):
    """A generator whose loss goes through another network; a third one, without gradients."""
    nets = [nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)).double() for _ in range(3)]
    generator, discriminator, teacher = nets
    model = {"nothing": None, "one": generator, "both": nn.ModuleList(nets[:2])}[known]
    optimizer = kind(generator.parameters(), torch.optim.SGD, rho=0.5, model=model, lr=0.1)
    x = torch.randn(4, 3, dtype=torch.float64)
    seen = []

    def backward():
        with torch.no_grad():
            goal = teacher(x)
        loss = (discriminator(generator(x)) - goal).square().sum()
        loss.backward()
        seen.append([b.clone() for net in nets for b in net.buffers()])
        return loss

    for step in range(2):
        if halves:
            if kind is RSAM:
                optimizer.draw_step()
            with optimizer.first_pass():
                backward()
            optimizer.first_step()
            backward()
            optimizer.second_step(zero_grad=True)
        else:
            optimizer.step(backward)
        after_first = seen[2 * step]
        assert all(
            torch.equal(a, b)
            for a, b in zip(after_first, (b for net in nets for b in net.buffers()))
        )
        assert [int(net[1].num_batches_tracked) for net in nets] == [step + 1] * 3


def test_what_ran_is_forgotten_and_no_hook_is_left():
    model = torch_net()
    sam = SAM(model.parameters(), torch.optim.SGD, lr=0.1)
    train(model, sam, 1)
    assert sam._ran == set()
    assert not nn.modules.module._global_forward_pre_hooks


@both
def test_a_closure_that_zeroes_nothing_is_the_same_step(kind):
    ends = []
    for zeroes in (True, False):
        model, optimizer = made(kind)
        for x, y in torch_batches(4):

            def closure(model=model, optimizer=optimizer, x=x, y=y, zeroes=zeroes):
                if zeroes:
                    optimizer.zero_grad()
                loss = nn.functional.cross_entropy(model(x), y)
                loss.backward()
                return loss

            optimizer.step(closure)
        ends.append(flat(model))
    assert torch.equal(*ends)


def test_a_draw_begins_a_step_without_the_gradients_of_the_one_before():
    ends = []
    for zeroes in (True, False):
        model, rsam = made(RSAM)
        for x, y in torch_batches(3):
            for part in rsam.PARTS:
                if part != "draw_step":
                    nn.functional.cross_entropy(model(x), y).backward()
                getattr(rsam, part)()
            if zeroes:
                rsam.zero_grad()
        ends.append(flat(model))
    assert torch.equal(*ends)


def test_a_model_may_be_named_for_one_second_pass():
    model = torch_net()
    sam = SAM(model.parameters(), torch.optim.SGD, lr=0.1)
    x, y = batch()
    nn.functional.cross_entropy(model(x), y).backward()
    kept = copy.deepcopy(list(model.buffers()))
    sam.first_step()
    with sam.second_pass(model):
        nn.functional.cross_entropy(model(x), y).backward()
    sam.second_step()
    assert all(torch.equal(a, b) for a, b in zip(model.buffers(), kept))


@both
@pytest.mark.parametrize("halves", [False, True], ids=["closure", "halves"])
def test_both_passes_have_the_same_masks(kind, halves):
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(50, 1, bias=False))
    optimizer = kind(model, torch.optim.SGD, rho=0.1, lr=0.1)
    masks = []
    model[0].register_forward_hook(lambda m, x, out: masks.append(out != 0))

    def backward():
        loss = model(torch.ones(4, 50)).sum()
        loss.backward()
        return loss

    def closure():
        optimizer.zero_grad()
        return backward()

    for _ in range(2):
        if not halves:
            optimizer.step(closure)
            continue
        if kind is RSAM:
            optimizer.draw_step()
        with optimizer.first_pass():
            backward()
        optimizer.first_step()
        with optimizer.second_pass():
            backward()
        optimizer.second_step()
    assert torch.equal(masks[0], masks[1])
    assert torch.equal(masks[2], masks[3])
    assert not torch.equal(masks[0], masks[2])


# Accumulation and clipping


@both
@pytest.mark.parametrize("parts", [2, 4])
@pytest.mark.parametrize("halves", [False, True], ids=["closure", "halves"])
def test_micro_batches_are_the_mini_batch(kind, parts, halves):
    ends = []
    for n in (1, parts):
        model = torch_net().eval()  # batch norm's statistics are those of a part
        _, optimizer = made(kind, model)

        def backward(x, y, n=n, model=model):
            total = 0
            for some_x, some_y in zip(x.chunk(n), y.chunk(n)):
                loss = nn.functional.cross_entropy(model(some_x), some_y) / n
                loss.backward()
                total += loss.item()
            return total

        for x, y in torch_batches(4):
            if halves:
                for name in optimizer.PARTS:
                    if name != "draw_step":
                        backward(x, y)
                    getattr(optimizer, name)()
                optimizer.zero_grad()
            else:

                def closure(optimizer=optimizer, x=x, y=y, backward=backward):
                    optimizer.zero_grad()
                    return backward(x, y)

                optimizer.step(closure)
        ends.append(flat(model))
    torch.testing.assert_close(*ends, rtol=0, atol=1e-12)


@both
@pytest.mark.parametrize("halves", [False, True], ids=["option", "between"])
def test_clipping_is_of_the_second_gradient(kind, halves):
    """By hand: the base step of the clipped gradient, at w."""
    model, optimizer = made(kind, **({} if halves else {"max_grad_norm": 0.05}))
    x, y = batch()
    before = flat(model)
    if halves:
        for name in optimizer.PARTS:
            if name != "draw_step":
                nn.functional.cross_entropy(model(x), y).backward()
            if name == "second_step":
                assert nn.utils.clip_grad_norm_(model.parameters(), 0.05) > 0.05
            getattr(optimizer, name)()
    else:
        optimizer.step(closure_of(model, optimizer, x, y))
    g = torch.cat([p.grad.reshape(-1) for p in model.parameters()])
    assert g.norm().item() == pytest.approx(0.05, rel=1e-4)
    torch.testing.assert_close(flat(model), before - 0.1 * g, rtol=0, atol=1e-15)


# Mixed precision


def scaled_closure(model, optimizer, scaler, x, y, spoil=lambda number, loss: loss):
    calls = itertools.count(1)

    def closure():
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = nn.functional.cross_entropy(model(x), y)
        scaler.scale(spoil(next(calls), loss)).backward()
        return loss

    return closure


def scaler_at(scale=1024.0):
    return torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=1000)


@both
def test_a_scaler_changes_nothing_but_rounding(kind):
    ends = []
    for scaled in (True, False):
        model = torch_net(dtype=torch.float32)
        optimizer = kind(model, torch.optim.SGD, rho=0.1, max_grad_norm=0.5, lr=0.1, momentum=0.9)
        scaler = scaler_at()
        for x, y in torch_batches(3, torch.float32):
            if scaled:
                closure = scaled_closure(model, optimizer, scaler, x, y)
                optimizer.step(closure, scaler=scaler)
                scaler.update()
            else:
                off = torch.amp.GradScaler("cpu", enabled=False)
                optimizer.step(scaled_closure(model, optimizer, off, x, y), scaler=off)
                off.update()
        ends.append(flat(model))
    torch.testing.assert_close(*ends, rtol=1e-6, atol=1e-6)


@both
@pytest.mark.parametrize("overflows", [1, 2])
@pytest.mark.parametrize("halves", [False, True], ids=["closure", "halves"])
def test_an_overflow_in_either_pass_skips_the_step(kind, overflows, halves):
    model = torch_net(dtype=torch.float32)
    optimizer = kind(model, torch.optim.SGD, rho=0.1, lr=0.1, momentum=0.9)
    scaler = scaler_at()
    x, y = next(torch_batches(1, torch.float32))

    def spoil(number, loss):
        return loss * float("inf") if number == overflows else loss

    def one_step(spoil):
        closure = scaled_closure(model, optimizer, scaler, x, y, spoil)
        if not halves:
            optimizer.step(closure, scaler=scaler)
        else:
            for name in optimizer.PARTS:
                if name != "draw_step":
                    closure()
                getattr(optimizer, name)(*([scaler] if name == "first_step" else []))
        scaler.update()

    one_step(lambda number, loss: loss)
    before, state = flat(model), copy.deepcopy(optimizer.base_optimizer.state_dict())
    statistics = copy.deepcopy(list(model.buffers()))
    one_step(spoil)
    assert torch.equal(flat(model), before)
    for a, b in zip(optimizer.state.values(), state["state"].values()):
        assert torch.equal(a["momentum_buffer"], b["momentum_buffer"])
    assert all(torch.isfinite(b).all() for b in model.buffers())
    assert not torch.equal(next(model.buffers()), statistics[0])
    assert scaler.get_scale() == 512
    one_step(lambda number, loss: loss)
    assert not torch.equal(flat(model), before)
    assert torch.isfinite(flat(model)).all()


@both
def test_a_step_inside_autocast_casts_the_weights_of_each_pass(kind):
    """Autocast keeps its casts of the weights until its block ends, whatever becomes of them."""
    losses = []
    for outside in (True, False):
        model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
        with torch.no_grad():
            for i, p in enumerate(model.parameters()):
                p.copy_(torch.linspace(-1, 1 + i, p.numel()).reshape(p.shape))
        optimizer = kind(model, torch.optim.SGD, rho=2.0, lr=0.1)
        log: list = []

        def block():
            return torch.autocast("cpu", dtype=torch.bfloat16)

        def closure(model=model, optimizer=optimizer, log=log, outside=outside, block=block):
            optimizer.zero_grad()
            with contextlib.nullcontext() if outside else block():
                loss = model(torch.ones(2, 4)).float().square().sum()
            loss.backward()
            log.append(loss.item())
            return loss

        with block() if outside else contextlib.nullcontext():
            optimizer.step(closure)
        losses.append(log)
    assert losses[0] == losses[1]
    assert losses[0][1] > losses[0][0] + 1


# Schedulers, hooks, compilation


@both
@pytest.mark.parametrize("halves", [False, True], ids=["closure", "halves"])
def test_a_scheduler_sets_the_rate_of_the_base_and_warns_of_nothing(kind, halves):
    model, optimizer = made(kind)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=5)
    rates = []
    for x, y in torch_batches(4):
        if halves:
            in_halves(model, optimizer, x, y)
        else:
            optimizer.step(closure_of(model, optimizer, x, y))
        rates.append(optimizer.base_optimizer.param_groups[0]["lr"])
        scheduler.step()
    assert len(set(rates)) == 4


def test_hooks_are_called_once_a_step():
    model, sam = made()
    calls = []
    sam.register_step_post_hook(lambda *_: calls.append("sam"))
    sam.base_optimizer.register_step_pre_hook(lambda *_: calls.append("base"))
    train(model, sam, 2)
    assert calls == ["base", "sam"] * 2


@both
@pytest.mark.parametrize("halves", [False, True], ids=["closure", "halves"])
def test_every_hook_is_called_once_a_step_with_g_in_the_gradients(kind, halves):
    model, optimizer = made(kind)
    optimizer = copy.deepcopy((model, optimizer))[1]
    model = nn.ParameterList(optimizer.param_groups[0]["params"])
    calls, x = [], [torch.randn_like(p) for p in model]
    optimizer.register_step_pre_hook(lambda o, *_: calls.append(("before", o, flat(model))))
    optimizer.register_step_post_hook(lambda o, *_: calls.append(("after", o, flat(model))))
    everywhere = register_optimizer_step_post_hook(
        lambda o, *_: calls.append(("everywhere", o, flat(model)))
    )

    def backward():
        loss = sum((a * p**2).sum() for a, p in zip(x, model))
        loss.backward()
        return loss

    w = flat(model)
    try:
        if halves:
            for part in optimizer.PARTS:
                if part != "draw_step":
                    backward()
                getattr(optimizer, part)()
        else:
            optimizer.step(backward)
    finally:
        everywhere.remove()
    base = optimizer.base_optimizer
    assert [call[0] for call in calls] == ["before", "after", "everywhere"]
    assert [call[1] for call in calls] == [optimizer, optimizer, base]
    assert torch.equal(calls[0][2], w)
    assert torch.equal(calls[1][2], flat(model))
    optimizer.register_step_pre_hook(lambda o, args, kwargs: (args, kwargs))
    with pytest.raises(RuntimeError, match="cannot change arguments"):
        optimizer.step(backward)


def test_a_hook_is_not_called_for_a_step_that_the_scaler_skips():
    model = torch_net(dtype=torch.float32)
    sam = SAM(model, torch.optim.SGD, lr=0.1)
    calls = []
    sam.register_step_post_hook(lambda *_: calls.append(sam.steps))
    x, y = next(torch_batches(1, torch.float32))
    for spoilt in (False, True, False):
        scaler = scaler_at()
        factor = float("inf") if spoilt else 1.0

        def spoil(number, loss, factor=factor):
            return loss * factor

        sam.step(scaled_closure(model, sam, scaler, x, y, spoil), scaler=scaler)
    assert sam.steps == 3, "a step that is skipped counts"
    assert calls == [0, 2]


@both
def test_the_trace_has_the_losses_and_norms_of_the_last_step(kind):
    assert made(kind)[1].trace is None
    model, optimizer = made(kind, max_grad_norm=1e6)
    log: list = []
    x, y = batch()
    optimizer.step(closure_of(model, optimizer, x, y, log=log))
    trace: Any = optimizer.trace
    assert [trace.loss.item(), trace.adversarial_loss.item()] == [entry[1] for entry in log]
    assert not trace.loss.requires_grad
    g = torch.cat([p.grad.reshape(-1) for p in model.parameters()])
    torch.testing.assert_close(trace.gradient_norm, g.norm())
    if kind is SAM:
        other, peer = made(kind)
        nn.functional.cross_entropy(other(x), y).backward()
        g0 = torch.cat([p.grad.reshape(-1) for p in other.parameters()])
        torch.testing.assert_close(trace.ascent_norm, g0.norm())
        in_halves(other, peer, x, y)
        halves: Any = peer.trace
        assert halves.loss is None
        assert halves.gradient_norm is None


@pytest.mark.filterwarnings("ignore")  # dynamo's own, which are not its users'
@both
def test_a_compiled_model_and_a_compiled_step_take_the_same_step(kind):
    """By dynamo alone: what is compiled is the graph, whoever makes code of it."""
    ends = []
    for how in ("plain", "model", "step"):
        torch._dynamo.reset()
        model = torch_net()
        optimizer = kind(model, torch.optim.SGD, rho=0.1, lr=0.1, momentum=0.9)
        used = torch.compile(model, backend="eager") if how == "model" else model

        def step(x, y, used=used, optimizer=optimizer):
            return optimizer.step(closure_of(used, optimizer, x, y))

        one_step = torch.compile(step, backend="eager") if how == "step" else step
        for x, y in torch_batches(3):
            one_step(x, y)
        ends.append((flat(model), [b.clone() for b in model.buffers()]))
    for end in ends[1:]:
        torch.testing.assert_close(end, ends[0], rtol=0, atol=1e-12)
