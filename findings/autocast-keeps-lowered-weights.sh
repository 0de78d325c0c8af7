#!/bin/sh
# torch 2.13.0: within one block of torch.autocast the network does not see its weights change.
#
# Autocast keeps the lowered copy of every float32 weight until its outermost block ends, so that a
# weight used twice is lowered once. Nothing tells it that the weight was written to in between. SAM
# with both passes in one block takes its second gradient at w: it is the base optimizer, silently.
# float64 is not lowered, so there nothing shows. Each pass in a block of its own, or
# cache_enabled=False, is right.
#
# Needs: pip install torch==2.13.0
python - <<'EOF'
import torch

print("torch", torch.__version__)
for dtype in (torch.float32, torch.float64):
    torch.manual_seed(0)
    layer, x = torch.nn.Linear(6, 3).to(dtype), torch.randn(5, 6, dtype=dtype)
    for cache in (True, False):
        with torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=cache):
            before = layer(x)
            with torch.no_grad():
                layer.weight.add_(1.0)
            after = layer(x)
        with torch.no_grad():
            layer.weight.sub_(1.0)
        moved = float((after - before).abs().max())
        print(f"{str(dtype):14} cache_enabled={cache!s:5} outputs move by {moved:.3g}")
EOF
