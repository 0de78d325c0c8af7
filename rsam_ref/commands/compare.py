"""`rsam-ref compare`: the main job."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.table import Column, Table

from rsam_ref.commands.terminal import (
    Backend,
    Cluster,
    Kernels,
    choose,
    console,
    interrupted,
    name_and_value,
    progress_bar,
    say,
    usage_errors,
)

Option = typer.Option


def compare(
    out: Annotated[Path, Option(help="The folder for results and finished runs.")] = Path(
        "runs/compare"
    ),
    quick: Annotated[
        bool, Option("--quick", help="Fewer radii, seeds and epochs: under a minute.")
    ] = False,
    data: Annotated[str, Option(help='"digits", or a folder with a data set.')] = "digits",
    image_size: Annotated[
        int | None, Option(help="Bring pictures to so many pixels.  [default: about their own]")
    ] = None,
    limit: Annotated[
        int | None, Option(help="Train on so many samples, choose with half as many.")
    ] = None,
    model: Annotated[str, Option(help="mlp, cnn, resnet20, ..., or FILE.py:NAME.")] = "mlp",
    model_option: Annotated[
        list[str] | None,
        Option(metavar="NAME=VALUE", help="Such as width=16; repeatable."),
    ] = None,
    method: Annotated[
        list[str] | None,
        Option(
            help="sgd, sam, sam2, noise, rsam, or one of SAM's relatives; repeat for several."
            "  [default: the first five]"
        ),
    ] = None,
    rho: Annotated[
        list[float] | None,
        Option(help="A radius to try; repeat for several.  [default: nine from 0.1 to 1.3]"),
    ] = None,
    seeds: Annotated[
        int | None, Option(help="Seeds for every setting.  [default: 5; quick: 3]")
    ] = None,
    epochs: Annotated[
        int | None, Option(help="Epochs of every run.  [default: 60; quick: 40]")
    ] = None,
    label_noise: Annotated[
        float | None,
        Option(
            help="Share of training labels replaced at random, 0 to 1.  [default: 0.4 of the "
            "digits', none of your data's]"
        ),
    ] = None,
    lr: Annotated[float, Option(help="Of all methods but sgd, whose it is to be tuned.")] = 0.1,
    batch_size: Annotated[int, Option(help="Samples a step.")] = 64,
    sigma: Annotated[float, Option(help="R-SAM's noise scale at the start of a run.")] = 1e-3,
    lam: Annotated[float, Option(help="R-SAM's weight of the gradient against the draw.")] = 2.0,
    jobs: Annotated[int | None, Option(help="Processes at a time.  [default: one a core]")] = None,
    cluster: Cluster = None,
    backend: Backend = "numpy",
    kernels: Kernels = "fast",
) -> None:
    """Compare SGD, SAM, 2-step SAM, noise alone and R-SAM on handwritten digits, or on your data.

    Each method's one setting (rho, sigma or the learning rate) is tuned over equally many values on
    validation samples. Ctrl-C keeps the finished runs; the same command goes on from them.
    """
    from rsam_ref.loading import absolute, name_in
    from rsam_ref.training.comparison import (
        ALL_METHODS,
        METHODS,
        QUICK_RHOS,
        RHOS,
        Experiment,
        WithData,
        execute,
        execute_with_data,
        plan,
        write_results,
    )
    from rsam_ref.training.engines import LOCAL, Once, check_address, engine
    from rsam_ref.training.problem import problem_on
    from rsam_ref.training.trials import Store, Trial

    if label_noise is None:
        label_noise = 0.4 if data == "digits" else 0.0
    with usage_errors():
        choose(backend, kernels)
        check_address(cluster)
        if jobs is not None and jobs < 1:
            raise ValueError(f"--jobs must be at least 1, not {jobs}")
        experiment = Experiment(
            label_noise=label_noise,
            epochs=epochs if epochs is not None else 40 if quick else 60,
            sigma=sigma,
            lam=lam,
            lr=lr,
            batch_size=batch_size,
            backend=backend,
            kernels=kernels,
            problem=problem_on(
                data if data == "digits" else str(Path(data).resolve()),
                model=absolute(model),
                model_options=dict(map(name_and_value, model_option or [])),
                image_size=image_size,
                limit=limit,
            ),
        )
        rhos = rho or list(QUICK_RHOS if quick else RHOS)
        seeds = seeds if seeds is not None else 3 if quick else 5
        trials = plan(method or list(METHODS), rhos, seeds)
    out.mkdir(parents=True, exist_ok=True)
    store = Store(out / "runs.jsonl", experiment)
    say(
        f"{len(trials)} runs of {name_in(model)} on {data}: {experiment.steps:,} steps each, on "
        f"{experiment.problem.samples:,} samples, with {100 * label_noise:g} % of the labels "
        "replaced at random"
    )
    done = sum(trial in store.finished for trial in trials)
    if done:
        console.print(f"{done} of {len(trials)} runs were finished before and are kept.")

    work: Callable[[Any, Trial], dict[str, Any]] = execute
    given: Any = experiment
    if cluster not in (None, LOCAL) and (arrays := experiment.problem.sample_arrays()) is not None:
        work, given = execute_with_data, Once(WithData(experiment, arrays))

    with (
        engine(cluster, jobs or os.cpu_count() or 1, tell=say) as carry_out,
        progress_bar() as progress,
    ):
        task = progress.add_task("training", total=len(trials), completed=done)

        def show(trial: Trial, record: dict[str, Any]) -> None:
            progress.update(task, advance=1, description=f"{ALL_METHODS[trial.method].label:>10}")

        try:
            carry_out(
                work,
                given,
                trials,
                store,
                on_trial=show,
            )
        except KeyboardInterrupt:
            progress.stop()
            kept = sum(trial in store.finished for trial in trials)
            raise interrupted(
                f"interrupted; {kept} of {len(trials)} runs are kept in {store.path}: run the same "
                "command to go on"
            ) from None

    results = write_results(out, experiment, [store.finished[trial] for trial in trials])
    from rsam_ref.figures import save
    from rsam_ref.training.figures import compare_figure

    save(compare_figure(results), out / "compare.png")
    _show_sweep(results)
    _show_best(results)
    console.print(f"Wrote results.json, results.csv and compare.png to {out}/", soft_wrap=True)


def _percent(point: dict[str, Any]) -> str:
    """Mean and standard deviation of a setting's test accuracy, in per cent."""
    return f"{100 * point['test_accuracy']:.1f} ± {100 * point['test_deviation']:.1f}"


def _show_sweep(results: dict[str, Any]) -> None:
    methods = {name: m for name, m in results["summary"]["methods"].items() if m["knob"] == "rho"}
    if not methods:
        return
    table = Table(title="Test accuracy (%) by radius: mean and standard deviation over seeds")
    table.add_column("rho", justify="right")
    for m in methods.values():
        table.add_column(m["label"], justify="right")
    columns = {name: {p["value"]: p for p in m["sweep"]} for name, m in methods.items()}
    for value in next(iter(columns.values())):
        table.add_row(
            f"{value:g}",
            *(_percent(points[value]) for points in columns.values()),
        )
    console.print(table)


def _show_best(results: dict[str, Any]) -> None:
    summary = results["summary"]
    table = Table(
        "method",
        Column("setting", no_wrap=True),
        Column("test (%)", justify="right", no_wrap=True),
        Column("against SGD", justify="right", no_wrap=True),
        Column("against SAM", justify="right", no_wrap=True),
        title="Each method at the setting that validation chose",
        box=box.SIMPLE_HEAD,
    )
    verdicts = {(d["method"], d["against"]): d for d in summary["differences"]}

    def verdict(name: str, other: str) -> str:
        d = verdicts.get((name, other))
        if d is None:
            return ""
        if d["low"] is None:
            return f"{100 * d['mean']:+.1f} (one seed)"
        text = f"{100 * d['mean']:+.1f} [{100 * d['low']:+.1f}, {100 * d['high']:+.1f}]"
        return text + ("\nwithin noise" if d["within_noise"] else "\nclear")

    for name, m in summary["methods"].items():
        best = m["best"]
        table.add_row(
            m["label"],
            f"{m['knob']} {best['value']:g}",
            _percent(best),
            verdict(name, "sgd"),
            verdict(name, "sam"),
        )
    console.print(table)
    console.print(
        "Differences are means over seeds, in points, with their 95 % interval (paired t). "
        "'Within noise' means that the interval holds 0, 'clear' that it does not.",
        soft_wrap=True,
    )
