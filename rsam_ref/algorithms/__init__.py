"""SAM, R-SAM and their relatives as update rules on flat vectors, and the optimizers around them.

Start with ``sam.py``. May import: `rsam_backends`; ``sam.py`` and ``variants.py`` not even that.
Imported by: everything that trains, measures or teaches.
"""
