"""The papers' models beside PyTorch's, which `torch_models.py` writes a second time."""

from __future__ import annotations

import inspect
import math
import re
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp

from rsam_backends import Stream
from rsam_ref import RSAM, SGD, ShapeError, models, nn, no_grad, objective
from rsam_ref.algorithms.noise import filter_scale
from rsam_ref.autograd.ops import Tensor
from rsam_ref.nn.passes import passing
from tests.helpers import torch_models as theirs_by
from tests.helpers.oracle import assert_close, normal
from tests.helpers.torch_models import basic, bottleneck

R18, R50 = (2, 2, 2, 2), (3, 4, 6, 3)

# The published sizes: ours, theirs, the number of parameters.
FULL = {
    "resnet20": (models.resnet20, lambda: theirs_by.CifarResNet(20), 269_722),
    "resnet32": (models.resnet32, lambda: theirs_by.CifarResNet(32), 464_154),
    "resnet56": (models.resnet56, lambda: theirs_by.CifarResNet(56), 853_018),
    "resnet18": (models.resnet18, lambda: theirs_by.ResNet(basic, R18), 11_689_512),
    "resnet18 for CIFAR": (
        lambda: models.resnet18(classes=10, stem="cifar"),
        lambda: theirs_by.ResNet(basic, R18, 10, stem="cifar"),
        11_173_962,
    ),
    "resnet50": (models.resnet50, lambda: theirs_by.ResNet(bottleneck, R50), 25_557_032),
    "wrn28_10": (models.wrn28_10, lambda: theirs_by.WideResNet(28, 10), 36_479_194),
    "vit_tiny": (models.vit_tiny, lambda: theirs_by.VisionTransformer(192, 3), 5_717_416),
    "vit_small": (models.vit_small, lambda: theirs_by.VisionTransformer(384, 6), 22_050_664),
    "vit_base": (models.vit_base, lambda: theirs_by.VisionTransformer(768, 12), 86_567_656),
    "vit_base with the mean": (
        lambda: models.vit_base(pool="mean"),
        lambda: theirs_by.VisionTransformer(768, 12, pool="mean"),
        86_567_656 - 2 * 768,
    ),
}

# What is run: ours, theirs, the images' shape. Narrow or shallow where the published size is large.
SMALL = {
    "resnet8": (
        lambda: models.cifar_resnet(8, classes=5, channels=2),
        lambda: theirs_by.CifarResNet(8, 5, 2),
        (5, 2, 9, 7),
    ),
    "resnet20": (models.resnet20, lambda: theirs_by.CifarResNet(20), (4, 3, 12, 12)),
    "resnet32": (models.resnet32, lambda: theirs_by.CifarResNet(32), (4, 3, 12, 12)),
    "resnet56": (models.resnet56, lambda: theirs_by.CifarResNet(56), (4, 3, 12, 12)),
    "resnet18": (
        lambda: models.resnet18(classes=5, width=8),
        lambda: theirs_by.ResNet(basic, R18, 5, width=8),
        (4, 3, 41, 48),
    ),
    "resnet18 for CIFAR": (
        lambda: models.resnet18(classes=5, channels=2, width=8, stem="cifar"),
        lambda: theirs_by.ResNet(basic, R18, 5, 2, width=8, stem="cifar"),
        (4, 2, 16, 13),
    ),
    "resnet50": (
        lambda: models.resnet50(classes=5, width=8),
        lambda: theirs_by.ResNet(bottleneck, R50, 5, width=8),
        (4, 3, 48, 48),
    ),
    "wrn10_1": (
        lambda: models.wide_resnet(10, 1, channels=1),
        lambda: theirs_by.WideResNet(10, 1, channels=1),
        (5, 1, 9, 7),
    ),
    "wrn16_2 with dropout": (
        lambda: models.wide_resnet(16, 2, classes=5, dropout=0.3),
        lambda: theirs_by.WideResNet(16, 2, 5, dropout=0.3),
        (4, 3, 12, 12),
    ),
    "wrn28_10, 1 wide": (
        lambda: models.wide_resnet(28, 1),
        lambda: theirs_by.WideResNet(28, 1),
        (4, 3, 12, 12),
    ),
    "vit_tiny": (
        lambda: models.vit_tiny(depth=3, image_size=16, patch=4, classes=5, channels=2),
        lambda: theirs_by.VisionTransformer(192, 3, 3, 16, 4, 5, 2),
        (3, 2, 16, 16),
    ),
    "vit_tiny with dropout": (
        lambda: models.vit_tiny(depth=2, image_size=16, patch=8, classes=5, dropout=0.2),
        lambda: theirs_by.VisionTransformer(192, 3, 2, 16, 8, 5, dropout=0.2),
        (3, 3, 16, 16),
    ),
    "vit_small with the mean": (
        lambda: models.vit_small(depth=2, image_size=16, patch=8, classes=5, pool="mean"),
        lambda: theirs_by.VisionTransformer(384, 6, 2, 16, 8, 5, pool="mean"),
        (3, 3, 16, 16),
    ),
    "vit_base": (
        lambda: models.vit_base(depth=1, image_size=32, classes=5),
        lambda: theirs_by.VisionTransformer(768, 12, 1, 32, 16, 5),
        (3, 3, 32, 32),
    ),
}


def twins(name):
    """Both models in float64 with the same weights, none of them 0, and a batch."""
    make_ours, make_theirs, shape = SMALL[name]
    ours, theirs = make_ours().build(1, "float64"), make_theirs().double()
    moves, x = normal(0, ours.weights.flat.shape, shape)
    ours.weights.flat[...] += 0.1 * moves
    state = {key: torch.tensor(value) for key, value in ours.state_dict().items()}
    theirs.load_state_dict(state, strict=True)
    return ours, theirs, x


@pytest.fixture
def same_masks(monkeypatch):
    """Both models' dropout draws from streams of the same key."""
    monkeypatch.setattr(theirs_by.Dropout, "stream", Stream("dropout", 3))
    with passing(stream=Stream("dropout", 3)):
        yield


def assert_relatively_close(label, found, expected, tolerance=1e-10):
    scale = np.abs(expected).max()
    assert scale > 0, f"{label} is 0 and shows nothing"
    assert_close(label, found / scale, expected / scale, tolerance)


def compare_pass(name, ours, theirs, x):
    """Output, and gradients at the images and at every weight, from a random gradient."""
    theirs.zero_grad()
    given, given_theirs = Tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    out, expected = ours(given), theirs(given_theirs)
    assert_relatively_close(f"{name}: output", out.data, expected.detach().numpy())
    seed = normal(2, out.shape)[0]
    out.backward(seed)
    expected.backward(torch.tensor(seed))
    assert_relatively_close(f"{name}: at the images", given.grad, given_theirs.grad.numpy())
    gradients = ours.weights.views(ours.weights.gradient)
    scale = max(float(p.grad.abs().max()) for p in theirs.parameters())
    for key, found, p in zip(ours.weights.names, gradients, theirs.parameters(), strict=True):
        assert_close(f"{name}: at {key}", found / scale, p.grad.numpy() / scale)
    for p in ours.weights.parameters:
        p.zero_grad()


@pytest.mark.parametrize("name", SMALL)
def test_outputs_gradients_and_running_statistics(name, same_masks):
    ours, theirs, x = twins(name)
    compare_pass(f"{name} in training", ours, theirs, x)
    for key, value in theirs.named_buffers():
        if "num_batches" not in key:
            assert_close(f"{name}: {key}", ours.state_dict()[key], value.numpy())
    compare_pass(f"{name} in evaluation", ours.eval(), theirs.eval(), x)


@pytest.mark.parametrize("name", SMALL)
def test_states_are_taken_over_from_torch(name, same_masks):
    make_ours, make_theirs, shape = SMALL[name]
    torch.manual_seed(0)
    ours, theirs, x = make_ours().build(0, "float64"), make_theirs().double(), normal(1, shape)[0]
    theirs(torch.tensor(x))  # moves the running statistics
    ours.load_state_dict(theirs.state_dict())
    with no_grad(), torch.no_grad():
        found, expected = ours.eval()(x).data, theirs.eval()(torch.tensor(x)).numpy()
    assert_relatively_close(name, found, expected)


@pytest.mark.parametrize("name", FULL)
def test_published_sizes(name):
    make_ours, make_theirs, count = FULL[name]
    weights = make_ours().weights
    assert weights.flat.size == count
    with torch.device("meta"):
        expected = {key: tuple(p.shape) for key, p in make_theirs().named_parameters()}
    assert dict(zip(weights.names, weights.shapes)) == expected
    assert weights.names == list(expected)


@pytest.mark.parametrize(("name", "depth"), [("resnet20", 20), ("resnet32", 32), ("resnet56", 56)])
def test_depths_count_the_layers_with_filters_or_rows(name, depth):
    names = models.MODELS[name]().weights.names
    assert sum("conv" in key or key == "linear.weight" for key in names) == depth


# First weights


def first_weights():
    """Every kind of weight: what was drawn, and who draws it in PyTorch."""

    def he(w):
        torch.nn.init.kaiming_normal_(w, mode="fan_out", nonlinearity="relu")

    def truncated(w):
        torch.nn.init.trunc_normal_(w, std=0.02, a=-0.04, b=0.04)

    def usual(w):
        torch.nn.init.kaiming_uniform_(w, a=math.sqrt(5))

    resnet = models.resnet50(width=16).state_dict()
    wide = models.wide_resnet(16, 4).state_dict()
    vit = models.vit_tiny(depth=1).state_dict()
    return [
        ("stem", models.resnet18(classes=2).state_dict()["conv1.weight"], he),
        ("3 x 3", resnet["layer4.0.conv2.weight"], he),
        ("1 x 1", resnet["layer4.0.conv3.weight"], he),
        ("projection", resnet["layer4.0.downsample.0.weight"], he),
        ("fc", resnet["fc.weight"], usual),
        ("wide", wide["block3.layer.0.conv2.weight"], he),
        ("shortcut", wide["block3.layer.0.convShortcut.weight"], he),
        ("patches", vit["patch_embed.proj.weight"], usual),
        ("positions", vit["pos_embed"], truncated),
        *[
            (key, vit[f"blocks.0.{key}.weight"], truncated)
            for key in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
        ],
        ("head", vit["head.weight"], truncated),
    ]


@pytest.mark.parametrize("kind", first_weights(), ids=lambda kind: kind[0])
def test_first_weights_are_distributed_as_in_torch(kind):
    _, drawn, draw = kind
    expected = torch.empty(drawn.shape)
    torch.manual_seed(0)
    draw(expected)
    assert drawn.size > 4000
    assert abs(drawn.mean()) < 5 * expected.std() / math.sqrt(drawn.size)
    assert drawn.std() == pytest.approx(float(expected.std()), rel=0.03)
    assert ks_2samp(drawn.ravel(), expected.numpy().ravel(), method="asymp").pvalue > 1e-3


def test_draws_are_cut_at_two_standard_deviations():
    draw = nn.truncated_normal(0.5)(Stream("test"), (200, 500), "float32")
    assert draw.dtype == "float32"
    assert 0.999 < np.abs(draw).max() <= 1
    expected = torch.nn.init.trunc_normal_(torch.empty(200, 500), std=0.5, a=-1, b=1).numpy()
    assert ks_2samp(draw.ravel(), expected.ravel(), method="asymp").pvalue > 1e-3


def test_constant_first_weights():
    vit = models.vit_tiny(depth=2, image_size=32).state_dict()
    zeros = [key for key in vit if key == "cls_token" or key.endswith("bias")]
    zeros.remove("patch_embed.proj.bias")
    ones = [key for key in vit if "norm" in key and key.endswith("weight")]
    assert len(zeros) == 1 + 2 * 6 + 2
    assert len(ones) == 5
    assert all((vit[key] == 0).all() for key in zeros)
    assert all((vit[key] == 1).all() for key in ones)


@pytest.mark.parametrize(("build", "last"), [(models.resnet18, "bn2"), (models.resnet50, "bn3")])
@pytest.mark.parametrize("options", [{}, {"zero_init_residual": True}], ids=["usual", "zero"])
def test_blocks_without_a_correction(build, last, options):
    state = build(width=4, classes=2, **options).state_dict()
    for key, value in state.items():
        if ("bn" in key or "downsample.1" in key) and key.endswith("weight"):
            at_zero = bool(options) and key.startswith("layer") and f"{last}.weight" in key
            assert (value == (0 if at_zero else 1)).all(), key


@pytest.mark.parametrize("name", ["resnet20", "resnet18", "wrn10_1", "vit_tiny"])
def test_seeds_name_the_weights(name):
    model = SMALL[name][0]()
    names, shapes = model.weights.names, model.weights.shapes
    first, again, other = (model.build(seed).weights.flat.copy() for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    for key, shape, a, b in zip(names, shapes, *map(model.weights.views, (first, other))):
        if len(shape) > 1 and key != "cls_token":
            assert not (a == b).any(), key


# Filters


def test_filters_of_a_vision_transformer():
    model = models.vit_tiny(depth=1, image_size=16, patch=8, classes=5)
    weights = model.weights
    weights.flat[...] = normal(0, weights.flat.shape)[0]
    scale = dict(zip(weights.names, weights.views(filter_scale(weights.flat, weights.shapes))))
    values = dict(zip(weights.names, weights.views(weights.flat)))
    for key in ("cls_token", "pos_embed"):
        np.testing.assert_allclose(scale[key], np.linalg.norm(values[key]), rtol=1e-6)
    for key in ("patch_embed.proj.weight", "blocks.0.attn.qkv.weight", "head.weight"):
        rows = values[key].reshape(len(values[key]), -1)
        found = scale[key].reshape(rows.shape)
        np.testing.assert_allclose(found, np.linalg.norm(rows, axis=1)[:, None] + 0 * rows, 1e-5)


# By name

SHALLOW: dict[str, Any] = {name: {"depth": 1} for name in ("vit_tiny", "vit_small", "vit_base")}
SHALLOW["mlp"] = {"hidden": [16]}
SHALLOW["wrn28_10"] = {"dropout": 0.1}
SHALLOW["wide_resnet"] = {"depth": 10, "width": 2}


def test_names_are_those_of_the_functions():
    assert {name: build for name, build in models.MODELS.items() if name != "mlp"} == {
        name: getattr(models, name) for name in models.MODELS if name != "mlp"
    }
    assert set(FULL) - {"resnet18 for CIFAR", "vit_base with the mean"} <= set(models.MODELS)


@pytest.mark.parametrize("name", models.MODELS)
def test_models_by_name(name):
    options = SHALLOW.get(name, {})
    model = models.make_model(
        name, shape=(2, 16, 16), classes=7, seed=3, dtype="float64", **options
    )
    x = normal(0, (2, 2, 16, 16))[0]
    with no_grad():
        out = model.eval()(x)
    assert out.shape == (2, 7)
    assert out.dtype == model.weights.flat.dtype == "float64"


def test_the_mlp_by_name_has_the_weights_of_mlp():
    named = models.make_model("mlp", shape=(1, 8, 8), classes=10, hidden=[5], seed=3)
    np.testing.assert_array_equal(named.weights.flat, models.mlp([64, 5, 10], seed=3).weights.flat)
    x = normal(0, (3, 64))[0].astype("float32")
    found, expected = named(x.reshape(3, 1, 8, 8)), models.mlp([64, 5, 10], seed=3)(x)
    np.testing.assert_array_equal(found.data, expected.data)


def test_seeds_and_options_are_passed_on():
    given = {"shape": (1, 8, 8), "classes": 3}
    named = models.make_model("cnn", **given, width=4, seed=5).weights.flat
    expected = models.cnn(size=8, classes=3, width=4, seed=5).weights.flat
    np.testing.assert_array_equal(named, expected)


@pytest.mark.parametrize(
    ("name", "option", "kind"),
    [
        ("mlp", {"hidden": "8,8"}, "a whole number, or a list of them"),
        ("mlp", {"hidden": [8, 2.5]}, "a whole number, or a list of them"),
        ("cnn", {"width": 2.5}, "a whole number"),
        ("cnn", {"width": True}, "a whole number"),
        ("wide_resnet", {"depth": "abc"}, "a whole number"),
        ("vit_tiny", {"dropout": "abc"}, "a number"),
        ("resnet18", {"stem": 3}, "a word"),
        ("resnet18", {"zero_init_residual": "yes"}, "true or false"),
    ],
)
def test_an_option_of_another_kind_is_told_with_what_it_must_be(name, option, kind):
    [(key, value)] = option.items()
    says = re.escape(f"{name}: {key} must be {kind}, not {value!r}")
    with pytest.raises(ValueError, match=f"^{says}$"):
        models.make_model(name, shape=(3, 32, 32), classes=3, **option)


def test_the_kind_of_every_option_is_known():
    for make in models.MODELS.values():
        assert {p.annotation for p in inspect.signature(make).parameters.values()} - {
            "Any",
            "tuple[int, ...]",
        } <= models.KINDS.keys()


@pytest.mark.parametrize("name", ["wrn10_1", "vit_tiny"])
def test_steps_of_rsam_lower_the_loss(name):
    make, _, shape = SMALL[name]
    model, x, y = make(), normal(0, shape)[0], np.arange(shape[0])
    optimizer = RSAM(SGD(0.01), 0.01, 1e-3)
    losses = [
        float(optimizer.step(objective(model, x, y), model.weights.flat).loss) for _ in range(4)
    ]
    assert losses == sorted(losses, reverse=True)


# Misuse


def by_name(name, shape=(3, 32, 32), **options):
    return lambda: models.make_model(name, shape=shape, classes=10, **options)


@pytest.mark.parametrize(
    ("build", "match"),
    [
        (lambda: models.cifar_resnet(21), r"depth is 6n \+ 2 .*not 21"),
        (lambda: models.cifar_resnet(2), r"depth is 6n \+ 2 .*not 2"),
        (lambda: models.resnet18(stem="small"), "stem is 'imagenet' or 'cifar', not 'small'"),
        (lambda: models.wide_resnet(20), r"depth is 6n \+ 4 .*not 20"),
        (lambda: models.wide_resnet(4), r"depth is 6n \+ 4 .*not 4"),
        (lambda: models.wide_resnet(10, 0), "width .*not 0"),
        (lambda: models.wide_resnet(10, 1, dropout=1.0), r"probability to drop .*not 1\.0"),
        (lambda: models.vit_tiny(image_size=30), "patch 16 .*image_size 30; .* 1, 2, 3, 5, 6, 10,"),
        (lambda: models.vit_tiny(patch=0), "patch 0 .*choose"),
        (lambda: models.vit_tiny(depth=0), "depth .*not 0"),
        (lambda: models.vit_tiny(pool="max"), "pool is 'token' or 'mean', not 'max'"),
        (lambda: models.vision_transformer(10, 3), "3 heads .*width 10"),
        (lambda: models.vision_transformer(10, 0), "0 heads .*width 10"),
        (
            by_name("resnet"),
            r"no model 'resnet' .did you mean resnet56.*; choose one of mlp, cnn, resnet20",
        ),
        (by_name("cnn", (1, 8, 12)), "square, not 8 x 12"),
        (by_name("vit_tiny", (1, 8, 12)), "square, not 8 x 12"),
        (by_name("resnet20", (8, 8)), r"\(channels, height, width\), not \(8, 8\)"),
        (by_name("resnet20", stem="cifar"), "resnet20 has no option 'stem'; it has none"),
        (by_name("vit_tiny", width=8), "no option 'width'; it has depth, patch, pool, dropout"),
        (by_name("mlp", size=8), "no option 'size'; it has hidden"),
    ],
)
def test_misuse_says_what_to_do_instead(build, match):
    with pytest.raises(ValueError, match=match) as caught:
        build()
    assert "\n" not in str(caught.value)


def test_images_of_another_size():
    model = models.vit_tiny(depth=1, image_size=16, patch=8, pool="mean")
    with pytest.raises(ShapeError, match=r"\(3, 8, 8\).*\(3, 16, 16\)"):
        model(np.ones((2, 3, 8, 8), "float32"))
