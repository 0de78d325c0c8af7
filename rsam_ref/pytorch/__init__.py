"""SAM and R-SAM as optimizers of PyTorch, around any of its optimizers: extra ``torch``.

::

    from rsam_ref.pytorch import SAM

    sam = SAM(model, torch.optim.SGD, rho=0.05, lr=0.1, momentum=0.9)

    def closure():
        sam.zero_grad()
        loss = loss_fn(model(x), y)
        loss.backward()
        return loss

    loss = sam.step(closure)

docs/pytorch.md says how to use them with everything else. Start reading at ``optimizers.py``.
``objectives.py`` makes a model's loss a function of one vector, and ``network.py`` measures its
flatness. May import: `rsam_backends`, `rsam_ref.algorithms`, and torch; `runs.py` reads those of
`rsam_ref.training`, `network.py` takes the measures of `rsam_ref.sharpness`. Imported by:
`rsam_ref.commands`, which writes PyTorch's files and measures networks.
"""

from typing import Any

from rsam_ref.pytorch.objectives import Objective, objective
from rsam_ref.pytorch.optimizers import RSAM, SAM

__all__ = ["RSAM", "SAM", "Objective", "flatness", "objective", "resume_run"]


def __getattr__(name: str) -> Any:
    """What needs the rooms of runs and measures is imported when it is asked for."""
    if name == "resume_run":
        from rsam_ref.pytorch.runs import resume_run

        return resume_run
    if name == "flatness":
        from rsam_ref.pytorch.network import flatness

        return flatness
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
