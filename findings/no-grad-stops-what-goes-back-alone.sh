#!/usr/bin/env bash
# torch 2.13.0: torch.func.hessian of a loss with torch.no_grad() in it is not symmetric.
#
# One would expect: what a model computes under no_grad is a constant for every derivative, as detach() makes it,
# so that the Hessian is symmetric and the same by every way, and jvp(v) is the gradient times v.
# Behaviour: no_grad stops what goes back and not what goes forward (detach() stops both). torch.func.hessian goes
# forward over reverse, so it differentiates the gradient through that constant after all: for a layer whose weights
# are divided by their length, held under no_grad, the matrix is far from symmetric, and torch.func.jvp says that
# the loss does not change along w where grad . w says that it does. torch.autograd.functional.hessian, back twice, is
# symmetric. What is made of jvp of grad, products in curvlinops-for-pytorch 3.0.1 among them, has the same.
# rsam_ref.pytorch goes back twice, and forward only where that was seen to be the transpose of going back.
# Output seen: "0.66 0.00 0.00 | 0.00 0.79" (asymmetry by func.hessian, by autograd's, by func.hessian with detach();
# the slope along w by jvp, by grad).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0
said=$("$folder/venv/bin/python" - <<'PYTHON'
import torch

torch.set_default_dtype(torch.float64)
x = torch.tensor([[1.0, 2.0], [0.5, -1.0]])
w = torch.tensor([1.0, 3.0])


def held(w):
    with torch.no_grad():
        length = w.norm()
    return (torch.tanh(x @ (w / length)) ** 2).sum()


def detached(w):
    return (torch.tanh(x @ (w / w.norm().detach())) ** 2).sum()


def asymmetry(h):
    return float((h - h.T).norm() / h.norm())


forward = asymmetry(torch.func.hessian(held)(w))
back = asymmetry(torch.autograd.functional.hessian(held, w))
plain = asymmetry(torch.func.hessian(detached)(w))
along = float(torch.func.jvp(held, (w,), (w,))[1])
slope = float(torch.func.grad(held)(w) @ w)
print(f"{forward:.2f} {back:.2f} {plain:.2f} | {abs(along):.2f} {slope:.2f}")
PYTHON
)
echo "$said"
[ "$said" = "0.66 0.00 0.00 | 0.00 0.79" ]
