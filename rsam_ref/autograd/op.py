"""How a definition on arrays becomes an op on tensors."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, overload

from rsam_backends import xp
from rsam_backends.base import Result
from rsam_backends.switch import in_force
from rsam_ref.autograd.errors import ShapeError
from rsam_ref.autograd.tensor import Node, Tensor, tape

BROADCAST = "axes are matched from the last, and must be equal or 1: reshape one of them"

Definition = Callable[..., Result]


@overload
def op(definition: Definition) -> Callable[..., Tensor]: ...


@overload
def op(
    *, remedy: str = BROADCAST, constants: tuple[int, ...] = ()
) -> Callable[[Definition], Callable[..., Tensor]]: ...


def op(
    definition: Definition | None = None,
    *,
    remedy: str = BROADCAST,
    constants: tuple[int, ...] = (),
) -> Callable[..., Any]:
    """Make a definition on arrays, ``f(*arrays, **options) -> (value, vjps)``, an op on tensors.

    Positional arguments are the inputs: tensors, arrays (copied, as constants), Python numbers,
    None for an input left out.
    Keyword arguments are options and have no gradient. A backend's kernel of the same name runs in
    place of the definition, where there is one that does not return NotImplemented.

    ``remedy`` is what to do about inputs that do not fit; ``constants`` are the places of inputs
    that have no gradient (targets, masks): a tensor that requires one there is an error.
    """
    if definition is None:
        return functools.partial(op, remedy=remedy, constants=constants)
    name = definition.__name__

    @functools.wraps(definition)
    def apply(*inputs: Any, **options: Any) -> Tensor:
        arrays: list[Any] = []
        parents: list[Node | None] = []
        for x in inputs:
            if isinstance(x, Tensor):
                arrays.append(x._data)
                parents.append(x.node)
            else:
                arrays.append(x if x is None or isinstance(x, (int, float)) else xp.array(x))
                parents.append(None)
        try:
            kernel = in_force.kernels.get(name)
            result = NotImplemented if kernel is None else kernel(*arrays, **options)
            if result is NotImplemented:  # no kernel, or none for these arguments
                result = definition(*arrays, **options)
            value, vjps = result
        except (ValueError, IndexError) as error:
            raise _explained(error, name, arrays, options, remedy) from None

        out = new_tensor(Tensor)  # Tensor.over(value, node), without the time of a call
        out._data = value
        out.node = None
        if any(parents) and tape.recording:
            for i in constants:
                if i < len(parents) and parents[i] is not None:
                    raise TypeError(f"{name} has no gradient at input {i + 1}; detach() it")
            if type(vjps) is tuple and (None in parents or len(vjps) > len(parents)):
                # Who needs no gradient needs no vjp, nor the arrays that it had saved.
                vjps = tuple([parent and vjp for parent, vjp in zip(parents, vjps)])
            out.node = Node(tuple(parents), vjps, name)
        return out

    return apply


new_tensor = object.__new__


def _explained(
    error: Exception, name: str, arrays: list[Any], options: dict[str, Any], remedy: str
) -> Exception:
    """The library's complaint, with the op, the shapes, the options and a remedy."""
    if isinstance(error, ShapeError):
        return error
    if not isinstance(error, ValueError):
        return IndexError(f"{name}: {error}")
    shapes = " and ".join(str(getattr(a, "shape", a)) for a in arrays)
    given = "".join(f", {key}={value}" for key, value in options.items())
    return ShapeError(f"{name}: cannot take {shapes}{given} ({error}); {remedy}")
