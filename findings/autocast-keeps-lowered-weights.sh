#!/usr/bin/env bash
# torch 2.13.0: within one block of torch.autocast a network does not see its weights change.
#
# One would expect: weights that are written to in place (as SAM's ascent does between its passes) are
# what the next forward pass runs with, whatever it is lowered to.
# Behaviour: autocast keeps the lowered copy of every float32 weight until its outermost block ends, and
# nothing tells it that the weight was written to. With both passes in one block the second gradient is
# taken at w: SAM is the base optimizer, without a word. float64 is not lowered, so there it is right;
# each pass in a block of its own, or cache_enabled=False, is right, too.
# Output seen: "0 True True" (how far the outputs move in one block; do they without the cache, in float64?).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0
said=$("$folder/venv/bin/python" - <<'PYTHON'
import torch


def moved(dtype, cache):
    torch.manual_seed(0)
    layer, x = torch.nn.Linear(6, 3).to(dtype), torch.randn(5, 6, dtype=dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=cache):
        before = layer(x)
        with torch.no_grad():
            layer.weight.add_(1.0)
        return (layer(x) - before).abs().max().item()


print(f"{moved(torch.float32, True):g}", moved(torch.float32, False) > 1, moved(torch.float64, True) > 1)
PYTHON
)
echo "$said"
[ "$said" = "0 True True" ]
