"""The backend switch: one code, any device.

Array code is written once against ``xp``, which has NumPy's names; the backend in
force decides whose arrays they make::

    from rsam_backends import use_backend, xp

    xp.zeros(3)                       # a NumPy array
    with use_backend("cupy"):
        xp.zeros(3)                   # the same line, a CuPy array on the GPU

What differs between the libraries beyond the standard names is a function of this
package: `to_device`, `to_host`, `gather`, `scatter_add`, `sliding_windows`, `erf`, `Stream`
(random draws), `synchronize`, `memory_used`. Vectors of PyTorch and JAX, which are no backends,
have `library_of` and `normal_like`; `require_here` refuses arrays of another backend.

The choice belongs to the thread that makes it; a new thread starts with
``RSAM_REF_BACKEND``, or NumPy.
"""

from rsam_backends.base import Backend, BackendError
from rsam_backends.libraries import copied_here, library_of, normal_like, require_here
from rsam_backends.random import Stream
from rsam_backends.switch import (
    all_within,
    available_backends,
    carried,
    current_backend,
    deterministic,
    erf,
    forbid_waiting,
    freeze,
    gather,
    get_backend,
    kernels_replaced,
    looking,
    memory_used,
    quiet,
    replaceable,
    scatter_add,
    sliding_windows,
    synchronize,
    to_device,
    to_host,
    use_backend,
    xp,
)

__all__ = [
    "Backend",
    "BackendError",
    "Stream",
    "all_within",
    "available_backends",
    "carried",
    "copied_here",
    "current_backend",
    "deterministic",
    "erf",
    "forbid_waiting",
    "freeze",
    "gather",
    "get_backend",
    "kernels_replaced",
    "library_of",
    "looking",
    "memory_used",
    "normal_like",
    "quiet",
    "replaceable",
    "require_here",
    "scatter_add",
    "sliding_windows",
    "synchronize",
    "to_device",
    "to_host",
    "use_backend",
    "xp",
]
