"""What stands around the replies: chat, samples, documents, how to call the API, what the models know."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape

from nlp.engine import LanguageEngine
from nlp.knowledge.documents import SUFFIXES
from nlp.page.documents import KEEP_S, MAX_DOCUMENTS, MAX_FILE_BYTES
from nlp.page.render import readable

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
"""Label -> something that means it; shown where the model has the label."""
MAX_IN_SCOPE = 4
OUT_OF_SCOPE = ("My cat prefers Mozart to Bach", "Write me a haiku about autumn rain")
ABOUT_PERCEPT = (
    "What is a bundle?",
    "How many megapixels may an image have?",
    "What does the service answer when it is overloaded?",
)
NOT_FOR = (
    "deciding anything about a person: money, health, work or rights",
    "other languages than those that its models were trained on",
    "advice: an answer is a piece of a document, and as right as the document is",
    "long or mixed messages: it names one intent, the most likely one",
)


def chat(engine: LanguageEngine) -> str:
    """Return the chat, and beside it the visitor's documents where questions can be answered."""
    return (
        f'<div class="l-columns"><section class="l-chat p-card" aria-label="Chat" data-most="{_most(engine)}">'
        f'<div class="l-log" role="log" aria-live="off" aria-label="Conversation" tabindex="0">{_hello(engine)}</div>'
        f"{_samples(engine)}"
        '<form class="l-ask"><textarea id="l-message" rows="1" aria-label="Your message" '
        'placeholder="Write a message" autocomplete="off" enterkeyhint="send"></textarea>'
        '<button type="submit">Send</button></form><p class="l-hint" role="status"></p>'
        '<p class="l-said" role="status"></p></section>'
        f"{_documents() if engine.qa else ''}</div>"
    )


def _most(engine: LanguageEngine) -> int:
    return engine.settings.max_text_chars


def _hello(engine: LanguageEngine) -> str:
    does = []
    if engine.intent:
        does.append(
            f"I tell which of {len(engine.intent.labels):,} intents a message has, how sure that is, and whether it "
            "has none of them."
        )
    if engine.can_ask:
        where = "Percept's documentation" if _is_about_percept(engine) else "this service's documents"
        does.append(f"To a question I look for the answer in {where}, and in documents that you drop.")
    elif engine.qa:
        does.append("To a question I look for the answer in documents that you drop.")
    return f'<div class="l-hello"><h2>Say something.</h2><p>{escape(" ".join(does))}</p></div>'


def sample_messages(engine: LanguageEngine) -> list[tuple[str, list[str]]]:
    """Return messages to try, in groups with a title; only such as the models that are there can do something with."""
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
        "<h2>Your documents</h2><p>Ask about your own. Only you can ask about them here, and an hour after your last "
        "question they are gone.</p>"
        f'<label class="l-drop"><input type="file" multiple accept="{kinds}">'
        "<span><b>Drop files here</b> or choose them</span><small>Markdown, text, HTML or PDF, up to "
        f"{MAX_FILE_BYTES >> 20} MB each, {MAX_DOCUMENTS} in all</small></label>"
        '<details class="l-paste"><summary>Or paste text</summary><form><textarea rows="5" '
        'aria-label="Text to ask about" placeholder="Paste a text to ask about"></textarea>'
        '<button type="submit">Add text</button></form></details>'
        '<div class="l-list"></div><div class="l-status" role="status"></div></aside>'
    )


def how_to_call(engine: LanguageEngine) -> str:
    """Return the curl calls to copy; the shared script puts the page's own address in."""
    text = IN_SCOPE["card_declined"]
    calls: list[tuple[str, str, dict[str, str]]] = [
        ("One call for a chatbot: the intent, and to a question the answer", "/v1/understand", {"text": text})
    ]
    if engine.intent:
        calls.append(("The intent with its ranking", "/v1/intent", {"text": text}))
    if engine.qa:
        about = {"question": "Who wrote it?", "context": "Ada Lovelace wrote it in 1843."}
        calls.append(("An answer out of a text of yours", "/v1/answer", about))
    if engine.can_ask:
        calls.append(("An answer out of the service's documents", "/v1/answer", {"question": ABOUT_PERCEPT[0]}))
    if engine.intent:
        calls.append(("As a Rasa server, for assistants that ask one", "/model/parse", {"text": text}))
    return (
        f'<div class="p-call">{"".join(_call(*call) for call in calls)}'
        '<p>All routes and fields: <a href="../docs">API docs</a>.</p></div>'
    )


def _call(title: str, route: str, body: dict[str, str]) -> str:
    command = (
        f'curl "<span class="p-origin">http://localhost:3000</span>{route}" -H "Content-Type: application/json" '
        f"-d '{escape(json.dumps(body))}'"
    )
    return (
        f'<p>{escape(title)}:</p><div class="p-code"><pre tabindex="0"><code>{command}</code></pre>'
        f'<button type="button" class="p-copy" aria-label="Copy the call of {route}">Copy</button></div>'
    )


def knows(labels: Sequence[str]) -> str:
    """Return all intents, with a field to search them."""
    ordered = sorted(labels, key=str.casefold)
    items = "".join(f'<li title="{escape(label)}">{escape(readable(label))}</li>' for label in ordered)
    return (
        f'<div class="p-knows"><p>It knows these {len(labels):,} intents and no others. A message that has none of '
        'them is out of scope.</p><label>Search the intents <input type="search" class="p-search" '
        'placeholder="for example: card" autocomplete="off" spellcheck="false"></label>'
        '<p class="p-found" role="status"></p>'
        f'<div class="p-labels" tabindex="0"><div><ul>{items}</ul></div></div></div>'
    )


def limits(engine: LanguageEngine) -> str:
    """Return what the models are not for, and what their makers say of their limits."""
    lines = list(NOT_FOR)
    for model in engine.models:
        own = model.predictor.bundle.config.card.get("limits")
        lines += [own] if isinstance(own, str) else own if isinstance(own, list) else []
    items = "".join(f"<li>{escape(str(line))}</li>" for line in lines)
    return (
        f'<div class="p-limits"><p>It is not for</p><ul>{items}</ul><p>A score is a calibrated probability: of many '
        "messages with 80%, about 80% are right, on messages like those it was checked with. On others it may be less."
        f"</p><p>Your messages are answered on this server and not kept. Documents that you drop are kept here for "
        f"{KEEP_S // 60} minutes after your last question, and never used for training.</p></div>"
    )
