"""A torch model's flatness: the measures of `rsam_ref.sharpness`, on its own loss and batches."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from rsam_ref.data.errors import DataError
from rsam_ref.data.weight_files import read_weights
from rsam_ref.nn.module import common_prefix
from rsam_ref.pytorch.batches import as_batches, count_samples, tensors_in
from rsam_ref.pytorch.layout import Layout
from rsam_ref.pytorch.objectives import Forward, Loss, Objective
from rsam_ref.pytorch.plan import plan
from rsam_ref.pytorch.scores import Scores
from rsam_ref.sharpness.budget import Facts
from rsam_ref.sharpness.given import finite_loss, known_measures
from rsam_ref.sharpness.survey import PRECISE, Row, Subject, SurveySettings, survey

Tell = Callable[[], None]


@dataclass
class Home:
    """What is known of a loss at the network's own weights."""

    w: Tensor
    loss: Tensor | None = None
    found: tuple[Tensor, Tensor] | None = None

    def is_at(self, w: Tensor) -> bool:
        """Whether these are the weights."""
        return w is self.w or (w.dtype == self.w.dtype and torch.equal(w, self.w))


@dataclass(frozen=True)
class Network:
    """A torch model with its loss and what it is measured on, as `Trained` is for a run of ours."""

    name: str
    """What it is called in tables and figures."""
    path: str
    """Where it comes from: a longer name."""
    model: nn.Module
    loss: Loss
    evaluation: list[Any]
    """The batches whose mean loss is measured."""
    training: list[Any]
    """The mini-batches that the inner maximum is looked for on."""
    dtype: torch.dtype | None = None
    forward: Forward | None = None
    count: Callable[[Any], int] | None = None
    notes: tuple[str, ...] = ()
    """What reading its data left out or set right, a line each."""

    @cached_property
    def w(self) -> Tensor:
        """The weights (P,)."""
        layout = Layout(self.model)
        dtype = layout.dtype if self.dtype is None else self.dtype
        return layout.vector(dict(self.model.named_parameters()), dtype)

    @cached_property
    def at_weights(self) -> Home:
        """What is known already of the evaluation loss at w."""
        return Home(self.w)

    def objective(
        self,
        batches: Any,
        *,
        batch_statistics: bool = False,
        tell: Tell = lambda: None,
        home: Home | None = None,
    ) -> Objective:
        """The loss on these batches, which calls ``tell`` at every evaluation."""
        return _Told(
            tell,
            home or Home(self.w),
            self.model,
            self.loss,
            batches,
            batch_statistics=batch_statistics,
            dtype=self.dtype,
            seed=0,
            forward=self.forward,
            count=self.count,
        )

    def evaluation_loss(self, tell: Tell = lambda: None) -> Objective:
        """The mean loss over the evaluation batches, in evaluation mode."""
        return self.objective(self.evaluation, tell=tell, home=self.at_weights)

    @cached_property
    def in_float64(self) -> Network:
        """The same network, to be computed in double precision."""
        return self._in(torch.float64)

    @cached_property
    def in_float32(self) -> Network:
        """The same network, to be computed in single precision."""
        return self._in(torch.float32)

    def _in(self, dtype: torch.dtype) -> Network:
        return self if self.dtype == dtype else replace(self, dtype=dtype)

    @cached_property
    def loss_at_weights(self) -> float:
        """The evaluation loss; ArithmeticError where it is not finite, ValueError for a sum."""
        whole = self.evaluation_loss()
        loss = finite_loss(self.name, float(whole.loss(self.w)))
        whole.refuse_a_sum()
        return loss

    def subject(self, settings: SurveySettings, tell: Tell, known: dict[Any, Any]) -> Subject:
        """What the measures ask."""
        return NetworkSubject(self, settings, tell, known)

    def facts(self, settings: SurveySettings) -> Facts:
        """What decides the calls of its measures."""
        count = self.count or count_samples
        sizes = [count(batch) for batch in self.training[: settings.batches]]
        return Facts(
            weights=self.w.numel(),
            layers=tuple(NetworkSubject(self, settings).layers()),
            samples=sum(map(count, self.evaluation)),
            mini_batch=round(sum(sizes) / len(sizes)),
        )

    def identity(self, uses: Sequence[str]) -> tuple[list[Any], dict[str, Any]]:
        """What decides a measure's numbers: plain values, and arrays by name.

        The code of model and loss is seen by what it says of itself and by the loss it computes.
        """
        batches = self.training if "batches" in uses else self.evaluation
        told = [repr(self.model), str(self.dtype), f"{self.loss_at_weights:.6g}"]
        arrays = {f"model {name}": _bits(t) for name, t in self.model.state_dict().items()}
        for i, tensor in enumerate(tensors_in(batches)):
            arrays[f"data {i:09}"] = _bits(tensor)
        return told, arrays


class NetworkSubject(Subject):
    """A network as the survey's measures ask for it."""

    def __init__(
        self,
        network: Network,
        settings: SurveySettings,
        on_evaluation: Tell = lambda: None,
        known: dict[Any, Any] | None = None,
    ) -> None:
        super().__init__(
            cast(Any, network), settings, on_evaluation, {} if known is None else known
        )

    @property
    def _network(self) -> Network:
        return cast(Network, self.trained)

    @property
    def w(self) -> Any:
        """The network's weights (P,)."""
        return self._network.w

    def evaluation(self) -> Any:
        """The mean loss over the network's batches, in evaluation mode."""
        return self._network.evaluation_loss(self.on_evaluation)

    def parts(self) -> list[Any]:
        """The same on parts of the samples; of the batches, where samples cannot be told apart."""
        whole, count = self.evaluation(), self.settings.parts
        return whole.parts(count) or whole.by_batch(count)

    def outputs(self) -> tuple[Any, Any]:
        """The scores of the network's samples, and their targets (N, K).

        Raises ValueError where the loss is not softmax cross-entropy.
        """
        scores = Scores(self.evaluation())
        return scores, scores.targets(self.w)

    def mini_batches(self) -> Iterator[Any]:
        """The training loss of each of the network's mini-batches."""
        for batch in self._network.training[: self.settings.batches]:
            yield self._network.objective([batch], batch_statistics=True, tell=self.on_evaluation)


class _Told(Objective):
    """An objective that tells of every evaluation, for a progress bar.

    Every measure asks for loss and gradient at the weights themselves: they are computed once.
    """

    def __init__(self, tell: Tell, home: Home, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.tell = tell
        self.home = home

    def on(self, batches: Any) -> Self:
        """The same loss of the same model, on other batches."""
        other = super().on(batches)
        other.home = Home(self.home.w)
        return other

    def __call__(self, w: Tensor) -> tuple[Tensor, Tensor]:
        there = self.home.is_at(w)
        if there and self.home.found is not None:
            loss, gradient = self.home.found
            return loss.clone(), gradient.clone()
        self.tell()
        found = super().__call__(w)
        if there:
            self.home.found = (found[0].clone(), found[1].clone())
        return found

    def loss(self, w: Tensor) -> Tensor:
        there = self.home.is_at(w)
        if there and self.home.loss is not None:
            return self.home.loss.clone()
        self.tell()
        found = super().loss(w)
        if there:
            self.home.loss = found.clone()
        return found

    def hessian_products(
        self, w: Tensor, vectors: Sequence[Tensor], part: slice | None = None
    ) -> list[Tensor]:
        for _ in vectors:
            self.tell()
        return super().hessian_products(w, vectors, part)

    def products_at(
        self, w: Tensor, part: slice | None = None
    ) -> Callable[[Sequence[Tensor]], list[Tensor]]:
        kept = super().products_at(w, part)

        def told(vectors: Sequence[Tensor]) -> list[Tensor]:
            for _ in vectors:
                self.tell()
            return kept(vectors)

        return told


def flatness(
    model: nn.Module,
    loss: Loss,
    batches: Any,
    *,
    measures: Sequence[str] | None = None,
    settings: SurveySettings | None = None,
    mini_batches: Any = None,
    dtype: torch.dtype | None = torch.float64,
    forward: Forward | None = None,
    count: Callable[[Any], int] | None = None,
    name: str = "model",
    minutes: float | None = None,
) -> list[Row]:
    """The measures of ``rsam-ref sharpness`` of a torch model, which stays as it is, bit for bit.

    Parameters
    ----------
    model, loss, batches, dtype, forward, count:
        as in `objective`. The loss that is measured is the mean over all samples of all batches;
        ``settings.samples`` chooses none of them.
    measures:
        names in `rsam_ref.sharpness.survey.MEASURES`; by default those in `USUAL`. What asks the
        Hessian is computed in float64 whatever ``dtype``.
    settings:
        how finely to measure; those of the command by default.
    mini_batches:
        what ``inner`` looks at, the first ``settings.batches`` of them; by default of ``batches``.
    name:
        the rows' ``model``.
    minutes:
        about how long all measures may take: ``settings`` are made smaller until they do, and for
        ``dtype=torch.float64`` float32 may be taken instead, as the command does it.

    Returns the rows of `rsam_ref.sharpness.survey`, dicts with the same columns, which the
    functions of `rsam_ref.sharpness.figures` draw. Raises ValueError for unknown measures, and
    ArithmeticError where the loss at the weights is not finite.
    """
    wanted = known_measures(measures)
    evaluation = as_batches(batches)
    training = evaluation if mini_batches is None else as_batches(mini_batches)
    network = Network(name, name, model, loss, evaluation, training, dtype, forward, count)
    network.loss_at_weights  # noqa: B018 - what is wrong is said before an hour of measuring
    own = settings or SurveySettings()
    known: dict[Any, Any] = {}
    rows: list[Row] = []
    for measured, measure, chosen in _chosen(network, wanted, own, minutes):
        subject = NetworkSubject(measured, chosen, known=known)
        rows += (row | {"model": name} for row in survey(measure, subject))
    return rows


def _chosen(
    network: Network, measures: Sequence[str], settings: SurveySettings, minutes: float | None
) -> Iterator[tuple[Network, str, SurveySettings]]:
    """What every measure is taken of, and its settings."""
    if minutes is None:
        for name in measures:
            yield (network.in_float64 if name in PRECISE else network), name, settings
        return
    any_precision = network.dtype == torch.float64
    found = plan(network, measures, settings, seconds=60 * minutes, any_precision=any_precision)
    taken: dict[str, float] = {}
    for name in measures:
        start = time.perf_counter()
        yield found.network(network, name), name, found.settings(name)
        taken[name] = time.perf_counter() - start
        found = found.corrected(taken)


def load_state(model: nn.Module, path: Path) -> None:
    """Give a model the weights in a safetensors or npz file, perhaps behind a prefix.

    Names that share one tensor need to be there once. Raises DataError, with one line, for files
    that cannot be read or do not fit.
    """
    arrays = read_weights(path)
    own = model.state_dict()
    counters = {name for name in own if name.endswith("num_batches_tracked")}
    shared = {tensor.data_ptr() for name, tensor in own.items() if name in arrays}
    needed = [n for n, t in own.items() if n not in counters and t.data_ptr() not in shared]
    prefix = common_prefix(list(arrays), needed) if needed else ""
    state = {n.removeprefix(prefix): torch.tensor(array) for n, array in arrays.items()}
    try:
        left = model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise DataError(path, f"does not fit the model: {_one_line(error)}") from None
    found = {tensor.data_ptr() for name, tensor in own.items() if name in state}
    missing = [n for n in left.missing_keys if n not in counters and own[n].data_ptr() not in found]
    if missing or left.unexpected_keys:
        wrong = [f"has no {missing[0]}"] if missing else []
        wrong += [f"has {left.unexpected_keys[0]} besides"] if left.unexpected_keys else []
        raise DataError(path, f"does not fit the model: it {' and '.join(wrong)}")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _bits(tensor: Tensor) -> Any:
    """A tensor's bytes as a NumPy array, of whatever type it is."""
    whole = tensor.detach().cpu().contiguous().reshape(-1)
    return whole.view(torch.uint8).numpy() if whole.numel() else whole.float().numpy()
