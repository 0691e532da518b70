"""What is new in a window: records that fit no known label, in groups that have a name and a nearest label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from shared.bundle.read import Bundle
from shared.exploring.texts import words_of
from shared.grouping.discover import NAMED_BY, TYPICAL, Near, telling_words, unique_name
from shared.grouping.groups import NONE, Grouping, Known, centres_of, group
from shared.monitoring.windows import NO_ANSWER, is_far

MOST_GROUPS = 50
MOST_RECORDS = 500
"""Ids of one group."""
LEAST = 8
"""Records that fit no label, from which groups are looked for."""
_ALIKE = 3
"""Records whose text must have a word that names a group: what one person wrote names none."""
_KNOWN = "\n"
"""In place of a group, of texts that fit a label."""


def new_groups(
    bundle: Bundle, rows: Sequence[Mapping[str, Any]], reference: np.ndarray | None, texts: Mapping[int, str]
) -> list[dict[str, Any]]:
    """Return groups of the records that get no label, or whose features are farther than 99 % of the reference's.

    Records that fit a label show what a label is, so that groups are as wide as labels are.

    Args:
        bundle: of the model that answered.
        rows: as `Store.newest` gives them; those with features are looked at.
        reference: float [M, D], features of what is usual; None if there are none.
        texts: id -> text, as far as texts are kept.

    Returns:
        The largest first: `name`, `size`, `records` and `typical` (ids, the most typical first) and `nearest`, the
        label that is most alike, or None.
    """
    seen = [row for row in rows if row["features"]]
    width = len(seen[0]["features"]) if seen else 0
    seen = [row for row in seen if len(row["features"]) == width]  # other versions may have others
    if len(seen) < LEAST:
        return []
    features = np.stack([np.frombuffer(row["features"], dtype="<f2") for row in seen]).astype(np.float32)
    strange = np.array([row["outcome"] == NO_ANSWER[bundle.config.task][0] for row in seen])
    if reference is not None and reference.shape[1] == features.shape[1]:
        strange |= is_far(features, reference)
    places = np.flatnonzero(strange).tolist()
    if len(places) < LEAST:
        return []
    known, labels = _known(seen, features, ~strange, texts)
    has_texts = all(seen[place]["id"] in texts for place in places)
    if known is not None and known.texts is None:
        has_texts = False
    grouping = group(
        features[places], known, texts=[texts[seen[place]["id"]] for place in places] if has_texts else None
    )
    return _described([seen[place] for place in places], grouping, known, labels, texts)


def _known(
    seen: Sequence[Mapping[str, Any]], features: np.ndarray, is_usual: np.ndarray, texts: Mapping[int, str]
) -> tuple[Known | None, list[str]]:
    """Return the usual records by the best label that they got, and the labels; None of fewer than two labels."""
    places = [place for place in np.flatnonzero(is_usual).tolist() if seen[place]["labels"]]
    given = [str(seen[place]["labels"][0]) for place in places]
    labels = sorted(set(given))
    if len(labels) < 2:
        return None, labels
    code_of = {label: code for code, label in enumerate(labels)}
    ids = [seen[place]["id"] for place in places]
    kept = [texts[id_] for id_ in ids] if all(id_ in texts for id_ in ids) else None
    return Known(features[places], np.array([code_of[label] for label in given]), kept), labels


def _described(
    rows: Sequence[Mapping[str, Any]],
    grouping: Grouping,
    known: Known | None,
    labels: Sequence[str],
    texts: Mapping[int, str],
) -> list[dict[str, Any]]:
    centres = centres_of(grouping.space, grouping.of)
    near = None if known is None or grouping.known_space is None else Near(grouping.known_space, known.codes)
    words = _words(rows, grouping.of, known, texts)
    taken = set(labels)
    found = []
    for number in range(min(grouping.count, MOST_GROUPS)):
        places = np.flatnonzero(grouping.of == number)
        places = places[np.argsort(-(grouping.space[places] @ centres[number]), kind="stable")]
        members = [rows[place] for place in places.tolist()]
        nearest = None if near is None else labels[near.of(grouping.space[places])[0]]
        tags = Counter(str(row["labels"][0]) for row in members if row["labels"])
        said = _different(words.get(str(number), []))[:NAMED_BY] or [tag for tag, _ in tags.most_common(1)]
        name = " ".join(said) or (f"near {nearest}" if nearest is not None else f"group {number + 1}")
        ids = [int(row["id"]) for row in members]
        found.append({
            "name": unique_name(name, taken),
            "size": len(ids),
            "records": ids[:MOST_RECORDS],
            "typical": ids[:TYPICAL],
            "nearest": nearest,
        })  # fmt: skip
    return found


def _different(words: Sequence[str]) -> list[str]:
    """Return words without those that begin as an earlier one does, or are its beginning.

    >>> _different(["dog", "dogs", "allowed"])
    ['dog', 'allowed']
    """
    kept: list[str] = []
    for word in words:
        if not any(word.startswith(other) or other.startswith(word) for other in kept):
            kept.append(word)
    return kept


def _words(
    rows: Sequence[Mapping[str, Any]], of: np.ndarray, known: Known | None, texts: Mapping[int, str]
) -> dict[str, list[str]]:
    """Return group -> the words that its texts have, and neither the other groups' nor those that fit a label."""
    inside = [
        (texts[row["id"]], str(number))
        for row, number in zip(rows, of, strict=True)
        if number != NONE and row["id"] in texts
    ]
    if not inside:
        return {}
    usual = [] if known is None or known.texts is None else list(known.texts)
    found = telling_words(
        [text for text, _ in inside] + usual, [number for _, number in inside] + [_KNOWN] * len(usual)
    )
    counts: Counter[tuple[str, str]] = Counter()
    for text, number in inside:
        counts.update({(number, word) for word in set(words_of(text))})
    return {
        number: [word for word in words if counts[number, word] >= _ALIKE]
        for number, words in found.items()
        if number != _KNOWN
    }
