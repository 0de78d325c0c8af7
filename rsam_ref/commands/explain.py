"""`rsam-ref explain`: one step, told."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from rsam_ref.commands.terminal import (
    Backend,
    choose,
    console,
    say,
    usage_errors,
)

PICTURES = (".png", ".svg", ".pdf")


HANDOUTS = (".pdf", ".html")


BACKGROUNDS = ("white", "transparent")


def explain(
    save: Annotated[
        Path | None, typer.Option(help="Draw the two-weight step to this file (.png, .svg, .pdf).")
    ] = None,
    stages: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Draw it stage by stage, for slides: SVGs in this folder."
        ),
    ] = None,
    handout: Annotated[
        Path | None, typer.Option(help="Write it as one page to hand out (.pdf, .html).")
    ] = None,
    background: Annotated[
        str, typer.Option(help="Of --save and --stages: white or transparent.")
    ] = "white",
    algorithm: Annotated[
        str, typer.Option(help="rsam, sam, or one of SAM's relatives, such as gsam.")
    ] = "rsam",
    rho: Annotated[float, typer.Option(help="Radius on the two-weight problem.")] = 0.5,
    sigma: Annotated[
        float | None,
        typer.Option(help="Noise scale on the two-weight problem (R-SAM).  [default: 0.25]"),
    ] = None,
    lam: Annotated[
        float | None, typer.Option(help="Weight of the gradient (R-SAM).  [default: 1.0]")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Which draw (R-SAM).  [default: 14]")] = None,
    backend: Backend = "numpy",
) -> None:
    """Tell one step of R-SAM or SAM in numbers and in a picture: on two weights, and on a network.

    The pictures are slides of 16:9, their letters drawn as outlines; --stages makes one for each
    stage of the step, to show one after the other. Files of the same names are overwritten.
    """
    from rsam_ref.algorithms.relatives import RELATIVES
    from rsam_ref.algorithms.sam import norm
    from rsam_ref.teaching.step import (
        ALGORITHMS,
        angles,
        as_text,
        digits_network,
        first_place,
        quantities,
        settings_text,
        two_weights,
    )

    random = {"sigma": sigma, "lam": lam, "seed": seed}
    given: dict[str, Any] = {name: value for name, value in random.items() if value is not None}
    with usage_errors():
        choose(backend)
        if algorithm not in ALGORITHMS and algorithm not in RELATIVES:
            there_are = ", ".join([*ALGORITHMS, *RELATIVES])
            raise ValueError(f"unknown algorithm {algorithm!r}; there are {there_are}")
        if algorithm != "rsam" and given:
            raise ValueError(f"--{next(iter(given))} means nothing to {algorithm}")
        if algorithm in RELATIVES and (stages or handout):
            raise ValueError("--stages and --handout are of rsam and sam; --save draws any step")
        if background not in BACKGROUNDS:
            raise ValueError(f"--background is {' or '.join(BACKGROUNDS)}, not {background!r}")
        for option, path, kinds in (("save", save, PICTURES), ("handout", handout, HANDOUTS)):
            if path is not None and path.suffix.lower() not in kinds:
                raise ValueError(f"--{option} {path}: give a file ending in {', '.join(kinds)}")
        if algorithm in RELATIVES:
            return _explain_relative(algorithm, rho, save, background == "transparent")
        from rsam_backends import quiet

        with quiet():
            step = two_weights(algorithm=algorithm, rho=rho, **given)
    network = digits_network(algorithm=algorithm)
    wrote = _write_step(step, save, stages, handout, background == "transparent")
    table = Table(title=f"{ALGORITHMS[algorithm]} on two weights ({settings_text(step)})")
    for column in ("", "what it is", "value", "length"):
        table.add_column(column, justify="right" if column == "length" else "left")
    for symbol, text, vector in quantities(step):
        table.add_row(symbol, text, as_text(vector), f"{float(norm(vector)):.3f}")
    console.print(table)
    console.print(
        f"The loss is {float(step.trace.loss):.3f} at {first_place(step)} and "
        f"{float(step.trace.adversarial_loss):.3f} at w + eps.\n",
        soft_wrap=True,
    )

    s = network.step
    table = Table(
        title=f"On the digits MLP, {network.weights:,} weights, after 5 epochs of SGD "
        f"({settings_text(s)})"
    )
    for column in ("", "what it is", "length"):
        table.add_column(column, justify="right" if column == "length" else "left")
    for symbol, text, vector in quantities(s):
        table.add_row(symbol, text, f"{float(norm(vector)):.4g}")
    console.print(table)
    losses = {
        "at w": network.loss_before,
        f"at {first_place(s)}": float(s.trace.loss),
        "at w + eps": float(s.trace.adversarial_loss),
        "at w'": network.loss_after,
    }
    table = Table(*losses, title="The batch's loss")
    table.add_row(*(f"{value:.4f}" for value in losses.values()))
    console.print(table)
    for text, degrees in angles(network):
        console.print(f"{degrees:6.1f} degrees {text}", highlight=False)
    for path in wrote:
        say(f"Wrote {path}")
    if not wrote:
        console.print("To see the two-weight step drawn: rsam-ref explain --save step.png")


def _explain_relative(name: str, rho: float, save: Path | None, transparent: bool) -> None:
    """A relative's step on two weights and on the digits network, in tables and in a picture."""
    from rsam_backends import quiet
    from rsam_ref import figures
    from rsam_ref.algorithms.sam import norm
    from rsam_ref.teaching.relatives import on_digits, on_two_weights, step_figure, vectors_of
    from rsam_ref.teaching.step import as_text

    with quiet():
        step = on_two_weights(name, rho=rho)
        network = on_digits(name)
    relative = step.relative
    console.print(f"{relative.title}: {relative.update}\n({relative.source})\n", highlight=False)
    for where, shown in (("two weights", step), ("the digits MLP", network)):
        table = Table(title=f"On {where} ({shown.settings_text}, lr {shown.lr:g})")
        for column in ("", "what it is", "value", "length"):
            table.add_column(column, justify="right" if column == "length" else "left")
        for symbol, text, vector in vectors_of(shown):
            table.add_row(symbol, text, as_text(vector), f"{float(norm(vector)):.4g}")
        console.print(table)
    if save is None:
        console.print("To see the two-weight step drawn: --save step.png")
        return
    figures.save(step_figure(step), save, trim=False, transparent=transparent)
    say(f"Wrote {save}")


def _write_step(
    step: Any, save: Path | None, stages: Path | None, handout: Path | None, transparent: bool
) -> list[Path]:
    """The files that were asked for; returns their names."""
    if not (save or stages or handout):
        return []
    from rsam_ref import figures
    from rsam_ref.teaching.handout import write
    from rsam_ref.teaching.picture import stage_figures, step_figure
    from rsam_ref.teaching.stages import slide_names

    files = {}
    if save:
        files[save] = step_figure(step)
    if stages:
        if stages.exists() and not stages.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(stages))
        stages.mkdir(parents=True, exist_ok=True)
        for name, figure in zip(slide_names(step), stage_figures(step)):
            files[stages / name] = figure
    for path, figure in files.items():
        figures.save(figure, path, trim=False, transparent=transparent)
    if handout:
        write(step, handout)
    return [*files, *([handout] if handout else [])]
