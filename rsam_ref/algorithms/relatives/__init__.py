"""SAM's relatives: one file each, in the form of ``sam.py``, with its source and its readings.

``RELATIVES`` holds them by name. May import: `rsam_backends` and the rest of ``algorithms``.
Imported by: what trains, teaches and recognises them.

>>> from rsam_ref import SGD
>>> optimizer = make("gsam", SGD(lr=0.1), rho=0.05, alpha=0.3)
>>> optimizer.relative.title
'GSAM'
"""

from __future__ import annotations

from typing import Any

from rsam_ref.algorithms.optimizer import Optimizer
from rsam_ref.algorithms.relatives.bayesian_sam import BAYESIAN_SAM
from rsam_ref.algorithms.relatives.cr_sam import CR_SAM
from rsam_ref.algorithms.relatives.esam import ESAM
from rsam_ref.algorithms.relatives.fisher_sam import FISHER_SAM
from rsam_ref.algorithms.relatives.form import ApartTrace, Relative, State
from rsam_ref.algorithms.relatives.friendly_sam import FRIENDLY_SAM
from rsam_ref.algorithms.relatives.gsam import GSAM
from rsam_ref.algorithms.relatives.le_sam import LE_SAM
from rsam_ref.algorithms.relatives.looksam import LOOKSAM, LOOKSAM_BY_TENSOR
from rsam_ref.algorithms.relatives.m_sam import M_SAM
from rsam_ref.algorithms.relatives.momentum_sam import MOMENTUM_SAM
from rsam_ref.algorithms.relatives.optimizer import Related
from rsam_ref.algorithms.relatives.random_sam import RANDOM_SAM
from rsam_ref.algorithms.relatives.rwp import ADAPTIVE_RWP, MIXED_RWP, RWP
from rsam_ref.algorithms.relatives.sparse_sam import SPARSE_SAM
from rsam_ref.algorithms.relatives.unified_sam import UNIFIED_SAM
from rsam_ref.algorithms.relatives.usam import USAM
from rsam_ref.algorithms.relatives.vasso import VASSO
from rsam_ref.algorithms.relatives.wsam import COUPLED_WSAM, WSAM

__all__ = ["RELATIVES", "ApartTrace", "Related", "Relative", "State", "make"]

RELATIVES = {
    relative.name: relative
    for relative in (
        USAM,
        UNIFIED_SAM,
        M_SAM,
        GSAM,
        WSAM,
        COUPLED_WSAM,
        LOOKSAM,
        LOOKSAM_BY_TENSOR,
        RANDOM_SAM,
        ESAM,
        SPARSE_SAM,
        FISHER_SAM,
        FRIENDLY_SAM,
        VASSO,
        MOMENTUM_SAM,
        CR_SAM,
        LE_SAM,
        RWP,
        MIXED_RWP,
        ADAPTIVE_RWP,
        BAYESIAN_SAM,
    )
}
"""All relatives by their names, in the order in which the documentation tells them."""


def make(name: str, base: Optimizer, **options: Any) -> Related:
    """The relative of this name around a base optimizer (see `Related` for the options).

    Raises ValueError for a name that is none.
    """
    if name not in RELATIVES:
        raise ValueError(f"unknown relative {name!r}; there are {', '.join(RELATIVES)}")
    return Related(RELATIVES[name], base, **options)
