"""One code, any device: the same training on the host, on the device double, and on a GPU.

The double shows without a GPU that a step neither leaves the device nor waits for it. What the
double takes and refuses is itself a list, `HABITS`, which the tests marked `gpu` hold against CuPy.
"""

from __future__ import annotations

import ctypes
import gc
import importlib.util
from functools import partial
from inspect import unwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rsam_backends import (
    Stream,
    current_backend,
    forbid_waiting,
    memory_used,
    synchronize,
    to_device,
    to_host,
    use_backend,
    xp,
)
from rsam_backends.cupy_kernels import SOURCE
from rsam_ref import (
    RSAM,
    SAM,
    SGD,
    AdamW,
    NoiseOnly,
    Tensor,
    models,
    nn,
    objective,
    rsam_gradient,
    sam_gradient,
)
from rsam_ref.algorithms.base import sgd_update
from rsam_ref.algorithms.noise import filter_scale
from rsam_ref.algorithms.relatives import RELATIVES, make
from rsam_ref.autograd import ops, ops_nn
from rsam_ref.autograd.errors import ShapeError
from rsam_ref.models.resnet import Bottleneck
from rsam_ref.nn.batch_parts import Accumulated, Sharded
from rsam_ref.training.loop import DivergedError, evaluate, train
from tests.device.double import COUNTS, SURFACE, DeviceArray, HiddenSyncError
from tests.device.emulator import declarations


def related(name):
    return make(name, SGD(0.1, momentum=0.9))


OPTIMIZERS = {
    "sgd": lambda: SGD(0.1, momentum=0.9, weight_decay=1e-3),
    "nesterov": lambda: SGD(0.1, momentum=0.9, nesterov=True, clip_norm=0.5),
    "adamw": lambda: AdamW(1e-2),
    "sam": lambda: SAM(SGD(0.1, momentum=0.9), 0.1),
    "2-step sam": lambda: SAM(SGD(0.1), 0.1, ascent_steps=2),
    "asam": lambda: SAM(SGD(0.1), 0.5, adaptive=True),
    "noise": lambda: NoiseOnly(SGD(0.1), 0.01),
    "rsam": lambda: RSAM(SGD(0.1, momentum=0.9), 0.1, 0.01),
    "rsam around adamw": lambda: RSAM(AdamW(1e-2, clip_norm=1.0), 0.1, 0.01),
    "ball": lambda: RSAM(SGD(0.1), 0.1, 0.01, variant="ball"),
    **{name: partial(related, name) for name in RELATIVES},
}


def batch_norm_net():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.GlobalAvgPool2d(),
        nn.LayerNorm(4),
        nn.GELU(),
        nn.Linear(4, 10),
    ).build(seed=1)


def mlp_of_images():
    mlp: Any = models.mlp([64, 8, 10], seed=1)
    return nn.Sequential(nn.Flatten(), *mlp.layers).build(1)


MODELS = {
    "mlp": mlp_of_images,
    "cnn": lambda: models.cnn(size=8, width=2, seed=1),
    "batch norm": batch_norm_net,
    "cifar resnet": lambda: models.cifar_resnet(8, channels=1, seed=1),
    "resnet": lambda: models.imagenet_resnet(
        Bottleneck, (1, 1, 1, 1), classes=10, channels=1, width=2, seed=1
    ),
    "wide resnet": lambda: models.wide_resnet(10, 1, channels=1, dropout=0.2, seed=1),
    "vit": lambda: models.vision_transformer(
        12, 3, depth=2, image_size=8, patch=4, classes=10, channels=1, dropout=0.2, seed=1
    ),
    "vit, mean": lambda: models.vision_transformer(
        12, 3, depth=1, image_size=8, patch=4, classes=10, channels=1, pool="mean", seed=1
    ),
}

# How many masks dropout draws in each pass.
MASKS = {"batch norm": 1, "wide resnet": 3, "vit": 1 + 2 * 3}


def five_steps(make_model, make_optimizer, seen=None):
    """Train; returns the losses, weights and buffers. ``seen`` collects the counts of each step."""
    model, optimizer = make_model(), make_optimizer()
    stream = np.random.default_rng(0)
    in_parts = getattr(optimizer, "relative", None) is RELATIVES["m-sam"]
    losses = []
    for _ in range(5):
        x = stream.standard_normal((6, 1, 8, 8), dtype="float32")
        y = stream.integers(0, 10, 6)
        COUNTS.reset()
        with forbid_waiting():
            batch: Any
            if in_parts:
                batch = Accumulated(model, to_device(x), to_device(y), ops_nn.cross_entropy, [0, 0])
            else:
                batch = objective(model, x, y)
            losses.append(optimizer.step(batch, model.weights.flat).loss)
        if seen is not None:
            seen.append((COUNTS.uploads, COUNTS.downloads, COUNTS.waits))
    return [float(loss) for loss in losses], model.state_dict()


@pytest.fixture
def plain_double(double_backend):
    """The double with the definitions alone."""
    kernels, double_backend.kernels = double_backend.kernels, {}
    with use_backend("double"):
        yield
    double_backend.kernels = kernels


@pytest.fixture
def double(double_backend):
    """The double with the CUDA kernels."""
    with use_backend("double") as backend:
        if not backend.kernels:
            pytest.skip("no g++ to compile the CUDA kernels for the CPU with")
        yield


EVERY = [(m, "sgd") for m in MODELS] + [(m, "rsam") for m in MODELS]
EVERY += [("cnn", o) for o in OPTIMIZERS if o not in ("sgd", "rsam")]


@pytest.mark.parametrize(("model", "optimizer"), EVERY)
def test_a_step_is_the_same_on_the_double_and_stays_there(model, optimizer, plain_double):
    seen: list[tuple[int, int, int]] = []
    losses, state = five_steps(MODELS[model], OPTIMIZERS[optimizer], seen)
    uploads = {step[0] for step in seen}
    assert len(uploads) == 1, f"uploads differ from step to step: {seen}"
    passes = {"sgd": 1, "nesterov": 1, "adamw": 1, "noise": 1, "2-step sam": 3}.get(optimizer, 2)
    draws = optimizer in ("noise", "rsam", "rsam around adamw", "ball") or (
        optimizer in RELATIVES and bool({"noise", "z", "mask"} & {*RELATIVES[optimizer].needs})
    )
    masks = passes * MASKS.get(model, 0)
    assert uploads == {2 + draws + masks}  # inputs, labels, the draw, dropout's mask in each pass
    assert {step[1:] for step in seen} == {(0, 0)}, "nothing is read back"
    with use_backend("numpy", kernels="plain"):
        expected_losses, expected = five_steps(MODELS[model], OPTIMIZERS[optimizer])
    assert losses == expected_losses
    for name, values in expected.items():
        assert state[name].tobytes() == values.tobytes(), name


@pytest.mark.parametrize(("model", "optimizer"), [("cnn", "rsam"), ("batch norm", "nesterov")])
def test_the_cuda_kernels_train_alike(model, optimizer, double):
    losses, state = five_steps(MODELS[model], OPTIMIZERS[optimizer])
    with use_backend("numpy"):
        expected_losses, expected = five_steps(MODELS[model], OPTIMIZERS[optimizer])
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-5)
    for name, values in expected.items():
        np.testing.assert_allclose(state[name], values, atol=2e-6, err_msg=name)


def test_a_whole_epoch_reads_its_losses_once(plain_double):
    model = MODELS["mlp"]()
    x, y = np.ones((20, 64), "float32"), np.arange(20) % 10
    train(model, SGD(0.1), x, y, epochs=1, batch_size=20)  # what an epoch reads besides its losses
    COUNTS.reset()
    train(model, SGD(0.1), x, y, epochs=1, batch_size=20)
    once = COUNTS.downloads
    COUNTS.reset()
    train(model, SGD(0.1), x, y, epochs=1, batch_size=2)
    assert COUNTS.downloads == once


# Mistakes that the double must notice


def implicit_conversion(loss_and_grad, w):
    return np.asarray(loss_and_grad(w)[1])


def host_scalar_in_a_step(loss_and_grad, w):
    loss, gradient = loss_and_grad(w)
    return gradient * float(loss)


def branch_on_a_value(loss_and_grad, w):
    loss, gradient = loss_and_grad(w)
    return gradient if loss > 0 else -gradient


def reduction_with_where(loss_and_grad, w):
    return w.sum(where=w > 0) * w


def numpy_keyword(loss_and_grad, w):
    return xp.sum(w, initial=0.0) * w


def boolean_mask(loss_and_grad, w):
    return w[w > 0].sum() * w


def mixed_devices(loss_and_grad, w):
    return w + np.ones(w.shape, "float32")


def host_array_written_in(loss_and_grad, w):
    w[...] = np.ones(w.shape, "float32")


def missing_function(loss_and_grad, w):
    return xp.vecdot(w, w) * w


def missing_method(loss_and_grad, w):
    w.setflags(write=False)


PLANTS = {
    implicit_conversion: TypeError,
    host_scalar_in_a_step: HiddenSyncError,
    branch_on_a_value: HiddenSyncError,
    reduction_with_where: TypeError,
    numpy_keyword: TypeError,
    boolean_mask: HiddenSyncError,
    mixed_devices: TypeError,
    host_array_written_in: TypeError,
    missing_function: AttributeError,
    missing_method: AttributeError,
}


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__)
def test_the_double_notices(plant, plain_double):
    model = MODELS["mlp"]()
    loss_and_grad = objective(model, np.ones((2, 64), "float32"), np.zeros(2, int))
    with forbid_waiting(), pytest.raises(PLANTS[plant]):
        plant(loss_and_grad, model.weights.flat)


def test_the_double_counts_what_it_allows(plain_double):
    model = MODELS["mlp"]()
    COUNTS.reset()
    float(model.weights.flat.sum())
    to_host(model.weights.flat)
    to_device(np.ones(3))
    assert (COUNTS.uploads, COUNTS.downloads, COUNTS.waits) == (1, 2, 2)


# What arrays of a device do and do not: the double's claims, and CuPy's answers


def a(*values):
    return xp.asarray(np.array(values, "float32"))


HABITS = {  # an expression: what it gives (an exception, or "device" for an array, or "waits")
    "sum is 0-d": (lambda: a(1, 2).sum(), "device"),
    "an element is 0-d": (lambda: a(1, 2)[0], "device"),
    "a product of vectors is 0-d": (lambda: a(1, 2) @ a(1, 2), "device"),
    "python numbers mix": (lambda: 2 * a(1, 2) + 1, "device"),
    "numpy scalars mix": (lambda: a(1, 2) * np.float32(2), "device"),
    "numpy's ufuncs dispatch": (lambda: np.exp(a(1, 2)), "device"),
    "np.asarray is refused": (lambda: np.asarray(a(1)), TypeError),
    "host arrays do not mix": (lambda: a(1) + np.ones(1, "float32"), TypeError),
    "nor from the left": (lambda: np.ones(1, "float32") + a(1), TypeError),
    "nor in functions": (lambda: xp.maximum(a(1), np.ones(1, "float32")), TypeError),
    "no where=": (lambda: a(1).sum(where=a(1) > 0), TypeError),
    "no initial=": (lambda: xp.sum(a(1), initial=0.0), TypeError),
    "no errstate": (lambda: xp.errstate(), AttributeError),
    "no vecdot": (lambda: xp.vecdot(a(1), a(1)), AttributeError),
    "no setflags": (lambda: a(1).setflags(write=False), AttributeError),
    "float waits": (lambda: float(a(1).sum()), "waits"),
    "item waits": (lambda: a(1).sum().item(), "waits"),
    "bool waits": (lambda: bool(a(1).sum() > 0), "waits"),
    "a download waits": (lambda: to_host(a(1)), "waits"),
    "nonzero waits": (lambda: xp.nonzero(a(1)), "waits"),
    "a mask waits": (lambda: a(1, 2)[a(1, 2) > 1], "waits"),
    "where does not wait": (lambda: xp.where(a(1, -1) > 0, a(1, 2), 0), "device"),
    "an index array does not wait": (lambda: a(1, 2)[xp.arange(2)], "device"),
    "float32 stays with python numbers": (lambda: a(1) * 2.0 + 1e-12, "device"),
}


def habit(name, otherwise=None):
    expression, expected = HABITS[name]
    expected = otherwise or expected
    if expected == "waits":
        expression()  # allowed ...
        with pytest.raises(RuntimeError), forbid_waiting():  # ... but told
            expression()
    elif expected == "device":
        with forbid_waiting():
            result = expression()
        assert isinstance(result, xp.ndarray)
        assert result.dtype == "float32"
    else:
        with pytest.raises(expected):
            expression()


@pytest.mark.parametrize("name", HABITS)
def test_habits_of_the_double(name, plain_double):
    habit(name)


def test_the_double_offers_nothing_that_cupy_does_not(plain_double):
    offered = {name for name in dir(DeviceArray) if not name.startswith("_")}
    assert offered <= set(SURFACE["ndarray"])
    functions = {n for n, f in vars(current_backend().namespace).items() if callable(f)}
    assert functions - {"ndarray", "float32", "float64", "int64"} <= set(SURFACE["cupy"])


# The CUDA source


@pytest.mark.parametrize("c_type", ["float", "double"])
@pytest.mark.parametrize("architecture", ["compute_75", "compute_90"])
def test_the_kernels_compile(c_type, architecture):
    """With NVIDIA's compiler, from its wheel nvidia-cuda-nvrtc; it needs no GPU and no driver."""
    nvrtc = load_nvrtc()
    if nvrtc is None:
        pytest.skip("NVRTC is not installed: pip install nvidia-cuda-nvrtc")
    program = ctypes.c_void_p()
    source = SOURCE.read_bytes()
    nvrtc.nvrtcCreateProgram(ctypes.byref(program), source, b"kernels.cu", 0, None, None)
    options = (ctypes.c_char_p * 2)(f"-DREAL={c_type}".encode(), f"-arch={architecture}".encode())
    failed = nvrtc.nvrtcCompileProgram(program, 2, options)
    size = ctypes.c_size_t()
    nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetProgramLog(program, log)
    assert not failed, log.value.decode()
    nvrtc.nvrtcGetPTXSize(program, ctypes.byref(size))
    ptx = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetPTX(program, ptx)
    for kernel in declarations():
        assert f".entry {kernel}(".encode() in ptx.value


def load_nvrtc():
    spec = importlib.util.find_spec("nvidia")
    for folder in spec.submodule_search_locations if spec else []:
        for path in sorted(Path(folder).rglob("libnvrtc.so.*")):
            return ctypes.CDLL(str(path))
    return None


def test_shards_go_with_the_kernels(double):
    x = np.random.default_rng(0).standard_normal((6, 1, 8, 8), dtype="float32")
    losses = set()
    for _ in range(5):
        model = batch_norm_net()
        parts = Sharded(model, x, np.arange(6), ops_nn.cross_entropy, [0, 1, 2])
        losses.add(float(parts(model.weights.flat)[0]))
    assert len(losses) == 1
    assert np.isfinite(losses.pop())


@pytest.mark.parametrize("model", ["cnn", "batch norm", "cifar resnet"])
@pytest.mark.parametrize("widen", ["scalar", "array"])
def test_a_wider_gradient_does_not_reach_the_kernels(model, widen, double):
    """A float64 factor in the loss makes float64 gradients for the float32 arrays below it."""
    x = np.random.default_rng(0).standard_normal((6, 1, 8, 8), dtype="float32")

    def loss(scores, targets):
        if widen == "scalar":
            return ops_nn.cross_entropy(scores, targets) * np.float64(0.5)
        return ops_nn.cross_entropy(scores * (0.5 * np.ones(10)), targets)

    def gradient():
        made = MODELS[model]().train()
        w = made.weights.flat
        return to_host(objective(made, x, np.arange(6), loss)(w)[1])

    found = gradient()
    with use_backend("numpy"):
        expected = gradient()
    assert found.dtype == "float32"
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


SHAPES = [(3, 5), (4,), (2, 3, 2, 2), (1, 7), (1,)]


def test_the_filter_kernels_are_the_definition(double):
    w = Stream("w", 0).normal(15 + 4 + 24 + 7 + 1, "float64")
    kernel, definition = filter_scale(w, SHAPES), unwrap(filter_scale)(w, SHAPES)
    np.testing.assert_allclose(to_host(kernel), to_host(definition), rtol=1e-14)
    with pytest.raises(ValueError, match="hold 51 weights, the vector 50"):
        filter_scale(w[:50], SHAPES)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("dampening", [0.0, 0.3])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_the_sgd_kernel_is_the_definition(momentum, nesterov, dampening, weight_decay, double):
    settings = {"lr": 0.3, "momentum": momentum, "nesterov": nesterov and momentum > 0}
    settings |= {"dampening": dampening, "weight_decay": weight_decay}
    results = []
    for update in (sgd_update, unwrap(sgd_update)):
        stream = Stream("w", 1)
        w, velocity = stream.normal(300, "float64"), None
        for _ in range(3):
            velocity = update(w, stream.normal(300, "float64"), velocity, **settings)
        results.append((to_host(w), None if velocity is None else to_host(velocity)))
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-13)
    assert (results[0][1] is None) == (results[1][1] is None) == (momentum == 0)
    if momentum:
        np.testing.assert_allclose(results[0][1], results[1][1], rtol=1e-13)


# On real devices


@pytest.fixture(
    params=[
        pytest.param("cupy", marks=pytest.mark.gpu),
        pytest.param("dpnp", marks=pytest.mark.intel),
    ]
)
def real(request):
    with use_backend(request.param):
        yield request.param


@pytest.fixture
def gpu():
    with use_backend("cupy"):
        yield


DPNP_HABITS: dict[str, Any] = {  # where dpnp does otherwise than CuPy, and so than the double
    "numpy's ufuncs dispatch": TypeError,
    "no where=": NotImplementedError,
    "no initial=": NotImplementedError,
    "no vecdot": "device",
}

# What dpnp refuses and CuPy takes: the core keeps to what both take. The double refuses it, too.
REFUSED_BY_DPNP = {
    "dtype by its place": (lambda: xp.zeros(3, "float32"), TypeError),
    "arrays and slices in one index": (
        lambda: a(*range(8)).reshape(2, 2, 2)[xp.arange(2), :, xp.arange(2)],
        IndexError,
    ),
    "a ufunc's at": (lambda: xp.add.at(a(1), xp.arange(1), a(1)), AttributeError),
}


@pytest.mark.parametrize("name", HABITS)
def test_habits_of_real_devices(name, real):
    """The list that the double is held to; what dpnp does otherwise is a list as well."""
    habit(name, DPNP_HABITS.get(name) if real == "dpnp" else None)


@pytest.mark.parametrize("name", REFUSED_BY_DPNP)
@pytest.mark.parametrize("backend", ["double", pytest.param("dpnp", marks=pytest.mark.intel)])
def test_what_dpnp_refuses(name, backend, request):
    if backend == "double":
        request.getfixturevalue("double_backend")
    expression, expected = REFUSED_BY_DPNP[name]
    with use_backend(backend), pytest.raises(expected):
        expression()


@pytest.mark.intel
def test_where_of_arrays_that_lie_backwards():
    x = np.arange(1.0, 7).reshape(2, 3)[::-1, ::-1]
    with use_backend("dpnp"):
        found = to_host(xp.where(to_device(x) > 2, to_device(x), 1))
    np.testing.assert_array_equal(found, np.where(x > 2, x, 1))


# Batch norm over six values, often in a row, makes rounding errors of "resnet" 1e6 times as large.
COMPARABLE = [pair for pair in EVERY if pair[0] != "resnet"]


@pytest.mark.parametrize(("model", "optimizer"), COMPARABLE)
def test_training_on_a_real_device_waits_for_nothing_and_agrees(model, optimizer, real):
    losses, state = five_steps(MODELS[model], OPTIMIZERS[optimizer])
    with use_backend("numpy"):
        expected_losses, expected = five_steps(MODELS[model], OPTIMIZERS[optimizer])
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-4)
    for name, values in expected.items():
        np.testing.assert_allclose(state[name], values, atol=1e-4, err_msg=name)


def hundred_losses():
    model = models.cnn(size=8, width=4, seed=0)
    optimizer = RSAM(SGD(0.05, momentum=0.9), 0.05, 1e-3)
    stream = np.random.default_rng(0)
    losses = []
    for _ in range(100):
        x = stream.standard_normal((16, 1, 8, 8), dtype="float32")
        batch = objective(model, x, stream.integers(0, 10, 16))
        losses.append(optimizer.step(batch, model.weights.flat).loss)
    return [float(loss) for loss in losses]


def test_a_hundred_steps_agree_with_numpy(real):
    losses = hundred_losses()
    with use_backend("numpy"):
        np.testing.assert_allclose(losses, hundred_losses(), rtol=2e-3)


def test_weights_and_noise_are_numpys(real):
    weights, noise = models.cnn(seed=3).weights.flat, Stream("noise", 1, 2).normal(1 << 18)
    with use_backend("numpy"):
        assert to_host_bytes(weights, real) == models.cnn(seed=3).weights.flat.tobytes()
        assert to_host_bytes(noise, real) == Stream("noise", 1, 2).normal(1 << 18).tobytes()


def to_host_bytes(array, name):
    with use_backend(name):
        return to_host(array).tobytes()


def test_memory_stays_constant_over_a_thousand_steps(real):
    model = models.mlp([64, 32, 10], seed=0)
    base = SGD(0.05, momentum=0.9)
    optimizer = base if real == "dpnp" else RSAM(base, 0.05)  # three times as long there
    x, y = to_device(np.ones((8, 64), "float32")), to_device(np.zeros(8, int))
    used = []
    gc.disable()
    try:
        for step in range(1000):
            optimizer.step(objective(model, x, y), model.weights.flat)
            if step in (10, 999):
                synchronize()
                used.append(memory_used())
    finally:
        gc.enable()
    assert used[0] == used[1]


@pytest.mark.gpu
def test_running_out_of_memory_is_clear_and_leaves_the_pool_usable(gpu):
    backend: Any = current_backend()
    total = backend.cupy.cuda.Device().mem_info[1]
    before = memory_used()
    big = Tensor(xp.zeros(1, "float32"))
    with pytest.raises(MemoryError, match=r"[Oo]ut of memory"):
        ops.broadcast_to(big, shape=(total,)) * 2.0
    gc.collect()
    assert memory_used() <= before + 1024
    assert float((to_device(np.ones(10)) * 2).sum()) == 20


@pytest.fixture(params=["double", pytest.param("dpnp", marks=pytest.mark.intel)])
def waiting_device(request):
    """A device on which a loss does not look at labels, since it would have to wait."""
    if request.param == "double":
        request.getfixturevalue("double_backend")
    with use_backend(request.param):
        yield request.param


@pytest.mark.parametrize("wrong", [5, -1])
@pytest.mark.parametrize("parts", [1, 2])
def test_a_label_that_is_no_class_is_told_as_on_the_host(wrong, parts, waiting_device):
    x, y = np.ones((6, 3), "float32"), np.array([0, 1, 2, 3, 4, wrong])
    model = models.mlp([3, 4, 5], seed=0)
    before = to_host(model.weights.flat).copy()
    said = r"a label is none of the 5 classes 0 \.\. 4"
    with pytest.raises(ShapeError, match=said):
        train(model, RSAM(SGD(0.1), 0.1, 0.01), x, y, epochs=1, parts=parts)
    np.testing.assert_array_equal(to_host(model.weights.flat), before)
    with pytest.raises(ShapeError, match=said):
        evaluate(model, x, y, batch_size=4)
    assert np.isnan(evaluate(model, x * np.nan, abs(y) % 5).loss)
    with pytest.raises(DivergedError, match="Look at the data"):
        train(model, SGD(0.1), x * np.nan, abs(y) % 5, epochs=1)


MIXED = {
    "a model": lambda here, there: here["model"](np.ones((2, 3))),
    "a model's step": lambda here, there: SGD(0.1).step(
        here["batch"](), here["model"].weights.flat
    ),
    "its w": lambda here, there: SGD(0.1).step(there["batch"](), here["model"].weights.flat),
    "w alone": lambda here, there: RSAM(SGD(0.1), shapes=[(2,)]).step(
        lambda w: (w @ w, w), here["w"]
    ),
    "noise": lambda here, there: rsam_gradient(
        lambda w: (w @ w, w), there["w"], here["w"], rho=0.1
    ),
    "the gradient": lambda here, there: sam_gradient(
        lambda w: (0.0, here["w"]), there["w"], rho=0.1
    ),
}


def things(backend):
    with use_backend(backend):
        model = models.mlp([3, 4, 2], seed=0)
        return {
            "model": model,
            "w": xp.ones(2),
            "batch": lambda: objective(model, np.ones((2, 3)), np.array([0, 1])),
        }


@pytest.mark.intel
@pytest.mark.parametrize("pair", [("numpy", "dpnp"), ("dpnp", "numpy")])
@pytest.mark.parametrize("name", MIXED)
def test_an_array_of_another_backend_is_told_in_one_line(name, pair):
    """dpnp's own words were "An array must be any of supported type"."""
    here, there = map(things, pair)
    with use_backend(pair[1]), pytest.raises(TypeError) as caught:
        MIXED[name](here, there)
    told = str(caught.value)
    assert f"of {pair[0]}" in told
    assert pair[1] in told
    assert "to_device" in told or "state_dict()" in told
    assert "\n" not in told


STATES = [AdamW, lambda: RSAM(SGD(0.1, momentum=0.9)), lambda: make("looksam", SGD(0.1))]


@pytest.mark.intel
@pytest.mark.parametrize("made", STATES, ids=["adamw", "rsam", "looksam"])
@pytest.mark.parametrize("pair", [("numpy", "dpnp"), ("dpnp", "numpy")])
def test_an_optimizers_state_crosses_as_a_models_does(made, pair):
    ends = []
    for second in pair:
        state = None
        for backend in (pair[0], second):
            with use_backend(backend):
                model, optimizer = models.mlp([3, 4, 2], seed=0), made()
                if state:
                    model.load_state_dict(state[0])
                    optimizer.load_state_dict(state[1])
                batch = objective(model, np.eye(3, dtype="float32")[:2], np.array([0, 1]))
                optimizer.step(batch, model.weights.flat)
                state = model.state_dict(), optimizer.state_dict()
                end = to_host(model.weights.flat)
        ends.append(end)
    np.testing.assert_allclose(*ends, atol=1e-6)


@pytest.mark.intel
def test_arrays_of_a_device_come_to_the_host_when_asked():
    with use_backend("dpnp"):
        x = xp.ones((2, 3), dtype="float32")
    assert type(to_host(x)) is type(to_device(x)) is np.ndarray
    assert objective(models.mlp([3, 2]), x, np.array([0, 1])).x.shape == (2, 3)
    with pytest.raises(TypeError, match="an array of dpnp, but the backend in force is numpy"):
        Tensor(x)


def test_pytorchs_vectors_have_optimizers_elsewhere():
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match=r"of torch, but .* numpy; rsam_ref\.pytorch has"):
        SAM(SGD(0.1)).step(lambda w: (w @ w, w), torch.ones(2))
