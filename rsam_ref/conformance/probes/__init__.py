"""The probes: limits, odd inputs, other types, saving. Each asks one question after the main run.

May import: all stages before. Their findings stand in ``findings.py``.
"""
