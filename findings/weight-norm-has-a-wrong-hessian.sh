#!/usr/bin/env bash
# torch 2.13.0: the second derivative of weight norm is wrong.
#
# One would expect: a Hessian through torch.nn.utils.weight_norm, or parametrizations.weight_norm, is that
# of w = g v / ||v||, or an error.
# Behaviour: value and gradient are right; the Hessian at v is another matrix, not even symmetric, without a
# word: the backward of the backward takes ||v|| for constant. torch.autograd.gradgradcheck says so.
# rsam_ref.pytorch.objective computes w by its definition instead.
# Output seen: "True False False True" (is the gradient that of g v / ||v||; is the Hessian; is it symmetric; is
# that of the definition).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0
said=$("$folder/venv/bin/python" - <<'PYTHON'
import torch
from torch.autograd.functional import hessian, jacobian

torch.manual_seed(0)
v = torch.randn(4, 3, dtype=torch.float64)
g = torch.rand(4, 1, dtype=torch.float64)


def normed(v):
    linear = torch.nn.Linear(3, 4, bias=False, dtype=torch.float64)
    linear = torch.nn.utils.parametrizations.weight_norm(linear)
    parts = {"parametrizations.weight.original0": g, "parametrizations.weight.original1": v}
    return torch.func.functional_call(linear, parts, torch.eye(3, dtype=torch.float64)).pow(3).sum()


def defined(v):
    return (g * v / v.norm(dim=1, keepdim=True)).pow(3).sum()


def symmetric(matrix):
    return torch.allclose(matrix, matrix.T)


found, expected = (hessian(f, v).reshape(12, 12) for f in (normed, defined))
gradients = torch.allclose(jacobian(normed, v), jacobian(defined, v))
print(gradients, torch.allclose(found, expected), symmetric(found), symmetric(expected))
PYTHON
)
echo "$said"
[ "$said" = "True False False True" ]
