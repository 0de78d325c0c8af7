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
May import: `rsam_backends`, `rsam_ref.algorithms`, and torch; `runs.py` reads those of
`rsam_ref.training`. Imported by: `rsam_ref.commands`, which writes PyTorch's files.
"""

from typing import Any

from rsam_ref.pytorch.optimizers import RSAM, SAM

__all__ = ["RSAM", "SAM", "resume_run"]


def __getattr__(name: str) -> Any:
    """`resume_run` is imported when it is asked for: it needs all that a run does."""
    if name == "resume_run":
        from rsam_ref.pytorch.runs import resume_run

        return resume_run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
