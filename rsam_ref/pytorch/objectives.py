"""From a torch model, a loss and batches to ``loss_and_grad(w)``, without a change of the model.

The model is looked at through `torch.func.functional_call`: while it runs, other tensors stand in
the place of its parameters and buffers. Its weights, buffers and gradients, the modes of its
layers and torch's generators are the same before and after, bit for bit, after an error too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from rsam_backends import Stream
from rsam_backends.base import kind_of
from rsam_ref.batched import Batched, dealt
from rsam_ref.pytorch.batches import (
    as_batches,
    count_samples,
    each_tensor,
    every,
    joined,
    lengths_in,
)
from rsam_ref.pytorch.derivatives import (
    Activations,
    differentiable_gradient,
    differentiated,
    gradient,
    products,
    twice_differentiable,
)
from rsam_ref.pytorch.interrupts import may_stop, noted_until_done
from rsam_ref.pytorch.layout import Layout
from rsam_ref.pytorch.passes import GeneratorStates, seed_generators

Loss = Callable[[Any, Any], Tensor]
Forward = Callable[[Any, Any], tuple[Any, Any]]
Look = Callable[[Any, Any, Loss, Tensor], Any]
"""What to make of a batch's output, its target, the loss, and the vector that all depends on."""

KEPT = 3 * 2**27
"""Bytes of graphs that are kept between products."""
GRAPH = 3
"""The graph of a gradient, in what the functions of the forward pass return."""


class Objective(Batched):
    """The mean loss of a torch model over the samples of its batches, as a function of w (P,).

    Calling it gives loss and gradient, both detached; `objective` makes one and says how. A loss
    that is not finite is given as it is.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        batches: Any,
        *,
        batch_statistics: bool,
        dtype: torch.dtype | None,
        seed: int,
        forward: Forward | None,
        count: Callable[[Any], int] | None,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise TypeError(f"the model is {kind_of(model)}: give a torch.nn.Module")
        if not callable(loss):
            raise TypeError(f"the loss is {kind_of(loss)}: give a function(output, target)")
        if dtype not in (None, torch.float32, torch.float64):
            raise ValueError(f"dtype is torch.float32 or torch.float64, not {dtype}")
        model = getattr(model, "_orig_mod", model)  # torch.compile's code has no second derivative
        self.batch_statistics = batch_statistics
        Stream("seed", seed)  # a seed that cannot be one is refused here
        self.seed = seed
        self.layout = Layout(model)
        self.shapes = self.layout.shapes
        """The parameters' shapes in their order in w, outputs first."""
        self.names = self.layout.names
        self._cast = dtype
        self.dtype = self.layout.dtype if dtype is None else dtype
        self._model = model
        self._whole = _Whole(model, loss, forward or _call)
        self._devices = {p.device for p in self._whole.parameters()}
        self._count = count or count_samples
        self._take(batches)

    def _read(self, given: Any) -> list[Any]:
        return as_batches(given)

    def _weight(self, batch: Any) -> int:
        return self._count(batch)

    def _samples(self, batch: Any) -> int:
        return count_samples(batch)

    def _dealt(self, count: int) -> list[list[Any]] | None:
        return dealt(self._batches, count, lengths_in, every, joined)

    @property
    def w(self) -> Tensor:
        """The model's weights as they are now, a new vector (P,)."""
        return self.layout.vector(dict(self._model.named_parameters()), self.dtype)

    def vector(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """A model's parameters by their names as a vector like w (P,), as `parameters` has them."""
        return self.layout.vector(parameters, self.dtype)

    def parameters(self, w: Tensor) -> dict[str, Tensor]:
        """The parts of a vector like w (P,) by the parameters' names, as the model has them."""
        return self.layout.tensors(w, own_types=self._cast is None)

    def __call__(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """The loss at w and its gradient, a new vector (P,)."""
        with noted_until_done(), torch.enable_grad():
            loss, slope = self._shared(w, lambda part, leaf: [part.detach(), gradient(part, leaf)])
        return loss, slope

    def loss(self, w: Tensor) -> Tensor:
        """The loss at w."""
        with noted_until_done(), torch.no_grad():
            return self._shared(w, lambda loss, _: [loss])[0]

    def hessian_product(self, w: Tensor, v: Tensor, part: slice | None = None) -> Tensor:
        """The Hessian at w times v (P,), exact to rounding: the gradient of grad L . v.

        A kink counts as smooth, as it does for every gradient: this is the Hessian of the branch
        that the network is on at w. With ``part``, the place of whole parameters in w, it is the
        block of these among themselves, and v is as long as they are; it costs less, since nothing
        below them is differentiated. Raises NotImplementedError where the model has a function
        without a second derivative.
        """
        return self.hessian_products(w, [v], part)[0]

    def hessian_products(
        self, w: Tensor, vectors: Sequence[Tensor], part: slice | None = None
    ) -> list[Tensor]:
        """`hessian_product` with each of several vectors, which share the gradient's graph."""
        size = self.layout.size if part is None else part.stop - part.start
        for v in vectors:
            if v.shape != (size,):
                raise ValueError(f"a vector of shape {tuple(v.shape)}, and of weights ({size},)")
        with noted_until_done(), torch.enable_grad(), twice_differentiable():
            return self._shared(w, lambda loss, leaf: products(loss, leaf, vectors), part)

    def products_at(
        self, w: Tensor, part: slice | None = None
    ) -> Callable[[Sequence[Tensor]], list[Tensor]]:
        """`hessian_products` at one w, again and again, for some 60 % of the cost.

        Between calls the graphs of the batches' gradients are kept, as many as `KEPT` bytes hold.
        """
        return _Kept(self, w, part)

    def _shared(
        self, w: Tensor, then: Callable[[Tensor, Tensor], list[Tensor]], part: slice | None = None
    ) -> list[Tensor]:
        """The sums over batches of what ``then`` makes of a share of the loss and of its vector.

        It is called while the model has these weights: checkpointed layers run again in backward.
        """
        shares = iter(self._shares)

        def look(output: Any, target: Any, loss: Loss, leaf: Tensor) -> list[Tensor]:
            return then(next(shares) * self._checked(loss(output, target)), leaf)

        return self.added_up(w, look, part)

    def _checked(self, value: Any) -> Tensor:
        if isinstance(value, int | float):
            raise ValueError(
                f"the loss is {kind_of(value)} and no tensor, so it has no gradient: "
                "return the tensor, without item() or float()"
            )
        if not isinstance(value, Tensor) or value.ndim > 0 or value.is_complex():
            raise ValueError(f"the loss is {_told(value)}, not one real number: {_REMEDY}")
        return value

    def each(self, w: Tensor, look: Look, part: slice | None = None) -> list[Any]:
        """What ``look`` makes of every batch at w (P,), in the batches' order.

        With ``part`` the vector that all depends on is w[part] alone.
        """
        with self._looked_at():
            return list(self._each(w, look, part))

    def added_up(self, w: Tensor, look: Look, part: slice | None = None) -> list[Tensor]:
        """The sums over batches of the vectors that ``look`` makes of each at w (P,)."""
        with self._looked_at():
            return _summed(self._each(w, look, part))

    def _each(self, w: Tensor, look: Look, part: slice | None) -> Iterator[Any]:
        for i in range(len(self._batches)):
            may_stop()
            yield self._run(w, i, look, part)

    def _run(self, w: Tensor, i: int, look: Look, part: slice | None) -> Any:
        leaf, tensors = self._stand_in(w, part)
        return self._with(tensors, lambda: self._look(i, leaf, look))

    def _look(self, i: int, leaf: Tensor, look: Look) -> Any:
        """What ``look`` makes of a batch while the model has other weights."""
        fresh = each_tensor(self._batches[i], Tensor.clone)  # some models change their inputs
        output, target = self._whole.run(self._whole.model, fresh)
        return look(output, target, self._whole.loss, leaf)

    def _stand_in(self, w: Tensor, part: slice | None) -> tuple[Tensor, dict[str, Tensor]]:
        """A vector to be differentiated by, and all that takes the place of the model's tensors."""
        leaf, parameters = self._leaf(w, part)
        tensors = {f"model.{name}": t for name, t in parameters.items()}
        for name, fixed in [*self._whole.named_parameters(), *self._whole.named_buffers()]:
            if name not in tensors:  # buffers, and what is frozen
                tensors[name] = self._changed(fixed).detach().clone()
        return leaf, tensors

    def _with(self, tensors: dict[str, Tensor], act: Callable[[], Any]) -> Any:
        """What a function returns that is called while these stand in the model's place."""
        try:
            return functional_call(self._whole, tensors, (act,))
        except RuntimeError as error:
            if self._cast is None or "dtype" not in str(error):
                raise
            raise RuntimeError(
                f"the model does not run in {self._cast} ({' '.join(str(error).split())}): it "
                "makes tensors of another precision; give dtype=None (--dtype float32), and no "
                "measure that asks the Hessian"
            ) from error

    def _leaf(self, w: Tensor, part: slice | None) -> tuple[Tensor, dict[str, Tensor]]:
        """A copy of w, or of w[part], to be differentiated by, and the parameters made of it."""
        if not isinstance(w, Tensor) or w.shape != (self.layout.size,):
            raise ValueError(
                f"weights of shape {tuple(getattr(w, 'shape', ()))}, but the model has "
                f"{self.layout.size} in one vector: give one like objective.w"
            )
        back = torch.is_grad_enabled()
        fresh = w.detach() if back else w  # going forward, w has its tangent with it
        own = fresh.to(self.layout.device, self.dtype, copy=part is None)
        leaf = own if part is None else own[part].clone()
        leaf.requires_grad_(back)
        if part is None:
            return leaf, self.parameters(leaf)
        of_part = self.layout.tensors(leaf, own_types=self._cast is None, part=part)
        return leaf, self.parameters(own) | of_part

    def _changed(self, tensor: Tensor) -> Tensor:
        """A tensor in the precision that was asked for."""
        if self._cast is None or not (tensor.is_floating_point() or tensor.is_complex()):
            return tensor
        return tensor.to(self._cast.to_complex() if tensor.is_complex() else self._cast)

    def _placed(self, batch: Any) -> Any:
        """A batch where the model is, in its precision."""
        device = self.layout.device
        alone = len(self._devices) == 1

        def placed(tensor: Tensor) -> Tensor:
            tensor = tensor.detach().to(device) if alone else tensor.detach()
            if tensor.dtype == torch.float64 and self.dtype == torch.float32:
                return tensor.float()  # as NumPy's arrays mostly are
            return self._changed(tensor)

        return each_tensor(batch, placed)

    def _training(self, module: nn.Module) -> bool:
        """Whether a layer is in training mode while it is looked at."""
        return self.batch_statistics

    @contextmanager
    def _looked_at(self) -> Iterator[None]:
        """The model in the mode to measure in; the same draws each time; afterwards as before."""
        with noted_until_done(), self._in_its_mode():
            yield

    @contextmanager
    def _in_its_mode(self) -> Iterator[None]:
        modes = [(module, module.training) for module in self._whole.modules()]
        stood = GeneratorStates(self._devices)
        as_it_is = self.batch_statistics and self._model.training
        sparse = [m for m, _ in modes if getattr(m, "sparse", None) is True]
        try:
            for module in sparse:  # the gradient is one vector
                module.sparse = False  # type: ignore[assignment]
            for module, mode in modes:
                module.training = mode if as_it_is else self._training(module)
            seed_generators(self.seed, self._devices)
            derivatives = torch.is_grad_enabled()
            with torch.inference_mode(False), torch.set_grad_enabled(derivatives):
                yield
        finally:
            for module, mode in modes:
                module.training = mode
            for module in sparse:
                module.sparse = True  # type: ignore[assignment]
            stood.put_back()


class _Whole(nn.Module):
    """A model and its loss on a batch, as one module."""

    def __init__(self, model: nn.Module, loss: Loss, run: Forward) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self.run = run

    def forward(self, act: Callable[[], Any]) -> Any:
        return act()


class _Kept:
    """Products with the Hessian at one w, by gradients whose graphs are kept where they fit."""

    def __init__(self, objective: Objective, w: Tensor, part: slice | None) -> None:
        self.objective, self.w, self.part = objective, w, part
        self.bytes = 0
        self.graphs: dict[int, tuple[Tensor, Tensor, dict[str, Tensor]]] = {}

    def __call__(self, vectors: Sequence[Tensor]) -> list[Tensor]:
        """H v (P,) for each."""
        whole = self.objective
        with (
            noted_until_done(),
            torch.enable_grad(),
            twice_differentiable(),
            whole._looked_at(),
        ):
            return _summed(self._of(i, vectors) for i in range(len(whole._batches)))

    def _of(self, i: int, vectors: Sequence[Tensor]) -> list[Tensor]:
        """The share of one batch."""
        may_stop()
        whole = self.objective
        if i in self.graphs:
            first, leaf, tensors = self.graphs[i]
            return whole._with(tensors, lambda: differentiated(first, leaf, vectors, keep=True))
        leaf, tensors = whole._stand_in(self.w, self.part)

        def made(output: Any, target: Any, loss: Loss, leaf: Tensor) -> list[Tensor]:
            value = whole._shares[i] * whole._checked(loss(output, target))
            first = differentiable_gradient(value, leaf)
            size = GRAPH * activations.bytes
            keep = self.bytes + size <= KEPT
            images = differentiated(first, leaf, vectors, keep=keep)
            if keep:
                self.bytes += size
                self.graphs[i] = first, leaf, tensors
            return images

        with Activations() as activations:
            return whole._with(tensors, lambda: whole._look(i, leaf, made))


def _call(model: nn.Module, batch: Any) -> tuple[Any, Any]:
    """What a batch (x, y) means: x may be a tuple or a dict of the model's arguments."""
    if not isinstance(batch, list | tuple) or len(batch) != 2:
        raise ValueError(
            f"a batch is {_told(batch)}, not a pair (x, y): give forward, a function of model and "
            "batch that returns output and target"
        )
    x, y = batch
    if isinstance(x, dict):
        output = model(**x)
    else:
        output = model(*x) if isinstance(x, list | tuple) else model(x)
    if not isinstance(output, Tensor):
        raise TypeError(
            f"the model's output is {_told(output)}, not a tensor: give forward, a function of "
            "model and batch that returns output and target"
        )
    return output, y


_REMEDY = "give a loss that is the mean over the samples"


def _told(thing: Any) -> str:
    """What something is, in a few words."""
    if isinstance(thing, Tensor):
        kind = "complex tensor" if thing.is_complex() else "tensor"
        return f"a {kind} of shape {tuple(thing.shape)}"
    if isinstance(thing, list | tuple):
        return f"{kind_of(thing)} of {len(thing)}"
    return kind_of(thing)


def _summed(parts: Iterable[list[Tensor]]) -> list[Tensor]:
    """The sums of the batches' vectors, of which no more than one batch's are held at a time."""
    total: list[Tensor] = []
    for part in parts:
        total = [a + b for a, b in zip(total, part)] if total else part
    return total


def objective(
    model: nn.Module,
    loss: Loss,
    batches: Any,
    *,
    batch_statistics: bool = False,
    dtype: torch.dtype | None = None,
    seed: int = 0,
    forward: Forward | None = None,
    count: Callable[[Any], int] | None = None,
) -> Objective:
    """``loss_and_grad`` of a torch model, for `sam_gradient` and every measure of flatness.

    It takes the weights as one vector: ``w`` is a copy of the model's, ``parameters(w)`` has the
    tensors of one by name, and ``vector(dict(model.named_parameters()))`` makes one of them; it is
    `parameters_to_vector` but for transposed convolutions, whose outputs come first. ``loss`` is
    the loss alone, ``hessian_product(w, v)`` exact, ``shapes`` what `filter_noise` asks for. The
    model stays as it is, bit for bit, and so do torch's generators. Python attributes that its own
    forward sets are its own affair.

    Parameters
    ----------
    model:
        its parameters that require a gradient are w; the others stay what they are.
    loss:
        a function of output and target that gives the mean over the batch.
    batches:
        a batch (x, y), a list of them, or a loader, which is gone through once and kept. x is what
        the model is called with; a tuple or a dict holds several arguments. Batches count by their
        samples, so the loss is the mean over all of them.
    batch_statistics:
        False: evaluation mode. True: the training loss of each batch, with batch norm's statistics
        of the batch and dropout's masks, the same in every call; a model in training mode keeps
        the modes of its layers, such as a frozen batch norm.
    dtype:
        torch.float64 or torch.float32: compute in it; by default in the model's own.
    seed:
        of all that the model draws.
    forward:
        a function of model and batch that returns output and target, for batches and models of
        other forms.
    count:
        a function of a batch: how many samples, or tokens, its mean is over; by default the length
        of its last tensor.

    Raises ValueError and TypeError, with one line, for a model without weights, a batch without
    samples, an output or a loss of another kind.

    >>> import torch
    >>> model = torch.nn.Linear(2, 3)
    >>> x, y = torch.ones(4, 2), torch.tensor([0, 1, 2, 0])
    >>> loss_and_grad = objective(model, torch.nn.functional.cross_entropy, (x, y))
    >>> loss, gradient = loss_and_grad(loss_and_grad.w)
    >>> loss.shape, gradient.shape
    (torch.Size([]), torch.Size([9]))
    """
    return Objective(
        model,
        loss,
        batches,
        batch_statistics=batch_statistics,
        dtype=dtype,
        seed=seed,
        forward=forward,
        count=count,
    )
