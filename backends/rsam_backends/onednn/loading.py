"""Finding oneDNN and loading it: what its C API needs before anything can be computed.

oneDNN (the oneAPI Deep Neural Network Library, also DNNL) is to CPUs what cuDNN is to GPUs. It is
looked for under the path in RSAM_REF_ONEDNN, then where the system's loader looks, then in this
Python's environment (conda's, or a wheel of PyPI). A library that somebody named is first loaded in
another process: one that is damaged takes its process along.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from ctypes import POINTER, Structure, byref, c_char_p, c_int, c_size_t, c_uint, c_void_p
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from rsam_backends.base import BackendError
from rsam_backends.processes import end_of, in_another_process
from rsam_backends.threads import threads

ENVIRONMENT = "RSAM_REF_ONEDNN"
REMEDY = "pip install 'rsam-ref[onednn]', or name a libdnnl of version 3 in " + ENVIRONMENT
NAMED = f"unset {ENVIRONMENT}, or let it name a libdnnl of version 3"
LOAD = "import sys; from rsam_backends.onednn.loading import try_to_load; try_to_load(sys.argv[1])"
FILE = {"darwin": "libdnnl.3.dylib", "win32": "dnnl.dll"}.get(sys.platform, "libdnnl.so.3")
WHEELS = ("onednn-cpu-gomp", "onednn-cpu-tbb", "onednn-cpu-iomp", "onednn")
OPENCL = "libintelocl.so"
"""The driver without which the wheel ``onednn``, built on SYCL, finds no processor."""

RUNTIMES = {1: "no threads", 2: "OpenMP", 4: "TBB", 8: "a thread pool", 512: "SYCL"}
OWN_THREADS = (4, 512)
"""Runtimes whose number of threads cannot be set from here."""

INSTRUCTIONS = {
    0x1: "SSE4.1",
    0x3: "AVX",
    0x7: "AVX2",
    0xF: "AVX2 VNNI",
    0x1F: "AVX2 VNNI 2",
    0x27: "AVX-512",
    0x67: "AVX-512 VNNI",
    0xE7: "AVX-512 BF16",
    0x1EF: "AVX-512 FP16",
    0xFEF: "AMX",
    0x1FEF: "AMX FP16",
}
SUCCESS, UNIMPLEMENTED = 0, 3
STATUS = {1: "out of memory", 2: "invalid arguments", UNIMPLEMENTED: "unimplemented"}
CPU = 1
FUNCTIONS = (
    *("engine_create", "stream_create", "stream_wait", "get_effective_cpu_isa"),
    *("memory_create", "memory_destroy", "memory_set_data_handle", "memory_desc_get_size"),
    *("memory_desc_create_with_tag", "memory_desc_create_with_strides", "memory_desc_destroy"),
    *("primitive_create", "primitive_destroy", "primitive_execute"),
    *("primitive_desc_query_md", "primitive_desc_destroy", "primitive_attr_create"),
)
"""Some that every oneDNN of version 3 has, without the dnnl_ before them."""


class Unsupported(Exception):  # noqa: N818 - it is caught, and another kernel runs
    """oneDNN has nothing that computes this."""


class _Version(Structure):
    _fields_ = [
        *((name, c_int) for name in ("major", "minor", "patch")),
        ("commit", c_char_p),
        *((name, c_uint) for name in ("cpu_runtime", "gpu_runtime")),
    ]


class Library:
    """A loaded oneDNN, with its engine for this processor."""

    def __init__(self, path: str, handle: ctypes.CDLL, remedy: str = REMEDY) -> None:
        self.path = path
        self.handle = handle
        try:
            handle.dnnl_version.restype = POINTER(_Version)
            version = handle.dnnl_version().contents
        except AttributeError:
            raise BackendError(f"oneDNN: {path} is another library; {remedy}") from None
        except ValueError:  # a null pointer
            raise BackendError(f"oneDNN: {path} tells no version; {remedy}") from None
        self.version = f"{version.major}.{version.minor}.{version.patch}"
        if version.major != 3:
            raise BackendError(
                f"oneDNN: {path} is of version {self.version}, whose C API is another; {remedy}"
            )
        for name in FUNCTIONS:
            if not hasattr(handle, f"dnnl_{name}"):
                raise BackendError(f"oneDNN: {path} has no function dnnl_{name}; {remedy}")
        self.runtime = version.cpu_runtime
        handle.dnnl_primitive_desc_query_md.restype = c_void_p
        handle.dnnl_memory_desc_get_size.restype = c_size_t
        # For calls shorter than it takes to let other Python threads run meanwhile.
        self.quick = ctypes.PyDLL(path, handle=handle._handle)
        self.quick.dnnl_memory_set_data_handle.argtypes = [c_void_p, c_void_p]
        self.engine = c_void_p()
        self.call("dnnl_engine_create", byref(self.engine), c_int(CPU), c_size_t(0))
        self._here = threading.local()

    def call(self, function: str, *arguments: Any) -> None:
        """A C function that returns a status. Raises `Unsupported`, or `BackendError`."""
        status = getattr(self.handle, function)(*arguments)
        if status != SUCCESS:
            told = f"oneDNN {self.version}: {function}: {STATUS.get(status, f'status {status}')}"
            raise (Unsupported if status == UNIMPLEMENTED else BackendError)(told)

    @property
    def has_own_threads(self) -> bool:
        """Whether it shares each computation out itself, among threads that it counts."""
        return self.runtime in OWN_THREADS

    @property
    def stream(self) -> c_void_p:
        """This thread's queue of computations."""
        if not hasattr(self._here, "stream"):
            stream = c_void_p()
            self.call("dnnl_stream_create", byref(stream), self.engine, c_uint(1))
            self._here.stream = stream
        return self._here.stream

    def alone(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """``work(*arguments)`` with OpenMP at one thread, since the threads here are our own.

        OpenMP's number belongs to the thread that asks; others, such as a BLAS on it, have theirs
        back afterwards.
        """
        if self.runtime != 2:
            return work(*arguments)
        before = self.quick.omp_get_max_threads()
        if before == 1:
            return work(*arguments)
        self.quick.omp_set_num_threads(1)
        try:
            return work(*arguments)
        finally:
            self.quick.omp_set_num_threads(before)

    def arithmetic(self) -> dict[str, str]:
        """What decides its last bits."""
        found = self.handle.dnnl_get_effective_cpu_isa()
        return {
            "version": self.version,
            "runtime": RUNTIMES.get(self.runtime, "another"),
            "instructions": INSTRUCTIONS.get(found, hex(found)),
        }

    def describe(self) -> str:
        """In one line: version, threads, instructions, path."""
        told = self.arithmetic()
        ours = f"{threads()} thread{'' if threads() == 1 else 's'} of ours"
        count = "its own threads" if self.has_own_threads else ours
        return (
            f"oneDNN {self.version} for {told['runtime']}, {count}, {told['instructions']}: "
            f"{self.path}"
        )


@cache
def library() -> Library:
    """The library that is found first. Raises `BackendError` where there is none that works."""
    named = os.environ.get(ENVIRONMENT)
    if named:
        path = _path_of(named)
        done = in_another_process(LOAD, path)
        if done.returncode:
            raise BackendError(
                f"oneDNN: {path} is damaged: a process that loads it {end_of(done)}; {NAMED}"
            )
        return _loaded(path, NAMED)
    for path in _candidates():
        try:
            return _loaded(path)
        except BackendError:
            if path != FILE:
                raise
    raise BackendError(f"oneDNN is not installed{_older()}; {REMEDY}")


def _path_of(named: str) -> str:
    """A file by its path, in the present folder too; a bare name that is none, to the loader."""
    path = Path(named).expanduser()
    return str(path.absolute()) if path.exists() or path != Path(path.name) else named


def try_to_load(path: str) -> None:
    """Load a library, and stay alive; that it does not do is told where it is loaded again."""
    with suppress(BackendError):
        _loaded(path)


def _candidates() -> Iterator[str]:
    """Where the library may lie, those that exist; the loader looks for a bare name itself."""
    yield FILE
    inside = Path(sys.prefix, "Library/bin" if sys.platform == "win32" else "lib", FILE)
    if inside.exists():
        yield str(inside)
    for wheel in WHEELS:
        try:
            files = metadata.files(wheel) or []
        except metadata.PackageNotFoundError:
            continue
        yield from (str(Path(f.locate()).resolve()) for f in files if f.name == FILE)


def _older() -> str:
    """A word on a library of version 2, which Debian 12 calls libdnnl2."""
    try:
        version = Library("libdnnl.so.2", ctypes.CDLL("libdnnl.so.2")).version
    except OSError:
        return ""
    except BackendError as error:
        return f" ({error})"
    return version


def _loaded(path: str, remedy: str = REMEDY) -> Library:
    folder = Path(path).parent
    if (folder / OPENCL).exists():
        os.environ.setdefault("OCL_ICD_FILENAMES", str(folder / OPENCL))
    try:
        return Library(path, _with_what_it_needs(path), remedy)
    except OSError as error:
        why = str(error).removeprefix(f"{path}: ")
        if why.startswith("libgomp."):
            remedy = "install it (apt install libgomp1)"
        raise BackendError(f"oneDNN: {path} cannot be loaded ({why}); {remedy}") from None


def _with_what_it_needs(path: str) -> ctypes.CDLL:
    """The library, and before it those beside it that the loader does not find by their names."""
    while True:
        try:
            return ctypes.CDLL(path, ctypes.RTLD_GLOBAL if os.name == "posix" else 0)
        except OSError as error:
            missing = Path(path).parent / str(error).partition(":")[0]
            if missing == Path(path) or not missing.is_file():
                raise
            _with_what_it_needs(str(missing))
