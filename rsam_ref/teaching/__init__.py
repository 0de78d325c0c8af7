"""One step, told: in numbers, in stages, as a picture, as a page to hand out or to move.

May import: algorithms, nn, training, figures, and the checker's catalogue. Imported by: commands.
"""
