"""What is known of a model: its bundle, what other commands printed about it, and what people measured themselves."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeGuard, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from shared.bundle.read import Bundle
from shared.errors import BundleError, ConfigError
from shared.intervals import wilson

RIGHT, NEAR, WRONG, NONE = "right", "near", "wrong", "none"
OUT_OF_SCOPE = "(none)"
"""In tables of confusions, what belongs to no label."""
MAX_JSON_BYTES = 64 << 20
_SHOWN_PROBLEMS = 3
_MOST = 10**9
"""Of anything that is counted, and of any number in a bundle's metrics."""
_ROUNDING = 1e-4
"""Shares of words that differ by less are the same: bundles round them to five digits."""
Count = Annotated[int, Field(ge=0, le=_MOST)]


@dataclass(frozen=True)
class Outcome:
    """What becomes of the examples of one kind, such as of the sentences that have an intent."""

    kind: str
    """What the examples are, as `wording` calls it: "known", "foreign", "answerable", …"""
    examples: int
    parts: Mapping[str, float]
    """RIGHT, NEAR, WRONG, NONE -> share; they sum to 1. One that cannot happen is left out."""
    low: float
    high: float
    """95 % interval of the share right (Wilson). Of a mean of numbers from 0 to 1 it is rather too wide than too
    narrow: none varies more than as many answers that are right or wrong. 0 to 1 where nothing is known of it."""

    @property
    def has_interval(self) -> bool:
        """Whether anything is known of it."""
        return self.high - self.low < 1


class _Said(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class _Figure(_Said):
    """A value with its 95 % interval, where that is known."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if (self.low is None) != (self.high is None):
            raise ValueError("an interval needs both low and high")
        if self.low is not None and self.high is not None and not self.low <= self.value <= self.high:
            raise ValueError(f"{self.value:g} is not within the interval {self.low:g} to {self.high:g}")
        return self

    def expect_shares(self) -> None:
        """Raise ValueError if one of its numbers is not from 0 to 1."""
        if not all(0 <= each <= 1 for each in (self.value, self.low, self.high) if each is not None):
            raise ValueError(f"{self.name}: a share is a number from 0 to 1")


class Measure(_Figure):
    """A figure that a person measured."""

    unit: str | None = None
    """SHARE for one from 0 to 1, which the page shows of 100."""
    better: Literal["lower", "higher"] = "higher"
    baseline: float | None = None
    examples: int | None = Field(default=None, ge=1, le=_MOST)

    @model_validator(mode="after")
    def _is_a_share(self) -> Self:
        if self.unit == SHARE:
            self.expect_shares()
            if self.baseline is not None and not 0 <= self.baseline <= 1:
                raise ValueError("the baseline of a share is a number from 0 to 1")
        return self


SHARE = "share"


class Model(_Figure):
    """A model that was compared by the first measure."""


class Weakness(_Figure):
    """Where the first measure is worst."""

    examples: int | None = Field(default=None, ge=1, le=_MOST)


class Counts(_Said):
    """What became of the cases that were tried."""

    right: Count
    wrong: Count
    none: Count = 0

    @model_validator(mode="after")
    def _counts_something(self) -> Counts:
        if self.right + self.wrong + self.none == 0:
            raise ValueError("none of the outcomes has a case")
        return self


class Cost(_Said):
    """What the model takes."""

    training_minutes: float | None = Field(default=None, ge=0)
    milliseconds: float | None = Field(default=None, ge=0)
    megabytes: float | None = Field(default=None, ge=0)


class Results(_Said):
    """What somebody measured: docs/reporting.md explains each key."""

    title: str
    question: str
    answer: str | None = None
    measures: list[Measure] = Field(min_length=1)
    baseline: str | None = None
    outcomes: Counts | None = None
    models: list[Model] = []
    weak: list[Weakness] = []
    data: list[str] = []
    cost: Cost = Cost()
    limits: list[str] = []
    recommendations: list[str] = []

    @model_validator(mode="after")
    def _has_shares(self) -> Self:
        for each in [*self.models, *self.weak] if self.measures[0].unit == SHARE else ():
            each.expect_shares()
        return self


class _Found(BaseModel):
    """What another command printed; it may say more by now."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


class Confusion(_Found):
    """Examples of a label that were given another."""

    label: str
    given: str | None
    """None and OUT_OF_SCOPE where nothing was given."""
    count: Count
    of: Count

    @property
    def is_silence(self) -> bool:
        """Whether nothing was given."""
        return self.given in (None, OUT_OF_SCOPE)

    @property
    def is_foreign(self) -> bool:
        """Whether nothing should have been given."""
        return self.label == OUT_OF_SCOPE


class Rules(_Found):
    """A bundle beside simple rules on the same examples, as `Worth.summary` has it."""

    measure: str
    value: float
    low: float
    high: float
    baselines: dict[str, float]
    beaten_by: list[str] = []
    """Rules that it is not shown to be better than."""

    @property
    def behind(self) -> list[str]:
        """The rules that do at least as well, as the end of a training tells them."""
        return [name for name in self._open if self.value <= self.baselines[name] < 1]

    @property
    def undecided(self) -> list[str]:
        """The rules of which the examples cannot tell."""
        return [name for name in self._open if name not in self.behind]

    @property
    def beaten(self) -> list[str]:
        """The rules that it is surely better than."""
        return [name for name in self.baselines if name not in self._open]

    @property
    def _open(self) -> list[str]:
        return [name for name in self.beaten_by if name in self.baselines]


class _Row(_Found):
    """A label of `per_label`."""

    label: str
    support: Count
    recall: float | None = Field(default=None, ge=0, le=1)
    kept: float | None = Field(default=None, ge=0, le=1)
    right: float | None = Field(default=None, ge=0, le=1)
    """Of intents: that the best one is right and named. Bundles of before December 2026 do not say it."""


class _Split(_Found):
    """What a bundle says of a split."""

    overall: dict[str, Any]
    cross_fitted: dict[str, Any] | None = None
    per_label: list[_Row] = []
    confusions: list[Confusion] = []
    worth: Rules | None = None


@dataclass(frozen=True)
class Label:
    """How many examples of a label get it."""

    name: str
    examples: int
    share: float
    least: float
    """Less than `share` where the bundle only says between which two the share is."""
    low: float
    high: float
    """95 % interval (Wilson), of `least` and of `share`."""


@dataclass(frozen=True)
class Measured:
    """What a bundle says of the examples that it was measured on."""

    split: Literal["test", "val"]
    overall: Mapping[str, float]
    outcomes: Sequence[Outcome]
    """The first is what the model is for; empty where the bundle does not say."""
    labels: Sequence[Label]
    """With examples, the worst first."""
    confusions: Sequence[Confusion]
    """The most frequent first."""
    rules: Rules | None
    is_cross_fitted: bool
    """Whether the shares are of validation examples that the thresholds were not fitted on."""


class Compared(_Found):
    """A bundle of a comparison."""

    name: str
    version: str
    """The bundle's own name and version."""
    value: float
    low: float
    high: float
    milliseconds: float
    megabytes: float


class Pair(_Found):
    """Two bundles of a comparison, the better one first."""

    first: str
    second: str
    value: float
    low: float
    high: float
    is_sure: bool


class Part(_Found):
    """Some of the examples, answered by the best and the second best bundle."""

    kind: str
    name: str
    examples: Count
    first: float
    second: float


class Comparison(_Found):
    """`percept compare --json`."""

    measure: str
    examples: Count
    bundles: list[Compared] = Field(min_length=2)
    """The best first."""
    pairs: list[Pair]
    parts: list[Part] = []

    def of(self, bundle: Bundle) -> Compared:
        """Return the bundle as it was compared.

        Raises:
            ConfigError: it was not.
        """
        wanted = f"{bundle.name} {bundle.version}"
        for each in self.bundles:
            if each.version == wanted:
                return each
        there = ", ".join(each.version for each in self.bundles)
        raise ConfigError(f"the comparison is of {there}, and not of {wanted}. Compare this bundle, or leave it out.")

    def pair(self, one: str, other: str) -> Pair | None:
        """Return what was found of two bundles, whichever is the better one."""
        return next((each for each in self.pairs if {each.first, each.second} == {one, other}), None)


class Alarm(_Found):
    """What a monitor watches."""

    stat: str
    before: float
    now: float
    is_raised: bool


class Group(_Found):
    """Records that are alike and fit no label."""

    name: str
    size: Count
    texts: list[str] = []


class Share(_Found):
    """A share of answers that are right, with its 95 % interval."""

    value: float
    low: float
    high: float
    said: Count = 0


class Quality(_Found):
    """How good answers are now, by reviewers and by feedback."""

    audited: Share | None = None
    corrected: Share | None = None
    said: Count = 0
    value: float | None = None
    low: float | None = None
    high: float | None = None


class _Model(_Found):
    name: str
    version: str


class _Window(_Found):
    since: str = Field(alias="from")
    to: str
    records: Count


class Monitoring(_Found):
    """`percept monitor --json`."""

    model: _Model
    window: _Window
    state: Literal["quiet", "alarm", "too few"]
    alarms: list[Alarm] = []
    groups: list[Group] = []
    quality: Quality | None = None


class Check(_Found):
    """One thing that the gate looked at."""

    kind: str
    name: str
    state: str


class _Promotion(_Found):
    is_live: bool


class Gate(_Found):
    """`percept promote --json`."""

    verdict: Literal["passes", "refused", "undecided"]
    examples: Count
    more: Count = 0
    candidate: _Model
    over: _Model
    checks: list[Check] = []
    is_forced: bool = False
    promotion: _Promotion | None = None

    @property
    def is_live(self) -> bool:
        """Whether the candidate was promoted, and not rolled back."""
        return self.promotion is not None and self.promotion.is_live

    @property
    def is_rolled_back(self) -> bool:
        """Whether the candidate was promoted and is not live any more."""
        return self.promotion is not None and not self.promotion.is_live


@dataclass(frozen=True)
class Example:
    """An input, and what the model answered to it as the page was made."""

    asked: str
    answers: Sequence[tuple[str, float]]
    """Names with how sure the model is; none where it gives no answer."""
    photo: str | None = None
    """A small JPEG as `data:` address, where the input is a photo."""


@dataclass(frozen=True, eq=False)  # a bundle holds arrays
class Evidence:
    """All that the page may say."""

    bundle: Bundle | None = None
    measured: Measured | None = None
    comparison: Comparison | None = None
    monitoring: Monitoring | None = None
    gate: Gate | None = None
    results: Results | None = None
    milliseconds: float | None = None
    """Of the network for one input, measured for this page."""
    examples: Sequence[Example] = ()

    def check(self) -> None:
        """Refuse what is about another model.

        Raises:
            ConfigError: says which file is about which model.
        """
        if self.bundle is None:
            return
        if self.comparison is not None:
            self.comparison.of(self.bundle)
        name, version = self.bundle.name, self.bundle.version
        if self.monitoring is not None and self.monitoring.model.name != name:
            raise ConfigError(f"the monitoring is of {self.monitoring.model.name}, and not of {name}. Name the right "
                              "file.")  # fmt: skip
        judged = self.gate.candidate if self.gate is not None else None
        if judged is not None and (judged.name, judged.version) != (name, version):
            raise ConfigError(f"the gate is of {judged.name} {judged.version}, and not of {name} {version}. Name the "
                              "right file.")  # fmt: skip


FoundT = TypeVar("FoundT", bound=BaseModel)


def read_json(file: Path, kind: type[FoundT], command: str) -> FoundT:
    """Return what is in a file of JSON.

    Args:
        file: as the user named it.
        kind: what it has to be.
        command: makes such a file; for messages.

    Raises:
        ConfigError: the file cannot be read, or is something else; names the first keys that are wrong.
    """
    try:
        if file.stat().st_size > MAX_JSON_BYTES:
            raise ConfigError(f"{file} is larger than {MAX_JSON_BYTES >> 20} MB, which no such file is. {command}")
        return kind.model_validate(json.loads(file.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}. {command}") from error
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, each['loc'])) or 'all of it'}: {each['msg']}" for each in error.errors()]
        more = f"; and {len(problems) - _SHOWN_PROBLEMS} more" if len(problems) > _SHOWN_PROBLEMS else ""
        told = "; ".join(problems[:_SHOWN_PROBLEMS]) + more
        raise ConfigError(f"{file} is not what was expected: {told}. {command}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{file} is no JSON: {error}. {command}") from error


def measured_of(bundle: Bundle) -> Measured | None:
    """Return what a bundle says of how good it is: on test data, else on validation data; None if it says nothing.

    Raises:
        BundleError: its metrics are not as percept writes them.
    """
    metrics = bundle.config.metrics
    said = {name: metrics[name] for name in ("test", "val") if isinstance(metrics.get(name), Mapping)}
    split = next((name for name, found in said.items() if "overall" in found), None)
    if split is None:
        return None
    try:
        found = _Split.model_validate(said[split])
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, ("metrics", split, *first["loc"])))
        raise BundleError(
            f"{bundle.path}: {place} of config.json is not as percept writes it ({first['msg']}). Measure the bundle "
            "again: percept export."
        ) from error
    fair = found.cross_fitted if split == "val" else None
    overall = {name: float(value) for name, value in {**found.overall, **(fair or {})}.items() if is_number(value)}
    return Measured(
        split="test" if split == "test" else "val",
        overall=overall,
        outcomes=_OUTCOMES_OF.get(bundle.config.task, _no_outcomes)(bundle, overall),
        labels=_labels(bundle.config.task, found.per_label),
        confusions=found.confusions,
        rules=found.worth,
        is_cross_fitted=bool(fair),
    )


def is_number(value: object) -> TypeGuard[int | float]:
    """Return whether something in a bundle is a number that can be counted with."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _MOST


def outcome(kind: str, examples: int, **parts: float) -> Outcome:
    """Return what becomes of the examples; shares below 0, which come of rounded metrics, are 0.

    Of no examples, nothing is known of the interval.

    >>> outcome("known", 100, right=0.9, wrong=0.1).low.__round__(3)
    0.826
    """
    known = {name: min(1.0, max(0.0, share)) for name, share in parts.items()}
    low, high = wilson(known[RIGHT], examples) if examples else (0.0, 1.0)
    return Outcome(kind, examples, known, float(low), float(high))


def counted(results: Results | None) -> Outcome | None:
    """Return what became of the cases that people tried, if they counted that."""
    if results is None or results.outcomes is None:
        return None
    counts = results.outcomes.model_dump()
    cases = sum(counts.values())
    return outcome("results", cases, **{name: count / cases for name, count in counts.items()})


def outcome_of(results: Results | None) -> Outcome | None:
    """Return what became of what people tried: as they counted it, else by the first share of which more is better."""
    found = counted(results)
    if found is not None or results is None:
        return found
    first = next((each for each in results.measures if each.unit == SHARE and each.better == "higher"), None)
    if first is None:
        return None
    found = outcome("share", first.examples or 0, right=first.value, wrong=1 - first.value)
    if first.low is None or first.high is None:
        return found
    return replace(found, low=first.low, high=first.high)


def _count(share: float, of: int) -> int:
    """Return how many they were: bundles round shares to five digits, and what is left by that is not wrong."""
    return round(share * of)


def _intents(_bundle: Bundle, overall: Mapping[str, float]) -> list[Outcome]:
    """Return what becomes of utterances with an intent, and of those without one."""
    foreign, kept = int(overall.get("out_of_scope") or 0), overall.get("kept")
    known = int(overall.get("examples") or 0) - foreign
    refused, all_right = overall.get("out_of_scope_recall"), overall.get("right")
    found = []
    if known > 0 and kept is not None and all_right is not None:
        # `right` is of all utterances, and counts silence about those without an intent as right.
        named = _count(kept, known)
        right = _count(all_right, known + foreign) - _count(refused or 0.0, foreign)
        right = min(max(right, 0), named)
        found.append(
            outcome("known", known, right=right / known, wrong=(named - right) / known, none=1 - named / known)
        )
    if foreign > 0 and refused is not None:
        silent = _count(refused, foreign) / foreign
        found.append(outcome("foreign", foreign, right=silent, wrong=1 - silent))
    return found


def _answers(_bundle: Bundle, overall: Mapping[str, float]) -> list[Outcome]:
    """Return what becomes of questions that the text answers, and of others. Right is counted by shared words (F1)."""
    asked, others = int(overall.get("examples") or 0), int(overall.get("unanswerable") or 0)
    answered, silent, all_f1 = (overall.get(name) for name in ("answered", "silent", "f1_at_threshold"))
    found = []
    if asked > 0 and answered is not None and all_f1 is not None and (silent is not None or not others):
        # `f1_at_threshold` is of all questions, and counts silence about the unanswerable as 1.
        right = (all_f1 * (asked + others) - (silent or 0.0) * others) / asked
        answered = _count(answered, asked) / asked
        right = answered if answered - right < _ROUNDING else max(right, 0.0)
        found.append(outcome("answerable", asked, right=right, wrong=answered - right, none=1 - answered))
    if others > 0 and silent is not None:
        silent = _count(silent, others) / others
        found.append(outcome("unanswerable", others, right=silent, wrong=1 - silent))
    return found


def _tags(bundle: Bundle, overall: Mapping[str, float]) -> list[Outcome]:
    """Return what becomes of photos with one label; of several labels, what becomes of labels and of tags."""
    photos = int(overall.get("examples") or 0)
    recall, precision, untagged = (overall.get(name) for name in ("micro_recall", "micro_precision", "untagged"))
    if photos <= 0 or recall is None:
        return []
    has_one = bundle.config.problem_type == "single_label_classification" and not bundle.config.label_parents
    if has_one and untagged is not None:
        tagged = photos - _count(untagged, photos)
        right = min(_count(recall, photos), tagged)
        shares = right / photos, (tagged - right) / photos, 1 - tagged / photos
        return [outcome("photos", photos, **dict(zip((RIGHT, WRONG, NONE), shares, strict=True)))]
    found = [outcome("labels", photos, right=recall, none=1 - recall)]
    if precision is not None:
        found.append(outcome("tags", photos, right=precision, wrong=1 - precision))
    return found


def _searches(_bundle: Bundle, overall: Mapping[str, float]) -> list[Outcome]:
    """Return where the text that is looked for is found."""
    first, five = overall.get("recall_at_1"), overall.get("recall_at_5")
    if first is None or five is None or not overall.get("examples"):
        return []
    return [outcome("searches", int(overall["examples"]), right=first, near=five - first, none=1 - five)]


def _sentences(_bundle: Bundle, overall: Mapping[str, float]) -> list[Outcome]:
    """Return whether a sentence is made, or the text quoted."""
    if overall.get("given") is None or not overall.get("examples"):
        return []
    return [outcome("sentences", int(overall["examples"]), right=overall["given"], none=1 - overall["given"])]


def _no_outcomes(_bundle: Bundle, _overall: Mapping[str, float]) -> list[Outcome]:
    return []


_OUTCOMES_OF = {
    "intent": _intents,
    "qa": _answers,
    "tagging": _tags,
    "embedding": _searches,
    "answer-writer": _sentences,
}


def _labels(task: str, rows: Sequence[_Row]) -> list[Label]:
    """Return the labels with examples, the worst first."""
    found = []
    for row in rows:
        share = least = row.recall
        if task == "intent" and row.right is not None:
            share = least = row.right
        elif task == "intent" and row.recall is not None and row.kept is not None:
            # The best intent is right, and is named. The two together are only known to be within these.
            share = min(row.recall, row.kept)
            least = max(share - (1 - max(row.recall, row.kept)), 0.0)
        if share is not None and least is not None and row.support > 0:
            low, high = float(wilson(least, row.support)[0]), float(wilson(share, row.support)[1])
            found.append(Label(row.label, row.support, share, least, low, high))
    return sorted(found, key=lambda each: (each.share, -each.examples, each.name))
