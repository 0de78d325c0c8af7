"""A further worker of a check in several processes: ``python -m`` this, started by the first."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from rsam_ref.conformance.checking import worker


def main() -> None:
    target, settings = sys.argv[1], json.loads(sys.argv[2])
    place = Path(settings.pop("place"))
    worker(target, place=place, **settings)


if __name__ == "__main__":
    main()
