"""The language engine under load and in trouble: batches, limits, deadlines and shutting down."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from nlp.engine import LONG_TEXT, LanguageEngine, TextModel
from nlp.extracting import Asking
from nlp.text import INPUT_IDS
from shared.errors import DeadlineExceeded, InputError, NotReady, Overloaded
from shared.serving.settings import Settings

MakeSettings = Callable[..., Settings]
Use = Callable[[LanguageEngine], Awaitable[None]]


class Gate:
    """Stands in for a model's network: holds every call until it is opened, and counts what it is given."""

    def __init__(self, model: TextModel[Any]) -> None:
        self.opened = threading.Event()
        self.batches: list[tuple[int, int]] = []
        self._run = model.runtime.run
        model.runtime.run = self.run

    def run(self, inputs):
        assert self.opened.wait(30)
        self.batches.append(inputs[INPUT_IDS].shape)
        return self._run(inputs)


def test_many_utterances_at_once_are_batched_and_each_gets_its_own_answer(with_engine):
    async def use(engine: LanguageEngine) -> None:
        gate = Gate(engine.intent)
        texts = ["play " * (1 + i % 9) if i % 3 else "météo" for i in range(60)]
        jobs = [asyncio.ensure_future(engine.intent.classify(text)) for text in texts]
        await asyncio.sleep(0.05)
        gate.opened.set()
        results = await asyncio.gather(*jobs)
        assert [r.intent for r in results] == ["play_music" if i % 3 else "weather" for i in range(60)]
        assert len(gate.batches) < 10

    with_engine(use)


def test_a_bad_utterance_fails_alone(with_engine):
    async def use(engine: LanguageEngine) -> None:
        first, second, third = await engine.intent.classify_many(["play", "\ud83d", "météo"])
        assert (first.intent, third.intent) == ("play_music", "weather")
        assert isinstance(second, InputError)

    with_engine(use)


def test_a_short_question_gets_between_the_windows_of_a_long_context(with_engine):
    async def use(engine: LanguageEngine) -> None:
        gate = Gate(engine.qa)
        long = asyncio.ensure_future(engine.qa.answer("qui", "rien " * 2000))
        await asyncio.sleep(0.2)  # its first windows are with the network, which is held
        short = asyncio.ensure_future(engine.qa.answer("qui", "ada"))
        await asyncio.sleep(0.05)
        assert engine.qa._batcher.queued <= engine.qa.windows_at_once + 1
        gate.opened.set()
        (best,) = await short
        assert best.text == "ada"
        assert not long.done()
        (none,) = await long
        assert not engine.qa.is_answer(none)
        assert sum(rows for rows, _ in gate.batches) > 100

    with_engine(use)


def test_long_texts_are_read_off_the_event_loop(with_engine):
    threads: list[str] = []

    async def use(engine: LanguageEngine) -> None:
        windows = engine.qa.predictor.windows

        def watched(question: str, context: str, **options):
            threads.append(threading.current_thread().name)
            return windows(question, context, **options)

        engine.qa.predictor.windows = watched
        await engine.qa.answer("qui", "ada")
        await engine.qa.answer("qui", "ada " * LONG_TEXT)
        assert threads[0] == threading.current_thread().name
        assert threads[1].startswith("text")

    with_engine(use)


def test_more_questions_than_the_limit_are_overloaded_at_once_and_room_comes_back(with_engine):
    async def use(engine: LanguageEngine) -> None:
        gate = Gate(engine.qa)
        waiting = [asyncio.ensure_future(engine.qa.answer("qui", "ada")) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded, match="3 questions are in hand; the limit is 3"):
            await engine.qa.answer("qui", "ada")
        with pytest.raises(Overloaded):
            await engine.ask("qui")
        gate.opened.set()
        assert all(found[0].text == "ada" for found in await asyncio.gather(*waiting))
        assert (await engine.qa.answer("qui", "ada"))[0].text == "ada"

    with_engine(use, max_queue=3)


def test_utterances_have_a_limit_of_their_own_and_one_batch_always_fits(with_engine):
    async def use(engine: LanguageEngine) -> None:
        gate = Gate(engine.intent)
        batch = asyncio.ensure_future(engine.intent.classify_many(["play"] * 6))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded, match="6 utterances are in hand; the limit is 4"):
            await engine.intent.classify("play")
        gate.opened.set()
        assert len(await batch) == 6

    with_engine(use, max_queued_texts=4)


def test_an_answer_that_takes_too_long_is_a_deadline_exceeded_and_leaves_no_trace(with_engine):
    async def use(engine: LanguageEngine) -> None:
        gates = [Gate(engine.qa), Gate(engine.intent)]
        jobs = (engine.qa.answer("qui", "ada " * 1000), engine.intent.classify("play"), engine.understand("le moteur"))
        for job in jobs:
            with pytest.raises(DeadlineExceeded, match=r"within 0\.05 s"):
                await job
        for gate, model in zip(gates, (engine.qa, engine.intent), strict=True):
            gate.opened.set()
            assert model.admission.in_hand == 0
            model.admission.deadline_s = 30.0
        assert (await engine.qa.answer("qui", "ada"))[0].text == "ada"
        assert engine.qa._batcher.queued == 0

    with_engine(use, deadline_s=0.05)


def test_closing_answers_what_is_in_hand_and_refuses_what_comes(with_engine):
    async def use(engine: LanguageEngine) -> None:
        gate = Gate(engine.qa)
        in_hand = asyncio.ensure_future(engine.qa.answer("qui", "ada"))
        await asyncio.sleep(0.05)
        closing = asyncio.ensure_future(engine.qa.close())
        await asyncio.sleep(0)
        assert not engine.qa.is_ready
        with pytest.raises(NotReady):
            await engine.qa.answer("qui", "ada")
        gate.opened.set()
        assert (await in_hand)[0].text == "ada"
        await closing

    with_engine(use)


def test_of_a_caller_who_gave_up_rules_read_no_further_text(with_engine):
    async def use(engine: LanguageEngine) -> None:
        begun, opened, read = threading.Event(), threading.Event(), []
        read_one = engine.extractors.read

        def held(text: str, asking: Asking):
            begun.set()
            assert opened.wait(30)
            read.append(text)
            return read_one(text, asking)

        engine.extractors.read = held
        texts = [f"{place} " * 200 for place in range(5)]
        job = asyncio.ensure_future(engine.extract(texts, Asking()))
        await asyncio.to_thread(begun.wait, 30)
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job
        opened.set()
        await engine.extract(["tomorrow " * 200], Asking())  # on the same thread, behind what is left
        assert [text[0] for text in read] == ["0", "t"]

    with_engine(use, extractors=["date"])
