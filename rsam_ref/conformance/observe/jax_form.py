"""A JAX training step: a function of a tree of weights, a loss that JAX can trace, and a batch.

    def train_step(params, opt_state, batch, loss_fn, ...): ...
        return params, opt_state, loss

Its arguments may come in any order and under the usual names; a key is given where one is taken, an
optax transformation likewise, and all may be in one object, as Flax's TrainState. jit may be inside
or outside. What makes such a step, of a loss and settings, will do as well.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Collection, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rsam_ref.conformance.observe import jax_state
from rsam_ref.conformance.observe.arguments import (
    Assignment,
    asked_alone,
    called,
    config_of,
    parameters_of,
)
from rsam_ref.conformance.observe.base import BaseSeen
from rsam_ref.conformance.observe.holders import fields_of
from rsam_ref.conformance.observe.jax_base import JaxBase
from rsam_ref.conformance.observe.jax_loss import Watched
from rsam_ref.conformance.observe.jax_roles import (
    STEP_METHODS,
    makes_a_step,
    role_in_jax,
    ways_to_call,
)
from rsam_ref.conformance.observe.jax_sgd import SGD, SGD_WITHOUT_DECAY, with_settings
from rsam_ref.conformance.observe.jax_state import Stepper
from rsam_ref.conformance.observe.jax_types import copied, double, is_key, is_like, is_number
from rsam_ref.conformance.observe.layouts import OUT_FIRST, OUT_LAST, filters_fit, tree_of
from rsam_ref.conformance.observe.names import (
    BASE_SETTINGS,
    INPUTS,
    SETTINGS,
    TARGETS,
    AnyName,
    gives_gradients_alone,
)
from rsam_ref.conformance.observe.observer import BrokenError, NotSavedError, Step
from rsam_ref.conformance.observe.problem import Hyper, Problem

LAYOUTS = {"first": OUT_FIRST, "last": OUT_LAST}
MOST_WAYS = 30
"""So many ways to call it are tried."""

jax.tree_util.register_pytree_node(
    AnyName,
    lambda hyper: (tuple(vars(hyper).values()), tuple(vars(hyper))),
    lambda names, values: AnyName(**dict(zip(names, values))),
)


class JaxWay(NamedTuple):
    """How a step is called, as far as its names do not tell."""

    layout: str
    """Which axis of a weight counts its filters: "first" or "last"."""
    call: int = 0
    """Which of the ways to call it, see `ways_to_call`."""
    start: str = ""
    """Where the state at the start comes from, see `jax_state.starts`."""
    tree: str = "dict"
    batch: str = "pair"
    has_aux: bool = False
    """Whether the loss gives the outputs beside it."""
    decay: bool = True
    """Whether the base optimizer that it is given has weight decay, which needs the weights."""


class JaxSubject:
    """A JAX training step, driven."""

    form = "jax"

    def __init__(
        self,
        subject: Any,
        problem: Problem,
        hyper: Hyper,
        *,
        way: JaxWay | None = None,
        dtype: str = "float64",
        asked: Collection[str] = SETTINGS,
    ) -> None:
        self.subject, self.problem, self.asked = subject, problem, asked
        self.hyper = hyper
        self.dtype = np.dtype(dtype)
        self.made = makes_a_step(subject)
        self.making = asked_alone(subject, ways_to_call(subject)[0], asked) if self.made else {}
        self.key: Any = None
        self.state: Any = None
        with double():
            self._take_way(way or JaxWay("first"))
            if way is None:
                self.ways = list(self._ways())
                self._take_way(self.ways[0])
            problem.own_loss = not {"loss", "gradient"} & self._roles
            self._start()
            self.base = self._own_base()

    def _take_way(self, way: JaxWay) -> None:
        self.way = way
        self.layout = LAYOUTS[way.layout]
        parts = [self.layout.of(part) for part in self.problem.parts(self.problem.start)]
        self.params = tree_of(
            way.tree, self.problem.names, [jnp.asarray(p, self.dtype) for p in parts]
        )
        self.watched = _watched(way.tree, way.layout, way.has_aux, len(parts))
        self.stepper = self._made(self.hyper)
        calls = ways_to_call(self.stepper.function)
        self.assignment = asked_alone(
            self.stepper.function, calls[min(way.call, len(calls) - 1)], self.asked
        )

    def _ways(self) -> Iterator[JaxWay]:
        """The ways to try, each in both layouts where draws tell them apart."""
        layouts = ("first", "last") if "sigma" in self.asked else ("first",)
        for way in itertools.islice(self._ways_to_call(), MOST_WAYS):
            yield from (way._replace(layout=layout) for layout in layouts)

    def _ways_to_call(self) -> Iterator[JaxWay]:
        calls = range(len(ways_to_call(self.stepper.function)))
        keeps = "state" in self._roles
        starts = list(jax_state.starts(self.stepper, self._tx)) if keeps else [""]
        for call, start in itertools.product(calls, starts):
            for tree, decay, batch, aux in itertools.product(
                ("dict", "pairs"),
                (True, False) if self._takes_tx else (True,),
                ("pair", "dict"),
                (False, True),
            ):
                yield JaxWay("first", call, start, tree, batch, aux, decay)

    # What it is given

    @property
    def _roles(self) -> set[str]:
        return {*self.assignment.values(), *self.making.values()}

    @property
    def by(self) -> str:
        return getattr(self.subject, "__name__", "this step")

    @property
    def missing(self) -> tuple[str, ...]:
        """The settings that it does not take."""
        if "hyper" in self._roles:
            return ()
        given = set(self._roles)
        if self._takes_tx:
            given |= {s for s in BASE_SETTINGS if self.way.decay or s != "weight_decay"}
        return tuple(setting for setting in SETTINGS if setting not in given)

    def settable(self, setting: str) -> bool:
        """Whether a setting can be changed between steps: an object that was made keeps its own."""
        if setting in self.missing:
            return False
        now = set(self.assignment.values())
        if "hyper" in now or setting in now or self.stepper.owner is None:
            return True
        return setting in BASE_SETTINGS and bool(now & {"state", "holder"})

    @property
    def _takes_tx(self) -> bool:
        return bool(self._roles & {"optimizer", "holder"})

    @property
    def _tx(self) -> Any:
        """The base optimizer, where one is taken."""
        return self._sgd if self._takes_tx else None

    @property
    def _sgd(self) -> Any:
        return SGD if self.way.decay else SGD_WITHOUT_DECAY

    def _made(self, hyper: Hyper) -> Stepper:
        """The step, made by the subject where that only makes one."""
        if not self.made:
            return Stepper(self.subject)
        values = self._values(hyper, self.subject, self.making)
        return stepper_of(called(self.subject, self.making, values), self.by)

    def _values(self, hyper: Hyper, function: Any, assignment: Assignment) -> dict[str, Any]:
        """What each role is, for a call of a function."""
        differentiated = jax.grad if self._gradients_alone(assignment) else jax.value_and_grad
        values: dict[str, Any] = {
            **vars(hyper),
            "weights": self.params,
            "optimizer": self._sgd,
            "loss": self.watched.loss,
            "gradient": differentiated(self.watched.loss, has_aux=self.way.has_aux),
            "apply": self.watched.outputs,
            "state": self.state,
            "key": self.key,
        }
        taken = parameters_of(function)
        for name, role in assignment.items():
            if role == "hyper":
                values["hyper"] = config_of(taken[name], function, hyper)
        return values

    @staticmethod
    def _gradients_alone(assignment: Assignment) -> bool:
        name = next((n for n, r in assignment.items() if r == "gradient"), "")
        return gives_gradients_alone(name)

    def _batch(self, number: int) -> dict[str, Any]:
        x, y = self.problem.batch(number)
        inputs, targets = jnp.asarray(x, self.dtype), jnp.asarray(y, np.int32)
        batch: Any = (inputs, targets)
        if self.way.batch == "dict":
            batch = dict.fromkeys(INPUTS, inputs) | dict.fromkeys(TARGETS, targets)
        return {"inputs": inputs, "targets": targets, "batch": batch}

    # At the start

    def _start(self) -> None:
        self.key = jax.random.PRNGKey(0) if "key" in self._roles else None
        self.draws_own_key = False
        known = {
            **vars(self.hyper),
            "weights": self.params,
            "key": jax.random.PRNGKey(1),
            "optimizer": self._tx,
            "hyper": AnyName.of(self.hyper),
        }
        roles = set(self.assignment.values())
        if "state" in roles:
            self.state = jax_state.at_start(self.way.start, self.stepper, self._tx, known)
        if "holder" in roles:
            self.state = self._holder(known)

    def _holder(self, known: dict[str, Any]) -> Any:
        """One object of weights, state and functions, of the class that the step asks for."""
        name = next(n for n, role in self.assignment.items() if role == "holder")
        function = self.stepper.function
        made = jax_state.class_of(parameters_of(function)[name], function)
        state = known["optimizer"].init(self.params)
        values = known | {"state": state, "apply": self.watched.outputs, "number": 0}
        self.fields = {name: jax_state.role_of_field(name) for name in fields_of(made)}
        return made(**{name: values.get(role or "") for name, role in self.fields.items()})

    def _own_base(self) -> JaxBase | None:
        """The transformation that it brings along, where it brings one."""
        own = list(jax_state.transformations(self.stepper).values())
        if self._takes_tx or len(own) != 1:
            return None
        like = self.params
        return JaxBase(
            own[0], lambda w: self.watched.tree(w, like), self.watched.flat, self.problem.start
        )

    # A step

    def weights(self) -> np.ndarray:
        return self.watched.flat(self.params)

    def step(self, number: int, hyper: Hyper, seen: Step) -> None:
        with double(), self.watched.watching(self.problem, number, seen.evaluations):
            self._set(hyper)
            if self.key is not None and not self.draws_own_key:
                self.key = jax.random.fold_in(jax.random.PRNGKey(0), number)
            function = self.stepper.function
            values = self._values(hyper, function, self.assignment) | self._batch(number)
            values |= {"number": number, "holder": self.state}
            result = jax.block_until_ready(called(function, self.assignment, values))
            if not seen.evaluations:
                raise BrokenError(
                    f"step {number + 1} took no gradient of the loss that it was given: the check "
                    "sees gradients of loss_fn or apply_fn only"
                )
            self._take(result, number, seen)
            seen.base = BaseSeen(self.base)

    def _set(self, hyper: Hyper) -> None:
        """What was made with other settings is made anew, unless it is an object."""
        if hyper != self.hyper and self.made and self.stepper.owner is None:
            self.stepper = self._made(hyper)
        if self._takes_tx:
            self.state = with_settings(self.state, hyper)
        self.hyper = hyper

    def _take(self, result: Any, number: int, seen: Step) -> None:
        """Find the weights, the state, the key and the loss among what was returned."""
        items = [result]
        if isinstance(result, dict) and not is_like(result, self.params):
            items = list(result.values())
        elif isinstance(result, tuple) and not is_like(result, self.state):
            items = list(result)
        if "holder" in self.assignment.values():
            self._take_holder(items, number)
            seen.returned = tuple(item for item in items if is_number(item))
            return
        place = next((i for i, item in enumerate(items) if is_like(item, self.params)), None)
        if place is None:
            what = type(result).__name__
            raise BrokenError(
                f"step {number + 1} returned {what} with no tree like the weights; return the "
                "weights, then the state if there is one: params, opt_state, loss"
            )
        self.params = items.pop(place)
        if self.key is not None:
            for i, item in enumerate(items):
                if is_key(item):
                    self.key, self.draws_own_key = items.pop(i), True
                    break
        if "state" in self.assignment.values():
            like = [i for i, item in enumerate(items) if is_like(item, self.state)]
            others = [i for i, item in enumerate(items) if not is_number(item)]
            if like or others:
                self.state = items.pop([*like, *others][0])
        seen.returned = tuple(item for item in items if is_number(item))

    def _take_holder(self, items: list[Any], number: int) -> None:
        held = [item for item in items if type(item) is type(self.state)]
        if not held:
            raise BrokenError(
                f"step {number + 1} returned no {type(self.state).__name__} with its weights"
            )
        self.state = held[0]
        name = next(n for n, role in self.fields.items() if role == "weights")
        self.params = getattr(self.state, name)

    def suits(self, steps: list[Step]) -> bool:
        """Whether its draws do not say that its filters are along the other axis."""
        if self.way.layout == "last" or not steps[0].evaluations:
            return True
        draw = steps[0].evaluations[0].at - steps[0].before
        if not draw.any() or filters_fit(self.problem, steps[0].before, draw, 0):
            return True
        return not filters_fit(self.problem, steps[0].before, draw, -1)

    def resumed(self, hyper: Hyper) -> JaxSubject:
        """Another with copies of all that the step is given."""
        if self.stepper.owner is not None and not {"state", "holder"} & self._roles:
            raise NotSavedError("what an object keeps in itself cannot be saved")
        other = copy.copy(self)
        with double():
            other.params, other.state = copied(self.params), copied(self.state)
        return other


@lru_cache
def _watched(tree: str, layout: str, has_aux: bool, count: int) -> Watched:
    names = Problem().names
    return Watched(tree_of(tree, names, [0.0] * count), LAYOUTS[layout], has_aux=has_aux)


def stepper_of(made: Any, by: str) -> Stepper:
    """The step in what a factory returned: a function, a pair with an init, or an object."""
    if isinstance(made, tuple) and all(callable(item) for item in made):
        steps = [item for item in made if _takes_data(item)]
        others = [item for item in made if not _takes_data(item)]
        if steps:
            return Stepper(steps[0], others[0] if others else None)
    if callable(made) and _takes_data(made) and not _methods(made, STEP_METHODS[:-1]):
        return Stepper(made)
    for method in _methods(made, STEP_METHODS):
        if _takes_data(method):
            inits = _methods(made, jax_state.INITS)
            return Stepper(method, inits[0] if inits else None, made)
    raise BrokenError(
        f"{by} returned {type(made).__name__}, in which there is no step that takes a batch"
    )


def _methods(made: Any, names: Collection[str]) -> list[Any]:
    own = (getattr(made, name, None) for name in names)
    return [method for method in own if callable(method)]


def _takes_data(function: Any) -> bool:
    try:
        roles = {role_in_jax(p) for p in parameters_of(function).values()}
    except (TypeError, ValueError):
        return False
    return bool(roles & {"batch", "inputs"})
