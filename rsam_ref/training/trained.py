"""A trained model, read back with its recipe and its data; nothing in the run's folder changes."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from rsam_ref.autograd.tensor import Tensor
from rsam_ref.data import Dataset, Inputs
from rsam_ref.data.errors import DataError, because
from rsam_ref.data.weight_files import read_weights
from rsam_ref.nn.module import Module
from rsam_ref.training import checkpoint, left_out, recipe
from rsam_ref.training.recipe import Recipe


@dataclass(frozen=True)
class Trained:
    """A model with trained weights, and what it was trained with."""

    path: Path
    """The file that the weights come from."""
    folder: Path
    """The folder of the run."""
    recipe: Recipe
    model: Module
    data: Dataset
    loss: Callable[..., Tensor]
    step: int | None
    """The step of a checkpoint; None for the model at the end."""
    left_out: Collection[str] = ()
    """The damaged pictures that the run does without."""

    @property
    def name(self) -> str:
        """The run's folder, and the step of a checkpoint."""
        step = "" if self.step is None else f" step {self.step}"
        return f"{self.folder.resolve().name}{step}"

    @cached_property
    def in_float64(self) -> Trained:
        """The same model read again in double precision, with its data."""
        return load_trained(self.path, dtype="float64")

    def identity(self, uses: Sequence[str]) -> tuple[list[Any], dict[str, Any]]:
        """What decides a measure's numbers, whatever it ``uses``: plain values, arrays by name."""
        return [self.recipe.settings, self.data.fingerprint], self.model.state_dict()


def load_trained(where: str | Path, *, dtype: str | None = None) -> Trained:
    """The trained model of a run of ``rsam-ref train``.

    Parameters
    ----------
    where:
        The run's folder: its model.safetensors, or while it trains its newest checkpoint. Or one of
        these files themselves; the run's recipe.toml lies beside it or in the folder above.
    dtype:
        The weights' precision, "float32" or "float64"; by default the recipe's.

    Raises DataError, with one line, for files that are missing, damaged or of another model, and
    where the data are not those of the run. Training samples are given without augmentation.
    """
    path, folder = find(Path(where))
    settings = recipe.of_run(folder)
    data = data_of_a_run(folder, settings)
    model = recipe.model(settings, data, dtype=dtype)
    step = take_weights(model, path, settings.model)
    loss = recipe.loss_function(settings)
    return Trained(path, folder, settings, model, data, loss, step, left_out.read(folder, settings))


def data_of_a_run(folder: Path, settings: Recipe) -> Dataset:
    """The data of a run, not augmented, without the pictures that it leaves out.

    Raises DataError where they are missing, or others than those it was trained on.
    """
    data = recipe.dataset(settings, augmented=False, skip=left_out.read(folder, settings))
    _check_data(folder, settings, data)
    return data


def take_weights(model: Module, path: Path, name: str) -> int | None:
    """Let a model have the weights in a file of a run. Returns the step of a checkpoint."""
    arrays, step = _read(path)
    kind = model.weights.flat.dtype
    try:
        model.load_state_dict({key: array.astype(kind) for key, array in arrays.items()})
    except (KeyError, ValueError) as error:
        raise DataError(path, f"does not fit {name}: {error.args[0]}") from None
    return step


def inputs_of_a_run(folder: Path) -> Inputs | None:
    """The form of a model's inputs as its run's run.json tells it; None where that does not.

    Raises DataError where the file is damaged.
    """
    path = folder / "run.json"
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        return Inputs.of_plain(told["inputs"]) if "inputs" in told else None
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(path, f"is damaged ({error}); without it the run's data tell") from None


def settings_of_the_model(folder: Path) -> dict[str, Any]:
    """The settings that decide a run's model, for a run that begins from it; of a file none."""
    if not (folder / "recipe.toml").is_file():
        return {}
    chosen = recipe.of_run(folder).settings
    found = {k: v for k, v in chosen.items() if k in ("model", "model_options", "image_size")}
    inputs = inputs_of_a_run(folder)
    if inputs is not None and inputs.encoded:
        found["image_size"] = inputs.shape[1]
    return found


def weights_of_a_run(where: str | Path) -> dict[str, Any]:
    """The model's arrays in a run's folder, by name: at its end, or of its newest checkpoint."""
    path, _ = find(Path(where))
    return _read(path)[0]


def find(where: Path) -> tuple[Path, Path]:
    """The weights' file and the run's folder: of the model at the end, or the newest checkpoint."""
    if not where.exists():
        raise DataError(where, "no such file or folder; give a run of rsam-ref train")
    if not where.is_dir():
        for folder in (where.parent, where.parent.parent):
            if (folder / "recipe.toml").is_file():
                return where, folder
        raise DataError(where, "no recipe.toml beside it or above it, so its model is not known")
    if not (where / "recipe.toml").is_file():
        raise DataError(where, "has no recipe.toml, so it is no run of rsam-ref train")
    if (where / "model.safetensors").is_file():
        return where / "model.safetensors", where
    if found := checkpoint.newest_first(where / "checkpoints"):
        return found[0], where
    raise DataError(where, "has no trained model and no checkpoint yet; train a little first")


def _read(path: Path) -> tuple[dict[str, Any], int | None]:
    """The model's arrays by name, and the step if it is a checkpoint."""
    try:
        with path.open("rb"), safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
    except OSError as error:
        raise DataError(path, f"cannot be read: {because(error)}") from None
    except (SafetensorError, ValueError) as error:
        raise DataError(path, f"is damaged, or no safetensors file ({error})") from None
    if "rsam_ref" not in metadata:
        return read_weights(path), None
    arrays, state = checkpoint.load(path)  # which looks at its checksum as well
    return checkpoint.of_the_model(arrays), state["step"]


def _check_data(folder: Path, settings: Recipe, data: Dataset) -> None:
    try:
        described = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        before = described["data"]["fingerprint"]
    except (OSError, ValueError, KeyError, TypeError):
        return  # a run without its description: nothing to compare with
    if before != data.fingerprint:
        raise DataError(
            settings.data,
            f"holds other data than {folder} was trained on ({data.fingerprint}, then {before}); "
            "put the old data back",
        )
