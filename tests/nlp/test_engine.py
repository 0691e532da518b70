"""What the language engine answers, with all its parts and with some."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest

from nlp.engine import AnswerEngine, LanguageEngine
from nlp.knowledge import SentenceEncoder
from nlp.text import ATTENTION_MASK, INPUT_IDS
from shared.bundle.read import Bundle
from shared.errors import BundleError, ConfigError, InputError, NotFound, TooLarge
from shared.serving.settings import Settings
from tests.language_bundles import make_intent_bundle
from tests.nlp.conftest import DOCUMENT

MakeSettings = Callable[..., Settings]
Use = Callable[[LanguageEngine], Awaitable[None]]


def test_an_utterance_gets_its_intent_and_an_unknown_one_none(with_engine):
    async def use(engine: LanguageEngine) -> None:
        french = await engine.intent.classify("Réserve-moi un vol pour Lyon")
        assert (french.intent, french.out_of_scope) == ("book_flight", False)
        assert [each.name for each in french.ranking] == ["book_flight", "play_music", "weather"]
        unknown = await engine.intent.classify("zzz", top_k=1)
        assert (unknown.intent, unknown.out_of_scope, len(unknown.ranking)) == (None, True, 1)

    with_engine(use)


def test_an_answer_is_a_place_in_the_context(with_engine):
    context = "🎉 C'est Émile, né en 1815."

    async def use(engine: LanguageEngine) -> None:
        (best,) = await engine.qa.answer("Qui est-ce ?", context)
        assert engine.qa.is_answer(best)
        assert (best.text, context[best.start : best.end]) == ("Émile", "Émile")
        (none,) = await engine.qa.answer("Qui est-ce ?", "Il pleut.")
        assert not engine.qa.is_answer(none)
        assert len(await engine.qa.answer("Qui ?", "ada, émile et hugo", top_k=3)) == 3

    with_engine(use)


def test_a_question_alone_is_answered_out_of_the_knowledge_base_with_its_source(with_engine):
    async def use(engine: LanguageEngine) -> None:
        asked = await engine.ask("Combien coûte le moteur ?")
        assert asked.answer is not None
        assert asked.answer.text == "42"
        assert engine.knowledge.text("docs/moteur.md")[asked.answer.start : asked.answer.end] == "42"
        passage = asked.answer.passage
        assert (passage.document, passage.title, passage.headings) == ("docs/moteur.md", "Le moteur", ("Prix",))
        assert passage.text[asked.answer.start - passage.start : asked.answer.end - passage.start] == "42"
        assert passage in asked.passages

    with_engine(use)


def test_nothing_is_answered_out_of_headings_which_are_read_all_the_same(with_engine):
    async def use(engine: LanguageEngine) -> None:
        engine.knowledge.put("page.md", b"# Hugo 64\n\nLe poisson nage.\n")
        asked = await engine.ask("Qui nage, le poisson ?")
        assert asked.answer is None
        assert asked.best is not None
        assert asked.best.text in "Le poisson nage."
        seen: list[str] = []
        windows = engine.qa.predictor.windows

        def watched(question: str, context: str, **options):
            seen.append(context)
            return windows(question, context, **options)

        engine.qa.predictor.windows = watched
        await engine.ask("Qui nage, le poisson ?")
        assert seen[0] == "Hugo 64\nLe poisson nage."

    with_engine(use)


def test_of_several_passages_the_surest_answer_is_given(with_engine):
    async def use(engine: LanguageEngine) -> None:
        engine.knowledge.put("a.md", b"Le train train train va vite.")
        engine.knowledge.put("b.md", b"Un train, par Hugo.")
        asked = await engine.ask("Qui a fait le train ?")
        assert asked.passages[0].document == "a.md"
        assert asked.answer is not None
        assert (asked.answer.text, asked.answer.passage.document) == ("Hugo", "b.md")

    with_engine(use)


def test_a_question_that_nothing_is_found_for_has_no_answer(with_engine):
    async def use(engine: LanguageEngine) -> None:
        asked = await engine.ask("xyzzy?")
        assert (asked.answer, asked.best, asked.passages) == (None, None, [])

    with_engine(use)


@pytest.mark.parametrize(
    ("text", "intent", "is_looked_up", "answer"),
    [
        ("play a song", "play_music", False, None),
        ("Combien coûte le moteur ?", None, True, "42"),
        ("le moteur", None, True, None),
        ("play the moteur?", "play_music", True, None),
    ],
)
def test_understanding_looks_up_what_is_asked_and_what_is_out_of_scope(
    with_engine, text: str, intent: str | None, is_looked_up: bool, answer: str | None
):
    async def use(engine: LanguageEngine) -> None:
        found = await engine.understand(text)
        assert found.intent.intent == intent
        assert (found.asked is not None) == is_looked_up
        assert (found.asked.answer.text if found.asked and found.asked.answer else None) == answer

    with_engine(use)


def test_a_service_with_one_model_says_what_it_lacks(with_engine):
    async def intent_alone(engine: LanguageEngine) -> None:
        assert [model.name for model in engine.models] == ["tiny-intent"]
        assert (await engine.understand("qui est-ce ?")).asked is None
        with pytest.raises(NotFound, match="no question-answering model"):
            engine.needed_qa()
        with pytest.raises(NotFound, match="no question-answering model"):
            await engine.ask("qui")

    async def qa_alone(engine: LanguageEngine) -> None:
        assert (await engine.understand("Qui a décrit le moteur")).asked.answer.text == "Ada"
        with pytest.raises(NotFound, match="no intent model"):
            engine.needed_intent()

    with_engine(intent_alone, qa="none")
    with_engine(qa_alone, intent="none")


def test_without_a_bundle_or_with_two_of_one_name_nothing_is_loaded(
    language_settings: MakeSettings, qa_bundle: Bundle, tmp_path: Path
):
    with pytest.raises(ConfigError, match="neither an intent bundle nor a qa bundle"):
        LanguageEngine.load(language_settings(tmp_path, intent="none", qa="none"))
    same = make_intent_bundle(tmp_path / "same", name=qa_bundle.name)
    with pytest.raises(ConfigError, match="both bundles are called 'tiny-qa'"):
        LanguageEngine.load(language_settings(tmp_path, intent=same.path))


@pytest.mark.parametrize("task", ["intent", "qa"])
def test_tensors_give_what_the_network_gives(with_engine, task: str):
    async def use(engine: LanguageEngine) -> None:
        model = getattr(engine, task)
        outputs = await model.infer(model.bundle.golden.inputs)
        for name, expected in model.bundle.golden.outputs.items():
            np.testing.assert_allclose(outputs[name], expected, atol=1e-4)

    with_engine(use)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t | {INPUT_IDS: t[INPUT_IDS].astype(np.int32)}, "int64"),
        (lambda t: t | {INPUT_IDS: t[INPUT_IDS] - 100}, "values of input_ids must be 0 to"),
        (lambda t: t | {INPUT_IDS: t[INPUT_IDS] + 10**6}, "values of input_ids must be 0 to"),
        (lambda t: t | {ATTENTION_MASK: t[ATTENTION_MASK] + 1}, "values of attention_mask must be 0 to 1"),
        (lambda t: {name: np.tile(rows, (1, 100)) for name, rows in t.items()}, "this model reads 32"),
        (lambda t: {name: np.tile(rows, (100, 1)) for name, rows in t.items()}, "the limit is 64"),
        (lambda t: {INPUT_IDS: t[INPUT_IDS]}, "attention_mask"),
    ],
    ids=["dtype", "below the vocabulary", "beyond the vocabulary", "mask", "too long", "too many", "missing"],
)
def test_tensors_that_would_break_the_network_are_refused(with_engine, change, message: str):
    async def use(engine: LanguageEngine) -> None:
        with pytest.raises(InputError, match=message):
            await engine.intent.infer(change(dict(engine.intent.bundle.golden.inputs)))

    with_engine(use)


def test_batch_sizes_follow_the_settings_and_else_the_device(with_engine):
    async def use(engine: LanguageEngine) -> None:
        assert isinstance(engine.qa, AnswerEngine)
        assert engine.qa.windows_at_once == 4
        assert engine.intent._batcher._max_batch_size == 2

    with_engine(use, max_batch_size=2)


def test_what_is_found_is_compared_by_the_encoder_that_the_settings_name(
    language_settings: MakeSettings, embedding_bundle: Bundle, tmp_path: Path
):
    engine = LanguageEngine.load(language_settings(tmp_path, encoder=embedding_bundle.path))
    assert engine.knowledge is not None
    assert isinstance(engine.knowledge.encoder, SentenceEncoder)
    engine.knowledge.put("moteur.md", DOCUMENT)
    asked = asyncio.run(engine.ask("qui a décrit le moteur"))
    assert asked.answer is not None
    assert asked.answer.text == "Ada"
    asyncio.run(engine.close())


def test_an_encoder_of_another_task_is_refused(language_settings: MakeSettings, qa_bundle: Bundle, tmp_path: Path):
    with pytest.raises(BundleError, match="expected one for embedding"):
        LanguageEngine.load(language_settings(tmp_path, encoder=qa_bundle.path))


def test_a_context_that_takes_too_many_tokens_to_read_is_413(with_engine):
    async def use(engine: LanguageEngine) -> None:
        (best,) = await engine.qa.answer("Qui est-ce ?", "Ada. " * 20)
        assert best.text == "Ada"
        with pytest.raises(
            TooLarge, match=r"the context takes \d+ tokens to read; the limit is 100\. Send a shorter one"
        ):
            await engine.qa.answer("Qui est-ce ?", "a.,;" * 50)

    with_engine(use, max_context_chars=200)


def test_passages_beyond_what_one_request_may_take_are_not_read(with_engine):
    async def use(engine: LanguageEngine) -> None:
        long = "a.,;" * 50
        found = await engine.qa.read("Qui est-ce ?", ["C'est Ada.", long, long])
        assert [len(each) for each in found] == [1, 0, 0]

    with_engine(use, max_context_chars=200)
