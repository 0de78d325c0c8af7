"""A Keras model with a training step of its own, driven by ``fit`` on one mini-batch at a time.

It is a subclass of `keras.Model` or a function that makes one. What it is made of, by the names of
its parameters: a model to wrap, or ``inputs`` and ``outputs``; settings. It is compiled here unless
it comes compiled, with SGD, and runs eagerly. Keras' backend is PyTorch or JAX.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from rsam_ref.conformance.observe import names
from rsam_ref.conformance.observe.arguments import (
    Assignment,
    asked_alone,
    called,
    config_of,
    parameters_of,
    takes_more,
    takes_rest,
)
from rsam_ref.conformance.observe.base import BaseSeen
from rsam_ref.conformance.observe.keras_base import KerasBase
from rsam_ref.conformance.observe.keras_network import Network, through
from rsam_ref.conformance.observe.layouts import OUT_LAST
from rsam_ref.conformance.observe.names import SETTINGS, setting_of
from rsam_ref.conformance.observe.observer import MOST_EVALUATIONS, BrokenError, Evaluation, Step
from rsam_ref.conformance.observe.problem import CHANNELS, CLASSES, SIZE, Hyper, Problem
from rsam_ref.conformance.observe.samples import samples_of

ROLES = {
    "model": [*names.MODELS, "base_model", "backbone", "inner_model", "inner", "base"],
    "inputs": ("inputs",),
    "outputs": ("outputs",),
    "hyper": names.CONFIGS,
    "optimizer": names.BASES,
    "loss": names.LOSSES,
}
WRITTEN = ("rho", "sigma", "lam")
"""Settings that are changed between steps, where the model has them as numbers."""


class Net(keras.layers.Layer):
    """The problem's network on inputs (n, 2, 6, 6), in one layer; weights in Keras' layout."""

    def __init__(self, problem: Problem, network: Network) -> None:
        super().__init__()
        self.network = network
        for part, name in zip(problem.parts(problem.start), problem.names):
            self.add_weight(shape=OUT_LAST.of(part).shape, name=name.replace(".", "_"))

    def call(self, x: Any) -> Any:
        return through(self.network, [v.value for v in self.trainable_variables], x)

    def compute_output_spec(self, x: Any) -> Any:
        return keras.KerasTensor((x.shape[0], CLASSES), dtype=self.compute_dtype)


class KerasSubject:
    """A Keras model, driven."""

    form = "keras"

    def __init__(
        self,
        make: Any,
        problem: Problem,
        hyper: Hyper,
        *,
        dtype: str = "float64",
        asked: Collection[str] = SETTINGS,
    ) -> None:
        self.make, self.problem, self.asked, self.dtype = make, problem, asked, dtype
        self.number = 0
        self.seen: list[Evaluation] = []
        self.assignment = asked_alone(make, _assignment(make), asked)
        with _floats(dtype):
            self.net = Net(problem, Network(self._outputs, self._gradients))
            self.model = self._made(hyper)
            parts = problem.parts(problem.start)
            self.net.set_weights([OUT_LAST.of(part) for part in parts])
        self.base = self._own_base()

    def _made(self, hyper: Hyper) -> Any:
        hyper = hyper.but(weight_decay=0.0)
        inputs = keras.Input((CHANNELS, SIZE, SIZE), dtype=self.dtype)
        outputs = self.net(inputs)
        values: dict[str, Any] = {
            **vars(hyper),
            "inputs": inputs,
            "outputs": outputs,
            "model": keras.Model(inputs, outputs),
            "optimizer": keras.optimizers.SGD(hyper.lr, hyper.momentum),
            "loss": self._loss,
        }
        taken = inspect.signature(self.make).parameters
        for name, role in self.assignment.items():
            if role == "hyper":
                values["hyper"] = config_of(taken[name], self.make, hyper)
        by_name = {n: r for n, r in self.assignment.items() if n in taken}
        more = {n: values[r] for n, r in self.assignment.items() if n not in taken}
        model = called(self.make, by_name, values, more=more)
        if not isinstance(model, keras.Model):
            raise BrokenError(f"{self.by} returned {type(model).__name__}, and no keras.Model")
        self.problem.own_loss = bool(model.compiled)
        if not model.compiled:
            model.compile(optimizer=values["optimizer"], loss=self._loss, run_eagerly=True)
        model.run_eagerly = True
        return model

    def _own_base(self) -> KerasBase | None:
        """The optimizer that the model came with, where it came with one."""
        if not self.problem.own_loss:
            return None

        def parts(flat: np.ndarray) -> list[np.ndarray]:
            return [OUT_LAST.of(part) for part in self.problem.parts(flat)]

        return KerasBase(self.model.optimizer, parts, self._flat, lambda: _floats(self.dtype))

    @property
    def by(self) -> str:
        return getattr(self.make, "__name__", "this model")

    @property
    def missing(self) -> tuple[str, ...]:
        """The settings that it does not take. Keras' SGD decays weights apart from the gradient, so
        nothing is given a weight decay.
        """
        given = {*self.assignment.values(), *self._numbers()}
        if "hyper" in given:
            given |= set(SETTINGS)
        elif not self.problem.own_loss:
            given |= {"lr", "momentum"}
        return tuple(s for s in SETTINGS if s not in given or s == "weight_decay")

    def settable(self, setting: str) -> bool:
        """Whether a setting can be changed between steps. Keras' velocity holds the learning rate,
        so that stays as it is.
        """
        return setting in self._numbers()

    def _numbers(self) -> dict[str, str]:
        """The model's attributes that are settings, by setting."""
        own = {n: v for n, v in vars(self.model).items() if isinstance(v, int | float)}
        found = {setting_of(name): name for name in own if not isinstance(own[name], bool)}
        return {s: name for s, name in found.items() if s in WRITTEN and s in self.asked}

    def weights(self) -> np.ndarray:
        return self._flat(self.net.get_weights())

    def step(self, number: int, hyper: Hyper, seen: Step) -> None:
        self.number, self.seen = number, seen.evaluations
        for setting, name in self._numbers().items():
            setattr(self.model, name, getattr(hyper, setting))
        x, y = self.problem.batch(number)
        with _floats(self.dtype):
            # Not train_on_batch: that gives train_step a third item, sample weights, which is None.
            given = x.astype(self.dtype), y
            told = self.model.fit(*given, batch_size=len(y), shuffle=False, verbose=0)
        seen.base = BaseSeen(self.base)
        seen.returned = [values[-1] for values in told.history.values()]
        if not seen.evaluations:
            raise BrokenError(
                f"step {number + 1} took no gradient through the model that it was given: the "
                "check sees gradients of that one only"
            )

    def _outputs(self, weights: list[Any], x: Any) -> np.ndarray:
        return self.problem.outputs(self._flat(weights), np.asarray(x, float))

    def _gradients(self, weights: list[Any], x: Any, seed: Any) -> list[np.ndarray]:
        if len(self.seen) >= MOST_EVALUATIONS:
            raise BrokenError(f"step {self.number + 1} took more than {MOST_EVALUATIONS} gradients")
        w, x = self._flat(weights), np.asarray(x, float)
        self.seen.append(Evaluation(w, *samples_of(self.problem, x, self.number)))
        gradient = self.problem.outputs_vjp(w, x, np.asarray(seed, float))
        return [OUT_LAST.of(part) for part in self.problem.parts(gradient)]

    def _flat(self, weights: list[Any]) -> np.ndarray:
        return self.problem.flat([OUT_LAST.back(np.asarray(w, float)) for w in weights])

    def _loss(self, y_true: Any, y_pred: Any) -> Any:
        every = keras.ops.cast(keras.ops.reshape(y_true, (-1,)), "int32")
        losses = keras.losses.sparse_categorical_crossentropy(every, y_pred, from_logits=True)
        return self.problem.scale_at(self.number) * losses

    def resumed(self, hyper: Hyper) -> KerasSubject:
        """Another, with the variables of the model and of its optimizer, as a file holds them."""
        other = KerasSubject(self.make, self.problem, hyper, dtype=self.dtype, asked=self.asked)
        with _floats(self.dtype):
            other.model.set_weights(copy.deepcopy(self.model.get_weights()))
            other.model.optimizer.build(other.model.trainable_variables)
            for to, value in zip(other.model.optimizer.variables, self.model.optimizer.variables):
                to.assign(value)
        return other


def _assignment(make: Any) -> Assignment:
    """What each parameter of a class or function is for."""
    found: Assignment = {}
    free = takes_more(make) or takes_rest(make)
    for name in parameters_of(make):
        role = next((r for r, known in ROLES.items() if names.is_called(name, known)), None)
        role = role or setting_of(name)
        if role is not None and role not in found.values():
            found[name] = role
    if free and not {"model", "inputs"} & set(found.values()):
        return found | {"inputs": "inputs", "outputs": "outputs"}
    return found


@contextmanager
def _floats(dtype: str) -> Iterator[None]:
    """Inside, Keras makes variables of this type, and JAX below it computes in it."""
    before = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx(dtype)
    keras.config.set_dtype_policy(dtype)
    try:
        if keras.backend.backend() == "jax":
            from rsam_ref.conformance.observe.jax_types import double

            with double():
                yield
        else:
            yield
    finally:
        keras.config.set_floatx(before[0])
        keras.config.set_dtype_policy(before[1])
