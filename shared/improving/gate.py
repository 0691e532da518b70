"""Whether a candidate may take the place of the live bundle, judged on the same held-out examples.

Nobody can show that a candidate is exactly as good. What can be shown is that it loses less than a margin: that is
what the gate asks for. Where the data can show neither that nor a loss, it says how many more examples it takes. It
also says what it would have noticed at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any, Literal

import numpy as np

from shared.errors import ConfigError, DataError
from shared.training.metrics import ECE_BINS
from shared.tuning.comparing import Entry, on_shared_examples
from shared.tuning.paired import SURE, difference, holm, is_right_or_wrong, margin_p, no_loss, worse_p

PASSES, REFUSED, UNDECIDED = "passes", "refused", "undecided"
HOLDS, FAILS, OPEN = "holds", "fails", "open"
POWER = 0.8
"""With which the numbers of examples that are named would decide."""
DRAWS = 1000
"""Of the bootstrap of calibration errors; and of the gates that are imagined to know what this one would notice."""
NOISE_MS = 1.0
"""A difference that is lost in what any request costs besides: no candidate is called slower for less."""
_SEED = 0
_LEAST_DRAWN = 100
"""Examples, below which a bootstrap of calibration errors says nothing."""
_BLOCK = 8_000_000
"""Numbers that are drawn at once."""
_ONE_SIDED, _TWO_SIDED, _POWERED = (NormalDist().inv_cdf(p) for p in (1 - SURE, 1 - SURE / 2, POWER))


@dataclass(frozen=True)
class Bounds:
    """What a candidate may lose. Shares, not percent."""

    margin: float = 0.01
    """Of the measure, on all examples."""
    label_margin: float = 0.05
    """Of the measure, on the examples of one label."""
    label_examples: int = 200
    """Labels with fewer are not looked at by themselves."""
    calibration: float = 0.02
    """Of the expected calibration error."""
    slowdown: float = 1.3
    """Milliseconds of the network, as a multiple of the live bundle's."""

    def __post_init__(self) -> None:
        if not (0 < self.margin < 1 and 0 < self.label_margin < 1 and 0 < self.calibration < 1):
            raise ConfigError(
                "margins are more than 0 and less than 100 points. No data can show that nothing is lost."
            )
        if self.slowdown < 1 or self.label_examples < 1:
            raise ConfigError("a candidate may always take as long as the live bundle, and a label needs an example.")


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    kind: Literal["quality", "label", "calibration", "speed", "labels"]
    name: str
    state: str
    """HOLDS, FAILS or OPEN: shown to be within the bound, shown to be a loss, or neither."""
    sentence: str
    examples: int | None = None
    live: float | None = None
    candidate: float | None = None
    value: float | None = None
    """Candidate minus live."""
    low: float | None = None
    high: float | None = None
    """90 % interval: each end is sure at one-sided 95 %."""
    bound: float | None = None
    p: float | None = None
    """Of the loss of the whole margin; of a label, of no loss, all labels considered."""
    more: int = 0
    """About so many more examples would decide it, where it is open; of all labels, if that of one is needed."""


def judge_gate(
    candidate: Entry, live: Entry, bounds: Bounds | None = None, unknown: Sequence[str] = ()
) -> dict[str, Any]:
    """Return whether the candidate may take the live bundle's place, and why, JSON-able.

    `verdict` is PASSES, REFUSED or UNDECIDED, `sentence` says it in words, and `checks` has each `Check`. It passes
    where all hold, and is refused where one fails. A loss that is sure but within the margin holds.

    Args:
        candidate: with its answers to examples that neither bundle has learned from.
        live: likewise.
        bounds: what may be lost.
        unknown: labels that the live bundle knows and the candidate does not: a refusal by themselves.

    Raises:
        ConfigError: the two cannot be compared.
        DataError: no example was answered by both.
    """
    bounds = bounds or Bounds()
    if candidate.outcomes.measure != live.outcomes.measure:
        raise ConfigError("the bundles are measured by different means, so the gate cannot judge one beside the other.")
    (candidate, live), left_out = on_shared_examples([candidate, live])
    if len(live.outcomes.values) < 2:
        raise DataError("one example cannot decide anything. Name more data with --data.source.")
    checks = [
        _quality(candidate, live, bounds),
        *_labels(candidate, live, bounds),
        *_calibration(candidate, live, bounds),
        _speed(candidate, live, bounds),
        *_unknown(unknown),
    ]
    states = {check.state for check in checks}
    verdict = REFUSED if FAILS in states else UNDECIDED if OPEN in states else PASSES
    more = max((check.more for check in checks if check.state == OPEN), default=0)
    return {
        "verdict": verdict,
        "sentence": _sentence(verdict, checks, more),
        "more": more,
        "measure": live.outcomes.measure,
        "explained": live.outcomes.explained,
        "examples": len(live.outcomes.values),
        "left_out": left_out,
        "checks": [asdict(check) for check in checks],
        "power": _power(live.outcomes.values, candidate.outcomes.values, bounds.margin),
        "bounds": asdict(bounds),
        "not_checked": _not_checked(live, bounds),
    }


def points(share: float, *, signed: bool = False) -> str:
    """Return a share in points.

    >>> points(0.01), points(-0.0046, signed=True), points(0.025)
    ('1 point', '-0.5 points', '2.5 points')
    """
    shown = f"{100 * share:{'+' if signed else ''}.1f}".removesuffix(".0")
    shown = "0" if shown in ("+0", "-0") else shown
    return f"{shown} point{'' if shown.lstrip('+-') == '1' else 's'}"


def _quality(candidate: Entry, live: Entry, bounds: Bounds) -> Check:
    first, second = live.outcomes.values, candidate.outcomes.values
    found = no_loss(first, second, bounds.margin)
    apart = difference(first, second)
    state = _state(found.p, apart.p if apart.value < 0 else 1.0)
    means = f"{100 * first.mean():.1f} % before, {100 * second.mean():.1f} % now"
    sentence = f"{live.outcomes.measure}: {means} ({points(apart.value, signed=True)}); {_at_worst(found.low)}"
    more = 0
    if state == FAILS:
        sentence += ". The loss is more than chance"
    elif state == OPEN:
        more = _more(first, second, bounds.margin)
        sentence += f", so a loss of {points(bounds.margin)} is not ruled out"
    elif apart.value < 0 and apart.p < SURE:
        sentence += f". It is a little worse for sure, but within the margin of {points(bounds.margin)}"
    return Check("quality", live.outcomes.measure, state, f"{sentence}.", len(first), float(first.mean()),
                 float(second.mean()), apart.value, found.low, found.high, bounds.margin, found.p, more)  # fmt: skip


def _labels(candidate: Entry, live: Entry, bounds: Bounds) -> list[Check]:
    """Return a check for each label with enough examples, those that do not hold first.

    A label's few hundred examples cannot show that less than some points are lost, not with so many labels: of 15 that
    are all as good as before, one or two would always look doubtful. So a label holds unless what was measured is
    beyond the margin, and fails if that is more than chance, all labels considered.
    """
    counts = Counter(live.outcomes.labels)
    names = [name for name in sorted(counts) if counts[name] >= bounds.label_examples and len(counts) > 1]
    labels = np.array(live.outcomes.labels)
    parts = [(live.outcomes.values[labels == name], candidate.outcomes.values[labels == name]) for name in names]
    apart = [difference(first, second) for first, second in parts]
    chances = holm([each.p if each.value < 0 else 1.0 for each in apart])
    checks = []
    for name, (first, second), moved, p in zip(names, parts, apart, chances, strict=True):
        loss = no_loss(first, second, bounds.label_margin)
        state = HOLDS if moved.value >= -bounds.label_margin else FAILS if p < SURE else OPEN
        sentence = f"{name}: {points(moved.value, signed=True)} on {len(first):,} examples; {_at_worst(loss.low)}"
        more = 0
        if state == FAILS:
            sentence += ". The loss is more than chance, all labels considered"
        elif state == OPEN:
            of_it = _more(first, second, bounds.label_margin)
            more = _rounded(of_it * len(labels) / len(first))
            sentence += f". That may be chance; it takes about {of_it:,} more to tell"
        means = float(first.mean()), float(second.mean())
        checks.append(Check("label", name, state, f"{sentence}.", len(first), *means, moved.value, loss.low, loss.high,
                            bounds.label_margin, p, more))  # fmt: skip
    return sorted(checks, key=lambda check: ((FAILS, OPEN, HOLDS).index(check.state), check.value or 0.0))


def _calibration(candidate: Entry, live: Entry, bounds: Bounds) -> list[Check]:
    """Return the check of the calibration error; [] where the answers have no confidence."""
    sides = [_binned(each) for each in (live, candidate)]
    if not all(given.any() for _, given in sides):
        return []
    before, now = (float(_errors(binned.sum(axis=0, keepdims=True), given.sum())[0]) for binned, given in sides)
    value, count = now - before, len(live.outcomes.values)
    span = f"{before:.3f} before, {now:.3f} now"
    if count < _LEAST_DRAWN:
        sentence = f"calibration error: {span}; {count:,} examples are too few to judge it"
        return [Check("calibration", "calibration error", OPEN, f"{sentence}.", count, before, now, value,
                      bound=bounds.calibration, more=_LEAST_DRAWN - count)]  # fmt: skip
    apart = _resampled_errors(sides)
    low, high = value + np.quantile(apart, [SURE, 1 - SURE]) - apart.mean()  # the bootstrap's own bias is taken off
    state = HOLDS if high <= bounds.calibration else FAILS if value > bounds.calibration and low > 0 else OPEN
    sentence = f"calibration error: {span}; it grows by at most {max(0.0, high):.3f} (95 % sure)"
    more = 0
    if state == FAILS:
        sentence += f", and by more than {bounds.calibration:g} for all that can be seen"
    elif state == OPEN:
        ahead = value < bounds.calibration
        ratio = (
            (high - value) / max(bounds.calibration - value, bounds.calibration / 4) if ahead else (value - low) / value
        )
        more = _rounded(max(count * (ratio**2 - 1), count / 4))
        sentence += f", so one of {bounds.calibration:g} is not ruled out"
    return [Check("calibration", "calibration error", state, f"{sentence}.", count, before, now, value, float(low),
                  float(high), bounds.calibration, more=more)]  # fmt: skip


def _binned(entry: Entry) -> tuple[np.ndarray, np.ndarray]:
    """Return confidence minus value of each example in the column of its bin, float [N, ECE_BINS]; which have one."""
    confidences, values = entry.outcomes.confidences, entry.outcomes.values
    given = ~np.isnan(confidences)
    bins = np.maximum(np.searchsorted(np.linspace(0, 1, ECE_BINS + 1), confidences[given], side="left") - 1, 0)
    found = np.zeros((len(values), ECE_BINS), dtype=np.float32)
    found[np.flatnonzero(given), bins] = confidences[given] - values[given]
    return found, given


def _errors(sums: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Return expected calibration errors, float [K], of sums by bin, float [K, ECE_BINS], and how many have one."""
    found: np.ndarray = np.abs(sums).sum(axis=1) / np.maximum(1, given)
    return found


def _resampled_errors(sides: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Return how much larger the second's calibration error is in bootstrap samples of the examples, float [DRAWS]."""
    rng = np.random.default_rng(_SEED)
    count = len(sides[0][0])
    step = max(1, _BLOCK // count)
    found = []
    for start in range(0, DRAWS, step):
        drawn = rng.integers(count, size=(min(step, DRAWS - start), count))
        weights = np.stack([np.bincount(row, minlength=count) for row in drawn]).astype(np.float32)
        live, candidate = (_errors(weights @ binned, weights @ given.astype(np.float32)) for binned, given in sides)
        found.append(candidate - live)
    return np.concatenate(found)


def _speed(candidate: Entry, live: Entry, bounds: Bounds) -> Check:
    before, now = live.milliseconds, candidate.milliseconds
    is_slower = now > bounds.slowdown * before and now - before > NOISE_MS
    sentence = f"network: {before:.2f} ms before, {now:.2f} now, one input at a time"
    if is_slower:
        sentence += f": more than {bounds.slowdown:g} times as long"
    return Check("speed", "milliseconds", FAILS if is_slower else HOLDS, f"{sentence}.", None, before, now,
                 now - before, bound=bounds.slowdown)  # fmt: skip


def _unknown(labels: Sequence[str]) -> list[Check]:
    if not labels:
        return []
    named = ", ".join(labels[:8]) + (f" and {len(labels) - 8:,} more" if len(labels) > 8 else "")
    return [
        Check("labels", "labels", FAILS, f"labels: the candidate does not know {named}, which the live bundle does.")
    ]


def _state(p_loss: float, p_worse: float) -> str:
    return HOLDS if p_loss < SURE else FAILS if p_worse < SURE else OPEN


def _at_worst(low: float) -> str:
    return (
        f"it loses {points(-low)} at worst (95 % sure)" if low < 0 else f"it gains {points(low)} at least (95 % sure)"
    )


def _more(first: np.ndarray, second: np.ndarray, margin: float) -> int:
    """Return how many more examples like these would show a loss below the margin, or a loss, whichever takes fewer."""
    apart = second - first
    count, value, square = len(apart), float(apart.mean()), float((apart**2).mean())
    spread = np.sqrt(max(square - value**2, 0.0))
    # At the margin, answers that are right or wrong differ in a share of it at least.
    under = np.sqrt(max(square, margin) - margin**2) if is_right_or_wrong(apart) else spread
    needed = []
    if value > -margin:
        needed.append(((_ONE_SIDED * under + _POWERED * spread) / (margin + value)) ** 2)
    if value < 0:
        needed.append(((_TWO_SIDED * np.sqrt(square) + _POWERED * spread) / value) ** 2)
    return _rounded(max(min(needed) - count, count / 4))  # by chance it may still be open where most would be decided


def _rounded(count: float) -> int:
    """Return a number of examples, to two digits.

    >>> _rounded(1834.2), _rounded(7.5)
    (1900, 8)
    """
    step = 10 ** max(0, len(str(int(count))) - 2)
    return int(np.ceil(count / step) * step)


def _power(first: np.ndarray, second: np.ndarray, margin: float) -> dict[str, Any]:
    """Return what a gate on so many examples notices, and how many would be enough."""
    apart = second - first
    count, share = len(apart), float((apart != 0).mean())
    square = max(float((apart**2).mean()), margin if is_right_or_wrong(apart) else margin**2)
    spread = np.sqrt(square - margin**2)
    needed = ((_TWO_SIDED * np.sqrt(square) + _POWERED * spread) / margin) ** 2
    if is_right_or_wrong(apart):
        notices, passes_worse, passes_equal = powers(count, share, margin)
    else:
        normal, root = NormalDist(), np.sqrt(count)
        notices = normal.cdf((margin * root - _TWO_SIDED * np.sqrt(square)) / max(spread, 1e-9))
        passes_worse, passes_equal = SURE, normal.cdf(margin * root / np.sqrt(square) - _ONE_SIDED)
    chance = f"{notices:.2f}" if notices < 0.995 else "more than 0.99"
    enough = _rounded(needed)
    how_many = f"{enough:,} examples would" if count < needed else f"{enough:,} examples would already"
    return {
        "differ": round(share, 5),
        "notices_loss": round(float(notices), 3),
        "passes_loss": round(float(passes_worse), 3),
        "passes_equal": round(float(passes_equal), 3),
        "needed": enough,
        "sentence": f"With {count:,} examples, {100 * share:.1f} % of them answered differently, a candidate that is "
        f"{points(margin)} worse would have been refused for it with probability {chance}, and let through with "
        f"probability {passes_worse:.2f}; one that is just as good would have been let through with probability "
        f"{passes_equal:.2f}. About {how_many} refuse the worse one four times in five.",
    }  # fmt: skip


def powers(count: int, differ: float, margin: float) -> tuple[float, float, float]:
    """Return the chances that one worse by the margin is refused and that it passes, and that an equal one passes.

    Of the test on all examples, where answers are right or wrong; drawn at random, so good to a point or two.

    Args:
        count: examples.
        differ: share of the examples that just one of the two answers right.
        margin: what may be lost, and is.
    """
    rng = np.random.default_rng(_SEED)
    chances = []
    for loss in (margin, 0.0):
        apart = max(differ, loss)  # a loss is a difference
        shares = ((apart - loss) / 2, (apart + loss) / 2, 1 - apart)
        better, worse, _ = rng.multinomial(count, shares, size=4 * DRAWS).T
        passes = margin_p(better, worse, count, margin) < SURE
        chances.append((float((~passes & (worse_p(better, worse) < SURE)).mean()), float(passes.mean())))
    return chances[0][0], chances[0][1], chances[1][1]


def _not_checked(live: Entry, bounds: Bounds) -> list[str]:
    """Return what the data did not allow to look at, in sentences."""
    found = []
    counts = Counter(live.outcomes.labels)
    few = [name for name in counts if counts[name] < bounds.label_examples]
    if few and len(counts) > 1:
        who = "No label has" if len(few) == len(counts) else f"{len(few):,} of {len(counts):,} labels do not have"
        found.append(
            f"{who} {bounds.label_examples:,} examples, which is the least to be looked at by itself: a label like "
            "that may have become worse unseen."
        )
    if np.isnan(live.outcomes.confidences).all():
        found.append("The answers have no confidence, so calibration was not looked at.")
    return found


def _sentence(verdict: str, checks: Sequence[Check], more: int) -> str:
    """Return the verdict in words."""
    quality = next(check for check in checks if check.kind == "quality")
    if verdict == PASSES:
        return f"The candidate may replace the live bundle. {_capital(quality.sentence)}"
    wanted = FAILS if verdict == REFUSED else OPEN
    found = [check for check in checks if check.state == wanted]
    said = " ".join(_capital(check.sentence) for check in found[:3])
    rest = f" And {len(found) - 3} more." if len(found) > 3 else ""
    if verdict == REFUSED:
        return f"Refused. {said}{rest}"
    return f"Undecided: needs about {more:,} more examples. {said}{rest}"


def _capital(sentence: str) -> str:
    """Return a sentence that begins with a capital, unless its first word is a name of the data.

    >>> _capital("right answers: 90 %.")
    'Right answers: 90 %.'
    """
    return sentence[0].upper() + sentence[1:]
