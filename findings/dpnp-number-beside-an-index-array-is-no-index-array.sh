#!/usr/bin/env bash
# dpnp 0.20.0 (numpy 2.4.6; Intel's OpenCL driver 2026.2.0 for processors): x[1, :, index] has its axes in
# another order than NumPy's.
#
# One would expect: dpnp follows NumPy's rules of indexing, by which a number beside an index array is an
# index array too; the two are parted by a slice, so what they make comes first.
# Behaviour: dpnp takes the number for itself, without a word, and what the array makes stays where the
# array stands. The same numbers come out transposed. Where both are arrays, x[one, :, index], it is an
# IndexError, so only the form with a number goes on with other axes.
# Output seen: "(3, 5) (5, 3) True IndexError" (NumPy's shape; dpnp's; equal when transposed; two arrays).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check dpnp==0.20.0 intel-opencl-rt==2026.2.0 numpy==2.4.6
# In a virtual environment the driver has to be named, before Python starts.
said=$(OCL_ICD_FILENAMES="$folder/venv/lib/libintelocl.so" "$folder/venv/bin/python" - <<'PYTHON'
import dpnp
import numpy as np

x, index = np.arange(4 * 5 * 6).reshape(4, 5, 6), np.array([0, 2, 4])
expected = x[1, :, index]
device, places = dpnp.asarray(x), dpnp.asarray(index)
found = dpnp.asnumpy(device[1, :, places])
try:
    refused = device[places, :, places].shape
except IndexError as error:
    refused = type(error).__name__
print(expected.shape, found.shape, np.array_equal(found.T, expected), refused)
PYTHON
)
echo "$said"
[ "$said" = "(3, 5) (5, 3) True IndexError" ]
