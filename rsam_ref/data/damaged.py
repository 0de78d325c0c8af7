"""Looking for damaged pictures before a run: every picture of a set is decoded once.

Imported by `training`, which keeps what was found in the run's folder.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rsam_ref.data.errors import DamagedImage
from rsam_ref.data.pictures import THREADS, decode
from rsam_ref.data.recognise import read_source

Progress = Callable[[int, int], None]


def find_damaged(
    where: str | Path, progress: Progress = lambda done, total: None
) -> dict[str, str]:
    """What is wrong with each damaged picture of a set, by its name; {} for sets of arrays.

    The names are those that ``load_dataset(where, skip=...)`` takes. ``progress`` is called with
    the number of pictures that were looked at, and that of all.
    """
    if where == "digits":
        return {}
    source = read_source(Path(where), checked=False)
    pictures = source.pictures
    if pictures is None:
        return {}
    names = [*source.train[0], *source.test[0]]

    def wrong(name: str) -> str | None:
        try:
            pictures.size(name)  # what has none is not opened
            decode(pictures.path(name), pictures.open(name))
        except DamagedImage as damage:
            return damage.what
        return None

    found = {}
    with ThreadPoolExecutor(THREADS) as pool:
        for done, (name, what) in enumerate(zip(names, pool.map(wrong, names)), 1):
            if what is not None:
                found[name] = what
            progress(done, len(names))
    return found
