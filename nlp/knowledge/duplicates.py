"""Passages that say the same in nearly the same words are shown once: boilerplate, copies, two versions of a page."""

from __future__ import annotations

import re

SAME_SHARE = 0.9
"""Of the words that two passages have together, the share from which on they count as one (Jaccard)."""
_WORD = re.compile(r"\w+")


class Seen:
    """Remembers the passages that were taken."""

    def __init__(self) -> None:
        self._taken: list[frozenset[str]] = []

    def is_new(self, text: str) -> bool:
        """Return whether no passage like it was taken, and take it if so.

        >>> seen = Seen()
        >>> [seen.is_new(text) for text in ("Open from 9 to 5.", "open from 9 to 5", "Open from 8 to 5.")]
        [True, False, True]
        """
        words = frozenset(_WORD.findall(text.casefold()))
        for taken in self._taken:
            smaller, larger = sorted((len(words), len(taken)))
            if smaller >= SAME_SHARE * larger and len(words & taken) >= SAME_SHARE * len(words | taken):
                return False
        self._taken.append(words)
        return True
