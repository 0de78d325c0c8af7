#!/usr/bin/env bash
# landscaper 1.3.1 on torch 2.13.0: two "random orthogonal directions" that are one.
#
# One would expect: generate_random_orthogonal_directions gives directions whose dot product is 0 up to
# rounding.
# Behaviour: it takes (a . b) b from a, but b is not of length one, so ||b||^2 times too much is taken.
# What is left is the first direction again, longer, with a little that is new: a plane along the two is
# all but a line. With b / ||b||^2 the two would be orthogonal.
# Output seen: "20 of 20" (pairs whose absolute cosine is above 0.9).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check landscaper==1.3.1
said=$("$folder/venv/bin/python" - <<'PYTHON'
import torch
from landscaper.utils import generate_random_orthogonal_directions


def cosine(seed):
    torch.manual_seed(seed)
    a, b = generate_random_orthogonal_directions(torch.nn.Linear(64, 32), 2)
    a, b = (torch.cat([t.ravel() for t in d]) for d in (a, b))
    return (a @ b / a.norm() / b.norm()).item()


print(sum(abs(cosine(seed)) > 0.9 for seed in range(20)), "of 20")
PYTHON
)
echo "$said"
[ "$said" = "20 of 20" ]
