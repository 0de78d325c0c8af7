"""Models of one architecture for ``rsam-ref between``: runs, checkpoints, networks of PyTorch."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rsam_ref.commands.networks import Asked, load_networks, test_batches_of
from rsam_ref.commands.terminal import data_lines, labels, note_line


@dataclass(frozen=True)
class Alike:
    """Several models of one architecture, and how they are judged."""

    models: Any
    """`sharpness.between.Models`."""
    scored: dict[str, Any]
    """By "train" and "test": `sharpness.scored.Scored`."""
    paths: list[str]
    architecture: str
    notes: list[str]
    """What is to be told, a line each."""
    digest: str
    """What decides all numbers, as hex digits."""


def load_runs(given: list[Path], *, dtype: str, samples: int, seed: int, path: bool) -> Alike:
    """The trained models of runs; with ``path`` those of one run's checkpoints, if it is one.

    All are judged on the first one's samples, by its loss. Raises DataError for what cannot be
    read, and ValueError, with one line, for models that differ in more than their weights.
    """
    from rsam_ref.sharpness.between import Models
    from rsam_ref.sharpness.scored import ModelScored
    from rsam_ref.sharpness.survey import chosen_samples
    from rsam_ref.training.trained import load_trained

    first = load_trained(given[0], dtype=dtype)
    notes = data_lines(first)
    if path and len(given) == 1:
        names, paths, weights = _checkpoints(first)
    else:
        runs = [first, *(load_trained(where, dtype=dtype) for where in given[1:])]
        names, paths = labels(runs), [str(run.path) for run in runs]
        weights = [run.model.weights.flat for run in runs]
        for name, run in zip(names[1:], runs[1:]):
            _check_run(first, run, names[0], name)
            if run.data.fingerprint != first.data.fingerprint:
                notes.append(
                    f"{name} was trained on other samples or labels than {names[0]}, on whose data "
                    "all are judged: what is test data of the one may have trained the other."
                )
            if _loss_of(run) != _loss_of(first):
                notes.append(f"{name} was trained by another loss; all are judged by {names[0]}'s.")
    models = Models(names, weights, first.model.weights.shapes)
    scored = {}
    for part, held in (("train", first.data.train), ("test", first.data.test)):
        if len(held) == 0:
            continue
        index = chosen_samples(part, len(held), samples, seed)
        scored[part] = ModelScored(first.model, held.take(index), held.labels[index], first.loss)
    if len(given) > 1:
        index = chosen_samples("train", len(first.data.train), samples, seed)
        x, y = first.data.train.take(index), first.data.train.labels[index]
        own = [ModelScored(run.model, x, y, first.loss) for run in runs]
        _check_function(models, scored["train"], own)
    return Alike(
        models,
        scored,
        paths,
        first.recipe.model,
        notes,
        _digest(first, weights, [samples, seed, dtype]),
    )


def _loss_of(run: Any) -> tuple[str, float]:
    return run.recipe.loss, run.recipe.label_smoothing


def _checkpoints(trained: Any) -> tuple[list[str], list[str], list[Any]]:
    """The models in a run's checkpoints, from the first to its end: names, files and weights.

    The model at the end is one more only where no checkpoint is it.
    """
    from rsam_ref.training.checkpoint import newest_first
    from rsam_ref.training.trained import take_weights

    model, last = trained.model, trained.model.weights.flat.copy()
    names, paths, weights = [], [], []
    for file in reversed(newest_first(trained.folder / "checkpoints")):
        step = take_weights(model, file, trained.recipe.model)
        names.append(f"step {step}")
        paths.append(str(file))
        weights.append(model.weights.flat.copy())
    model.weights.flat[...] = last
    if not weights or not bool((weights[-1] == last).all()):
        names.append("end")
        paths.append(str(trained.path))
        weights.append(last)
    if len(weights) < 3:
        raise ValueError(
            f"{trained.folder} keeps {len(weights)} different models, and a path needs 3: train "
            "with --keep-checkpoints 20, or give several runs or weights in their order"
        )
    return names, paths, weights


def _check_run(first: Any, other: Any, name: str, others: str) -> None:
    """Raise ValueError for runs of other classes, or of another architecture."""
    _check_shapes(
        (name, first.recipe.model, first.model.weights),
        (others, other.recipe.model, other.model.weights),
    )
    if other.data.classes != first.data.classes:
        raise ValueError(
            f"{others} tells {_told(other.data.classes)} apart and {name} "
            f"{_told(first.data.classes)}: give models of the same classes"
        )


def _check_shapes(first: tuple[str, str, Any], other: tuple[str, str, Any]) -> None:
    (name, kind, weights), (others, other_kind, other_weights) = first, other
    own, theirs = (list(zip(w.names, w.shapes)) for w in (weights, other_weights))
    if own == theirs:
        return
    if len(own) != len(theirs):
        differ = f"{len(own)} parameters against {len(theirs)}"
    else:
        a, b = next((a, b) for a, b in zip(own, theirs) if a != b)
        differ = f"{a[0]} {a[1]} against {b[0]} {b[1]}"
    raise ValueError(
        f"{name} ({kind}) and {others} ({other_kind}) are of different architectures, {differ}: "
        "give models that differ in the values of their weights alone"
    )


def _told(classes: tuple[str, ...]) -> str:
    shown = ", ".join(classes[:3]) + (", ..." if len(classes) > 3 else "")
    return f"{len(classes)} classes ({shown})"


def _check_function(models: Any, scored: Any, own: list[Any]) -> None:
    """Raise ValueError where the first model with another's weights is not that other model."""
    from rsam_ref.sharpness.between import agree

    for name, w, theirs in zip(models.names[1:], models.weights[1:], own[1:]):
        expected, found = theirs(w)[0], scored(w)[0]
        if not agree(expected, found):
            raise ValueError(
                f"{models.names[0]} with the weights of {name} computes something else than {name} "
                f"(a loss of {found:.6g}, not {expected:.6g}): they differ in more than their "
                "weights, such as an option of the model, or a buffer"
            )


def load_alike(
    targets: list[str], asked: Asked, test_batches: str | None, *, samples: int, seed: int
) -> Alike:
    """Networks of PyTorch, FILE.py:NAME, judged on the data that the options name.

    Raises NetworkError or DataError as `load_networks`, and ValueError as `load_runs`.
    """
    from rsam_ref.sharpness.between import Models
    from rsam_ref.sharpness.survey import SurveySettings

    settings = SurveySettings(samples=samples, seed=seed)
    networks = load_networks(targets, asked, settings)
    from rsam_ref.pytorch.layout import Layout
    from rsam_ref.pytorch.scored import NetworkScored

    first, names = networks[0], labels(networks)
    layouts = [Layout(network.model) for network in networks]
    for name, network, layout in zip(names[1:], networks[1:], layouts[1:]):
        _check_shapes(
            (names[0], type(first.model).__name__, layouts[0]),
            (name, type(network.model).__name__, layout),
        )
    models = Models(names, [network.w for network in networks], layouts[0].shapes)
    parts = {"train": first.evaluation}
    if (test := test_batches_of(targets, asked, test_batches, settings)) is not None:
        parts["test"] = test
    scored = {part: NetworkScored(first, batches) for part, batches in parts.items()}
    own = [NetworkScored(network, first.evaluation) for network in networks]
    _check_function(models, scored["train"], own)
    others = [_digest(replace(first, evaluation=batches), [], []) for batches in parts.values()]
    return Alike(
        models,
        scored,
        [network.path for network in networks],
        type(first.model).__name__,
        [note_line(note) for note in first.notes],
        _digest(first, models.weights, [samples, seed, *others]),
    )


def _digest(first: Any, weights: list[Any], others: list[Any]) -> str:
    from rsam_backends import library_of, to_host, xp
    from rsam_ref.sharpness.kept import digest_of

    found = hashlib.sha256(digest_of(first, ("samples",), others).encode())
    for w in weights:
        found.update((to_host(w) if library_of(w) is xp else w.cpu().numpy()).tobytes())
    return found.hexdigest()[:16]


def key_of(alike: Alike, *others: Any) -> str:
    """What a part of a picture is kept by."""
    text = json.dumps([alike.digest, *others])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
