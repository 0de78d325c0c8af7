"""The optimizers for PyTorch where a step is abandoned, called otherwise, or given what is new."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from torch import nn

from rsam_ref.pytorch import RSAM, SAM
from tests.helpers.torch_problems import closure_of, flat, in_halves, torch_batches, torch_net

both = pytest.mark.parametrize("kind", [SAM, RSAM])


def made(kind=SAM, **options):
    model = torch_net()
    return model, kind(model, torch.optim.SGD, rho=0.1, lr=0.1, momentum=0.9, **options)


def batch():
    return next(torch_batches(1))


def backward(model, x, y, scale=lambda loss: loss):
    scale(nn.functional.cross_entropy(model(x), y)).backward()


def up_to(part, optimizer, model, *, scaler=None):
    """The parts of a step before this one, with their backward passes, and the pass before it."""
    x, y = batch()
    for name in optimizer.PARTS:
        if name != "draw_step":
            backward(model, x, y, scaler.scale if scaler else lambda loss: loss)
        if name == part:
            return
        getattr(optimizer, name)(*([scaler] if scaler and name == "first_step" else []))


# Gradients of an abandoned step


@both
@pytest.mark.parametrize("part", ["first_step", "second_step"])
def test_a_step_after_one_that_was_abandoned_is_as_if_there_had_been_none(kind, part):
    ends = []
    for abandons in (True, False):
        model, optimizer = made(kind)
        model.eval()  # the statistics of what was abandoned have moved
        if abandons:
            up_to(part, optimizer, model)
            optimizer.restore()
            assert all(p.grad is None for p in model.parameters())
        in_halves(model, optimizer, *batch())
        ends.append(flat(model))
    assert torch.equal(*ends)


# Under a scaler


def scaler_at(scale=1024.0):
    return torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=1000)


def net_in_float32(kind, **options):
    model = torch_net(dtype=torch.float32).eval()
    return model, kind(model, torch.optim.SGD, rho=0.1, lr=0.1, **options)


def scaled(model, scaler, spoil=lambda loss: loss):
    x, y = next(torch_batches(1, torch.float32))

    def closure():
        loss = spoil(nn.functional.cross_entropy(model(x), y))
        scaler.scale(loss).backward()
        return loss

    return closure


@both
@pytest.mark.parametrize("fails", [1, 2])
@pytest.mark.parametrize("clips", [None, 0.5])
@pytest.mark.parametrize("updates", [False, True])
def test_a_step_goes_on_after_a_closure_that_raised(kind, fails, clips, updates):
    ends = []
    for raises in (True, False):
        model, optimizer = net_in_float32(kind, max_grad_norm=clips)
        scaler, calls = scaler_at(), itertools.count(1)
        closure = scaled(model, scaler)

        def failing(closure=closure, calls=calls):
            loss = closure()
            if next(calls) == fails:
                raise MemoryError
            return loss

        if raises:
            with pytest.raises(MemoryError):
                optimizer.step(failing, scaler=scaler)
            if updates and fails == 2:
                scaler.update()
        optimizer.step(closure, scaler=scaler)
        scaler.update()
        ends.append(flat(model))
        assert scaler.get_scale() == 1024
    assert torch.equal(*ends)


@both
def test_a_step_goes_on_after_a_hook_that_raised(kind):
    model, optimizer = net_in_float32(kind, max_grad_norm=0.5)
    scaler = scaler_at()
    before = flat(model)

    def refuses(*_):
        raise ArithmeticError

    hook = optimizer.register_step_pre_hook(refuses)
    with pytest.raises(ArithmeticError):
        optimizer.step(scaled(model, scaler), scaler=scaler)
    assert torch.equal(flat(model), before)
    hook.remove()
    optimizer.step(scaled(model, scaler), scaler=scaler)
    scaler.update()
    assert not torch.equal(flat(model), before)


@both
def test_a_part_goes_on_after_restore(kind):
    model, optimizer = net_in_float32(kind)
    scaler = scaler_at()
    for _ in range(2):
        if kind is RSAM:
            optimizer.draw_step()
        scaled(model, scaler)()
        optimizer.first_step(scaler)
        optimizer.restore()
    optimizer.step(scaled(model, scaler), scaler=scaler)
    scaler.update()
    assert optimizer.steps == 1


def test_an_overflow_of_an_abandoned_step_lowers_the_scale():
    model, sam = net_in_float32(SAM)
    scaler = scaler_at()
    scaled(model, scaler, lambda loss: loss * float("inf"))()
    sam.first_step(scaler)
    sam.restore()
    scaler.update()
    assert scaler.get_scale() == 512


@both
@pytest.mark.parametrize("before", [0, 1])
def test_a_scalers_own_step_is_refused(kind, before):
    model, optimizer = net_in_float32(kind)
    scaler = scaler_at()
    closure = scaled(model, scaler)
    for _ in range(before):
        optimizer.step(closure, scaler=scaler)
        scaler.update()
    weights = flat(model)
    closure()
    for arguments in ([closure], []):
        with pytest.raises(RuntimeError, match=r"call step\(closure, scaler=scaler\), or"):
            scaler.step(optimizer, *arguments)
        assert torch.equal(flat(model), weights)
    optimizer.step(closure, scaler=scaler)
    scaler.update()
    assert optimizer.steps == before + 1
    off = torch.amp.GradScaler("cpu", enabled=False)
    off.step(optimizer, scaled(model, off))  # then it does nothing but call
    assert optimizer.steps == before + 2


def test_a_scaler_that_is_not_given_raises_after_the_step():
    """What docs/pytorch.md says: the base step is taken with the scaled gradient."""
    model, sam = net_in_float32(SAM)
    scaler = scaler_at()
    sam.step(scaled(model, scaler))
    with pytest.raises(AssertionError, match="No inf checks were recorded"):
        scaler.update()


@both
@pytest.mark.parametrize("how", ["option", "by hand", "hook"])
def test_every_way_to_clip_under_a_scaler_clips_g_as_it_is(kind, how):
    model, optimizer = net_in_float32(kind, max_grad_norm=0.05 if how == "option" else None)
    scaler = scaler_at()
    closure = scaled(model, scaler)
    params = list(model.parameters())
    before = flat(model)
    if how == "hook":
        optimizer.register_step_pre_hook(lambda *_: nn.utils.clip_grad_norm_(params, 0.05) and None)
        optimizer.step(closure, scaler=scaler)
    else:
        if kind is RSAM:
            optimizer.draw_step()
        closure()
        optimizer.first_step(scaler)
        closure()
        if how == "by hand":
            with pytest.raises(RuntimeError, match="already been called"):
                scaler.unscale_(optimizer)
            scaler.unscale_(optimizer.base_optimizer)
            assert nn.utils.clip_grad_norm_(params, 0.05) < 10
        optimizer.second_step()
    scaler.update()
    g = torch.cat([p.grad.reshape(-1) for p in params])
    assert g.norm().item() == pytest.approx(0.05, rel=1e-3)
    torch.testing.assert_close(flat(model), before - 0.1 * g, rtol=0, atol=1e-6)


# The blocks of the passes


@both
@pytest.mark.parametrize("blocks", [1, 3])
def test_every_block_of_the_second_pass_has_the_masks_of_its_own(kind, blocks):
    """Micro-batches in a block each, or all in one, are the closure's mini-batch."""
    ends = []
    for whole in (True, False):
        with torch.random.fork_rng():
            torch.manual_seed(5)
            model = torch_net(dropout=0.5).train()
            optimizer = kind(model, torch.optim.SGD, rho=0.5, lr=0.1)
            for x, y in torch_batches(2, samples=6):
                parts = list(zip(x.chunk(3), y.chunk(3)))

                def some(parts, model=model):
                    for a, b in parts:
                        backward(model, a, b, lambda loss: loss / 3)

                if whole:
                    optimizer.step(lambda some=some, parts=parts: some(parts))
                    continue
                if kind is RSAM:
                    optimizer.draw_step()
                for block, then in (
                    (optimizer.first_pass, optimizer.first_step),
                    (optimizer.second_pass, optimizer.second_step),
                ):
                    for group in [parts] if blocks == 1 else [[part] for part in parts]:
                        with block():
                            some(group)
                    then()
                optimizer.zero_grad()
        ends.append(flat(model))
    assert torch.equal(*ends)


@both
def test_blocks_that_do_not_pair_are_refused_and_change_nothing(kind):
    model, optimizer = made(kind)
    x, y = batch()

    def refused(says, call):
        before = flat(model)
        with pytest.raises(RuntimeError, match=says):
            call()
        assert torch.equal(flat(model), before)

    def enter(block):
        with block():
            raise AssertionError("not refused")

    refused(r"second_pass\(\) out of turn", lambda: enter(optimizer.second_pass))
    if kind is RSAM:
        refused(r"first_pass\(\) out of turn: draw", lambda: enter(optimizer.first_pass))
        optimizer.draw_step()
    with optimizer.first_pass():
        backward(model, x, y)
        refused(r"first_step\(\) within first_pass\(\)", optimizer.first_step)
        refused(r"first_pass\(\) within first_pass\(\)", lambda: enter(optimizer.first_pass))
    with optimizer.first_pass():
        backward(model, x, y)
    optimizer.first_step()
    refused(r"first_pass\(\) out of turn", lambda: enter(optimizer.first_pass))
    with optimizer.second_pass():
        backward(model, x, y)
    refused(r"2 blocks first_pass\(\) and 1 second_pass\(\)", optimizer.second_step)
    with optimizer.second_pass():
        backward(model, x, y)
    refused(r"2 blocks first_pass\(\) and 3 second", lambda: enter(optimizer.second_pass))
    optimizer.second_step()
    optimizer.zero_grad()
    up_to("second_step", optimizer, model)
    refused(r"0 blocks first_pass\(\) and 1 second", lambda: enter(optimizer.second_pass))
    optimizer.second_step()


def test_a_pass_that_fails_or_is_left_out_leaves_no_masks_behind():
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(50, 1, bias=False))
    sam = SAM(model, torch.optim.SGD, rho=0.1, lr=0.1)
    masks = []
    model[0].register_forward_hook(lambda m, x, out: masks.append(out != 0))

    def some(fails=False):
        model(torch.ones(4, 50)).sum().backward()
        if fails:
            raise ArithmeticError

    with pytest.raises(ArithmeticError), sam.first_pass():
        some(fails=True)
    sam.zero_grad()
    with sam.first_pass():  # a loss that is not finite, say: the loop goes on with the next batch
        some()
    sam.zero_grad()
    with sam.first_pass():
        some()
    sam.first_step()
    with pytest.raises(ArithmeticError), sam.second_pass():
        some(fails=True)
    for p in model.parameters():
        p.grad = None
    with sam.second_pass():
        some()
    sam.second_step()
    assert not torch.equal(masks[1], masks[2])
    assert torch.equal(masks[2], masks[3])
    assert torch.equal(masks[2], masks[4])


# Groups


@both
def test_a_group_that_the_base_is_given_takes_part(kind):
    ends = []
    for by_base in (True, False):
        a, b = (nn.Parameter(torch.tensor([v], dtype=torch.float64)) for v in (3.0, 4.0))
        optimizer = kind([a], torch.optim.SGD, rho=lambda step: 1.0, lr=0.1)
        giver = optimizer.base_optimizer if by_base else optimizer
        giver.add_param_group({"params": [b], "lr": 0.2})
        for _ in range(2):
            optimizer.step(lambda a=a, b=b: ((a @ a + b @ b) / 2).backward())
        late = nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
        giver.add_param_group({"params": [late]})
        assert optimizer.state_dict()["param_groups"][2]["rho"] == 1.0
        ends.append(torch.cat([a, b]).detach())
    assert torch.equal(*ends)


def test_a_group_that_comes_between_the_parts_is_of_the_next_step():
    a, b = (nn.Parameter(torch.ones(2)) for _ in range(2))
    rsam = RSAM([a], torch.optim.SGD, lr=0.1)
    rsam.draw_step()
    rsam.base_optimizer.add_param_group({"params": [b]})
    (a.square().sum() + b.square().sum()).backward()
    rsam.first_step()
    assert torch.equal(b, torch.ones(2))


@pytest.mark.parametrize("name", ["rhoo", "Rho", "lamb", "sigm", "max_grad_norm", "seed", "draw"])
@both
def test_a_group_with_a_setting_that_is_none_is_refused(kind, name):
    first, late = (nn.Parameter(torch.ones(2)) for _ in range(2))
    with pytest.raises(ValueError, match=f"a group has '{name}', which is no setting of"):
        kind([{"params": [first], name: 0.1}], torch.optim.SGD, lr=0.1)
    optimizer = kind([first], torch.optim.SGD, lr=0.1)
    optimizer.base_optimizer.add_param_group({"params": [late], name: 0.1})
    first.grad = torch.ones(2)
    with pytest.raises(ValueError, match=f"a group has '{name}'"):
        getattr(optimizer, kind.PARTS[0])()
    assert torch.equal(first, torch.ones(2))


def test_what_a_group_has_of_its_own_is_let_be():
    names = ["name", "lr_scale", "initial_lr", "beta", "theta", "layer", "lambda_decay", "tau"]
    group = {"params": [nn.Parameter(torch.ones(2))], **dict.fromkeys(names, 0.5)}
    for kind in (SAM, RSAM):
        kind([dict(group)], torch.optim.SGD, lr=0.1)


def test_a_function_in_a_group_of_an_optimizer_that_is_made_says_where_it_belongs():
    model, sam = made()
    sam.param_groups[0]["rho"] = lambda step: 0.1
    with pytest.raises(TypeError, match=r"a function of the step is given when it is made"):
        sam.step(closure_of(model, sam, *batch()))


# States


@pytest.mark.parametrize("adaptive", [False, True])
def test_a_state_of_asam_is_none_of_sam(adaptive):
    (model, sam), (_, other) = made(adaptive=adaptive), made(adaptive=not adaptive)
    sam.step(closure_of(model, sam, *batch()))
    state, before = sam.state_dict(), copy.deepcopy(other.state_dict())
    with pytest.raises(ValueError, match=f"make SAM with adaptive={adaptive} to go on with it"):
        other.load_state_dict(state)
    assert other.state_dict() == before
    made(adaptive=adaptive)[1].load_state_dict(state)


def test_the_state_of_a_base_leaves_the_groups_their_radii():
    def groups():
        return [{"params": [nn.Parameter(torch.ones(2))]} for _ in range(2)]

    given = groups()
    given[1]["rho"] = 0.7
    sam = SAM(given, torch.optim.SGD, rho=0.2, lr=0.1)
    sam.base_optimizer.load_state_dict(torch.optim.SGD(groups(), lr=0.3).state_dict())
    assert [(g["rho"], g["lr"]) for g in sam.param_groups] == [(0.2, 0.3), (0.7, 0.3)]
    with pytest.raises(ValueError, match="parameter group"):
        sam.base_optimizer.load_state_dict(torch.optim.SGD(groups()[:1], lr=0.3).state_dict())


# Compilation


def test_a_model_that_is_compiled_in_place_warns_of_nothing():
    torch._dynamo.reset()
    model = nn.Linear(4, 2)
    model.compile(backend="eager")
    sam = SAM(model, torch.optim.SGD, lr=0.1)
    sam.step(lambda: model(torch.ones(3, 4)).square().sum().backward())
    assert sam.steps == 1


def test_around_a_compiled_model_torch_warns_of_the_hook():
    """What docs/pytorch.md says of it; the step is the same (test_pytorch_training.py)."""
    torch._dynamo.reset()
    model = nn.Linear(4, 2)
    compiled = torch.compile(model, backend="eager")
    sam = SAM(model, torch.optim.SGD, lr=0.1)
    with pytest.warns(UserWarning, match="when there are global hooks on modules"):
        sam.step(lambda: compiled(torch.ones(3, 4)).square().sum().backward())
