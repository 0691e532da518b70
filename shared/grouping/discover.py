"""What fits no known label, in groups that have a name, typical members and the known label that is nearest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from shared.errors import ConfigError
from shared.exploring.eyes import Eyes
from shared.exploring.rows import Rows
from shared.exploring.texts import characteristic_words
from shared.grouping.groups import NONE, Grouping, Known, centres_of, compactness, group, halves, stability

TYPICAL = 8
NAMED_BY = 3
"""Words of a group's name."""
_MOST_WORDS = 8
_OWN = 0.1
"""Quantile of the likeness of a label's own members, from which a group is as near to it as they are."""


@dataclass(frozen=True)
class Group:
    """Rows that are alike and fit no known label."""

    name: str
    rows: list[int]
    """Numbers in the dataset, the most typical first."""
    words: list[str]
    """That its texts have and those of the others have not."""
    tags: list[str]
    """That a model gives to its photos most often."""
    nearest: str | None
    """The known label that is most alike."""
    likeness: float
    """To that, as a cosine."""
    is_part: bool
    """Whether it is as alike to that label as the label's own members are."""
    second_half: list[int]
    """Rows that would come apart first from the others, if it were two groups."""


@dataclass
class Discovered:
    """What was found among the rows without a label."""

    groups: list[Group]
    alone: list[int]
    """Rows that fit neither a known label nor a group."""
    fits: dict[int, str]
    """Row -> the known label that the model gives it."""
    grouping: Grouping
    examined: list[int]
    """Rows that were put into groups, or into none."""
    measures: dict[str, float] = field(default_factory=dict)


def discover(
    rows: Rows, eyes: Eyes, *, known: Rows | None = None, count: int | None = None, least: int | None = None
) -> Discovered:
    """Return groups of the rows that have no label and fit none.

    Rows with a label, and those of `known`, show what a label is. If all rows have one, and there is no `known`, all
    are put into groups, and it is measured how well these agree with the labels.

    Args:
        rows: of texts or photos.
        eyes: the model that looks; one that names rows sorts out those that fit a label it knows.
        known: further rows with labels.
        count: of groups; as many as there seem to be if None.
        least: rows of a group.

    Raises:
        ConfigError: there are no texts or photos, too few rows without a label, or no group.
    """
    if rows.text is None and rows.image is None:
        raise ConfigError("there is no column of texts or photos. Name it with --text or --image.")
    contents = _contents(rows)
    has_all = all(rows.labels[row] is not None for row in contents) and known is None
    open_ = [row for row in contents if has_all or known is not None or rows.labels[row] is None]
    fits: dict[int, str] = {}
    if eyes.names is not None and not has_all and open_:
        named = eyes.names([contents[row] for row in open_])
        fits = {row: name for row, name in zip(open_, named, strict=True) if name is not None}
        open_ = [row for row in open_ if row not in fits]
    if len(open_) < max(8, count or 0):
        raise ConfigError(
            f"{len(open_)} rows have no label and fit none; it takes {max(8, count or 0)} or more to find groups."
            + (f" The model gave a label it knows to {len(fits):,} rows." if fits else "")
        )
    features = _features(eyes, [contents[row] for row in open_])
    shown = None if has_all else _known(rows, contents, eyes, known)
    texts = [str(contents[row]) for row in open_] if rows.text is not None and rows.image is None else None
    labels = shown[1] if shown is not None else []
    grouping = group(features, shown[0] if shown is not None else None, texts=texts, count=count, least=least)
    if grouping.count == 0:
        raise ConfigError(f"no group was found among {len(open_):,} rows: too few are alike. Try a smaller --least, or "
                          "say with --groups how many there are.")  # fmt: skip
    found = Discovered([], [], fits, grouping, open_)
    found.alone = [row for row, of in zip(open_, grouping.of, strict=True) if of == NONE]
    found.groups = _groups(rows, open_, grouping, shown, labels, eyes, contents)
    found.measures = _measures(grouping)
    if has_all and rows.label is not None:
        found.measures |= agreement(np.array([str(rows.labels[row]) for row in open_]), grouping.of)
    return found


def agreement(labels: np.ndarray, of: np.ndarray) -> dict[str, float]:
    """Return how well groups agree with labels: `nmi`, `ari` and `accuracy`; rows of no group are groups of one.

    The accuracy is that of the best way to let each group stand for one label.

    Args:
        labels: str [N].
        of: int [N].
    """
    alone = of == NONE
    groups = of.copy()
    groups[alone] = of.max(initial=0) + 1 + np.arange(alone.sum())
    codes = np.unique(labels, return_inverse=True)[1]
    counts = np.zeros((codes.max() + 1, int(of.max(initial=0)) + 1))
    np.add.at(counts, (codes[~alone], of[~alone]), 1)
    one, other = linear_sum_assignment(-counts)
    return {
        "nmi": float(normalized_mutual_info_score(codes, groups)),
        "ari": float(adjusted_rand_score(codes, groups)),
        "accuracy": float(counts[one, other].sum() / len(codes)),
    }


def _contents(rows: Rows) -> dict[int, Any]:
    """Return row -> its text or the file of its photo, where it has one."""
    if rows.image is not None:
        return {row: content for row, content in rows.photos() if content is not None}
    return {row: text for row, text in enumerate(rows.texts) if text is not None and text.strip()}


def _features(eyes: Eyes, contents: Sequence[Any]) -> np.ndarray:
    look = eyes.of_texts if isinstance(contents[0], str) else eyes.of_photos
    assert look is not None, "the command chooses the model by what there is to look at"
    return look(contents)


def _known(rows: Rows, contents: dict[int, Any], eyes: Eyes, known: Rows | None) -> tuple[Known, list[str]] | None:
    """Return rows whose label is known, and the labels; None where there are fewer than two labels."""
    pairs = [(contents[row], rows.labels[row]) for row in contents] if known is None else []
    if known is not None:
        others = _contents(known)
        pairs += [(others[row], known.labels[row]) for row in others]
    pairs = [(content, label) for content, label in pairs if label is not None]
    labels = sorted({str(label) for _, label in pairs})
    if len(labels) < 2:
        return None
    code_of = {label: code for code, label in enumerate(labels)}
    contents_ = [content for content, _ in pairs]
    codes = np.array([code_of[str(label)] for _, label in pairs])
    return Known(_features(eyes, contents_), codes, contents_ if isinstance(contents_[0], str) else None), labels


def _groups(
    rows: Rows,
    open_: Sequence[int],
    grouping: Grouping,
    shown: tuple[Known, list[str]] | None,
    labels: Sequence[str],
    eyes: Eyes,
    contents: dict[int, Any],
) -> list[Group]:
    of, space = grouping.of, grouping.space
    centres = centres_of(space, of)
    words = _words(rows, open_, of)
    taken = set(labels)
    near = None if shown is None or grouping.known_space is None else Near(grouping.known_space, shown[0].codes)
    found = []
    for number in range(grouping.count):
        places = np.flatnonzero(of == number)
        places = places[np.argsort(-(space[places] @ centres[number]), kind="stable")]
        members = [open_[place] for place in places.tolist()]
        own = words.get(str(number), [])
        tags: list[str] = []
        if rows.image is not None and eyes.names is not None:
            named = Counter(tag for tag in eyes.names([contents[row] for row in members[:TYPICAL]]) if tag is not None)
            tags = [tag for tag, _ in named.most_common(NAMED_BY)]
        name = unique_name(" ".join((own or tags)[:NAMED_BY]) or f"group {number + 1}", taken)
        nearest, likeness, is_part = (None, 0.0, False) if near is None else near.of(space[places])
        second = [members[i] for i in np.flatnonzero(halves(space[places]))]
        label = None if nearest is None else labels[nearest]
        found.append(Group(name, members, own, tags, label, round(likeness, 4), is_part, second))
    return found


class Near:
    """How alike groups are to known labels.

    Args:
        space: float32 [M, D] of length 1, as `Grouping.known_space`.
        codes: int [M], labels as numbers from 0.
    """

    def __init__(self, space: np.ndarray, codes: np.ndarray) -> None:
        self.centres = centres_of(space, codes)
        own = (space * self.centres[codes]).sum(axis=1)
        self.least = np.array([np.quantile(own[codes == code], _OWN) for code in range(len(self.centres))])

    def of(self, members: np.ndarray) -> tuple[int, float, bool]:
        """Return the nearest label, the likeness to it, and whether the group is as near as the label's own members."""
        likeness = (members @ self.centres.T).mean(axis=0)
        best = int(likeness.argmax())
        return best, float(likeness[best]), bool(likeness[best] >= self.least[best])


def _words(rows: Rows, open_: Sequence[int], of: np.ndarray) -> dict[str, list[str]]:
    """Return group -> the words that its texts share, the most telling first."""
    if rows.text is None:
        return {}
    inside = [(rows.texts[row], str(number)) for row, number in zip(open_, of, strict=True) if number != NONE]
    kept = [(text, number) for text, number in inside if text]
    if not kept:
        return {}
    return telling_words([text for text, _ in kept], [number for _, number in kept])


def telling_words(texts: Sequence[str], groups: Sequence[str]) -> dict[str, list[str]]:
    """Return group -> the words that its texts share and those of others have not, the most telling first.

    Args:
        texts: of all groups.
        groups: that of each text.
    """
    found = characteristic_words(texts, groups, 4 * _MOST_WORDS)
    telling = {
        group: [word for word, score in words if score > 0 and word not in ENGLISH_STOP_WORDS]
        for group, words in found.items()
    }
    return {
        group: words[:_MOST_WORDS] or [word for word, _ in found[group]][:NAMED_BY] for group, words in telling.items()
    }


def unique_name(name: str, taken: set[str]) -> str:
    """Return a name that is not taken, with a number if need be, and take it."""
    found, number = name, 2
    while found in taken:
        found, number = f"{name} {number}", number + 1
    taken.add(found)
    return found


def _measures(grouping: Grouping) -> dict[str, float]:
    found: dict[str, float] = {}
    silhouette = compactness(grouping.space, grouping.of)
    if silhouette is not None:
        found["silhouette"] = silhouette
    if grouping.height is not None and grouping.count > 1 and len(grouping.of) >= 40:
        found["stability"] = stability(grouping.space, grouping.of, grouping.height)
    if grouping.agreement is not None:
        found["hidden_labels_found_again"] = grouping.agreement
    return found
