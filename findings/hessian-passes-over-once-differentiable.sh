#!/usr/bin/env bash
# torch 2.13.0: a Hessian-vector product passes over functions that are marked once_differentiable.
#
# One would expect: a second derivative through such a function is an error, as its documentation says,
# and as loss.backward() twice gives it.
# Behaviour: torch.autograd.grad, and with it torch.autograd.functional.hvp and hessian, take the function's
# gradient for a constant, without a word, since no path from it leads to the weights. For
# sum((2 w)^2 + w^3) at w = 1, where 2 w is such a function, the Hessian is 8 + 6 = 14 on the diagonal;
# they give 6. rsam_ref.pytorch.objective looks for such functions and refuses.
# Output seen: "6 6 True" (hvp's and hessian's values; does a second backward raise).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0
said=$("$folder/venv/bin/python" - <<'PYTHON'
import torch
from torch.autograd.function import once_differentiable


class Twice(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        return 2 * gradient


def loss(w):
    return (Twice.apply(w) ** 2 + w**3).sum()


w = torch.ones(1, requires_grad=True)
product = torch.autograd.functional.hvp(loss, w, torch.ones(1))[1]
hessian = torch.autograd.functional.hessian(loss, w)
(gradient,) = torch.autograd.grad(loss(w), w, create_graph=True)
try:
    gradient.sum().backward()
    raised = False
except RuntimeError as error:
    raised = "once_differentiable" in str(error)
print(f"{product.item():g} {hessian.item():g} {raised}")
PYTHON
)
echo "$said"
[ "$said" = "6 6 True" ]
