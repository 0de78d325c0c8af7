"""A trained model at work on pictures and arrays, without the data that it was trained on.

The form of its inputs is read from the run's run.json; where that does not tell, from its data.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rsam_backends import quiet, to_device, to_host, xp
from rsam_ref.autograd.ops_nn import sigmoid, softmax
from rsam_ref.autograd.tensor import Tensor
from rsam_ref.data import Inputs, Samples
from rsam_ref.data.feed import in_order
from rsam_ref.nn.module import Module
from rsam_ref.nn.outputs import outputs_of
from rsam_ref.training import recipe, trained
from rsam_ref.training.recipe import Recipe


@dataclass(frozen=True)
class Predictor:
    """A model with trained weights, and the form of its inputs."""

    folder: Path
    """Of the run."""
    recipe: Recipe
    model: Module
    inputs: Inputs

    def scores(self, samples: Samples) -> Iterator[tuple[Tensor, Any]]:
        """The model's outputs (n, classes) and the labels (n,), batch by batch, on the device."""
        for x, y in in_order(samples):
            yield outputs_of(self.model, x), to_device(y)

    def probabilities(self, samples: Samples) -> Any:
        """What the model gives each class, (N, classes), on the host.

        By the softmax; of a model that was trained with the sigmoid loss, each class by its own
        sigmoid, so that a row does not add up to 1.
        """
        as_probabilities = sigmoid if self.recipe.loss == "sigmoid" else softmax
        with quiet():
            parts = [as_probabilities(scores)._data for scores, _ in self.scores(samples)]
        return to_host(xp.concatenate(parts))


def load_predictor(where: str | Path) -> Predictor:
    """The trained model of a run, ready for pictures and arrays of one's own.

    ``where`` is the run's folder, or a model.safetensors or checkpoint in it. Raises DataError,
    with one line, for what is missing, damaged or of another model.
    """
    path, folder = trained.find(Path(where))
    settings = recipe.of_run(folder)
    inputs = trained.inputs_of_a_run(folder)
    if inputs is None:
        loaded = trained.load_trained(path)
        return Predictor(folder, settings, loaded.model, recipe.inputs(settings, loaded.data))
    model = recipe.model_for(settings, inputs.shape, len(inputs.classes))
    trained.take_weights(model, path, settings.model)
    return Predictor(folder, settings, model, inputs)
