"""LookSAM: SAM every k-th step, and what it found reused in between.

In the steps between, only g0 is taken. What SAM's gradient had across the last g0 changes slowly,
so it is kept, and added to g0 at g0's own length times alpha.

Implementation details
----------------------
- **Steps 0, k, 2k, ... are SAM's.** k = 1 is SAM, bit for bit.
- **Lengths and angles are taken over all weights together,** as the paper has them.
- **What is kept is not brought to a length;** its length is divided out when it is used. Where g
  and g0 point the same way it is rounding alone, and 1e-12 keeps it from being blown up in float64.
- **The last part across g0 is a checkpoint's state:** without it a resumed run goes wrong until the
  next SAM step.

Other readings
--------------
- **Tensor by tensor** (``looksam-by-tensor``): lengths and angles of each tensor alone, as in
  packages. It is another method: the steps in between differ. They add 1e-8 to v's length, which
  shows where g and g0 of a tensor lie on one line, such as the biases of two classes.
- **The step's number read from the base's state,** as a package does: around a base that keeps none
  there, such as SGD, every step is SAM's, and nothing is saved.

References
----------
- Yong Liu, Siqi Mai, Xiangning Chen, Cho-Jui Hsieh, Yang You. *Towards Efficient and Scalable
  Sharpness-Aware Minimization.* CVPR 2022.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rsam_ref.algorithms.relatives.form import RHO, Relative, Setting, State
from rsam_ref.algorithms.sam import TINY, LossAndGrad, Trace, Vector, sam_gradient
from rsam_ref.algorithms.settings import plain_numbers


def dot(a: Vector, b: Vector) -> Any:
    """The inner product over all weights."""
    return a @ b


@plain_numbers
def looksam_gradient(
    loss_and_grad: LossAndGrad,
    w: Vector,
    *,
    state: State,
    step: int,
    rho: float,
    k: int = 5,
    alpha: float = 0.7,
    dot: Callable[[Vector, Vector], Any] = dot,
) -> tuple[Trace, State]:
    """LookSAM's step of number ``step``, counted from 0.

    >>> import numpy as np
    >>> bowl = lambda w: (w[0] ** 2 / 2 + w[1] ** 2, np.array([w[0], 2 * w[1]]))
    >>> w, state = np.array([3.0, 2.0]), {}
    >>> for step in range(2):
    ...     trace, state = looksam_gradient(bowl, w, state=state, step=step, rho=1.0)
    ...     print(trace.gradient.round(3), trace.perturbation is None)
    [3.6 5.6] False
    [0.2 6.1] True
    """
    if step % k == 0:
        trace = sam_gradient(loss_and_grad, w, rho=rho)
        g0, g = trace.ascent_gradient, trace.gradient
        v = g - dot(g, g0) / (dot(g0, g0) + TINY**2) * g0  # what g has across g0
        return trace, {"v": v}
    loss, g0 = loss_and_grad(w)
    v = state["v"]
    ratio = (dot(g0, g0) / (dot(v, v) + TINY**2)) ** 0.5  # ||g0|| / ||v||
    return Trace(loss=loss, ascent_gradient=g0, gradient=g0 + alpha * ratio * v), state


@plain_numbers
def looksam_by_tensor_gradient(
    loss_and_grad: LossAndGrad, w: Vector, *, tensors: Sequence[slice], **how: Any
) -> tuple[Trace, State]:
    """LookSAM as packages have it: ``tensors`` say where in w each tensor lies."""

    def dot(a: Vector, b: Vector) -> Vector:
        products = a * b
        for at in tensors:
            products[at] = products[at].sum()  # every weight has its own tensor's sum
        return products

    return looksam_gradient(loss_and_grad, w, dot=dot, **how)


LOOKSAM = Relative(
    name="looksam",
    title="LookSAM",
    rule=looksam_gradient,
    update="every k-th step SAM; else the base steps with g0 + alpha ||g0|| v / ||v||, "
    "v = g - (g g0 / ||g0||^2) g0 with the last SAM step's g and g0",
    gradients="1 + 1/k",
    source="Liu, Mai, Chen, Hsieh and You, CVPR 2022",
    settings={
        "rho": Setting(0.05, RHO),
        "k": Setting(5, "the period of SAM's steps", low=1),
        "alpha": Setting(0.7, "how much of v is reused, in lengths of g0"),
    },
    needs=("state", "step"),
    keeps="v (P,)",
    is_sam="k = 1",
    against_rsam="no draw; most steps take one gradient and reuse the last ascent",
    packages="none: torchium 0.1.5 has another method under this name",
)

LOOKSAM_BY_TENSOR = Relative(
    name="looksam-by-tensor",
    title="LookSAM, tensor by tensor",
    rule=looksam_by_tensor_gradient,
    update="as LookSAM, lengths and angles of each tensor alone",
    gradients="1 + 1/k",
    source="packages, after Liu, Mai, Chen, Hsieh and You, CVPR 2022",
    packages="pytorch_optimizer 4.1.0: computes it; zij 0.1.1: where the base counts its steps",
    settings={
        "rho": Setting(0.05, RHO),
        "k": Setting(5, "the period of SAM's steps", low=1),
        "alpha": Setting(0.7, "how much of v is reused, in lengths of g0"),
    },
    needs=("state", "step", "tensors"),
    keeps="v (P,)",
    is_sam="k = 1",
    against_rsam="no draw; most steps take one gradient and reuse the last ascent",
)
