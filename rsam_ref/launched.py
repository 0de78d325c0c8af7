"""Whether a launcher of MPI has started this process, and as which rank. It loads nothing."""

from __future__ import annotations

import os

RANK = ("PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")
"""What launchers set: MPICH, Intel MPI and Slurm; PMIx, Open MPI's too; Open MPI; MVAPICH."""
SIZE = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")
LOCAL = (
    *("MPI_LOCALRANKID", "OMPI_COMM_WORLD_LOCAL_RANK", "MV2_COMM_WORLD_LOCAL_RANK"),
    "SLURM_LOCALID",
)
OFF = "RSAM_REF_MPI"
"""0: a process is alone, whatever a launcher has set."""


def launched_as(names: tuple[str, ...] = RANK) -> int | None:
    """This process's rank as its launcher has told it; None where there was none."""
    if os.environ.get(OFF) == "0":
        return None
    told = (os.environ.get(name, "") for name in names)
    return next((int(value) for value in told if value.isdecimal()), None)
