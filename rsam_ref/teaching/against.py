"""Two algorithms' steps from the same place, beside each other, with the losses that they reach.

Why R-SAM, and when not, in numbers: many draws of it, SAM, and the highest loss within the radius.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib

from rsam_backends import to_host, use_backend, xp
from rsam_ref.autograd.tensor import Tensor, no_grad
from rsam_ref.figures import Figure
from rsam_ref.teaching.labels import wrapped
from rsam_ref.teaching.picture import HEIGHT, LOOK, WIDTH, frame_of, in_words, picture_step
from rsam_ref.teaching.stages import stages_of, typeset
from rsam_ref.teaching.step import (
    WorkedStep,
    first_place,
    loss_at,
    name_of,
    place_text,
    settings_text,
    two_weights,
)

DRAWS = 200
"""Of R-SAM's, from seed 0 on."""


@dataclass(frozen=True)
class Draws:
    """What many draws of R-SAM's step reach, where another step reaches one loss."""

    reached: Any
    """The losses at w + eps (DRAWS,)."""
    landed: Any
    """The losses at the new weights (DRAWS,)."""


def losses_of(step: WorkedStep) -> dict[str, float]:
    """The losses that a step on two weights meets, by where it meets them."""
    return {
        "w": loss_at(step, step.w),
        first_place(step): float(step.trace.loss),
        "w + eps": float(step.trace.adversarial_loss),
        "w'": loss_at(step, step.after),
    }


def losses_text(step: WorkedStep) -> str:
    """The same as a phrase."""
    losses = [f"{round(value, 3) + 0.0:.3f} at {at}" for at, value in losses_of(step).items()]
    return "loss: " + ", ".join(losses)


def highest(step: WorkedStep) -> float:
    """The highest loss within the radius around w, of 361 directions and 101 lengths."""
    assert step.surface is not None
    turn, length = xp.linspace(0, 2 * xp.pi, 361), xp.linspace(0, step.rho, 101)[:, None]
    around = xp.stack([length * xp.cos(turn), length * xp.sin(turn)], axis=-1)  # (101, 361, 2)
    with no_grad():
        return float(step.surface(Tensor(step.w + around)).data.max())


def draws_of(step: WorkedStep) -> Draws:
    """R-SAM's step again, with other draws."""
    assert step.surface is not None
    x, y = to_host(step.w).tolist()
    again = [
        two_weights(
            rho=step.rho,
            sigma=step.sigma,
            lam=step.lam,
            lr=step.lr,
            seed=seed,
            surface=step.surface.name,
            at=(x, y),
        )
        for seed in range(DRAWS)
    ]
    found = [losses_of(other) for other in again]
    return Draws(*(xp.array([losses[at] for losses in found]) for at in ("w + eps", "w'")))


def count_higher(losses: Any, other: float) -> int:
    """How many are higher than the other one, by more than rounding.

    Without a draw R-SAM's step is SAM's, but for the last digits.
    """
    return int((losses - other > 1e-12 * max(1.0, abs(other))).sum())


def verdict(steps: Sequence[WorkedStep]) -> str:
    """Which of two steps climbs higher, in one line; with R-SAM, over many draws."""
    one, other = steps
    if "rsam" not in (one.algorithm, other.algorithm):
        told = [f"{name_of(s)} reaches {losses_of(s)['w + eps']:.3f}" for s in steps]
        return f"From {losses_of(one)['w']:.3f} at w, {' and '.join(told)} at w + eps."
    random, plain = (one, other) if one.algorithm == "rsam" else (other, one)
    draws, name = draws_of(random), name_of(plain)
    reached, landed = losses_of(plain)["w + eps"], losses_of(plain)["w'"]
    above, below = count_higher(draws.reached, reached), count_higher(-draws.landed, -landed)
    most = "" if plain.algorithm == "asam" else f" (the most within rho: {highest(plain):.3f})"
    return (
        f"Of {DRAWS} draws R-SAM climbs higher than {name} in {above}, on the mean to "
        f"{float(draws.reached.mean()):.3f} against {reached:.3f}{most}; its step lands lower in "
        f"{below}, on the mean at {float(draws.landed.mean()):.3f} against {landed:.3f}."
    )


def against_figure(steps: Sequence[WorkedStep]) -> Figure:
    """Two steps beside each other on equal axes, each with its losses, and the verdict.

    The figure is a slide of 16:9, which a notebook displays.
    """
    frame, side = frame_of(steps), 4.75
    with matplotlib.rc_context(LOOK), use_backend("numpy"):
        figure = Figure(figsize=(WIDTH, HEIGHT))
        figure.title = f"{name_of(steps[0])} beside {name_of(steps[1])}"
        told = [f"{name_of(step)}. {in_words(step, stages_of(step))}" for step in steps]
        figure.description = " ".join([*told, verdict(steps)])

        def write(x: float, y: float, text: str, size: float, **options: Any) -> None:
            figure.text(x / WIDTH, y / HEIGHT, text, size=size, **options)

        for step, left in zip(steps, (0.95, 7.15)):
            axes = figure.add_axes(
                (left / WIDTH, 2.05 / HEIGHT, side / WIDTH, side / HEIGHT),
            )
            bar = None
            if step is steps[-1]:
                right = left + side + 0.12
                bar = figure.add_axes((right / WIDTH, 2.05 / HEIGHT, 0.15 / WIDTH, side / HEIGHT))
            shown = {stage.name for stage in stages_of(step)}
            picture_step(axes, step, shown, size=15, bar=bar, frame=frame)
            write(left, 7.02, name_of(step), 22, weight="bold")
            write(left + side, 7.02, typeset(settings_text(step)), 12, ha="right", color="#555555")
            write(left, 1.12, typeset(losses_text(step)), 12.5)
        lines = wrapped(typeset(verdict(steps)), (WIDTH - 1.6) * 72, 13.5)
        for i, line in enumerate(lines):
            write(0.95, 0.75 - 0.25 * i, line, 13.5)
        write(0.95, 0.12, place_text(steps[0].surface, steps[0].w), 11, color="#555555")
        return figure
