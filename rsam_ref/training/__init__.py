"""Training: the loop, runs in folders that survive anything, trained models, the comparison.

May import: algorithms, nn, models and data. Imported by: sharpness, teaching and commands.
"""

from rsam_ref.training.loop import DivergedError, Epoch, Score, evaluate, train

__all__ = ["DivergedError", "Epoch", "Score", "evaluate", "train"]
