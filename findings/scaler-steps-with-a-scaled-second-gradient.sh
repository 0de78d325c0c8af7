#!/usr/bin/env bash
# torch 2.13.0: after unscale_ in the first of two passes, GradScaler steps with the second gradient scaled.
#
# One would expect: scaler.step unscales the gradients that it finds, or says that it cannot.
# Behaviour: the scaler remembers per optimizer that unscale_ was called, until update(). A loop of two
# passes that unscales the first gradient (SAM needs its length) and calls scaler.step after the second
# backward hands over the second gradient as large as the scale makes it, 65,536 times by default, and
# nothing is raised.
# Output seen: "1 1024 -1023" (the first gradient unscaled; the second before the step; w, from 1, after it).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0
said=$("$folder/venv/bin/python" - <<'PYTHON'
import torch

w = torch.nn.Parameter(torch.ones(1))
optimizer = torch.optim.SGD([w], lr=1.0)
scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
scaler.scale(w.sum()).backward()
scaler.unscale_(optimizer)
first = w.grad.item()
optimizer.zero_grad()
scaler.scale(w.sum()).backward()
second = w.grad.item()
scaler.step(optimizer)
print(f"{first:g} {second:g} {w.item():g}")
PYTHON
)
echo "$said"
[ "$said" = "1 1024 -1023" ]
