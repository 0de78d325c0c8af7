#!/usr/bin/env bash
# safetensors 0.8.0 on NumPy 2.4.6: an array that is not in C order comes back with other numbers.
#
# One would expect: safetensors.numpy.save writes the array's elements, or refuses an array that does
# not lie in one run, as safetensors.torch does for a tensor that is not contiguous.
# Behaviour: of an array in Fortran order it writes the bytes as they lie, of a strided one (every
# second column) those of the columns in between as well, until it has enough; shape and type are
# right, and nothing is said. np.ascontiguousarray(array) before saving is the way out. Bytes of the other order
# are turned as they should be.
# Output seen: "[[0.0, 3.0, 1.0], [4.0, 2.0, 5.0]] [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]] True".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 safetensors==0.8.0
said=$("$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
from safetensors.numpy import load, save


def back(array):
    return load(save({"a": array}))["a"].tolist()


a = np.arange(6.0).reshape(2, 3)
strided = np.arange(12.0).reshape(2, 6)[:, ::2]  # [[0, 2, 4], [6, 8, 10]]
print(back(np.asfortranarray(a)), back(strided), back(a.astype(">f8")) == a.tolist())
PYTHON
)
echo "$said"
[ "$said" = "[[0.0, 3.0, 1.0], [4.0, 2.0, 5.0]] [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]] True" ]
