"""The plan: what is done to a dataset, step by step, as a YAML file."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from shared.errors import ConfigError, shown
from shared.exploring.wording import quoted

Cell = str | int | float | bool


def _without_repeats(names: list[str]) -> list[str]:
    twice = next((name for place, name in enumerate(names) if name in names[:place]), None)
    if twice is not None:
        raise ValueError(f"the column {twice!r} is named twice; name each column once")
    return names


Columns = Annotated[list[str], AfterValidator(_without_repeats)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Decide(_Part):
    """Do what was decided about single rows, in the file `decisions` of the plan."""

    step: Literal["decide"]


class DropDuplicates(_Part):
    """Keep one of the rows that are the same in some columns; of several splits, the one in the most guarded."""

    step: Literal["drop_duplicates"]
    by: Columns | None = None
    """If not given, all columns as they are then, without where rows are from."""
    loosely: bool = True
    """Texts are the same but for case, blanks and punctuation at the end; those of nothing else must be equal."""
    keep: Literal["first", "last", "none"] = "first"
    """`none`: where rows are the same, all are dropped."""


class MergeLabels(_Part):
    """Rename labels; several with one new name are merged."""

    step: Literal["merge_labels"]
    column: str = "label"
    names: dict[str, str]
    """Old -> new."""


class DropLabels(_Part):
    """Leave out rows with some labels, or with labels that too few rows have; of a list, one such label is enough."""

    step: Literal["drop_labels"]
    column: str = "label"
    labels: list[str] = Field(default_factory=list)
    fewer_than: int = 0


class Missing(_Part):
    """What becomes of rows that lack a value: it is null or NaN, a text of blanks, or an empty list."""

    step: Literal["missing"]
    column: str
    how: Literal["drop", "constant", "median", "most_frequent"]
    value: Cell | None = None
    """Of `constant`. Median and most frequent value are those of the training split."""

    @model_validator(mode="after")
    def _has_value(self) -> Missing:
        if (self.how == "constant") != (self.value is not None):
            raise ValueError("`value` belongs to `how: constant`, and to it alone")
        return self


class Outliers(_Part):
    """What becomes of numbers outside of a range.

    Numbers that were written as texts become numbers when they are clipped. Whole numbers stay whole if the range
    begins and ends with whole ones.
    """

    step: Literal["outliers"]
    column: str
    how: Literal["drop", "clip", "empty"]
    """`empty`: the cell becomes a missing value, which the step `missing` may fill."""
    least: float | None = None
    most: float | None = None
    reach: float | None = Field(default=None, gt=0)
    """In place of these: interquartile ranges beyond the quartiles of the training split."""

    @model_validator(mode="after")
    def _has_range(self) -> Outliers:
        if (self.reach is None) == (self.least is None and self.most is None):
            raise ValueError("say least or most, or reach")
        return self


class NormaliseText(_Part):
    """Write texts in one way, also those in lists."""

    step: Literal["normalise_text"]
    columns: Columns = Field(default_factory=lambda: ["text"])
    unicode: Literal["NFC", "NFKC"] | None = "NFC"
    lower: bool = False
    blanks: bool = True
    """Runs of blanks become one, and there are none at the ends."""


class Redact(_Part):
    """Put [e-mail], [telephone] and so on in place of personal data that are known by rule, also in lists of texts."""

    step: Literal["redact"]
    columns: Columns = Field(default_factory=lambda: ["text"])


class Limits(_Part):
    """Leave out rows that are too small or too large."""

    step: Literal["limits"]
    column: str
    measure: Literal["value", "words", "characters", "pixels"]
    """`pixels`: the shorter side of a photo."""
    least: float | None = None
    most: float | None = None


class Balance(_Part):
    """Make labels of the training split equally frequent."""

    step: Literal["balance"]
    column: str = "label"
    how: Literal["down", "up", "weights"]
    """Draw fewer, repeat some, or add a column `weight`."""
    to: int | None = Field(default=None, gt=0)
    """Rows of each label; the rarest label's number (down) or the most frequent one's (up) if not given."""


class Split(_Part):
    """Divide the rows anew; rows that belong together are never divided.

    The shares hold as well as the groups allow, and each split with a share gets a group if there are enough. With
    `by`, the past trains and what came after it tests, as it is where a model predicts what comes next.
    """

    step: Literal["split"]
    shares: dict[Literal["train", "val", "test"], float]
    stratify: str | None = None
    """A column whose values each split gets in proportion."""
    together: Columns = Field(default_factory=list)
    """Columns: rows with the same value in one of them stay together. Near-duplicates of the decisions always do."""
    by: str | None = None
    """A column of times or numbers, in place of these: the least train, the next validate, the greatest test. Rows
    with the same value are never divided; copies and near-duplicates are where their time is."""

    @model_validator(mode="after")
    def _adds_up(self) -> Split:
        if self.by is not None and (self.stratify is not None or self.together):
            raise ValueError("`by` divides by time alone, so `stratify` and `together` cannot hold; leave them out")
        if abs(sum(self.shares.values()) - 1) > 1e-6 or min(self.shares.values()) < 0:
            raise ValueError(f"the shares must add up to 1; came {sum(self.shares.values()):g}")
        return self


class Length(_Part):
    """Add the number of words and characters of a text."""

    step: Literal["length"]
    column: str = "text"


class Language(_Part):
    """Add the language of a text; nothing where it is too short to tell."""

    step: Literal["language"]
    column: str = "text"


class TimeParts(_Part):
    """Add year, month, weekday (0 is Monday) and hour of a time."""

    step: Literal["time_parts"]
    column: str


class Standardise(_Part):
    """Subtract a number's mean and divide by its standard deviation, both of the training split."""

    step: Literal["standardise"]
    columns: Columns


class Discretise(_Part):
    """Add the number of the quantile that a number is in, seen from the training split."""

    step: Literal["discretise"]
    column: str
    bins: int = Field(default=4, ge=2, le=100)


class OneHot(_Part):
    """Add a column of 0 and 1 for each value that the training split has; of lists, for each of their members."""

    step: Literal["one_hot"]
    column: str
    most: int = Field(default=50, gt=0)
    """The most frequent ones alone."""


class Tfidf(_Part):
    """Add the weights of a text's words, learned from the training split, as a list of numbers."""

    step: Literal["tfidf"]
    column: str = "text"
    into: str = "tfidf"
    words: int = Field(default=500, gt=0, le=20_000)


class Embed(_Part):
    """Add what a model makes of a text or a photo, as a list of numbers."""

    step: Literal["embed"]
    column: str = "text"
    into: str = "embedding"
    bundle: str | None = None
    """Folder of an encoder, an intent classifier or a tagger; the one that comes with Percept if not given."""


class Select(_Part):
    """Keep some columns, or leave some out."""

    step: Literal["select"]
    keep: Columns | None = None
    drop: Columns = Field(default_factory=list)


AnyStep = Annotated[
    Decide | DropDuplicates | MergeLabels | DropLabels | Missing | Outliers | NormaliseText | Redact | Limits | Balance
    | Split | Length | Language | TimeParts | Standardise | Discretise | OneHot | Tfidf | Embed | Select,
    Field(discriminator="step"),
]  # fmt: skip


class Plan(_Part):
    """A plan for one dataset."""

    fingerprint: str
    """Of the dataset it was made for."""
    name: str | None = None
    """Of the new dataset; the old one's if not given."""
    seed: int = 42
    decisions: str | None = None
    """A file of decisions about single rows, as the page of `percept explore` saves it, beside the plan."""
    steps: list[AnyStep] = Field(min_length=1)


class Decision(_Part):
    """What was decided about one row."""

    sha256: str
    """Of its content as it was collected."""
    action: Literal["drop", "relabel", "redact", "keep", "together"]
    """`keep`: steps that mend such findings leave the row as it is."""
    value: Cell | None = None
    """The label of `relabel`, several ones joined by " + "; of `together` another row's digest, or a group's name."""
    column: str | None = None
    kind: str | None = None
    """Of the finding."""
    row: int | None = None
    """Its number, where rows with the same content are told apart."""

    @model_validator(mode="after")
    def _has_group(self) -> Decision:
        if self.action == "together" and self.value is None:
            raise ValueError("`together` needs a `value`: the digest of another row, or the name of a group")
        return self


def read_plan(file: Path) -> tuple[Plan, list[Decision]]:
    """Return a plan and its decisions.

    Raises:
        ConfigError: one of them cannot be read, or says something unknown or wrong.
    """
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ConfigError(f"{file} holds no plan: expected `fingerprint:` and a list of `steps:`.")
        plan = Plan.model_validate(content)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"the plan {file} cannot be read: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        raise ConfigError(f"{file}: {_first(error)}") from error
    if plan.decisions is None:
        return plan, []
    return plan, read_decisions(file.parent / plan.decisions)


def read_decisions(file: Path) -> list[Decision]:
    """Return the decisions of a file, JSON lines.

    Raises:
        ConfigError: it cannot be read or has none, a line is wrong, or two lines contradict each other.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the decisions {file} cannot be read: {error}") from error
    found = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            found.append(Decision.model_validate(json.loads(line)))
        except ValidationError as error:
            raise ConfigError(f"{file} line {number}: {_first(error)}") from error
        except ValueError as error:
            raise ConfigError(f"{file} line {number} is not JSON: {error}") from error
    if not found:
        raise ConfigError(
            f"{file} has no decisions; expected one in each line. Decide on the page of percept explore and save them "
            "there, or do without the file."
        )
    check_consistent(found)
    return found


def check_consistent(decisions: Sequence[Decision]) -> None:
    """Raise ConfigError where a row is to be dropped and relabelled, or to get two labels in one column."""
    by_row: dict[str, dict[int | None, list[Decision]]] = defaultdict(lambda: defaultdict(list))
    for each in decisions:
        if each.action in ("drop", "relabel"):
            by_row[each.sha256][each.row].append(each)
    for found in by_row.values():
        of_all = found.get(None, [])
        for row, own in found.items():
            first: dict[str, Decision] = {}
            for each in of_all if row is None else [*of_all, *own]:
                column = each.column or "label"
                others = [first.get(column), first.get("")] if each.action == "relabel" else list(first.values())
                other = next((o for o in others if o is not None and not _agree(o, each)), None)
                if other is not None:
                    raise ConfigError(
                        f"two decisions about {'the row' if row is None else f'row {row}'} ({each.sha256[:12]}) "
                        f"contradict each other: {_said(other)} and {_said(each)}. Delete one of the two lines."
                    )
                first.setdefault("" if each.action == "drop" else column, each)


def _agree(one: Decision, other: Decision) -> bool:
    return one.action == other.action and (one.action == "drop" or str(one.value) == str(other.value))


def _said(decision: Decision) -> str:
    said = "drop" if decision.action == "drop" else f"relabel as {quoted(decision.value)}"
    return said if decision.kind is None else f"{said} ({decision.kind.replace('_', ' ')})"


def write_plan(file: Path, plan: dict[str, Any], decisions: list[dict[str, Any]]) -> None:
    """Write a plan, and its decisions beside it."""
    if decisions:
        beside = file.with_name(f"{file.stem}.decisions.jsonl")
        beside.write_text("".join(json.dumps(each, ensure_ascii=False) + "\n" for each in decisions), encoding="utf-8")
        plan = {**plan, "decisions": beside.name}
    file.write_text(yaml.safe_dump(plan, sort_keys=False, allow_unicode=True, width=110), encoding="utf-8")


def _first(error: ValidationError) -> str:
    errors = error.errors()
    first = next((each for each in errors if each["type"] == "extra_forbidden"), errors[0])
    where = first["loc"]
    if first["type"] == "extra_forbidden":
        part = _PARTS.get(str(where[-2]) if len(where) > 1 else error.title)
        if part is not None:
            inside = f" in the step {where[-2]} (number {int(where[1]) + 1})" if len(where) > 1 else ""
            return f"unknown key {where[-1]!r}{inside}; permitted are {', '.join(part.model_fields)}."
    place = ".".join(str(part) for part in where)
    return f"{place or 'the whole'}: {first['msg']}; came {shown(first.get('input'))}."


def _parts() -> dict[str, type[_Part]]:
    found: dict[str, type[_Part]] = {"Plan": Plan, "Decision": Decision}
    for part in get_args(get_args(AnyStep)[0]):
        found[get_args(part.model_fields["step"].annotation)[0]] = part
    return found


_PARTS = _parts()
"""Name of a step, or of another part -> what it may say."""
