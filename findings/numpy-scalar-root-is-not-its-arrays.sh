#!/usr/bin/env bash
# numpy 2.4.6: x ** 0.5 has other bits for a scalar than for an array that holds it.
#
# One would expect: np.float64(2921) ** 0.5 and np.array([2921.0]) ** 0.5 are the same number.
# Behaviour: of an array the power 0.5 is np.sqrt, which is rounded correctly; of a scalar (which is also
# what v @ v gives) it is the C library's pow, which is one unit in the last place off for about one number
# in a thousand, and for others on other systems. So (v @ v) ** 0.5 is not np.linalg.norm to the bit.
# Output seen: "False True 173" (is it the root for the scalar? in the array? scalars of 200000 for which not).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6
said=$("$folder/venv/bin/python" - <<'PYTHON'
import numpy as np

x = np.float64(2921)
drawn = np.random.default_rng(0).random(200_000) * 10
off = sum(each**0.5 != np.sqrt(each) for each in drawn)
print(x**0.5 == np.sqrt(x), (np.array([x]) ** 0.5)[0] == np.sqrt(x), off)
PYTHON
)
echo "$said"
[ "${said% *}" = "False True" ]
