"""How a definition on arrays becomes an op on tensors."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, overload

from rsam_backends import copied_here, xp
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
    *,
    remedy: str = BROADCAST,
    constants: tuple[int, ...] = (),
    alike: tuple[int, int] | None = None,
) -> Callable[[Definition], Callable[..., Tensor]]: ...


def op(
    definition: Definition | None = None,
    *,
    remedy: str = BROADCAST,
    constants: tuple[int, ...] = (),
    alike: tuple[int, int] | None = None,
) -> Callable[..., Any]:
    """Make a definition on arrays, ``f(*arrays, **options) -> (value, vjps)``, an op on tensors.

    Positional arguments are the inputs: tensors, arrays (copied, as constants), Python numbers,
    None for an input left out.
    Keyword arguments are options and have no gradient. A backend's kernel of the same name runs in
    place of the definition, where there is one that does not return NotImplemented.

    ``remedy`` is what to do about inputs that do not fit; ``constants`` are the places of inputs
    that have no gradient (targets, masks): a tensor that requires one there is an error. ``alike``
    are the places of two inputs that `of_one_type` brings to one type.
    """
    if definition is None:
        return functools.partial(op, remedy=remedy, constants=constants, alike=alike)
    name = definition.__name__
    first, second = alike or (0, 0)

    @functools.wraps(definition)
    def apply(*inputs: Any, **options: Any) -> Tensor:
        arrays: list[Any] = []
        parents: list[Node | None] = []
        for x in inputs:
            if isinstance(x, Tensor):
                arrays.append(x._data)
                parents.append(x.node)
            else:
                plain = x is None or isinstance(x, (int, float))
                arrays.append(x if plain else copied_here(x))
                parents.append(None)
        if alike and dtype_of(arrays[first]) is not dtype_of(arrays[second]):
            arrays[first], arrays[second] = of_one_type(arrays[first], arrays[second])
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


def dtype_of(x: Any) -> Any:
    """The type of an array or of a NumPy scalar; None for a Python number."""
    return getattr(x, "dtype", None)


def of_one_type(x: Any, y: Any) -> tuple[Any, Any]:
    """Two inputs of different types, so that what stands beside floats takes their type.

    Whole numbers do, and one number beside many does, as a Python number would: NumPy's own scalars
    and arrays without axes, ``np.float64(2)`` or ``Tensor(0.5)``, would make float32 float64.
    """
    if _is_float(y) and (_is_whole(x) or (_is_float(x) and y.shape and not x.shape)):
        x = _as(x, y.dtype)
    elif _is_float(x) and (_is_whole(y) or (_is_float(y) and x.shape and not y.shape)):
        y = _as(y, x.dtype)
    return x, y


def _is_float(x: Any) -> bool:
    return hasattr(x, "dtype") and xp.isdtype(x.dtype, "real floating")


def _is_whole(x: Any) -> bool:
    return hasattr(x, "dtype") and xp.isdtype(x.dtype, ("integral", "bool"))


def _as(x: Any, dtype: Any) -> Any:
    """``x`` in this type; ``np.float64(2)``, which is Python's float as well, as that."""
    return float(x) if isinstance(x, float) else xp.asarray(x, dtype=dtype)


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
