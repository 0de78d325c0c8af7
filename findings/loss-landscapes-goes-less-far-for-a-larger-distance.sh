#!/usr/bin/env bash
# loss-landscapes 3.0.6 on torch 2.13.0: a larger distance is a shorter way.
#
# One would expect: with distance, "maximum distance in parameter space from the start point", ten times
# as large, random_line goes ten times as far.
# Behaviour: the direction is scaled to ||w|| / distance, so it goes a tenth as far. The default of 0.1
# ends at ten times the length of the weights, and distance=10 at a tenth.
# Output seen: "10.00 0.10" (how far from w it ends, in lengths of w, for distance 0.1 and 10).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check loss-landscapes==3.0.6
said=$("$folder/venv/bin/python" - <<'PYTHON'
import loss_landscapes
import torch


def reach(distance):
    torch.manual_seed(0)
    model = torch.nn.Linear(8, 4, bias=False)
    start = model.weight.detach().clone()

    def moved(wrapper):
        return ((model.weight - start).norm() / start.norm()).item()

    return loss_landscapes.random_line(model, moved, distance=distance, steps=10)[-1]


print(f"{reach(0.1):.2f} {reach(10):.2f}")
PYTHON
)
echo "$said"
[ "$said" = "10.00 0.10" ]
