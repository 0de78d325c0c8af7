"""The draw: what R-SAM's D = sigma s z looks like, from q1 - w.

May import: observe. Its findings stand in ``findings.py``, beside the hypotheses in ``judge.py``.
"""
