"""Finding out what an implementation is, and making subjects of it."""

from __future__ import annotations

import importlib.util
import inspect
from typing import Any

from rsam_backends.base import kind_of
from rsam_ref.conformance.observe import names
from rsam_ref.conformance.observe.arguments import (
    has_steps,
    is_required,
    parameters_of,
    role_of,
)
from rsam_ref.conformance.observe.array_maker import ArrayMaker, is_array_step
from rsam_ref.conformance.observe.chosen import chooses_nesterov
from rsam_ref.conformance.observe.frameworks import framework_of
from rsam_ref.conformance.observe.function_form import FunctionSubject
from rsam_ref.conformance.observe.jax_roles import is_jax_step
from rsam_ref.conformance.observe.keras_backend import choose_backend
from rsam_ref.conformance.observe.names import is_called, setting_of
from rsam_ref.conformance.observe.observer import BrokenError
from rsam_ref.conformance.observe.outside import Outside
from rsam_ref.conformance.observe.places import Found
from rsam_ref.conformance.observe.problem import Hyper, Problem
from rsam_ref.conformance.observe.trying import asked_for

FORMS = ("function", "optimizer", "loop", "lightning", "optax", "jax", "keras", "mlx")
OWN_PASSES = ("loop", "lightning")
"""The forms that make both passes themselves."""
WITH_OUTSIDE = ("function", "optimizer", *OWN_PASSES)
"""The forms in which what is kept outside is each run's own."""
EXPLAINED = (
    "give a training step, a class with step(), or a function that makes one "
    "(what each form looks like: docs/check.md, What it takes)"
)


def form_of(subject: Any) -> str:
    """One of `FORMS`, by what it is, what its parameters are and what its module imports."""
    framework = framework_of(subject)
    if framework == "keras" and callable(subject):
        return "keras"
    if framework == "mlx" and callable(subject) and _is_mlx_step(subject):
        return "mlx"
    if framework == "jax" and callable(subject) and is_jax_step(subject):
        return "jax"
    if not inspect.isclass(subject) and _is_transformation(subject):
        return "optax"
    if is_array_step(subject):
        return "function"
    if inspect.isclass(subject):
        if any(parent.__name__ == "LightningModule" for parent in subject.__mro__):
            return "lightning"
        if has_steps(subject):
            return "optimizer"
        raise BrokenError(
            f"{subject.__name__} is a class without step(){_its_methods(subject)}; {EXPLAINED}"
        )
    if not callable(subject):
        raise BrokenError(f"{kind_of(subject)} is not callable; {EXPLAINED}")
    try:
        taken = parameters_of(subject)
    except (TypeError, ValueError):
        return "function"
    required = [name for name, p in taken.items() if is_required(p)]
    roles = {role_of(p) for p in taken.values()}
    if _takes_gradient(required, framework) and "model" not in roles:
        return "function"
    if "model" in roles:
        gives_data = {"batch", "inputs", "loader"} & roles
        return "loop" if gives_data or "loss" in roles or len(required) > 2 else "optimizer"
    if taken and all(setting_of(n) or is_called(n, names.CONFIGS) for n in required or taken):
        return "optax"
    if len(required) <= 2:
        return "optimizer"
    if any(setting_of(name) for name in required[1:3]) or is_called(required[0], names.PARAMS[:5]):
        return "optimizer"
    if len(required) == 4:
        return "function"
    if len(required) >= 5:
        return "loop"
    raise BrokenError(f"cannot tell what a function of ({', '.join(required)}) is; {EXPLAINED}")


def _takes_gradient(required: list[str], framework: str | None) -> bool:
    """Whether a function of the gradient is among what must be given; what is only called grads
    may be arrays of a framework.
    """
    functions = [name for name in required if is_called(name, names.GRADIENTS)]
    arrays = ("grad", "grads", "gradient", "gradients")
    return any(
        framework is None or not is_called(name, arrays) or name in required[:3]
        for name in functions
    )


def _is_mlx_step(subject: Any) -> bool:
    """Whether it is a class, or a function of a model or a base optimizer, and not of arrays."""
    if inspect.isclass(subject):
        return has_steps(subject)
    return bool({role_of(p) for p in parameters_of(subject).values()} & {"model", "optimizer"})


def _its_methods(made: type) -> str:
    """What else a class can do, in words."""
    own = [name for name, value in vars(made).items() if callable(value) and name[0] != "_"]
    return f" (it has {', '.join(own[:6])})" if own else ""


def _is_transformation(subject: Any) -> bool:
    return callable(getattr(subject, "init", None)) and callable(getattr(subject, "update", None))


def _without_keras(error: ImportError) -> str:
    """What is missing: Keras itself, or the framework that it is told to run on."""
    if importlib.util.find_spec("keras") is None:
        return f" ({error}); pip install keras"
    return (
        f", whose backend cannot be loaded ({error}); set KERAS_BACKEND to one that is installed: "
        "torch or jax"
    )


class Maker:
    """Makes a fresh subject as often as one is needed, in the way that was found."""

    def __init__(self, subject: Any, form: str, algorithm: str) -> None:
        if form != "optax" and not callable(subject) and not is_array_step(subject):
            raise BrokenError(f"{kind_of(subject)} is not callable; {EXPLAINED}")
        if hasattr(subject, "no_attribute_of_this_name"):
            raise BrokenError(
                f"{kind_of(subject)} has every attribute that it is asked for, so that nothing "
                "tells what it is: give the function or the class itself"
            )
        self.subject = subject
        self.form = form
        self.algorithm = algorithm
        self.asked = asked_for(algorithm)
        self.way: Any = None
        """How it is driven, once that is known: a `Way`, a loop's `Assignment`."""
        self.found: Found | None = None
        """What was found of its settings by trying."""
        self.single = False
        """Whether it only runs in float32."""
        adaptive = algorithm == "asam"
        self.arrays = ArrayMaker(subject, adaptive=adaptive) if form == "function" else None
        self.outside = Outside(subject) if form in WITH_OUTSIDE else None
        self.fixed: tuple[str, ...] = ()
        """The settings that are only followed where it is made."""
        self.workers: Any = None
        """The processes that take part, where there are several."""

    @property
    def contract(self) -> str | None:
        """The name of the way in which an optimizer is driven."""
        return getattr(self.way, "name", None)

    def __call__(self, problem: Problem, hyper: Hyper, **options: Any) -> Any:
        made = self._made(problem, hyper, **options)
        optimizer = getattr(made, "optimizer", None) if self.form == "optimizer" else None
        problem.nesterov_chosen = chooses_nesterov(self.subject, optimizer)
        return made

    def _made(self, problem: Problem, hyper: Hyper, **options: Any) -> Any:
        if self.single and options.get("dtype", "float64") == "float64":
            options["dtype"] = "float32"
        if self.form in ("function", *OWN_PASSES):
            options.setdefault("asked", self.asked)
        if self.form in WITH_OUTSIDE:
            options.setdefault("outside", self.outside)
        given: dict[str, Any]
        if self.form == "function":
            given = {"way": self.way, "maker": self.arrays, "adaptive": self.algorithm == "asam"}
            return FunctionSubject(self.subject, problem, hyper, **{**given, **options})
        if self.form in ("optax", "jax"):
            return self._in_jax(problem, hyper, options)
        if self.form == "keras":
            return self._in_keras(problem, hyper, options)
        if self.form == "mlx":
            return self._in_mlx(problem, hyper, options)
        try:
            from rsam_ref.conformance.observe.lightning_form import LightningSubject
            from rsam_ref.conformance.observe.loop_form import LoopSubject
            from rsam_ref.conformance.observe.optimizer_form import OptimizerSubject
        except ImportError as error:
            raise BrokenError(
                f"the form {self.form!r} needs PyTorch ({error}); pip install 'rsam-ref[torch]'"
            ) from None
        if self.form == "lightning":
            options = {"fixed": self.fixed, **options}
            return LightningSubject(self.subject, problem, hyper, **options)
        if self.form == "loop":
            given = {"way": self.way, "workers": self.workers, "algorithm": self.algorithm}
            options = {"fixed": self.fixed, **given, **options}
            return LoopSubject(self.subject, problem, hyper, **options)
        given = {
            "adaptive": self.algorithm == "asam",
            "way": self.way,
            "asked": self.asked,
            "found": self.found,
        }
        return OptimizerSubject(self.subject, problem, hyper, **(given | options))

    def _in_keras(self, problem: Problem, hyper: Hyper, options: dict[str, Any]) -> Any:
        choose_backend("keras")
        try:
            from rsam_ref.conformance.observe.keras_form import KerasSubject
        except ImportError as error:
            raise BrokenError(f"the form 'keras' needs Keras 3{_without_keras(error)}") from None
        return KerasSubject(self.subject, problem, hyper, **{"asked": self.asked, **options})

    def _in_mlx(self, problem: Problem, hyper: Hyper, options: dict[str, Any]) -> Any:
        try:
            from rsam_ref.conformance.observe.mlx_form import MlxSubject
        except ImportError as error:
            raise BrokenError(
                f"the form 'mlx' needs MLX ({error}); pip install 'mlx[cpu]'"
            ) from None
        options = {"way": self.way, "asked": self.asked, **options}
        return MlxSubject(self.subject, problem, hyper, **options)

    def _in_jax(self, problem: Problem, hyper: Hyper, options: dict[str, Any]) -> Any:
        options = {"way": self.way, "asked": self.asked, **options}
        try:
            if self.form == "jax":
                from rsam_ref.conformance.observe.jax_form import JaxSubject

                return JaxSubject(self.subject, problem, hyper, **options)
            from rsam_ref.conformance.observe.optax_form import OptaxSubject
        except ImportError as error:
            raise BrokenError(
                f"the form {self.form!r} needs JAX and optax ({error}); pip install optax"
            ) from None
        return OptaxSubject(self.subject, problem, hyper, **options)
