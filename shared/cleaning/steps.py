"""What each step of a plan does to the rows."""

from __future__ import annotations

import math
import random
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np

from shared.cleaning import plan as of
from shared.cleaning.working import WEIGHT, Working
from shared.errors import ConfigError
from shared.exploring.eyes import Eyes
from shared.exploring.languages import language_of
from shared.exploring.personal import masked
from shared.exploring.texts import words_of
from shared.sources.tables import normalised

GUARDED = ("test", "val", "train")
"""Of copies in several splits the one in the first of these is kept."""


class Steps:
    """Runs the steps of a plan."""

    def __init__(
        self, plan: of.Plan, decisions: Sequence[of.Decision], eyes: Callable[..., Eyes | None] = lambda *_, **__: None
    ) -> None:
        self.plan, self.decisions, self.eyes = plan, decisions, eyes
        self.together = {each.sha256: str(each.value) for each in decisions if each.action == "together"}

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
        for place, digest in enumerate(working.digests):
            for decision in by_digest.get(digest, ()):
                if decision.row is not None and decision.row != working.row[place]:
                    continue
                if decision.action == "drop":
                    wanted[place] = False
                    reasons[place] = f"decided: {(decision.kind or 'drop').replace('_', ' ')}"
                elif decision.action == "relabel":
                    column = decision.column or "label"
                    cells = working.column(column)
                    cells[place] = decision.value
                    working.put(column, cells)
                elif decision.action == "redact":
                    column = decision.column or "text"
                    cells = working.column(column)
                    cells[place] = None if cells[place] is None else masked(str(cells[place]))
                    working.put(column, cells)
        working.keep(wanted, step.step, lambda place: reasons[place])

    # Rows

    def _drop_duplicates(self, working: Working, step: of.DropDuplicates, key: str) -> None:
        names = step.by
        columns = [working.column(name) for name in names] if names else [working.digests]
        groups: dict[Any, list[int]] = defaultdict(list)
        for place, cells in enumerate(zip(*columns, strict=True)):
            if all(cell is None for cell in cells):
                continue
            groups[tuple(_comparable(cell, loosely=step.loosely) for cell in cells)].append(place)
        wanted, kept = [True] * len(working), [0] * len(working)
        for group in groups.values():
            if len(group) == 1:
                continue
            best = min(
                group, key=lambda place: (_guarded(working.splits[place]), place if step.keep == "first" else -place)
            )
            for place in group:
                wanted[place] = place == best and step.keep != "none"
                kept[place] = best
        said = "is the same as another" if step.keep == "none" else "is the same as {}"
        places = working.cells["_place"]
        working.keep(wanted, step.step, lambda place: said.format(places[kept[place]]))

    def _merge_labels(self, working: Working, step: of.MergeLabels, key: str) -> None:
        def renamed(cell: Any) -> Any:
            if isinstance(cell, list):
                return list(dict.fromkeys(step.names.get(str(each), each) for each in cell))
            return step.names.get(str(cell), cell) if cell is not None else None

        working.put(step.column, [renamed(cell) for cell in working.column(step.column)])

    def _drop_labels(self, working: Working, step: of.DropLabels, key: str) -> None:
        cells = [None if cell is None else str(cell) for cell in working.column(step.column)]
        counts = Counter(cells)
        gone = set(step.labels)
        wanted = [cell is None or (cell not in gone and counts[cell] >= step.fewer_than) for cell in cells]
        working.keep(wanted, step.step, lambda place: f"has the label {cells[place]!r}" if cells[place] in gone
                     else f"only {counts[cells[place]]} rows have the label {cells[place]!r}")  # fmt: skip

    def _missing(self, working: Working, step: of.Missing, key: str) -> None:
        cells = working.column(step.column)
        lacks = [cell is None or cell in ("", []) or (isinstance(cell, float) and math.isnan(cell)) for cell in cells]
        if step.how == "drop":
            working.keep([not each for each in lacks], step.step, lambda _: f"has no {step.column}")
            return

        def learn() -> Any:
            known = working.training(step.column)
            if step.how == "most_frequent":
                return Counter(known).most_common(1)[0][0]
            return float(np.median(_numbers(known, step.column)))

        value = step.value if step.how == "constant" else working.learned(key, learn)
        working.put(step.column, [value if is_lacking else cell for cell, is_lacking in zip(cells, lacks, strict=True)])

    def _outliers(self, working: Working, step: of.Outliers, key: str) -> None:
        cells = working.column(step.column)
        least, most = step.least, step.most
        if step.reach is not None:

            def learn() -> list[float]:
                lower, upper = np.quantile(_numbers(working.training(step.column), step.column), (0.25, 0.75))
                away = float(step.reach or 0) * float(upper - lower)
                return [float(lower) - away, float(upper) + away]

            least, most = working.learned(key, learn)
        low, high = -math.inf if least is None else least, math.inf if most is None else most
        inside = [cell is None or low <= _number(cell, step.column) <= high for cell in cells]
        if step.how == "drop":
            shown = f"{step.column} is not between {low:g} and {high:g}"
            working.keep(inside, step.step, lambda place: f"{shown}: {cells[place]}")
        else:
            clipped = [
                cell if is_inside else type(cell)(min(max(cell, low), high))
                for cell, is_inside in zip(cells, inside, strict=True)
            ]
            working.put(step.column, clipped)

    def _normalise_text(self, working: Working, step: of.NormaliseText, key: str) -> None:
        def written(cell: Any) -> Any:
            if not isinstance(cell, str):
                return cell
            text = unicodedata.normalize(step.unicode, cell) if step.unicode else cell
            text = text.lower() if step.lower else text
            return " ".join(text.split()) if step.blanks else text

        for name in step.columns:
            working.put(name, [written(cell) for cell in working.column(name)])

    def _redact(self, working: Working, step: of.Redact, key: str) -> None:
        for name in step.columns:
            working.put(name, [masked(c) if isinstance(c, str) else c for c in working.column(name)])

    def _limits(self, working: Working, step: of.Limits, key: str) -> None:
        low = -math.inf if step.least is None else step.least
        high = math.inf if step.most is None else step.most
        if step.measure == "pixels":
            measured: list[float | None] = list(working.sizes)
        else:
            measure: Callable[[Any], float] = {
                "value": lambda cell: _number(cell, step.column),
                "words": lambda cell: len(str(cell).split()),
                "characters": lambda cell: len(str(cell)),
            }[step.measure]
            measured = [None if cell is None else measure(cell) for cell in working.column(step.column)]
        wanted = [value is not None and low <= value <= high for value in measured]
        unit = "" if step.measure == "value" else f" {step.measure}"
        working.keep(wanted, step.step, lambda place: f"{step.column} has {_shown(measured[place])}{unit}; allowed are "
                     f"{low:g} to {high:g}")  # fmt: skip

    def _balance(self, working: Working, step: of.Balance, key: str) -> None:
        labels = [None if cell is None else str(cell) for cell in working.column(step.column)]
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
            working.put(WEIGHT, weights)
            return
        wanted = step.to or (min(sizes.values()) if step.how == "down" else max(sizes.values()))
        rng = random.Random(f"{self.plan.seed} {key}")
        if step.how == "down":
            kept = {p for found in places.values() for p in rng.sample(found, min(wanted, len(found)))}
            training = {place for found in places.values() for place in found}
            working.keep(
                [place in kept or place not in training for place in range(len(labels))],
                step.step,
                lambda place: f"{labels[place]!r} has {sizes[str(labels[place])]} rows; {wanted} are kept",
            )
            return
        more = [
            p for found in places.values() if len(found) < wanted for p in rng.choices(found, k=wanted - len(found))
        ]
        working.take(sorted([*range(len(labels)), *more]))

    def _split(self, working: Working, step: of.Split, key: str) -> None:
        groups = self._groups(working, step)
        labels = [str(cell) for cell in working.column(step.stratify)] if step.stratify else [""] * len(working)
        rng = random.Random(f"{self.plan.seed} {key}")
        order = list(groups)
        rng.shuffle(order)
        order.sort(key=lambda group: -len(groups[group]))  # large ones first, while there is room for them
        totals = Counter(labels)
        shares: dict[str, float] = {split: share for split, share in step.shares.items()}  # noqa: C416 for the types
        filled: dict[str, Counter[str]] = {split: Counter() for split in shares}
        for group in order:
            counts = Counter(labels[place] for place in groups[group])

            def room(split: str, counts: Counter[str] = counts) -> float:
                """Return how many of the group's rows the split still lacks."""
                lacking = [
                    min(float(count), shares[split] * totals[label] - filled[split][label])
                    for label, count in counts.items()
                ]
                return sum(lacking)

            best = max(shares, key=lambda split: (room(split), shares[split]))
            filled[best].update(counts)
            for place in groups[group]:
                working.splits[place] = best

    def _groups(self, working: Working, step: of.Split) -> dict[int, list[int]]:
        """Return the rows that stay together: the same text, the same value of a column, what was decided so."""
        parent = list(range(len(working)))

        def root(place: int) -> int:
            while parent[place] != place:
                parent[place] = parent[parent[place]]
                place = parent[place]
            return place

        of_digest: dict[str, int] = {}
        for place, digest in enumerate(working.digests):
            parent[root(place)] = root(of_digest.setdefault(digest, place))
        for digest, other in self.together.items():
            if digest in of_digest and other in of_digest:
                parent[root(of_digest[digest])] = root(of_digest[other])
        for name in step.together:
            first: dict[Any, int] = {}
            for place, cell in enumerate(working.column(name)):
                if cell is not None:
                    parent[root(place)] = root(first.setdefault(_comparable(cell, loosely=True), place))
        groups: dict[int, list[int]] = defaultdict(list)
        for place in range(len(working)):
            groups[root(place)].append(place)
        return groups

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
        working.put(f"{step.column}_words", [None if cell is None else len(str(cell).split()) for cell in cells])
        working.put(f"{step.column}_characters", [None if cell is None else len(str(cell)) for cell in cells])

    def _language(self, working: Working, step: of.Language, key: str) -> None:
        cells = working.column(step.column)
        working.put(f"{step.column}_language", [language_of(None if c is None else str(c)) for c in cells])

    def _time_parts(self, working: Working, step: of.TimeParts, key: str) -> None:
        times = [_time(cell, step.column) for cell in working.column(step.column)]
        parts: dict[str, Callable[[datetime], int]] = {
            "year": lambda time: time.year,
            "month": lambda time: time.month,
            "weekday": lambda time: time.weekday(),
            "hour": lambda time: time.hour,
        }
        for name, part in parts.items():
            working.put(f"{step.column}_{name}", [None if time is None else part(time) for time in times])

    def _standardise(self, working: Working, step: of.Standardise, key: str) -> None:
        for name in step.columns:

            def learn(name: str = name) -> list[float]:
                known = _numbers(working.training(name), name)
                return [float(known.mean()), float(known.std()) or 1.0]

            mean, deviation = working.learned(f"{key} {name}", learn)
            cells = working.column(name)
            working.put(name, [None if cell is None else (_number(cell, name) - mean) / deviation for cell in cells])

    def _discretise(self, working: Working, step: of.Discretise, key: str) -> None:
        def learn() -> list[float]:
            known = _numbers(working.training(step.column), step.column)
            return [float(edge) for edge in np.unique(np.quantile(known, np.linspace(0, 1, step.bins + 1)[1:-1]))]

        edges = working.learned(key, learn)
        cells = working.column(step.column)
        found = [
            None if c is None else int(np.searchsorted(edges, _number(c, step.column), side="right")) for c in cells
        ]
        working.put(f"{step.column}_bin", found)

    def _one_hot(self, working: Working, step: of.OneHot, key: str) -> None:
        def learn() -> list[str]:
            counts = Counter(str(cell) for cell in working.training(step.column))
            return [value for value, _ in sorted(counts.items(), key=lambda each: (-each[1], each[0]))[: step.most]]

        cells = working.column(step.column)
        for value in working.learned(key, learn):
            working.put(f"{step.column}={value}", [int(cell is not None and str(cell) == value) for cell in cells])

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
        working.put(step.into, found)

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
        working.put(step.into, [None if each is None else each.astype(np.float32).tolist() for each in features])


def _comparable(cell: Any, *, loosely: bool) -> Any:
    if isinstance(cell, str):
        return normalised(cell) if loosely else cell
    return tuple(cell) if isinstance(cell, list) else cell


def _guarded(split: str) -> int:
    return GUARDED.index(split) if split in GUARDED else len(GUARDED)


def _number(cell: Any, column: str) -> float:
    try:
        return float(cell)
    except (TypeError, ValueError):
        raise ConfigError(f"{column!r} has {str(cell)[:40]!r} in it, which is no number.") from None


def _numbers(cells: Sequence[Any], column: str) -> np.ndarray:
    return np.array([_number(cell, column) for cell in cells])


def _shown(value: float | None) -> str:
    return "none" if value is None else f"{value:g}"


def _time(cell: Any, column: str) -> datetime | None:
    if cell is None or isinstance(cell, datetime):
        return cell
    if isinstance(cell, date):
        return datetime(cell.year, cell.month, cell.day)
    try:
        return datetime.fromisoformat(str(cell))
    except ValueError:
        raise ConfigError(
            f"{column!r} has {str(cell)[:40]!r} in it; expected a time such as 2026-11-30T12:30."
        ) from None
