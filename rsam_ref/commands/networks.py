"""Networks of PyTorch and of JAX for ``rsam-ref sharpness``: what its options say of them."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from rsam_backends.base import kind_of

TARGET = re.compile(r"(.+\.py|[A-Za-z_][\w.]*):[A-Za-z_][\w.]*")


T = TypeVar("T")


class NetworkError(Exception):
    """A network cannot be made or run; the message says why, in one line."""


@dataclass(frozen=True)
class Asked:
    """What the options say of networks."""

    weights: list[Path]
    data: str | None
    batches: str | None
    loss: str | None
    forward: str | None
    batch_size: int
    dtype: str | None
    threads: int | None = None
    minutes: float = 0.0
    held: frozenset[str] = frozenset()
    """The settings that were given, and stay as they are."""
    output_axis: str | None = None


def is_network(argument: str) -> bool:
    """Whether an argument is FILE.py:NAME or package.module:NAME, and no file or folder."""
    return TARGET.fullmatch(argument) is not None and not Path(argument).exists()


def check_asked(targets: list[str], asked: Asked) -> None:
    """Raise ValueError for options that say too little or what does not go together."""
    options = {
        "--weights": asked.weights,
        "--data": asked.data,
        "--batches-from": asked.batches,
        "--loss": asked.loss,
        "--forward": asked.forward,
        "--output-axis": asked.output_axis,
    }
    given = [name for name, value in options.items() if value]
    if not targets:
        if given:
            raise ValueError(f"{given[0]} is for a network FILE.py:NAME; a run has its own")
        return
    if (asked.data is None) == (asked.batches is None):
        raise ValueError(
            f"say what {targets[0]} is measured on: --data digits or a folder, or "
            "--batches-from FILE.py:NAME, a loader or a list of batches (x, y)"
        )
    if len(targets) > 1 and asked.weights and len(asked.weights) != len(targets):
        raise ValueError(
            f"{len(targets)} networks and {len(asked.weights)} --weights: give one for each, in "
            "their order, or one network and any number"
        )
    if asked.batch_size < 1:
        raise ValueError(f"--batch-size must be at least 1, not {asked.batch_size}")
    if not 0 <= asked.minutes < math.inf:
        raise ValueError(f"--minutes is a finite number, 0 for no limit, not {asked.minutes}")


def load_networks(targets: list[str], asked: Asked, settings: Any) -> list[Any]:
    """The networks, with their weights, their loss and the batches they are measured on.

    Raises NetworkError or DataError, with one line.
    """
    if (pairs := _pairs_in_jax(targets, settings.seed)) is not None:
        return _load_trees(targets, pairs, asked, settings)
    if asked.output_axis is not None:
        raise NetworkError(
            "--output-axis is for a loss and tree in JAX; of a network of PyTorch it is known"
        )
    try:
        from rsam_ref.pytorch import given
        from rsam_ref.pytorch.network import Network
        from rsam_ref.sharpness.given import GivenError
    except ImportError as error:
        raise NetworkError(
            f"a network FILE.py:NAME needs PyTorch ({error}): pip install 'rsam-ref[torch]'"
        ) from None
    given.use_threads(asked.threads)
    home = targets[0].rpartition(":")[0]
    try:
        loss = given.loss(None if asked.loss is None else _named(asked.loss, home))
        forward = None if asked.forward is None else _named(asked.forward, home)
        evaluation, training, notes = _measured_on(given, asked, home, settings)
        found = []
        for target, weights in _with_weights(targets, asked.weights):
            name, path = _called_so(target, weights)
            network = Network(
                name=name,
                path=path,
                model=given.model(_named(target, ""), target, settings.seed, weights),
                loss=loss,
                evaluation=evaluation,
                training=training,
                dtype=given.precision(asked.dtype or "float64"),
                forward=forward,
                notes=notes,
            )
            given.try_out(network)
            found.append(network)
    except GivenError as error:
        raise NetworkError(str(error)) from None
    return found


def _measured_on(
    given: Any, asked: Asked, home: str, settings: Any
) -> tuple[list[Any], list[Any], tuple[str, ...]]:
    """The batches that networks are measured on, mini-batches, and notes on the data."""
    if asked.batches is None:
        return given.of_data(str(asked.data), settings, asked.batch_size)
    found = given.batches(_named(asked.batches, home), asked.batches, settings.samples)
    return found, found, ()


def _with_weights(networks: list[T], files: list[Path]) -> list[tuple[T, Path | None]]:
    """Every network with its file of weights, if there are any; a single one with each of them."""
    if not files:
        return [(network, None) for network in networks]
    return list(zip(networks * len(files) if len(networks) == 1 else networks, files))


def _called_so(target: str, weights: Path | None) -> tuple[str, str]:
    """A network's short and its longer name."""
    if weights is None:
        return target.rpartition(":")[2], target
    return weights.stem, f"{target} {weights}"


def _pairs_in_jax(targets: list[str], seed: int) -> list[Any] | None:
    """For each target the loss and its tree, in JAX; None where they are networks of PyTorch.

    JAX is here only if a user's own file loaded it. Raises NetworkError where both are asked for.
    """
    made = [_named(target, "") for target in targets]
    if "jax" not in sys.modules:
        return None
    from rsam_ref.jax import given
    from rsam_ref.sharpness.given import GivenError, called

    def made_of(thing: Any, target: str) -> Any:
        if given.is_pair(thing) or isinstance(thing, type) or not callable(thing):
            return thing
        if hasattr(thing, "forward"):  # a network itself
            return thing
        with _torch_draws(seed):
            return called(thing, target)

    try:
        found = [made_of(thing, target) for thing, target in zip(made, targets)]
    except GivenError as error:
        raise NetworkError(str(error)) from None
    in_jax = [given.is_pair(thing) for thing in found]
    if not any(in_jax):
        if "torch" in sys.modules:
            return None
        raise NetworkError(
            f"{targets[0]} gives {kind_of(found[0])}: give a loss of params and batch with "
            "its params, (loss, params), or a function that returns both"
        )
    if not all(in_jax):
        raise NetworkError(
            f"{targets[in_jax.index(True)]} is in JAX and {targets[in_jax.index(False)]} is not: "
            "measure them in two commands"
        )
    return found


@contextmanager
def _torch_draws(seed: int) -> Iterator[None]:
    """A block in which PyTorch, if it is loaded, draws by a seed; then as if it had not."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def _load_trees(targets: list[str], pairs: list[Any], asked: Asked, settings: Any) -> list[Any]:
    """Losses and trees in JAX, with the batches they are measured on, in float64 if it is asked."""
    from rsam_ref.jax import given
    from rsam_ref.jax.network import TreeNetwork
    from rsam_ref.sharpness.given import GivenError

    if asked.loss is not None or asked.forward is not None:
        raise NetworkError(
            f"--loss and --forward are for a network of PyTorch; {targets[0]} gives its own loss"
        )
    home = targets[0].rpartition(":")[0]
    dtype = asked.dtype or "float64"
    try:
        axis = given.output_axis(asked.output_axis or "0", lambda name: _named(name, home))
        evaluation, training, notes = _measured_on(given, asked, home, settings)
        many = [
            (target, loss, params if file is None else given.with_weights(params, file), file)
            for (target, (loss, params)), file in _with_weights(
                list(zip(targets, pairs)), asked.weights
            )
        ]
        given.use_double_precision()  # not before: with it other first weights would be drawn
        found = []
        for target, loss, params, file in many:
            name, path = _called_so(target, file)
            network = TreeNetwork(
                name=name,
                path=path,
                made=loss,
                params=params,
                evaluation=evaluation,
                training=training,
                output_axis=axis,
                dtype=dtype,
                notes=notes,
            )
            given.try_out(network)
            found.append(network)
        if given.lowers(found[0]):
            found[0] = replace(
                found[0],
                remarks=(
                    f"{targets[0]} computes in float32 of its own, whatever it is given, so its "
                    "Hessian has no more digits than that, and bounds do not tell.",
                ),
            )
    except GivenError as error:
        raise NetworkError(str(error)) from None
    return found


def test_batches_of(
    targets: list[str], asked: Asked, source: str | None, settings: Any
) -> list[Any] | None:
    """The batches of test data: of --data its own, or what is named; None for neither.

    Raises NetworkError or DataError, with one line.
    """
    from rsam_ref.pytorch import given
    from rsam_ref.sharpness.given import GivenError

    try:
        if source is not None:
            named = _named(source, targets[0].rpartition(":")[0])
            return given.batches(named, source, settings.samples)
    except GivenError as error:
        raise NetworkError(str(error)) from None
    if asked.data is None:
        return None
    return given.of_test_data(asked.data, settings, asked.batch_size)


class Course:
    """A plan that is corrected by what the first network's measures take, and kept each time."""

    def __init__(self, plan: Any, keep: Callable[[Any], None]) -> None:
        self.plan = plan
        self._keep = keep
        self._taken: dict[str, float] = {}

    def of(self, network: Any, measure: str) -> tuple[Any, Any]:
        """The network in the precision, and the settings, that a measure is taken with."""
        return self.plan.network(network, measure), self.plan.settings(measure)

    def took(self, measure: str, seconds: float) -> None:
        """How long a measure of the first network took."""
        self._taken[measure] = seconds
        corrected = self.plan.corrected(self._taken)
        if corrected != self.plan:
            self.plan = corrected
            self._keep(corrected)


def plan_of(
    networks: list[Any], measures: list[str], settings: Any, asked: Asked, kept: Any
) -> Course | None:
    """One plan for all networks, by what it takes to measure the first.

    It is kept, so that the same command goes on with it. None where no time is set, and in JAX.
    """
    if not asked.minutes or not hasattr(networks[0], "facts"):
        return None
    from rsam_ref.pytorch.plan import Plan, plan
    from rsam_ref.sharpness.kept import digest_of
    from rsam_ref.sharpness.survey import USES

    first, used = networks[0], sorted({name for measure in measures for name in USES[measure]})
    others = [len(networks), measures, repr(settings), asked.minutes, asked.dtype]
    key = digest_of(first, used, ["plan", *others, sorted(asked.held)])
    if (rows := kept.get(key)) is not None:
        return Course(Plan.of(rows), lambda _: None)
    found = plan(
        first,
        measures,
        settings,
        seconds=60 * asked.minutes / len(networks),
        held=asked.held,
        any_precision=asked.dtype is None,
    )
    kept.add(key, found.rows())
    return Course(found, lambda plan: kept.add(key, plan.rows()))


def _named(target: str, home: str) -> Any:
    """What is called so: FILE.py:NAME, package.module:NAME, or NAME in the network's own file."""
    from rsam_ref.conformance.observe.load import load
    from rsam_ref.conformance.observe.observer import BrokenError

    try:
        return load(target if ":" in target else f"{home}:{target}")
    except BrokenError as error:
        raise NetworkError(str(error)) from None
