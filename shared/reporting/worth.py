"""What right answers save and wrong ones cost, from what people said of their work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from shared.reporting.evidence import NEAR, NONE, RIGHT, WRONG, Evidence, Outcome, outcome_of

DAYS = 30


@dataclass(frozen=True)
class Assumed:
    """What people say of their work; None where they did not."""

    value: str | None = None
    per_day: float | None = None
    minutes_saved: float | None = None
    cost_per_hour: float | None = None
    cost_of_wrong: float | None = None
    currency: str = "EUR"

    @property
    def is_counted(self) -> bool:
        """Whether anything can be computed."""
        return self.minutes_saved is not None or self.cost_of_wrong is not None or self.per_day is not None


@dataclass(frozen=True)
class Worth:
    """Of so many cases; None where it was not said what it takes."""

    right: float
    wrong: float | None
    hours: float | None
    saved: float | None
    cost: float | None

    @property
    def net(self) -> float | None:
        """What is left in money."""
        return self.saved - self.cost if self.saved is not None and self.cost is not None else None


def main_outcome(evidence: Evidence) -> Outcome | None:
    """Return what becomes of what a model is for: of what people tried themselves, else as its bundle says.

    None where only the labels of photos are counted: of cases, such as photos, that says nothing.
    """
    tried = outcome_of(evidence.results)
    if tried is not None or evidence.measured is None:
        return tried
    return next((each for each in evidence.measured.outcomes[:1] if each.kind != "labels"), None)


def worth_of(assumed: Assumed, parts: Mapping[str, float], cases: float) -> Worth:
    """Return what so many cases come to. Where the parts do not say how many are wrong, neither does it.

    >>> worth_of(Assumed(minutes_saved=3, cost_per_hour=40, cost_of_wrong=5), {"right": 0.9, "wrong": 0.04}, 100).net
    160.0
    """
    right, wrong = cases * parts[RIGHT], cases * parts[WRONG] if WRONG in parts else None
    hours = right * assumed.minutes_saved / 60 if assumed.minutes_saved is not None else None
    saved = hours * assumed.cost_per_hour if hours is not None and assumed.cost_per_hour is not None else None
    cost = wrong * assumed.cost_of_wrong if wrong is not None and assumed.cost_of_wrong is not None else None
    return Worth(right, wrong, hours, saved, cost)


def limits(assumed: Assumed, found: Outcome, cases: float) -> tuple[Worth, Worth]:
    """Return the same at both ends of the interval: what is neither right nor without an answer then is wrong."""
    other = found.parts.get(NONE, 0.0) + found.parts.get(NEAR, 0.0)
    ends = []
    for share in (found.low, found.high):
        wrong = {WRONG: max(0.0, 1 - other - share)} if WRONG in found.parts else {}
        ends.append({RIGHT: min(share, 1 - other) if wrong else share, **wrong})
    low, high = (worth_of(assumed, parts, cases) for parts in ends)
    return low, high


def break_even(assumed: Assumed, parts: Mapping[str, float]) -> float | None:
    """Return what a wrong answer may cost at most if something is to be left; None where that is not known."""
    of_hundred = worth_of(assumed, parts, 100)
    return of_hundred.saved / of_hundred.wrong if of_hundred.saved is not None and of_hundred.wrong else None
