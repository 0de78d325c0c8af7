"""Implementations of strangers: written from docs/check.md and public code, without sight of the
checker or its tests. `cases.json` says of each what it is and, where it is wrong, what is wrong
and which codes lead a reader there. They are held against the checker by `make strangers`.
"""
