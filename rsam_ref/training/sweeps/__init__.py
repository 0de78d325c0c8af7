"""`rsam-ref sweep`: runs of one recipe over values of its settings, and seeds.

`varied` reads what is varied, `plan` makes the runs of it, `beforehand` looks whether each can be
begun, `runs` carries one out in its folder, `outcome` tells what came of all of them, `picture`
draws it; `names` says what settings and folders are called.
"""
