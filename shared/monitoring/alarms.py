"""The two alarms: more inputs without an answer, and less confidence. Each is false in 1 % of windows.

Others were measured and left out: tests of the whole distribution of confidences, features or labels see less foreign
traffic, and take a harmless change of what is asked for for one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import ndtr, ndtri
from scipy.stats import beta, hypergeom

from shared.monitoring.windows import Sample

FALSE_ALARMS = 0.01
"""Share of windows like the reference in which one of the two is raised."""
POWER = 0.8

Stat = Literal["no_answer_rate", "mean_confidence"]


@dataclass(frozen=True)
class Alarm:
    """One test."""

    stat: Stat
    before: float
    now: float
    p: float
    """Chance of a change at least so large, in this direction, if nothing had changed."""
    detectable: float | None
    """The value nearest to `before` that such a window would have shown four times in five; None if none would."""

    @property
    def is_raised(self) -> bool:
        """Whether chance is out of the question."""
        return self.p <= FALSE_ALARMS


def rate_alarm(now: Sample, before: Sample) -> Alarm:
    """Test whether a rate has grown, by Fisher's exact test: the reference is a sample as well.

    Where records were sampled, the numbers are those of as many whole records as would say as much.

    >>> alarm = rate_alarm(Sample(np.repeat([1.0, 0.0], [60, 440]), np.ones(500)),
    ...                    Sample(np.repeat([1.0, 0.0], [160, 1840]), np.ones(2000)))
    >>> alarm.is_raised, round(alarm.p, 4), round(alarm.detectable, 3)
    (True, 0.004, 0.128)

    Args:
        now: of 0 and 1.
        before: likewise.
    """
    count, others = max(1, round(now.size)), max(1, round(before.size))
    hits, earlier = round(now.mean * count), round(before.mean * others)

    def p_of(found: int) -> float:
        return float(hypergeom.sf(found - 1, count + others, found + earlier, count))

    low, high = 0, count + 1  # the least number that raises the alarm, or one more than there can be
    while low < high:
        middle = (low + high) // 2
        if middle > count or p_of(middle) <= FALSE_ALARMS:
            high = middle
        else:
            low = middle + 1
    detectable = float(beta.ppf(POWER, low, count - low + 1)) if low <= count else None
    return Alarm("no_answer_rate", before.mean, now.mean, p_of(hits), detectable)


def confidence_alarm(now: Sample, before: Sample) -> Alarm:
    """Test whether the mean confidence has fallen, with the spread and skewness of both samples together.

    Most confidences are near 1 and a few far below, so that a mean of some hundred is not yet normal: Hall's cubic
    makes it so. Source: Hall 1992, "On the removal of skewness by transformation", JRSS B 54, for a mean whose
    variance is known.

    Args:
        now: confidences, at least one.
        before: likewise.
    """
    count, others = now.size, before.size
    spread = (count * now.deviation**2 + others * before.deviation**2) / (count + others)
    error = float(np.sqrt(spread * (1 / count + 1 / others)))
    if error == 0:  # all the same, before and now
        return Alarm("mean_confidence", before.mean, now.mean, float(now.mean >= before.mean - 1e-9), before.mean)
    third = sum(n * each.skewness * each.deviation**3 for n, each in ((count, now), (others, before)))
    skewness = third / (count + others) * (1 / count**2 - 1 / others**2) / error**3
    p = float(ndtr(_normal((now.mean - before.mean) / error, skewness)))
    least = -_skewed(float(ndtri(FALSE_ALARMS)), skewness) + float(ndtri(POWER))
    detectable = before.mean - least * error
    return Alarm("mean_confidence", before.mean, now.mean, p, detectable if detectable > 0 else None)


def _normal(z: float, skewness: float) -> float:
    """Return the normal deviate that is as rare as one of a skewed distribution; grows with `z` everywhere.

    >>> round(_normal(-2.5, -0.2), 3), _normal(-2.5, 0.0)
    (-2.331, -2.5)
    """
    return z - skewness * (z * z - 1) / 6 + skewness**2 * z**3 / 108


def _skewed(normal: float, skewness: float) -> float:
    """Return what `_normal` makes `normal` of.

    >>> round(_skewed(_normal(-2.5, -0.2), -0.2), 9)
    -2.5
    """
    if abs(skewness) < 1e-6:
        return normal
    return float(6 / skewness * (1 - np.cbrt(1 - skewness * (normal - skewness / 6) / 2)))
