"""Finding a SYCL device for dpnp: its driver, and what it is."""

from __future__ import annotations

import gc
import importlib.metadata
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rsam_backends.base import BackendError

INSTALL = "pip install 'rsam-ref[intel]' (dpnp with its runtimes, 3 GB; Linux and Windows, x86-64)"
DRIVERS = "OCL_ICD_FILENAMES"
"""The variable that names drivers to OpenCL, beside those that the system lists."""
SELECTOR = "ONEAPI_DEVICE_SELECTOR"
"""The variable that leaves SYCL some of its devices."""
TERM = (
    r"!?(\*|level_zero|opencl|cuda|hip|native_cpu|offload):"
    r"(\*|cpu|gpu|[\d.*]+)(,(\*|cpu|gpu|[\d.*]+))*"
)
FORM = re.compile(f"{TERM}(;+{TERM})*;*", re.IGNORECASE)
"""What that variable may be; at anything else SYCL ends the process."""


@dataclass(frozen=True)
class Opened:
    """A device that works, and the libraries that reach it."""

    dpnp: Any
    dpctl: Any
    queue: Any
    device: Any
    number: int
    driver: Path | None
    """The driver that had to be found for it (see `name_the_driver`)."""

    @property
    def name(self) -> str:
        """What its maker calls it."""
        return self.device.name.strip()

    @property
    def float64(self) -> bool:
        """Whether it computes float64, which SYCL calls the aspect fp64."""
        return bool(self.device.has_aspect_fp64)

    def describe(self) -> dict[str, str]:
        """What `rsam-ref doctor` prints of it."""
        device = self.device
        aspects = {"fp64": device.has_aspect_fp64, "fp16": device.has_aspect_fp16}
        kind, backend = device.device_type.name, device.backend.name
        told = {
            "library": f"dpnp {self.dpnp.__version__}, dpctl {self.dpctl.__version__}",
            "device": f"{self.name}, {kind} (number {self.number}), "
            f"{device.max_compute_units} compute units",
            "memory": f"{device.global_mem_size / 2**30:.1f} GiB",
            "driver": f"{backend} {device.driver_version}",
            "aspects": ", ".join(name if has else f"no {name}" for name, has in aspects.items()),
        }
        if self.driver is not None:
            told["found"] = f"{self.driver}, named to OpenCL by {DRIVERS} in this process"
        return told


def open_device(number: int) -> Opened:
    """The device of that number, GPUs first; a `BackendError` where something is missing."""
    check_selector()
    before = "dpctl" in sys.modules and DRIVERS not in os.environ  # somebody asked SYCL already
    driver = name_the_driver()
    try:
        import dpctl
        import dpnp
        import dpnp.scipy.special  # for erf
    except ImportError as error:
        missing = "is not installed" if error.name in ("dpctl", "dpnp") else f"fails ({error})"
        raise BackendError(f"the dpnp backend: dpnp {missing}; {INSTALL}") from None
    found = [device for device in dpctl.get_devices() if device.is_gpu or device.is_cpu]
    if not found:
        why = why_none(driver if before else None)
        raise BackendError(f"the dpnp backend: SYCL finds no device, {why}")
    found.sort(key=lambda device: not device.is_gpu)
    if not 0 <= number < len(found):
        names = ", ".join(f"{i}: {device.name.strip()}" for i, device in enumerate(found))
        raise BackendError(f"the dpnp backend: no device {number}; there are {names}")
    device = found[number]
    queue = dpnp.empty(0, device=device).sycl_queue  # the one that dpnp itself gives this device
    return Opened(dpnp, dpctl, queue, device, number, driver)


def check_selector() -> None:
    """Raise `BackendError` for a selector of devices at which SYCL would end the process."""
    selector = os.environ.get(SELECTOR)
    if selector is not None and not FORM.fullmatch(selector):
        raise BackendError(
            f"the dpnp backend: {SELECTOR}={selector} is no choice of devices; unset it, or write "
            "it as *:cpu or *:gpu"
        )


def why_none(late: Path | None) -> str:
    """Why SYCL finds no device, and what to do. ``late`` is a driver that was named too late."""
    if selector := os.environ.get(SELECTOR):
        return f"of those that {SELECTOR}={selector} leaves it; unset that, or make it *:cpu"
    if late is not None:
        return (
            "because dpnp was used before rsam-ref named its driver; call use_backend('dpnp') "
            f"first, or set {DRIVERS}={late} before Python starts"
        )
    named = os.environ.get(DRIVERS)
    if named is not None and named != str(installed_driver()):
        return f"and {DRIVERS}={named} names no driver that works; unset it, or name libintelocl.so"
    return (
        "neither a GPU nor a driver for the processor; install a driver (pip install "
        f"intel-opencl-rt), or set {DRIVERS} to its libintelocl.so before Python starts"
    )


def name_the_driver() -> Path | None:
    """Name Intel's driver for processors to OpenCL, where pip installed it and nobody did.

    In a virtual environment OpenCL does not find it by itself: its ``intel-cpu.icd`` names a folder
    of the machine that the package was made on. It counts only before SYCL is first asked for
    devices, and leaves the drivers that the system lists as they are.
    """
    if DRIVERS in os.environ:
        return None
    driver = installed_driver()
    if driver is not None:
        os.environ[DRIVERS] = str(driver)
    return driver


def installed_driver() -> Path | None:
    """The driver for processors that pip installed, if any."""
    try:
        package = importlib.metadata.distribution("intel-opencl-rt")
    except importlib.metadata.PackageNotFoundError:
        return None
    for file in package.files or ():
        if file.name in ("libintelocl.so", "intelocl64.dll"):
            return Path(str(package.locate_file(file))).resolve()
    return None


def bytes_held(opened: Opened) -> int:
    """Bytes of the device's memory that arrays hold, each piece once; SYCL itself does not tell."""
    kinds = opened.dpctl.memory.MemoryUSMDevice, opened.dpctl.memory.MemoryUSMShared
    pieces = [piece for piece in gc.get_objects() if type(piece) in kinds]
    here = {p._pointer: p.nbytes for p in pieces if p.sycl_device == opened.device}
    return sum(here.values())
