#!/usr/bin/env bash
# torchzero 0.4.4 on torch 2.13.0: parameter groups that are no dicts.
#
# One would expect: the groups of a torch optimizer are dicts, as torch's own add_param_group insists
# on, so that code which walks them may ask isinstance(group, dict).
# Behaviour: the groups of torchzero's optimizer are collections.ChainMap, a mapping that is no dict.
# Whoever changes settings "in dicts only" leaves them alone without a word.
# Output seen: "ChainMap False True 0.5" (type; a dict? a torch optimizer? lr after group["lr"] = 0.5).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torchzero==0.4.4 scipy==1.17.1
said=$("$folder/venv/bin/python" - <<'PYTHON'
import torch
import torchzero

p = torch.nn.Parameter(torch.ones(2))
optimizer = torchzero.Optimizer([p], torchzero.m.LR(0.1))
group = optimizer.param_groups[0]
group["lr"] = 0.5
print(type(group).__name__, isinstance(group, dict), isinstance(optimizer, torch.optim.Optimizer), group["lr"])
PYTHON
)
echo "$said"
[ "$said" = "ChainMap False True 0.5" ]
