"""One step, told: in numbers, in stages, as a picture, and as a page to hand out.

May import: algorithms, nn, training, figures, and the checker's catalogue. Imported by: commands.
"""
