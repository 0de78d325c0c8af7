#!/usr/bin/env bash
# torch 2.13.0: copy.deepcopy of an optimizer leaves out what its class has added to it.
#
# One would expect: a deep copy of an optimizer is one that can go on, as that of a module is.
# Behaviour: Optimizer says itself what is copied, and that is defaults, state and param_groups. Whatever
# a subclass keeps in attributes (a radius, a step count, a generator, the base optimizer that a SAM wraps)
# is missing in the copy, which is made without an error and fails later. Pickling does the same.
# Output seen: "True False" (has the optimizer its rho; has the copy?).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0
said=$("$folder/venv/bin/python" - <<'PYTHON'
import copy

import torch


class WithRadius(torch.optim.SGD):
    def __init__(self, params, rho, **options):
        super().__init__(params, **options)
        self.rho = rho


optimizer = WithRadius([torch.nn.Parameter(torch.ones(2))], rho=0.05, lr=0.1)
print(hasattr(optimizer, "rho"), hasattr(copy.deepcopy(optimizer), "rho"))
PYTHON
)
echo "$said"
[ "$said" = "True False" ]
