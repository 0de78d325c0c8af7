#!/usr/bin/env bash
# dpctl 0.22.1 with intel-opencl-rt 2026.2.0 (Linux, x86-64): in a virtual environment SYCL has no device.
#
# One would expect: with the wheels of SYCL's runtime and of Intel's OpenCL driver for processors
# installed, the processor is a device, since all libraries lie in the environment.
# Behaviour: dpctl.get_devices() is an empty list, without a word why, and dpnp's first array fails. The
# driver's own etc/OpenCL/vendors/intel-cpu.icd names a folder of the machine that the package was made
# on. With OCL_ICD_FILENAMES set to lib/libintelocl.so the processor is there; but only if it is set
# before devices are first asked for: afterwards the list stays empty.
# Output seen: "0 1 0" (devices as installed; with the variable; with the variable set after asking once).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check dpctl==0.22.1 intel-opencl-rt==2026.2.0 numpy==2.4.6
unset OCL_ICD_FILENAMES
driver="$folder/venv/lib/libintelocl.so"
count='import dpctl; print(len(dpctl.get_devices()))'
late="import os, dpctl; dpctl.get_devices(); os.environ['OCL_ICD_FILENAMES'] = '$driver'; print(len(dpctl.get_devices()))"
python="$folder/venv/bin/python"
said="$("$python" -c "$count") $(OCL_ICD_FILENAMES=$driver "$python" -c "$count") $("$python" -c "$late")"
echo "$said"
[ "$said" = "0 1 0" ]
