"""Entities: what an utterance names, such as a city or a date, and exactly where it stands. Torch-free.

The network says something of every token; a word counts by its first one. Words are found in the caller's text, not by
the tokenizer, and never cut through what people see as one character, so that offsets are exact whatever the text.
Offsets count code points of the text as it was sent.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from nlp.text import Encoding, is_joined, is_unspaced
from shared.bundle.calibration import probabilities_from_logits, probability_from_logit
from shared.bundle.read import Bundle
from shared.errors import BundleError

ENTITY_LOGITS = "entity_logits"
"""The network's output: float32 [N, T, E], of each token."""
ENTITIES_FILE = "entities.json"
PERCEPT = "percept"
"""Extractor of what the network found."""
OUTSIDE = 0
"""The tag of words that are in no entity."""
_SURE = 1e-6
"""Probabilities are kept this far from 0 and 1."""
_LONGEST_WORD = 300
_PLAIN = re.compile(r"\w+|[^\w\s]")
_AHEAD = frozenset(
    "\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\u0d4e\U000110bd\U000110cd\U000111c2\U000111c3"
)
"""What belongs to the character behind it. Source: Unicode Standard Annex 29, Prepend."""
_BEHIND = "\u200c\u0e33\u0eb3\uff9e\uff9f"
"""What belongs to the character before it, beside marks. Source: as above, Extend and SpacingMark."""


@dataclass(frozen=True)
class Entity:
    """One thing that an utterance names."""

    start: int
    """Code points of the caller's text: `text[start:end]` is what was written."""
    end: int
    entity: str
    """What it is, such as "city"."""
    value: str
    """As written, or what that is a synonym of."""
    text: str
    """As written."""
    score: float
    """Probability that these words, all of them and no others, are this entity."""
    role: str | None = None
    """What it is there for, such as "from"."""
    group: str | None = None
    """Which of several things it belongs to, such as "1"."""
    extractor: str = PERCEPT


@dataclass(frozen=True)
class Kind:
    """What a word can be part of: an entity, in a role, of a group."""

    entity: str
    role: str | None = None
    group: str | None = None

    @property
    def name(self) -> str:
        """The kind in one word, as metrics show it.

        >>> Kind("city", "from").name, Kind("topping", None, "1").name
        ('city.from', 'topping#1')
        """
        return self.entity + (f".{self.role}" if self.role else "") + (f"#{self.group}" if self.group else "")


@dataclass(frozen=True)
class Span:
    """An entity that is marked in an example, or one that was found and not yet given."""

    start: int
    end: int
    kind: Kind
    value: str | None = None
    """What it means, if that is something else than what is written."""
    margin: float = 0.0
    """Of one that was found: log-odds of its least sure word."""


class EntityRule(BaseModel):
    """entities.json: what the tags mean, how sure the network is of them, and what is said in other words."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kinds: tuple[Kind, ...] = Field(min_length=1)
    """The tags are 0 for none, then two for each: its first word, and a further one."""
    temperature: float = Field(gt=0, allow_inf_nan=False)
    shift: float = Field(allow_inf_nan=False)
    """score = sigmoid((log-odds of the least sure word + shift) / temperature)."""
    synonyms: dict[str, dict[str, str]] = Field(default_factory=dict)
    """Entity, or "" for all -> what is written, in lower case and with single blanks -> its value."""

    @model_validator(mode="after")
    def _are_different(self) -> EntityRule:
        if len(set(self.kinds)) < len(self.kinds):
            raise ValueError("kinds names one twice")
        return self

    def file(self) -> dict[str, bytes]:
        """Return the bundle's file as name -> content."""
        return {ENTITIES_FILE: self.model_dump_json(indent=1, exclude_defaults=True).encode() + b"\n"}

    def value(self, entity: str, text: str) -> str:
        """Return what words mean: the value that they are a synonym of, or the words as they are."""
        words = plain(text)
        for names in (self.synonyms.get(entity), self.synonyms.get("")):
            if names and words in names:
                return names[words]
        return text

    def entities(self, outputs: Mapping[str, np.ndarray], encoding: Encoding) -> tuple[Entity, ...]:
        """Return what the network found in one text, in the text's order.

        Args:
            outputs: its row of the network's outputs, with `entity_logits` [T or more, E].
            encoding: of the text.
        """
        return tuple(
            self.given(span, encoding.text) for span in found_spans(outputs[ENTITY_LOGITS], encoding, self.kinds)
        )

    def given(self, span: Span, text: str) -> Entity:
        """Return a span that was found as it is answered."""
        written, kind = text[span.start : span.end], span.kind
        return Entity(
            start=span.start,
            end=span.end,
            entity=kind.entity,
            value=self.value(kind.entity, written),
            text=written,
            score=self.score(span.margin),
            role=kind.role,
            group=kind.group,
        )

    def score(self, margin: float) -> float:
        """Return the probability that a span is right."""
        return probability_from_logit(margin + self.shift, self.temperature)


def read_entities(bundle: Bundle) -> EntityRule | None:
    """Return what a bundle says of entities; None where its network finds none, as in older ones.

    Raises:
        BundleError: the file is missing or broken, or does not fit the network.
    """
    outputs = {spec.name: spec.shape for spec in bundle.config.signature.outputs}
    if ENTITY_LOGITS not in outputs:
        return None
    file = bundle.file(ENTITIES_FILE)
    try:
        rule = EntityRule.model_validate_json(file.read_bytes())
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise BundleError(
            f"{file} is wrong: {'.'.join(map(str, first['loc'])) or 'the file'}: {first['msg']}. Copy the bundle again "
            "from where it was made."
        ) from error
    tags, expected = outputs[ENTITY_LOGITS][-1], num_tags(len(rule.kinds))
    if tags != expected:
        raise BundleError(
            f"{file} names {len(rule.kinds)} kinds of entities, which are {expected} tags; the network's output "
            f"{ENTITY_LOGITS} has {tags}. Copy the bundle again from where it was made."
        )
    return rule


def num_tags(kinds: int) -> int:
    """Return how many tags so many kinds of entities have.

    >>> num_tags(2)
    5
    """
    return 1 + 2 * kinds


def plain(text: str) -> str:
    """Return words as synonyms are looked up: in lower case, with single blanks.

    >>> plain("  New  YORK ")
    'new york'
    """
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


@dataclass(frozen=True)
class Word:
    """A word or sign of a text, with its first token."""

    start: int
    end: int
    token: int


def words_of(encoding: Encoding) -> list[Word]:
    """Return the words of a text that the network reads, each with its first token.

    A word of which no token is left, such as a control character, is none; of words that share a first token the later
    ones belong to the first.
    """
    offsets = encoding.offsets
    tokens = [i for i in np.flatnonzero(encoding.is_text).tolist() if offsets[i, 0] < offsets[i, 1]]
    found: list[Word] = []
    place = 0
    last_end = -1
    for start, end in _read_bounds(encoding, tokens):
        while place < len(tokens) and offsets[tokens[place], 1] <= start:
            place += 1
        if place == len(tokens):
            break
        token = tokens[place]
        if offsets[token, 0] >= end:
            continue
        if found and (found[-1].token == token or start < last_end):
            found[-1] = Word(found[-1].start, end, found[-1].token)
        else:
            found.append(Word(start, end, token))
        last_end = end
    return found


def _read_bounds(encoding: Encoding, tokens: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield where words begin and end, without those in the middle of a text that is too long to be read."""
    text, parts = encoding.text, [(0, len(encoding.text))]
    if encoding.is_cut and len(tokens) > 1:
        gaps = encoding.offsets[tokens[1:], 0] - encoding.offsets[tokens[:-1], 1]
        before = int(gaps.argmax())
        first, last = int(encoding.offsets[tokens[before], 1]), int(encoding.offsets[tokens[before + 1], 0])
        parts = [(0, _blank_from(text, first, 1)), (_blank_from(text, last, -1), len(text))]
        parts = parts if parts[0][1] <= parts[1][0] else [(0, len(text))]
    for first, last in parts:
        yield from ((first + start, first + end) for start, end in bounds_of(text[first:last]))


def _blank_from(text: str, place: int, step: int) -> int:
    """Return the next place of a blank in a direction, or the text's end if none is near."""
    for near in range(place, place + step * _LONGEST_WORD, step):
        if not 0 <= near < len(text) or text[near].isspace():
            return min(max(near, 0), len(text))
    return len(text) if step > 0 else 0


def bounds_of(text: str) -> list[tuple[int, int]]:
    r"""Return where the words and signs of a text begin and end.

    A word is letters, digits and underscores; in scripts without blanks between words each character is one. Any other
    sign is one of its own. Marks, joiners and what else belongs to a character stay with it.

    >>> [f"x{'ab, c' [s:e]}" for s, e in bounds_of("ab, c")]
    ['xab', 'x,', 'xc']
    >>> bounds_of("cafe\u0301!"), bounds_of("東京")
    ([(0, 5), (5, 6)], [(0, 1), (1, 2)])
    """
    if text.isascii():
        return [found.span() for found in _PLAIN.finditer(text)]
    found: list[tuple[int, int]] = []
    start, in_word, flags = -1, False, 0
    for place, character in enumerate(text):
        flags = flags + 1 if "\U0001f1e6" <= character <= "\U0001f1ff" else 0
        is_word = (character.isalnum() or character == "_") and not is_unspaced(character)
        if place and _belongs(text, place, flags) and (start >= 0 or not (is_word or character in _AHEAD)):
            in_word |= is_word  # what is behind a blank, such as a mark, belongs to the blank
            continue
        if start >= 0 and not (in_word and is_word):
            end = place
            while end > start and character.isspace() and text[end - 1] in _AHEAD:
                end -= 1
            found += [(start, end)] if end > start else []
            start = -1
        if character.isspace():
            start = -1
        elif start < 0:
            start, in_word = place, is_word
    if start >= 0:
        found.append((start, len(text)))
    return found


def _belongs(text: str, place: int, flags: int) -> bool:
    """Whether the character at `place` is part of what people see as one character with that before it.

    Args:
        text: of any length.
        place: above 0.
        flags: how many letters of flags stand in a row up to this place; a flag is two of them.
    """
    here, before = text[place], text[place - 1]
    if here.isspace():
        return False
    if before in _AHEAD or is_joined(text, place):
        return True
    if flags:
        return flags % 2 == 0
    return here in _BEHIND or "\U000e0020" <= here <= "\U000e007f"


def tags_of(words: Sequence[Word], spans: Iterable[Span], kinds: Mapping[Kind, int]) -> list[int]:
    """Return the tag of each word.

    Args:
        words: of a text.
        spans: that are marked in it, none over another.
        kinds: kind -> its number.
    """
    tags = [OUTSIDE] * len(words)
    for span in spans:
        inside = [i for i, word in enumerate(words) if word.start < span.end and span.start < word.end]
        for order, i in enumerate(inside):
            if tags[i] == OUTSIDE and span.kind in kinds:
                tags[i] = 1 + 2 * kinds[span.kind] + (order > 0)
    return tags


def fitted(spans: Iterable[Span], encoding: Encoding) -> list[Span]:
    """Return marked spans as the network can find them: of whole words, and only of words that it reads."""
    words = words_of(encoding)
    found = []
    for span in spans:
        inside = [word for word in words if word.start < span.end and span.start < word.end]
        if inside:
            found.append(replace(span, start=inside[0].start, end=inside[-1].end))
    return found


def span_counts(found: Iterable[Span], marked: Iterable[Span]) -> tuple[int, int, int]:
    """Return how many spans were found rightly, found, and marked; right is the same words of the same kind.

    Source: Tjong Kim Sang and De Meulder 2003, "Introduction to the CoNLL-2003 Shared Task", section 2.4.
    """
    ours = {(span.start, span.end, span.kind) for span in found}
    theirs = {(span.start, span.end, span.kind) for span in marked}
    return len(ours & theirs), len(ours), len(theirs)


def found_spans(logits: np.ndarray, encoding: Encoding, kinds: Sequence[Kind]) -> list[Span]:
    """Return the spans of the best sequence of tags.

    Args:
        logits: float [T or more, E].
        encoding: of the text.
        kinds: what the tags mean.
    """
    words = words_of(encoding)
    if not words:
        return []
    scores = np.asarray(logits, dtype=np.float64)[[word.token for word in words]]  # [W, E]
    tags = best_tags(scores)
    if not tags.any():
        return []
    chances = probabilities_from_logits(scores, 1.0, "single_label_classification")
    sure = np.clip(chances[np.arange(len(tags)), tags], _SURE, 1 - _SURE)
    found: list[Span] = []
    start = 0
    while start < len(tags):
        if tags[start] == OUTSIDE:
            start += 1
            continue
        end = start + 1
        while end < len(tags) and tags[end] == tags[start] + 1:
            end += 1
        # The word behind says that the entity ends here as surely as the others say what they are.
        least = float(min(sure[start:end].min(), _ends(chances, end, tags[start] + 1)))
        margin = float(np.log(least / (1 - least)))
        kind = kinds[(int(tags[start]) - 1) // 2]
        found.append(Span(words[start].start, words[end - 1].end, kind, margin=margin))
        start = end
    return found


def _ends(chances: np.ndarray, place: int, goes_on: int) -> float:
    return 1.0 if place >= len(chances) else float(np.clip(1 - chances[place, goes_on], _SURE, 1 - _SURE))


def best_tags(scores: np.ndarray) -> np.ndarray:
    """Return int [W]: the best sequence in which an entity goes on only behind a word of the same one.

    Args:
        scores: float [W, E], of each word: 0 for none, then two for each kind, its first word and a further one.

    Source: Viterbi 1967, "Error bounds for convolutional codes"; all moves that are allowed are equally good.
    """
    words, tags = scores.shape
    alone: np.ndarray = scores.argmax(axis=1)
    before = np.concatenate([[OUTSIDE], alone[:-1]])
    if ((alone % 2 == 1) | (alone == OUTSIDE) | (before == alone) | (before == alone - 1)).all():
        return alone  # the best of each word is a sequence: nearly always, and then there is none better
    first, further = np.arange(1, tags, 2), np.arange(2, tags, 2)
    total = scores[0].copy()
    total[further] = -np.inf
    came = np.zeros((words, tags), dtype=np.int64)
    for word in range(1, words):
        best = int(total.argmax())
        came[word] = best
        goes_on = np.where(total[first] >= total[further], first, further)
        came[word, further] = goes_on
        before = np.full(tags, total[best])
        before[further] = total[goes_on]
        total = before + scores[word]
    path: np.ndarray = np.zeros(words, dtype=np.int64)
    path[-1] = int(total.argmax())
    for word in range(words - 1, 0, -1):
        path[word - 1] = came[word, path[word]]
    return path


def multi_intent(name: str) -> tuple[str, ...]:
    """Return the intents that a name stands for, several if they are joined by "+".

    >>> multi_intent("greet+order"), multi_intent("greet"), multi_intent("c++")
    (('greet', 'order'), ('greet',), ('c++',))
    """
    parts = tuple(part.strip() for part in name.split("+"))
    return parts if all(parts) else (name,)
