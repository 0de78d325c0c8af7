"""Bayesian SAM: SAM as an approximation of Bayes' rule, with a variance for every weight.

It learns a Gaussian around the weights, of variance 1 / (n s). The first gradient is taken at a
draw from it, the ascent goes far where the weight is uncertain, and the move is divided by s, which
grows with the gradient's square (Adam divides by a root). So it is an optimizer of its own,
momentum and weight decay included.

Implementation details
----------------------
- **Nothing is brought to a length:** eps = rho g0 / s, weight by weight.
- **eps is measured from w,** the mean, not from the draw.
- **The base is plain SGD:** momentum (beta1) and weight decay (delta) are in the rule. What the
  base is given is m / s.
- **s begins as 1, m as 0;** there is no correction for that.
- **n is the number of training samples,** the paper's N; delta is the prior's precision divided by
  it. Neither is taken from the data: give ``n`` in a recipe's options.
- **gamma or delta must be above 0 if beta2 is small:** they alone keep s, a divisor, away from 0.
- **The loss that is told is the one at w + D.**

Other readings
--------------
- **The paper updates s before the weights,** the authors' code after them, with the old s in the
  move. Here it is the code, which the published results come from.
- **On parts of the mini-batch,** each with its own draw, averaged: so in the authors' code. It is
  not here.

References
----------
- Thomas Möllenhoff, Mohammad Emtiyaz Khan. *SAM as an Optimal Relaxation of Bayes.* ICLR 2023.
"""

from __future__ import annotations

from rsam_ref.algorithms.relatives.form import Relative, Setting, State
from rsam_ref.algorithms.sam import LossAndGrad, Trace, Vector
from rsam_ref.algorithms.settings import check_step, plain_numbers


@plain_numbers
def bayesian_sam_gradient(
    loss_and_grad: LossAndGrad,
    w: Vector,
    *,
    state: State,
    z: Vector,
    rho: float,
    n: float = 1000.0,
    delta: float = 0.025,
    gamma: float = 0.1,
    beta1: float = 0.9,
    beta2: float = 0.999,
) -> tuple[Trace, State]:
    """bSAM with the draw z ~ N(0, I); products, squares and roots are taken weight by weight.

    >>> import numpy as np
    >>> w, z = np.array([3.0, 4.0]), np.array([0.0, 0.0])
    >>> bowl = lambda w: (w @ w / 2, w)
    >>> trace, state = bayesian_sam_gradient(bowl, w, state={}, z=z, rho=0.1, delta=0.0)
    >>> print(trace.perturbation.round(3), trace.gradient.round(3))
    [0.3 0.4] [0.33 0.44]
    """
    check_step(rho=rho)
    s, m = state.get("s", 0 * w + 1), state.get("m", 0 * w)
    noise = z / (n * s) ** 0.5  # D ~ N(0, 1 / (n s))
    loss, g0 = loss_and_grad(w + noise)  # g0 = grad L(w + D)
    eps = rho * g0 / s  # eps = rho g0 / s
    adversarial_loss, g = loss_and_grad(w + eps)  # g = grad L(w + eps)
    m = beta1 * m + (1 - beta1) * (g + delta * w)
    new_s = beta2 * s + (1 - beta2) * (s**0.5 * abs(g0) + delta + gamma)
    return Trace(loss, m / s, noise, g0, eps, adversarial_loss), {"s": new_s, "m": m}


BAYESIAN_SAM = Relative(
    name="bayesian-sam",
    title="Bayesian SAM",
    rule=bayesian_sam_gradient,
    update="D = z / sqrt(n s); g0 = grad L(w + D); eps = rho g0 / s; g = grad L(w + eps); "
    "m <- beta1 m + (1 - beta1) (g + delta w); "
    "the base steps with m / s; s <- beta2 s + (1 - beta2) (sqrt(s) |g0| + delta + gamma)",
    gradients="2",
    source="Möllenhoff and Khan, ICLR 2023",
    settings={
        "rho": Setting(0.01, "a step size of the ascent, in units of s"),
        "n": Setting(1000.0, "the number of training samples", above=True),
        "delta": Setting(0.025, "weight decay: the prior's precision / n"),
        "gamma": Setting(0.1, "keeps s away from 0"),
        "beta1": Setting(0.9, "the share of m that is kept", high=1),
        "beta2": Setting(0.999, "the share of s that is kept", high=1),
    },
    needs=("state", "z"),
    keeps="s, m (P,)",
    against_rsam="the draw's variance is learnt, and the draw is no part of the ascent",
    packages="pytorch_optimizer 4.1.0: has it, and does not compute it",
)
