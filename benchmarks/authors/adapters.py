"""How each repository's code is made and driven, and what of ours it is held against.

Of a file only the named classes or functions run (`sources.load`); what they use of its imports
stands in ``given``, and each function here says where something stands in for the original. May
import: PyTorch, NumPy, rsam_ref and the two files beside it. Imported by: the command beside it.
"""

from __future__ import annotations

import importlib
import types
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from unittest import mock

import numpy as np
import torch

from benchmarks.authors import problem
from benchmarks.authors.problem import each_step, halves, network
from benchmarks.authors.sources import Source
from benchmarks.survey import HYPER, Weights
from rsam_ref import SAM

Code = Any
"""What was loaded of a file: its definitions as attributes."""
SGD = torch.optim.SGD


@dataclass(frozen=True)
class Row:
    """One comparison."""

    relative: str
    source: Source
    names: tuple[str, ...]
    """The definitions that are run."""
    theirs: str
    """What of theirs is run, in words."""
    mine: str
    """What of ours."""
    run: Callable[[Code], list[Weights]]
    ours: Callable[[], list[Weights]]
    why: str = ""
    """Why the two differ; empty where they must not."""
    changed: Callable[[], list[Weights]] | None = None
    """Ours with that difference built in, which must be theirs."""
    given: Callable[[], dict[str, Any]] = field(default=lambda: {"torch": torch})
    needs: str = ""
    """A library besides PyTorch."""

    @property
    def id(self) -> str:
        return f"{self.relative}: {self.source.repository}, {self.theirs}"


# nblt/F-SAM

F_SAM = Source(
    "nblt/F-SAM@2e2f9899ab473880430640fa5def4ad8f5aa2401/utils.py",
    "4b679112cc2b0a8ff6e1ec49b9c24dbe0bcdd777dc51707b9cfb6b926db2284c",
    "none",
)


def friendly_sam(code: Code, **settings: float) -> list[Weights]:
    model = network()
    return halves(model, code.FriendlySAM(model.parameters(), SGD, **settings, **HYPER))


# BingcongLi/VaSSO

VASSO = Source(
    "BingcongLi/VaSSO@3524bad45d63bb687120708abfef4d5842b7bf36/solver/vasso.py",
    "b86e462a706f762ed2c512b2c7395c09fb8a9e5c5ec102f68e5a9213d9cf01c5",
    "MIT",
)


def registered() -> dict[str, Any]:
    """Their decorators, by which a command line makes the class, leave it as it is."""
    as_it_is = lambda *_: lambda what: what
    return {
        "torch": torch,
        "configurable": as_it_is,
        "OPTIMIZER_REGISTRY": types.SimpleNamespace(register=as_it_is),
    }


def vasso(code: Code, **settings: float) -> list[Weights]:
    model = network()
    return halves(model, code.VASSO(model.parameters(), problem.sgd(model), **settings))


# Mi-Peng/Sparse-Sharpness-Aware-Minimization

SSAM = Source(
    "Mi-Peng/Sparse-Sharpness-Aware-Minimization@76974fd0255cf2f61201e19566cb64ceb429ecdd/solver/sam.py",
    "c510fb7e53ae7065fab063b85767f249999ed13456d801fddc03c0e87fef99b7",
    "MIT",
)
COUNT = 8


@contextmanager
def in_order_on_the_cpu() -> Iterator[None]:
    """Their loader neither shuffles nor forks, and what goes to a GPU stays where it is."""

    def loader(dataset: list[Any], **_: Any) -> Iterable[Any]:
        return ((x[None], y[None]) for x, y in dataset)

    stays = lambda tensor: tensor
    with (
        mock.patch("torch.utils.data.DataLoader", loader),
        mock.patch.object(torch.Tensor, "cuda", stays),
    ):
        yield


def sparse_sam(code: Code, before: bool, rho: float, sparsity: float) -> list[Weights]:
    """``before``: the mask is made before the step, by us; else where their step makes it."""
    model = network()
    optimizer = code.SSAMF(
        model.parameters(), problem.sgd(model), rho, sparsity, num_samples=10, update_freq=1
    )
    optimizer.num_samples = 10
    silent = types.SimpleNamespace(log=lambda _: None)

    def step(_: int, x: torch.Tensor, y: torch.Tensor) -> None:
        samples = list(zip(x, y))[:COUNT]
        closure = lambda: problem.backward(model, x, y)
        if before:
            model.zero_grad()
            optimizer.update_mask(model, samples)
        closure()
        if before:
            optimizer.first_step(zero_grad=True)
            closure()
            optimizer.second_step()
        else:
            optimizer.step(closure, model, 0, 0, samples, silent)

    with in_order_on_the_cpu():
        return each_step(model, step)


# MarlonBecker/MSAM

MSAM = Source(
    "MarlonBecker/MSAM@780fa4f623fe0c99760fd7cfb1a94d14f00179ee/optimizer/msam.py",
    "c43214bbc07f97195280de322420a9551cb02ca7f4008f29a05527a8ce1eac2b",
    "GPL-3.0",
)
MSAM_LOOKSAM = Source(
    "MarlonBecker/MSAM@780fa4f623fe0c99760fd7cfb1a94d14f00179ee/optimizer/looksam.py",
    "f1b14c8f03fffe7e6d4774e0dff7f1d2a2a8ca1bbe33c7d444ffa39cdc0144e1",
    "GPL-3.0",
)


def momentum_sam(code: Code, rho: float, weight_decay: float) -> list[Weights]:
    """Between the steps the weights are moved back, as for their tests."""
    model = network()
    optimizer = code.MSAM(
        model.parameters(), lr=HYPER["lr"], momentum=0.9, weight_decay=weight_decay, rho=rho
    )

    def step(number: int, x: torch.Tensor, y: torch.Tensor) -> None:
        if number:
            optimizer.move_up_to_momentumAscent()
        problem.backward(model, x, y)
        optimizer.step()
        optimizer.move_back_from_momentumAscent()

    return each_step(model, step)


def with_their_loss() -> dict[str, Any]:
    """Their loss is cross-entropy with label smoothing; here without."""
    loss = partial(torch.nn.functional.cross_entropy, reduction="none")
    return {"torch": torch, "smooth_crossentropy": loss}


def looksam_of_msam(code: Code, rho: float, k: int, alpha: float) -> list[Weights]:
    model = network()
    vars(model)["module"] = types.SimpleNamespace(setBatchNormTracking=lambda _: None)
    optimizer = code.LookSAM(model.parameters(), rho=rho, k=k, alpha=alpha, **HYPER)
    return each_step(model, lambda _, x, y: optimizer.step(model, x, y))


# Leminhbinh0209/LookSAM and rollovd/LookSAM, which are not the authors'

LOOKSAM = Source(
    "Leminhbinh0209/LookSAM@4040208355219944f0f6d6276b7c3dfe470ef282/looksam.py",
    "ad777815fd6c2561a8a6e7d3e26b99000bcc4b84b80d9c4f3e4af2ca43a7cd82",
    "none",
)
LOOKSAM_BY_TENSOR = Source(
    "rollovd/LookSAM@8f5c8ef5aa29b8d62d21756f7c6f410aefadf03c/looksam.py",
    "ce7cd44576bb9b5aedfcf080d7ee4941306911abd6b10bca7122a09ec5d4029c",
    "none",
)


def dictionaries() -> dict[str, Any]:
    return {"torch": torch, "defaultdict": importlib.import_module("collections").defaultdict}


def looksam(code: Code, rho: float, k: int, alpha: float) -> list[Weights]:
    """As their README: up, apart and down in every k-th step; else what was kept is added."""
    model = network()
    under = problem.sgd(model)
    optimizer = code.LookSAM(under, model, rho=rho, alpha=alpha)

    def step(number: int, x: torch.Tensor, y: torch.Tensor) -> None:
        problem.backward(model, x, y)
        if number % k == 0:
            optimizer.ascent_step()
            problem.backward(model, x, y)
            optimizer.decompose_grad(True)
            optimizer.descent_step()
        else:
            optimizer.decompose_grad(False)
        under.step()

    return each_step(model, step)


def looksam_by_tensor(code: Code, rho: float, k: int, alpha: float) -> list[Weights]:
    model = network()
    loss = torch.nn.functional.cross_entropy
    optimizer = code.LookSAM(k, alpha, model, SGD, loss, rho=rho, **HYPER)

    def step(number: int, x: torch.Tensor, y: torch.Tensor) -> None:
        problem.backward(model, x, y)
        optimizer.step(number, x, y)

    return each_step(model, step)


# dydjw9/Efficient_SAM

ESAM = Source(
    "dydjw9/Efficient_SAM@1e06840c466beaebfafb049096d6a1733cb77a8c/utils/Esam.py",
    "81286cf8f56e0a91f7ac50e644ec1b5da8a269c47bd0723b368162791cf259e3",
    "none",
)
COINS = np.random.default_rng(5).random((problem.STEPS, len(problem.SHAPES)))
"""What their random.random() gives at the end of each step, for each tensor."""


def with_coins() -> dict[str, Any]:
    coins = iter(COINS.ravel().tolist())
    return {"torch": torch, "random": types.SimpleNamespace(random=lambda: next(coins))}


def tensor_masks(beta: float) -> list[np.ndarray]:
    """Which weights their step perturbs: all in the first, then by the coins of the step before."""
    kept = [np.ones(len(problem.SHAPES)), *(COINS[:-1] <= beta).astype(float)]
    return [
        problem.flat([k * np.ones(shape) for k, shape in zip(row, problem.SHAPES)]) for row in kept
    ]


def esam(code: Code, rho: float, beta: float) -> list[Weights]:
    """With gamma 1, which leaves out their choice of samples."""
    model = network()
    optimizer = code.ESAM(model.parameters(), problem.sgd(model), rho=rho, beta=beta, gamma=1.0)
    loss = partial(torch.nn.functional.cross_entropy, reduction="none")

    def step(_: int, x: torch.Tensor, y: torch.Tensor) -> None:
        optimizer.paras = x, y, loss, model, lambda value: value.backward()
        with torch.enable_grad():
            optimizer.step()

    return each_step(model, step)


# TrustAIoT/CR-SAM

CR_SAM = Source(
    "TrustAIoT/CR-SAM@7f9fe3ea0fb0bb27fb24b03907ba0cfbbd3cfd8c/utils/crsam.py",
    "5e0df19cff1786d2b609cbfc888a2847ff4da0ccbfd0177713c6f7ff19c945b5",
    "none",
)


def cr_sam(code: Code, **settings: float) -> list[Weights]:
    model = network()
    optimizer = code.CRSAM(model.parameters(), SGD, **settings, **HYPER)

    def step(_: int, x: torch.Tensor, y: torch.Tensor) -> None:
        for part in (optimizer.first_step, optimizer.second_step, optimizer.third_step):
            problem.backward(model, x, y)
            part(zero_grad=True)

    return each_step(model, step)


# juntang-zhuang/GSAM and google-research/big_vision

GSAM = Source(
    "juntang-zhuang/GSAM@a770275b3324a3ed4bf4a1cddb976b2782ba852b/gsam/gsam.py",
    "1475e9fb3ec390b5a15298944e92604a75d407f912ae4c421dd8ebb0cc40fca6",
    "MIT",
)
GSAM_IN_JAX = Source(
    "google-research/big_vision@0127fb6b337ee2a27bf4e54dea79cff176527356/big_vision/trainers/proj/gsam/gsam.py",
    "27fdbe415c16d7efad1eda4ac89bada18642bc7271016dcd7a40c1e9a854eb03",
    "Apache-2.0",
)


def without_batch_norm() -> dict[str, Any]:
    """Their switches of batch norm's statistics do nothing: the network has none."""
    return {
        "torch": torch,
        "contextlib": importlib.import_module("contextlib"),
        "ReduceOp": importlib.import_module("torch.distributed").ReduceOp,
        "dist": importlib.import_module("torch.distributed"),
        "enable_running_stats": lambda _: None,
        "disable_running_stats": lambda _: None,
    }


def gsam(code: Code, rho: float, alpha: float) -> list[Weights]:
    model = network()
    constant = types.SimpleNamespace(step=lambda: rho)
    optimizer = code.GSAM(model.parameters(), problem.sgd(model), model, alpha, constant)

    def step(_: int, x: torch.Tensor, y: torch.Tensor) -> None:
        optimizer.set_closure(torch.nn.functional.cross_entropy, x, y)
        optimizer.step()

    return each_step(model, step)


def in_jax() -> dict[str, Any]:
    """jax.tree_map, which newer versions have as jax.tree_util.tree_map, is given."""
    return {"jax": problem.jax(), "jnp": importlib.import_module("jax.numpy")}


def gsam_in_jax(code: Code, rho: float, alpha: float) -> list[Weights]:
    def find(w: Weights, x: Any, y: Any) -> Any:
        rates = {"lr": 0.1, "lr_max": 0.1, "lr_min": 0.1}
        return code.gsam_gradient(problem.jax_loss, w, x, y, rho, rho, alpha, **rates)[1]

    return problem.by_gradients(find)


# intelligent-machine-learning/atorch

WSAM = Source(
    "intelligent-machine-learning/atorch@7fb7da86be5794c57440db5b96f3278c158f0c7a/atorch/optimizers/wsam.py",
    "204ac83afcdde96af0538f23934b0fc61e7b47046cc66a25f66ea55303f06fa6",
    "Apache-2.0",
)


def wsam(code: Code, **settings: Any) -> list[Weights]:
    model = network()
    return halves(model, code.WeightedSAM(model, problem.sgd(model), **settings))


# zhaoyang-0204/gnp

GNP = Source(
    "zhaoyang-0204/gnp@e8033626e071547a8897764724c30a318cc2f627/training/training_core.py",
    "5b4e2a6ae9e3f8a4ee19b77b9eaae81308e189309df56e59ebb862ee9805dbb5",
    "Apache-2.0",
)


def without_state(x: Any, y: Any) -> Callable[..., Any]:
    """The loss as their training steps want it: with a network's state, of which there is none."""
    return lambda w, true_gradient=False: (problem.jax_loss(w, x, y), (None, None))


def gnp(code: Code, normed: bool, r: float, alpha: float) -> list[Weights]:
    """The function inside of their training step; around it stand our loss and our base.

    Their loss has the weight decay inside; here the base has it. Their dual_vector, of another
    file, is g / ||g||, and is written out here.
    """
    jnp = importlib.import_module("jax.numpy")

    def dual_vector(g: list[Any]) -> list[Any]:
        length = jnp.sqrt(sum(jnp.sum(jnp.square(part)) for part in g))
        return [part / length for part in g]

    asked = types.SimpleNamespace(sync_perturbations=False, norm_perturbations=normed)
    config = types.SimpleNamespace(has_true_gradient=False, gnp=asked)
    code.space["FLAGS"] = types.SimpleNamespace(config=config)
    code.space["utli"] = types.SimpleNamespace(dual_vector=dual_vector)

    def find(w: Weights, x: Any, y: Any) -> Any:
        code.space["forward_and_loss"] = without_state(x, y)
        return code.get_gnp_gradient(w, r=r, alpha=alpha)[1]

    return problem.by_gradients(find)


# nblt/RWP and nblt/mARWP

RWP = Source(
    "nblt/RWP@cb0acb0708720a40c441915b275fd2d5e70c734c/train_rwp_parallel.py",
    "b1714b4866e7f2cbb7898891b516f5b1d088351e45cf192cc4b2ce5066919539",
    "none",
)
MIXED_RWP = Source(
    "nblt/mARWP@d7393943b93afd568dccbedc983f0b928e70a124/train_marwp.py",
    "b743c0d5dfeb210e5b7f42a80bbd5935a95bf495c497869e8d88ef4f611bcabf",
    "none",
)
ADAPTIVE_RWP = Source(
    "nblt/mARWP@d7393943b93afd568dccbedc983f0b928e70a124/utils.py",
    "cb79d559276de9dee4c7b696750007706faf8396439a033b3acb0c16ffa56501",
    "none",
)


@contextmanager
def our_draw(step: int) -> Iterator[None]:
    """torch.normal and Tensor.normal_ take their z from our draw of this step, tensor by tensor."""
    z = (torch.tensor(part) for part in problem.draw(step))
    normal = lambda mean, std: mean + std * next(z)
    in_place = lambda tensor, mean, std: tensor.copy_(mean + std * next(z))
    with mock.patch("torch.normal", normal), mock.patch.object(torch.Tensor, "normal_", in_place):
        yield


def in_a_loop() -> dict[str, Any]:
    """What their training loop uses: its settings, and its meters, which measure nothing here."""
    nothing = types.SimpleNamespace(update=lambda *_: None, val=0.0, avg=0.0, sum=0.0)
    quiet = {"half": False, "print_freq": 1, "wandb": False, "world_size": 1, "incstd": False}
    names = ("train_loss", "train_err", "arr_time")
    return {
        "torch": torch,
        "np": np,
        "time": importlib.import_module("time"),
        "device": "cpu",
        "args": types.SimpleNamespace(**quiet),
        "AverageMeter": lambda: nothing,
        "accuracy": lambda *_: [torch.zeros(1)],
        "enable_running_stats": lambda _: None,
        "disable_running_stats": lambda _: None,
        **{name: [] for name in names},
    }


class Loader(list[Any]):
    """Mini-batches, and the data set whose length their loop asks for."""

    dataset = range(8)


def rwp(code: Code, sigma: float) -> list[Weights]:
    """Their loop on the second of two workers, the noisy one, by itself; alpha 1/2 weighs it 1."""
    model = network()
    optimizer = problem.sgd(model)
    vars(code.space["args"]).update(local_rank=1, alpha=0.5, gamma=sigma)

    def step(number: int, x: torch.Tensor, y: torch.Tensor) -> None:
        with our_draw(number):
            code.train(Loader([(x, y)]), model, torch.nn.functional.cross_entropy, optimizer, 0)

    return each_step(model, step)


def mixed_rwp(code: Code, sigma: float, lam: float, eta: float) -> list[Weights]:
    """Their loop takes a mini-batch for each gradient: here it gets the same one twice."""
    model = network()
    optimizer = problem.sgd(model)
    vars(code.space["args"]).update(sigma=sigma, lmbda=lam, eta=eta, beta=0.99, local_rank=0)
    code.space.update(current_step=0, fisher_arr=[])

    def step(number: int, x: torch.Tensor, y: torch.Tensor) -> None:
        with our_draw(number), in_order_on_the_cpu():
            twice = Loader([(x, y), (x, y)])
            code.train(twice, model, torch.nn.functional.cross_entropy, optimizer, 0)

    return each_step(model, step)


def adaptive_rwp(code: Code, **settings: float) -> list[Weights]:
    model = network()
    optimizer = code.ARWP(model.parameters(), SGD, **settings, **HYPER)

    def step(number: int, x: torch.Tensor, y: torch.Tensor) -> None:
        with our_draw(number):
            optimizer.first_step()
        problem.backward(model, x, y)
        optimizer.second_step()

    return each_step(model, step)


# team-approx-bayes/bayesian-sam

BAYESIAN_SAM = Source(
    "team-approx-bayes/bayesian-sam@936eec17f5f560d032f924c3c1c79763edc3d30d/optim.py",
    "56a11650c5e0ae752cae973182c62f49d40b56a75531f85e88aca608315efb77",
    "GPL-3.0",
)
SMALL = {"n": 50.0, "delta": 0.025, "gamma": 0.1, "beta1": 0.9, "beta2": 0.99}


def their_optimizers() -> dict[str, Any]:
    from typing import NamedTuple

    copy = importlib.import_module("copy")
    return {**in_jax(), "copy": copy, "NamedTuple": NamedTuple}


def with_loss_and_gradient() -> Callable[..., Any]:
    jax = problem.jax()

    def lossgrad(w: Any, netstate: Any, batch: Any, is_training: bool) -> Any:
        loss, gradient = jax.value_and_grad(problem.jax_loss)(w, *batch)
        return (loss, netstate), gradient

    return lossgrad


def in_their_state(optimizer: Any, draws: Callable[[int], None] = lambda _: None) -> list[Weights]:
    """The steps of a pair init and step."""
    jax, jnp = problem.jax(), importlib.import_module("jax.numpy")
    init, take = optimizer
    start = [jnp.asarray(w) for w in problem.START]
    state = init(start, jnp.zeros(1), jax.random.PRNGKey(0))
    after = []
    for number, (x, y) in enumerate(problem.BATCHES):
        draws(number)
        state, _ = take(state, (jnp.asarray(x), jnp.asarray(problem.one_hot(y))), 1.0)
        after.append([np.asarray(w) for w in state.optstate["w"]])
    return after


def bayesian_sam(code: Code, rho: float, parts: int) -> list[Weights]:
    """Their normal_like_tree, of another file, gives our z."""

    def draws(number: int) -> None:
        z = problem.draw(number)
        code.space["normal_like_tree"] = lambda *_: (z, None)

    s = SMALL
    given = (HYPER["lr"], s["beta1"], s["beta2"], s["delta"], rho, parts, s["n"], 1.0, s["gamma"])
    return in_their_state(code.build_bsam_optimizer(with_loss_and_gradient(), *given), draws)


def m_sam(code: Code, rho: float, parts: int) -> list[Weights]:
    """The SAM that stands beside their bSAM, on parts of the mini-batch."""
    given = (HYPER["lr"], HYPER["momentum"], HYPER["weight_decay"], rho, parts)
    return in_their_state(code.build_sam_optimizer(with_loss_and_gradient(), *given))


# tml-epfl/understanding-sam

USAM = Source(
    "tml-epfl/understanding-sam@306adde0b8461a57e7fc8f46e84df1e38e0395fa/deep_nets/sam.py",
    "4c9f368134bb53b5807643343fb6795fca4325ab6e3447279957c60037d6aeef",
    "none",
)


def usam_class(code: Code, rho: float) -> list[Weights]:
    model = network()
    optimizer = code.SAM(model.parameters(), SGD, rho, sam_no_grad_norm=True, **HYPER)

    def step(_: int, x: torch.Tensor, y: torch.Tensor) -> None:
        problem.backward(model, x, y)
        optimizer.first_step()
        problem.backward(model, x, y)
        optimizer.second_step()
        optimizer.step()

    return each_step(model, step)


def with_zero_grad() -> dict[str, Any]:
    return {"torch": torch, "utils": types.SimpleNamespace(zero_grad=lambda m: m.zero_grad())}


def usam_functions(code: Code, rho: float) -> list[Weights]:
    """The functions that their training calls: perturb, take the gradient, subtract, step."""
    model = network()
    flat_gradient = lambda m: torch.cat([p.grad.ravel() for p in m.parameters()])
    code.space["utils"].get_flat_grad = flat_gradient
    under = problem.sgd(model)

    def step(_: int, x: torch.Tensor, y: torch.Tensor) -> None:
        loss = lambda m: torch.nn.functional.cross_entropy(m(x), y)
        moved = code.perturb_weights_sam(model, loss, rho, rho, n_iters=1, no_grad_norm=True)
        problem.backward(model, x, y)
        for p in model.parameters():
            p.data -= moved[p].detach()
        under.step()

    return each_step(model, step)


# dimitris-oik/unifiedsam

UNIFIED_SAM = Source(
    "dimitris-oik/unifiedsam@978ce393d33c23e8fd10f04eb38643a7a0631767/unifiedsam.py",
    "1d65aa5de756f0b3449f8c04f136a44311f57a2e9f5ca71093cc8c60ead3db08",
    "MIT",
)


def unified_sam(code: Code, rho: float, lambd: Any) -> list[Weights]:
    model = network()
    return halves(model, code.unifiedSAM(model.parameters(), SGD, rho, lambd, **HYPER))


# google-research/sam, davda54/sam and SamsungLabs/ASAM

GOOGLE = Source(
    "google-research/sam@dae9904c4cf3a57a304f7b04cecffe371679c702/sam_jax/training_utils/flax_training.py",
    "b88c59b1a99660df40ba1a33bba948c101ab7584ad58988673b425e0162a02ac",
    "Apache-2.0",
)

DAVDA54 = Source(
    "davda54/sam@3c3afdbd71cff2462ec91c734b3d1170bd0f3707/sam.py",
    "768134da1d5f3ff630d7f29958a960c6335410875b05424f851602b344f8c9ec",
    "MIT",
)
ASAM = Source(
    "SamsungLabs/ASAM@f156a680171db16d551c0d85cba2514fa3bff6a2/asam.py",
    "c536c188f5a89ef14e1b6452945adadad399f26db39729ca44c44d03399df694",
    "Apache-2.0",
)


def sam_in_jax(code: Code, rho: float) -> list[Weights]:
    """The function inside of their training step; around it stand our loss and our base."""
    code.space["FLAGS"] = types.SimpleNamespace(sync_perturbations=False)

    def find(w: Weights, x: Any, y: Any) -> Any:
        code.space["forward_and_loss"] = without_state(x, y)
        return code.get_sam_gradient(w, rho)[1]

    return problem.by_gradients(find)


def sam(code: Code, rho: float, adaptive: bool) -> list[Weights]:
    model = network()
    return halves(model, code.SAM(model.parameters(), SGD, rho, adaptive, **HYPER))


def asam(code: Code, rho: float, eta: float) -> list[Weights]:
    model = network()
    optimizer = code.ASAM(problem.sgd(model), model, rho=rho, eta=eta)

    def step(_: int, x: torch.Tensor, y: torch.Tensor) -> None:
        problem.backward(model, x, y)
        optimizer.ascent_step()
        problem.backward(model, x, y)
        optimizer.descent_step()

    return each_step(model, step)


def ours_of_sam(rho: float, **how: Any) -> list[Weights]:
    return problem.steps_of(SAM(problem.base(), rho, **how))
