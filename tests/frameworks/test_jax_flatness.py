"""Flatness of losses of trees in JAX: exact Hessians, the filters, and what PyTorch's twins say."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

pytestmark = [pytest.mark.frameworks, pytest.mark.usefixtures("x32")]
jax = pytest.importorskip("jax")

import jax.numpy as jnp  # noqa: E402
import torch  # noqa: E402
from torch import nn  # noqa: E402

import rsam_ref.pytorch  # noqa: E402
from rsam_backends import Stream  # noqa: E402
from rsam_ref import sam_gradient  # noqa: E402
from rsam_ref.algorithms.noise import filter_scale  # noqa: E402
from rsam_ref.jax import (  # noqa: E402
    equinox_axis,
    filter_norms,
    flatness,
    flax_axis,
    objective,
    stacked,
)
from rsam_ref.jax import sam_gradient as sam_gradient_on_trees  # noqa: E402
from rsam_ref.jax.flat import Layout  # noqa: E402
from rsam_ref.sharpness import hessian_eigenvalues, hutch_plus_plus, product_at  # noqa: E402
from rsam_ref.sharpness.survey import USUAL, SurveySettings  # noqa: E402
from tests.helpers.commands import called, command  # noqa: E402
from tests.helpers.curved import MAKE, curved, exact_hessian  # noqa: E402


def stream(seed=0):
    return Stream("test", seed)


def in_jax(name, w=None):
    """The network of this name as a loss and a tree in JAX's own form: (in, out), (h, w, in, out).

    Its layers are those of `tests.helpers.curved`; the norm has the running statistics. The leaves
    hold its weights, or the numbers of another vector w like them.
    """
    network = curved(name)
    w = network.w if w is None else w
    views = iter(np.split(w, [s.stop for s in network.slices[:-1]]))
    shapes = iter(network.shapes)
    params: dict[str, dict[str, Any]] = {}
    for index, layer in network.model.modules().items():
        kind = type(layer).__name__
        if kind not in ("Linear", "Conv2d", "BatchNorm2d"):
            continue
        weight = next(views).reshape(next(shapes))
        if kind == "Linear":
            weight = weight.T
        if kind == "Conv2d":
            weight = weight.transpose(2, 3, 1, 0)
        names = ("scale", "bias") if kind == "BatchNorm2d" else ("kernel", "bias")
        params[index] = dict(zip(names, (weight, next(views).reshape(next(shapes)))))

    layers: dict[str, Any] = network.model.modules()

    def loss(params, batch):
        x, y = batch
        for index, layer in layers.items():
            own = params.get(index)
            match type(layer).__name__:
                case "Flatten":
                    x = x.reshape(len(x), -1)
                case "Linear":
                    x = x @ own["kernel"] + own["bias"]
                case "Conv2d":
                    numbers = ("NCHW", "HWIO", "NCHW")
                    x = jax.lax.conv_general_dilated(
                        x, own["kernel"], (1, 1), "SAME", dimension_numbers=numbers
                    )
                    x = x + own["bias"][:, None, None]
                case "BatchNorm2d":
                    mean, var = np.array(layer.running_mean), np.array(layer.running_var)
                    x = (x - mean[:, None, None]) / np.sqrt(var + 1e-5)[:, None, None]
                    x = x * own["scale"][:, None, None] + own["bias"][:, None, None]
                case "ReLU":
                    x = jax.nn.relu(x)
                case "Tanh":
                    x = jnp.tanh(x)
                case "MaxPool2d":
                    window = (1, 1, 2, 2)
                    x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, window, "VALID")
        return -jnp.take_along_axis(jax.nn.log_softmax(x), y[:, None], 1).mean()

    return loss, jax.tree.map(jnp.asarray, params), (network.x, network.y)


@pytest.fixture
def x64(x32):
    jax.config.update("jax_enable_x64", True)


# The Hessian


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", MAKE)
def test_hessians_are_those_of_pytorch(name):
    loss, params, batch = in_jax(name)
    f = objective(loss, params, [(batch[0][:70], batch[1][:70]), (batch[0][70:], batch[1][70:])])
    assert f.w.dtype == "float64"
    numbers = in_jax(name, np.arange(len(f.w), dtype="float64"))[1]
    order = np.asarray(f.layout.vector(numbers, "float64")).astype(int)  # of our weights, in f.w
    np.testing.assert_array_equal(f.w, curved(name).w[order])
    exact = exact_hessian(name)[np.ix_(order, order)]
    ours = np.linalg.eigvalsh(exact)
    v = np.random.default_rng(0).standard_normal(len(f.w))
    np.testing.assert_allclose(f.hessian_product(f.w, v), exact @ v, rtol=1e-10, atol=1e-12)

    found = hessian_eigenvalues(
        f, f.w, 5, lowest=2, iterations=150, tolerance=1e-9, stream=stream()
    )
    np.testing.assert_allclose(found.values, ours[::-1][:5], rtol=1e-8)
    np.testing.assert_allclose(found.lowest, ours[:2], rtol=1e-8)
    for value, bound in zip(found.values + found.lowest, found.bounds + found.lowest_bounds):
        assert np.abs(ours - value).min() <= bound < 1e-5
    trace = hutch_plus_plus(product_at(f, f.w), f.w, products=60, stream=stream()).total
    assert abs(trace.mean - np.trace(exact)) < 4 * trace.standard_error


@pytest.mark.usefixtures("x64")
def test_the_whole_matrix_by_jax_itself():
    """On a network small enough for `jax.hessian`, kinks and all."""
    keys = jax.random.split(jax.random.key(1), 4)
    params = {"a": jax.random.normal(keys[0], (6, 4)), "b": jax.random.normal(keys[1], (5, 6))}
    x, y = jax.random.normal(keys[2], (20, 4)), jax.random.normal(keys[3], (20, 5))
    loss = lambda p, batch: ((jax.nn.relu(batch[0] @ p["a"].T) @ p["b"].T - batch[1]) ** 2).mean()
    f = objective(loss, params, (x, y))
    exact = np.asarray(jax.hessian(lambda w: loss(f.parameters(w), (x, y)))(f.w))
    found = hessian_eigenvalues(f, f.w, 3, lowest=3, tolerance=1e-10, stream=stream())
    np.testing.assert_allclose(found.values, np.linalg.eigvalsh(exact)[::-1][:3], rtol=1e-8)
    np.testing.assert_allclose(found.lowest, np.linalg.eigvalsh(exact)[:3], rtol=1e-8)
    product = jnp.stack([f.hessian_product(f.w, e) for e in jnp.eye(len(f.w))])
    np.testing.assert_allclose(product, exact, rtol=1e-10, atol=1e-12)


# The vector and its filters

TREES = {
    "flax": (
        flax_axis,
        {
            "conv": {"kernel": (3, 3, 2, 4), "bias": (4,)},
            "query": {"kernel": (8, 2, 3), "bias": (2, 3)},
            "norm": {"scale": (5,), "bias": (5,)},
            "embed": {"embedding": (7, 3)},
        },
    ),
    "equinox": (equinox_axis, {"conv": {"weight": (4, 2, 3, 3), "bias": (4, 1, 1)}, "w": (3, 5)}),
    "stacked": (
        stacked(flax_axis, "layers"),
        {"layers": {"kernel": (3, 4, 5), "bias": (3, 5)}, "last": {"kernel": (5, 2)}},
    ),
    "first": (0, {"w": (3, 5), "b": (3,), "s": ()}),
}


@pytest.mark.parametrize("name", TREES)
def test_filters_are_runs_of_the_vector(name):
    """A leaf comes back as it was, and every number has the norm of its filter."""
    axis, shapes = TREES[name]
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda shape: jnp.asarray(rng.standard_normal(shape), jnp.float32),
        shapes,
        is_leaf=lambda s: isinstance(s, tuple),
    )
    layout = Layout(params, axis)
    w = layout.vector(params, jnp.float32)
    assert w.shape == (layout.size,)
    assert sum(int(np.prod(shape)) for shape in layout.shapes) == layout.size
    back = layout.tree(w)
    assert jax.tree.structure(back) == jax.tree.structure(params)
    for one, other in zip(jax.tree.leaves(back), jax.tree.leaves(params)):
        np.testing.assert_array_equal(one, other)
    norms = filter_norms(params, axis)
    spread = jax.tree.map(lambda s, p: jnp.broadcast_to(s, p.shape), norms, params)
    np.testing.assert_allclose(
        filter_scale(w, layout.shapes), layout.vector(spread, jnp.float32), rtol=1e-6
    )


def test_what_is_no_weight_stays_and_complex_is_two():
    params = {
        "count": jnp.int32(3),
        "key": jax.random.key(0),
        "none": None,
        "half": jnp.ones((2, 2), jnp.bfloat16),
        "z": jnp.asarray([1 + 2j, 3 - 1j]),
    }
    layout = Layout(params)
    w = layout.vector(params, jnp.float32)
    assert layout.names == ["half", "z"]
    assert w.tolist() == [1, 1, 1, 1, 1, 2, 3, -1]
    back = layout.tree(2 * w)
    assert (back["count"], back["none"]) == (3, None)
    assert back["half"].dtype == jnp.bfloat16
    np.testing.assert_array_equal(back["z"], [2 + 4j, 6 - 2j])


def test_a_step_of_sam_is_that_on_the_tree():
    loss, params, batch = in_jax("relu")
    f = objective(loss, params, batch, output_axis=flax_axis)
    ours = sam_gradient(f, f.w, rho=0.1)
    theirs = sam_gradient_on_trees(jax.value_and_grad(loss), params, batch, rho=0.1)
    assert float(ours.adversarial_loss) == pytest.approx(float(theirs.adversarial_loss), rel=1e-5)
    np.testing.assert_allclose(
        ours.gradient, f.layout.vector(theirs.gradient, "float32"), rtol=1e-3, atol=1e-6
    )


# All measures

FEW = SurveySettings(
    rhos=(0.1,),
    sigmas=(1e-2,),
    batches=1,
    draws=2,
    directions=2,
    points=3,
    steps=10,
    restarts=1,
    eigenvalues=2,
    lowest=1,
    parts=2,
    probes=2,
    iterations=40,
)


def test_all_measures_are_those_of_the_same_network_in_pytorch():
    """An MLP's weights lie in one order in both vectors, so the draws are the same."""
    network = curved("tanh")
    loss, params, batch = in_jax("tanh")
    params = {f"{i}": {k: params[name][k] for k in params[name]} for i, name in enumerate(params)}
    order = sorted(params)

    def renamed(params, batch):
        own = {name: params[key] for name, key in zip(in_jax("tanh")[1], order)}
        return loss(own, batch)

    twin = nn.Sequential(
        *(nn.Flatten(), nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh()),
        nn.Linear(16, 10),
    ).double()
    state = zip(twin.state_dict(), network.model.state_dict().values())
    twin.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in state})
    x, y = (torch.from_numpy(a) for a in batch)
    # the kernel comes after the bias in a sorted tree: name them so that it comes before
    params = {key: {"a": own["kernel"], "b": own["bias"]} for key, own in params.items()}
    of_trees = lambda p, b: renamed(
        {key: {"kernel": own["a"], "bias": own["b"]} for key, own in p.items()}, b
    )
    measures = [*USUAL, "trace", "layers", "density", "eigenplane", "kinks", "m-sharpness"]
    axis = lambda name, leaf: -1
    ours = flatness(
        of_trees, params, batch, output_axis=axis, measures=measures, settings=FEW, dtype="float64"
    )
    assert not jax.config.read("jax_enable_x64")
    theirs = rsam_ref.pytorch.flatness(
        twin, nn.functional.cross_entropy, (x, y), measures=measures, settings=FEW
    )
    assert [r["measure"] for r in ours] == [r["measure"] for r in theirs]
    for a, b in zip(ours, theirs, strict=True):
        assert (a["draw"], a["method"], a["rho"]) == (b["draw"], b["method"], b["rho"])
        if a["measure"] == "eigenplane":
            continue  # an eigenvector's sign is chance
        assert a["value"] == pytest.approx(b["value"], rel=1e-4, abs=1e-7), a


def test_a_number_of_python_s_is_a_weight():
    """As it is for jax.grad; whole numbers are none."""
    batch = (jnp.ones((4, 2)), jnp.zeros(4))
    params = {"w": jnp.array([1.0, 2.0]), "scale": 1.5, "power": 2}
    f = objective(lambda p, b: (p["scale"] * b[0] @ p["w"]).mean() ** p["power"], params, batch)
    value, gradient = f(f.w)
    assert f.w.tolist() == [1.5, 1, 2]
    assert float(value) == pytest.approx(4.5**2)
    np.testing.assert_allclose(gradient, [2 * 4.5 * 3, 2 * 4.5 * 1.5, 2 * 4.5 * 1.5])
    tree = f.parameters(2 * f.w)
    assert tree["power"] == 2
    np.testing.assert_array_equal(f.vector(tree), 2 * f.w)


def test_what_a_loss_cannot_be_is_told():
    batch = (jnp.ones((4, 2)), jnp.zeros(4))
    params = {"w": jnp.ones(2)}
    with pytest.raises(ValueError, match="the loss gives a tuple, not one number"):
        objective(lambda p, b: (p["w"].sum(), 0), params, batch).loss(jnp.ones(2))
    with pytest.raises(ValueError, match=r"an array of shape \(2,\) of float32"):
        objective(lambda p, b: p["w"], params, batch).loss(jnp.ones(2))
    with pytest.raises(ValueError, match="no leaf of floating or complex numbers"):
        objective(lambda p, b: 0.0, {"n": jnp.arange(3)}, batch)
    with pytest.raises(ValueError, match="jax_enable_x64"):
        objective(lambda p, b: p["w"].sum(), params, batch, dtype="float64")
    with pytest.raises(ValueError, match=r"a vector of shape \(3,\), but the tree has 2"):
        objective(lambda p, b: p["w"].sum(), params, batch)(jnp.ones(3))
    with pytest.raises(ValueError, match=r"w has shape \(2, 2\), and no axis 5"):
        objective(lambda p, b: 0.0, {"w": jnp.ones((2, 2))}, batch, output_axis=5)
    with pytest.raises(ValueError, match="output_axis is the text 'flax_axis': give"):
        objective(lambda p, b: 0.0, {"w": jnp.ones((2, 2))}, batch, output_axis="flax_axis")
    with pytest.raises(TypeError, match="batches is the number 3"):
        objective(lambda p, b: p["w"].sum(), params, 3)
    for loss in (lambda p, b: float(p["w"].sum()), lambda p, b: np.asarray(p["w"]).sum()):
        with pytest.raises(TypeError, match="cannot be traced by JAX") as raised:
            objective(loss, params, batch).loss(jnp.ones(2))
        assert "\n" not in str(raised.value)
    for loss in (lambda p, b: jnp.float32(1), lambda p, b: jax.lax.stop_gradient(p["w"].sum())):
        with pytest.raises(ValueError, match="depends on no weight: is there a stop_gradient"):
            flatness(loss, params, batch, measures=["hessian"])
    with pytest.raises(ValueError, match="the loss is the sum over a batch's samples"):
        flatness(lambda p, b: ((b[0] @ p["w"] - 1) ** 2).sum(), params, batch, measures=["worst"])
    with pytest.raises(ArithmeticError, match="the loss of model at the weights themselves is nan"):
        flatness(lambda p, b: p["w"].sum() * jnp.nan, params, batch, measures=["worst"])


# The command

TREE = """
import jax
import jax.numpy as jnp
import numpy as np

params = {
    "first": {"kernel": jax.random.normal(jax.random.key(0), (64, 8)) / 8, "bias": jnp.zeros(8)},
    "last": {"kernel": jax.random.normal(jax.random.key(1), (8, 10)) / 3, "bias": jnp.zeros(10)},
}


def loss(params, batch):
    x, y = batch
    x = jax.nn.relu(x.reshape(len(x), -1) @ params["first"]["kernel"] + params["first"]["bias"])
    x = x @ params["last"]["kernel"] + params["last"]["bias"]
    return -jnp.take_along_axis(jax.nn.log_softmax(x), y[:, None], 1).mean()


pair = loss, params


def make():
    return pair


def lowered(params, batch):
    return loss(jax.tree.map(lambda leaf: leaf.astype("float32"), params), batch)


low = lowered, params
fails = (lambda params, batch: params["gone"]), params


def batches():
    draws = np.random.default_rng(0)
    for n in (20, 30, 1000):
        yield draws.standard_normal((n, 1, 8, 8)), np.arange(n) % 10


def axis(name, leaf):
    return -1


def nothing():
    return 3
"""

QUICK = ["--measure", "line", "--measure", "hessian", "--points", "3", "--directions", "1"]
QUICK += ["--eigenvalues", "2", "--samples", "50"]


@pytest.fixture
def tree(tmp_path, monkeypatch):
    (tmp_path / "tree.py").write_text(TREE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def measured(folder, *words):
    jax.config.update("jax_enable_x64", False)  # as in a process that begins
    done = called("sharpness", *words, *QUICK, "--out", "out")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = (folder / "out" / "measured.jsonl").read_text().splitlines()
    return json.loads((folder / "out" / "sharpness.json").read_text()), len(lines), done.stdout


def test_the_command_measures_a_tree(tree):
    words = ("--batches-from", "batches", "--output-axis", "flax_axis")
    rows, kept, _ = measured(tree, "tree.py:make", *words)
    assert kept == 2
    assert rows[0]["value"] is not None
    again = measured(tree, "tree.py:pair", *words)
    assert again[1] == 2  # kept: it is the same tree, loss and batches
    assert [row["value"] for row in again[0]] == [row["value"] for row in rows]
    assert measured(tree, "tree.py:pair", *words[:3], "axis")[0] == again[0]
    first = measured(tree, "tree.py:pair", *words[:2])[0]  # filters along the first axis: others
    assert [r["value"] for r in first if r["measure"] == "line"] != [
        r["value"] for r in rows if r["measure"] == "line"
    ]
    steepest = [[r["value"] for r in of if r["measure"] == "hessian"] for of in (first, rows)]
    assert steepest[0] == pytest.approx(steepest[1], rel=1e-3)


def test_weights_come_from_files(tree):
    from rsam_ref.loading import load

    params = load(f"{tree}/tree.py:pair")[1]
    named = {
        f"{layer}{sign}{name}": np.asarray(leaf) * times
        for layer, own in params.items()
        for name, leaf in own.items()
        for sign, times in ((".", 1),)
    }
    np.savez("a.npz", **named)
    np.savez("b.npz", **{name: 2 * array for name, array in named.items()})
    rows, _, _ = measured(
        tree, "tree.py:pair", "--data", "digits", "--weights", "a.npz", "--weights", "b.npz"
    )
    plain, _, _ = measured(tree, "tree.py:pair", "--data", "digits")
    of = {name: [r["value"] for r in rows if r["model"] == name] for name in "ab"}
    assert of["a"] == [r["value"] for r in plain]
    assert of["b"] != of["a"]


def test_a_loss_that_lowers_its_numbers_is_told(tree):
    assert "float32" not in measured(tree, "tree.py:pair", "--batches-from", "batches")[2]
    told = measured(tree, "tree.py:low", "--batches-from", "batches")[2]
    assert "tree.py:low computes in float32 of its own" in told


WRONG = {
    "no pair": (["tree.py:nothing"], "tree.py:nothing gives an int: give a loss of params and"),
    "a loss that fails": (["tree.py:fails"], "tree.py:fails could not be run: KeyError: 'gone'"),
    "a loss besides": (["tree.py:pair", "--loss", "loss"], "--loss and --forward are for a"),
    "another axis": (["tree.py:pair", "--output-axis", "pair"], "--output-axis pair is a tuple"),
    "no such axis": (["tree.py:pair", "--output-axis", "7"], "has shape (64, 8), and no axis 7"),
    "no weights": (["tree.py:pair", "--weights", "gone.npz"], "gone.npz: no such file"),
    "other weights": (["tree.py:pair", "--weights", "other.npz"], "it has no first.bias"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_is_one_line(tree, wrong, monkeypatch):
    options, says = WRONG[wrong]
    np.savez(tree / "other.npz", w=np.ones(3))
    run = command if wrong == "no pair" else called  # where no file has loaded PyTorch
    done = run("sharpness", *options, "--batches-from", "batches", *QUICK, cwd=tree)
    assert done.returncode == 1, done.stdout + done.stderr
    assert says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
