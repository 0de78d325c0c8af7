#!/usr/bin/env bash
# dpnp 0.20.0 (numpy 2.4.6; Intel's OpenCL driver 2026.2.0 for processors): a copy of overlapping windows along one axis has other numbers than the windows.
#
# One would expect: asarray(view, order="C", copy=True) has the numbers of the view, as in NumPy, however its strides
# overlap, and as view + 0 has them.
# Behaviour: of windows of 3 numbers, 2 apart, moved by 2, a view (3, 3) with both strides alike, the copy has others, and
# so have sums over such windows, which copy them first. Windows over two axes, as of most convolutions, are right;
# windows along one axis, as of pooling a signal, are not always. rsam_ref's dpnp backend computes those anew.
# Output seen: "[[0.0, 2.0, 4.0], [2.0, 4.0, 6.0], [4.0, 6.0, 8.0]] view + 0
# False the copy has them" (dpnp on the processor, by the driver of pip's wheels).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check dpnp==0.20.0 intel-opencl-rt==2026.2.0 numpy==2.4.6
# In a virtual environment the driver has to be named, before Python starts.
said=$(OCL_ICD_FILENAMES="$folder/venv/lib/libintelocl.so" "$folder/venv/bin/python" - <<'PYTHON'
import dpnp

x = dpnp.arange(9.0)
step = 2 * x.itemsize
view = dpnp.ndarray((3, 3), dtype=x.dtype, buffer=x, strides=(step, step))
copied = dpnp.asarray(view, order="C", copy=True)
numbers = dpnp.asnumpy(view + 0)
print(numbers.tolist(), "view + 0")
print(bool((dpnp.asnumpy(copied) == numbers).all()), "the copy has them")
PYTHON
)
echo "$said"
[ "$said" = "[[0.0, 2.0, 4.0], [2.0, 4.0, 6.0], [4.0, 6.0, 8.0]] view + 0
False the copy has them" ]
