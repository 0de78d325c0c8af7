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
TASKS, STEP = "SLURM_STEP_NUM_TASKS", "SLURM_STEP_ID"
"""How many processes srun has started, and in which step of its job."""
NO_STEP = 0xFFFF_0000
"""From here on a step of Slurm is none of srun's, but a batch script's own, or a shell's."""


def launched_as(names: tuple[str, ...] = RANK) -> int | None:
    """This process's rank as its launcher has told it; None where there was none."""
    if os.environ.get(OFF) == "0":
        return None
    told = (os.environ.get(name, "") for name in names)
    return next((int(value) for value in told if value.isdecimal()), None)


def tasks_without_pmi() -> int | None:
    """How many processes srun has started that do not know of each other; None where it has not.

    That is so where Slurm has no PMI to give them, or was asked for none.
    """
    if os.environ.get(OFF) == "0" or launched_as() is not None:
        return None
    tasks, step = (os.environ.get(name, "") for name in (TASKS, STEP))
    of_srun = step.isdecimal() and int(step) < NO_STEP
    return int(tasks) if of_srun and tasks.isdecimal() and int(tasks) > 1 else None


def by_pmix_alone() -> bool:
    """Whether what the launcher has set can be read by an MPI with PMIx alone."""
    names = ("PMI_RANK", "PMI_FD", "PMI_PORT")
    return "PMIX_RANK" in os.environ and not any(name in os.environ for name in names)
