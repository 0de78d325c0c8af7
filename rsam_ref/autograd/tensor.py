"""The tape: how a computation remembers itself, and how `backward` reads it in reverse.

Every op makes a `Tensor` from tensors. Beside the value it leaves a `Node`: which nodes the value
was computed from, and the op's *vjp* (vector-Jacobian product), the function that turns the
gradient at the op's output into gradients at its inputs. The nodes form a graph that runs from the
loss back to the weights; `Tensor.backward` walks it.

**Why a topological order?** In the diamond ::

        x ──► a = 2x ──► c = a * b
        └───► b = x²  ──────┘

the gradient at ``x`` has two parts, one through ``a`` and one through ``b``. If the walk passed on
from ``x`` after the first part had arrived, the second would be lost, or everything below ``x``
would be walked twice, and twice again at every further diamond. So a node may be passed only when
*all* its consumers have reported. `backward` counts the consumers first and lets a node go when its
count is zero. (With each node it lets go, it also lets go of the arrays that the vjp had saved.)

**Why need nobody zero the inner gradients?** Because they live only as long as the walk: a node's
gradient is taken away as the node is passed. Only leaves, the tensors that the user made, keep
theirs, and add to it on the next backward.

References run one way, from outputs to inputs, and no vjp refers to its own output. So there are no
cycles, and the whole graph is freed the moment the last tensor that holds it goes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, ClassVar

from rsam_backends import copied_here, freeze, xp
from rsam_backends.base import Array
from rsam_backends.switch import in_force
from rsam_ref.autograd.errors import GraphError, ShapeError


class Node:
    """What the tape remembers of one value: the nodes it came from, and the way back to them.

    ``vjps`` is either a tuple of functions, one for each input, or one function that returns a
    tuple (where the inputs' gradients share work). An input that needs no gradient has no node.
    ``op`` is the name of what made the value; a leaf has none.
    """

    __slots__ = ("op", "parents", "vjps")

    def __init__(self, parents: tuple[Node | None, ...], vjps: Any, op: str = "") -> None:
        self.parents = parents
        self.vjps = vjps
        self.op = op

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.op})"


class Leaf(Node):
    """The node of a tensor that the user made: it keeps its gradient.

    ``buffer``, where given, is the place that gradients are written to (a parameter's share of the
    flat gradient vector), the first over what is there, and then it is ``written``; otherwise they
    add up in ``total``.
    """

    __slots__ = ("buffer", "dtype", "total", "written")

    def __init__(self, dtype: Any) -> None:
        super().__init__((), None)
        self.dtype = dtype
        self.buffer: Array | None = None
        self.written = False
        self.total: Array | None = None

    def keep(self, grad: Array) -> None:
        """Take a gradient from `backward`, and add it to those before."""
        if self.buffer is not None:
            if self.written:
                self.buffer += grad
            else:
                self.buffer[...] = grad
            self.written = True
        elif self.total is None:  # a copy: `grad` may have other owners
            self.total = xp.asarray(grad, dtype=self.dtype, copy=True)
        else:
            self.total = xp.asarray(self.total + grad, dtype=self.dtype)


class Tensor:
    """An array and its place in the graph.

    Parameters
    ----------
    data:
        Anything array-like. It is copied, so that nobody else can change it; the tensor's own
        ``data`` is read-only where the backend has such a flag. Whole numbers stay whole.
    requires_grad:
        Whether `backward` shall find the gradient with respect to this tensor.
    dtype:
        Convert to this type; gradients need a floating one.

    >>> from rsam_ref import Tensor
    >>> x = Tensor([1.0, 2.0], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> x.grad.tolist()
    [2.0, 4.0]
    """

    __slots__ = ("_data", "node")
    _data: Array
    node: Node | None
    __array_ufunc__ = None  # an ndarray on the left of an operator leaves the work to us

    def __init__(self, data: Any, requires_grad: bool = False, dtype: Any = None) -> None:
        if isinstance(data, Tensor):
            data = data._data
        self._data = copied_here(data, dtype)
        if requires_grad and not xp.isdtype(self._data.dtype, "real floating"):
            raise TypeError(
                f"only float tensors have gradients, this one is {self._data.dtype}: "
                "give dtype='float32' or 'float64'"
            )
        self.node = Leaf(self._data.dtype) if requires_grad else None

    @classmethod
    def over(cls, data: Array, node: Node | None = None) -> Tensor:
        """A tensor over an array as it is: no copy, so the caller answers for its not changing."""
        tensor = cls.__new__(cls)
        tensor._data = data
        tensor.node = node
        return tensor

    @property
    def data(self) -> Array:
        """The value, read-only: the tape may need it as it is (a backend may lack that flag)."""
        freeze(self._data)
        return self._data

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of every axis; () for a scalar."""
        return self._data.shape

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self._data.ndim

    @property
    def size(self) -> int:
        """The number of elements."""
        return self._data.size

    @property
    def dtype(self) -> Any:
        """The elements' type, as the backend has it."""
        return self._data.dtype

    @property
    def requires_grad(self) -> bool:
        """Whether `backward` goes on to this tensor, or through it."""
        return self.node is not None

    @property
    def grad(self) -> Array | None:
        """The gradient that `backward` left here; None for tensors that are not leaves."""
        return self.node.total if isinstance(self.node, Leaf) else None

    def zero_grad(self) -> None:
        """Forget the gradient, so that the next backward starts from nothing."""
        if isinstance(self.node, Leaf):
            self.node.total = None

    def detach(self) -> Tensor:
        """The same value outside the graph: no gradient passes through it."""
        return Tensor.over(self._data)

    def item(self) -> float:
        """The value of a tensor of one element, as a Python number (waits for the device)."""
        return self._data.item()

    def backward(self, seed: Any = None) -> None:
        """Find the gradient of this tensor with respect to every leaf it was computed from.

        ``seed`` is the gradient of the final result with respect to this tensor; a scalar needs
        none (it is 1). The graph is freed on the way and cannot be walked again.
        """
        if self.node is None:
            raise GraphError(
                "backward: this tensor depends on nothing that requires a gradient; make a leaf "
                "with Tensor(..., requires_grad=True), and compute outside of no_grad()"
            )
        if seed is None:
            if self._data.size != 1:
                raise GraphError(
                    f"backward: a tensor of shape {self.shape} is no scalar; reduce it (.sum(), "
                    ".mean()) or give the gradient at it: backward(seed)"
                )
            seed = xp.ones(self.shape, dtype=self.dtype)
        else:
            seed = xp.asarray(_array(seed), dtype=self.dtype)
            if seed.shape != self.shape:
                raise ShapeError(
                    f"backward: the seed has shape {seed.shape}, the tensor {self.shape}; "
                    "the two must be equal"
                )
        _walk(self.node, seed)

    def __setitem__(self, index: Any, value: Any) -> None:
        raise GraphError(
            "a tensor cannot be changed in place, because the tape may have saved its value for "
            "the backward pass; compute a new one (where, concatenate, pad) instead"
        )

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError("a Tensor is no array; take tensor.data, which is outside of the graph")

    def __len__(self) -> int:
        return len(self._data)

    def __float__(self) -> float:
        return float(self._data)

    # Comparisons give tensors of bools, without a gradient.

    def __lt__(self, other: Any) -> Tensor:
        return Tensor.over(self._data < _array(other))

    def __le__(self, other: Any) -> Tensor:
        return Tensor.over(self._data <= _array(other))

    def __gt__(self, other: Any) -> Tensor:
        return Tensor.over(self._data > _array(other))

    def __ge__(self, other: Any) -> Tensor:
        return Tensor.over(self._data >= _array(other))

    def __eq__(self, other: Any) -> Tensor:  # type: ignore[override]  # as arrays have it
        return Tensor.over(self._data == _array(other))

    def __ne__(self, other: Any) -> Tensor:  # type: ignore[override]
        return Tensor.over(self._data != _array(other))

    def __bool__(self) -> bool:
        return bool(self._data)

    def __repr__(self) -> str:
        tail = ", requires_grad=True" if self.node is not None else ""
        return f"Tensor({self._data!r}{tail})"

    __hash__ = object.__hash__

    # The operators and methods below are ops; ops.py puts them here.
    __array_function__: ClassVar[Callable[..., Any]]
    __add__: ClassVar[Callable[..., Tensor]]
    __radd__: ClassVar[Callable[..., Tensor]]
    __sub__: ClassVar[Callable[..., Tensor]]
    __rsub__: ClassVar[Callable[..., Tensor]]
    __mul__: ClassVar[Callable[..., Tensor]]
    __rmul__: ClassVar[Callable[..., Tensor]]
    __truediv__: ClassVar[Callable[..., Tensor]]
    __rtruediv__: ClassVar[Callable[..., Tensor]]
    __pow__: ClassVar[Callable[..., Tensor]]
    __matmul__: ClassVar[Callable[..., Tensor]]
    __rmatmul__: ClassVar[Callable[..., Tensor]]
    __neg__: ClassVar[Callable[..., Tensor]]
    __getitem__: ClassVar[Callable[..., Tensor]]
    sum: ClassVar[Callable[..., Tensor]]
    mean: ClassVar[Callable[..., Tensor]]
    __rpow__: ClassVar[Callable[..., Tensor]]
    __abs__: ClassVar[Callable[..., Tensor]]
    exp: ClassVar[Callable[..., Tensor]]
    log: ClassVar[Callable[..., Tensor]]
    sqrt: ClassVar[Callable[..., Tensor]]
    tanh: ClassVar[Callable[..., Tensor]]
    max: ClassVar[Callable[..., Tensor]]
    min: ClassVar[Callable[..., Tensor]]
    var: ClassVar[Callable[..., Tensor]]
    reshape: ClassVar[Callable[..., Tensor]]
    transpose: ClassVar[Callable[..., Tensor]]

    @property
    def T(self) -> Tensor:  # noqa: N802 - as arrays have it
        """The tensor with its axes in reverse."""
        return self.transpose()


def _array(x: Any) -> Any:
    return x._data if isinstance(x, Tensor) else x


def _consumers(root: Node) -> dict[Node, int]:
    """The nodes between ``root`` and the leaves, and how many consumers each has among them."""
    counts = {root: 0}
    found = [root]
    while found:
        for parent in found.pop().parents:
            if parent is None:  # an input that needs no gradient
                continue
            if parent in counts:
                counts[parent] += 1
            else:
                counts[parent] = 1
                found.append(parent)
    return counts


def _walk(root: Node, seed: Array) -> None:
    """Carry the gradient from ``root`` to every leaf, each node once, consumers first."""
    waiting = _consumers(root)  # how many consumers of a node have not yet reported
    gradients = {root: seed}  # the sum of what those that have reported
    ready = [root]  # nodes that wait for none
    while ready:
        node = ready.pop()
        gradient = gradients.pop(node)
        if isinstance(node, Leaf):
            node.keep(gradient)
            continue
        parents, vjps = node.parents, node.vjps
        node.parents, node.vjps = (), _freed
        if type(vjps) is tuple:
            shares = [vjp and vjp(gradient) for vjp in vjps]
        else:
            shares = vjps(gradient)
        for parent, share in zip(parents, shares):
            if parent is None:
                continue
            if parent in gradients:
                share = _sum(gradients[parent], share)
            gradients[parent] = share
            if waiting[parent] > 1:
                waiting[parent] -= 1
            else:
                ready.append(parent)
        del gradient, vjps, shares, share  # free what they hold before the next node needs memory


def _sum(x: Array, y: Array) -> Array:
    """x + y, by the backend's kernel where there is one for them."""
    kernel = in_force.kernels.get("add")
    result = NotImplemented if kernel is None else kernel(x, y)
    return x + y if result is NotImplemented else result[0]


def _freed(grad: Array) -> Any:
    raise GraphError(
        "backward: a part of this graph was already walked, and freed on the way; compute the "
        "value again, or add the results up and call backward once on the sum"
    )


class _Tape(threading.local):
    recording = True
    """Whether ops leave nodes, in this thread."""


tape = _Tape()


class no_grad:  # noqa: N801 - used as a block, `with no_grad():`
    """Inside this block ops leave nothing on the tape (evaluation, running statistics).

    >>> from rsam_ref import Tensor, no_grad
    >>> x = Tensor([1.0], requires_grad=True)
    >>> with no_grad():
    ...     (x * x).requires_grad
    False
    """

    def __init__(self) -> None:
        self._before: list[bool] = []

    def __enter__(self) -> None:
        self._before.append(tape.recording)
        tape.recording = False

    def __exit__(self, *error: object) -> None:
        tape.recording = self._before.pop()


def recording() -> bool:
    """Whether ops leave nodes on the tape."""
    return tape.recording
