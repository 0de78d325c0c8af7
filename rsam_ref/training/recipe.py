"""Recipes: everything that decides a training run's numbers, as one flat table of settings.

A recipe is a TOML file, a preset, or the options of `rsam-ref train`; a run's folder holds the one
that it ran with. The names are the same everywhere.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from rsam_backends import xp
from rsam_backends.base import kind_of
from rsam_ref.algorithms.base import SGD, AdamW
from rsam_ref.algorithms.optimizer import Optimizer
from rsam_ref.algorithms.optimizers import RSAM, SAM, NoiseOnly, Wrapper
from rsam_ref.algorithms.relatives import RELATIVES, make
from rsam_ref.algorithms.schedules import (
    Schedule,
    constant,
    cosine,
    linear,
    rsam_rho,
    rsam_sigma,
    warmup,
)
from rsam_ref.algorithms.workers import PerWorker
from rsam_ref.autograd.ops_nn import cross_entropy, sigmoid_cross_entropy
from rsam_ref.autograd.tensor import Tensor
from rsam_ref.data import Dataset, Inputs, load_dataset
from rsam_ref.loading import did_you_mean, file_of, fingerprint, is_target, line_of, load
from rsam_ref.models import make_model
from rsam_ref.nn.module import Module

PRESETS = Path(__file__).parent / "presets"

Count = Annotated[int, Field(ge=1)]
Bits = Annotated[int, Field(ge=8, le=16)]
Size = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Part = Annotated[float, Field(ge=0, lt=1)]


class RecipeError(ValueError):
    """A recipe that cannot be run. The message names the setting."""


LOSSES = ("cross-entropy", "sigmoid")


def _a_loss(name: str) -> str:
    """The name of a loss, as it is. Raises ValueError for one that is none."""
    if name not in LOSSES and not is_target(name):
        raise ValueError(f"there are {', '.join(LOSSES)}, or give your own as FILE.py:NAME")
    return name


Loss = Annotated[str, AfterValidator(_a_loss)]


class Recipe(BaseModel):
    """The settings of a run, checked."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    data: str = "digits"
    """The embedded digits, or a folder: IDX files, CIFAR, arrays, parquet, train/<class>/*.jpg."""
    image_size: Count | None = None
    """Height and width that pictures are brought to; None for about their own, at most 224."""
    augment: Literal["none", "flip", "crop-flip", "inception"] = "none"
    label_noise: Share = 0.0
    """Share of training labels replaced at random."""
    limit: Count | None = None
    """Train on this many samples only, chosen by the seed."""
    validation: Part = 0.0
    """Share of training samples held out by the seed; the run is tested on them, not on the test
    samples, which wait for `rsam-ref evaluate`."""
    bits: Bits | None = None
    """Pictures of 16-bit grey hold values of so many bits, such as 12."""
    skip_damaged: bool = False
    """Look at every picture before the first step, and leave out those that cannot be read."""

    model: str = "cnn"
    """One of ours by name, or FILE.py:NAME: `models.own_model`."""
    model_options: dict[str, Any] = {}
    """What else the model's function takes, such as patch = 4 for a vit."""
    init: str | None = None
    """Where the first weights come from: a run, a safetensors or npz file; None for the seed."""

    optimizer: Literal[
        "sgd",
        "adamw",
        "sam",
        "asam",
        "rsam",
        "noise",
        "usam",
        "unified-sam",
        "m-sam",
        "gsam",
        "wsam",
        "wsam-coupled",
        "looksam",
        "looksam-by-tensor",
        "rst",
        "esam",
        "sparse-sam",
        "fisher-sam",
        "friendly-sam",
        "vasso",
        "momentum-sam",
        "cr-sam",
        "le-sam",
        "rwp",
        "m-rwp",
        "arwp",
        "bayesian-sam",
    ] = "rsam"
    optimizer_options: dict[str, Any] = {}
    """Settings of SAM's relatives besides rho, such as alpha = 0.3 for gsam."""
    base: Literal["sgd", "adamw"] = "sgd"
    """What moves the weights under every method but sgd and adamw."""
    lr: Size = 0.1
    """The learning rate at its peak."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    momentum: Size = 0.9
    nesterov: bool = False
    weight_decay: Size = 5e-4
    betas: Annotated[tuple[float, float], Field(strict=False)] = (0.9, 0.999)
    clip_norm: Positive | None = None
    """The longest gradient that the base takes; longer ones are shortened to it."""
    rho: Size = 0.05
    """The radius. If it is left out, SAM's relatives have their own default."""
    rho_low: Size | None = None
    """If given, the radius follows the learning rate between this and rho: `schedules.rsam_rho`."""
    ascent_steps: Count = 1
    eta: Size = 0.01
    sigma: Size = 5e-4
    """The noise scale at the start."""
    sigma_rise: Size = 5.0
    """The noise scale at the end, in units of that at the start."""
    lam: Positive = 2.0
    variant: Literal["rsam", "stacked", "gradient", "ball"] = "rsam"

    loss: Loss = "cross-entropy"
    """cross-entropy, sigmoid, or FILE.py:NAME: a function of scores (N, C) and labels (N,)."""
    label_smoothing: Share = 0.0
    epochs: Count = 10
    batch_size: Count = 128
    accumulate: Count = 1
    """A mini-batch in so many parts, one by one, to save memory; batch norm sees the parts."""
    shards: Count = 1
    """A mini-batch is computed in so many parts at once, a thread of the CPU or a rank each."""
    perturbation: Literal["global", "worker"] = "global"
    """Whose ascent a step has: the whole mini-batch's, or each worker's own (m-sharpness)."""
    m: Count | None = None
    """Samples of a worker, with perturbation = worker; None for a shard's."""
    deterministic: bool = False
    """BLAS at one thread, so that no number of threads decides a bit: slower on large layers."""
    recompute: bool = False
    """Keep no inner values of a model's blocks, but compute them again: memory for time."""
    seed: Annotated[int, Field(ge=0)] = 0
    dtype: Literal["float32", "float64"] = "float32"

    log_every: Count = 50
    """Steps between two rows of the metrics."""
    evaluate_every: Positive | None = None
    """Epochs (or a part of one) between two tests; None for each, and ten in a run at least."""
    checkpoint_every: Count | None = None
    """Steps between two checkpoints; None for one at the end of every epoch."""
    keep_checkpoints: Count = 2
    """How many of the newest checkpoints stay: more make a path for `rsam-ref between --path`."""
    tensorboard: bool = False

    @property
    def settings(self) -> dict[str, Any]:
        """What the file holds: all settings that have a value."""
        return self.model_dump(exclude_none=True, mode="json")

    @property
    def mover(self) -> str:
        """What moves the weights, sgd or adamw: the optimizer itself, or its base."""
        return self.optimizer if self.optimizer in ("sgd", "adamw") else self.base


UNUSED = {
    "sgd": {"base", "rho", "rho_low", "ascent_steps", "eta", "sigma", "lam", "variant"},
    "adamw": {"base", "rho", "rho_low", "ascent_steps", "eta", "sigma", "lam", "variant"},
    "sam": {"eta", "sigma", "lam", "variant"},
    "asam": {"ascent_steps", "sigma", "lam", "variant"},
    "rsam": {"ascent_steps", "eta"},
    "noise": {"rho", "rho_low", "ascent_steps", "eta", "lam", "variant"},
    **{
        name: {"ascent_steps", "eta", "sigma", "sigma_rise", "lam", "variant"}
        | (set() if "rho" in relative.settings else {"rho", "rho_low"})
        for name, relative in RELATIVES.items()
    },
}
"""Settings that a method does not look at, whatever its base."""


PER_WORKER = ("sam", "asam", "rsam", "noise")
"""Methods whose ascent each worker can have for itself."""


def unused(recipe: Recipe) -> set[str]:
    """The settings that neither the recipe's method nor its base looks at.

    Given on a command line, they are a mistake.
    """
    of_base = {"betas"} if recipe.mover == "sgd" else {"momentum", "nesterov"}
    return UNUSED[recipe.optimizer] | of_base


def options_of(optimizer: str) -> list[str]:
    """The names that a method takes in ``optimizer_options``."""
    relative = RELATIVES.get(optimizer)
    return [name for name in relative.settings if name != "rho"] if relative else []


def check(settings: dict[str, Any], source: str) -> Recipe:
    """The recipe of these settings. ``source`` says in the errors where they come from."""
    try:
        recipe = Recipe(**_own_radius(settings) | settings)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"])) or "settings"
        if first["type"] == "extra_forbidden":
            raise RecipeError(
                f"{source}: unknown setting {name}{did_you_mean(name, Recipe.model_fields)}; there "
                f"are {', '.join(Recipe.model_fields)}"
            ) from None
        message = first["msg"].removeprefix("Value error, ")
        message = message[:1].lower() + message[1:]
        if first["type"] == "literal_error":
            allowed = re.findall("'([^']+)'", first["ctx"]["expected"])
            message += did_you_mean(str(first["input"]), allowed)
        raise RecipeError(f"{source}: {name} = {first['input']!r}: {message}") from None
    if own := sorted(recipe.model_options.keys() & {"name", "shape", "classes", "seed", "dtype"}):
        raise RecipeError(f"{source}: {own[0]} is no option of a model: it is decided elsewhere")
    options = options_of(recipe.optimizer)
    if strange := sorted(recipe.optimizer_options.keys() - set(options)):
        there_are = ", ".join(options) or "none"
        raise RecipeError(
            f"{source}: {strange[0]} is no option of {recipe.optimizer}; there are: {there_are}"
        )
    if recipe.optimizer == "m-sam" and recipe.accumulate == 1:
        raise RecipeError(
            f"{source}: m-sam takes every mini-batch in parts: give accumulate = 2 or more"
        )
    if recipe.rho_low is not None and recipe.lr == 0:
        raise RecipeError(f"{source}: rho_low lets rho follow the learning rate, which is 0")
    _check_workers(recipe, source)
    if recipe.accumulate > 1 and recipe.shards > 1:
        raise RecipeError(f"{source}: accumulate and shards both share out a mini-batch: give one")
    if recipe.optimizer in RELATIVES:
        try:
            optimizer(recipe, recipe.warmup_steps + 1)  # its settings and what it asks of a base
        except RecipeError as error:
            raise RecipeError(f"{source}: {error}") from None
    return recipe


def _check_workers(recipe: Recipe, source: str) -> None:
    """Raise RecipeError for workers whose ascents would mean nothing."""
    if recipe.perturbation == "global":
        if recipe.m is not None:
            raise RecipeError(f'{source}: m goes with perturbation = "worker"')
        return
    if recipe.optimizer not in PER_WORKER:
        raise RecipeError(
            f"{source}: perturbation = worker gives each worker an ascent of its own, and "
            f"{recipe.optimizer} is not among those that can have it: {', '.join(PER_WORKER)}"
        )
    if recipe.accumulate > 1:
        raise RecipeError(
            f"{source}: accumulate takes one ascent over all parts, perturbation = worker one for "
            f"each: give m = {max(1, recipe.batch_size // recipe.accumulate)} instead"
        )


def refuse_ranks(settings: dict[str, Any]) -> None:
    """Raise RecipeError for what several ranks cannot do, each with its samples of a mini-batch."""
    name = str(settings.get("optimizer"))
    needs = RELATIVES[name].needs if name in RELATIVES else ()
    if "parts" in needs:
        raise RecipeError(
            f"{name} takes a mini-batch in parts, one by one, in one process; on ranks the same is "
            "optimizer = sam with perturbation = worker, and m for the samples of a part"
        )
    if "samples" in needs:
        raise RecipeError(
            f"{name} looks at single samples, of which each rank has others: train it in one "
            "process, with shards for several cores"
        )
    if settings.get("accumulate", 1) != 1:
        raise RecipeError(
            "accumulate takes a mini-batch in parts, one by one, in one process; ranks share it "
            "out among themselves: leave it out, and start more ranks to save memory on each"
        )


def _own_radius(settings: dict[str, Any]) -> dict[str, Any]:
    """The default of rho where the optimizer is a relative that has one."""
    relative = RELATIVES.get(str(settings.get("optimizer")))
    known = relative.settings if relative else {}
    return {"rho": known["rho"].default} if "rho" in known else {}


def read(path: Path) -> dict[str, Any]:
    """The settings in a TOML file, over those of the ``preset`` that it may name.

    Raises OSError, or RecipeError for one that is no TOML.
    """
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: not TOML: {error}") from None
    if "preset" not in settings:
        return settings
    return over(preset(str(settings.pop("preset")))[0], settings)


def of_run(folder: Path) -> Recipe:
    """The recipe that a run's folder holds. Raises OSError or RecipeError."""
    path = folder / "recipe.toml"
    return check(read(path), str(path))


def over(settings: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Settings with others ``given`` in their place; options go with what they are options of."""
    kept = dict(settings)
    for name, of in (("model", "model_options"), ("optimizer", "optimizer_options")):
        if name in given and given[name] != settings.get(name):
            kept.pop(of, None)  # they were another one's
    return kept | given


def write(recipe: Recipe) -> bytes:
    """The recipe as the bytes of a TOML file."""
    return tomli_w.dumps(recipe.settings).encode()


def presets() -> list[str]:
    """The names of the presets that come with the package."""
    return sorted(path.stem for path in PRESETS.glob("*.toml"))


def preset(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A preset's settings, and its notes: ``about``, what is ``known``, what is our ``choice``."""
    if name not in presets():
        raise RecipeError(
            f"unknown preset {name!r}{did_you_mean(name, presets())}; there are "
            f"{', '.join(presets())}"
        )
    settings = read(PRESETS / f"{name}.toml")
    return settings, settings.pop("notes")


def dataset(recipe: Recipe, *, augmented: bool = True, skip: Collection[str] = ()) -> Dataset:
    """The data of a run. Raises DataError for those that are missing or damaged.

    ``skip`` are the pictures that it leaves out: `left_out.read`.
    """
    return load_dataset(
        recipe.data,
        image_size=recipe.image_size,
        augment=recipe.augment if augmented else "none",
        label_noise=recipe.label_noise,
        seed=recipe.seed,
        limit=recipe.limit,
        validation=recipe.validation,
        bits=recipe.bits,
        skip=skip,
    )


def inputs(recipe: Recipe, data: Dataset) -> Inputs:
    """The form of the inputs of a run's model."""
    white = 16 if recipe.data == "digits" else 255
    return Inputs.of(data, white=white, bits=recipe.bits)


def model(recipe: Recipe, data: Dataset, *, dtype: str | None = None) -> Module:
    """The model of a run at its first weights, for these data; in another precision if given."""
    return model_for(recipe, data.shape, len(data.classes), dtype=dtype)


def model_for(
    recipe: Recipe, shape: tuple[int, int, int], classes: int, *, dtype: str | None = None
) -> Module:
    """The model of a run at its first weights, for pictures (C, H, W) of so many classes."""
    return make_model(
        recipe.model,
        shape=shape,
        classes=classes,
        seed=recipe.seed,
        dtype=dtype or recipe.dtype,
        **recipe.model_options,
    )


def loss_function(recipe: Recipe) -> Callable[..., Tensor]:
    """A function of scores and labels."""
    if recipe.loss != "cross-entropy" and recipe.label_smoothing:
        raise RecipeError(f"label_smoothing goes with loss = cross-entropy, not with {recipe.loss}")
    if recipe.loss == "sigmoid":
        return sigmoid_cross_entropy
    if is_target(recipe.loss):
        return _own_loss(recipe.loss)
    return partial(cross_entropy, label_smoothing=recipe.label_smoothing)


def _own_loss(target: str) -> Callable[..., Tensor]:
    """A loss of one's own, which is asked for one number for every mini-batch."""
    function = load(target)
    if not callable(function) or isinstance(function, type):
        raise RecipeError(f"{target} is {kind_of(function)}, not a function")

    def loss(scores: Tensor, labels: Tensor) -> Tensor:
        value = function(scores, labels)
        if not isinstance(value, Tensor) or value.shape != ():
            got = f"shape {value.shape}" if isinstance(value, Tensor) else type(value).__name__
            raise RecipeError(
                f"{target} gives {got}, where one number, the mean over the mini-batch as a "
                "Tensor, should be"
            )
        return value

    return loss


def try_loss(recipe: Recipe, classes: int) -> None:
    """Raise RecipeError, before anything is written, for a loss of one's own that fails."""
    if not is_target(recipe.loss):
        return
    scores = Tensor(xp.zeros((2, classes), dtype=recipe.dtype))
    labels = Tensor(xp.asarray([0, classes - 1]))
    try:
        loss_function(recipe)(scores, labels)
    except RecipeError:
        raise
    except Exception as error:  # of code that is not ours
        raise RecipeError(
            f"{recipe.loss}, given scores (2, {classes}) and labels (2,), raised "
            f"{type(error).__name__}: {error}{line_of(error, recipe.loss)}"
        ) from error


def code(recipe: Recipe) -> dict[str, str]:
    """The files of one's own code that a run is made of, and their fingerprints."""
    told = {file_of(target): fingerprint(target) for target in (recipe.model, recipe.loss)}
    return {str(path): print_ for path, print_ in told.items() if path and print_}


def learning_rate(recipe: Recipe, steps: int) -> Schedule:
    """The learning rate over a run of so many steps: a rise from 0, then the schedule."""
    rest = steps - recipe.warmup_steps
    if rest < 1:
        raise RecipeError(f"warmup_steps = {recipe.warmup_steps}, but the run has {steps} steps")
    falling = {
        "cosine": cosine(recipe.lr, rest),
        "linear": linear(recipe.lr, rest),
        "constant": constant(recipe.lr, rest),
    }[recipe.schedule]
    return warmup(recipe.lr, recipe.warmup_steps, falling) if recipe.warmup_steps else falling


def radius(recipe: Recipe, steps: int) -> float | Schedule:
    """The radius, constant or following the learning rate."""
    if recipe.rho_low is None:
        return recipe.rho
    rate = learning_rate(recipe, steps)
    return rsam_rho(rate, recipe.lr, recipe.warmup_steps, recipe.rho_low, recipe.rho)


def noise_scale(recipe: Recipe, steps: int) -> Schedule:
    """R-SAM's sigma over a run of so many steps: `schedules.rsam_sigma`."""
    return rsam_sigma(recipe.sigma, steps, recipe.sigma_rise)


def optimizer(recipe: Recipe, steps: int) -> Optimizer:
    """The optimizer for a run of so many steps."""
    lr, rho = learning_rate(recipe, steps), radius(recipe, steps)
    base: Optimizer
    if recipe.mover == "sgd":
        base = SGD(
            lr,
            recipe.momentum,
            recipe.weight_decay,
            nesterov=recipe.nesterov,
            clip_norm=recipe.clip_norm,
        )
    else:
        base = AdamW(lr, recipe.betas, weight_decay=recipe.weight_decay, clip_norm=recipe.clip_norm)
    if recipe.optimizer in RELATIVES:
        return _relative(recipe, base, rho)
    if recipe.optimizer in ("sgd", "adamw"):
        return base
    found = _with_ascent(recipe, base, rho, noise_scale(recipe, steps))
    return PerWorker(found) if recipe.perturbation == "worker" else found


def _with_ascent(
    recipe: Recipe, base: Optimizer, rho: float | Schedule, sigma: Schedule
) -> Wrapper:
    """SAM, ASAM, R-SAM or noise only."""
    if recipe.optimizer == "sam":
        return SAM(base, rho, recipe.ascent_steps)
    if recipe.optimizer == "asam":
        return SAM(base, rho, adaptive=True, eta=recipe.eta)
    if recipe.optimizer == "noise":
        return NoiseOnly(base, sigma, recipe.seed)
    return RSAM(base, rho, sigma, recipe.lam, recipe.seed, variant=recipe.variant)


def _relative(recipe: Recipe, base: Optimizer, rho: float | Schedule) -> Optimizer:
    """A relative of SAM with the recipe's radius, if it has one, and options."""
    radius = {"rho": rho} if "rho" in RELATIVES[recipe.optimizer].settings else {}
    try:
        return make(recipe.optimizer, base, seed=recipe.seed, **radius, **recipe.optimizer_options)
    except (TypeError, ValueError) as error:
        raise RecipeError(f"{recipe.optimizer}: {error}") from None


TESTING = 0.25
"""If nothing is asked for, tests take no more than this share of the time of training."""


def steps_between_tests(recipe: Recipe, data: Dataset, per_epoch: int) -> int:
    """Steps from one evaluation to the next.

    If the recipe does not say, a test follows every epoch, and there are ten in a run at least; but
    fewer where the test samples are many beside those that are trained on. A gradient is reckoned
    as three evaluations, and a step as one gradient or two.
    """
    if recipe.evaluate_every is not None:
        return max(1, math.ceil(recipe.evaluate_every * per_epoch))
    usual = max(1, math.ceil(min(1.0, recipe.epochs / 10) * per_epoch))
    gradients = 1 if recipe.optimizer in ("sgd", "adamw") else 2
    of_a_step = 3 * gradients * len(data.train) / per_epoch
    return max(usual, math.ceil(len(data.watched) / (TESTING * of_a_step)))
