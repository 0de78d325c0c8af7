"""Finding out what an implementation is, and making subjects of it."""

from __future__ import annotations

import inspect
from typing import Any

from rsam_ref.conformance.observe.function_form import FunctionSubject
from rsam_ref.conformance.observe.observer import BrokenError
from rsam_ref.conformance.observe.problem import Hyper, Problem

FORMS = ("function", "optimizer", "loop")
EXPLAINED = (
    "function: train_step(weights, loss_and_grad, state, hyper) -> (weights, state); "
    "optimizer: a torch optimizer class, or make(params, hyper) that returns one; "
    "loop: train_step(model, optimizer, loss_fn, batch, hyper)"
)


def form_of(subject: Any) -> str:
    """ "function", "optimizer" or "loop", by what it is and what its parameters are called."""
    if inspect.isclass(subject):
        if any(hasattr(subject, name) for name in ("step", "first_step", "ascent_step")):
            return "optimizer"
        raise BrokenError(f"{subject.__name__} is a class without step(). {EXPLAINED}")
    if not callable(subject):
        raise BrokenError(f"a {type(subject).__name__} is not callable. {EXPLAINED}")
    try:
        taken = inspect.signature(subject).parameters.values()
    except (TypeError, ValueError):
        return "function"
    kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    names = [p.name for p in taken if p.default is p.empty and p.kind not in kinds]
    if any(name in ("model", "net", "module", "network") for name in names[:1]):
        return "loop"
    if len(names) <= 2:
        return "optimizer"
    if len(names) == 4:
        return "function"
    if len(names) >= 5:
        return "loop"
    raise BrokenError(f"cannot tell what a function of ({', '.join(names)}) is. {EXPLAINED}")


class Maker:
    """Makes a fresh subject as often as one is needed."""

    def __init__(self, subject: Any, form: str, algorithm: str) -> None:
        if not callable(subject):
            raise BrokenError(f"a {type(subject).__name__} is not callable. {EXPLAINED}")
        self.subject = subject
        self.form = form
        self.algorithm = algorithm
        self.contract: str | None = None

    def __call__(self, problem: Problem, hyper: Hyper, **options: Any) -> Any:
        if self.form == "function":
            return FunctionSubject(self.subject, problem, hyper, **options)
        try:
            from rsam_ref.conformance.observe import torch_forms
        except ImportError as error:
            raise BrokenError(
                f"the form {self.form!r} needs PyTorch ({error}); pip install 'rsam-ref[torch]'"
            ) from None
        if self.form == "loop":
            return torch_forms.LoopSubject(self.subject, problem, hyper, **options)
        return torch_forms.OptimizerSubject(
            self.subject,
            problem,
            hyper,
            adaptive=self.algorithm == "asam",
            contract=self.contract,
            **options,
        )
