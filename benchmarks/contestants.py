"""The contestants of the whole-step benchmarks: the same networks and steps, ours and others'.

Each is written as its users write it who look to speed: HIPS autograd's convolution is that of its
own examples/convnet.py, PyTorch's SAM and R-SAM use its ``_foreach_`` ops on lists, JAX's and
tinygrad's whole step is compiled, and JAX's images are channels last. All have momentum and weight
decay, and SAM or R-SAM as in rsam_ref/algorithms/sam.py. The limit does the step's products alone.

A contestant's name is ``MODEL_BATCH_METHOD_WHO``, such as ``resnet20_128_sgd_ours_cpu``: by it a
process of its own (see duel.py) asks for a function that takes one step and waits for its end.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.worker import before_the_net

Step = Callable[[], None]

MLP = [784, 256, 256, 10]
SHAPES = {
    "mlp": (784,),
    "cnn": (1, 28, 28),
    "resnet20": (3, 32, 32),
    "vit_tiny": (3, 32, 32),
}
VIT = {"image_size": 32, "patch": 4, "depth": 6}
LR, MOMENTUM, WEIGHT_DECAY = 0.01, 0.9, 5e-4
RHO, SIGMA, LAM = 0.05, 5e-4, 2.0


def batch(model: str, size: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((size, *SHAPES[model]), dtype=np.float32), rng.integers(0, 10, size)


def ours(backend: str, kernels: str | None, model: str, size: int, method: str) -> Step:
    """Our step, on one of the backends, with one of its sets of kernels."""
    from rsam_backends import BackendError, synchronize, to_device, use_backend
    from rsam_ref import RSAM, SAM, SGD, models, objective

    try:
        use_backend(backend, kernels=kernels)
    except (BackendError, ValueError) as error:
        raise ImportError(str(error)) from None
    before_the_net()
    nets: dict[str, Callable[[], Any]] = {
        "mlp": lambda: models.mlp(MLP),
        "cnn": models.cnn,
        "resnet20": models.resnet20,
        "vit_tiny": lambda: models.vit_tiny(classes=10, **VIT),
    }
    net = nets[model]()
    x, y = map(to_device, batch(model, size))
    base = SGD(LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    optimizer: Any = {
        "sgd": lambda: base,
        "sam": lambda: SAM(base, RHO),
        "rsam": lambda: RSAM(base, RHO, SIGMA, LAM),
    }[method]()

    def step() -> None:
        optimizer.step(objective(net, x, y), net.weights.flat)
        synchronize()

    return step


def torch_step(
    device: str, channels_last: bool, compiled: bool, model: str, size: int, method: str
) -> Step:
    """PyTorch's step, on "cpu" or "cuda": eager, in either layout, or its network compiled."""
    import torch
    from torch import nn

    if compiled and shutil.which(os.environ.get("CXX", "g++")) is None:
        raise ImportError("torch.compile needs a C++ compiler, such as g++")
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    import tests.helpers.torch_models  # noqa: F401 - resnet20, loaded before memory is looked at

    before_the_net()
    net = torch_net(model).to(device)
    x, y = (torch.from_numpy(a).to(device) for a in batch(model, size))
    if channels_last and x.ndim == 4:
        net = net.to(memory_format=torch.channels_last)
        x = x.to(memory_format=torch.channels_last)
    parameters = list(net.parameters())
    base = torch.optim.SGD(parameters, LR, MOMENTUM, weight_decay=WEIGHT_DECAY)
    forward: Any = torch.compile(net) if compiled else net

    def gradients() -> list[Any]:
        base.zero_grad()
        nn.functional.cross_entropy(forward(x), y).backward()
        return [p.grad for p in parameters]

    sizes = [p.numel() for p in parameters]

    def draw() -> list[Any]:
        """sigma s z: one draw for all weights, a norm for every filter."""
        rows = [p.reshape(p.shape[0], -1) if p.ndim > 1 else p.reshape(1, -1) for p in parameters]
        parts = torch.randn(sum(sizes), device=device).split(sizes)
        draws = [z.reshape(r.shape) for z, r in zip(parts, rows)]
        torch._foreach_mul_(draws, [SIGMA * r.norm(dim=1, keepdim=True) for r in rows])
        return [d.reshape(p.shape) for d, p in zip(draws, parameters)]

    @torch.no_grad()
    def perturbed() -> None:
        """Leaves the gradients of SAM, or with a draw those of R-SAM."""
        saved = [p.clone() for p in parameters]
        if method == "rsam":
            draws = draw()
            torch._foreach_add_(parameters, draws)
        with torch.enable_grad():
            ascent = gradients()
        if method == "rsam":
            torch._foreach_mul_(ascent, LAM)
            torch._foreach_add_(ascent, draws)
        norm = torch.stack(torch._foreach_norm(ascent)).norm()
        torch._foreach_mul_(ascent, RHO / (norm + 1e-12))
        torch._foreach_copy_(parameters, saved)
        torch._foreach_add_(parameters, ascent)
        with torch.enable_grad():
            gradients()
        torch._foreach_copy_(parameters, saved)

    def step() -> None:
        (gradients if method == "sgd" else perturbed)()
        base.step()
        if device == "cuda":
            torch.cuda.synchronize()

    return step


def torch_net(model: str) -> Any:
    """The networks as PyTorch users write them; resnet20 is the tests' own counterpart."""
    from torch import nn

    if model == "mlp":
        layers: list[nn.Module] = []
        for inputs, outputs in zip(MLP, MLP[1:]):  # noqa: RUF007
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        return nn.Sequential(*layers[:-1])
    if model == "cnn":
        return nn.Sequential(
            *(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Flatten(), nn.Linear(3136, 10)),
        )
    if model == "resnet20":
        from tests.helpers.torch_models import CifarResNet

        return CifarResNet(20)
    return torch_vit()


def torch_vit() -> Any:
    """`VIT` out of PyTorch's own encoder layers, with their fused attention."""
    import torch
    from torch import nn

    class Vit(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches = nn.Conv2d(3, 192, VIT["patch"], VIT["patch"])
            tokens = (VIT["image_size"] // VIT["patch"]) ** 2 + 1
            self.token = nn.Parameter(torch.zeros(1, 1, 192))
            self.positions = nn.Parameter(torch.randn(1, tokens, 192) * 0.02)
            options = {"activation": "gelu", "batch_first": True, "norm_first": True}
            self.blocks = nn.Sequential(
                *(
                    nn.TransformerEncoderLayer(192, 3, 768, dropout=0.0, **options)
                    for _ in range(VIT["depth"])
                )
            )
            self.norm = nn.LayerNorm(192)
            self.head = nn.Linear(192, 10)

        def forward(self, x: Any) -> Any:
            x = self.patches(x).flatten(2).transpose(1, 2)
            x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.positions
            return self.head(self.norm(self.blocks(x))[:, 0])

    return Vit()


def perturbed_gradient(gradient: Any, w: list[Any], method: str, draws: Any) -> list[Any]:
    """What moves the weights, a list of arrays of any library; ``draws`` makes R-SAM's."""
    if method == "sgd":
        return gradient(w)
    if method == "sam":
        ascent = gradient(w)
    else:
        noise = draws(w)
        ascent = gradient([p + d for p, d in zip(w, noise)])
        ascent = [LAM * g + d for g, d in zip(ascent, noise)]
    norm = sum((a**2).sum() for a in ascent) ** 0.5
    return gradient([p + RHO / (norm + 1e-12) * a for p, a in zip(w, ascent)])


def within_filters(p: Any, channels_last: bool = False) -> tuple[int, ...]:
    """The axes of a weight (see `first_weights`) along which one filter lies."""
    if p.ndim == 4:
        return (0, 1, 2) if channels_last else (1, 2, 3)
    return (0,)


def moved(w: list[Any], velocity: list[Any], gradient: list[Any]) -> tuple[list[Any], list[Any]]:
    """SGD with momentum and weight decay."""
    velocity = [MOMENTUM * v + g + WEIGHT_DECAY * p for v, g, p in zip(velocity, gradient, w)]
    return [p - LR * v for p, v in zip(w, velocity)], velocity


def first_weights(model: str, channels_last: bool = False) -> list[np.ndarray]:
    """Weight, bias, weight, ...: linear (in, out), convolution (O, I, 3, 3) or (3, 3, I, O)."""
    if model not in ("mlp", "cnn"):
        raise ImportError(f"{model} is written for PyTorch alone")
    rng = np.random.default_rng(1)
    if model == "mlp":
        shapes: list[tuple[int, ...]] = list(zip(MLP, MLP[1:]))  # noqa: RUF007
    elif channels_last:
        shapes = [(3, 3, 1, 32), (3, 3, 32, 64), (3136, 10)]
    else:
        shapes = [(32, 1, 3, 3), (64, 32, 3, 3), (3136, 10)]
    weights: list[np.ndarray] = []
    for shape in shapes:
        outputs = shape[0] if len(shape) == 4 and not channels_last else shape[-1]
        std = (outputs / np.prod(shape)) ** 0.5
        weights.append((std * rng.standard_normal(shape)).astype("float32"))
        weights.append(np.zeros(outputs, "float32"))
    return weights


def hips(model: str, size: int, method: str) -> Step:
    """HIPS autograd, which differentiates NumPy code."""
    import autograd.numpy as anp
    import autograd.scipy.signal
    from autograd import grad

    before_the_net()
    w = first_weights(model)
    x, y = batch(model, size)
    rng = np.random.default_rng(2)

    def layer(x: Any, weight: Any, bias: Any) -> Any:
        x = anp.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), "constant")
        axes = {"axes": ([2, 3], [2, 3]), "dot_axes": ([1], [0]), "mode": "valid"}
        x = autograd.scipy.signal.convolve(x, anp.transpose(weight, (1, 0, 2, 3)), **axes)
        x = anp.maximum(x + anp.reshape(bias, (1, -1, 1, 1)), 0)
        n, c, h, w = x.shape
        return anp.max(anp.max(anp.reshape(x, (n, c, h // 2, 2, w // 2, 2)), axis=5), axis=3)

    def loss(w: list[Any]) -> Any:
        h = x
        if model == "cnn":
            h = anp.reshape(layer(layer(h, w[0], w[1]), w[2], w[3]), (size, -1))
            h = anp.dot(h, w[4]) + w[5]
        else:
            h = anp.maximum(anp.dot(h, w[0]) + w[1], 0)
            h = anp.maximum(anp.dot(h, w[2]) + w[3], 0)
            h = anp.dot(h, w[4]) + w[5]
        h = h - anp.max(h, axis=1, keepdims=True)
        log_p = h - anp.log(anp.sum(anp.exp(h), axis=1, keepdims=True))
        return -anp.mean(log_p[anp.arange(size), y])

    gradient = grad(loss)
    velocity = [np.zeros_like(p) for p in w]

    def draws(w: list[Any]) -> list[Any]:
        scales = [np.sqrt((p**2).sum(axis=within_filters(p), keepdims=True)) for p in w]
        return [
            SIGMA * s * rng.standard_normal(p.shape, dtype=np.float32) for s, p in zip(scales, w)
        ]

    def step() -> None:
        nonlocal w, velocity
        w, velocity = moved(w, velocity, perturbed_gradient(gradient, w, method, draws))

    return step


def jax_jit(model: str, size: int, method: str) -> Step:
    """JAX on the CPU, the whole step compiled, weights and velocity given up to it."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_platforms", "cpu")
    before_the_net()
    w = [jnp.asarray(p) for p in first_weights(model, channels_last=True)]
    images, labels = batch(model, size)
    if model == "cnn":
        images = images.transpose(0, 2, 3, 1)
    x, y = jnp.asarray(images), jnp.asarray(labels)
    velocity = [jnp.zeros_like(p) for p in w]
    key = jax.random.key(0)

    def layer(x: Any, weight: Any, bias: Any) -> Any:
        layout = ("NHWC", "HWIO", "NHWC")
        x = jax.lax.conv_general_dilated(x, weight, (1, 1), "SAME", dimension_numbers=layout)
        x = jax.nn.relu(x + bias)
        return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")

    def loss(w: list[Any], x: Any, y: Any) -> Any:
        if model == "cnn":
            h = layer(layer(x, w[0], w[1]), w[2], w[3]).reshape(size, -1) @ w[4] + w[5]
        else:
            h = jax.nn.relu(x @ w[0] + w[1])
            h = jax.nn.relu(h @ w[2] + w[3]) @ w[4] + w[5]
        return -jax.nn.log_softmax(h)[jnp.arange(size), y].mean()

    @partial(jax.jit, donate_argnums=(0, 1))
    def update(w: Any, velocity: Any, key: Any, x: Any, y: Any) -> Any:
        key, *keys = jax.random.split(key, len(w) + 1)

        def draws(w: list[Any]) -> list[Any]:
            scales = [
                jnp.sqrt((p**2).sum(axis=within_filters(p, channels_last=True), keepdims=True))
                for p in w
            ]
            return [SIGMA * s * jax.random.normal(k, p.shape) for s, k, p in zip(scales, keys, w)]

        def gradient(w: list[Any]) -> list[Any]:
            return jax.grad(loss)(w, x, y)

        return *moved(w, velocity, perturbed_gradient(gradient, w, method, draws)), key

    def step() -> None:
        nonlocal w, velocity, key
        w, velocity, key = jax.block_until_ready(update(w, velocity, key, x, y))

    return step


def tinygrad_jit(model: str, size: int, method: str) -> Step:
    """tinygrad on the CPU, the whole step compiled (it needs clang)."""
    if shutil.which(os.environ.get("CC", "clang")) is None:
        raise ImportError("tinygrad's CPU device needs clang")
    os.environ.setdefault("DEV", "CPU")
    from tinygrad import Tensor, TinyJit

    before_the_net()
    w = [Tensor(p).realize() for p in first_weights(model)]
    velocity = [Tensor.zeros(*p.shape).contiguous().realize() for p in w]
    images, labels = batch(model, size)
    x, y = Tensor(images).realize(), Tensor(labels.astype("int32")).realize()

    def loss(w: list[Any]) -> Any:
        if model == "cnn":
            h = x.conv2d(w[0], w[1], padding=1).relu().max_pool2d(2)
            h = h.conv2d(w[2], w[3], padding=1).relu().max_pool2d(2).flatten(1)
            h = h @ w[4] + w[5]
        else:
            h = ((x @ w[0] + w[1]).relu() @ w[2] + w[3]).relu() @ w[4] + w[5]
        return h.sparse_categorical_crossentropy(y)

    def gradient(at: list[Any]) -> list[Any]:
        leaves = [p.detach() for p in at]
        return [g.realize() for g in loss(leaves).gradient(*leaves)]

    def draws(w: list[Any]) -> list[Any]:
        scales = [(p**2).sum(within_filters(p), keepdim=True).sqrt() for p in w]
        return [(SIGMA * s * Tensor.randn(*p.shape)).realize() for s, p in zip(scales, w)]

    @TinyJit
    def update() -> None:
        g = perturbed_gradient(gradient, w, method, draws)
        after, v = moved(w, velocity, g)
        Tensor.realize(*after, *v)
        Tensor.realize(*[p.assign(new) for p, new in zip(w + velocity, after + v)])

    def step() -> None:
        update()
        w[0].numpy()  # waits

    return step


def flops(model: str, size: int, method: str) -> float:
    """Of a step's products, as counts.py counts them on another batch: they grow with it."""
    counts = json.loads(Path(__file__).with_name("counts.json").read_text())[f"{model} {method}"]
    return counts["product_flops"] * size / counts["batch"]


def limit(model: str, size: int, method: str) -> Step:
    """One product of two square matrices, by NumPy's BLAS, of as many flops as all of the step's.

    No step of products can be as fast as this: theirs are smaller and of less handy shapes.
    """
    before_the_net()
    side = round((flops(model, size, method) / 2) ** (1 / 3))
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((side, side), dtype=np.float32) for _ in range(2))
    out = np.empty_like(a)

    def step() -> None:
        np.matmul(a, b, out=out)

    return step


CONTESTANTS = {
    "ours_cpu": partial(ours, "numpy", "fast"),
    "ours_plain_cpu": partial(ours, "numpy", "plain"),
    "ours_onednn_cpu": partial(ours, "numpy", "onednn"),
    "ours_gpu": partial(ours, "cupy", None),
    "ours_dpnp": partial(ours, "dpnp", None),
    "torch_cpu": partial(torch_step, "cpu", False, False),
    "torch_cpu_last": partial(torch_step, "cpu", True, False),
    "torch_cpu_compiled": partial(torch_step, "cpu", False, True),
    "torch_gpu": partial(torch_step, "cuda", False, False),
    "hips_cpu": hips,
    "jax_cpu": jax_jit,
    "tinygrad_cpu": tinygrad_jit,
    "limit_cpu": limit,
    "sgd_cpu": lambda model, size, method: ours("numpy", "fast", model, size, "sgd"),
}


def __getattr__(name: str) -> Callable[[], Step]:
    """``resnet20_128_sgd_ours_cpu`` and the like, by which duel.py asks."""
    for model in SHAPES:
        if name.startswith(f"{model}_"):
            size, method, who = name.removeprefix(f"{model}_").split("_", 2)
            return lambda: CONTESTANTS[who](model, int(size), method)
    raise AttributeError(name)
