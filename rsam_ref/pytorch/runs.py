"""A run of ``rsam-ref train``, gone on with in PyTorch: weights, the base's state, schedules, draw.

The model there has the same names, as ``rsam-ref export`` tells it; what belongs to a weight is
found by its name, whatever the order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rsam_ref.data.errors import DataError
from rsam_ref.data.feed import Feed
from rsam_ref.nn.module import common_prefix
from rsam_ref.pytorch.optimizers import RSAM, SAM
from rsam_ref.training import checkpoint, left_out, recipe
from rsam_ref.training.exchange import for_pytorch
from rsam_ref.training.recipe import Recipe
from rsam_ref.training.trained import load_trained

Arrays = dict[str, Any]

METHODS = ("sgd", "adamw", "sam", "asam", "rsam")


@dataclass(frozen=True)
class Resumed:
    """What goes on: call the optimizer's ``step(closure)`` and then the scheduler's ``step()``."""

    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler
    """The recipe's learning rate, at the step that the run has reached."""
    step: int
    """The steps that were taken."""
    steps: int
    """The steps of the whole run."""
    recipe: Recipe
    feed: Feed

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The mini-batches that the run would take, from here to its end: images and labels.

        Images (N, C, H, W) are on the host, of the weights' type, normalised and augmented as in
        the run.
        """
        kind = self.optimizer.param_groups[0]["params"][0].dtype
        for step in range(self.step, self.steps):
            x, y = self.feed.prepare(step)
            yield torch.tensor(x).to(kind), torch.tensor(y)


def resume_run(where: str | Path, model: nn.Module) -> Resumed:
    """Go on with a run in PyTorch, from its newest checkpoint, with the recipe's optimizer.

    The next steps are to rounding those of the run: the base's momentum, the schedules of lr, rho
    and sigma and R-SAM's draws go on where they were; `Resumed.batches` gives the run's batches.
    Dropout's masks are torch's.

    Parameters
    ----------
    where:
        the run's folder, or one of its checkpoints.
    model:
        the same model in PyTorch, such as ``rsam-ref export`` names; it gets the run's weights.

    Raises DataError, with one line, for a run that cannot be read or does not fit the model, and
    ValueError for a method that is not in `rsam_ref.pytorch`.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"resume_run(run, model) takes a torch model, not {type(model).__name__}")
    path = Path(where)
    if path.is_dir():
        if not (found := checkpoint.newest_first(path / "checkpoints")):
            raise DataError(path, "has no checkpoint, so its optimizer's state is not known")
        path = found[0]
    trained = load_trained(path)
    settings = trained.recipe
    _check(settings)
    arrays, state = checkpoint.load(path)
    data = recipe.dataset(settings, skip=left_out.read(trained.folder, settings))
    feed = Feed(data.train, settings.batch_size, settings.seed)
    step, steps = int(state["step"]), settings.epochs * feed.per_epoch
    if step == steps:
        raise ValueError(
            f"{path}: the run is finished, and its learning rate 0 now; begin another one with "
            "its weights (rsam-ref export, load_weights)"
        )
    names = _load(path, model, for_pytorch(trained))
    weights = trained.model.weights
    own = dict(model.named_parameters())
    params = [own[names[name]] for name in weights.names]  # in our order, which is the draw's
    optimizer = _optimizer(settings, params, model, steps)
    base = getattr(optimizer, "base_optimizer", optimizer)
    moving = checkpoint.unflatten(arrays, state["values"], "optimizer")
    _restore(base, params, moving.get("base", moving), settings.mover)
    if isinstance(optimizer, SAM | RSAM):
        optimizer.steps = step
    lr = recipe.learning_rate(settings, steps)
    for group in optimizer.param_groups:
        group["initial_lr"] = 1.0  # the scheduler multiplies it by the recipe's
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lr, last_epoch=step - 1)
    return Resumed(optimizer, scheduler, step, steps, settings, feed)


def _check(settings: Recipe) -> None:
    plain = settings.ascent_steps == 1 and settings.variant == "rsam"
    if settings.optimizer not in METHODS or not plain:
        raise ValueError(
            f"the run's method is {settings.optimizer}"
            + ("" if plain else ", with ascent_steps or a variant")
            + "; rsam_ref.pytorch has sgd, adamw, sam, asam and rsam. Its weights can be exported"
        )
    if settings.perturbation == "worker":
        raise ValueError(
            "each worker of the run has an ascent of its own, which a step here has not "
            "(docs/pytorch.md says how to have it in torch). Its weights can be exported"
        )
    if settings.clip_norm is not None and settings.optimizer in ("sgd", "adamw"):
        raise ValueError("the run clips its gradients, which torch's own optimizers do not do")


def _load(path: Path, model: nn.Module, arrays: Arrays) -> dict[str, str]:
    """Give the model the weights; returns its names for ours."""
    own = model.state_dict()
    prefix = common_prefix(list(own), list(arrays))
    state = {prefix + name: torch.tensor(array) for name, array in arrays.items()}
    for name in [*state, *own]:  # torch would load those that fit before it complains
        shapes = [tuple(each[name].shape) if name in each else None for each in (state, own)]
        if shapes[0] != shapes[1]:
            told = ["nothing" if shape is None else f"shape {shape}" for shape in shapes]
            raise DataError(path, f"does not fit: of {name} it has {told[0]}, the model {told[1]}")
    model.load_state_dict(state)
    return {name: prefix + name for name in arrays}


def _optimizer(
    settings: Recipe, params: list[nn.Parameter], model: nn.Module, steps: int
) -> torch.optim.Optimizer:
    """The recipe's optimizer over these parameters, at a learning rate of 1."""
    kind: Any = torch.optim.SGD
    options: dict[str, Any] = {"lr": 1.0, "weight_decay": settings.weight_decay}
    if settings.mover == "sgd":
        options |= {"momentum": settings.momentum, "nesterov": settings.nesterov}
    else:
        kind, options = torch.optim.AdamW, options | {"betas": settings.betas}
    if settings.optimizer in ("sgd", "adamw"):
        plain: torch.optim.Optimizer = kind(params, **options)
        return plain
    options |= {"rho": recipe.radius(settings, steps), "max_grad_norm": settings.clip_norm}
    options |= {"model": model}
    if settings.optimizer == "rsam":
        options |= {"sigma": recipe.noise_scale(settings, steps), "lam": settings.lam}
        return RSAM(params, kind, seed=settings.seed, draw="reference", **options)
    adaptive = settings.optimizer == "asam"
    return SAM(params, kind, adaptive=adaptive, eta=settings.eta, **options)


def _restore(
    base: torch.optim.Optimizer, params: list[nn.Parameter], state: dict[str, Any], mover: str
) -> None:
    """Give every parameter its part of the base's flat vectors, under torch's names."""
    names = {"velocity": "momentum_buffer"}
    if mover == "adamw":
        names = {"mean": "exp_avg", "square": "exp_avg_sq"}
    for ours, theirs in names.items():
        if state.get(ours) is None:  # no step was taken, or there is no momentum
            continue
        vector = torch.tensor(state[ours])
        for p, part in zip(params, torch.split(vector, [p.numel() for p in params])):
            base.state[p][theirs] = part.reshape(p.shape).to(p)
            if mover == "adamw":
                base.state[p]["step"] = _count(state["steps"])


def _count(steps: int) -> Tensor:
    return torch.tensor(float(steps))
