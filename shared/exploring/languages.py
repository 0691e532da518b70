"""Which language a text is in, where it is long enough to tell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from functools import cache
from typing import Any

SURE = 0.8
"""Probability from which a language is named; "hello" alone may be English, Breton or Sotho."""
READ = 2_000
"""Characters of a text that are looked at."""
FEWEST_WORDS = 3
"""In shorter texts, names and words that many languages share decide: "pizza margherita" is said in all of them."""
COUNTED = 2_000
"""Texts that are looked at to find the languages of many."""
FEWEST_CLEAR = 20
KNOWN_FROM = 0.02
"""Share of the clear texts from which a language counts as one of them."""
STRAY_TO = 0.005
"""Largest share of the texts that may seem to be in none of their languages."""
LEFT_FOR_KNOWN = 0.01
"""Probability of the known languages together up to which a text is foreign. Of 3,000 English utterances of CLINC150
one was, of 699 of SNIPS none, and of 510 French ones 97 % (docs/languages.md; py3langid 0.4, 2026-12-01)."""


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


def is_foreign(text: str, known: Collection[str]) -> bool:
    """Whether a text is clearly in none of the known languages; short texts never are.

    Languages that are alike share the probability, such as Spanish and Galician: it counts what is left for those that
    are known. With a known language that cannot be told from others, no text is foreign.

    >>> is_foreign("quel temps fera-t-il demain à Paris", ["en"]), is_foreign("quel temps fera-t-il demain", ["fr-CA"])
    (True, False)
    >>> [is_foreign(text, ["en"]) for text in ("ok", "pizza", "what is my balance", "42")]
    [False, False, False, False]

    Args:
        text: of any length.
        known: as BCP 47 tags, such as "en".
    """
    if _words(text) < FEWEST_WORDS:
        return False
    chances = dict(_identifier().rank(text[:READ]))
    codes = {tag.partition("-")[0].lower() for tag in known}
    return codes <= chances.keys() and sum(chances[code] for code in codes) <= LEFT_FOR_KNOWN


def languages_of(texts: Sequence[str]) -> tuple[str, ...]:
    """Return the languages of many texts, the most frequent first; none where that is not clear.

    Each has 2 % of the texts whose language is clear, of which there must be 20, and at most 0.5 % of all may seem to
    be in none of them: else telling languages apart does not work for such texts.

    >>> languages_of(["when does the shop open on sundays"] * 30)
    ('en',)
    """
    chosen = [text for text in texts[:: -(-len(texts) // COUNTED) or 1] if _words(text) >= FEWEST_WORDS]
    found = Counter(code for code in map(language_of, chosen) if code is not None)
    known = tuple(code for code, count in found.most_common() if count >= KNOWN_FROM * found.total())
    if found.total() < FEWEST_CLEAR:
        return ()
    return known if sum(is_foreign(text, known) for text in chosen) <= STRAY_TO * len(chosen) else ()


def _words(text: str) -> int:
    """Return how many words a text has, numbers not counted."""
    return sum(any(map(str.isalpha, word)) for word in text[:READ].split())
