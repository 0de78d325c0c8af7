"""Reverse-mode differentiation.

The tape is ``tensor.py``; how a definition becomes an op is ``op.py``; the ops, each with its
derivative beside it, are ``ops.py`` and ``ops_nn.py``.

May import: `rsam_backends`, and nothing else of this package. Imported by: networks and all above.
"""

from rsam_ref.autograd import ops, ops_nn  # they give tensors their operators

__all__ = ["ops", "ops_nn"]
