"""Observe: what an implementation is, how it is driven, where it evaluates and where it lands.

May import: autograd and nn (the problem's network). Imported by: every later stage.
"""
