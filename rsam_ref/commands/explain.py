"""`rsam-ref explain`: one step, told."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
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
    interactive: Annotated[
        Path | None,
        typer.Option(help="Write a page on which one moves w and the settings oneself (.html)."),
    ] = None,
    background: Annotated[
        str, typer.Option(help="Of --save and --stages: white or transparent.")
    ] = "white",
    algorithm: Annotated[
        str, typer.Option(help="rsam, sam, asam, or one of SAM's relatives, such as gsam.")
    ] = "rsam",
    against: Annotated[
        str | None,
        typer.Option(
            metavar="ALGORITHM",
            help="Another one beside it, from the same place: the losses that both reach, and both "
            "in one picture or in slides on equal axes.",
        ),
    ] = None,
    surface: Annotated[
        str,
        typer.Option(
            help="The loss of two weights: ripples, narrow, wide, ridge or saddle. The page of "
            "--interactive has more, to be chosen there."
        ),
    ] = "ripples",
    at: Annotated[
        str,
        typer.Option(metavar="X,Y", help="The two weights that the step starts from."),
    ] = "0.3,0.8",
    rho: Annotated[float, typer.Option(help="Radius on the two-weight problem.")] = 0.5,
    lr: Annotated[float, typer.Option(help="Learning rate there.")] = 0.4,
    sigma: Annotated[
        float | None,
        typer.Option(help="Noise scale there (R-SAM).  [default: 0.25]"),
    ] = None,
    lam: Annotated[
        float | None,
        typer.Option(help="Weight of the gradient there (R-SAM).  [default: 2]"),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Which draw (R-SAM).  [default: 14]")] = None,
    ascent_steps: Annotated[
        int | None, typer.Option(help="Steps of the ascent (SAM).  [default: 1]")
    ] = None,
    backend: Backend = "numpy",
) -> None:
    """Tell one step of R-SAM or SAM in numbers and in a picture: on two weights, and on a network.

    The pictures are slides of 16:9, their letters drawn as outlines; --stages makes one for each
    stage of the step, to show one after the other. Files of the same names are overwritten.
    """
    from rsam_ref.algorithms.relatives import RELATIVES
    from rsam_ref.teaching.step import ALGORITHMS, TAKES, digits_network, two_weights

    random = {"sigma": sigma, "lam": lam, "seed": seed, "ascent_steps": ascent_steps}
    given: dict[str, Any] = {name: value for name, value in random.items() if value is not None}
    names = [algorithm, *([against] if against else [])]
    with usage_errors():
        choose(backend)
        for name in names:
            if name not in ALGORITHMS and name not in RELATIVES:
                _check_own("method", name)
                there_are = ", ".join([*ALGORITHMS, *RELATIVES])
                raise ValueError(f"unknown algorithm {name!r}; there are {there_are}")
        for option in given:
            if not any(option in TAKES.get(name, ()) for name in names):
                called = option.replace("_", "-")
                raise ValueError(f"--{called} means nothing to {' and '.join(names)}")
        if algorithm in RELATIVES and (stages or handout or interactive):
            raise ValueError(
                f"--algorithm {algorithm}: --stages and --interactive take rsam, sam and asam, "
                "--handout rsam and sam; --save draws any step"
            )
        if against and (RELATIVES.keys() & set(names) or against == algorithm):
            raise ValueError(f"--against takes another of {', '.join(ALGORITHMS)}")
        if background not in BACKGROUNDS:
            raise ValueError(f"--background is {' or '.join(BACKGROUNDS)}, not {background!r}")
        for told, path, kinds in (
            ("save", save, PICTURES),
            ("handout", handout, HANDOUTS),
            ("interactive", interactive, (".html",)),
        ):
            if path is not None and path.suffix.lower() not in kinds:
                raise ValueError(f"--{told} {path}: give a file ending in {', '.join(kinds)}")
        _check_own("surface", surface)
        where: dict[str, Any] = {"rho": rho, "lr": lr, "surface": surface, "at": _place(at)}
        transparent = background == "transparent"
        if algorithm in RELATIVES:
            return _explain_relative(algorithm, where, save, transparent)
        from rsam_backends import quiet

        owns = [{k: v for k, v in given.items() if k in TAKES[name]} for name in names]
        with quiet():
            steps = [two_weights(algorithm=n, **where, **own) for n, own in zip(names, owns)]
        if handout:
            _check_handout(steps[0])
        if interactive:
            start = _address(steps[0])
    k = {} if ascent_steps is None else {"ascent_steps": ascent_steps}
    networks = [digits_network(algorithm=n, **(k if n == "sam" else {})) for n in names]
    wrote = _write_steps(steps, save, stages, handout, transparent)
    if interactive:
        from rsam_ref.teaching.interactive.page import write

        write(interactive, start)
        wrote.append(interactive)
    if against:
        _tell_both(steps, networks)
    else:
        _tell(steps[0], networks[0])
    for path in wrote:
        say(f"Wrote {path}")
    if not wrote:
        console.print("To see the two-weight step drawn: rsam-ref explain --save step.png")


def _place(text: str) -> tuple[float, float]:
    """Two weights from X,Y."""
    try:
        x, y = (float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"--at is two numbers, as in --at 0.3,0.8, not {text!r}") from None
    return x, y


def _check_own(kind: str, name: str) -> None:
    """Raise ValueError for a surface or a method that the page has and this command has not."""
    from rsam_ref.teaching.interactive.grounds import OWN
    from rsam_ref.teaching.interactive.state import METHODS
    from rsam_ref.teaching.step import ALGORITHMS

    own = OWN if kind == "surface" else [m for m in METHODS if m not in ALGORITHMS]
    if name in own:
        option = "surface" if kind == "surface" else "algorithm"
        raise ValueError(
            f"--{option} {name}: only the page of --interactive has it; choose it there, or open "
            f"the page with #{kind}={name} at the end of its address"
        )


def _address(step: Any) -> str:
    """The state in which the page starts with a step; ValueError where it has no such state."""
    from rsam_ref.teaching.interactive.state import check_state

    method = "k-step" if step.ascent_steps > 1 else step.algorithm
    told = {"surface": step.surface.name, "method": method}
    told |= {"w": ",".join(f"{float(v):.12g}" for v in step.w), "rho": step.rho, "lr": step.lr}
    if method == "k-step":
        told["k"] = step.ascent_steps
    if method == "rsam":
        told |= {"sigma": step.sigma, "lam": step.lam, "seed": step.seed}
    address = "&".join(f"{name}={value}" for name, value in told.items())
    check_state(address)
    return address


def _check_handout(step: Any) -> None:
    """Refuse a page before anything is written."""
    from rsam_ref.teaching.handout import sheet

    sheet(step)


def _tell(step: Any, network: Any) -> None:
    """One step in tables: on two weights, then on the network."""
    from rsam_ref.algorithms.sam import norm
    from rsam_ref.teaching.step import (
        angles,
        as_text,
        first_place,
        name_of,
        place_text,
        quantities,
        settings_text,
    )

    table = Table(title=f"{name_of(step)} on two weights ({settings_text(step)})")
    for column in ("", "what it is", "value", "length"):
        table.add_column(column, justify="right" if column == "length" else "left")
    for symbol, text, vector in quantities(step):
        table.add_row(symbol, text, as_text(vector), f"{float(norm(vector)):.3f}")
    console.print(table)
    console.print(
        f"On {place_text(step.surface, step.w)}. The loss is {float(step.trace.loss):.3f} at "
        f"{first_place(step)} and {float(step.trace.adversarial_loss):.3f} at w + eps.\n",
        soft_wrap=True,
        highlight=False,
    )

    s = network.step
    table = Table(title=f"{_network_text(network)} ({settings_text(s)})")
    for column in ("", "what it is", "length"):
        table.add_column(column, justify="right" if column == "length" else "left")
    for symbol, text, vector in quantities(s):
        table.add_row(symbol, text, f"{float(norm(vector)):.4g}")
    console.print(table)
    losses = _network_losses(network)
    table = Table(*(f"at {place}" for place in losses), title="The batch's loss")
    table.add_row(*(f"{value:.4f}" for value in losses.values()))
    console.print(table)
    for text, degrees in angles(network):
        console.print(f"{degrees:6.1f} degrees {text}", highlight=False)


def _tell_both(steps: Sequence[Any], networks: Sequence[Any]) -> None:
    """The losses that two steps reach, on two weights and on the network, and what that says."""
    from rsam_ref.teaching.against import losses_of, verdict
    from rsam_ref.teaching.step import name_of, place_text, settings_text

    first = steps[0]
    shown = [
        (f"On {place_text(first.surface, first.w)}", steps, [losses_of(step) for step in steps]),
        (
            _network_text(networks[0]),
            [network.step for network in networks],
            [_network_losses(network) for network in networks],
        ),
    ]
    for title, told, losses in shown:
        table = Table("loss", "at w", "first gradient", "at w + eps", "at w'", "", title=title)
        for step, found in zip(told, losses):
            first_at = "w" if "w + D" not in found else "w + D"
            values = (found["w"], found[first_at], found["w + eps"], found["w'"])
            numbers = [f"{value:.4f}" for value in values]
            table.add_row(name_of(step), *numbers, settings_text(step))
        console.print(table)
    console.print(verdict(steps), soft_wrap=True, highlight=False)


def _network_text(network: Any) -> str:
    return f"On the digits MLP, {network.weights:,} weights, after 5 epochs of SGD"


def _network_losses(network: Any) -> dict[str, float]:
    """The batch's loss at the places of a network's step."""
    from rsam_ref.teaching.step import first_place

    trace = network.step.trace
    return {
        "w": network.loss_before,
        first_place(network.step): float(trace.loss),
        "w + eps": float(trace.adversarial_loss),
        "w'": network.loss_after,
    }


def _explain_relative(
    name: str, where: dict[str, Any], save: Path | None, transparent: bool
) -> None:
    """A relative's step on two weights and on the digits network, in tables and in a picture."""
    from rsam_backends import quiet
    from rsam_ref import figures
    from rsam_ref.algorithms.sam import norm
    from rsam_ref.teaching.relatives import on_digits, on_two_weights, step_figure, vectors_of
    from rsam_ref.teaching.step import as_text

    with quiet():
        step = on_two_weights(name, **where)
        network = on_digits(name)
    relative = step.relative
    console.print(f"{relative.title}: {relative.update}\n({relative.source})\n", highlight=False)
    for ground, shown in (("two weights", step), ("the digits MLP", network)):
        table = Table(title=f"On {ground} ({shown.settings_text}, lr {shown.lr:g})")
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


def _write_steps(
    steps: Sequence[Any],
    save: Path | None,
    stages: Path | None,
    handout: Path | None,
    transparent: bool,
) -> list[Path]:
    """The files that were asked for, of one step or of two; returns their names."""
    if not (save or stages or handout):
        return []
    from rsam_ref import figures
    from rsam_ref.teaching.against import against_figure
    from rsam_ref.teaching.handout import write
    from rsam_ref.teaching.picture import frame_of, stage_figures, step_figure
    from rsam_ref.teaching.stages import slide_names

    files = {}
    if save:
        files[save] = step_figure(steps[0]) if len(steps) == 1 else against_figure(steps)
    if stages:
        if stages.exists() and not stages.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(stages))
        stages.mkdir(parents=True, exist_ok=True)
        frame = frame_of(steps)
        for step in steps:
            for name, figure in zip(slide_names(step), stage_figures(step, frame)):
                files[stages / name] = figure
    for path, figure in files.items():
        figures.save(figure, path, trim=False, transparent=transparent)
    if handout:
        write(steps[0], handout)
    return [*files, *([handout] if handout else [])]
