"""The base step: which gradient moved the weights, from where, by which rule; and the way back.

May import: observe, hypotheses, ascent. Its findings stand in ``findings.py``.
"""
