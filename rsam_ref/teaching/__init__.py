"""One step, told: its quantities in numbers (``step.py``), its stages, its picture, a page to
hand out.

May import: algorithms, nn, training, figures, and the checker's catalogue. Imported by: commands.
"""
