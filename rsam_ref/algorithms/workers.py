"""Each worker climbs by itself: only the gradients found at the top are averaged (m-sharpness).

SAM on many workers is published in two meanings. Synchronised, the first gradient is the whole
mini-batch's, and the step is that of one process. Here, per worker, the first gradient is each
worker's own, and R-SAM's draw too. So a step has one exchange less, and it is another algorithm:
each perturbation follows fewer samples. The public R-SAM code and google-research/sam do this.
"""

from __future__ import annotations

from rsam_backends.base import Array
from rsam_ref.algorithms.optimizer import Optimizer
from rsam_ref.algorithms.optimizers import Wrapper
from rsam_ref.algorithms.sam import LossAndGrad, Trace


class PerWorker(Wrapper):
    """SAM, R-SAM or noise only, with an ascent of its own on every worker's part of a mini-batch.

    What it steps on must know the workers (``of_workers``, as `rsam_ref.nn.workers.Workers` does).
    The trace has the means: the losses, and the gradient that moves w. Draws, first gradients and
    perturbations are each worker's own, and are not in it.
    """

    def __init__(self, base: Optimizer) -> None:
        """``base`` finds each worker's gradient, and moves w by their mean."""
        self.base = base

    def find(self, loss_and_grad: LossAndGrad, w: Array) -> Trace:
        """The mean of what the base finds on every worker."""
        of_workers = getattr(loss_and_grad, "of_workers", None)
        if of_workers is None:
            raise TypeError(
                "PerWorker asks what it steps on for its workers, and this "
                f"{type(loss_and_grad).__name__} has none: give a Workers (in a recipe: "
                'perturbation = "worker")'
            )
        losses = "loss", "adversarial_loss"

        def worker(number: int, own: LossAndGrad) -> tuple[list[Array], list[Array]]:
            trace = self.base.of_worker(number).find(own, w)
            moves = [v for v in (trace.noise, trace.perturbation) if v is not None]
            found = [trace.gradient, *(getattr(trace, name) for name in losses)]
            return [v for v in found if v is not None], moves

        gradient, *found = of_workers(worker)
        return Trace(gradient=gradient, **dict(zip(losses, found)))
