"""What the measures of a network ask for, and settings with which they end in a given time."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from typer.testing import CliRunner

from rsam_backends import Stream
from rsam_ref.commands.main import app
from rsam_ref.pytorch import flatness, objective, objectives
from rsam_ref.pytorch.network import Network, NetworkSubject
from rsam_ref.pytorch.plan import Plan, Terms, plan
from rsam_ref.sharpness import lanczos
from rsam_ref.sharpness.budget import FLOORS, Calls, calls, grouped, planned, scaled
from rsam_ref.sharpness.eigenvalues import eigenvalues_of
from rsam_ref.sharpness.hessian import product_at
from rsam_ref.sharpness.survey import MEASURES, USES, SurveySettings, survey

SMALL = SurveySettings(
    rhos=(0.1, 0.2),
    sigmas=(1e-3, 1e-2),
    batches=2,
    draws=3,
    directions=2,
    points=5,
    steps=10,
    restarts=1,
    eigenvalues=2,
    lowest=1,
    parts=3,
    probes=2,
    iterations=7,
)


def network(dtype=torch.float64):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5), nn.Tanh())
        model = nn.Sequential(model, nn.Linear(5, 3))
        x, y = torch.randn(24, 4), torch.arange(24) % 3
    parts = [(x[i : i + 6], y[i : i + 6]) for i in range(0, 24, 6)]
    return Network("net", "net", model, F.cross_entropy, parts, parts, dtype)


@pytest.mark.parametrize("measure", sorted(set(MEASURES) - {"layers"}))
def test_the_calls_are_those_that_are_made(measure, monkeypatch):
    """In passes over all samples; more are told than made where some are remembered."""
    made = {"losses": 0.0, "gradients": 0.0, "products": 0.0}

    def watched(cls, name, kind, objective_of, number):
        plain = getattr(cls, name)

        def counted(self, *args, **more):
            share = sum(len(batch[1]) for batch in objective_of(self)._batches) / 24
            made[kind] += share * number(*args)
            return plain(self, *args, **more)

        monkeypatch.setattr(cls, name, counted)

    watched(objectives.Objective, "__call__", "gradients", lambda o: o, lambda *_: 1)
    watched(objectives.Objective, "loss", "losses", lambda o: o, lambda *_: 1)
    watched(objectives._Kept, "__call__", "products", lambda k: k.objective, len)
    together = lambda w, vectors, *_: len(vectors)
    watched(objectives.Objective, "hessian_products", "products", lambda o: o, together)
    net = network()
    told = calls(measure, SMALL, net.facts(SMALL))
    for _ in survey(measure, NetworkSubject(net, SMALL)):
        pass
    for kind, number in made.items():
        if (measure, kind) == ("gauss-newton", "gradients"):
            continue  # of scores, which are no losses
        if (measure, kind) == ("gauss-newton", "products"):
            assert number == pytest.approx(3 * SMALL.probes)  # and those of Gauss-Newton's matrix
            continue
        expected = getattr(told, kind)
        assert 0.75 * expected - 2 <= number <= 1.1 * expected + 2, kind


def test_a_layer_costs_less_than_the_whole():
    few = calls("layers", SMALL, network().facts(SMALL))
    assert few.products == 3 * (0.5 * 7 + 2)


def test_settings_shrink_to_their_floors_and_given_ones_not_at_all():
    usual = SurveySettings()
    for measure in MEASURES:
        found = scaled(usual, 0.01, measure)
        for name in USES[measure]:
            if name in FLOORS and not (measure == "ascents" and name == "batches"):
                assert getattr(found, name) == FLOORS[name], (measure, name)
    assert scaled(usual, 0.01, "average", {"sigmas", "draws"}) == usual
    assert scaled(usual, 1, "plane") is usual
    assert scaled(usual, 0.5, "worst").rhos == (0.05, 0.2, 0.4)
    assert scaled(usual, 0.35, "plane").points % 2 == 1
    assert grouped(["a.0.b", "a.0.c", "a.1.b", "d"], 2) == ["a.0", "a.1", "d"]


@pytest.mark.parametrize("seconds", [30, 300, 3000])
def test_a_plan_keeps_to_the_time_and_uses_it(seconds):
    facts = network().facts(SurveySettings())
    each = dict.fromkeys(MEASURES, Calls(0.02, 0.06, 0.15))
    found = planned(list(MEASURES), SurveySettings(), facts, each, seconds=seconds)
    assert [p.measure for p in found] == list(MEASURES)
    assert sum(p.seconds for p in found) <= seconds
    full = planned(list(MEASURES), SurveySettings(), facts, each, seconds=math.inf)
    assert all(p.settings == SurveySettings() for p in full)
    if sum(p.seconds for p in full) > seconds:
        assert sum(p.seconds for p in found) > seconds / 3


def test_what_is_shared_has_the_same_settings_and_is_paid_once():
    facts = network().facts(SurveySettings())
    each = dict.fromkeys(MEASURES, Calls(0.0, 0.0, 1.0))
    found = {
        p.measure: p for p in planned(list(MEASURES), SurveySettings(), facts, each, seconds=9)
    }
    for provider, name in (("hessian", "eigenplane"), ("trace", "gauss-newton")):
        own, other = found[provider].settings, found[name].settings
        for setting in set(USES[provider]) & set(USES[name]):
            assert getattr(own, setting) == getattr(other, setting)
    assert found["eigenplane"].seconds == 0


def test_a_plan_by_the_clock_and_back_from_what_is_kept():
    net = network()
    full = plan(net, list(MEASURES), SMALL, seconds=1e6)
    assert full.dtype is None
    assert all(p.settings == SMALL for p in full.measures)
    short = plan(net, list(MEASURES), SMALL, seconds=1e-6)
    assert short.dtype == torch.float32
    assert short.network(net, "hessian").dtype == torch.float32
    exact = plan(net, list(MEASURES), SMALL, seconds=1e-6, any_precision=False)
    assert exact.dtype is None
    assert exact.network(net, "hessian").dtype == torch.float64
    assert all(p.settings.iterations == 6 for p in short.measures if p.measure == "density")
    assert Plan.of(short.rows()) == short


def test_a_plan_is_corrected_by_what_measures_took():
    usual, facts = SurveySettings(), network().facts(SurveySettings())
    each = dict.fromkeys(MEASURES, Calls(0.02, 0.06, 0.15))
    first = planned(list(MEASURES), usual, facts, each, seconds=300)
    begun = Plan(first, None, Terms(usual, facts, each, 300, ()))
    line = first[0].seconds
    assert begun.corrected({"line": line}).settings("line") == begun.settings("line")

    slow = begun.corrected({"line": 3 * line})  # a third of what was reckoned fits
    assert [p.measure for p in slow.measures] == list(MEASURES)
    assert slow.measures[0] == first[0]
    assert 60 < sum(p.seconds for p in slow.measures[1:]) <= 300 - 3 * line
    for own, before in zip(slow.measures[1:], first[1:]):
        asked = [
            calls(own.measure, p.settings, facts).seconds(each[own.measure]) for p in (own, before)
        ]
        assert asked[0] <= asked[1], own.measure

    late = begun.corrected({"line": 1e6})
    assert late.settings("density").iterations == FLOORS["iterations"]
    assert Plan.of(begun.rows()).corrected({"line": 1e6}) == begun  # a kept one stays


def test_flatness_in_a_given_time():
    net = network()
    measured = {"settings": SurveySettings(points=9), "measures": ["line", "hessian"]}
    rows = flatness(net.model, F.cross_entropy, net.evaluation, minutes=1e-9, **measured)
    assert len([row for row in rows if row["measure"] == "line"]) == 2 * FLOORS["points"]
    rows = flatness(net.model, F.cross_entropy, net.evaluation, minutes=1e9, **measured)
    assert len([row for row in rows if row["measure"] == "line"]) == 3 * 9


NET = """
import torch
def make():
    return torch.nn.Linear(3, 2)
batches = [(torch.ones(4, 3), torch.tensor([0, 1, 0, 1]))]
"""


def test_the_command_tells_what_it_plans_and_goes_on_with_it(tmp_path):
    (tmp_path / "net.py").write_text(NET)
    command = ["sharpness", f"{tmp_path}/net.py:make", "--batches-from", "batches"]
    command += ["--measure", "line", "--out", str(tmp_path / "out"), "--minutes", "1e-9"]
    first = CliRunner().invoke(app, command, catch_exceptions=False)
    assert "points 5 (21)" in first.output
    assert "float32" in first.output
    kept = (tmp_path / "out" / "measured.jsonl").read_text()
    assert len(kept.splitlines()) == 2  # the plan and the measure
    again = CliRunner().invoke(app, command, catch_exceptions=False)
    assert again.exit_code == 0
    assert (tmp_path / "out" / "measured.jsonl").read_text() == kept
    held = CliRunner().invoke(app, [*command, "--points", "7"], catch_exceptions=False)
    assert "points" not in held.output
    assert "directions 2 (3)" in held.output
    wrong = CliRunner().invoke(app, [*command[:-1], "-1"])
    assert wrong.exit_code == 2
    assert "--minutes is a finite number" in wrong.output


def test_products_whose_graph_is_kept_are_the_same(monkeypatch):
    net = network()
    loss = objective(net.model, net.loss, net.evaluation, dtype=torch.float64)
    v = torch.linspace(-1, 1, loss.w.numel(), dtype=torch.float64)
    passes = 0
    plain = nn.Tanh.forward

    def counted(self, x):
        nonlocal passes
        passes += 1
        return plain(self, x)

    monkeypatch.setattr(nn.Tanh, "forward", counted)
    expected = loss.hessian_product(loss.w, v)
    assert passes == 8  # two layers on four batches
    for room, more in ((2**30, 0), (0, 8)):
        monkeypatch.setattr(objectives, "KEPT", room)
        product = product_at(loss, loss.w)
        torch.testing.assert_close(product(v), expected, rtol=1e-12, atol=1e-14)
        passes = 0
        torch.testing.assert_close(product(2 * v), 2 * expected, rtol=1e-12, atol=1e-14)
        assert passes == more


def test_a_part_that_cuts_through_a_parameter_is_refused():
    net = network()
    loss = objective(net.model, net.loss, net.evaluation)
    with pytest.raises(ValueError, match="cuts through a parameter"):
        loss.hessian_product(loss.w, torch.ones(3), slice(0, 3))
    whole = torch.zeros_like(loss.w)
    whole[24:30] = 1.0
    block = loss.hessian_product(loss.w, torch.ones(6), slice(24, 30))
    torch.testing.assert_close(block, loss.hessian_product(loss.w, whole)[24:30])


@pytest.mark.parametrize(("k", "lowest"), [(2, 1), (3, 2), (5, 0)])
def test_with_room_for_few_vectors_the_ends_are_the_same(k, lowest, monkeypatch):
    draws = torch.Generator().manual_seed(0)
    q, _ = torch.linalg.qr(torch.randn(200, 200, generator=draws, dtype=torch.float64))
    values = torch.randn(200, generator=draws, dtype=torch.float64)
    values[:6] = torch.tensor([30.0, 20.0, 15.0, 9.0, -8.0, -6.0])
    matrix = q @ torch.diag(values) @ q.T
    monkeypatch.setattr(lanczos, "LARGE", 10)
    most, products = 0, 0
    plain = lanczos.Lanczos.step

    def watched(self):
        nonlocal most
        most = max(most, len(self.basis))
        return plain(self)

    def product(v):
        nonlocal products
        products += 1
        return matrix @ v

    monkeypatch.setattr(lanczos.Lanczos, "step", watched)
    found = eigenvalues_of(
        product, None, q[0], k, lowest=lowest, iterations=150, tolerance=1e-11,
        stream=Stream("lanczos", 0),
    )  # fmt: skip
    exact = torch.linalg.eigvalsh(matrix).flip(0).tolist()
    assert found.values == pytest.approx(exact[:k], rel=1e-9)
    assert found.lowest == pytest.approx(exact[::-1][:lowest], rel=1e-9)
    assert most <= max(lanczos.HELD, 2 * (k + lowest) + 2) < products <= 150
    assert max(found.bounds) < 1e-8


def test_a_slow_machine_makes_the_later_measures_smaller(monkeypatch):
    net, clock = network(), iter(range(0, 10**6, 50))
    each = Calls(0.02, 0.06, 0.15)
    monkeypatch.setattr("rsam_ref.pytorch.plan.timed", lambda *_, **__: each)
    monkeypatch.setattr("rsam_ref.pytorch.network.time.perf_counter", lambda: next(clock))
    begun = plan(net, ["line", "plane", "average"], SurveySettings(), seconds=12)
    rows = flatness(
        net.model,
        F.cross_entropy,
        net.evaluation,
        measures=["line", "plane", "average"],
        settings=SurveySettings(),
        minutes=0.2,
    )
    points = {p.measure: p.settings.points for p in begun.measures}
    assert points["plane"] > FLOORS["points"]  # so it was planned
    assert len([r for r in rows if r["measure"] == "line"]) == 3 * points["line"]
    assert len([r for r in rows if r["measure"] == "plane"]) == FLOORS["points"] ** 2
