"""Whether an utterance reads like a question, by its form alone: for what is asked, an answer is looked up."""

from __future__ import annotations

import re

_MARKS = "?？؟⁇՞"
"""Question marks: Latin, full-width, Arabic, doubled, Armenian."""
_OPENINGS = (
    # English
    *("what", "what's", "who", "who's", "whom", "whose", "which", "when", "where", "where's", "why", "how", "how's"),
    # French
    *("qui", "que", "quoi", "quel", "quelle", "quels", "quelles", "quand", "où", "pourquoi", "comment", "combien"),
    *("est-ce", "qu'est-ce", "qu'est"),
)
_FIRST_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")


def is_question(text: str) -> bool:
    """Return whether a text ends with a question mark, or opens with a question word of English or French.

    >>> [is_question(text) for text in ("Where is my card", "block my card", "Tu peux ouvrir ?", "Où est ma carte")]
    [True, False, True, True]
    """
    stripped = text.strip()
    if stripped.rstrip("!\"'»”’) ").endswith(tuple(_MARKS)):
        return True
    first = _FIRST_WORD.match(stripped)
    return first is not None and first[0].lower().replace("’", "'") in _OPENINGS
