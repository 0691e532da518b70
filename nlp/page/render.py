"""The language page as HTML: the chat, replies with marked answers, documents, notices. All text is escaped."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape

from nlp.engine import LanguageEngine, SourcedAnswer
from nlp.intent.predictor import IntentResult
from nlp.knowledge import DocumentInfo, Passage
from nlp.knowledge.documents import SUFFIXES
from nlp.page.documents import KEEP_S, MAX_DOCUMENTS, MAX_FILE_BYTES
from nlp.page.reply import Lookup, Reply
from shared.errors import DeadlineExceeded, InputError, NotFound, NotReady, Overloaded, PerceptError, TooLarge
from shared.serving.page import parts
from shared.serving.page.parts import percent

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
OUT_OF_SCOPE = ("My cat prefers Mozart to Bach", "Write me a haiku about autumn rain")
ABOUT_PERCEPT = (
    "What is a bundle?",
    "How many megapixels may an image have?",
    "What does the service answer when it is overloaded?",
)
NOT_FOR = (
    "decisions about people: money, health, work or rights",
    "languages that its models were not trained on",
    "advice: an answer is a piece of a document, and only as right as the document is",
    "long or mixed messages: it names only the most likely intent",
)
_ICONS = {
    "in": '<path d="m5 12.5 4.5 4.5L19 7.5"/>',
    "out": '<circle cx="12" cy="12" r="8"/><path d="m6.5 17.5 11-11"/>',
    "page": '<path d="M7 3h7l4 4v14H7zM14 3v4h4M10 12h5M10 16h5"/>',
    "remove": '<path d="M7 7l10 10M17 7 7 17"/>',
}


def icon(name: str) -> str:
    """Return a small picture, hidden from screen readers."""
    return f'<svg class="l-icon" viewBox="0 0 24 24" aria-hidden="true">{_ICONS[name]}</svg>'


def readable(label: str) -> str:
    """Return a label as people read it.

    >>> [readable(label) for label in ("card_declined", "banking/card-lost", "PTO request")]
    ['card declined', 'banking / card lost', 'PTO request']
    """
    words = label.replace("_", " ").replace("-", " ").replace("/", " / ")
    return " ".join(words.split()) or label


class ReplyView:
    """Renders replies of one engine."""

    def __init__(self, engine: LanguageEngine) -> None:
        self.intents = len(engine.intent.labels) if engine.intent else 0
        self.out_above = 1 - engine.intent.predictor.decision.abstain_below if engine.intent else 1.0
        self.answer_from = engine.qa.predictor.decision.abstain_below if engine.qa else 0.0

    def reply(self, reply: Reply) -> str:
        """Return the card of one message."""
        parts = []
        if reply.intent is not None:
            parts.append(self._intent(reply.intent, reply.intent_ms))
        if reply.lookup is not None:
            parts.append(self._lookup(reply.lookup, reply.answer_ms))
        elif reply.wants_documents:
            why = '<p class="l-why">Drop a document, and I will look for the answer there.</p>'
            parts.append(_answer("Nothing to search", why))
        return f'<article class="l-card">{"".join(parts)}</article>'

    def summary(self, reply: Reply) -> str:
        """Return what a screen reader says about it, as plain text."""
        parts = []
        if reply.intent is not None:
            if reply.intent.intent is None:
                parts.append("Out of scope: none of the known intents.")
            else:
                parts.append(f"Intent: {readable(reply.intent.intent)}, {percent(reply.intent.confidence)}, in scope.")
        if reply.lookup is not None:
            best = reply.lookup.answer
            parts.append(f"Answer: {best.text}, from {_source(best.passage)}." if best else "No answer found.")
        elif reply.wants_documents:
            parts.append("There is no document to search for an answer.")
        return " ".join(parts)

    def _intent(self, intent: IntentResult, took_ms: float) -> str:
        if intent.intent is None:
            title = f"None of my {self.intents:,} intents"
            mark = f'<span class="l-mark l-out">{icon("out")}out of scope'
            caption = "The closest ones, if it had to be one of them"
        else:
            sure = f'<span class="l-sure">{escape(percent(intent.confidence))}</span>'
            title = f'<span title="{escape(intent.intent)}">{escape(readable(intent.intent))}</span> {sure}'
            mark = f'<span class="l-mark l-in">{icon("in")}in scope'
            caption = "How likely each intent is"
        bars = "".join(
            f'<li class="{"" if each.name == intent.intent else "p-weak"}" title="{escape(each.name)}">'
            f'<span class="p-label">{escape(readable(each.name))}</span>'
            f'<span class="p-bar" aria-hidden="true" style="--score:{each.confidence:.4f}"></span>'
            f'<span class="p-score">{escape(percent(each.confidence))}</span></li>'
            for each in intent.ranking
        )
        return (
            f'<section class="l-intent" aria-label="Intent"><header><div><p class="l-kicker">Intent'
            f"<span>{took_ms:.0f} ms</span></p><h2>{title}</h2></div>{mark}</span></header>"
            f'<p class="l-caption">{caption}</p><ol class="l-ranking">{bars}</ol>'
            f'<div class="l-scope"><span class="p-label">Out-of-scope score</span>'
            f'<span class="p-bar" aria-hidden="true" style="--score:{intent.out_of_scope_score:.4f};'
            f'--threshold:{self.out_above:.4f}"></span>'
            f'<span class="p-score">{escape(percent(intent.out_of_scope_score))}</span>'
            f"<p>Above {escape(percent(self.out_above))}, the line in the bar, a message counts as out of scope.</p>"
            "</div></section>"
        )

    def _lookup(self, lookup: Lookup, took_ms: float) -> str:
        best = lookup.answer
        if best is None:
            return self._unanswered(lookup, took_ms)
        own = [passage for passage in lookup.own if passage != best.passage]
        others = [passage for passage in lookup.others if passage != best.passage]
        count = len(own) + len(others)
        title = f"{count} other passage{'s' * (count != 1)} that I read"
        more = f"<details><summary>{title}</summary>{_passages(own, others)}</details>" if count else ""
        mark = (
            '<span class="l-mark l-in" title="Calibrated probability that it is the answer">'
            f"{escape(percent(best.score))} sure</span>"
        )
        body = f"{_marked(best)}{_cite(best.passage, best.passage in lookup.own)}{more}"
        return _answer(best.text, body, took_ms=took_ms, mark=mark)

    def _unanswered(self, lookup: Lookup, took_ms: float) -> str:
        if not lookup.own and not lookup.others:
            why = "No document has any of these words. Drop one that does, or ask in other words."
            return _answer("No answer found", f'<p class="l-why">{why}</p>', took_ms=took_ms)
        why = (
            "I read the closest passages, but found no answer that I am sure enough of: it takes at least "
            f"{escape(percent(self.answer_from))}."
        )
        if lookup.best is not None:
            why += f" My best guess is “{escape(lookup.best.text)}”, with {escape(percent(lookup.best.score))}."
        near = _passages(lookup.own[:NEAREST], lookup.others[: max(NEAREST - len(lookup.own), 0)])
        body = f'<p class="l-why">{why}</p><details open><summary>The closest passages</summary>{near}</details>'
        return _answer("No answer found", body, took_ms=took_ms)


def _answer(title: str, body: str, *, took_ms: float | None = None, mark: str = "") -> str:
    """Return the section with an answer, or with none; the body is HTML."""
    took = "" if took_ms is None else f"<span>{took_ms:.0f} ms</span>"
    return (
        f'<section class="l-answer" aria-label="Answer"><header><div><p class="l-kicker">Answer{took}</p>'
        f"<h2>{escape(title)}</h2></div>{mark}</header>{body}</section>"
    )


def _marked(answer: SourcedAnswer) -> str:
    """Return the passage with the answer highlighted, cut if it is long."""
    passage = answer.passage
    start, end = answer.start - passage.start, answer.end - passage.start
    before, inside, after = passage.text[:start], passage.text[start:end], passage.text[end:]
    if len(before) > AROUND_CHARS:
        before = "… " + before[-AROUND_CHARS:].split(" ", 1)[-1]
    if len(after) > AROUND_CHARS:
        after = after[:AROUND_CHARS].rsplit(" ", 1)[0] + " …"
    return (
        f'<blockquote class="l-passage">{escape(before.lstrip())}<mark>{escape(inside)}</mark>{escape(after.rstrip())}'
        "</blockquote>"
    )


def _passages(own: Sequence[Passage], others: Sequence[Passage]) -> str:
    return "".join(
        f'<blockquote class="l-passage">{escape(passage.text.strip())}</blockquote>{_cite(passage, is_own)}'
        for passages, is_own in ((own, True), (others, False))
        for passage in passages
    )


def _source(passage: Passage) -> str:
    return passage.title or passage.document


def _cite(passage: Passage, is_own: bool) -> str:
    path = [escape(_source(passage)), *(escape(heading) for heading in passage.headings if heading != passage.title)]
    own = '<span class="l-own">yours</span>' if is_own else ""
    return f'<p class="l-source">{icon("page")}<cite>{" <i>›</i> ".join(path)}</cite>{own}</p>'


def documents(kept: Sequence[DocumentInfo]) -> str:
    """Return the visitor's documents as a list with buttons that remove them."""
    items = "".join(
        f'<li>{icon("page")}<span class="l-name">{escape(each.title or each.id)}</span><span class="l-size">'
        f"{each.passages:,} passage{'s' * (each.passages != 1)}</span>"
        f'<button type="button" class="l-remove" data-document="{escape(each.id)}" '
        f'aria-label="Remove {escape(each.title or each.id)}">{icon("remove")}</button></li>'
        for each in kept
    )
    return f'<ul class="l-kept">{items}</ul>' if items else ""


def notice(title: str, message: str) -> str:
    """Return what a person reads when something cannot be done."""
    return f'<div class="l-notice"><strong>{escape(title)}</strong> <span>{escape(message)}</span></div>'


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
    most = engine.settings.max_text_chars
    return (
        f'<div class="l-columns"><section class="l-chat p-card" aria-label="Chat" data-most="{most}">'
        f'<div class="l-log" role="log" aria-live="off" aria-label="Conversation" tabindex="0">{_hello(engine)}</div>'
        f"{_samples(engine)}"
        '<form class="l-ask"><textarea id="l-message" rows="1" aria-label="Your message" '
        'placeholder="Write a message" autocomplete="off" enterkeyhint="send"></textarea>'
        '<button type="submit">Send</button></form><p class="l-hint" role="status"></p>'
        '<p class="l-said" role="status"></p></section>'
        f"{_documents() if engine.qa else ''}</div>"
    )


def _hello(engine: LanguageEngine) -> str:
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
    return f'<div class="l-hello"><h2>Say something.</h2><p>{escape(" ".join(does))}</p></div>'


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


def _samples(engine: LanguageEngine) -> str:
    groups = "".join(
        f'<div role="group" aria-label="{escape(title)}"><span>{escape(title)}</span>'
        + "".join(f'<button type="button" class="l-sample">{escape(text)}</button>' for text in texts)
        + "</div>"
        for title, texts in sample_messages(engine)
    )
    return f'<div class="l-samples">{groups}</div>' if groups else ""


def _documents() -> str:
    kinds = ",".join((*SUFFIXES, *dict.fromkeys(SUFFIXES.values())))
    return (
        f'<aside class="l-documents p-card" aria-label="Your documents" data-most="{MAX_FILE_BYTES}">'
        "<h2>Your documents</h2><p>Ask about documents of your own. Only you can ask about them, and they are deleted "
        "an hour after your last question.</p>"
        f'<label class="l-drop"><input type="file" multiple accept="{kinds}">'
        "<span><b>Drop files here</b> or choose them</span><small>Markdown, text, HTML or PDF, up to "
        f"{MAX_FILE_BYTES >> 20} MB each, {MAX_DOCUMENTS} in all</small></label>"
        '<details class="l-paste"><summary>Or paste text</summary><form><textarea rows="5" '
        'aria-label="Text to ask about" placeholder="Paste a text to ask about"></textarea>'
        '<button type="submit">Add text</button></form></details>'
        '<div class="l-list"></div><div class="l-status" role="status"></div></aside>'
    )


def how_to_call(engine: LanguageEngine) -> str:
    """Return the curl calls to copy."""
    text = {"text": IN_SCOPE["card_declined"]}
    calls: list[tuple[str, str, dict[str, str]]] = [
        ("One call for a chatbot: the intent, and the answer to a question", "/v1/understand", text)
    ]
    if engine.intent:
        calls.append(("The intent with its ranking", "/v1/intent", text))
    if engine.qa:
        about = {"question": "Who wrote it?", "context": "Ada Lovelace wrote it in 1843."}
        calls.append(("An answer from a text of yours", "/v1/answer", about))
    if engine.can_ask:
        calls.append(("An answer from the service's documents", "/v1/answer", {"question": ABOUT_PERCEPT[0]}))
    if engine.intent:
        calls.append(("As a Rasa server, for assistants that use one", "/model/parse", text))
    shown = "".join(
        parts.curl(title, route, after=f"-H \"Content-Type: application/json\" -d '{json.dumps(body)}'")
        for title, route, body in calls
    )
    return f'<div class="p-call">{shown}<p>All routes and fields: <a href="../docs">API docs</a>.</p></div>'


def knows(labels: Sequence[str]) -> str:
    """Return all intents, with a field to search them."""
    ordered = sorted(labels, key=str.casefold)
    items = "".join(f'<li title="{escape(label)}">{escape(readable(label))}</li>' for label in ordered)
    return parts.known_labels(
        f"It knows these {len(labels):,} intents and no others. A message with none of them is out of scope.",
        names="intents",
        example="card",
        lists=f"<div><ul>{items}</ul></div>",
    )


def limits(engine: LanguageEngine) -> str:
    """Return what the models are not for, with the limits that their cards name."""
    return parts.limits(
        NOT_FOR,
        [model.bundle.config.card for model in engine.models],
        "A score is a calibrated probability: of many messages with 80%, about 80% are right, on messages like those "
        "it was checked with. On others it may be less.",
        "Your messages are answered on this server and not kept. Documents that you drop are kept here for "
        f"{KEEP_S // 60} minutes after your last question, and never used for training.",
    )
