"""Where SAM, k-step SAM and R-SAM climb from w, on the plane that their climbs span.

An algorithm's path is the list of places where it asks for a gradient: w and w + eps for SAM; w
and k more for k-step SAM; w + D and w + eps for R-SAM. The plane goes through w, along SAM's eps
and, at a right angle to that, towards R-SAM's. So both their ends lie on it; of all other places
the nearest point on the plane is shown, and `outside` says how far away they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rsam_backends import Stream
from rsam_backends.base import Array
from rsam_ref.algorithms.noise import Shapes, filter_noise
from rsam_ref.algorithms.sam import TINY, LossAndGrad, Trace, norm, rsam_gradient, sam_gradient


@dataclass(frozen=True, slots=True)
class Place:
    """A place on a path: coordinates on the plane and distance from it in radii, and its loss."""

    x: float
    y: float
    outside: float
    loss: float


@dataclass(frozen=True, slots=True)
class Paths:
    """The climbs of three algorithms from the same weights, and the plane to show them on."""

    across: Array
    """A unit vector (P,) along SAM's eps."""
    up: Array
    """A unit vector (P,) at a right angle to it, towards R-SAM's eps; 0 where they are parallel."""
    paths: dict[str, list[Place]]
    """By name: "sam", "k-step", "rsam"; each begins at w."""


def ascent_paths(
    loss_and_grad: LossAndGrad,
    w: Array,
    shapes: Shapes,
    *,
    rho: float,
    sigma: float,
    lam: float = 2.0,
    ascent_steps: int = 5,
    stream: Stream,
) -> Paths:
    """The paths of one step from w (P,) at radius ``rho``.

    Costs 2 gradients for SAM, ``ascent_steps`` + 1 for k-step SAM and 3 for R-SAM, whose draw has
    the scale ``sigma``. Raises ValueError for a radius of 0, on which there is no way to show.
    """
    if not rho > 0:
        raise ValueError(f"paths of length 0 cannot be shown: rho must be > 0, not {rho}")
    noise = filter_noise(w, shapes, sigma=sigma, stream=stream)
    sam, sam_places = _watched(lambda f: sam_gradient(f, w, rho=rho), loss_and_grad)
    _, k_places = _watched(
        lambda f: sam_gradient(f, w, rho=rho, ascent_steps=ascent_steps), loss_and_grad
    )
    rsam, rsam_places = _watched(
        lambda f: rsam_gradient(f, w, noise, rho=rho, lam=lam), loss_and_grad
    )
    start = (w, sam_places[0][1])
    across, eps = _unit(sam.perturbation), rsam.perturbation
    rest = eps - (across @ eps) * across
    up = _unit(rest - (across @ rest) * across)  # twice: rounding leaves a little the first time
    found = {"sam": sam_places, "k-step": k_places, "rsam": [start, *rsam_places]}
    paths = {
        name: [_place(point - w, loss, across, up, rho) for point, loss in places]
        for name, places in found.items()
    }
    return Paths(across, up, paths)


def _watched(
    climb: Callable[[LossAndGrad], Trace], loss_and_grad: LossAndGrad
) -> tuple[Trace, list[tuple[Array, float]]]:
    """What an algorithm returns, and where it asked for the loss on the way, with the losses."""
    places: list[tuple[Array, float]] = []

    def watched(point: Array) -> tuple[Any, Array]:
        loss, gradient = loss_and_grad(point)
        places.append((point + 0, float(loss)))  # a copy: the point may be changed in place
        return loss, gradient

    return climb(watched), places


def _unit(v: Any) -> Array:
    """v / ||v||; 0 where it is rounding, or 0."""
    return v / (norm(v) + TINY)


def _place(away: Array, loss: float, across: Array, up: Array, rho: float) -> Place:
    x, y = float(across @ away), float(up @ away)
    outside = float(norm(away - x * across - y * up))
    return Place(x / rho, y / rho, outside / rho, loss)
