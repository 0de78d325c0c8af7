"""The survey of flatness packages: exact values, what is asked of an answer, and its page."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.flatness_survey import __main__ as survey
from benchmarks.flatness_survey import judge, packages, problem

torch = pytest.importorskip("torch")


def tiny(network="relu"):
    """A network of 4-3-2 in place of the survey's."""
    torch.manual_seed(1)
    bend = torch.nn.Tanh() if network == "tanh" else torch.nn.ReLU()
    layers = [torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3)] if network == "bn" else []
    layers = layers or [torch.nn.Linear(4, 3)]
    return torch.nn.Sequential(*layers, bend, torch.nn.Linear(3, 2)).double()


def samples():
    rng = np.random.default_rng(3)
    return torch.tensor(rng.normal(size=(12, 4))), torch.tensor(rng.integers(2, size=12))


@pytest.mark.parametrize("network", ["relu", "tanh"])
def test_the_exact_values_are_those_of_torchs_own_hessian(network):
    model, (x, y) = tiny(network), samples()
    exact = problem.exact(model, x, y)
    w = torch.nn.utils.parameters_to_vector(model.parameters()).detach()

    def loss(at):
        w1, b1, w2, b2 = at.split([12, 3, 6, 2])
        hidden = model[1](x @ w1.view(3, 4).T + b1)
        return torch.nn.functional.cross_entropy(hidden @ w2.view(2, 3).T + b2, y)

    hessian = torch.autograd.functional.hessian(loss, w)
    np.testing.assert_allclose(exact["hessian"], hessian, atol=1e-12)
    top = torch.linalg.eigvalsh(hessian).flip(0)[:5]
    np.testing.assert_allclose(exact["values"], top, atol=1e-12)
    assert exact["trace"] == pytest.approx(float(hessian.trace()))
    squares = 0.0
    for sample, label in zip(x, y):
        model.zero_grad()
        torch.nn.functional.cross_entropy(model(sample[None]), label[None]).backward()
        squares += sum(float((p.grad**2).sum()) for p in model.parameters())
    assert exact["fisher"] == pytest.approx(squares / len(x))
    # a network of ReLUs is linear in every single weight: H and the GGN have one diagonal
    assert (abs(exact["ggn"] - exact["trace"]) < 1e-12) == (network == "relu")


def test_batch_norm_is_asked_with_its_own_statistics():
    model, (x, y) = tiny("bn"), samples()
    before = judge.state(model.eval())
    exact = problem.exact(model, x, y)
    w = torch.nn.utils.parameters_to_vector(model.parameters()).detach().numpy()
    assert problem.losses_at(model.train(), x, y, w[None]) == pytest.approx(exact["loss"])
    assert judge.changed(before, judge.state(model.eval())) == []


# Planes


SHAPES = [(3, 4), (3,), (2, 3), (2,)]


def walk(model, x, along, across, start=0.0, size=5):
    """A fake package: the loss of a model at a grid, whose weights it gives back."""
    w = torch.nn.utils.parameters_to_vector(model.parameters()).detach().clone()
    steps = np.linspace(-1, 1, size) + start
    losses = np.empty((size, size))
    for i, b in enumerate(steps):
        for j, a in enumerate(steps):
            at = w + a * torch.tensor(along) + b * torch.tensor(across)
            torch.nn.utils.vector_to_parameters(at, model.parameters())
            losses[i, j] = torch.nn.functional.cross_entropy(model(x), samples()[1]).item()
    torch.nn.utils.vector_to_parameters(w, model.parameters())
    return losses


def drawn(w, kind, seed):
    """A direction that is scaled as ``kind`` says; biases stay."""
    z = np.random.default_rng(seed).normal(size=w.size)
    parts = []
    for d, v in zip(judge._split(z, SHAPES), judge._split(w, SHAPES)):
        if d.ndim < 2:
            parts.append(np.zeros(d.shape))
        elif kind == "per filter":
            scale = np.linalg.norm(v, axis=1) / np.linalg.norm(d, axis=1)
            parts.append(d * scale[:, None])
        elif kind == "per tensor":
            parts.append(d * np.linalg.norm(v) / np.linalg.norm(d))
        elif kind == "every tensor to one rms":
            parts.append(d / np.linalg.norm(d) * d.size**0.5)
        else:
            parts.append(d)
    return np.concatenate([part.ravel() for part in parts])


def answer(model, along, across, *, shift=0.0, start=0.0, snake=False):
    x, y = samples()
    w = torch.nn.utils.parameters_to_vector(model.parameters()).detach().numpy().copy()
    watched = judge.watch(model)
    losses = walk(model, x, along, across, start) + shift

    def right(points):
        return problem.losses_at(model, x, y, points)

    return judge.plane(watched, losses, w, SHAPES, right, snake)


@pytest.mark.parametrize("kind", ["per filter", "per tensor", "every tensor to one rms", "not"])
def test_how_a_direction_is_scaled_is_told_from_the_weights_that_were_asked_about(kind):
    model = tiny()
    w = torch.nn.utils.parameters_to_vector(model.parameters()).detach().numpy().copy()
    along, across = drawn(w, kind, 1), drawn(w, kind, 2)
    found = answer(model, along, across)
    assert found["normalised"] == kind
    assert found["cosine"] == pytest.approx(judge.cosine(along, across))
    assert (found["one_axis_moves"], found["statistics_moved"]) == (False, False)
    assert found["centre"] == "w"
    assert found["loss_error"] < 1e-12
    along[12] = 0.01  # of the first bias
    assert answer(tiny(), along, across)["one_axis_moves"]


def test_a_plane_beside_w_and_losses_that_are_not_its_own_are_told():
    w = torch.nn.utils.parameters_to_vector(tiny().parameters()).detach().numpy()
    pair = drawn(w, "per filter", 1), drawn(w, "per filter", 2)
    assert answer(tiny(), *pair, start=0.2)["centre"].startswith("no point is w; the middle is")
    assert answer(tiny(), *pair, start=0.5)["centre"].startswith("w; the middle is")
    assert answer(tiny(), *pair, shift=0.1)["loss_error"] > 0.01
    assert answer(tiny(), *pair, shift=np.nan)["loss_error"] == float("inf")
    nothing = answer(tiny(), 0 * pair[0], 0 * pair[1])
    assert (nothing["constant"], nothing["centre"]) == (True, "w")


def test_rows_that_run_backwards_have_the_same_directions():
    along, across = np.array([1.0, 0.0, 0.5]), np.array([0.0, 2.0, -1.0])
    points, at = [], np.zeros(3)
    for row in range(4):
        for _ in range(4):
            at = at + along if row % 2 == 0 else at - along
            points.append(at)
        at = at + across
    one, other, length = judge.directions(np.stack(points), snake=True)
    np.testing.assert_allclose(one, along)
    np.testing.assert_allclose(other, across)
    assert length == 4


# What is left behind


def test_everything_that_a_package_leaves_behind_is_named():
    (x, _), model = samples(), tiny("bn")
    before = judge.state(model)
    assert judge.changed(before, judge.state(model)) == []
    model(x).sum().backward()
    assert judge.changed(before, judge.state(model)) == ["statistics", "gradients"]
    model.eval().requires_grad_(False)
    with torch.no_grad():
        model[0].weight[0, 0] += 1e-15
    assert judge.changed(before, judge.state(model)) == list(before)


def test_statistics_that_move_while_a_model_is_asked_are_seen_on_a_copy_too():
    import copy

    (x, _), model = samples(), tiny("bn")
    watched = judge.watch(model)
    other = copy.deepcopy(model)
    other(x)
    assert not watched.statistics_moved
    other(x)
    assert watched.statistics_moved
    assert len(watched.points) == 1


# A row


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """Tiny networks in place of the survey's, with their exact values."""
    monkeypatch.setattr(problem, "theirs", tiny)
    monkeypatch.setattr(survey, "RUNS", tmp_path)
    x, y = samples()
    for network in survey.NETWORKS:
        model = tiny(network)
        w = torch.nn.utils.parameters_to_vector(model.parameters()).detach().numpy()
        statistics = [b.numpy() for b in model.buffers() if b.is_floating_point()]
        np.savez(
            tmp_path / f"{network}.npz",
            x=x.numpy(),
            y=y.numpy(),
            w=w,
            statistics=np.concatenate([*statistics, []]),
            **problem.exact(model, x, y),
        )
    return tmp_path


@pytest.mark.usefixtures("kept")
def test_a_row_is_run_on_every_network_and_an_error_is_an_answer():
    def fake(case):
        if case.network == "bn":
            raise ValueError("no batch norm\nmore")
        case.model.eval()
        values = np.linalg.eigvalsh(case.hessian)
        return {"values": [values[-1], 1.01 * values[-2]], "trace": np.trace(case.hessian) * 0.9}

    row = packages.Row("fake==1.0", packages.CURVATURE, packages.AS_IT_COMES, fake)
    found = survey.drive(row)
    assert found["bn"] == {"raised": "ValueError: no batch norm"}
    first, second, *others = found["relu"]["errors"]
    assert first < 1e-12
    assert second == pytest.approx(0.01)
    assert others == [None] * 3
    assert found["relu"]["trace"] == pytest.approx(0.1)
    assert (found["relu"]["ggn"], found["relu"]["changed"]) == (None, ["modes"])
    evaluated = packages.Row("fake==1.0", packages.CURVATURE, "eval(), so", fake)
    assert survey.drive(evaluated)["tanh"]["changed"] == []


@pytest.mark.usefixtures("kept")
def test_only_planes_are_watched_since_a_hook_may_be_in_a_packages_way():
    hooks = {}

    def plane(case):
        hooks["plane"] = len(case.model._forward_pre_hooks)
        w = torch.nn.utils.parameters_to_vector(case.model.parameters()).detach().numpy().copy()
        pair = drawn(w, "per filter", 1), drawn(w, "per filter", 2)
        return {"losses": walk(case.model, case.x, *pair)}

    def curvature(case):
        hooks["curvature"] = len(case.model._forward_pre_hooks)
        return {"values": [1.0]}

    row = packages.Row("fake==1.0", packages.PLANE, packages.AS_IT_COMES, plane)
    assert survey.judged(row, "relu")["normalised"] == "per filter"
    survey.judged(packages.Row("fake==1.0", packages.CURVATURE, "so", curvature), "relu")
    assert hooks == {"plane": 1, "curvature": 0}


def test_a_part_of_the_rows_does_not_take_the_others_off_the_page(kept, monkeypatch, capsys):
    rows = [packages.Row(f"fake{n}==1.0", packages.CURVATURE, "so", print) for n in range(2)]
    told = {n: {"raised": "it cannot"} for n in survey.NETWORKS}
    page = kept / "page.md"
    page.write_text(f"before{survey.MARKS[0]}old{survey.MARKS[1]}after")
    monkeypatch.setattr(survey, "ROWS", rows)
    monkeypatch.setattr(survey, "PAGE", page)
    monkeypatch.setattr(survey, "measure", lambda row: told)
    survey.main(["--only", "fake0"])
    assert "1 of 2 rows were not run" in capsys.readouterr().out
    assert page.read_text().endswith("old" + survey.MARKS[1] + "after")
    survey.main([])
    lines = page.read_text().splitlines()
    for row in rows:
        assert any(
            f"{row.package.replace('==', ' ')} | so | relu, tanh, bn | raises it" in x
            for x in lines
        )
    assert lines[0] == "before" + survey.MARKS[0]
    assert lines[-1] == survey.MARKS[1] + "after"


def test_networks_of_which_the_same_is_told_share_a_line(monkeypatch):
    row = packages.Row("fake==1.0", packages.CURVATURE, packages.AS_IT_COMES, print)
    monkeypatch.setattr(survey, "ROWS", [row])
    told = {"errors": [0.01, None], "trace": "refuses: X", "ggn": None, "fisher": None}
    same = {**told, "changed": []}
    found = {(row.id, n): {**same, "seconds": s} for n, s in (("relu", 1.0), ("tanh", 2.0))}
    found[row.id, "bn"] = {"raised": "no"}
    lines = survey.table(packages.CURVATURE, found).splitlines()
    assert lines[2:] == [
        "| fake 1.0 | as it comes | relu, tanh | 1e-02 - | refuses: X |  |  | nothing | 2.0 |",
        "| fake 1.0 | as it comes | bn | raises no |  |  |  |  |  |",
    ]


# The page


def rows_of_the_page():
    _, _, rest = survey.PAGE.read_text(encoding="utf-8").partition(survey.MARKS[0])
    lines = [line for line in rest.partition(survey.MARKS[1])[0].splitlines() if line[:1] == "|"]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_row_is_on_the_page_for_every_network():
    shown = [row for row in rows_of_the_page() if len(row) > 8]
    for row in packages.ROWS:
        name = row.package.replace("==", " ")
        lines = [cells for cells in shown if cells[:2] == [name, row.settings]]
        lines = [c for c in lines if (len(c) == 9) == (row.kind == packages.CURVATURE)]
        networks = [network for cells in lines for network in cells[2].split(", ")]
        assert sorted(networks) == sorted(survey.NETWORKS), row.id


def test_every_package_has_its_words_on_the_page():
    text = survey.PAGE.read_text(encoding="utf-8").partition(survey.MARKS[1])[2]
    for package in packages.NEEDS:
        assert f"**{package.replace('==', ' ')}**" in text, package
