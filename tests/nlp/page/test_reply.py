"""What is looked up for a message, where, and in which order."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from nlp.engine import AnswerEngine, IntentEngine, LanguageEngine
from nlp.knowledge import KnowledgeBase
from nlp.page.documents import VisitorDocuments
from nlp.page.reply import Lookup, Replier, Reply
from shared.bundle.read import Bundle
from shared.errors import InputError, TooLarge
from shared.runtime.cpu import OnnxRuntime
from shared.serving.page.uploads import Uploads
from shared.serving.settings import Settings

VISITOR = "c" * 32
SETTINGS = Settings(max_text_chars=200)


class Page:
    """What a visitor is replied who dropped documents, by an engine with some of its parts."""

    def __init__(self, intent: Bundle, qa: Bundle, folder: Path) -> None:
        self.bundles = intent, qa
        self.folder = folder
        self.documents = VisitorDocuments(folder / "documents", Uploads(folder / "uploads"))
        (folder / "documents").mkdir()

    def reply(self, text: object, *, parts: str = "intent qa knowledge", visitor: object = VISITOR) -> Reply:
        async def run() -> Reply:
            engine = self.engine(parts)
            try:
                return await Replier(engine, self.documents).reply(text, visitor)
            finally:
                await engine.close()

        return asyncio.run(run())

    def engine(self, parts: str) -> LanguageEngine:
        intent, qa = self.bundles
        engine = LanguageEngine(
            intent=IntentEngine(intent, OnnxRuntime(intent), SETTINGS) if "intent" in parts else None,
            qa=AnswerEngine(qa, OnnxRuntime(qa), SETTINGS) if "qa" in parts else None,
            knowledge=KnowledgeBase(self.folder / "own.sqlite") if "knowledge" in parts else None,
            settings=SETTINGS,
        )
        if engine.knowledge:
            engine.knowledge.put("percept.md", b"# Authors\n\nThe engine was written by ada.")
        return engine


@pytest.fixture
def page(intent_bundle: Bundle, qa_bundle: Bundle, tmp_path: Path) -> Page:
    return Page(intent_bundle, qa_bundle, tmp_path)


def looked_up(reply: Reply) -> Lookup:
    assert reply.lookup is not None
    return reply.lookup


def test_statement_in_scope_is_only_understood(page: Page):
    reply = page.reply("book a flight")
    assert reply.intent is not None
    assert reply.intent.intent == "book_flight"
    assert (reply.lookup, reply.wants_documents) == (None, False)


def test_question_is_answered_out_of_the_service_s_documents(page: Page):
    found = looked_up(page.reply("who wrote the engine?"))
    assert found.answer is not None
    assert (found.answer.text, found.answer.passage in found.own) == ("ada", False)


def test_visitor_s_documents_come_first(page: Page):
    page.documents.add(VISITOR, "mine.md", b"The engine was written by marie.")
    found = looked_up(page.reply("who wrote the engine?"))
    assert found.answer is not None
    assert (found.answer.text, found.answer.passage in found.own) == ("marie", True)
    assert (len(found.own), len(found.others)) == (1, 0)


def test_what_the_visitor_s_documents_do_not_say_the_service_s_may(page: Page):
    page.documents.add(VISITOR, "mine.md", b"The engine was written in the winter.")
    found = looked_up(page.reply("who wrote the engine?"))
    assert found.answer is not None
    assert (found.answer.text, found.answer.passage in found.own) == ("ada", False)
    assert (len(found.own), len(found.others)) == (1, 1)


def test_who_dropped_documents_asks_about_them_in_any_form(page: Page):
    page.documents.add(VISITOR, "mine.md", b"Who can book a flight: ask marie.")
    found = looked_up(page.reply("book a flight"))
    assert (len(found.own), len(found.others)) == (1, 0)


def test_other_visitors_documents_are_not_looked_into(page: Page):
    page.documents.add("d" * 32, "theirs.md", b"The engine was written by marie.")
    found = looked_up(page.reply("who wrote the engine?"))
    assert (len(found.own), len(found.others)) == (0, 1)


def test_question_without_an_answer_shows_what_was_read(page: Page):
    found = looked_up(page.reply("how is the engine?"))
    assert found.answer is None
    assert found.best is not None
    assert found.best.score < 0.5
    assert len(found.others) == 1


def test_question_with_nothing_to_look_it_up_in_wants_documents(page: Page):
    reply = page.reply("who wrote the engine?", parts="intent qa")
    assert (reply.lookup, reply.wants_documents) == (None, True)


def test_service_without_intents_looks_everything_up(page: Page):
    reply = page.reply("the engine", parts="qa knowledge")
    assert reply.intent is None
    assert looked_up(reply).others


def test_service_without_answers_understands(page: Page):
    reply = page.reply("who wrote the engine?", parts="intent")
    assert reply.intent is not None
    assert (reply.lookup, reply.wants_documents) == (None, False)


@pytest.mark.parametrize("text", ["", " \n ", None, 5, ["book"]])
def test_message_without_words_is_refused(page: Page, text: object):
    with pytest.raises(InputError):
        page.reply(text)


def test_long_message_is_refused(page: Page):
    with pytest.raises(TooLarge, match="the limit is 200"):
        page.reply("a" * 201)


def test_visitor_without_a_name_is_refused(page: Page):
    with pytest.raises(InputError, match="Load the page again"):
        page.reply("who wrote the engine?", visitor="../../etc")
