"""What a rank runs in test_mpi.py: steps of the problems of steps_on_ranks.py.

python -m tests.helpers.mpi_program SHARDS STEPS OUT MODEL OPTIMIZER WAY ...: the first rank writes
to OUT, one JSON line each, what all ranks agree on.
"""

import hashlib
import json
import sys

from mpi4py import MPI

from rsam_backends import deterministic
from tests.helpers.steps_on_ranks import MODELS, OPTIMIZERS, WAYS, bits, group_of, train


def main() -> None:
    shards, steps, out, *cases = sys.argv[1:]
    world = MPI.COMM_WORLD
    with deterministic(), open(out, "w") as file:
        for case in cases:
            model, optimizer, way = case.split(",")
            mine, group = MODELS[model]("float64"), group_of(world, int(shards))
            losses = train(
                mine, OPTIMIZERS[optimizer](), int(shards), int(steps), group, **WAYS[way]
            )
            told = world.allgather(hashlib.sha256(bits(mine)).hexdigest())
            assert len(set(told)) == 1, f"the ranks have drifted apart: {told}"
            if world.rank == 0:
                file.write(json.dumps([told[0], losses]) + "\n")


if __name__ == "__main__":
    main()
