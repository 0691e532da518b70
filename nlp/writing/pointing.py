"""Writes sentences by pointing at words, with a network that says where. Torch-free."""

from __future__ import annotations

import math

import numpy as np
from tokenizers import Tokenizer

from nlp.writing.units import (
    END_OF_SENTENCE,
    MAX_WRITTEN,
    PIECES,
    START,
    SYMBOLS,
    Read,
    arrays,
    read,
    spoken,
)
from nlp.writing.wording import BLANK, Ask
from shared.runtime.protocol import Runtime

WORD_PIECES, WORD_CASES, KINDS = "word_pieces", "word_cases", "word_kinds"
WRITTEN_PIECES, WRITTEN_CASES, COPIED = "written_pieces", "written_cases", "copied"
LOGITS = "logits"
_NEVER = -1e9


def points(runtime: Runtime) -> bool:
    """Whether a runtime's network points at words."""
    return any(spec.name == WORD_PIECES for spec in runtime.inputs)


def point(runtime: Runtime, tokenizer: Tokenizer, asked: Ask) -> tuple[str, float]:
    """Return the likeliest sentence, with the blank in it, one word after the other, and how sure the network is.

    Args:
        runtime: of a pointing network.
        tokenizer: of its words' pieces.
        asked: question, text and answer.
    """
    source = read(asked)
    pieces, cases = arrays(tokenizer, source.words)
    fixed = {WORD_PIECES: pieces[None], WORD_CASES: cases[None], KINDS: np.array([source.kinds], dtype=np.int64)}
    written: list[str] = []
    sure: list[float] = []
    so_far = np.zeros((1, 1, PIECES), dtype=np.int64)
    case = np.full((1, 1), START, dtype=np.int64)
    copied = np.zeros((1, 1, len(source.words)), dtype=np.float32)
    last = -1
    for _ in range(MAX_WRITTEN):
        outputs = runtime.run({**fixed, WRITTEN_PIECES: so_far, WRITTEN_CASES: case, COPIED: copied})
        word, place, share = _likeliest(outputs[LOGITS][0], source, last, has_blank=BLANK in written)
        sure.append(math.log(share))
        if word == END_OF_SENTENCE:
            break
        written.append(word)
        last = place if place >= 0 else last
        now = np.zeros((1, 1, len(source.words)), dtype=np.float32)
        if place >= 0:
            now[0, 0, place] = 1
        piece, kind = arrays(tokenizer, [word])
        so_far = np.concatenate([so_far, piece[None]], axis=1)
        case = np.concatenate([case, kind[None]], axis=1)
        copied = np.concatenate([copied, now], axis=1)
    return spoken(written), math.exp(sum(sure) / len(sure))


def _likeliest(logits: np.ndarray, source: Read, last: int, *, has_blank: bool) -> tuple[str, int, float]:
    """Return the word that is likeliest over all places where it is, the place it is copied from or -1, and its share.

    Args:
        logits: float [symbols + S].
        source: what was read.
        last: place of the last word that was copied: the one behind it comes first.
        has_blank: whether the blank was written; a sentence has it once.
    """
    allowed = logits[: len(SYMBOLS) + source.count].astype(np.float64)
    allowed[SYMBOLS.index(BLANK if has_blank else END_OF_SENTENCE)] = _NEVER
    words = [word.lower() for word in source.words[: source.count]]
    for place, word in enumerate(words):
        if word == BLANK:
            allowed[len(SYMBOLS) + place] = _NEVER
    shares = np.exp(allowed - allowed.max())
    sums: dict[str, float] = {}
    for word, share in zip((*SYMBOLS, *words), shares, strict=True):
        sums[word] = sums.get(word, 0.0) + float(share)
    best = max(sums, key=lambda word: sums[word])
    places = [place for place, word in enumerate(words) if word == best and best != BLANK]
    share = sums[best] / sum(sums.values())
    if not places:
        return best, -1, share
    place = last + 1 if last + 1 in places else max(places, key=lambda each: shares[len(SYMBOLS) + each])
    if best in SYMBOLS and not source.words[place].isupper():  # "US" is not "us"
        return best, place, share
    begins = place == 0 or source.kinds[place] != source.kinds[place - 1]  # a capital there may be that of a sentence
    lower = next((source.words[each] for each in places if source.words[each].islower()), None)
    return (lower if lower is not None and begins else source.words[place]), place, share
