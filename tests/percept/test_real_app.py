"""The client against the real apps: every method, both kinds of it, in this process and over a socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest

import nlp.api
import vision.api
from nlp.engine import LanguageEngine
from percept import (
    ApiError,
    AsyncClient,
    BadInput,
    Client,
    Denied,
    Feedback,
    ImageTags,
    Intent,
    ItemError,
    NotFound,
    Retry,
    Source,
    Tag,
    traced,
)
from percept.answers import read
from shared.bundle.read import Bundle
from shared.serving.app import with_edge
from shared.serving.lifecycle.engine import Lifecycle
from shared.serving.settings import Settings
from tests.bundles import make_tagger_bundle
from tests.language_bundles import make_intent_bundle
from tests.percept.conftest import KEY
from tests.pictures import BLUE, GREEN, plain
from tests.server import Server
from vision.engine import TaggingEngine

GUIDE = "# Moteur\n\n## Histoire\n\nLe moteur a été décrit par Ada en 1815.\n"
SETTINGS = {"device": "cpu", "admin_key": KEY, "knowledge_documents": "none"}


@asynccontextmanager
async def asking(kind: str, settings: Settings, **options: Any) -> AsyncIterator[AsyncClient]:
    """A client of an app in this process, with the layers that a worker has around it."""
    make: Any = vision.api.create_app if kind == "vision" else nlp.api.create_app
    engine: Any = TaggingEngine if kind == "vision" else LanguageEngine
    lifecycle: Lifecycle[Any] = Lifecycle(lambda: engine.load(settings))
    api = make(lifecycle, settings)
    transport = httpx.ASGITransport(with_edge(api, settings, lifecycle.model))
    async with (
        api.router.lifespan_context(api),
        AsyncClient("http://service", transport=transport, retry=Retry(attempts=1), **options) as client,
    ):
        yield client


def test_photos_by_path_and_bytes_one_and_several(tagger_bundle: Bundle, tmp_path: Path):
    file = tmp_path / "green.png"
    file.write_bytes(plain(GREEN))

    async def run() -> None:
        async with asking("vision", Settings(tagger=tagger_bundle.path, **SETTINGS)) as client:
            assert await client.ready()
            for image in (file, str(file), plain(GREEN)):
                found = await client.tag(image)
                assert [tag.label for tag in found.tags] == ["dog"]
                assert (found.width, found.height, found.model.name) == (64, 48, "tiny-tagger")
            assert len((await client.tag(file, min_score=0)).tags) == 3
            assert len((await client.tag(file, min_score=0, top_k=2)).tags) == 2
            several = await client.tag_many([file, b"no photo", plain(BLUE)])
            assert [type(each) for each in several] == [ImageTags, ItemError, ImageTags]
            assert isinstance(several[1], ItemError)
            assert several[1].type == "invalid_image"
            assert isinstance(several[2], ImageTags)
            assert several[2].tags[0] == Tag("car", pytest.approx(0.982, abs=1e-3), ())
            with pytest.raises(BadInput) as caught:
                await client.tag(b"no photo")
            assert caught.value.type == "invalid_image"
            with pytest.raises(NotFound):
                await client.intent("play")

    asyncio.run(run())


def test_utterances_questions_and_documents(intent_bundle: Bundle, qa_bundle: Bundle, tmp_path: Path):
    settings = Settings(
        intent=intent_bundle.path, qa=qa_bundle.path, knowledge=tmp_path / "knowledge.sqlite", **SETTINGS
    )

    async def run() -> None:
        async with asking("language", settings, api_key=KEY) as client:
            assert (await client.intent("play", top_k=2)).intent == "play_music"
            out = await client.intent("xyzzy")
            assert out.intent is None
            assert out.out_of_scope
            several = await client.intents(["play", " ", "météo"])
            assert [type(each) for each in several] == [Intent, ItemError, Intent]
            told = await client.answer("Qui ?", "C'est Émile.")
            assert told.answer is not None
            assert (told.answer.text, told.answer.source, told.passages) == ("Émile", None, ())
            put = await client.put_document("docs/le moteur?.md", GUIDE.encode(), title="Moteur")
            assert (put.title, put.passages) == ("Moteur", 1)
            assert await client.documents() == [put]
            document = await client.document("docs/le moteur?.md")
            found = await client.understand("Qui a décrit le moteur ?")
            assert found.is_question
            assert found.answer is not None
            assert found.answer.source == Source("docs/le moteur?.md", "Moteur", ("Histoire",), "prose", "", None)
            assert document.text[found.answer.start : found.answer.end] == found.answer.text
            assert found.intent is not None
            assert (found.intent.model.name, found.answered_by and found.answered_by.name) == ("tiny-intent", "tiny-qa")
            await client.delete_document("docs/le moteur?.md")
            assert await client.documents() == []
            with pytest.raises(NotFound):
                await client.delete_document("docs/le moteur?.md")
        async with asking("language", settings) as client:
            with pytest.raises(Denied):
                await client.put_document("a.md", b"# A")

    asyncio.run(run())


def test_entities_come_with_intents_and_alone(tmp_path: Path):
    bundle = make_intent_bundle(tmp_path / "intent", has_entities=True)
    settings = Settings(intent=bundle.path, qa="none", extractors=["time", "money"], **SETTINGS)
    when = datetime(2026, 11, 24, 10, 15, tzinfo=ZoneInfo("Europe/Paris"))

    async def run() -> None:
        async with asking("language", settings) as client:
            text = "play 🎶 Ada tomorrow at 8 for 20 euros"
            found = await client.entities(text, now=when, extract=["time"])
            person, moment = found.entities
            assert (person.value, text[person.start : person.end], person.role) == ("Ada", "Ada", "singer")
            assert (moment.value, moment.score, moment.extractor) == ("2026-11-25T08:00:00+01:00", None, "built-in")
            assert found.model is not None
            intent = await client.intent(text, now=when, extract=["time"])
            assert intent.entities == found.entities
            assert intent.intents == ("play_music",)
            understood = await client.understand(text, now=when, extract=["time"])
            assert understood.intent is not None
            assert understood.intent.entities == found.entities
            several = await client.intents([text, ""], language="en")
            assert isinstance(several[0], Intent)
            assert several[0].entities[-1].value == {"amount": 20, "currency": "EUR"}
            assert isinstance(several[1], ItemError)

    asyncio.run(run())


def test_an_older_services_answer_has_no_entities():
    old = {"intent": "a", "confidence": 1, "out_of_scope": False, "out_of_scope_score": 0, "ranking": []}
    found = read(Intent, {**old, "model": {"name": "m", "version": "1"}})
    assert (found.intents, found.entities) == ((), ())


def test_feedback_is_kept_for_an_answer_by_its_request_id(intent_bundle: Bundle, tmp_path: Path):
    settings = Settings(
        intent=intent_bundle.path, qa="none", records=f"sqlite:///{tmp_path}/records.sqlite", **SETTINGS
    )

    async def run() -> None:
        async with asking("nlp", settings) as client:
            with traced(request_id="order-17"):
                await client.intent("book a flight")
            assert await client.feedback("order-17", label="weather", comment="no") == Feedback(
                "order-17", 0, "intent", replaced=False
            )
            assert (await client.feedback("order-17", right=False)).replaced
            with pytest.raises(NotFound):
                await client.feedback("order-18", right=True)
            with pytest.raises(BadInput, match=r"exactly one of"):
                await client.feedback("order-17")
            with pytest.raises(TypeError):
                await client.feedback("order-17", labels="cat")
        async with asking("nlp", settings.model_copy(update={"records": None})) as client:
            with pytest.raises(Denied, match=r"PERCEPT_RECORDS"):
                await client.feedback("order-17", right=True)

    asyncio.run(run())


def test_understand_without_a_model_for_intents(qa_bundle: Bundle, tmp_path: Path):
    settings = Settings(intent="none", qa=qa_bundle.path, knowledge=tmp_path / "knowledge.sqlite", **SETTINGS)

    async def run() -> None:
        async with asking("language", settings) as client:
            assert (await client.understand("Qui ?")).intent is None

    asyncio.run(run())


def test_bundles_are_changed_and_changed_back(tmp_path: Path):
    for name in ("one", "two"):
        make_tagger_bundle(tmp_path / name, version=f"2026.11.23-{name}")
    settings = Settings(tagger=tmp_path / "one", bundles=tmp_path, **SETTINGS)

    async def run() -> None:
        async with asking("vision", settings, api_key=KEY) as client:
            assert (await client.models()).models[0].version.endswith("one")
            assert (await client.serve_bundle("two")).models[0].previous == "one"
            assert (await client.tag(plain())).model.version.endswith("two")
            assert (await client.roll_back()).models[0].bundle == "one"
            with pytest.raises(ApiError):
                await client.serve_bundle("three")

    asyncio.run(run())


def test_a_url_and_a_single_text_are_refused_before_anything_is_sent():
    with Client("http://127.0.0.1:9") as client:
        with pytest.raises(ValueError, match="fetches none"):
            client.tag("https://example.org/photo.jpg")
        with pytest.raises(TypeError, match="texts must be a sequence"):
            client.intents("play")
        with pytest.raises(FileNotFoundError):
            client.tag("no/such/photo.jpg")


@pytest.mark.server
class TestServer:
    """Over a real socket."""

    def test_the_client_that_waits_has_every_method(self, server: Server):
        with Client(server.url, api_key=KEY) as client:
            assert client.ready()
            assert client.tag(plain(GREEN)).tags[0].label == "dog"
            assert len(client.tag_many([plain(), plain(BLUE)])) == 2
            assert client.intent("play").intent == "play_music"
            assert [type(each) for each in client.intents(["play", ""])] == [Intent, ItemError]
            assert client.put_document("a.md", GUIDE.encode()).id == "a.md"
            assert client.answer("Qui a décrit le moteur ?").passages[0].document == "a.md"
            assert client.understand("Qui a décrit le moteur ?").answer is not None
            assert client.document("a.md").text
            client.delete_document("a.md")
            assert client.documents() == []
            assert {model.name for model in client.models().models} == {"tiny-tagger", "tiny-intent", "tiny-qa"}
            for refused in (lambda: client.serve_bundle("x"), client.roll_back):
                with pytest.raises(ApiError):
                    refused()

    def test_request_id_and_trace_reach_the_services_log(self, server: Server):
        trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        with (
            Client(server.url) as client,
            traced(request_id="mine-1", traceparent=trace),
            pytest.raises(BadInput) as caught,
        ):
            client.intents(["play"] * 3)
        assert caught.value.request_id == "mine-1"
        assert (caught.value.status, caught.value.type) == (413, "too_large")
        server.wait_for("logged", lambda: "mine-1" in (log := server.log.read_text()) and trace[3:35] in log)

    def test_the_committed_description_is_the_services_own(self, server: Server):
        """Of a server with its settings as they are by default, but for what is limited above."""
        from tests.percept.test_openapi import committed

        assert server.get("/openapi.json").json["paths"].keys() == committed()["paths"].keys()
