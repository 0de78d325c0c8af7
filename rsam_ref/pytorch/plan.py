"""Networks measured in a given time: what an evaluation takes is tried out, the rest is counted.

Other work on the machine, and what a measure does besides evaluations, make that wrong by a factor
of two at times. So the plan is corrected as it goes, by what the measures took that are done.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import torch

from rsam_ref.pytorch.batches import count_samples
from rsam_ref.sharpness.budget import Calls, Facts, Planned, planned
from rsam_ref.sharpness.survey import PRECISE, Row, SurveySettings

GRADIENT, PRODUCT = 4.0, 12.0  # losses' worth, where only a loss was timed
ENOUGH = 0.5  # seconds of one kind of call
SPARE = 0.9  # of the time is planned with: what a measure does besides its calls takes the rest


@dataclass(frozen=True)
class Terms:
    """What a plan is made of."""

    settings: SurveySettings
    facts: Facts
    each: Mapping[str, Calls]
    seconds: float
    held: Collection[str]


@dataclass(frozen=True)
class Plan:
    """The measures' settings, and the precision that all are computed in."""

    measures: list[Planned]
    dtype: torch.dtype | None
    """None: that of the networks, and float64 for what asks the Hessian."""
    terms: Terms | None = field(default=None, compare=False)
    """None for a plan that was kept: it is not corrected."""

    @property
    def seconds(self) -> float:
        """About how long all of them take."""
        return sum(planned.seconds for planned in self.measures)

    def settings(self, measure: str) -> SurveySettings:
        """The settings of one of its measures."""
        return next(planned.settings for planned in self.measures if planned.measure == measure)

    def corrected(self, taken: Mapping[str, float]) -> Plan:
        """The plan with what is left of the time, after so many seconds for the measures done.

        Their settings stay; the others' are made for a machine that is as slow as they say.
        """
        if self.terms is None:
            return self
        done = [planned for planned in self.measures if planned.measure in taken]
        whole, reckoned = sum(taken.values()), sum(planned.seconds for planned in done)
        factor = whole / reckoned if reckoned else 1.0
        rest = planned(
            [planned.measure for planned in self.measures],
            self.terms.settings,
            self.terms.facts,
            {name: calls.slower(factor) for name, calls in self.terms.each.items()},
            seconds=self.terms.seconds - whole,
            held=self.terms.held,
            already=done,
        )
        return replace(self, measures=rest)

    def network(self, network: Any, measure: str) -> Any:
        """The network in the precision that a measure is computed in."""
        if self.dtype is None:
            return network.in_float64 if measure in PRECISE else network
        return network.in_float32

    def rows(self) -> list[Row]:
        """The plan as plain values, to be kept."""
        kind = None if self.dtype is None else str(self.dtype).removeprefix("torch.")
        return [
            {"dtype": kind, "measure": p.measure, "seconds": p.seconds, **asdict(p.settings)}
            for p in self.measures
        ]

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Plan:
        """The plan that was kept."""
        names = [field.name for field in fields(SurveySettings)]
        found = []
        for row in rows:
            values = {name: row[name] for name in names}
            values = {n: tuple(v) if isinstance(v, list) else v for n, v in values.items()}
            found.append(Planned(row["measure"], SurveySettings(**values), row["seconds"]))
        kind = rows[0]["dtype"]
        return cls(found, None if kind is None else getattr(torch, kind))


def plan(
    network: Any,
    measures: Sequence[str],
    settings: SurveySettings,
    *,
    seconds: float,
    held: Collection[str] = (),
    any_precision: bool = True,
) -> Plan:
    """Settings for every measure of a network, so that all of them take at most so many seconds.

    With ``any_precision`` float64 is left for float32 where the settings as given would take
    longer; Hessians of torch models are exact in either, to its own rounding. ``held`` names the
    settings that stay as they are.
    """
    facts = network.facts(settings)
    seconds = SPARE * seconds

    def found(each: Callable[[str], Calls], dtype: torch.dtype | None) -> Plan:
        terms = Terms(settings, facts, {name: each(name) for name in measures}, seconds, held)
        chosen = planned(measures, settings, facts, terms.each, seconds=seconds, held=held)
        return Plan(chosen, dtype, terms)

    loss = timed(network, losses_alone=True)
    guess = Calls(loss.losses, GRADIENT * loss.losses, PRODUCT * loss.losses)
    first = found(lambda _: guess, None)
    if all(p.settings == settings for p in first.measures):
        return replace(first, terms=None)
    if any_precision:
        single = timed(network.in_float32)
        return found(lambda _: single, torch.float32)
    usual, precise = timed(network), timed(network.in_float64)
    return found(lambda name: precise if name in PRECISE else usual, None)


def timed(network: Any, *, losses_alone: bool = False) -> Calls:
    """How many seconds one loss, one gradient and one product take, by the first batch."""
    count = network.count or count_samples
    batch, w = network.evaluation[0], network.w
    share = sum(map(count, network.evaluation)) / count(batch)
    loss, point = network.objective([batch]), 1.0001 * w  # nothing is remembered there

    def took(run: Callable[[], Any]) -> float:
        """The shortest of a few, since a first call does things that are done once."""
        seconds: list[float] = []
        while len(seconds) < 5 and sum(seconds) < ENOUGH:
            start = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - start)
        return share * min(seconds)

    of_loss = took(lambda: loss.loss(point))
    if losses_alone:
        return Calls(of_loss)
    gradient = took(lambda: loss(point))
    again = loss.products_at(point)
    try:
        again([torch.ones_like(point)])
        product = took(lambda: again([torch.ones_like(point)]))
    except (NotImplementedError, ArithmeticError, RuntimeError):  # told by the measures themselves
        product = PRODUCT / GRADIENT * gradient
    return Calls(of_loss, gradient, product)
