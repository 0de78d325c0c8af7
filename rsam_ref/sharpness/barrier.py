"""The loss on the way between two models, and the matching of an MLP's units before it.

Two networks that compute the same with their hidden units in another order lie far apart, and the
straight line between them climbs for no other reason. Weight matching reorders the units of one
so that its weights lie as near as can be to the other's (Ainsworth, Hayase and Srinivasa, Git
Re-Basin, ICLR 2023, section 3.2).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from rsam_backends import Stream, library_of, to_host, xp
from rsam_backends.base import Array
from rsam_ref.algorithms.noise import Shapes
from rsam_ref.sharpness.directions import Loss


@dataclass(frozen=True, slots=True)
class Barrier:
    """The losses on the straight line from one model to another."""

    steps: list[float]
    """t, from 0 to 1."""
    losses: list[float]
    """L((1 - t) a + t b)."""

    @property
    def height(self) -> float:
        """The largest rise above the straight line between the two losses; never below 0.

        (Frankle, Dziugaite, Roy and Carbin, Linear mode connectivity, ICML 2020, take the mean of
        the two for the line; for losses that are alike it is the same.)
        """
        return max(self._rises)

    @property
    def where(self) -> float:
        """The t of that rise; 0 where nothing rises."""
        return self.steps[self._rises.index(self.height)]

    @property
    def _rises(self) -> list[float]:
        first, last = self.losses[0], self.losses[-1]
        return [loss - ((1 - t) * first + t * last) for t, loss in zip(self.steps, self.losses)]


def loss_barrier(loss: Loss, a: Array, b: Array, *, points: int = 25) -> Barrier:
    """The losses from a to b (P,) at ``points`` places, the two models among them."""
    steps = steps_between(points)
    return Barrier(steps, [float(loss(place_between(a, b, t))) for t in steps])


def steps_between(points: int) -> list[float]:
    """So many t from 0 to 1; ValueError for fewer than 3, which have none inside."""
    if points < 3:
        raise ValueError(f"a barrier needs a point between the models: points >= 3, not {points}")
    return [i / (points - 1) for i in range(points)]


def place_between(a: Array, b: Array, t: float) -> Array:
    """(1 - t) a + t b (P,); at 0 and 1 the models themselves, to the last bit."""
    return {0.0: a, 1.0: b}.get(t, (1 - t) * a + t * b)


def matched(a: Array, b: Array, shapes: Shapes, *, sweeps: int = 50, stream: Stream) -> Array:
    """b (P,) with its hidden units in the order in which they are nearest to a's.

    Both are an MLP's weights: ``shapes`` are (out, in), (out,) in turn, layer by layer. The order
    of one layer is the best for its neighbours as they are, a linear assignment problem (scipy's
    ``linear_sum_assignment``); layers are taken in random order until none changes. It computes
    what b computes. The nearest of all orders is not promised: that problem is NP-hard.
    """
    weights = _check_mlp(shapes)
    of_a, of_b = _layers(a, shapes), _layers(b, shapes)
    hidden = [range(shape[0]) for shape in weights[:-1]]
    orders: list[Sequence[int]] = [list(units) for units in hidden]
    for _ in range(sweeps):
        before = list(orders)
        for i in stream.permutation(len(orders)):
            orders[i] = _best_order(of_a, of_b, orders, int(i))
        if orders == before:
            break
    library = library_of(b)
    parts = []
    for i in range(len(weights)):
        weight, bias = _reordered(of_b, orders, i)
        parts += [weight.reshape(-1), bias]
    return library.concatenate(parts)


def _best_order(
    of_a: list[tuple[Array, Array]],
    of_b: list[tuple[Array, Array]],
    orders: list[Sequence[int]],
    i: int,
) -> list[int]:
    """The order of layer i's units of b whose weights, in and out, agree most with a's."""
    from scipy.optimize import linear_sum_assignment

    arriving = _taken(of_b[i][0], orders[i - 1], axis=1) if i else of_b[i][0]
    leaving = of_b[i + 1][0]
    if i + 1 < len(orders):
        leaving = _taken(leaving, orders[i + 1], axis=0)
    agreement = of_a[i][0] @ arriving.T + of_a[i + 1][0].T @ leaving
    agreement = agreement + of_a[i][1][:, None] * of_b[i][1][None, :]
    on_host = to_host(agreement) if library_of(agreement) is xp else agreement
    columns = linear_sum_assignment(on_host.tolist(), maximize=True)[1]
    return [int(unit) for unit in columns]


def _reordered(
    layers: list[tuple[Array, Array]], orders: list[Sequence[int]], i: int
) -> tuple[Array, Array]:
    weight, bias = layers[i]
    if i:
        weight = _taken(weight, orders[i - 1], axis=1)
    if i < len(orders):
        weight, bias = _taken(weight, orders[i], axis=0), _taken(bias, orders[i], axis=0)
    return weight, bias


def _taken(weight: Array, order: Sequence[int], axis: int) -> Array:
    index = library_of(weight).asarray(list(order))
    return weight[index] if axis == 0 else weight[:, index]


def _layers(w: Array, shapes: Shapes) -> list[tuple[Array, Array]]:
    """The weights (out, in) and biases (out,) of every layer."""
    views, start = [], 0
    for shape in shapes:
        size = shape[0] * (shape[1] if len(shape) == 2 else 1)
        views.append(w[start : start + size].reshape(*shape))
        start += size
    return list(zip(views[::2], views[1::2]))


def _check_mlp(shapes: Shapes) -> list[tuple[int, ...]]:
    """The weights' shapes of an MLP; ValueError for other networks."""
    weights, biases = list(shapes[::2]), list(shapes[1::2])
    fits = len(weights) == len(biases) and all(
        len(weight) == 2 and bias == weight[:1] for weight, bias in zip(weights, biases)
    )
    if not fits or any(a[0] != b[1] for a, b in itertools.pairwise(weights)):
        raise ValueError(
            "units are matched for MLPs, with the shapes (out, in) and (out,) in turn; these are "
            f"{list(shapes)}"
        )
    return weights
