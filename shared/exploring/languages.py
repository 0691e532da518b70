"""Which language a text is in, where it is long enough to tell."""

from __future__ import annotations

from functools import cache
from typing import Any

SURE = 0.8
"""Probability from which a language is named; "hello" alone may be English, Breton or Sotho."""
READ = 2_000
"""Characters of a text that are looked at."""


@cache
def _identifier() -> Any:
    from py3langid import langid

    return langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE, norm_probs=True)


def language_of(text: str | None) -> str | None:
    """Return the ISO 639 code of a text's language; None if it is not clear.

    >>> language_of("when does the shop open on sundays"), language_of("wann macht der Laden sonntags auf")
    ('en', 'de')
    >>> language_of("hello") is None
    True
    """
    if text is None or not text.strip():
        return None
    code, probability = _identifier().classify(text[:READ])
    return str(code) if probability >= SURE else None
