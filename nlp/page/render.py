"""The language page as HTML: what `page.html` shows of replies, documents, samples and models."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from nlp.answering import SourcedAnswer
from nlp.engine import ANSWER_ITEM, GIVEN_FROM, LanguageEngine
from nlp.extracting import Extracted
from nlp.intent.entities import Entity
from nlp.knowledge import DocumentInfo, Passage
from nlp.knowledge.documents import SUFFIXES
from nlp.page.documents import KEEP_S, MAX_DOCUMENTS, MAX_FILE_BYTES
from nlp.page.reply import Lookup, Reply
from shared.errors import DeadlineExceeded, InputError, NotFound, NotReady, Overloaded, PerceptError, TooLarge
from shared.serving.page.parts import limits_of, percent
from shared.templates import templates

AROUND_CHARS = 360
"""Characters of a passage shown before and after its answer; the rest is left out."""
NEAREST = 3
"""Passages shown if there is no answer."""
IN_SCOPE = {
    "card_declined": "Why did they turn down my card at the restaurant last night?",
    "book_flight": "Find me a flight from Paris to Lisbon on Friday",
    "lost_luggage": "My suitcase never came out at the airport",
    "freeze_account": "Please block my account right away",
    "exchange_rate": "How many euros do I get for 200 dollars?",
    "recipe": "How do I cook a lasagna?",
    "timer": "Set a timer for ten minutes",
    "translate": "How do you say good night in Italian?",
}
"""Label -> a message that means it; shown if the model has the label."""
MAX_IN_SCOPE = 4
COLOURS = 6
"""Of entities' names, in page.css; further names begin again."""
OUT_OF_SCOPE = ("My cat prefers Mozart to Bach", "Write me a haiku about autumn rain")
ABOUT_PERCEPT = ("What licence does Percept have?", "Which Python version does Percept need?")
NOT_FOR = (
    "decisions about people: money, health, work or rights",
    "languages that its models were not trained on",
    "advice: an answer is a piece of a document, and only as right as the document is",
    "long or mixed messages: it names only the most likely intent",
)
_DOCUMENT = {
    "most": MAX_DOCUMENTS,
    "most_bytes": MAX_FILE_BYTES,
    "most_mb": MAX_FILE_BYTES >> 20,
    "kinds": ",".join((*SUFFIXES, *dict.fromkeys(SUFFIXES.values()))),
}


def readable(label: str) -> str:
    """Return a label as people read it.

    >>> [readable(label) for label in ("card_declined", "banking/card-lost", "PTO request")]
    ['card declined', 'banking / card lost', 'PTO request']
    """
    words = label.replace("_", " ").replace("-", " ").replace("/", " / ")
    return " ".join(words.split()) or label


@dataclass(frozen=True)
class Named:
    """One entity as the page shows it."""

    words: str
    name: str
    """What it is, as people read it."""
    value: str | None
    """What it means; None if that is the words."""
    sure: str | None
    """How sure that is; None for what rules found."""
    colour: int
    """One of `COLOURS`, the same for all with its name."""


def named(found: Sequence[Entity | Extracted]) -> list[Named]:
    """Return entities as the page shows them, in the text's order."""
    kinds = list(dict.fromkeys(each.entity for each in _ordered(found)))
    return [
        Named(
            words=each.text,
            name=readable(each.entity) + "".join(f", {extra}" for extra in (each.role, each.group) if extra),
            value=_meaning(each),
            sure=None if each.score is None else percent(each.score),
            colour=kinds.index(each.entity) % COLOURS,
        )
        for each in _ordered(found)
    ]


def marked(text: str, found: Sequence[Entity | Extracted]) -> list[tuple[str, Named | None]]:
    """Return a text in pieces, each with the entity that it is; of entities over each other the first is marked."""
    pieces: list[tuple[str, Named | None]] = []
    place = 0
    for each, shown in zip(_ordered(found), named(found), strict=True):
        if each.start >= place:
            pieces += [(text[place : each.start], None), (text[each.start : each.end], shown)]
            place = each.end
    return [piece for piece in (*pieces, (text[place:], None)) if piece[0]]


def _ordered(found: Sequence[Entity | Extracted]) -> list[Entity | Extracted]:
    return sorted(found, key=lambda each: (each.start, -each.end))


def _meaning(entity: Entity | Extracted) -> str | None:
    if isinstance(entity.value, dict):
        return f"{entity.value['amount']} {entity.value['currency']}"
    return None if str(entity.value) == entity.text else str(entity.value)


@dataclass(frozen=True)
class Judged:
    """What the thumbs of a card are about."""

    request_id: str
    item: int
    labels: Sequence[tuple[str, str]] = ()
    """What it may be rather, each with how people read it; none of an answer."""

    @property
    def is_intent(self) -> bool:
        """Whether it is the intent."""
        return self.item != ANSWER_ITEM

    @classmethod
    def of(cls, reply: Reply, request_id: str, kept: Collection[int], labels: Sequence[str]) -> Judged | None:
        """Return the answer of a reply, or else its intent, if that was recorded; else None.

        Args:
            reply: what the card says.
            request_id: of the request that brought the message.
            kept: the items of it that were recorded.
            labels: all intents.
        """
        has_answer = reply.lookup is not None and reply.lookup.answer is not None
        if reply.intent is None or has_answer:
            return cls(request_id, ANSWER_ITEM) if ANSWER_ITEM in kept else None
        names = sorted(((label, readable(label)) for label in labels), key=itemgetter(1))
        return cls(request_id, 0, names) if 0 in kept else None


_TEMPLATES = templates("nlp.page", "shared.serving.page", percent=percent, readable=readable)
_TEMPLATES.globals |= {"named": named, "marked": marked}
_PAGE: Any = _TEMPLATES.get_template("page.html").module


class ReplyView:
    """Renders replies of one engine."""

    def __init__(self, engine: LanguageEngine) -> None:
        self.intents = len(engine.intent.labels) if engine.intent else 0
        self.out_above = 1 - engine.intent.predictor.decision.abstain_below if engine.intent else 1.0
        self.answer_from = GIVEN_FROM

    def reply(self, reply: Reply, judged: Judged | None = None) -> str:
        """Return the card of one message, with thumbs to judge what it says if that was recorded."""
        return str(_PAGE.reply(reply, self, judged))

    def summary(self, reply: Reply) -> str:
        """Return what a screen reader says about it, as plain text."""
        parts = []
        if reply.intent is not None:
            if reply.intent.intent is None:
                parts.append("Out of scope: none of the known intents.")
            else:
                parts.append(f"Intent: {readable(reply.intent.intent)}, {percent(reply.intent.confidence)}, in scope.")
        if reply.entities:
            parts.append("It names " + "; ".join(f"{each.name}: {each.words}" for each in named(reply.entities)) + ".")
        if reply.lookup is not None:
            best = reply.lookup.answer
            source = best and (best.passage.title or best.passage.document)
            if best:  # first, as on the card
                parts.insert(0, f"Answer: {reply.lookup.sentence or best.text}, from {source}.")
            else:
                parts.append("No answer found.")
        elif reply.wants_documents:
            parts.append("There is no document to search for an answer.")
        return " ".join(parts)

    @staticmethod
    def passages(lookup: Lookup) -> list[tuple[Passage, bool]]:
        """Return the passages that were read besides the answer's own, or the nearest ones if there is no answer.

        With each goes whether it is from a document of the visitor's.
        """
        found = [(passage, True) for passage in lookup.own] + [(passage, False) for passage in lookup.others]
        if lookup.answer is None:
            return found[:NEAREST]
        return [(passage, is_own) for passage, is_own in found if passage != lookup.answer.passage]

    @staticmethod
    def meant(lookup: Lookup) -> list[str]:
        """Return questions that the documents answer themselves and that may have been meant, the nearest first."""
        found = [passage.lead for passage in (*lookup.own, *lookup.others) if passage.kind == "answer"]
        return list(dict.fromkeys(found))[:NEAREST]

    @staticmethod
    def excerpt(answer: SourcedAnswer) -> tuple[str, str, str]:
        """Return the answer with the text before and after it in its passage, cut if that is long."""
        text = answer.passage.text
        start, end = answer.start - answer.passage.start, answer.end - answer.passage.start
        before, inside, after = text[:start], text[start:end], text[end:]
        if len(before) > AROUND_CHARS:
            before = "… " + before[-AROUND_CHARS:].split(" ", 1)[-1]
        if len(after) > AROUND_CHARS:
            after = after[:AROUND_CHARS].rsplit(" ", 1)[0] + " …"
        return before.lstrip(), inside, after.rstrip()


def documents(kept: Sequence[DocumentInfo]) -> str:
    """Return the visitor's documents as a list with buttons that remove them."""
    return str(_PAGE.documents(kept))


def notice(title: str, message: str) -> str:
    """Return what a person reads when something cannot be done."""
    return str(_PAGE.notice(title, message))


def explain(error: PerceptError, subject: str = "message") -> tuple[str, str]:
    """Return title and message of what went wrong with a message or a document, for a person."""
    for kind, (title, message) in _EXPLAINED.items():
        if isinstance(error, kind):
            said = message or str(error)
            return title.format(subject), said[:1].upper() + said[1:]
    return "I cannot do this right now.", "Please try again in a moment."


_EXPLAINED: dict[type[PerceptError], tuple[str, str]] = {
    NotFound: ("This {} is gone.", ""),
    TooLarge: ("This {} is more than I can take.", ""),
    InputError: ("I cannot read this {}.", ""),
    Overloaded: ("Many people are asking right now.", "Please send it again in a moment."),
    DeadlineExceeded: ("This took too long.", "Please send it again in a moment."),
    NotReady: ("The service is restarting.", "Please send it again in a moment."),
}
"""Kind of error -> title and message, narrower kinds first. No message means the error's own, which callers may see."""


def chat(engine: LanguageEngine) -> str:
    """Return the chat and, if questions can be answered, the visitor's documents beside it."""
    most, takes_documents = engine.settings.max_text_chars, engine.qa is not None
    return str(_PAGE.chat(most, _does(engine), sample_messages(engine), takes_documents, _DOCUMENT))


def greeting(engine: LanguageEngine) -> dict[str, str]:
    """Return what the chat says before the first message, and its samples: both depend on the models."""
    return {"does": _does(engine), "samples": str(_PAGE.samples(sample_messages(engine)))}


def _does(engine: LanguageEngine) -> str:
    does = []
    if engine.intent:
        does.append(
            f"I tell you which of {len(engine.intent.labels):,} intents your message has and how sure I am, or that it "
            "has none of them."
        )
    if engine.can_ask:
        where = "Percept's documentation" if _is_about_percept(engine) else "this service's documents"
        does.append(f"If you ask a question, I look for the answer in {where} and in the documents that you drop.")
    elif engine.qa:
        does.append("If you ask a question, I look for the answer in the documents that you drop.")
    return " ".join(does)


def sample_messages(engine: LanguageEngine) -> list[tuple[str, list[str]]]:
    """Return messages to try, in groups with a title, that suit the models of this service."""
    groups = []
    if engine.intent:
        known = [text for label, text in IN_SCOPE.items() if label in engine.intent.labels][:MAX_IN_SCOPE]
        groups.append(("In scope", known or [readable(label) for label in engine.intent.labels[:MAX_IN_SCOPE]]))
        groups.append(("Out of scope", list(OUT_OF_SCOPE)))
    if _is_about_percept(engine):
        groups.append(("About Percept", list(ABOUT_PERCEPT)))
    return groups


def _is_about_percept(engine: LanguageEngine) -> bool:
    return engine.can_ask and engine.settings.knowledge_documents == "own"


def how_to_call(engine: LanguageEngine) -> str:
    """Return the curl calls to copy."""
    text = {"text": IN_SCOPE["card_declined"]}
    about = {"question": "Who wrote it?", "context": "Ada Lovelace wrote it in 1843."}
    calls = [("One call for a chatbot: the intent, and the answer to a question", "/v1/understand", text)]
    if engine.intent:
        calls.append(("The intent with its ranking", "/v1/intent", text))
    if engine.qa:
        calls.append(("An answer from a text of yours", "/v1/answer", about))
    if engine.can_ask:
        calls.append(("An answer from the service's documents", "/v1/answer", {"question": ABOUT_PERCEPT[0]}))
    if engine.intent:
        calls.append(("As a Rasa server, for assistants that use one", "/model/parse", text))
    return str(_PAGE.how_to_call([(title, route, json.dumps(body)) for title, route, body in calls]))


def knows(engine: LanguageEngine) -> str:
    """Return all intents, with a field to search them."""
    if engine.intent is None:
        return str(_PAGE.knows([], []))
    languages = engine.intent.bundle.config.languages
    return str(_PAGE.knows(sorted(engine.intent.labels, key=str.casefold), languages))


def limits(engine: LanguageEngine) -> str:
    """Return what the models are not for, with the limits that their cards name."""
    own = [line for model in engine.models for line in limits_of(model.bundle.config.card)]
    return str(_PAGE.limits([*NOT_FOR, *own], KEEP_S // 60))
