"""An optax transformation, used as its users use it.

    updates, state = tx.update(grads, state, params)
    params = optax.apply_updates(params, updates)

One step of the algorithm is one call of ``update`` where that takes the gradient elsewhere itself
(it is given ``grad_fn``), and two or three where it returns to the caller in between, as
``optax.contrib.sam`` does: which it is, is found by trying.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Collection
from typing import Any

import jax
import numpy as np
import optax

from rsam_ref.conformance.observe.arguments import (
    asked_alone,
    called,
    config_of,
    is_required,
    parameters_of,
)
from rsam_ref.conformance.observe.jax_types import double
from rsam_ref.conformance.observe.names import CONFIGS, SETTINGS, is_called, setting_of
from rsam_ref.conformance.observe.observer import MOST_EVALUATIONS, BrokenError, Evaluation, Step
from rsam_ref.conformance.observe.problem import Hyper, Problem

CALLS = (2, 3, 1)
"""How many calls of update may make a step, in the order in which they are tried."""

EXTRA = (
    ("grad_fn", "value_and_grad_fn", "value_fn", "value", "grad"),
    ("grad_fn", "value", "grad", "value_fn"),
    ("grad_fn", "value"),
    ("grad_fn",),
    ("value_and_grad_fn",),
    (),
)
"""Extra arguments for update, as far as the transformations in it take them."""


class OptaxSubject:
    """A transformation, or a factory ``make(hyper)`` of one, on a dict of parameters.

    ``way`` is the number of calls of update that make a step.
    """

    form = "optax"

    def __init__(
        self,
        subject: Any,
        problem: Problem,
        hyper: Hyper,
        *,
        way: int | None = None,
        dtype: str = "float64",
        asked: Collection[str] = SETTINGS,
    ) -> None:
        self.subject, self.problem, self.asked = subject, problem, asked
        self.dtype = np.dtype(dtype)
        self.ways = CALLS
        self.calls = way or 1
        self.climbs_itself = False
        """Whether one call asked for a gradient elsewhere: then it is a step, however short."""
        self.assignment = _assignment(subject, asked)
        with double():
            self.tx = self._made(hyper)
            parts = problem.parts(problem.start)
            self.params = {
                name: jax.numpy.asarray(part, self.dtype)
                for name, part in zip(problem.names, parts)
            }
            self.state = self.tx.init(self.params)
        self.hyper = hyper

    @property
    def by(self) -> str:
        return getattr(self.subject, "__name__", "this transformation")

    @property
    def missing(self) -> tuple[str, ...]:
        """The settings that it does not take."""
        roles = self.assignment.values()
        return () if "hyper" in roles else tuple(s for s in SETTINGS if s not in roles)

    def settable(self, setting: str) -> bool:
        """Whether a setting can be changed between steps: by making it anew, with the old state."""
        return setting not in self.missing and self._is_made_anew

    @property
    def _is_made_anew(self) -> bool:
        """Whether one made with other settings takes the same state, which holds none of them."""
        with double():
            other = self._made(self.hyper.but(lr=0.7 * self.hyper.lr, rho=0.7 * self.hyper.rho))
            one, two = (tx.init(self.params) for tx in (self.tx, other))
        a, b = jax.tree.flatten(one), jax.tree.flatten(two)
        return bool(
            str(a[1]) == str(b[1])
            and all(np.array_equal(_plain(x), _plain(y)) for x, y in zip(a[0], b[0]))
        )

    def _made(self, hyper: Hyper) -> Any:
        tx = self.subject
        if not _is_transformation(tx):
            values: dict[str, Any] = dict(vars(hyper))
            taken = inspect.signature(tx).parameters
            for name, role in self.assignment.items():
                if role == "hyper":
                    values["hyper"] = config_of(taken[name], tx, hyper)
            tx = called(tx, self.assignment, values)
        if not _is_transformation(tx):
            raise BrokenError(
                f"{self.by} returned {type(tx).__name__}, and not an optax transformation with "
                "init and update"
            )
        return optax.with_extra_args_support(tx)

    def weights(self) -> np.ndarray:
        return self.problem.flat([np.asarray(self.params[name]) for name in self.problem.names])

    def step(self, number: int, hyper: Hyper, seen: Step) -> None:
        if hyper != self.hyper and self._is_made_anew:
            self.tx = self._made(hyper)
            self.hyper = hyper
        with double():
            for _ in range(self.calls):
                self._call(number, seen)

    def _call(self, number: int, seen: Step) -> None:
        inside: list[Evaluation] = []

        def value_and_grad(params: Any, *_: Any, **__: Any) -> Any:
            if len(inside) >= MOST_EVALUATIONS:
                raise BrokenError(
                    f"step {number + 1} called grad_fn more than {MOST_EVALUATIONS} times"
                )
            flat = self._flat(params)
            inside.append(Evaluation(flat, number))
            return self._loss_and_grad(flat, number)

        def grad_fn(params: Any, *_: Any, **__: Any) -> Any:
            return value_and_grad(params)[1]

        def value_fn(params: Any, *_: Any, **__: Any) -> Any:
            return self._loss_and_grad(self._flat(params), number)[0]

        at = self._flat(self.params)
        loss, grads = self._loss_and_grad(at, number)
        known: dict[str, Any] = {
            "grad_fn": grad_fn,
            "value_and_grad_fn": value_and_grad,
            "value_fn": value_fn,
            "value": loss,
            "grad": grads,
        }
        updates, self.state = self._updated(grads, known)
        self.climbs_itself |= any(not np.array_equal(e.at, at) for e in inside)
        if not _takes_all_itself(inside, at):
            seen.evaluations.append(Evaluation(at, number))
        seen.evaluations += inside
        self.params = optax.apply_updates(self.params, updates)

    def _updated(self, grads: Any, known: dict[str, Any]) -> Any:
        """Call update, with as much of what is ``known`` as it takes."""
        for names in EXTRA[:-1]:
            try:
                more = {name: known[name] for name in names}
                return self.tx.update(grads, self.state, self.params, **more)
            except TypeError as error:
                if "unexpected keyword" not in str(error):
                    raise
        return self.tx.update(grads, self.state, self.params)

    def suits(self, steps: list[Step]) -> bool:
        """Whether so many calls make a step: it goes up the gradient, and comes back."""
        if self.calls == 1:
            return len({e.at.tobytes() for e in steps[0].evaluations}) > 1
        if self.climbs_itself:
            return False
        step = steps[0]
        eps = step.evaluations[-1].at - step.before
        _, gradient = self.problem.loss_and_grad(step.before, step.number)
        back = float((step.after - step.before) @ eps) < 0.5 * float(eps @ eps)
        return back and float(eps @ gradient) > 0

    def _loss_and_grad(self, flat: np.ndarray, number: int) -> Any:
        loss, gradient = self.problem.loss_and_grad(flat, number)
        parts = self.problem.parts(gradient)
        grads = {n: jax.numpy.asarray(p, self.dtype) for n, p in zip(self.problem.names, parts)}
        return loss, grads

    def _flat(self, params: Any) -> np.ndarray:
        try:
            return self.problem.flat([np.asarray(params[name]) for name in self.problem.names])
        except jax.errors.TracerArrayConversionError:
            raise BrokenError(
                "grad_fn was called within jax.jit, where its weights cannot be seen; take the jit "
                "off for the check"
            ) from None
        except Exception as error:
            raise BrokenError(
                f"grad_fn was called with {type(params).__name__}, and not with parameters like "
                f"those that update was given ({error})"
            ) from None

    def resumed(self, hyper: Hyper) -> OptaxSubject:
        other = copy.copy(self)
        other.state = jax.tree.map(lambda leaf: leaf, self.state)
        return other


def _takes_all_itself(inside: list[Evaluation], at: np.ndarray) -> bool:
    """Whether it made its first gradient elsewhere, so that the one it was given is of no use.

    The second may be where it was given one: with a radius of 0.
    """
    return len(inside) > 1 and not np.array_equal(inside[0].at, at)


def _assignment(subject: Any, asked: Collection[str]) -> dict[str, str]:
    if _is_transformation(subject):
        return {}
    found = {}
    taken = parameters_of(subject)
    for name, parameter in taken.items():
        setting = setting_of(name)
        if setting is not None:
            found[name] = setting
        elif is_required(parameter) or (is_called(name, CONFIGS) and parameter.default is None):
            found[name] = "hyper"
    return asked_alone(subject, found, asked)


def _is_transformation(subject: Any) -> bool:
    return callable(getattr(subject, "init", None)) and callable(getattr(subject, "update", None))


def _plain(leaf: Any) -> Any:
    """A leaf of a state as NumPy has it; keys of random generators by their data."""
    try:
        return np.asarray(leaf)
    except Exception:
        return np.asarray(jax.random.key_data(leaf))
