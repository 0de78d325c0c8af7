"""CUDA kernels on the CPU: ``kernels.cu`` compiled as C++ and run thread by thread.

The same source is compiled with a dozen lines of prelude that give CUDA's words a meaning on a CPU.
A kernel without ``__syncthreads`` runs its threads one after another; one with it runs each block
on as many threads of the CPU. Arguments are checked against the kernel's declaration, type by type,
so what would be a silent mess on a GPU is an error here.
"""

from __future__ import annotations

import ctypes
import re
import subprocess
import threading
from pathlib import Path
from typing import Any

import numpy as np

from rsam_backends.cupy_kernels import SOURCE, THREADS, Long, Real
from tests.device.double import COUNTS, DeviceArray

PRELUDE = """
#include <barrier>
#include <cmath>
#include <thread>
#include <vector>
using std::exp; using std::log; using std::sqrt; using std::nan;
struct Dim { unsigned x; };
static thread_local Dim threadIdx;
static Dim blockIdx, blockDim;
static std::barrier<>* block_barrier;
#define __global__
#define __shared__ static
#define __syncthreads() block_barrier->arrive_and_wait()
"""

SERIAL = """
extern "C" void run_{name}(unsigned blocks, unsigned threads, {declared}) {{
  blockDim.x = threads;
  for (blockIdx.x = 0; blockIdx.x < blocks; ++blockIdx.x)
    for (threadIdx.x = 0; threadIdx.x < threads; ++threadIdx.x) {name}({names});
}}
"""

PARALLEL = """
extern "C" void run_{name}(unsigned blocks, unsigned threads, {declared}) {{
  blockDim.x = threads;
  std::barrier<> barrier(threads);
  block_barrier = &barrier;
  for (blockIdx.x = 0; blockIdx.x < blocks; ++blockIdx.x) {{
    std::vector<std::thread> running;
    for (unsigned i = 0; i < threads; ++i)
      running.emplace_back([=] {{ threadIdx.x = i; {name}({names}); }});
    for (auto& thread : running) thread.join();
  }}
}}
"""

KERNEL = re.compile(r'extern "C" __global__ void (\w+)\(([^)]*)\) \{(.*?)\n\}', re.DOTALL)


def declarations() -> dict[str, list[tuple[str, str]]]:
    """Every kernel's arguments as (type, name)."""
    return {
        name: re.findall(r"(?:^|,)\s*([^,]*?)\s*(\w+)\s*(?=,|$)", arguments)
        for name, arguments, _ in KERNEL.findall(SOURCE.read_text())
    }


class Emulator:
    """Compiles the kernels for one type; ``launch`` has the signature that make_kernels wants."""

    def __init__(self, folder: Path) -> None:
        self.declared = declarations()
        self.one_at_a_time = threading.Lock()  # blockIdx and shared memory are there once
        self.libraries = {}
        for dtype, c_type in (("float32", "float"), ("float64", "double")):
            source = PRELUDE + SOURCE.read_text()
            for name, _, body in KERNEL.findall(SOURCE.read_text()):
                shape = PARALLEL if "__syncthreads" in body else SERIAL
                source += shape.format(
                    name=name,
                    declared=", ".join(f"{kind} {n}" for kind, n in self.declared[name]),
                    names=", ".join(n for _, n in self.declared[name]),
                )
            path = folder / f"kernels_{dtype}.cpp"
            path.write_text(source)
            library = path.with_suffix(".so")
            command = [
                "g++",
                "-std=c++20",
                "-O1",
                "-shared",
                "-fPIC",
                "-pthread",
                f"-DREAL={c_type}",
            ]
            subprocess.run([*command, str(path), "-o", str(library)], check=True)
            self.libraries[dtype] = ctypes.CDLL(str(library))

    def launch(self, kernel: str, blocks: int, *arguments: Any) -> None:
        COUNTS.kernels += 1
        dtype = next(a.dtype.name for a in arguments if isinstance(a, (np.ndarray, DeviceArray)))
        declared = self.declared[kernel]
        assert len(arguments) == len(declared), f"{kernel} takes {len(declared)} arguments"
        assert blocks > 0, f"{kernel}: a launch of no blocks is an error on a GPU"
        converted = [
            _convert(f"{kernel}: {name}", kind, value, dtype)
            for (kind, name), value in zip(declared, arguments)
        ]
        run = getattr(self.libraries[dtype], f"run_{kernel}")
        with self.one_at_a_time:
            run(ctypes.c_uint(blocks), ctypes.c_uint(THREADS), *converted)


def _convert(what: str, kind: str, value: Any, dtype: str) -> Any:
    if kind.endswith("*"):
        array = value._hidden if isinstance(value, DeviceArray) else value
        element = kind.removeprefix("const ").rstrip("*")
        expected = {"real": dtype, "int": "int32", "index_t": "int64"}[element]
        assert array.dtype == expected, f"{what} is {array.dtype}, declared {kind}"
        assert array.flags.c_contiguous, f"{what} is not contiguous"
        assert kind.startswith("const") or array.flags.writeable, f"{what} is written to"
        return ctypes.c_void_p(array.ctypes.data)
    assert type(value) is {"index_t": Long, "real": Real, "int": int}[kind], (
        f"{what}: {type(value)}"
    )
    if kind == "real":
        return {"float32": ctypes.c_float, "float64": ctypes.c_double}[dtype](value)
    return {"index_t": ctypes.c_longlong, "int": ctypes.c_int}[kind](value)
