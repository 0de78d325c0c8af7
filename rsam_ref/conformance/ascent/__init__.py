"""The ascent: which eps leads from w to where the second gradient is taken.

May import: observe, hypotheses. Its findings stand in ``findings.py``, beside ``judge.py``.
"""
