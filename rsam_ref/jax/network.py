"""The flatness of a model in JAX: the measures of `rsam_ref.sharpness` on its loss and tree."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from rsam_ref.jax.axes import OutputAxis
from rsam_ref.jax.batches import as_batches
from rsam_ref.jax.objectives import Loss, Objective
from rsam_ref.jax.vectors import Tree
from rsam_ref.sharpness.given import finite_loss, known_measures
from rsam_ref.sharpness.survey import PRECISE, Row, Subject, SurveySettings, survey

Tell = Callable[[], None]


@dataclass(frozen=True)
class TreeNetwork:
    """A tree of weights with its loss and what it is measured on, as `Trained` is for a run."""

    name: str
    """What it is called in tables and figures."""
    path: str
    """Where it comes from: a longer name."""
    made: Loss
    """The loss of a tree and a batch."""
    params: Tree
    evaluation: list[Any]
    """The batches whose mean loss is measured."""
    training: list[Any]
    """The mini-batches that the inner maximum is looked for on."""
    output_axis: OutputAxis = 0
    dtype: str | None = None
    notes: tuple[str, ...] = ()
    """What reading its data left out or set right, a line each."""
    remarks: tuple[str, ...] = ()
    """What is to be told of its loss."""

    @cached_property
    def objective(self) -> Objective:
        """The mean loss over the evaluation batches."""
        return Objective(
            self.made,
            self.params,
            self.evaluation,
            output_axis=self.output_axis,
            dtype=self.dtype,
        )

    @cached_property
    def w(self) -> Any:
        """The weights (P,)."""
        return self.objective.w

    @cached_property
    def in_float64(self) -> TreeNetwork:
        """The same network, to be computed in double precision."""
        return self if self.dtype == "float64" else replace(self, dtype="float64")

    @cached_property
    def loss_at_weights(self) -> float:
        """The evaluation loss; ArithmeticError where it is not finite.

        Raises ValueError where it is a sum, or depends on no weight.
        """
        whole, w = self.objective, self.w
        value, gradient = whole(w)
        loss = finite_loss(self.name, float(value))
        whole.refuse_a_sum()
        if not gradient.any() and not whole(1.01 * w + 0.01)[1].any():
            raise ValueError(
                "the loss depends on no weight: is there a stop_gradient, or does it use other "
                "params than it is given?"
            )
        return loss

    def subject(self, settings: SurveySettings, tell: Tell, known: dict[Any, Any]) -> Subject:
        """What the measures ask."""
        return TreeSubject(self, settings, tell, known)

    def identity(self, uses: Sequence[str]) -> tuple[list[Any], dict[str, Any]]:
        """What decides a measure's numbers: plain values, and arrays by name.

        The loss's code is seen by what it computes.
        """
        batches = self.training if "batches" in uses else self.evaluation
        layout = self.objective.layout
        told = [layout.names, layout.shapes, str(self.dtype), f"{self.loss_at_weights:.6g}"]
        arrays = {}
        for kind, tree in (("model", self.params), ("data", batches)):
            for i, leaf in enumerate(jax.tree.leaves(tree)):
                arrays[f"{kind} {i:09}"] = _bits(leaf)
        return told, arrays


class TreeSubject(Subject):
    """A network as the survey's measures ask for it."""

    def __init__(
        self, network: TreeNetwork, settings: SurveySettings, tell: Tell, known: dict[Any, Any]
    ) -> None:
        super().__init__(cast(Any, network), settings, tell, known)

    @property
    def _network(self) -> TreeNetwork:
        return cast(TreeNetwork, self.trained)

    @property
    def w(self) -> Any:
        """The network's weights (P,)."""
        return self._network.w

    def evaluation(self) -> Any:
        """The mean loss over the network's batches."""
        return _Told(self._network.objective, self.on_evaluation)

    def parts(self) -> list[Any]:
        """The same on parts of the samples; of the batches, where samples cannot be told apart."""
        whole, count = self._network.objective, self.settings.parts
        found = whole.parts(count) or whole.by_batch(count)
        return [_Told(part, self.on_evaluation) for part in found]

    def outputs(self) -> tuple[Any, Any]:
        """A loss of params and batch does not show its scores: ValueError."""
        raise ValueError(
            "gauss-newton asks for a network's scores, and a loss in JAX gives the loss alone: "
            "name other measures"
        )

    def mini_batches(self) -> Iterator[Any]:
        """The loss of each of the network's mini-batches."""
        for batch in self._network.training[: self.settings.batches]:
            yield _Told(self._network.objective.on([batch]), self.on_evaluation)


class _Told:
    """An objective that tells of every evaluation, for a progress bar."""

    def __init__(self, of: Objective, tell: Tell) -> None:
        self._of, self._tell = of, tell
        self.shapes, self.names, self.count = of.shapes, of.names, of.count

    def __call__(self, w: Any) -> tuple[Any, Any]:
        self._tell()
        return self._of(w)

    def loss(self, w: Any) -> Any:
        self._tell()
        return self._of.loss(w)

    def hessian_product(self, w: Any, v: Any) -> Any:
        self._tell()
        return self._of.hessian_product(w, v)


def flatness(
    loss: Loss,
    params: Tree,
    batches: Any,
    *,
    output_axis: OutputAxis = 0,
    measures: Sequence[str] | None = None,
    settings: SurveySettings | None = None,
    mini_batches: Any = None,
    dtype: str | None = "float64",
    name: str = "model",
) -> list[Row]:
    """The measures of ``rsam-ref sharpness`` of a loss of a tree.

    Parameters
    ----------
    loss, params, batches, output_axis:
        as in `objective`. What is measured is the mean over all samples of all batches.
    measures:
        names in `rsam_ref.sharpness.survey.MEASURES`, all but ``gauss-newton``; by default those in
        `USUAL`.
    settings:
        how finely to measure; those of the command by default.
    mini_batches:
        what ``inner`` looks at, the first ``settings.batches`` of them; by default of ``batches``.
    dtype:
        "float64": JAX's ``enable_x64`` holds while it is measured, and then what held before. What
        asks the Hessian is computed in it whatever this says.
    name:
        the rows' ``model``.

    Returns the rows of `rsam_ref.sharpness.survey`, dicts with the same columns. Raises ValueError
    for unknown measures, and ArithmeticError where the loss at the weights is not finite.
    """
    wanted = known_measures(measures)
    evaluation = as_batches(batches)
    training = evaluation if mini_batches is None else as_batches(mini_batches)
    network = TreeNetwork(name, name, loss, params, evaluation, training, output_axis, dtype)
    known: dict[Any, Any] = {}
    rows: list[Row] = []
    precise = dtype == "float64" or not PRECISE.isdisjoint(wanted)
    with in_double_precision() if precise else nullcontext():
        network.loss_at_weights  # noqa: B018 - what is wrong is said before an hour of measuring
        for measure in wanted:
            measured = network.in_float64 if measure in PRECISE else network
            subject = measured.subject(settings or SurveySettings(), lambda: None, known)
            rows += (row | {"model": name} for row in survey(measure, subject))
    return rows


def in_double_precision() -> Any:
    """A block in which JAX has float64."""
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(True)
    from jax.experimental import enable_x64  # JAX before 0.8

    return enable_x64()


def _bits(leaf: Any) -> Any:
    """A leaf's bytes as a NumPy array, of whatever type it is."""
    if jnp.issubdtype(getattr(leaf, "dtype", None), jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return np.frombuffer(np.ascontiguousarray(np.asarray(leaf)).tobytes(), np.uint8)
