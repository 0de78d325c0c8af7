"""Many normal numbers at once: Box and Muller's transform, by NumPy's vectorised functions.

Of two uniform numbers u and v it makes two independent normal ones (Annals of Mathematical
Statistics, 1958)::

    sqrt(-2 ln u) sin(2 pi v),  sqrt(-2 ln u) cos(2 pi v)

Every number costs the same, so a block of them is a few calls of NumPy; NumPy's own method, the
ziggurat, asks number by number whether to draw again.
"""

from __future__ import annotations

import numpy as np

FEW = 1 << 17
"""Numbers of a draw up to which they are the ziggurat's, as the numbers of small networks were."""

LONGEST = 6.77
"""No number is longer: u is at least 2^-33. Of 10^10 true normal ones a tenth of one would be."""


def box_muller(seeds: np.random.SeedSequence, out: np.ndarray) -> None:
    """Fill ``out`` (n,), float32, with standard normal numbers, which the seeds decide.

    The last bits of NumPy's logarithm, sine and cosine depend on the processor's instructions.
    """
    pairs = (out.size + 1) // 2
    words = np.random.SFC64(seeds).random_raw(pairs).view(np.uint32)  # NumPy's fastest generator
    z = out if out.size == 2 * pairs else np.empty(2 * pairs, np.float32)
    radius, other = z[:pairs], z[pairs:]

    np.copyto(radius, words[:pairs], casting="unsafe")
    radius += 0.5
    radius *= 2**-32  # u in (0, 1]
    np.log(radius, out=radius)
    radius *= -2
    np.sqrt(radius, out=radius)

    angle = np.empty(pairs, np.float32)
    np.copyto(angle, words[pairs:].view(np.int32), casting="unsafe")
    angle *= np.pi * 2**-31  # 2 pi v in [-pi, pi]
    np.sin(angle, out=other)
    other *= radius
    radius *= np.cos(angle, out=angle)
    if z is not out:
        out[...] = z[:-1]
