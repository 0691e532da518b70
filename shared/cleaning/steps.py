"""What each step of a plan does to the rows."""

from __future__ import annotations

import math
import random
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from shared.cleaning import plan as of
from shared.cleaning.cells import (
    comparable,
    finite,
    has_text,
    labels_in,
    number_in,
    order_of,
    reader_like,
    time_in,
    with_texts,
)
from shared.cleaning.working import WEIGHT, Working
from shared.dataset.splitting import divide
from shared.errors import ConfigError
from shared.exploring.eyes import Eyes
from shared.exploring.languages import language_of
from shared.exploring.rows import is_missing
from shared.exploring.texts import words_of
from shared.exploring.wording import counted
from shared.personal import masked
from shared.sources.splits import guard


class Steps:
    """Runs the steps of a plan."""

    def __init__(
        self, plan: of.Plan, decisions: Sequence[of.Decision], eyes: Callable[..., Eyes | None] = lambda *_, **__: None
    ) -> None:
        self.plan, self.decisions, self.eyes = plan, decisions, eyes
        self.together = [(each.sha256, str(each.value)) for each in decisions if each.action == "together"]
        self.kept: dict[str, list[of.Decision]] = defaultdict(list)
        """Digest -> what a person said is to be kept as it is."""
        for each in decisions:
            if each.action == "keep":
                self.kept[each.sha256].append(each)

    def run(self, working: Working, step: Any, number: int) -> None:
        """Do one step.

        Raises:
            ConfigError: the step cannot be done with these columns.
        """
        key = f"{number} {step.step}"
        getattr(self, f"_{step.step}")(working, step, key)

    # Single rows

    def _decide(self, working: Working, step: of.Decide, key: str) -> None:
        by_digest: dict[str, list[of.Decision]] = defaultdict(list)
        for decision in self.decisions:
            by_digest[decision.sha256].append(decision)
        wanted, reasons = [True] * len(working), [""] * len(working)
        read: dict[str, Callable[[Any], Any]] = {}
        for place, digest in enumerate(working.digests):
            for decision in by_digest.get(digest, ()):
                if decision.row is not None and decision.row != working.row[place]:
                    continue
                if decision.action == "drop":
                    wanted[place] = False
                    reasons[place] = f"decided: {(decision.kind or 'drop').replace('_', ' ')}"
                elif decision.action == "relabel":
                    column = decision.column or "label"
                    if column not in working.cells:  # rows that nobody has labelled yet
                        working.add(column, [None] * len(working))
                    cells = working.column(column)
                    if column not in read:
                        read[column] = reader_like(cells)
                    cells[place] = read[column](decision.value)
                    working.put(column, cells)
                elif decision.action == "redact":
                    column = decision.column or "text"
                    cells = working.column(column)
                    cells[place] = _redacted(cells[place], column)
                    working.put(column, cells)
        working.keep(wanted, step.step, lambda place: reasons[place])

    def _is_kept(self, working: Working, kinds: Sequence[str], column: str | None = None) -> list[bool]:
        """Return of each row whether a person kept it as it is when such a finding was shown.

        Args:
            working: the rows.
            kinds: of the findings.
            column: that the finding is about; any if None.
        """

        def holds(decision: of.Decision, row: int) -> bool:
            return (
                decision.row in (None, row)
                and (decision.kind is None or decision.kind in kinds)
                and (column is None or decision.column in (None, column))
            )

        return [
            digest in self.kept and any(holds(decision, row) for decision in self.kept[digest])
            for digest, row in zip(working.digests, working.row, strict=True)
        ]

    # Rows

    def _drop_duplicates(self, working: Working, step: of.DropDuplicates, key: str) -> None:
        columns = [working.column(name) for name in step.by] if step.by else working.content()
        is_kept = self._is_kept(working, ("duplicate", "leak", "contradiction"))
        groups: dict[Any, list[int]] = defaultdict(list)
        for place, cells in enumerate(zip(*columns, strict=True)):
            if is_kept[place] or all(cell is None for cell in cells):
                continue
            groups[tuple(comparable(cell, loosely=step.loosely) for cell in cells)].append(place)
        wanted, kept = [True] * len(working), [0] * len(working)
        for group in groups.values():
            if len(group) == 1:
                continue
            best = min(
                group, key=lambda place: (guard(working.splits[place]), place if step.keep == "first" else -place)
            )
            for place in group:
                wanted[place] = place == best and step.keep != "none"
                kept[place] = best
        said = "is the same as another" if step.keep == "none" else "is the same as {}"
        places = working.cells["_place"]
        working.keep(wanted, step.step, lambda place: said.format(places[kept[place]]))

    def _merge_labels(self, working: Working, step: of.MergeLabels, key: str) -> None:
        cells = working.column(step.column)
        is_kept = self._is_kept(working, ("label_spelling",), step.column)
        read = reader_like(cells)

        def renamed(cell: Any) -> Any:
            if isinstance(cell, list):
                return list(dict.fromkeys(step.names.get(str(each), each) for each in cell))
            return read(step.names[str(cell)]) if cell is not None and str(cell) in step.names else cell

        working.put(step.column, [c if kept else renamed(c) for c, kept in zip(cells, is_kept, strict=True)])

    def _drop_labels(self, working: Working, step: of.DropLabels, key: str) -> None:
        labels = [labels_in(cell) for cell in working.column(step.column)]
        counts = Counter(label for found in labels for label in found)
        gone = set(step.labels)
        named = [next((label for label in found if label in gone), None) for found in labels]
        rare = [next((label for label in found if counts[label] < step.fewer_than), None) for found in labels]
        wanted = [label is None and other is None for label, other in zip(named, rare, strict=True)]
        working.keep(wanted, step.step, lambda place: f"has the label {named[place]!r}" if named[place] is not None
                     else f"only {_have(counts[rare[place] or ''])} the label {rare[place]!r}")  # fmt: skip

    def _missing(self, working: Working, step: of.Missing, key: str) -> None:
        cells = working.column(step.column)
        is_kept = self._is_kept(working, ("missing",), step.column)
        lacks = [(is_missing(cell) or cell == []) and not kept for cell, kept in zip(cells, is_kept, strict=True)]
        if step.how == "drop":
            working.keep([not each for each in lacks], step.step, lambda _: f"has no {step.column}")
            return

        def learn() -> Any:
            known = working.training(step.column)
            if step.how == "most_frequent":
                counts = Counter(comparable(cell, loosely=False) for cell in known)
                found = counts.most_common(1)[0][0]
                kept = (str, int, float, bool)  # what JSON has; all else is read again as the column's cells are
                return list(found) if isinstance(found, tuple) else found if isinstance(found, kept) else str(found)
            return float(np.median(_learnable(working, step.column)))

        value = step.value if step.how == "constant" else working.learned(key, learn)
        value = value if isinstance(value, list) else reader_like(cells)(value)
        working.put(step.column, [value if is_lacking else cell for cell, is_lacking in zip(cells, lacks, strict=True)])

    def _outliers(self, working: Working, step: of.Outliers, key: str) -> None:
        cells = working.column(step.column)
        numbers = working.numbers(step.column)
        is_kept = self._is_kept(working, ("outlier",), step.column)
        least, most = step.least, step.most
        if step.reach is not None:

            def learn() -> list[float]:
                known = [number for number in _training_numbers(working, step.column) if math.isfinite(number)]
                if not known:
                    raise ConfigError(f"the training split has no finite {step.column!r} to learn from.")
                lower, upper = np.quantile(known, (0.25, 0.75))
                away = float(step.reach or 0) * float(upper - lower)
                return [float(lower) - away, float(upper) + away]

            least, most = working.learned(key, learn)
        low, high = -math.inf if least is None else least, math.inf if most is None else most
        inside = [
            kept or number is None or low <= number <= high for number, kept in zip(numbers, is_kept, strict=True)
        ]
        if step.how == "drop":
            shown = f"{step.column} is not between {low:g} and {high:g}"
            working.keep(inside, step.step, lambda place: f"{shown}: {cells[place]}")
            return
        if step.how == "empty":
            kept_cells = [cell if is_inside else None for cell, is_inside in zip(cells, inside, strict=True)]
            working.put(step.column, kept_cells)
            return
        stays_whole = all(cell is None or type(cell) is int for cell in cells) and all(
            float(bound).is_integer() for bound in (low, high) if math.isfinite(bound)
        )
        clipped = [
            number if is_inside or number is None else min(max(number, low), high)
            for number, is_inside in zip(numbers, inside, strict=True)
        ]
        if stays_whole:  # a float does not hold every whole number, so those inside stay what they are
            clipped = [
                cell if is_inside or number is None else int(number)
                for cell, number, is_inside in zip(cells, clipped, inside, strict=True)
            ]
        working.put(step.column, clipped)

    def _normalise_text(self, working: Working, step: of.NormaliseText, key: str) -> None:
        def written(text: str) -> str:
            text = unicodedata.normalize(step.unicode, text) if step.unicode else text
            text = text.lower() if step.lower else text
            return " ".join(text.split()) if step.blanks else text

        for name in step.columns:
            working.put(name, [with_texts(cell, written) for cell in working.column(name)])

    def _redact(self, working: Working, step: of.Redact, key: str) -> None:
        for name in step.columns:
            is_kept = self._is_kept(working, ("personal_data",), name)
            cells = zip(working.column(name), is_kept, strict=True)
            working.put(name, [cell if kept else _redacted(cell, name) for cell, kept in cells])

    def _limits(self, working: Working, step: of.Limits, key: str) -> None:
        low = -math.inf if step.least is None else step.least
        high = math.inf if step.most is None else step.most
        if step.measure == "pixels":
            measured: list[float | None] = list(working.sizes)
        elif step.measure == "value":
            measured = working.numbers(step.column)
        else:
            cells = working.column(step.column)
            texts = [None if cell is None else str(cell) for cell in cells]
            measured = [
                None if text is None else float(len(text.split()) if step.measure == "words" else len(text))
                for text in texts
            ]
        wanted = [value is not None and low <= value <= high for value in measured]

        def has(place: int) -> str:
            value = measured[place]
            unit = "" if step.measure == "value" else f" {step.measure[:-1] if value == 1 else step.measure}"
            return f"{step.column} has {_shown(value)}{unit}"

        working.keep(wanted, step.step, lambda place: f"{has(place)}; allowed are "
                     f"{low:g} to {high:g}")  # fmt: skip

    def _balance(self, working: Working, step: of.Balance, key: str) -> None:
        labels = [None if is_missing(cell) else str(cell) for cell in working.column(step.column)]
        places: dict[str, list[int]] = defaultdict(list)
        for place, (label, split) in enumerate(zip(labels, working.splits, strict=True)):
            if label is not None and split == "train":
                places[label].append(place)
        if not places:
            raise ConfigError(f"no row of the training split has a {step.column}.")
        sizes = {label: len(found) for label, found in places.items()}
        if step.how == "weights":
            even = sum(sizes.values()) / len(sizes)
            weights = [even / sizes[label] if split == "train" and label in sizes else 1.0
                       for label, split in zip(labels, working.splits, strict=True)]  # fmt: skip
            working.add(WEIGHT, weights)
            return
        wanted = step.to or (min(sizes.values()) if step.how == "down" else max(sizes.values()))
        rng = random.Random(f"{self.plan.seed} {key}")
        if step.how == "down":
            kept = {p for found in places.values() for p in rng.sample(found, min(wanted, len(found)))}
            training = {place for found in places.values() for place in found}
            working.keep(
                [place in kept or place not in training for place in range(len(labels))],
                step.step,
                lambda place: (
                    f"{labels[place]!r} has {counted(sizes[str(labels[place])], 'row')}; {wanted} "
                    f"{'is' if wanted == 1 else 'are'} kept"
                ),
            )
            return
        more = [
            p for found in places.values() if len(found) < wanted for p in rng.choices(found, k=wanted - len(found))
        ]
        working.take(sorted([*range(len(labels)), *more]))

    def _split(self, working: Working, step: of.Split, key: str) -> None:
        if step.by is not None:
            self._split_by(working, step, step.by, key)
            return
        labels = [str(cell) for cell in working.column(step.stratify)] if step.stratify else [""] * len(working)
        shares = {str(split): share for split, share in step.shares.items()}
        groups = self._groups(working, step)
        rng = random.Random(f"{self.plan.seed} {key}")
        divided = divide([[labels[place] for place in group] for group in groups], shares, rng)
        for group, split in zip(groups, divided, strict=True):
            for place in group:
                working.splits[place] = split

    def _split_by(self, working: Working, step: of.Split, column: str, key: str) -> None:
        if not len(working):
            return
        cells = working.column(column)
        moments = [order_of(cell, column) for cell in cells]
        shares = {str(split): share for split, share in step.shares.items()}
        wanted = [split for split in ("train", "val", "test") if shares.get(split)]

        def learn() -> list[Any]:
            """Return where each split but the first begins, as JSON has it."""
            places = sorted(range(len(cells)), key=lambda place: moments[place])
            ends = np.cumsum([shares[split] for split in wanted])[:-1]
            begins = [cells[places[min(round(end * len(cells)), len(cells) - 1)]] for end in ends]
            return [begin if isinstance(begin, int | float) else str(begin) for begin in begins]

        begins = [order_of(begin, column) for begin in working.learned(key, learn)]
        working.splits[:] = [wanted[int(np.searchsorted(begins, moment, side="right"))] for moment in moments]
        lacking = [split for split in wanted if split not in working.splits]
        if lacking and not working.is_applied:
            raise ConfigError(
                f"no row is left for {lacking[0]}: too many rows have the same {column!r}. Divide by a finer one, or "
                "change the shares."
            )

    def _groups(self, working: Working, step: of.Split) -> list[list[int]]:
        """Return the rows that stay together: the same content, the same value of a column, what was decided so."""
        parent = list(range(len(working)))
        node_of: dict[Any, int] = {}

        def root(node: int) -> int:
            while parent[node] != node:
                parent[node] = parent[parent[node]]
                node = parent[node]
            return node

        def node(key: Any) -> int:
            """Return the node of what rows have in common; not every digest of a decision is that of a row here."""
            if key not in node_of:
                node_of[key] = len(parent)
                parent.append(len(parent))
            return node_of[key]

        def join(one: int, other: int) -> None:
            parent[root(one)] = root(other)

        for place, digest in enumerate(working.digests):
            join(place, node(digest))
        for digest, other in self.together:
            join(node(digest), node(other))
        for name in step.together:
            for place, cell in enumerate(working.column(name)):
                if not is_missing(cell):
                    join(place, node((name, comparable(cell, loosely=True))))
        groups: dict[int, list[int]] = defaultdict(list)
        for place in range(len(working)):
            groups[root(place)].append(place)
        return list(groups.values())

    # Columns

    def _select(self, working: Working, step: of.Select, key: str) -> None:
        for name in (*(step.keep or ()), *step.drop):
            if name not in working.dataset.info.columns:
                working.column(name)
        own = [name for name in (*working.cells, *working.dataset.info.columns) if not name.startswith("_")]
        gone = {name for name in own if name in step.drop or (step.keep is not None and name not in step.keep)}
        working.dropped_columns |= gone
        working.cells = {name: cells for name, cells in working.cells.items() if name not in gone}

    def _length(self, working: Working, step: of.Length, key: str) -> None:
        cells = working.column(step.column)
        working.add(f"{step.column}_words", [None if cell is None else len(str(cell).split()) for cell in cells])
        working.add(f"{step.column}_characters", [None if cell is None else len(str(cell)) for cell in cells])

    def _language(self, working: Working, step: of.Language, key: str) -> None:
        cells = working.column(step.column)
        working.add(f"{step.column}_language", [language_of(None if c is None else str(c)) for c in cells])

    def _time_parts(self, working: Working, step: of.TimeParts, key: str) -> None:
        times = [time_in(cell, step.column) for cell in working.column(step.column)]
        parts: dict[str, Callable[[datetime], int]] = {
            "year": lambda time: time.year,
            "month": lambda time: time.month,
            "weekday": lambda time: time.weekday(),
            "hour": lambda time: time.hour,
        }
        for name, part in parts.items():
            working.add(f"{step.column}_{name}", [None if time is None else part(time) for time in times])

    def _standardise(self, working: Working, step: of.Standardise, key: str) -> None:
        for name in step.columns:

            def learn(name: str = name) -> list[float]:
                known = _learnable(working, name)
                return [float(known.mean()), float(known.std()) or 1.0]

            mean, deviation = working.learned(f"{key} {name}", learn)
            numbers = working.numbers(name)
            working.put(name, [None if number is None else (number - mean) / deviation for number in numbers])

    def _discretise(self, working: Working, step: of.Discretise, key: str) -> None:
        def learn() -> list[float]:
            known = _learnable(working, step.column)
            return [float(edge) for edge in np.unique(np.quantile(known, np.linspace(0, 1, step.bins + 1)[1:-1]))]

        edges = working.learned(key, learn)
        numbers = working.numbers(step.column)
        found = [None if number is None else int(np.searchsorted(edges, number, side="right")) for number in numbers]
        working.add(f"{step.column}_bin", found)

    def _one_hot(self, working: Working, step: of.OneHot, key: str) -> None:
        def learn() -> list[str]:
            counts = Counter(label for cell in working.training(step.column) for label in labels_in(cell))
            return [value for value, _ in sorted(counts.items(), key=lambda each: (-each[1], each[0]))[: step.most]]

        labels = [labels_in(cell) for cell in working.column(step.column)]
        for value in working.learned(key, learn):
            working.add(f"{step.column}={value}", [int(value in found) for found in labels])

    def _tfidf(self, working: Working, step: of.Tfidf, key: str) -> None:
        """Add weights of length 1, whose words are named in what was fitted.

        Source: scikit-learn's TfidfVectorizer with smooth_idf, whose figures a test compares.
        """

        def learn() -> dict[str, float]:
            texts = [set(words_of(str(cell))) for cell in working.training(step.column)]
            counts = Counter(word for words in texts for word in words)
            chosen = sorted(counts, key=lambda word: (-counts[word], word))[: step.words]
            return {word: math.log((1 + len(texts)) / (1 + counts[word])) + 1 for word in sorted(chosen)}

        weights = working.learned(key, learn)
        places = {word: place for place, word in enumerate(weights)}
        found = []
        for cell in working.column(step.column):
            row = np.zeros(len(places))
            for word, count in Counter(words_of(str(cell or ""))).items():
                if word in places:
                    row[places[word]] = count * weights[word]
            length = float(np.linalg.norm(row))
            found.append((row / length if length else row).astype(np.float32).tolist())
        working.add(step.into, found)

    def _embed(self, working: Working, step: of.Embed, key: str) -> None:
        kind = working.dataset.info.columns.get(step.column)
        is_photo = kind in ("image", "binary")
        cells = [] if is_photo else working.column(step.column)
        eyes = self.eyes(None if step.bundle is None else Path(step.bundle), photos=is_photo)
        if eyes is None:
            raise ConfigError("no model is there that could look: name its folder in `bundle`.")
        before = working.learned(key, lambda: eyes.name)
        if before != eyes.name:
            raise ConfigError(f"{before} looked when the plan was fitted; {eyes.name} would look now. Name the former "
                              "in `bundle`.")  # fmt: skip
        if is_photo:
            assert eyes.of_photos is not None
            wanted = set(working.row)
            kept = [(row, content) for row, content in enumerate(working.dataset.photos(step.column))
                    if content is not None and row in wanted]  # fmt: skip
            made = eyes.of_photos([content for _, content in kept])
            of_row = dict(zip((row for row, _ in kept), made, strict=True))
            features = [of_row.get(row) for row in working.row]
        else:
            assert eyes.of_texts is not None
            known = [place for place, cell in enumerate(cells) if cell is not None and str(cell).strip()]
            made = eyes.of_texts([str(cells[place]) for place in known]) if known else np.zeros((0, 0))
            of_row = dict(zip(known, made, strict=True))
            features = [of_row.get(place) for place in range(len(cells))]
        working.add(step.into, [None if each is None else each.astype(np.float32).tolist() for each in features])


def _redacted(cell: Any, column: str) -> Any:
    if not is_missing(cell) and not has_text(cell):
        raise ConfigError(f"{column!r} cannot be redacted: expected texts or lists of texts, came {str(cell)[:40]!r}.")
    return with_texts(cell, masked)


def _training_numbers(working: Working, column: str) -> list[float]:
    """Return the numbers of the training split, infinite ones too."""
    cells = working.training(column)
    return [number for cell in cells if (number := number_in(cell, column)) is not None]


def _learnable(working: Working, column: str) -> np.ndarray:
    return finite(_training_numbers(working, column), column)


def _have(rows: int) -> str:
    return f"{counted(rows, 'row')} {'has' if rows == 1 else 'have'}"


def _shown(value: float | None) -> str:
    return "none" if value is None else f"{value:g}"
