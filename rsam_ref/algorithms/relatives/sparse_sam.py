"""Sparse SAM: only the weights that matter most are perturbed.

A share of the weights, those with the smallest diagonal Fisher information, is left where it is.
The mask is found anew every ``period`` steps.

Implementation details
----------------------
- **The norm is that of the whole g0,** before the mask: ||eps|| <= rho.
- **The Fisher information is the empirical one:** the sum over the mini-batch's first ``count``
  samples, one by one, with their own labels, of their squared gradients. Batch norm sees one sample
  at a time there.
- **The mask keeps the int(P (1 - sparsity)) largest values of all P weights together,** not of each
  tensor. Weights whose gradients vanish on all these samples are equal; of equals the later ones
  are kept.
- **It is found at w before the ascent** of steps 0, period, 2 period, ..., from samples of that
  step's mini-batch.
- **sparsity = 0 is SAM,** bit for bit. The mask is a checkpoint's state.

Other readings
--------------
- **The authors' code finds the mask after a step,** with weights that start all unperturbed; so its
  first step is the base optimizer's. Its period is counted in epochs. What the step left in the
  gradients is added to that of the first sample.
- **A dynamic mask,** which drops weights by their gradient and grows others at random (SSAM-D). It
  is not here.

References
----------
- Peng Mi, Li Shen, Tianhe Ren, Yiyi Zhou, Xiaoshuai Sun, Rongrong Ji, Dacheng Tao. *Make
  Sharpness-Aware Minimization Stronger: A Sparsified Perturbation Approach.* NeurIPS 2022.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from rsam_backends import xp
from rsam_ref.algorithms.relatives.form import RHO, Relative, Setting, State
from rsam_ref.algorithms.sam import TINY, LossAndGrad, Trace, Vector, norm
from rsam_ref.algorithms.settings import check_step, plain_numbers


@plain_numbers
def sparse_sam_gradient(
    loss_and_grad: LossAndGrad,
    w: Vector,
    *,
    state: State,
    step: int,
    samples: Callable[[int], Iterable[LossAndGrad]],
    rho: float,
    sparsity: float = 0.5,
    period: int = 100,
    count: int = 16,
) -> tuple[Trace, State]:
    """Sparse SAM; ``samples(count)`` gives the loss of so many single samples.

    >>> import numpy as np
    >>> bowl = lambda w: (w @ w / 2, w)
    >>> trace, state = sparse_sam_gradient(
    ...     bowl, np.array([3.0, 4.0]), state={}, step=0, samples=lambda n: [bowl], rho=1.0
    ... )
    >>> print(trace.perturbation.round(3), state["mask"])
    [0.  0.8] [0. 1.]
    """
    check_step(rho=rho)
    mask = state.get("mask")
    if step % period == 0:
        mask = fisher_mask(samples(count), w, sparsity)
    loss, g0 = loss_and_grad(w)  # g0 = grad L(w)
    eps = rho / (norm(g0) + TINY) * (mask * g0)  # eps = rho m g0 / ||g0||
    adversarial_loss, g = loss_and_grad(w + eps)  # g = grad L(w + eps)
    return Trace(loss, g, None, g0, eps, adversarial_loss), {"mask": mask}


def fisher_mask(samples: Iterable[LossAndGrad], w: Vector, sparsity: float) -> Vector:
    """1 for the weights with the largest sum of squared gradients, 0 for the share ``sparsity``."""
    if not 0 <= sparsity < 1:
        raise ValueError(f"sparsity is the share left out and lies in [0, 1), not {sparsity}")
    fisher = xp.zeros_like(w)
    for sample in samples:
        _, g = sample(w)
        fisher += g * g
    mask = xp.ones_like(w)
    order = xp.argsort(fisher, kind="stable")  # of equal ones, the later weights are kept
    mask[order[: w.size - int(w.size * (1 - sparsity))]] = 0
    return mask


SPARSE_SAM = Relative(
    name="sparse-sam",
    title="Sparse SAM",
    rule=sparse_sam_gradient,
    update="eps = rho m g0 / ||g0||, m = 1 where the Fisher information is largest, else 0; "
    "g = grad L(w + eps)",
    gradients="2, and every period steps one for each of some samples",
    source="Mi et al., NeurIPS 2022",
    settings={
        "rho": Setting(0.05, RHO),
        "sparsity": Setting(
            0.5, "the share of the weights that is not perturbed", high=1, below=True
        ),
        "period": Setting(100, "steps from one mask to the next", low=1),
        "count": Setting(16, "samples that the Fisher information is taken from", low=1),
    },
    needs=("state", "step", "samples"),
    keeps="the mask (P,)",
    packages="none",
    is_sam="sparsity = 0",
    against_rsam="no draw; the least important weights are not perturbed",
)
