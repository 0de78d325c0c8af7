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
May import: `rsam_backends`, `rsam_ref.algorithms`, and torch. Imported by: nobody here.
"""

from rsam_ref.pytorch.optimizers import RSAM, SAM

__all__ = ["RSAM", "SAM"]
