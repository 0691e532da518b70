"""The next version of a dataset: the rows that it had, and reviewed records to train on. What is held out stays."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from shared.bundle.read import Bundle
from shared.bundle.seen import Seen, read_seen
from shared.dataset.columns import to_table, unified, widened
from shared.dataset.layout import PLACE, SOURCE
from shared.dataset.read import PHOTO_ROWS, Dataset
from shared.dataset.write import write_dataset
from shared.errors import ConfigError, DataError
from shared.exploring.rows import Rows, load_rows
from shared.improving.examples import NAMES_OF_OUT_OF_SCOPE, Example, Examples
from shared.sources.splits import SPLIT_COLUMNS, splits_in
from shared.sources.tables import Row, normalised

LEAST_OF_A_NEW_LABEL = 8
"""Training examples, below which a label that is new is left out."""
RECENT = 5
"""One in so many reviewed inputs is never trained on: it measures what people ask by now."""
HELD_OUT = ("val", "test")
STEP = "improve"
_WORD = re.compile(r"[^\W\d_]+")


@dataclass
class Version:
    """What was written."""

    dataset: Dataset
    """To train on, with the validation and test rows of before."""
    recent: Dataset | None
    """The reviewed rows that are never trained on, all in its split `test`; None if there is none yet."""
    added: int
    """Rows that are trained on by now."""
    new_labels: dict[str, int]
    """Label -> its training rows."""
    too_few: dict[str, int] = field(default_factory=dict)
    """New label -> its training rows, left out because they are too few."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Reason -> reviewed records, or rows of before."""
    frozen: dict[str, str] = field(default_factory=dict)
    """Split -> SHA-256 over its rows' contents, the same before and after."""


def is_recent(example: Example) -> bool:
    """Whether an example is kept apart: always the same ones, and one person's all together."""
    return int(hashlib.sha256((example.group or example.key).encode()).hexdigest()[:8], 16) % RECENT == 0


def next_version(
    dataset: Dataset,
    before: Dataset | None,
    reviews: Examples,
    bundle: Bundle,
    forgotten: set[str],
    folder: Path,
    *,
    least: int = LEAST_OF_A_NEW_LABEL,
    text: str | None = None,
    label: str | None = None,
) -> Version:
    """Write `folder`/dataset and `folder`/recent, and return what is in them.

    A row of before that a reviewer gave another label makes room for the reviewed one. A reviewed input that validates
    or tests is not trained on, nor one with the same words.

    Args:
        dataset: the version of before. Where it is not divided, its rows go where the bundle had them.
        before: the reviewed rows that were kept apart so far.
        reviews: what reviewers agree on.
        bundle: the live one.
        forgotten: hashes of subjects, whose rows go.
        folder: where to.
        least: training rows of a new label.
        text: the column of texts; the first that is called so if not given.
        label: that of the labels, likewise.

    Raises:
        ConfigError: the dataset has no such column, or nobody knows how it is divided.
        DataError: the held-out rows would not be the same.
    """
    known = _Known.of(dataset, reviews.task, bundle, text, label)
    drops: dict[int, str] = {
        row: "of a subject that is to be forgotten" for row, group in enumerate(known.groups) if group in forgotten
    }
    found = Version(dataset, None, 0, {}, left_out=Counter(reviews.left_out))
    taken: list[Example] = []
    recent: list[Example] = []
    reserved = _keys_of(before, reviews.task, text, label) if before is not None else {}
    trained_on = {
        _alike(key, reviews.task) for key, split in zip(known.keys, known.splits, strict=True) if split == "train"
    }
    apart = {
        _alike(key, reviews.task) for key in [*reserved, *(each.key for each in reviews.examples if is_recent(each))]
    }
    apart -= trained_on  # what has been learned from measures nothing
    for example in reviews.examples:
        rows = known.rows_of.get(example.key, [])
        held_out = next((known.splits[row] for row in rows if known.splits[row] in HELD_OUT), None)
        held_out = held_out or known.held_out_words.get(words_of(example.key) if reviews.task == "intent" else "")
        if held_out is not None:
            _leave_out(reviews, found, example, f"in the {held_out} part, which stays as it is")
        elif _alike(example.key, reviews.task) in apart:
            recent.append(example)
        elif reviews.task == "tagging" and len(example.labels) > 1 and known.has_one_label:
            _leave_out(reviews, found, example, "with several tags, where the dataset has one for each photo")
        elif any(known.labels[row] == example.labels for row in rows):
            _leave_out(reviews, found, example, "in the training part already, with this label")
        else:
            drops |= dict.fromkeys(rows, "given another label by reviewers")
            taken.append(example)
    trained = {each for row, labels in enumerate(known.labels) if known.splits[row] == "train" for each in labels}
    counts = Counter(each for example in taken for each in example.labels if each not in trained)
    asked = {each for example in [*taken, *recent] for each in example.labels if each not in trained}
    found.new_labels = {each: count for each, count in sorted(counts.items()) if count >= least}
    found.too_few = {each: counts[each] for each in sorted(asked) if each not in found.new_labels}
    for part in (taken, recent):
        for example in [each for each in part if any(name in found.too_few for name in each.labels)]:
            part.remove(example)
            _leave_out(reviews, found, example, f"of a new label with fewer than {least} examples to train on")
    found.left_out.update(Counter(drops.values()))
    found.added = len(taken)
    found.frozen = known.frozen(drops)
    _write(folder, found, known, drops, taken, reviews, bundle, before, recent, reserved, forgotten)
    after = _Known.of(found.dataset, reviews.task, bundle, known.rows.text, known.rows.label).frozen()
    if after != found.frozen:
        raise DataError(f"the held-out rows of {found.dataset.path} are not those of {dataset.path}. Report this: it "
                        "must not happen.")  # fmt: skip
    return found


def words_of(text: str) -> str:
    """Return a text's words in no order, each once: the same for texts that hardly differ.

    >>> words_of("my card, my card 12!") == words_of("card my")
    True
    """
    return " ".join(sorted(set(_WORD.findall(text.casefold()))))


def _alike(key: str, task: str) -> str:
    """Return what inputs that are not to be on both sides have in common: a text's words, else the key itself."""
    return (words_of(key) or key) if task == "intent" else key


def _leave_out(reviews: Examples, found: Version, example: Example, reason: str) -> None:
    reviews.leave_out(example.row, reason, step=STEP, count=example.records)
    found.left_out[reason] += example.records


@dataclass
class _Known:
    """A dataset's rows: where each is, what it is and what it is called."""

    rows: Rows
    splits: list[str]
    keys: list[str]
    labels: list[tuple[str, ...]]
    groups: list[str | None]
    rows_of: dict[str, list[int]]
    held_out_words: dict[str, str]
    """Words of a held-out text -> its split."""

    @classmethod
    def of(cls, dataset: Dataset, task: str, bundle: Bundle, text: str | None, label: str | None) -> _Known:
        rows = load_rows(dataset, text="question" if task == "qa" and text is None else text, label=label)
        keys = _keys(rows, task)
        splits = _splits(rows, keys, bundle, task)
        labels = [_labels(each, task) for each in (rows.values[rows.label] if rows.label else [None] * len(rows))]
        rows_of: dict[str, list[int]] = {}
        words: dict[str, str] = {}
        for row, key in enumerate(keys):
            rows_of.setdefault(key, []).append(row)
            if task == "intent" and splits[row] in HELD_OUT and words_of(key):
                words.setdefault(words_of(key), splits[row])
        return cls(rows, splits, keys, labels, rows.values.get("group", [None] * len(rows)), rows_of, words)

    @property
    def has_one_label(self) -> bool:
        return self.rows.dataset.info.columns.get(self.rows.label or "") == "text"

    def frozen(self, without: Container[int] = ()) -> dict[str, str]:
        """Return split -> SHA-256 over what its rows hold, of the splits that are held out."""
        found = {}
        for split in HELD_OUT:
            lines = sorted(
                f"{key}\0{'|'.join(labels)}"
                for row, (key, labels) in enumerate(zip(self.keys, self.labels, strict=True))
                if self.splits[row] == split and row not in without
            )
            if lines:
                found[split] = hashlib.sha256("\n".join(lines).encode()).hexdigest()
        return found


def _keys(rows: Rows, task: str) -> list[str]:
    """Return what makes a row the same as another, as `Example.key` has it."""
    if task == "tagging":
        if rows.image is None:
            raise ConfigError(f"{rows.dataset.path} has no column of photos. Collect it with its photos.")
        return [hashlib.sha256(content or b"").hexdigest() for _, content in rows.photos()]
    if rows.text is None:
        raise ConfigError(f"{rows.dataset.path} has no column of texts. Name it with --text.")
    texts = [normalised(text or "") for text in rows.texts]
    if task == "intent":
        return texts
    if "context" not in rows.values:
        raise ConfigError(f"{rows.dataset.path} has no column context, with the text that answers a question.")
    return [f"{text}\n{context}" for text, context in zip(texts, rows.values["context"], strict=True)]


def _labels(cell: Any, task: str) -> tuple[str, ...]:
    if cell is None or task == "qa":
        return ()
    found = tuple(sorted(map(str, cell))) if isinstance(cell, list) else (str(cell),)
    return () if task == "intent" and set(found) <= NAMES_OF_OUT_OF_SCOPE else found


def _splits(rows: Rows, keys: Sequence[str], bundle: Bundle, task: str) -> list[str]:
    """Return the split of each row: as stored, as a column says, or where the bundle has had it."""
    stored = rows.dataset.info.splits
    if set(stored) - {"train"}:
        return rows.splits
    for name in (name for name in rows.values if name.lower() in SPLIT_COLUMNS):
        meaning = splits_in({str(cell) for cell in rows.values[name]})
        if set(map(str, rows.values[name])) <= set(meaning):
            return [meaning[str(cell)] for cell in rows.values[name]]
    seen = read_seen(bundle)
    if seen is None:
        raise ConfigError(
            f"{rows.dataset.path} has no validation and test part, and {bundle.path} does not say how it was divided. "
            f"Divide it first with a plan of `percept clean`, or train {bundle.config.name} again."
        )
    found = [_seen_in(seen, key, task) for key in keys]
    if not set(found) & set(HELD_OUT):
        raise ConfigError(
            f"{rows.dataset.path} has no validation and test part, and no row of it held out {bundle.path}. Name the "
            "data that it was trained on."
        )
    return found


def _seen_in(seen: Seen, key: str, task: str) -> str:
    digest = (
        key
        if task == "tagging"
        else hashlib.sha256((key.partition("\n")[2] if task == "qa" else key).encode()).hexdigest()
    )
    return seen.split_of(digest) or "train"


def _keys_of(dataset: Dataset, task: str, text: str | None, label: str | None) -> dict[str, int]:
    columns = dataset.info.columns
    rows = load_rows(dataset, text=text if text in columns else None, label=label if label in columns else None)
    return {key: row for row, key in enumerate(_keys(rows, task))}


def _write(
    folder: Path,
    found: Version,
    known: _Known,
    drops: Mapping[int, str],
    taken: Sequence[Example],
    reviews: Examples,
    bundle: Bundle,
    before: Dataset | None,
    recent: Sequence[Example],
    reserved: Mapping[str, int],
    forgotten: set[str],
) -> None:
    old = known.rows.dataset
    named = partial(_named, reviews.task, known.rows)
    step = {
        "step": STEP,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "over": {"name": bundle.config.name, "version": bundle.config.version},
        "reviewed": reviews.records,
        "added": found.added,
        "new_labels": found.new_labels,
        "left_out": dict(found.left_out),
        "held_out": found.frozen,
        "details": f"{found.added:,} reviewed rows of {bundle.config.name} were added to train; what is held out stays",
    }  # fmt: skip
    new = [named(example.row) for example in taken]
    own = named(reviews.columns)
    columns = unified([old.info.columns, own])
    gone = [
        {SOURCE: f"{old.info.name}", PLACE: known.rows.places[row], "step": STEP, "reason": reason, "row": {}}
        for row, reason in sorted(drops.items())
    ]

    def parts() -> Iterator[tuple[str, pa.Table]]:
        for split in ("train", *HELD_OUT):
            number = 0
            for _, batch in old.batches(rows=PHOTO_ROWS if known.rows.image else 4096):
                here = [
                    place
                    for place in range(len(batch))
                    if known.splits[number + place] == split and number + place not in drops
                ]
                number += len(batch)
                if here:
                    table = pa.Table.from_batches([batch]).take(here)
                    yield split, widened(table, old.info.columns, columns)
            if split == "train" and new:
                yield split, to_table(new, columns)

    found.dataset = write_dataset(
        folder / "dataset", parts(), name=old.info.name, columns=columns, history=[*old.info.history, step],
        left_out=[*reviews.rows_left_out, *gone],
    )  # fmt: skip
    kept: list[pa.Table] = []
    newer = {example.key for example in recent}
    columns = unified([before.info.columns if before else {}, own])
    if before is not None:
        groups = load_rows(before).values.get("group", [None] * len(before))
        stale = {row for key, row in reserved.items() if key in newer}
        stale |= {row for row, group in enumerate(groups) if group in forgotten}
        stale |= {row for key, row in reserved.items() if key in known.rows_of or key in {each.key for each in taken}}
        number = 0
        for _, batch in before.batches(rows=PHOTO_ROWS):
            here = [place for place in range(len(batch)) if number + place not in stale]
            number += len(batch)
            if not here:
                continue
            kept.append(widened(pa.Table.from_batches([batch]).take(here), before.info.columns, columns))
    if recent:
        kept.append(to_table([named(example.row) for example in recent], columns))
    if sum(map(len, kept)):
        history = [
            *(before.info.history if before else ()),
            {**step, "details": "Reviewed rows that are never trained on."},
        ]
        found.recent = write_dataset(
            folder / "recent", (("test", table) for table in kept), name=f"{old.info.name} recent", columns=columns,
            history=history,
        )  # fmt: skip


def _named(task: str, rows: Rows, row: Mapping[str, Any]) -> Row:
    """Return a reviewed row under the dataset's own names of columns, a single label as a text if its labels are."""
    found = dict(row)
    if task == "intent":
        found[rows.text or "text"] = found.pop("text")
        found[rows.label or "label"] = found.pop("label")
    elif task == "tagging":
        found[rows.image or "image"] = found.pop("image")
        labels, name = found.pop("labels"), rows.label or "labels"
        is_one = rows.dataset.info.columns.get(name) == "text"
        found[name] = ("text" if labels == "texts" else labels[0]) if is_one else labels
    return found
