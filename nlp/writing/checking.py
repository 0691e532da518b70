"""Whether a sentence says what its source says: rules, not another network. Torch-free.

The answer must be in it word for word, and nothing else may be new: no number, no name, no word with a meaning of its
own that neither the question nor the text around the answer has. A sentence that fails is not given; the quote is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from importlib.resources import files

from nlp.writing.wording import BLANK, MAX_WORDS, Ask

FUNCTION_WORDS = frozenset((files("nlp.writing") / "function_words.txt").read_text(encoding="utf-8").split())
"""Words that a sentence may add: they carry grammar, or say again what the question word asks for."""
NEGATIONS = frozenset(("not", "no", "never", "none", "nobody", "nothing", "neither", "nor", "without", "cannot"))
SHARE_OF_QUESTION = 0.5
"""Of what a question asks, so much must be said again."""
_TOKEN = re.compile(r"\d+(?:[.,:]\d+)*|[^\W\d_]+(?:['’-][^\W\d_]+)*|\w+")
_KIND = re.compile(r"\b(what|which|whose|how many|how much)\s+[\w-]+", re.IGNORECASE)
"""The kind of thing that is asked for: the answer is one, so that a sentence need not say it."""
_NOT = re.compile(r"n['’]t$")
_STEM = 4
"""Letters that forms of one word share, at least."""
_ENDING = 3


def problem(ask: Ask, written: str) -> str | None:
    """Return what is wrong with what a writer wrote for an answer; None if it may be given.

    Args:
        ask: question, text and answer.
        written: one or two sentences with `BLANK` in place of the answer.

    >>> asked = Ask("How long does it take?", "The ferry takes forty minutes.", 16, 29)
    >>> problem(asked, "It takes @@."), problem(asked, "It takes @@ in winter.")
    (None, "'winter' is neither in the question nor in the text")
    """
    if written.count(BLANK) != 1:
        return f"the answer is in it {written.count(BLANK)} times"
    return next(_problems(ask, written), None)


def _problems(ask: Ask, written: str) -> Iterator[str]:
    before, after = written.split(BLANK)
    if before[-1:].isalnum() or after[:1].isalnum():
        yield "the answer is joined to another word"
    if len(written.split()) > MAX_WORDS:
        yield "it is too long"
    if "?" in written or not written.rstrip(" \"'”’)").endswith((".", "!")):
        yield "it is no whole sentence"
    own, asked = _tokens(f"{before} . {after}"), _tokens(ask.question)
    source = asked + _tokens(ask.evidence)
    known = [word.casefold() for word in source]
    for place, word in enumerate(own):
        if not _is_supported(word, known, opens=place == 0 and bool(before.strip(" \"'“‘("))):
            yield f"{word!r} is neither in the question nor in the text"
    if _is_negated(own) and not _is_negated(source):
        yield "it says no where the text does not"
    if _is_negated(asked) and not _is_negated(own):
        yield "the question says no, and it does not"
    wanted = {_stem(word) for word in map(str.casefold, _tokens(_KIND.sub(r"\1", ask.question)))
              if word not in FUNCTION_WORDS}  # fmt: skip
    said = {_stem(word.casefold()) for word in [*own, *_tokens(ask.answer)]}
    if len(wanted & said) < SHARE_OF_QUESTION * len(wanted):
        yield "it leaves out most of what was asked"


def _tokens(text: str) -> list[str]:
    return _TOKEN.findall(text)


def _is_supported(word: str, source: Sequence[str], *, opens: bool) -> bool:
    """Whether a word may be in a sentence: it carries grammar only, or the source has it or another form of it."""
    plain = word.casefold()
    if plain in source:
        return True
    if any(map(str.isdigit, plain)) or (word[:1].isupper() and not opens):
        return False  # numbers and names are there as they are, or not at all
    return _NOT.sub("", plain) in FUNCTION_WORDS or any(_are_forms(plain, other) for other in source)


def _are_forms(one: str, other: str) -> bool:
    """Whether two words are forms of one, such as "open" and "opened", "carry" and "carries"."""
    short, long = sorted((one, other), key=len)
    shared = next((i for i, (a, b) in enumerate(zip(short, long, strict=False)) if a != b), len(short))
    return shared >= min(_STEM, len(short)) and len(short) - shared <= 1 and len(long) - shared <= _ENDING


def _stem(word: str) -> str:
    return word[: max(_STEM, len(word) - _ENDING)]


def _is_negated(words: Sequence[str]) -> bool:
    return any(word.casefold() in NEGATIONS or _NOT.search(word.casefold()) for word in words)
