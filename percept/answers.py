"""A service's answers as frozen dataclasses, and how they are read from its JSON.

A `score` or `confidence` is a calibrated probability. Fields that a newer service adds are ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from percept.errors import BadAnswer

T = TypeVar("T")


@dataclass(frozen=True)
class Model:
    """The model that answered."""

    name: str
    version: str


@dataclass(frozen=True)
class ItemError:
    """Takes the place of the result of an input that cannot be answered, among several."""

    type: str
    message: str


@dataclass(frozen=True)
class Tag:
    """One label."""

    label: str
    score: float
    parents: tuple[str, ...]
    """The labels above it, nearest first."""


@dataclass(frozen=True)
class ImageTags:
    """The tags of one photo, the most probable first. Having none is a normal answer."""

    tags: tuple[Tag, ...]
    width: int
    height: int
    model: Model


@dataclass(frozen=True)
class IntentScore:
    """One intent and its probability if the utterance has an intent at all."""

    name: str
    confidence: float


@dataclass(frozen=True)
class Entity:
    """Something that a text names."""

    start: int
    end: int
    """`text[start:end]` is what was written, in code points, as Python counts."""
    entity: str
    value: Any
    """As written, or what that is a synonym of; of built-in extractors an ISO 8601 string, a number, or for money a
    dict with `amount` and `currency`."""
    text: str
    score: float | None
    """None for what a built-in extractor found."""
    role: str | None
    group: str | None
    extractor: str


@dataclass(frozen=True)
class Entities:
    """The entities of one text."""

    entities: tuple[Entity, ...]
    truncated: bool
    """Whether the network left out the middle of the text."""
    model: Model | None
    """None if only built-in extractors read the text."""


@dataclass(frozen=True)
class Intent:
    """The intent of one utterance."""

    intent: str | None
    """None if it is none of the known ones, which is a normal answer."""
    confidence: float
    """Of the best intent, whether or not it is named."""
    out_of_scope: bool
    out_of_scope_score: float
    ranking: tuple[IntentScore, ...]
    model: Model
    intents: tuple[str, ...] = ()
    """Several if the intent is one like "greet+order"; none out of scope."""
    entities: tuple[Entity, ...] = ()
    """Also out of scope."""


@dataclass(frozen=True)
class Source:
    """Where in the knowledge base an answer is."""

    document: str
    title: str
    headings: tuple[str, ...]
    kind: str
    """prose, answer (to a question of the document's own), row (of a table) or code."""
    lead: str
    """That question, or the words that introduce the code or the table."""
    page: int | None
    """Of a document with pages, counted from 1."""


@dataclass(frozen=True)
class Answer:
    """A literal answer: `context[start:end] == text`, where the context may be a document's text from `document`."""

    text: str
    score: float
    start: int
    end: int
    source: Source | None
    """None if the context came with the question."""


@dataclass(frozen=True)
class Passage:
    """A passage of the knowledge base that was searched for the answer."""

    document: str
    title: str
    headings: tuple[str, ...]
    kind: str
    lead: str
    page: int | None
    text: str
    start: int
    end: int
    score: float
    """Only sorts the passages; not a probability."""


@dataclass(frozen=True)
class Answered:
    """The result of a question."""

    model: Model
    answer: Answer | None
    """None if no answer is certain enough, which is a normal result."""
    sentence: str | None
    """The answer as a sentence; None unless one was asked for and could be made."""
    others: tuple[Answer, ...]
    """Further answers from the knowledge base that are certain enough."""
    passages: tuple[Passage, ...]


@dataclass(frozen=True)
class Understood:
    """The intent of a text and, if it is a question or has no known intent, what the knowledge base says."""

    intent: Intent | None
    """None if the service has no intent model."""
    is_question: bool
    answer: Answer | None
    sentence: str | None
    others: tuple[Answer, ...]
    answered_by: Model | None
    """The model for answers, if the service has one."""
    passages: tuple[Passage, ...]
    entities: tuple[Entity, ...] = ()
    """Those of the intent, or without an intent model of rules alone."""


@dataclass(frozen=True)
class Document:
    """A document of the knowledge base."""

    id: str
    title: str
    media_type: str
    passages: int
    characters: int
    sha256: str
    updated: str
    """ISO 8601, UTC."""


@dataclass(frozen=True)
class DocumentText(Document):
    """A document with its plain text, in which answers have their positions."""

    text: str


@dataclass(frozen=True)
class Feedback:
    """What feedback was kept for."""

    request_id: str
    item: int
    task: str
    """Of the answer."""
    replaced: bool
    """Whether it took the place of earlier feedback with the same key."""


@dataclass(frozen=True)
class ShareRight:
    """A share of answers that are right, with its 95 % interval."""

    value: float
    low: float
    high: float
    said: int | None
    """Answers that somebody judged; None of a corrected share."""


@dataclass(frozen=True)
class Quality:
    """How often a model's answers are right, the most reliable figure first; None where nothing is known."""

    audited: ShareRight | None
    """Of answers drawn at random and judged by reviewers."""
    corrected: ShareRight | None
    """By feedback, as if it were as frequent at every confidence."""
    feedback: ShareRight | None
    """By feedback as it comes, which is no random sample."""
    expected: float | None
    """By the model's own confidence, which is optimistic."""
    thumbs: int
    liked: int


@dataclass(frozen=True)
class Alarm:
    """One test of what a model is asked now against what was usual."""

    stat: str
    is_raised: bool
    before: float
    now: float
    p: float
    sentence: str


@dataclass(frozen=True)
class NewGroup:
    """Inputs that are alike and fit no known label."""

    name: str
    size: int
    nearest: str | None
    """The known label that is most alike."""


@dataclass(frozen=True)
class ModelQuality:
    """What the monitor found last of a model."""

    model: str
    version: str
    time: str
    """ISO 8601, UTC."""
    age_s: float
    records: int
    state: str
    """quiet, alarm, or too few."""
    sentence: str
    alarms: tuple[Alarm, ...]
    quality: Quality | None
    groups: tuple[NewGroup, ...]


@dataclass(frozen=True)
class ServedModel:
    """A model that is being served."""

    name: str
    task: str
    version: str
    bundle: str
    since: str
    previous: str | None
    workers: int


@dataclass(frozen=True)
class ServedModels:
    """All models of the service, as one of its workers knows them."""

    models: tuple[ServedModel, ...]
    workers: int
    problems: tuple[str, ...]


def read(kind: type[T], value: Any, place: str = "the answer") -> T:
    """Return JSON as a dataclass of strings, numbers, booleans, tuples, dataclasses and None.

    >>> read(Model, {"name": "tagger", "version": "1", "new": 1})
    Model(name='tagger', version='1')
    >>> read(Model, {"name": "tagger"})
    Traceback (most recent call last):
    percept.errors.BadAnswer: the answer has no 'version'. Is that a Percept service, and of this client's version?

    Raises:
        BadAnswer: a field is missing or of another type.
    """
    return _read(kind, value, place)  # type: ignore[no-any-return]


def _read(kind: Any, value: Any, place: str) -> Any:
    if isinstance(kind, type) and is_dataclass(kind):
        if not isinstance(value, Mapping):
            raise _unlike(place, "an object", value)
        hints = _hints(kind)
        missing = [field.name for field in fields(kind) if field.name not in value and field.default is MISSING]
        if missing:
            raise BadAnswer(f"{place} has no {missing[0]!r}. Is that a Percept service, and of this client's version?")
        return kind(**{name: _read(hints[name], value[name], f"{place}.{name}") for name in hints if name in value})
    if kind is Any:
        return value
    if get_origin(kind) in (Union, UnionType):  # here always X | None
        return None if value is None else _read(next(a for a in get_args(kind) if a is not NoneType), value, place)
    if get_origin(kind) is tuple:
        if not isinstance(value, list):
            raise _unlike(place, "an array", value)
        return tuple(_read(get_args(kind)[0], item, f"{place}[{at}]") for at, item in enumerate(value))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise _unlike(place, kind.__name__, value)
    return value


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _unlike(place: str, wanted: str, value: Any) -> BadAnswer:
    return BadAnswer(f"{place} must be {wanted}; got {type(value).__name__}. Is that a Percept service?")
