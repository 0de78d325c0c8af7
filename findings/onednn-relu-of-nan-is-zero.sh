#!/usr/bin/env bash
# onednn-cpu-gomp 2023.2.0 (oneDNN 3.2.0): relu of nan is 0, and max pooling passes over nan.
#
# One would expect: as in NumPy and PyTorch, whose convolutions on the CPU are oneDNN's, nan stays nan, so that a
# training that has diverged shows it.
# Behaviour: the eltwise primitive with the algorithm relu gives 0 for nan; the largest of a window of
# (nan, 1, 2, nan) is 2.
# Output seen: "relu [0. 1. 0.] pooling 2.0".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 onednn-cpu-gomp==2023.2.0
said=$("$folder/venv/bin/python" - <<'PYTHON'
import ctypes
import sys
from ctypes import byref, c_float, c_int, c_int64, c_size_t, c_void_p

import numpy as np

dnnl = ctypes.CDLL(f"{sys.prefix}/lib/libdnnl.so.3")
dnnl.dnnl_primitive_desc_query_md.restype = c_void_p
CPU, FLOAT32, FORWARD, IN_ORDER = 1, 3, 64, 1
RELU, LARGEST = 0x20, 0x1FF
SRC, DST, WORKSPACE, ARGUMENT = 1, 17, 64, 255


class Argument(ctypes.Structure):
    _fields_ = [("number", c_int), ("memory", c_void_p)]


def call(name, *arguments):
    made = c_void_p()
    status = getattr(dnnl, name)(byref(made), *arguments)
    assert status == 0, (name, status)
    return made


def dims(*values):
    return (c_int64 * 12)(*values)


def layout(array):
    strides = dims(*(stride // 4 for stride in array.strides))
    create = "dnnl_memory_desc_create_with_strides"
    return call(create, array.ndim, dims(*array.shape), FLOAT32, strides)


engine = call("dnnl_engine_create", CPU, c_size_t(0))
stream = call("dnnl_stream_create", engine, IN_ORDER)


def run(kind, x, y, how, *options):
    create = f"dnnl_{kind}_forward_primitive_desc_create"
    made = call(create, engine, FORWARD, how, layout(x), layout(y), *options, None)
    arrays = {SRC: x, DST: y, WORKSPACE: np.zeros(64, np.int32)}
    arguments = (Argument * 3)()
    for i, (number, array) in enumerate(arrays.items()):
        wanted = c_void_p(dnnl.dnnl_primitive_desc_query_md(made, ARGUMENT, number))
        memory = call("dnnl_memory_create", wanted, engine, c_void_p(array.ctypes.data))
        arguments[i] = Argument(number, memory)
    primitive = call("dnnl_primitive_create", made)
    assert dnnl.dnnl_primitive_execute(primitive, stream, 3, arguments) == 0
    dnnl.dnnl_stream_wait(stream)
    return y


nan = np.nan
x = np.array([nan, 1, -1], np.float32)
relu = run("eltwise", x, np.empty_like(x), RELU, c_float(0), c_float(0))
windows = np.array([nan, 1, 2, nan], np.float32).reshape(1, 1, 2, 2)
two, none = dims(2, 2), dims(0, 0)
largest = run("pooling", windows, np.empty((1, 1, 1, 1), np.float32), LARGEST, two, two, none, none, none)
print("relu", relu, "pooling", largest.item())
PYTHON
)
echo "$said"
[ "$said" = "relu [0. 1. 0.] pooling 2.0" ]
