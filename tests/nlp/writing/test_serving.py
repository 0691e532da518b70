"""Answers as sentences in the service: where they are asked for, beside the quote, and never in its place."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from nlp.engine import LanguageEngine
from nlp.page.documents import VisitorDocuments
from nlp.page.render import ReplyView
from nlp.page.reply import Replier
from shared.errors import BundleError, Overloaded
from shared.serving.page.uploads import Uploads
from shared.serving.settings import Settings
from tests.language_bundles import make_writer_bundle
from tests.nlp.conftest import OpenClient

DOCUMENT = b"# The rock\n\nIn winter Ada lit the lamp at eight.\n"
QUESTION = "Who lit the lamp?"
SENTENCE = "Ada lit the lamp."
WRITES = (" @@", " lit", " the", " lamp", ".")


@pytest.fixture(scope="module")
def writer_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_writer_bundle(tmp_path_factory.mktemp("writers") / "lamp", writes=WRITES).path


@pytest.fixture(scope="module")
def client(open_client: OpenClient, writer_path: Path) -> Iterator[TestClient]:
    with open_client(writer=writer_path) as client:
        client.lifecycle().knowledge.put("rock.md", DOCUMENT)
        yield client


def post(client: TestClient, path: str, **body: Any) -> dict[str, Any]:
    response = client.post(path, json=body)
    assert response.status_code == 200, response.text
    return response.json()


def test_a_sentence_comes_beside_the_quote_where_it_is_asked_for(client: TestClient):
    found = post(client, "/v1/answer", question=QUESTION, style="sentence")
    assert (found["answer"]["text"], found["sentence"]) == ("Ada", SENTENCE)
    assert post(client, "/v1/answer", question=QUESTION)["sentence"] is None
    understood = post(client, "/v1/understand", text=QUESTION, style="sentence")
    assert (understood["answer"]["text"], understood["sentence"]) == ("Ada", SENTENCE)


def test_so_it_does_for_a_context_of_ones_own(client: TestClient):
    found = post(client, "/v1/answer", question=QUESTION, context="It was Ada who lit the lamp.", style="sentence")
    assert found["sentence"] == SENTENCE
    unanswered = post(client, "/v1/answer", question=QUESTION, context="The lamp is lit.", style="sentence")
    assert (unanswered["answer"], unanswered["sentence"]) == (None, None)


def test_what_cannot_be_trusted_is_quoted(client: TestClient):
    found = post(client, "/v1/answer", question="Who is in Turin?", context="Ada is in Turin.", style="sentence")
    assert (found["answer"]["text"], found["sentence"]) == ("Ada", None)


def test_a_documents_own_answer_stays_as_it_is(open_client: OpenClient, writer_path: Path):
    with open_client(writer=writer_path) as client:
        client.lifecycle().knowledge.put("faq.md", b"## Who lit the lamp?\n\nAda did, in winter.\n")
        found = post(client, "/v1/answer", question=QUESTION, style="sentence")
    assert (found["answer"]["text"], found["sentence"]) == ("Ada did, in winter.", None)


def test_a_chat_gets_the_quote_first_and_then_the_sentence(client: TestClient):
    body = {"model": "tiny-qa", "messages": [{"role": "user", "content": QUESTION}]}
    whole = post(client, "/openai/v1/chat/completions", **body)["choices"][0]["message"]["content"]
    assert whole.startswith(f"Ada [1]\n\n{SENTENCE}\n\n[1] ")
    stream = client.post("/openai/v1/chat/completions", json={**body, "stream": True}).text
    assert stream.index('"Ada [1]') < stream.index(SENTENCE) < stream.index("[DONE]")


def test_a_writer_that_is_busy_leaves_the_quote(client: TestClient, monkeypatch: pytest.MonkeyPatch):
    async def busy(*_: object) -> str:
        raise Overloaded("many are waiting.")

    monkeypatch.setattr(client.lifecycle(), "phrase", busy)
    body = {"model": "tiny-qa", "messages": [{"role": "user", "content": QUESTION}]}
    content = post(client, "/openai/v1/chat/completions", **body)["choices"][0]["message"]["content"]
    assert content.startswith("Ada [1]\n\n[1] ")


def test_without_a_writer_a_sentence_is_refused_and_a_quote_is_not(open_client: OpenClient):
    with open_client() as client:
        client.lifecycle().knowledge.put("rock.md", DOCUMENT)
        for path, body in (("/v1/answer", {"question": QUESTION}), ("/v1/understand", {"text": QUESTION})):
            refused = client.post(path, json={**body, "style": "sentence"})
            assert refused.status_code == 404
            assert "no writer" in refused.json()["error"]["message"]
            assert post(client, path, **body)["answer"]["text"] == "Ada"
        refused = client.post("/v1/answer", json={"question": QUESTION, "style": "poem"})
        assert refused.status_code == 422


def test_the_page_shows_the_sentence_above_the_marked_quote(
    language_settings: Callable[..., Settings], writer_path: Path, tmp_path: Path
):
    async def run() -> str:
        engine = LanguageEngine.load(language_settings(tmp_path, writer=writer_path))
        engine.knowledge.put("rock.md", DOCUMENT)
        (tmp_path / "documents").mkdir()
        documents = VisitorDocuments(tmp_path / "documents", Uploads(tmp_path / "uploads"))
        try:
            reply = await Replier(engine, documents).reply(QUESTION, "c" * 32)
            assert ReplyView(engine).summary(reply).startswith(f"Answer: {SENTENCE}")
            return ReplyView(engine).reply(reply)
        finally:
            await engine.close()

    shown = asyncio.run(run())
    assert f">{SENTENCE}</h2>" in shown
    assert "<mark>Ada</mark>" in shown


def test_a_bundle_of_another_task_is_no_writer(
    language_settings: Callable[..., Settings], qa_bundle: Any, tmp_path: Path
):
    with pytest.raises(BundleError, match="expected one for answer-writer"):
        LanguageEngine.load(language_settings(tmp_path, writer=qa_bundle.path))
