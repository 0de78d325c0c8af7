"""What a reader tells of the data that it read: what was left out or set right, how much, and why.

Imported by the readers. Their notes are those of the `Dataset`, which `rsam-ref train` prints and
keeps in the run's folder, and `rsam-ref sharpness` prints.
"""

from __future__ import annotations


class Notes:
    """The lines that are told, and what was left out, counted by the reason."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._left: dict[str, list[str]] = {}

    def tell(self, line: str) -> None:
        """A line of its own, once."""
        if line not in self._lines:
            self._lines.append(line)

    def leave_out(self, name: str, why: str) -> None:
        """Count a file that is left out. ``why`` is said of several: "are no pictures"."""
        self._left.setdefault(why, []).append(name)

    @property
    def lines(self) -> tuple[str, ...]:
        """All that is to be told; of what was left out the number, the reason and the first."""
        left = [
            f"left out {len(names):,}: {why} ({names[0]}{', ...' if len(names) > 1 else ''})"
            for why, names in self._left.items()
        ]
        return (*self._lines, *left)
