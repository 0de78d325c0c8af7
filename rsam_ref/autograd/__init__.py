"""Reverse-mode differentiation: the tape (``tensor.py``), how a definition becomes an op
(``op.py``), and the ops, each with its derivative beside it (``ops.py``, ``ops_nn.py``).

May import: `rsam_backends`, and nothing else of this package. Imported by: networks and all above.
"""
