"""All that is told of a dataset: the findings, and what the page shows."""

from __future__ import annotations

import base64
import hashlib
import io
import logging
import math
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from shared.errors import DataError
from shared.exploring import photos as looking
from shared.exploring import texts as reading
from shared.exploring.eyes import Eyes
from shared.exploring.findings import Finding, ranked
from shared.exploring.flat import flat
from shared.exploring.labels import check_labels, confusable, nearest, shift
from shared.exploring.languages import language_of
from shared.exploring.rows import JOINED, Rows
from shared.exploring.spelling import best_spellings, stands_for_nothing
from shared.exploring.statistics import LARGEST, MAX_CATEGORIES, Categories, categories_of, dependences, numbers_of
from shared.exploring.wording import counted, quoted
from shared.personal import masked, personal_data
from shared.sources.splits import guard

logger = logging.getLogger(__name__)
SHOWN_FINDINGS = 200
"""Of each kind, on the page; findings.jsonl has all."""
SHOWN_ROWS = 3_000
"""On the page, drawn at random if there are more."""
CONTACTS = 12
"""Photos of each label on its contact sheet."""
SHOWN_LABELS = 60
"""Labels with words and photos of their own on the page, the most frequent ones."""
SHOWN_CHARACTERS = 240
SHOWN_COLUMNS = 40
"""In the rows of the page."""
SHOWN_VALUES = 6
"""Of each column of few values, the most frequent ones."""
PAIRED_COLUMNS = 40
"""Columns whose dependences are looked for: they have 780 pairs; 1,000 columns would have 499,500."""
UNCLEAR = "not clear"
"""The language of a text that is too short or too mixed to tell."""
NEIGHBOURS = 5
_LONELY = 6.0
"""Median deviations below the median likeness to its neighbours, from which a row is far from all others."""
_LEAST_DISTANCE = 0.1
"""The least such difference, as a cosine."""
_AVERAGE_SIDE = 48
_FEWER = "To see others, keep these with the step `select` of percept clean, and explore what it makes."
_MEASURED = ("width", "height", "ratio", "brightness", "contrast", "sharpness")


@dataclass
class Examined:
    """What was found."""

    findings: list[Finding] = field(default_factory=list)
    page: dict[str, Any] = field(default_factory=dict)
    """For the page's script; JSON."""
    notes: list[str] = field(default_factory=list)
    """What could not be told, and why."""


def examine(rows: Rows, eyes: Eyes | None) -> Examined:
    """Return what there is to say of a dataset.

    Args:
        rows: of the dataset.
        eyes: the model that looks; without one, nothing is said of likeness and label errors.
    """
    found = _Examination(rows, eyes)
    found.run()
    return found.done


class _Examination:
    def __init__(self, rows: Rows, eyes: Eyes | None) -> None:
        self.rows, self.eyes = rows, eyes
        self.done = Examined()
        self.findings: list[Finding] = []
        self.numbers = dict(rows.numbers)
        self.categories = dict(rows.categories)
        self.thumbs: dict[int, bytes] = {}
        self.copy_of: dict[int, int] = {}
        """Row -> the first row that is the same."""
        self.labels = list(rows.labels)
        """Of each row, in the most frequent spelling."""
        self.unlabelled = {row for row, label in enumerate(rows.labels) if label is None}
        """Rows without a label that no copy of theirs has either."""
        self.ties: list[int] = []
        """Rows of each group of copies with several labels and no majority."""
        self.features: np.ndarray | None = None
        """float32 [M, D] of the rows `seen`."""
        self.seen: list[int] = []
        self.words: dict[str, list[str]] = {}
        """Label -> the words that its texts share."""
        self.confusable: list[list[Any]] = []
        self.agreement: float | None = None
        """Share of labels that models of the features give too."""

    def run(self) -> None:
        rows = self.rows
        page = self.done.page
        if rows.label is not None:
            self._spellings()
        if rows.image is not None:
            page["photos"] = self._photos()
        elif rows.text is not None:
            page["texts"] = self._texts()
        if rows.label is not None:
            self._unlabelled()
        if self.features is not None and len(self.seen) > NEIGHBOURS:
            self._by_likeness(page)
        elif rows.text is not None or rows.image is not None:
            why = "no model looked" if self.eyes is None else f"that takes more than {NEIGHBOURS} rows"
            self.done.notes.append(f"near-copies and label errors were not looked for: {why}.")
        self._placeholders()
        page["columns"] = self._columns()
        page["dependences"] = self._dependences()
        page["labels"] = self._labels()
        if self.ties:
            what = counted(len(self.ties), "text" if rows.image is None else "photo")
            self.done.notes.append(f"no label has the majority among the copies of {what}. percept clean proposes to "
                                   f"leave out all their {sum(self.ties):,} rows, unless you decide.")  # fmt: skip
        self.done.findings = ranked(self.findings)
        info = rows.dataset.info
        page |= {
            "name": info.name,
            "rows": len(rows),
            "splits": info.splits,
            "fingerprint": info.fingerprint[:12],
            "roles": {"text": rows.text, "label": rows.label, "image": rows.image},
            "eyes": self.eyes.name if self.eyes else None,
            "seen": len(self.seen),
            "findings": self._shown_findings(),
            "kinds": dict(Counter(finding.kind for finding in self.findings)),
            "table": self._table(),
            "notes": self.done.notes,
        }
        page["thumbs"] = self._shown_thumbs(page)

    def add(self, kind: str, row: int, score: float, message: str, *, other: int | None = None, **more: Any) -> None:
        """Add a finding."""
        digests = self.rows.digests
        self.findings.append(
            Finding(
                kind,
                row,
                digests[row],
                float(min(1.0, max(0.0, score))),
                message,
                other=other,
                other_sha256=None if other is None else digests[other],
                **more,
            )
        )

    # Columns

    def _columns(self) -> list[dict[str, Any]]:
        found = []
        categories = self.categories
        for name, kind in self.rows.dataset.info.columns.items():
            if name not in self.rows.values:
                continue
            cells = self.rows.values[name]
            described: dict[str, Any] = {"name": name, "kind": kind, "missing": sum(cell is None for cell in cells)}
            if name in categories:
                described["categories"] = _shown(categories_of(categories[name]))
            elif name not in self.numbers:
                described["distinct"] = len({str(cell) for cell in cells if cell is not None})
            found.append(described)
        for name in categories:
            if name not in self.rows.values:
                told = categories_of(categories[name])
                found.append({"name": name, "kind": "measured", "missing": told.missing, "categories": _shown(told)})
        for name in self.rows.written_numbers:
            self.done.notes.append(f"{name}: its numbers are texts, and are looked at as numbers.")
        for name, values in self.numbers.items():
            numbers = numbers_of(values)
            beyond = sum(value is not None for value in values) - (0 if numbers is None else numbers.count)
            if beyond:
                self.done.notes.append(f"{name}: {beyond:,} of its numbers are infinite or beyond {LARGEST:g}. Its "
                                       "statistics leave them out.")  # fmt: skip
            if numbers is None:
                continue
            self._outliers(name, values, numbers.outliers, numbers.quartiles)
            place = next((each for each in found if each["name"] == name), None)
            if place is None:
                place = {"name": name, "kind": "measured", "missing": numbers.missing}
                found.append(place)
            place["numbers"] = asdict(numbers) | {"outliers": len(numbers.outliers)}
        return found

    def _outliers(self, name: str, values: Sequence[Any], rows: Sequence[int], quartiles: Sequence[float]) -> None:
        if len(rows) > 0.05 * len(values):  # a long tail, not outliers
            return
        lower, upper = quartiles[1], quartiles[3]
        for row in rows:
            away = max(lower - values[row], values[row] - upper) / (upper - lower)
            message = f"{name} is {values[row]:g}; half of all are between {lower:g} and {upper:g}"
            self.add("outlier", row, 1 - 3 / away, message, column=name, given=values[row])

    def _dependences(self) -> list[dict[str, Any]]:
        columns = self.numbers | self.categories
        telling = [name for name, cells in columns.items() if len({str(c) for c in cells if c is not None}) > 1]
        if len(telling) > PAIRED_COLUMNS:
            count = len(telling)
            telling.sort(key=lambda name: (name != self.rows.label, sum(cell is None for cell in columns[name])))
            telling = telling[:PAIRED_COLUMNS]
            which = "those" if self.rows.label is None else f"{self.rows.label}, and those"
            self.done.notes.append(f"what depends on what was looked for in {PAIRED_COLUMNS} of {count:,} columns: "
                                   f"{which} that lack the fewest values. {_FEWER}")  # fmt: skip
        chosen = set(telling)
        numbers = {name: cells for name, cells in self.numbers.items() if name in chosen}
        categories = {name: cells for name, cells in self.categories.items() if name in chosen}
        return [asdict(each) for each in dependences(numbers, categories)]

    def _unlabelled(self) -> None:
        for row in sorted(self.unlabelled):
            self.add("missing", row, 1.0, f"has no {self.rows.label}", column=self.rows.label)

    def _spellings(self) -> None:
        """Add the labels that are spelled otherwise than most, and remember how most are."""
        rows = self.rows
        lists = [cell if isinstance(cell, list) else [label] if label is not None else []
                 for cell, label in zip(rows.values[str(rows.label)], rows.labels, strict=True)]  # fmt: skip
        better = best_spellings(str(label) for labels in lists for label in labels)
        for row, labels in enumerate(lists):
            if not any(str(label) in better for label in labels):
                continue
            given = rows.labels[row]
            best = self.labels[row] = JOINED.join(better.get(str(label), str(label)) for label in labels)
            self.add("label_spelling", row, 1.0, f"is {quoted(given)}; most rows have it as {quoted(best)}",
                     column=rows.label, given=given, suggested=best)  # fmt: skip

    def _placeholders(self) -> None:
        """Add the cells that look as if they stood for a missing value."""
        rows = self.rows
        for name, cells in rows.values.items():
            if rows.dataset.info.columns[name] != "text":
                continue
            has_role = name in (rows.text, rows.label)
            placeholders = {cell for cell in set(cells) if cell and stands_for_nothing(cell, may_be_meant=has_role)}
            for row, cell in enumerate(cells if placeholders else ()):
                if cell in placeholders:
                    message = f"{name} is {quoted(cell)}, which looks like a missing value"
                    self.add("missing", row, 0.5, message, column=name, given=cell)

    def _labels(self) -> dict[str, Any] | None:
        rows = self.rows
        if rows.label is None:
            return None
        known = [(label, split) for label, split in zip(rows.labels, rows.splits, strict=True) if label is not None]
        by_split: dict[str, Counter[str]] = defaultdict(Counter)
        for label, split in known:
            by_split[split][label] += 1
        shifts = shift([label for label, _ in known], [split for _, split in known])
        shared_out = [
            [label, count, {split: own[label] for split, own in by_split.items()}]
            for label, count in Counter(label for label, _ in known).most_common()
        ]
        return {
            "counts": shared_out,
            "shift": [{"split": split, "variation": variation, "p": p} for split, variation, p in shifts],
            "words": self.words,
            "confusable": self.confusable,
            "agreement": self.agreement,
            "choices": [label for label, _ in Counter(filter(None, self.labels)).most_common(MAX_CATEGORIES)],
        }

    # Texts

    def _texts(self) -> dict[str, Any]:
        texts = self.rows.texts
        labels = self.rows.labels
        for row, text in enumerate(texts):
            if text is None or not text.strip():
                self.add("missing", row, 1.0, "has no text", column=self.rows.text)
                continue
            kinds = sorted({each.kind for each in personal_data(text)})
            if kinds:
                self.add("personal_data", row, 1.0, f"has {', '.join(kinds)} in it: {masked(text)[:SHOWN_CHARACTERS]}",
                         column=self.rows.text, given=", ".join(kinds))  # fmt: skip
        self.numbers[f"{self.rows.text}: words"] = [None if text is None else len(text.split()) for text in texts]
        self.categories[f"{self.rows.text}: language"] = [
            language_of(text) or (None if text is None else UNCLEAR) for text in texts
        ]
        for group in reading.same(texts):
            self._copies(group)
        known = [(text, label) for text, label in zip(texts, labels, strict=True) if text and label is not None]
        if known and self.rows.label in self.rows.categories:
            words = reading.characteristic_words([text for text, _ in known], [label for _, label in known])
            most = [label for label, _ in Counter(label for _, label in known).most_common(SHOWN_LABELS)]
            self.words = {label: [word for word, _ in words[label]] for label in most}
        counts = reading.vocabulary(text for text in texts if text)
        self.seen = [row for row, text in enumerate(texts) if text and text.strip()]
        if self.eyes is not None and self.eyes.of_texts is not None and self.seen:
            self.features = self.eyes.of_texts([texts[row] or "" for row in self.seen])
        return {
            "vocabulary": len(counts),
            "once": sum(count == 1 for count in counts.values()),
            "frequent": counts.most_common(60),
        }

    def _copies(self, group: Sequence[int]) -> None:
        """Add what is to say of rows that are the same, beside the first one with the label of the majority.

        Without a majority nobody can say which label is right, and all rows with a label are contradictions.
        """
        labels, splits = self.labels, self.rows.splits
        votes = Counter(labels[row] for row in group if labels[row] is not None).most_common()
        is_tie = len(votes) > 1 and votes[0][1] == votes[1][1]
        best = votes[0][0] if votes and not is_tie else None
        first = group[0] if best is None else next(row for row in group if labels[row] == best)
        self.copy_of.update(dict.fromkeys(group, first))
        if is_tie:
            self._tie([row for row in group if labels[row] is not None])
        for row in group:
            if row == first:
                continue
            if best is not None and labels[row] is None:
                self.unlabelled.discard(row)
                self._contradiction(row, first, f"has no {self.rows.label}; its copy #{first} is {quoted(best)}", best)
            elif best is not None and labels[row] != best:
                message = f"is {quoted(labels[row])} here and {quoted(best)} in #{first}"
                self._contradiction(row, first, message, best)
            elif not is_tie and splits[row] == splits[first]:
                self.add("duplicate", row, 1.0, f"is the same as #{first}", other=first)
            if splits[row] != splits[first]:
                one, kept = self._less_guarded(first, row)
                self.add("leak", one, 1.0, f"is in {splits[one]}, and as #{kept} in {splits[kept]}", other=kept)

    def _tie(self, group: Sequence[int]) -> None:
        self.ties.append(len(group))
        labels = self.labels
        different = next(row for row in group if labels[row] != labels[group[0]])
        for row in group:
            other = different if labels[row] == labels[group[0]] else group[0]
            message = (
                f"is {quoted(labels[row])} here and {quoted(labels[other])} in #{other}; no label has the majority"
            )
            self._contradiction(row, other, message, None)

    def _contradiction(self, row: int, other: int, message: str, suggested: str | None) -> None:
        given = self.rows.labels[row]
        self.add("contradiction", row, 1.0, message, other=other, column=self.rows.label, given=given,
                 suggested=suggested)  # fmt: skip

    # Photos

    def _photos(self) -> dict[str, Any]:
        seen: dict[str, list[int]] = defaultdict(list)
        kept: list[looking.Looked] = []
        features: list[np.ndarray] = []
        measured: dict[str, list[float | None]] = {name: [None] * len(self.rows) for name in _MEASURED}
        formats: Counter[str] = Counter()
        averages: dict[str, tuple[np.ndarray, int]] = {}
        waiting: list[bytes] = []
        for row, content in tqdm(self.rows.photos(), total=len(self.rows), desc="looking at photos", unit="photo"):
            looked = "has no photo" if content is None else looking.look(content)
            if content is None or isinstance(looked, str):
                self.add("broken", row, 1.0, str(looked), column=self.rows.image)
                continue
            seen[hashlib.sha256(content).hexdigest()].append(row)
            self.seen.append(row)
            kept.append(looked)
            self.thumbs[row] = looked.thumb
            formats[looked.format] += 1
            values = (looked.width, looked.height, looked.width / looked.height, looked.brightness, looked.contrast,
                      looked.sharpness)  # fmt: skip
            for name, value in zip(measured, values, strict=True):
                measured[name][row] = float(value)
            self._average(averages, row, looked.thumb)
            waiting.append(content)
            if len(waiting) == 32:
                features += self._seen_photos(waiting)
        features += self._seen_photos(waiting)
        self.features = np.stack(features) if features else None
        self.album = looking.Album.of(kept)
        self.numbers.update(measured)
        for group in seen.values():
            if len(group) > 1:
                self._copies(group)
        return {"formats": formats.most_common(), "sheets": self._sheets(), "averages": _as_jpegs(averages)}

    def _seen_photos(self, waiting: list[bytes]) -> list[np.ndarray]:
        if not waiting or self.eyes is None or self.eyes.of_photos is None:
            waiting.clear()
            return []
        found = list(self.eyes.of_photos(waiting))
        waiting.clear()
        return found

    def _average(self, averages: dict[str, tuple[np.ndarray, int]], row: int, thumb: bytes) -> None:
        label = self.rows.labels[row]
        if label is None or (label not in averages and len(averages) >= SHOWN_LABELS):
            return
        with Image.open(io.BytesIO(thumb)) as opened:
            square = np.asarray(opened.convert("RGB").resize((_AVERAGE_SIDE, _AVERAGE_SIDE)), dtype=np.float64)
        total, count = averages.get(label, (np.zeros_like(square), 0))
        averages[label] = total + square, count + 1

    def _sheets(self) -> list[tuple[str, list[int]]]:
        by_label: dict[str, list[int]] = defaultdict(list)
        for row in self.seen:
            by_label[self.rows.labels[row] or "no label"].append(row)
        rng = random.Random(0)
        most = sorted(by_label.items(), key=lambda each: (-len(each[1]), each[0]))[:SHOWN_LABELS]
        return [(label, sorted(rng.sample(found, min(CONTACTS, len(found))))) for label, found in most]

    # Likeness

    def _by_likeness(self, page: dict[str, Any]) -> None:
        assert self.features is not None
        near, cosines = nearest(self.features, NEIGHBOURS)
        if self.rows.image is not None:
            pairs = looking.nearly_same(self.album, self.features)
        else:
            pairs = reading.nearly_same([self.rows.texts[row] for row in self.seen], near, cosines)
        for one, other, likeness in pairs:
            self._near_copies(self.seen[one], self.seen[other], likeness)
        self._lonely(cosines)
        self._label_errors()
        page["map"] = [[x, y, self.seen[place]] for x, y, place in flat(self.features)]

    def _near_copies(self, one: int, other: int, likeness: float) -> None:
        if one in self.copy_of and self.copy_of[one] == self.copy_of.get(other):
            return
        splits, labels = self.rows.splits, self.labels
        one, other = self._less_guarded(one, other)[::-1]
        differs = ""
        if labels[one] != labels[other]:
            differs = f", with another label: {quoted(labels[other])} and {quoted(labels[one])}"
        if splits[one] != splits[other]:
            message = f"is in {splits[other]}, and nearly the same as #{one} in {splits[one]}{differs}"
            self.add("near_leak", other, likeness, message, other=one)
        else:
            self.add("near_duplicate", other, likeness, f"is nearly the same as #{one}{differs}", other=one)

    def _less_guarded(self, one: int, other: int) -> tuple[int, int]:
        """Return the row that may be left out of two that leak, and the one that stays: later, if in one split."""
        is_less = guard(self.rows.splits[one]) > guard(self.rows.splits[other])
        return (one, other) if is_less else (other, one)

    def _lonely(self, cosines: np.ndarray) -> None:
        alike = cosines.mean(axis=1)
        middle = float(np.median(alike))
        spread = float(np.median(np.abs(alike - middle))) or 1e-6
        far = np.flatnonzero(alike < middle - max(_LONELY * spread, _LEAST_DISTANCE))
        for place in far[np.argsort(alike[far])][: max(5, len(alike) // 100)]:
            message = f"is unlike all others: {alike[place]:.2f} to its nearest, the median is {middle:.2f}"
            self.add("outlier", self.seen[place], 1 - max(0.0, float(alike[place])) / max(middle, 1e-6), message)

    def _label_errors(self) -> None:
        assert self.features is not None
        rows = self.rows
        if rows.label is None or rows.label not in rows.categories:
            return
        known = [place for place, row in enumerate(self.seen) if self.labels[row] is not None]
        names = sorted({str(self.labels[self.seen[place]]) for place in known})
        code_of = {name: code for code, name in enumerate(names)}
        codes = np.array([code_of[str(self.labels[self.seen[place]])] for place in known], dtype=np.int64)
        try:
            checked = check_labels(self.features[known], codes)
        except DataError as error:
            self.done.notes.append(str(error))
            return
        for place in np.flatnonzero(checked.suggested != codes):
            row, better = self.seen[known[place]], names[checked.suggested[place]]
            self.add("label_error", row, (1 - float(checked.margin[place])) / 2,
                     f"is {quoted(self.labels[row])}, and looks like {quoted(better)}",
                     column=rows.label, given=rows.labels[row], suggested=better)  # fmt: skip
        self.agreement = checked.accuracy
        self.confusable = [[names[a], names[b], count] for a, b, count in confusable(codes, checked.suggested)]

    # The page

    def _shown_findings(self) -> list[dict[str, Any]]:
        shown, counts = [], Counter[str]()
        for finding in self.done.findings:
            counts[finding.kind] += 1
            if counts[finding.kind] <= SHOWN_FINDINGS:
                other = finding.other
                shown.append(
                    asdict(finding)
                    | {
                        "text": self._snippet(finding.row),
                        "split": self.rows.splits[finding.row],
                        "place": self.rows.places[finding.row],
                        "other_text": None if other is None else self._snippet(other),
                    }
                )
        return shown

    def _snippet(self, row: int) -> str:
        if self.rows.text is not None:
            return str(self.rows.values[self.rows.text][row] or "")[:SHOWN_CHARACTERS]
        cells = [f"{name}: {cells[row]}" for name, cells in self.rows.values.items() if cells[row] is not None]
        return "; ".join(cells)[:SHOWN_CHARACTERS]

    def _table(self) -> dict[str, Any]:
        rows = self.rows
        count = len(rows)
        chosen = range(count) if count <= SHOWN_ROWS else sorted(random.Random(0).sample(range(count), SHOWN_ROWS))
        needed = set(chosen) | {int(point[2]) for point in self.done.page.get("map", ())}
        names = list(rows.values)
        if len(names) > SHOWN_COLUMNS:
            roles = [name for name in (rows.text, rows.label) if name is not None]
            self.done.notes.append(f"the rows on the page show {SHOWN_COLUMNS} of {len(names):,} columns: "
                                   f"{', '.join([*roles, 'and the first others'])}. {_FEWER}")  # fmt: skip
            shown = set(list(dict.fromkeys([*roles, *names]))[:SHOWN_COLUMNS])
            names = [name for name in names if name in shown]
        cells = {row: [rows.splits[row], *(_cell(rows.values[name][row]) for name in names)] for row in sorted(needed)}
        return {"columns": ["split", *names], "rows": [[row, *values] for row, values in cells.items()],
                "is_sample": count > SHOWN_ROWS}  # fmt: skip

    def _shown_thumbs(self, page: dict[str, Any]) -> dict[str, str]:
        if not self.thumbs:
            return {}
        wanted = {row for _, found in page["photos"]["sheets"] for row in found}
        wanted |= {each["row"] for each in page["findings"]} | {each["other"] for each in page["findings"]}
        wanted |= {int(point[2]) for point in page.get("map", ())}
        return {str(row): _base64(self.thumbs[row]) for row in sorted(w for w in wanted if w in self.thumbs)}


def _shown(categories: Categories) -> dict[str, Any]:
    most = [(value[:SHOWN_CHARACTERS], count) for value, count in categories.counts[:SHOWN_VALUES]]
    return asdict(categories) | {"counts": most}


def _as_jpegs(averages: dict[str, tuple[np.ndarray, int]]) -> dict[str, str]:
    found = {}
    for label, (total, count) in averages.items():
        file = io.BytesIO()
        Image.fromarray((total / count).astype(np.uint8)).save(file, "JPEG", quality=80)
        found[label] = _base64(file.getvalue())
    return found


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _cell(value: Any) -> Any:
    if value is None or isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text[:SHOWN_CHARACTERS]
