"""The ways into an implementation: how it is made and called, and where its settings are."""

from __future__ import annotations

import numpy as np
import pytest

from rsam_ref.conformance import BrokenError, check
from rsam_ref.conformance.observe.forms import form_of

from . import right_arrays
from .right import sam_copies


def codes(report):
    return [f.code for f in report.findings if f.diverges]


def notes(report):
    return [f.code for f in report.findings if not f.diverges]


# Functions of arrays


def length(arrays):
    return np.sqrt(sum((a**2).sum() for a in arrays)) + 1e-12


def by_name(params, grads_fn, *, lr, rho):
    g = grads_fn(params)
    norm = length(g)
    h = grads_fn([p + rho * d / norm for p, d in zip(params, g)])
    return [p - lr * d for p, d in zip(params, h)]


def reordered(params, opt_state, value_and_grad, cfg):
    _, g = value_and_grad(params)
    norm = length(g)
    _, h = value_and_grad([p + cfg.radius * d / norm for p, d in zip(params, g)])
    h = [d + cfg.wd * p for d, p in zip(h, params)]
    v = [cfg.mu * a + d for a, d in zip(opt_state.get("v", [0] * len(h)), h)]
    return [p - cfg.learning_rate * d for p, d in zip(params, v)], {"v": v}


def fixed(w, value_and_grad):
    _, g = value_and_grad(w)
    norm = length(g)
    _, h = value_and_grad([p + 0.05 * d / norm for p, d in zip(w, g)])
    return [p - 0.1 * d for p, d in zip(w, h)]


def unnormalised_on_a_vector(w, grad_fn, rho, lr):
    return w - lr * grad_fn(w + rho * grad_fn(w))


def drawn_on_a_vector(loss_and_grad, w, rho, sigma, lam, lr):
    drawn = sigma * np.linalg.norm(w) * np.random.standard_normal(w.shape)  # noqa: NPY002
    a = lam * loss_and_grad(w + drawn)[1] + drawn
    return w - lr * loss_and_grad(w + rho * a / (np.linalg.norm(a) + 1e-12))[1]


def cut_short(w, grad_fn, rho, lr):
    return unnormalised_on_a_vector(w, grad_fn, rho, lr)[:-1]


def unfinished(w, grad_fn, rho, lr):
    return nothing * w  # noqa: F821


def test_weights_may_be_one_flat_vector():
    report = check(unnormalised_on_a_vector, "sam")
    assert [f.code for f in report.findings] == ["ascent.not-normalised"]
    assert report.findings[0].evidence["known as"] == "Unnormalised SAM"
    assert codes(check(drawn_on_a_vector, "rsam")) == ["noise.global-norm"]
    with pytest.raises(
        BrokenError, match=r"sequence.*; given one flat vector.*\(\d+,\) for the vector"
    ):
        check(cut_short, "sam")
    with pytest.raises(BrokenError) as failed:
        check(unfinished, "sam")
    assert str(failed.value).count("'nothing' is not defined") == 1  # the same in both ways


def test_a_function_may_take_its_settings_by_name_and_have_no_state():
    assert form_of(by_name) == "function"
    report = check(by_name, "sam")
    assert report.conforms
    assert "momentum (it looks like 0)" in report.probes["settings"]
    assert "rho" not in report.probes["settings"]
    assert check(reordered, "sam").conforms


def test_what_a_function_does_not_take_is_read_off():
    report = check(fixed, "sam")
    assert report.conforms
    assert "rho (it looks like 0.05), lr (it looks like 0.1)" in report.probes["settings"]
    assert report.probes["rho = 0"] == "not done: rho could not be passed"


def test_a_radius_that_cannot_be_passed_and_is_not_constant_makes_no_divergence_alone():
    def wandering(w, value_and_grad, state, lr, momentum, weight_decay):
        count = state.get("count", 0)
        _, g = value_and_grad(w)
        norm = length(g)
        rho = 0.05 * (1 + np.sin(3.7 * count) ** 2)
        _, h = value_and_grad([p + rho * d / norm for p, d in zip(w, g)])
        h = [d + weight_decay * p for d, p in zip(h, w)]
        v = [momentum * a + d for a, d in zip(state.get("v", [0] * len(h)), h)]
        return [p - lr * d for p, d in zip(w, v)], {"v": v, "count": count + 1}

    report = check(wandering, "sam")
    assert report.conforms, report
    (finding,) = [f for f in report.findings if f.conditional]
    assert finding.evidence["not passed"].startswith("rho could not be passed to wandering")


def test_what_is_not_passed_hides_no_other_mistake():
    def not_restored(w, value_and_grad):
        _, g = value_and_grad(w)
        norm = length(g)
        at = [p + 0.05 * d / norm for p, d in zip(w, g)]
        _, h = value_and_grad(at)
        return [p - 0.1 * d for p, d in zip(at, h)]

    assert "restore.not-undone" in codes(check(not_restored, "sam"))


def test_a_state_that_cannot_be_copied_is_not_done():
    class Stubborn:
        def __deepcopy__(self, memo):
            raise TypeError("cannot be copied")

    def kept(weights, loss_and_grad, state, hyper):
        inner = state.get("inner", {})
        moved, inner = sam_copies(weights, loss_and_grad, inner, hyper)
        return moved, {"inner": inner, "lock": Stubborn()}

    report = check(kept, "sam")
    assert report.conforms
    assert "cannot be copied" in report.probes["save and resume"]


# Classes, steps in place, gradients


@pytest.mark.parametrize("row", right_arrays.ROWS, ids=lambda row: row[0])
def test_what_stands_for_a_step_on_arrays_is_known_as_that(row):
    assert form_of(row[2]) == "function"


def test_the_report_says_that_the_check_made_the_base_step():
    report = check(right_arrays.gradient, "sam")
    assert report.conforms
    assert report.probes["base step"].startswith("not done: gradient gives back a gradient")
    assert "settings" not in report.probes
    assert "base step" not in check(right_arrays.update, "sam").probes


def test_a_look_at_w_before_the_draw_is_no_part_of_a_step_with_a_large_loss():
    def looks(w, loss_and_grad, rng, rho, sigma, lam):
        loss_and_grad(w)
        return right_arrays.drawn_gradient(loss_and_grad, w, rng, sigma, lam, rho)

    report = check(looks, "rsam")
    assert report.probes["loss x 1e3"] == "passed", report


def test_settings_are_written_where_a_step_follows_them():
    """A record of lr beside the base that has it is no setting, and alone would change nothing."""

    class Recorded(right_arrays.Flat):
        def __init__(self, lr, rho, momentum, weight_decay):
            super().__init__(lr, rho, momentum, weight_decay)
            self.half = 0.5 * rho  # what its step reads

        def up(self, w, g):
            return w + 2 * self.half * g / right_arrays.length(g)

    report = check(Recorded, "sam")
    assert report.conforms, report

    class Ignores(right_arrays.Flat):
        def down(self, w, g):
            self.velocity = self.momentum * self.velocity + g + self.weight_decay * w
            w -= 0.1 * self.velocity

    assert codes(check(Ignores, "sam")) == ["update.lr-ignored"]


def test_every_run_has_an_object_of_its_own_and_one_that_is_given_is_left_alone():
    mine = right_arrays.Flat(0.05, 0.02)
    report = check(mine, "sam")
    assert report.conforms
    assert isinstance(mine.velocity, float)
    assert mine.lr == 0.05
    assert report.probes["save and resume"] == "passed"
    closure = check(right_arrays.maker, "sam")
    assert "in a closure" in closure.probes["save and resume"]


def test_what_a_class_or_a_step_lacks_is_said():
    class Needs(right_arrays.Flat):
        def __init__(self, colour, lr=0.1):
            super().__init__(lr)

    with pytest.raises(BrokenError, match=r"Needs needs 'colour'.*make\(hyper\)"):
        check(Needs, "sam")

    class Raises(right_arrays.Flat):
        def __init__(self, lr=0.1):
            raise ValueError("not today")

    with pytest.raises(BrokenError, match=r"Raises could not be made \(ValueError: not today\)"):
        check(Raises, "sam")

    def nothing(w, loss_and_grad, rho, lr):
        loss_and_grad(w)

    with pytest.raises(BrokenError, match="returned from step 1 NoneType, and left the weights"):
        check(nothing, "sam")

    def later(w, loss_and_grad, t, rho, lr):
        new = w - lr * right_arrays.gradient(loss_and_grad, w, rho)
        return new if t == 0 else "done"

    with pytest.raises(BrokenError, match="step 2"):
        check(later, "sam")


def test_a_step_on_tensors_alone_is_told_what_to_write(tmp_path):
    file = tmp_path / "tensors.py"
    file.write_text(
        "import torch\n\n"
        "def update(params, grads, loss_and_grad, lr, rho):\n"
        "    norm = torch.sqrt(sum((g * g).sum() for g in grads))\n"
    )
    with pytest.raises(BrokenError, match=r"PyTorch's tensors is checked as train_step\(model"):
        check(f"{file}:update", "sam")


def test_what_a_class_of_numpy_alone_lacks_is_said_of_arrays(tmp_path):
    path = tmp_path / "halves.py"
    path.write_text(
        "import numpy as np\n"
        "class SAM:\n"
        "    def __init__(self, lr=0.1, rho=0.05):\n"
        "        self.lr, self.rho = lr, rho\n"
        "    def ascent(self, w, g):\n"
        "        return w + self.rho * g / np.linalg.norm(g)\n"
        "    def descent(self, w, g):\n"
        "        return w - self.lr * g\n"
    )
    with pytest.raises(BrokenError, match=r"NumPy alone: write train_step\(weights, loss_and") as e:
        check(f"{path}:SAM", "sam")
    assert "train_step(model" not in str(e.value)


# PyTorch

torch = pytest.importorskip("torch")

from . import strangers  # noqa: E402

RIGHT = [
    strangers.PerturbAndStep,
    strangers.PerturbAndRestore,
    strangers.of_the_model,
    strangers.of_the_model_and_hyper,
    strangers.of_the_model_alone,
    strangers.InConfig,
    strangers.InProperty,
    strangers.FixedRadius,
    strangers.Recorded,
    strangers.OfNames,
    strangers.ForwardOnly,
    strangers.AsksForBackward,
    strangers.SingleOnly,
    strangers.WithoutLr,
    strangers.apart,
    strangers.reordered,
    strangers.configured,
    strangers.fixed,
    strangers.nameless,
    strangers.annotated,
    strangers.over_a_loader,
    strangers.starred,
    strangers.own_optimizer,
    strangers.keeps_it_on_the_model,
    strangers.keeps_it_in_a_global,
    strangers.ByTurns,
    strangers.in_a_global,
    strangers.in_a_default,
    strangers.in_an_attribute,
    strangers.in_a_class,
    strangers.in_a_closure,
    strangers.InItsClass,
    strangers.in_halves,
    strangers.in_halves_of_a_sam,
    strangers.by_closure,
]


@pytest.mark.parametrize("subject", RIGHT, ids=lambda subject: subject.__name__)
def test_a_right_step_conforms_in_the_forms_of_strangers(subject):
    report = check(subject, "sam")
    assert codes(report) == [], f"{report}\n{report.probes}"
    assert report.algorithm == "sam"


@pytest.mark.parametrize("made", ["NeverBack", "OfABatch"])
def test_a_step_that_cannot_be_called_so_says_what_to_write(made):
    with pytest.raises(BrokenError, match=r"positional argument.*write train_step\(model"):
        check(getattr(strangers, made), "sam")


@pytest.mark.parametrize("way", ["parametrized", "as_attributes"])
def test_perturbed_weights_may_stand_in_the_place_of_parameters(way):
    report = check(getattr(strangers, way), "sam")
    assert report.conforms, report
    assert report.probes["batch norm, dropout, shared weights"] == "findings"  # other masks
    assert codes(report) == []


@pytest.mark.parametrize(
    ("way", "says"),
    [
        ("by_hooks", "only while a layer runs.*for the whole pass"),
        ("drawn_anew", "draws anew, cannot be followed"),
        ("taken_away", "layers.0.weight was taken away"),
    ],
)
def test_weights_that_cannot_be_followed_are_no_verdict(way, says):
    with pytest.raises(BrokenError, match=says):
        check(getattr(strangers, way), "sam")


def test_a_step_written_for_a_class_of_its_file_is_given_one():
    report = check(strangers.in_halves, "sam")
    assert report.form == "loop"
    assert report.probes["save and resume"] == "passed"
    assert codes(check(strangers.in_halves_twice_moved, "sam")) == ["batch-norm.moved-twice"]
    with pytest.raises(BrokenError, match=r"no attribute 'leap'.*annotate the parameter with it"):
        check(strangers.in_no_known_way, "sam")
    with pytest.raises(BrokenError, match=r"given NeedsColours instead: .*needs 'colours'"):
        check(strangers.in_colours, "sam")


def test_rsam_in_three_calls_is_found_by_trying():
    report = check(strangers.ThreeCalls, "rsam")
    assert report.conforms, report
    assert report.probes["settings by trying"] == "passed: s is sigma, k is lam"


def test_a_radius_that_nobody_can_change_is_read_off_and_told():
    report = check(strangers.FixedRadius, "sam")
    assert "rho (it looks like 0.07)" in report.probes["settings"]
    report = check(strangers.own_optimizer, "sam")
    assert "lr (it looks like 0.1), momentum (it looks like 0.9)" in report.probes["settings"]
    assert "nothing of it can be saved" in report.probes["save and resume"]


def test_what_runs_in_float32_only_is_judged_there():
    report = check(strangers.SingleOnly, "sam")
    assert "it runs in float32 only" in report.probes["float64"]
    assert "expected float32" in report.probes["float64"]


def test_augmentation_within_a_step_cannot_be_checked_and_says_what_to_do():
    with pytest.raises(BrokenError, match=r"augments .* take that out"):
        check(strangers.augmented, "sam")


def test_halves_that_never_come_back_say_what_to_do():
    class Halves:
        def __init__(self, model, rho=0.05):
            self.optimizer = torch.optim.SGD(model.parameters(), 0.1)

        def perturb(self):
            raise RuntimeError("not today")

        def restore(self):
            pass

    with pytest.raises(
        BrokenError, match=r"perturb, restore.*not today, test_ways_in.*train_step\(model"
    ):
        check(Halves, "sam")


def test_no_message_prints_a_tensor():
    def train_step(model, optimizer, loss_fn, batch, hyper):
        raise ValueError(f"odd inputs: {batch[0]}")

    with pytest.raises(BrokenError, match=r"odd inputs: tensor\(\.\.\.\), test_ways_in.py line"):
        check(train_step, "sam")


class TwoWays(strangers.InProperty):
    """step(closure) is right; without a backward pass before, its halves are too."""

    @torch.no_grad()
    def first_step(self):
        self.old = [p.clone() for p in self.params]
        params = strangers.with_gradients(self.params)
        norm = strangers.length([p.grad for p in params]) if params else 1.0
        for p in params:
            p.add_(p.grad * (self.rho / norm))

    @torch.no_grad()
    def second_step(self):
        for p, old in zip(self.params, self.old):
            p.copy_(old)
        self.sgd.step()


def test_both_ways_of_a_class_have_their_verdict():
    report = check(TwoWays, "sam")
    assert report.conforms
    assert report.probes["step(closure)"] == "passed"

    class Crooked(TwoWays):
        def radius(self):
            return 2 * self.rho

    report = check(Crooked, "sam")
    assert codes(report) == ["contract.other-way"]
    assert report.findings[0].evidence["driven as"] == "step(closure)"


def test_what_asked_for_sam_gets_no_sigma_or_lam():
    seen = []

    class Friendly(strangers.InProperty):
        def __init__(self, params, rho=0.05, sigma=0.0, lmbda=0.9, lr=0.1, momentum=0.0):
            super().__init__(params, lr, momentum, rho=rho)
            self.sigma, self.lmbda = sigma, lmbda

        def step(self, closure):
            seen.append((self.sigma, self.lmbda))
            return super().step(closure)

    assert check(Friendly, "sam").conforms
    assert set(seen) == {(0.0, 0.9)}


def test_torch_computes_in_one_thread_and_is_left_as_it_was():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    seen = []

    def counted(model, optimizer, loss_fn, batch, hyper):
        seen.append(torch.get_num_threads())
        return strangers.configured(model, optimizer, loss_fn, batch, hyper)

    try:
        check(counted, "sam")
        assert set(seen) == {1}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_settings_are_written_into_groups_of_any_mapping():
    """Some packages have ChainMaps for groups."""
    from collections import ChainMap

    from rsam_ref.conformance.observe.places import IN_GROUPS, Place, write

    groups = [ChainMap({"rho": 0.1}, {"lr": 0.2}), {"rho": 0.3}]
    assert write(None, groups, Place((IN_GROUPS, "rho")), 0.5)
    assert [group["rho"] for group in groups] == [0.5, 0.5]
