"""`rsam-ref train`: a run in a folder, begun or gone on with."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from rsam_ref.commands.ranks import end_together, together
from rsam_ref.commands.terminal import (
    Backend,
    Kernels,
    Threads,
    data_lines,
    interrupted,
    name_and_value,
    progress_bar,
    say,
    usage_errors,
    warn,
)

Option = typer.Option

ALIKE = {"numpy": {"deterministic": True}}
"""What all ranks must have so that they take the same step to the last bit, by backend."""


def train(
    file: Annotated[
        Path | None, typer.Argument(metavar="RECIPE.toml", help="Settings to start from.")
    ] = None,
    preset: Annotated[
        str | None, Option(help="Settings to start from, by name; --list-presets tells them.")
    ] = None,
    list_presets: Annotated[bool, Option("--list-presets", help="Tell the presets.")] = False,
    resume: Annotated[
        Path | None, Option(metavar="DIR", help="Go on with the run in this folder.")
    ] = None,
    out: Annotated[
        Path | None, Option(metavar="DIR", help="The run's folder.  [default: a new one in runs/]")
    ] = None,
    data: Annotated[
        str | None, Option(help='"digits", or a folder with a data set.  [default: digits]')
    ] = None,
    image_size: Annotated[
        int | None,
        Option(
            help="Bring pictures to so many pixels.  [default: about their own; of files <= 224]"
        ),
    ] = None,
    augment: Annotated[
        str | None, Option(help="none, flip, crop-flip or inception.  [default: none]")
    ] = None,
    label_noise: Annotated[
        float | None, Option(help="Share of labels replaced at random.  [default: 0]")
    ] = None,
    limit: Annotated[int | None, Option(help="Train on so many samples only.")] = None,
    validation: Annotated[
        float | None,
        Option(help="Hold out this share of the training samples, and test on it.  [default: 0]"),
    ] = None,
    bits: Annotated[int | None, Option(help="Bits in use in pictures of 16-bit grey.")] = None,
    skip_damaged: Annotated[
        bool | None,
        Option("--skip-damaged", help="Look at all pictures first, leave out the damaged ones."),
    ] = None,
    model: Annotated[
        str | None,
        Option(
            help="cnn, mlp, resnet20, vit_tiny, ...: see rsam-ref models; or FILE.py:NAME.  "
            "[default: cnn]"
        ),
    ] = None,
    model_option: Annotated[
        list[str] | None,
        Option(
            metavar="NAME=VALUE",
            help="Such as patch=4; repeatable. rsam-ref models NAME tells those of a model.",
        ),
    ] = None,
    init: Annotated[
        str | None,
        Option(metavar="FILE", help="First weights: a run, or a safetensors or npz file."),
    ] = None,
    optimizer: Annotated[
        str | None,
        Option(
            help="sgd, adamw, sam, asam, rsam, noise, or one of SAM's relatives, such as gsam.  "
            "[default: rsam]"
        ),
    ] = None,
    optimizer_option: Annotated[
        list[str] | None,
        Option(metavar="NAME=VALUE", help="Such as alpha=0.3, of gsam; repeatable."),
    ] = None,
    base: Annotated[
        str | None,
        Option(help="What moves the weights: sgd or adamw.  [default: sgd]"),
    ] = None,
    lr: Annotated[float | None, Option(help="At its peak.  [default: 0.1]")] = None,
    momentum: Annotated[float | None, Option(help="Of sgd.  [default: 0.9]")] = None,
    nesterov: Annotated[bool | None, Option("--nesterov", help="Nesterov's, of sgd.")] = None,
    betas: Annotated[
        tuple[float, float] | None, Option(help="Of adamw.  [default: 0.9 0.999]")
    ] = None,
    weight_decay: Annotated[
        float | None, Option(help="Of the base optimizer.  [default: 0.0005]")
    ] = None,
    clip_norm: Annotated[float | None, Option(help="Shorten longer gradients to this.")] = None,
    rho: Annotated[
        float | None,
        Option(help="The radius.  [default: 0.05; of SAM's relatives each one's own]"),
    ] = None,
    rho_low: Annotated[
        float | None,
        Option(help="The radius follows the learning rate between this and rho."),
    ] = None,
    ascent_steps: Annotated[int | None, Option(help="Steps of sam's ascent.  [default: 1]")] = None,
    eta: Annotated[float | None, Option(help="Of asam.  [default: 0.01]")] = None,
    sigma: Annotated[
        float | None, Option(help="The noise scale at the start.  [default: 0.0005]")
    ] = None,
    sigma_rise: Annotated[
        float | None,
        Option(help="The noise scale at the end, in units of that at the start.  [default: 5]"),
    ] = None,
    lam: Annotated[
        float | None,
        Option(help="R-SAM's weight of the gradient against the draw.  [default: 2]"),
    ] = None,
    variant: Annotated[
        str | None,
        Option(help="Readings of R-SAM: rsam, stacked, gradient, ball.  [default: rsam]"),
    ] = None,
    loss: Annotated[
        str | None,
        Option(
            help="cross-entropy, sigmoid, or your own as FILE.py:NAME.  [default: cross-entropy]"
        ),
    ] = None,
    epochs: Annotated[int | None, Option(help="Passes over the data.  [default: 10]")] = None,
    batch_size: Annotated[int | None, Option(help="Samples a step.  [default: 128]")] = None,
    shards: Annotated[
        int | None,
        Option(
            help="Compute a batch in so many parts at once, a thread each; under mpiexec dealt out"
            " to the ranks.  [default: 1, or one a rank]"
        ),
    ] = None,
    perturbation: Annotated[
        str | None,
        Option(
            help="global: one ascent a step; worker: each shard its own (m-sharpness).  "
            "[default: global]"
        ),
    ] = None,
    m: Annotated[
        int | None, Option("--m", help="Samples of a worker.  [default: those of its shard]")
    ] = None,
    deterministic: Annotated[
        bool | None,
        Option("--deterministic", help="The same bits on any number of threads: BLAS has one."),
    ] = None,
    recompute: Annotated[
        bool | None, Option("--recompute", help="Compute blocks twice, to save memory.")
    ] = None,
    accumulate: Annotated[
        int | None, Option(help="Compute a batch in so many parts.  [default: 1]")
    ] = None,
    schedule: Annotated[
        str | None, Option(help="cosine, linear or constant.  [default: cosine]")
    ] = None,
    warmup_steps: Annotated[
        int | None, Option(help="The learning rate rises over them.  [default: 0]")
    ] = None,
    label_smoothing: Annotated[float | None, Option(help="A share, 0 to 1.  [default: 0]")] = None,
    seed: Annotated[
        int | None, Option(help="Decides weights, order and noise.  [default: 0]")
    ] = None,
    dtype: Annotated[str | None, Option(help="float32 or float64.  [default: float32]")] = None,
    log_every: Annotated[
        int | None, Option(help="Steps between rows of the metrics.  [default: 50]")
    ] = None,
    evaluate_every: Annotated[
        float | None,
        Option(
            help="Epochs between tests.  [default: 1, a tenth of the run, or more for long tests]"
        ),
    ] = None,
    checkpoint_every: Annotated[
        int | None,
        Option(help="Steps between checkpoints.  [default: an epoch]"),
    ] = None,
    keep_checkpoints: Annotated[
        int | None, Option(help="So many of the newest stay.  [default: 2]")
    ] = None,
    tensorboard: Annotated[bool | None, Option("--tensorboard", help="Write event files.")] = None,
    backend: Backend = "numpy",
    kernels: Kernels = "fast",
    threads: Threads = None,
) -> None:
    """Train a model by a recipe, a preset or options; options override the other two.

    The run's folder gets the recipe, versions, metrics (JSON lines, CSV), curves.png, checkpoints
    and the trained model. Ctrl-C stops after the step under way; --resume DIR goes on, after Ctrl-C
    as after a crash, bit by bit as if nothing had happened: on the same libraries, the same kind of
    processor and as many threads of BLAS, or with --deterministic on any number of them. Where
    these are others it says so. The recipe.toml that a run leaves behind shows all settings.

    mpiexec -n 4 rsam-ref train ... shares out every mini-batch among four processes, on one machine
    or on several, with the bits of --shards 4 --deterministic in one.
    """
    from rsam_ref.training import recipe

    given = {
        name: value
        for name, value in locals().items()
        if name in recipe.Recipe.model_fields and value is not None
    }
    if list_presets:
        for name in recipe.presets():
            say(f"{name:18} {recipe.preset(name)[1]['about']}")
        return
    with usage_errors():
        work = "train" if resume is None else "train --resume"
        ranks = together(backend, kernels, threads, f"rsam-ref {work}")
        if resume is not None:
            others = given.keys() - {"deterministic"}
            if others or file or preset or out or model_option or optimizer_option:
                raise ValueError("--resume goes on with the recipe in the folder; drop the others")
            run = _resume(resume, deterministic, ranks)
        else:
            options = {
                "model_options": dict(map(name_and_value, model_option or [])),
                "optimizer_options": dict(
                    name_and_value(text, "optimizer-option") for text in optimizer_option or []
                ),
            }
            run = _start(file, preset, given, options, out, ranks)
    _go(run)


def _start(
    file: Path | None,
    preset: str | None,
    given: dict[str, Any],
    options: dict[str, dict[str, Any]],
    out: Path | None,
    ranks: Any,
) -> Any:
    """A new run, with what it is printed. Raises ValueError for settings that make no sense."""
    from rsam_backends import current_backend
    from rsam_ref.algorithms.relatives import RELATIVES
    from rsam_ref.training import recipe
    from rsam_ref.training.given import whole
    from rsam_ref.training.run import Run

    settings: dict[str, Any] = {}
    if file is not None and preset is not None:
        raise ValueError(f"give {file} or --preset {preset}, not both")
    if preset is not None:
        settings, notes = recipe.preset(preset)
        say(f"{preset}: {notes['about']}")
        for kind, title in (("known", "known"), ("choice", "our choice")):
            for line in notes.get(kind, []):
                say(f"  {title}: {line}")
    if file is not None:
        settings = recipe.read(file)
    settings = recipe.over(settings, given)
    if ranks.size > 1:
        recipe.refuse_ranks(settings)
        settings = {"shards": ranks.size, **settings} | ALIKE.get(current_backend().name, {})
    source = str(file or "train")
    chosen = whole(settings, source)
    more = {name: getattr(chosen, name) | values for name, values in options.items() if values}
    if more:
        chosen = whole(settings | more, source)
    if unused := sorted(recipe.unused(chosen) & given.keys()):
        around = "" if "base" in recipe.UNUSED[chosen.optimizer] else f" --base {chosen.base}"
        own = RELATIVES[chosen.optimizer].settings if chosen.optimizer in RELATIVES else {}
        remedy = f"; give --optimizer-option {unused[0]}=..." if unused[0] in own else ""
        raise ValueError(
            f"--{unused[0].replace('_', '-')} means nothing to "
            f"--optimizer {chosen.optimizer}{around}{remedy}"
        )
    folder = ranks.share((out or _new_folder(preset or _name(chosen))) if ranks.first else None)
    if not chosen.skip_damaged:
        return Run.start(folder, chosen, ranks=ranks)
    with progress_bar() as progress:
        task = progress.add_task("looking at the pictures", total=None)
        return Run.start(
            folder,
            chosen,
            lambda done, total: progress.update(task, completed=done, total=total),
            ranks,
        )


def _name(recipe: Any) -> str:
    """What a run is called if it is given no name: its data, model and optimizer."""
    from rsam_ref.loading import name_in

    return f"{Path(recipe.data).stem}-{name_in(recipe.model)}-{recipe.optimizer}"


def _new_folder(name: str) -> Path:
    """The first of runs/NAME-1, runs/NAME-2, ... that is not there yet."""
    folders = (Path("runs") / f"{name}-{i}" for i in itertools.count(1))
    return next(folder for folder in folders if not folder.exists())


def _resume(folder: Path, deterministic: bool | None, ranks: Any) -> Any:
    from rsam_ref.training import recipe
    from rsam_ref.training.run import Run

    began = folder / "recipe.toml"
    if deterministic and began.is_file() and not recipe.read(began).get("deterministic", False):
        raise ValueError(
            f"--deterministic is decided when a run begins, and {folder} began without it: go on "
            "without it, or begin another run"
        )
    run = Run.resume(folder, ranks)
    for error in run.damaged if ranks.first else ():
        warn(f"{error}; going back to the checkpoint before it")
    finished = run.step == run.steps and (folder / "model.safetensors").exists()
    if ranks.share(finished):
        say(
            f"{folder} is finished: it has trained for all of its {run.steps} steps. To train its "
            f"model further, begin another run from it: rsam-ref train --init {folder} ..."
        )
        run.close()
        ranks.wait()
        raise typer.Exit
    for file in run.changed_code:
        say(f"{file} is another than before: from here on the run is what it says now.")
    if run.changes:
        say(_other_arithmetic(run))
    say(f"Going on at step {run.step} of {run.steps} in {folder}.")
    return run


def _other_arithmetic(run: Any) -> str:
    """One line: what is other than in the last session, and what follows from it."""
    remedy = ""
    if any(change.startswith("BLAS threads") for change in run.changes):
        remedy = " Begun with --deterministic, a run has the same bits on any number of threads."
    return (
        f"Other than in the last session: {'; '.join(run.changes)}. So from step {run.step} on the "
        f"last bits may not be those of the run never stopped, and in training that grows.{remedy}"
    )


def _workers_lines(run: Any) -> list[str]:
    """What is told of ranks, and of whose ascent a step has where there are several workers."""
    from rsam_backends.threads import threads
    from rsam_ref.nn.workers import sizes_of_workers
    from rsam_ref.training.ranks import counted

    recipe, ranks = run.recipe, run.ranks
    lines = []
    if ranks.size > 1:
        each = recipe.shards // ranks.size
        lines.append(
            f"{ranks.size} ranks with {counted(each, 'shard')} of every mini-batch each, and "
            f"{counted(threads(), 'thread')}."
        )
    if recipe.perturbation == "worker":
        n = run.feed.size(0)  # of a whole mini-batch
        sizes = sizes_of_workers(n, min(recipe.shards, n), recipe.m)
        least, most = min(sizes), max(sizes)
        each = counted(most, "sample") if least == most else f"{least} to {most} samples"
        lines.append(
            f"{counted(len(sizes), 'worker')} in a mini-batch of {counted(n, 'sample')}, of {each} "
            "each: each climbs by itself, and only the gradients found there are averaged "
            "(m-sharpness)."
        )
    return lines


def _go(run: Any) -> None:
    from rsam_ref.loading import name_in
    from rsam_ref.training.recipe import UNUSED

    recipe = run.recipe
    low = "" if recipe.rho_low is None else f"{recipe.rho_low:g} to "
    radius = "" if "rho" in UNUSED[recipe.optimizer] else f" with rho {low}{recipe.rho:g}"
    say(
        f"{name_in(recipe.model)} with {run.model.weights.flat.size:,} weights on {run.data.name}: "
        f"{len(run.data.train):,} samples to train on, {len(run.data.watched):,} to "
        f"{'test' if run.data.validation is None else 'choose by'}; "
        f"{recipe.optimizer}{radius}, {recipe.epochs} x {run.per_epoch} steps; in {run.folder}/"
    )
    for line in _workers_lines(run):
        say(line)
    if run.head_of:
        say(
            f"Begins from {recipe.init}; its last layer is kept, which was trained on the classes "
            f"{run.head_of}."
        )
    if run.new_head:
        say(
            f"Begins from {recipe.init}, but for {' and '.join(run.new_head)}: the last layer is "
            "new, as those weights are of another number of classes."
        )
    for line in data_lines(run):
        say(line)
    with progress_bar() as progress:
        task = progress.add_task("steps", total=run.steps, completed=run.step)
        tested: dict[str, Any] = {}

        def show(row: dict[str, Any]) -> None:
            progress.update(task, completed=row["step"], description=f"loss {row['loss']:.3f}")
            if row["test_accuracy"] is not None:
                tested.update(row)
                loss = "not finite" if row["test_loss"] is None else f"{row['test_loss']:.4f}"
                progress.console.print(
                    f"epoch {row['epoch']:6.2f}  training loss {row['loss']:.4f}  "
                    f"test loss {loss}  test accuracy {100 * row['test_accuracy']:.1f} %",
                    highlight=False,
                )

        try:
            done = run.go(on_step=lambda step: progress.update(task, completed=step), on_row=show)
        except KeyboardInterrupt:  # a second one, in the middle of a step or of the last files
            progress.stop()
            kept = f"{run.saved} is kept" if run.saved else "no checkpoint was written yet"
            raise interrupted(
                f"stopped at once: what was done since the last checkpoint is lost; {kept}. Go on "
                f"with: {run.to_go_on}"
            ) from None
    if not done:
        end_together()
        raise interrupted(
            f"stopped after step {run.step} of {run.steps}, which is kept. Go on with: "
            f"{run.to_go_on}"
        )
    if run.twice is not None:
        say(
            f"After step {run.twice} a value was not finite, and it was when the same steps were "
            "computed again, which count: the model or the loss does not depend on weights and "
            "samples alone, so no other run will have these bits."
        )
    say(
        f"Trained for {run.seconds:.0f} s. Wrote metrics.jsonl, metrics.csv, curves.png, "
        f"model.safetensors and checkpoints/ to {run.folder}/"
    )
    if tested and (hint := _no_better_than_a_guess(run, tested["test_accuracy"])):
        say(hint)


def _no_better_than_a_guess(run: Any, accuracy: float) -> str | None:
    """A line for an accuracy that always naming the most frequent class has, to two deviations."""
    from rsam_ref.training.ranks import counted

    labels = run.data.watched.labels.tolist()
    [(_, most)] = Counter(labels).most_common(1)
    share = most / len(labels)
    if share == 1 or accuracy > share + 2 * math.sqrt(share * (1 - share) / len(labels)):
        return None
    most_often, lr = 100 * share, run.recipe.lr
    samples = f"the {len(labels):,} samples" if len(labels) > 1 else "the one sample"
    told = "This is no better than a guess"
    if accuracy > share:
        told = "This is not significantly better than a guess"
    return (
        f"{told}: {100 * accuracy:.1f} %, where the most frequent class "
        f"has {most_often:.1f} % of {samples}. In {counted(run.steps, 'step')} another learning "
        f"rate may do: try --lr {lr / 10:g} (now {lr:g}), a smaller --batch-size, more --epochs."
    )
