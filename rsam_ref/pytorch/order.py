"""The order of a step's parts: which one is due, and what is refused in the middle of a step."""

from __future__ import annotations


class Order:
    """Where a step stands. A part that is refused changes nothing, and is due as before."""

    def __init__(self, who: str, parts: tuple[str, ...]) -> None:
        self._who = who
        self._parts = parts
        self._due = parts[0]

    @property
    def at_rest(self) -> bool:
        """Whether no step has begun."""
        return self._due == self._parts[0]

    def turn(self, part: str, what: str | None = None) -> None:
        """Raise RuntimeError unless this part is due; ``what``: that belongs to it was called."""
        if part != self._due:
            *before, first, second = self._parts
            order = ", a backward pass, ".join([*before, first, second])
            raise RuntimeError(
                f"{self._who}.{what or part}() out of turn: {self._due}() is due. A step is "
                f"{order if before else 'a backward pass, ' + order}; restore() abandons one"
            )

    def done(self, part: str) -> None:
        """The part after this one is due."""
        self._due = self._parts[self._parts.index(part) + 1]

    def abandon(self) -> None:
        """The first part is due."""
        self._due = self._parts[0]

    def need_rest(self, what: str) -> None:
        """Raise RuntimeError in the middle of a step, where this cannot be."""
        if not self.at_rest:
            raise RuntimeError(
                f"{self._who}: {what} in the middle of a step: {self._due}() is due, "
                "or restore(), which abandons the step"
            )
