"""A reply as HTML: the intent with its ranking as bars, the answer marked in its passage, notices. All text is escaped.

Neighbours: `reply` says what is shown, `texts` holds what stands around it, `page.css` says how it looks.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from nlp.engine import LanguageEngine
from nlp.intent.predictor import IntentResult
from nlp.knowledge import DocumentInfo, Passage
from nlp.page.reply import Found, Lookup, Reply, Sighting
from shared.errors import DeadlineExceeded, InputError, NotFound, NotReady, Overloaded, PerceptError, TooLarge

AROUND_CHARS = 360
"""Of a passage stand before and after its answer; what is further away is left out."""
NEAREST = 3
"""Passages that stand open where there is no answer."""
_ICONS = {
    "in": '<path d="m5 12.5 4.5 4.5L19 7.5"/>',
    "out": '<circle cx="12" cy="12" r="8"/><path d="m6.5 17.5 11-11"/>',
    "page": '<path d="M7 3h7l4 4v14H7zM14 3v4h4M10 12h5M10 16h5"/>',
    "remove": '<path d="M7 7l10 10M17 7 7 17"/>',
}


def icon(name: str) -> str:
    """Return a small picture that says nothing to screen readers."""
    return f'<svg class="l-icon" viewBox="0 0 24 24" aria-hidden="true">{_ICONS[name]}</svg>'


def percent(score: float) -> str:
    """Return a score as people read it; never 100 or 0, which no model can know.

    >>> [percent(score) for score in (0.9996, 0.973, 0.052, 0.001)]
    ['>99%', '97%', '5%', '<1%']
    """
    if score >= 0.995:
        return ">99%"
    return "<1%" if score < 0.01 else f"{score * 100:.0f}%"


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
            why = '<p class="l-why">Drop a document, and I look for the answer there.</p>'
            parts.append(_answer("Nothing to look it up in", why))
        return f'<article class="l-card">{"".join(parts)}</article>'

    def summary(self, reply: Reply) -> str:
        """Return what a screen reader says of it, as plain text."""
        parts = []
        if reply.intent is not None:
            if reply.intent.intent is None:
                parts.append("Out of scope: none of the known intents.")
            else:
                parts.append(f"Intent: {readable(reply.intent.intent)}, {percent(reply.intent.confidence)}, in scope.")
        if reply.lookup is not None:
            best = reply.lookup.answer
            parts.append(
                f"Answer: {best.answer.text}, from {_source(best.answer.passage)}." if best else "No answer found."
            )
        elif reply.wants_documents:
            parts.append("There is no document to look for an answer.")
        return " ".join(parts)

    def _intent(self, intent: IntentResult, took_ms: float) -> str:
        if intent.intent is None:
            title = f"None of my {self.intents:,} intents"
            mark = f'<span class="l-mark l-out">{icon("out")}out of scope'
            caption = "The nearest ones, if it were one of them"
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
            f"<p>Above {escape(percent(self.out_above))}, the line in the bar, a message belongs to no intent.</p>"
            "</div></section>"
        )

    def _lookup(self, lookup: Lookup, took_ms: float) -> str:
        best = lookup.answer
        if best is None:
            return self._unanswered(lookup, took_ms)
        others = [found for found in lookup.passages if found.passage != best.answer.passage]
        count = f"{len(others)} other passage{'s' * (len(others) != 1)} that I read"
        more = f"<details><summary>{count}</summary>{_passages(others)}</details>" if others else ""
        mark = (
            '<span class="l-mark l-in" title="Calibrated probability that it is the answer">'
            f"{escape(percent(best.answer.score))} sure</span>"
        )
        body = f"{_marked(best)}{_cite(best.answer.passage, best.is_own)}{more}"
        return _answer(best.answer.text, body, took_ms=took_ms, mark=mark)

    def _unanswered(self, lookup: Lookup, took_ms: float) -> str:
        if not lookup.passages:
            why = "No document holds any of these words. Drop one that does, or ask in other words."
            return _answer("No answer found", f'<p class="l-why">{why}</p>', took_ms=took_ms)
        why = (
            "I read the nearest passages, and none of them says it surely enough: an answer needs "
            f"{escape(percent(self.answer_from))}."
        )
        if lookup.best is not None:
            guess = escape(percent(lookup.best.answer.score))
            why += f" My best guess is “{escape(lookup.best.answer.text)}”, with {guess}."
        near = _passages(lookup.passages[:NEAREST])
        body = f'<p class="l-why">{why}</p><details open><summary>The nearest passages</summary>{near}</details>'
        return _answer("No answer found", body, took_ms=took_ms)


def _answer(title: str, body: str, *, took_ms: float | None = None, mark: str = "") -> str:
    """Return the section of an answer, or of none; the body is HTML."""
    took = "" if took_ms is None else f"<span>{took_ms:.0f} ms</span>"
    return (
        f'<section class="l-answer" aria-label="Answer"><header><div><p class="l-kicker">Answer{took}</p>'
        f"<h2>{escape(title)}</h2></div>{mark}</header>{body}</section>"
    )


def _marked(found: Sighting) -> str:
    """Return the passage with the answer highlighted, cut where it is long."""
    passage, answer = found.answer.passage, found.answer
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


def _passages(passages: Sequence[Found]) -> str:
    return "".join(
        f'<blockquote class="l-passage">{escape(found.passage.text.strip())}</blockquote>'
        f"{_cite(found.passage, found.is_own)}"
        for found in passages
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
    Overloaded: ("Many people ask right now.", "Please send it again in a moment."),
    DeadlineExceeded: ("This took too long.", "Please send it again in a moment."),
    NotReady: ("The service is restarting.", "Please send it again in a moment."),
}
"""Kind of error -> title and message, the narrower kinds first; no message: its own, which is meant for callers."""
