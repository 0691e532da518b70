"""Sentences as the words that they take from a question and a text, and those that carry grammar. Torch-free.

What a pointing writer reads and writes are whole words: to copy a name it points at it, so that it cannot misspell it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer

from nlp.writing.checking import FUNCTION_WORDS
from nlp.writing.wording import BLANK, SHOWN_WORDS, Ask

PIECES = 6
"""Of a word that are looked at; few have more."""
_LETTERS = 64
"""Of a word in which its pieces are looked for: what has more is no word, and may be a whole file."""
MAX_QUESTION_WORDS = 30
MAX_TEXT_WORDS = 60
MAX_WRITTEN = 44
"""Words and marks of a sentence."""
QUESTION, TEXT, ANSWER, PADDING = range(4)
"""Kinds of words that are read."""
START = 5
"""Case of the word before the first; 0 to 4 are those of words."""
CASES = 6
END_OF_SENTENCE = "<end>"
_MARKS = (",", ".", ";", ":")
_ENDINGS = ("'s", "##s", "##ed", "##d", "##es", "##ing", "##ied", "##ies")
"""Of a word that was copied; those in -ied and -ies take the place of its last letter."""
SYMBOLS = (BLANK, END_OF_SENTENCE, *_MARKS, *_ENDINGS, *sorted(FUNCTION_WORDS))
"""What may be written without pointing at it."""
_PLACE_OF = {symbol: place for place, symbol in enumerate(SYMBOLS)}
_OPENING, _CLOSING = "\"“”‘'([{", "\"”’')]},;:!?…"
_INITIALS = re.compile(r"(?:\w\.)+")


@dataclass(frozen=True)
class Read:
    """What the network reads of an answer."""

    words: list[str]
    """Those of question and text, which may be copied, and then those of the answer."""
    kinds: list[int]
    count: int
    """Words that may be copied."""


@dataclass(frozen=True)
class Target:
    """One word that is to be written."""

    places: tuple[int, ...]
    """Words that were read and are the same."""
    symbol: int
    """Place among `SYMBOLS`, or -1."""
    word: str


def read(asked: Ask) -> Read:
    """Return the words of a question and its text, with the blank in place of the answer, and of the answer."""
    question = _words(asked.question)[:MAX_QUESTION_WORDS]
    before, after = _words(asked.evidence[: asked.start]), _words(asked.evidence[asked.end :])
    spare = MAX_TEXT_WORDS // 2
    text = [*before[-spare:], BLANK, *after[:spare]]
    answer = _words(asked.answer)[:SHOWN_WORDS] or ["?"]
    kinds = [QUESTION] * len(question) + [TEXT] * len(text) + [ANSWER] * len(answer)
    return Read([*question, *text, *answer], kinds, len(question) + len(text))


def targets(source: Read, written: str) -> list[Target] | None:
    """Return the words of a sentence with its blank; None where one of them is neither read nor a symbol."""
    places: dict[str, list[int]] = {}
    for place, word in enumerate(source.words[: source.count]):
        if word != BLANK:
            places.setdefault(word.lower(), []).append(place)
    found: list[Target] = []
    for word in _written_words(written):
        plain = word.lower()
        if word == BLANK or word in _MARKS:
            found.append(Target((), _PLACE_OF[word], word))
        elif plain in places or plain in _PLACE_OF:
            found.append(Target(tuple(places.get(plain, ())), _PLACE_OF.get(plain, -1), word))
        else:
            base = next(((b, ending) for b, ending in _bases(plain) if b in places), None)
            if base is None:
                return None
            found.append(Target(tuple(places[base[0]]), -1, base[0]))
            found.append(Target((), _PLACE_OF[base[1]], base[1]))
    found.append(Target((), _PLACE_OF[END_OF_SENTENCE], END_OF_SENTENCE))
    return found if len(found) <= MAX_WRITTEN else None


def spoken(words: Sequence[str]) -> str:
    """Return what was written as a sentence.

    >>> spoken(["the", "storm", "destroy", "##ed", "the", "pier", ",", "in", "@@", "."])
    'The storm destroyed the pier, in @@.'
    >>> spoken(["live", "##ed"]), spoken(["carry", "##s"]), spoken(["make", "##ing"])
    ('Lived', 'Carries', 'Making')
    """
    said = ""
    for word in words:
        if word.startswith("##"):
            said = _with_ending(said, word[2:])
        elif word in _MARKS or word == "'s":
            said += word
        else:
            said += f" {word}" if said else word
    return said if said.startswith(BLANK) else said[:1].upper() + said[1:]


def _with_ending(said: str, ending: str) -> str:
    """Return what was said with an ending, as English spells it."""
    if ending in ("ied", "ies"):
        return said.removesuffix("y") + ending
    if said.endswith("e") and ending in ("ed", "ing", "es"):
        return said[:-1] + ending
    if ending == "d" and not said.endswith("e"):
        return f"{said}ed"
    if ending == "s" and re.search(r"[^aeiou]y$", said):
        return f"{said[:-1]}ies"
    return f"{said}{'e' if ending == 's' and re.search(r'(?:[sxz]|[cs]h)$', said) else ''}{ending}"


def case_of(word: str) -> int:
    """Return how a word is written: lower, Title, UPPER, with figures, otherwise."""
    if word.islower():
        return 0
    if word.isupper():
        return 2
    if word[:1].isupper() and word[1:].islower():
        return 1
    return 3 if any(map(str.isdigit, word)) else 4


def arrays(tokenizer: Tokenizer, words: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the pieces of words, int64 [S, PIECES], 0 where there are fewer, and their cases, int64 [S]."""
    pieces = np.zeros((len(words), PIECES), dtype=np.int64)
    begun = [word[:_LETTERS].lower() for word in words]
    for row, encoded in enumerate(tokenizer.encode_batch(begun, add_special_tokens=False)):
        ids = encoded.ids[:PIECES] or [1]
        pieces[row, : len(ids)] = ids
    return pieces, np.array([case_of(word) for word in words], dtype=np.int64)


def _words(text: str) -> list[str]:
    """Return the words of a text, without the marks around them."""
    found = []
    for chunk in text.split():
        word = chunk.lstrip(_OPENING).rstrip(_CLOSING)
        word = word if _INITIALS.fullmatch(word) else word.rstrip(".").rstrip(_CLOSING)
        if word and BLANK not in word:
            found.append(word)
    return found


def _written_words(sentence: str) -> Iterator[str]:
    """Yield the words and marks of a sentence to be learned."""
    for chunk in sentence.split():
        word = chunk
        behind: list[str] = []
        while word and word[-1] in _MARKS and not _INITIALS.fullmatch(word):
            behind.insert(0, word[-1])
            word = word[:-1]
        word = word.strip('"“”()[]')
        if word:
            yield BLANK if BLANK in word else word
        if BLANK in word and word.endswith("'s"):
            yield "'s"
        yield from behind


def _bases(word: str) -> Iterator[tuple[str, str]]:
    """Yield what a word may be a form of, and the ending."""
    for ending in _ENDINGS:
        letters = ending.removeprefix("##")
        if word.endswith(letters) and len(word) > len(letters) + 1:
            base = word[: -len(letters)]
            yield (f"{base}y" if ending in ("##ied", "##ies") else base), ending
