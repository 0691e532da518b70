"""OpenAI's own client asks the knowledge base, streamed and not; what cannot be done here is refused in words."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import openai
import pytest
from starlette.testclient import TestClient

from nlp.openai import SILENT
from shared.bundle.read import Bundle
from tests.nlp.conftest import DOCUMENT, OpenClient

CHAT = "/openai/v1/chat/completions"


@pytest.fixture(scope="module")
def client(open_client: OpenClient, embedding_bundle: Bundle) -> Iterator[TestClient]:
    with open_client(encoder=embedding_bundle.path, max_texts=4, max_text_chars=300, max_context_chars=600) as client:
        client.lifecycle().knowledge.put("docs/moteur.md", DOCUMENT)
        client.lifecycle().knowledge.put("faq.md", b"## Who lit the lamp?\n\nAda lit it.\n")
        yield client


@pytest.fixture(scope="module")
def chatbot(client: TestClient) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{client.base_url}/openai/v1", api_key="none", http_client=client, max_retries=0)


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}]


def post(client: TestClient, **body: Any) -> Any:
    return client.post(CHAT, json={"model": "tiny-qa", "messages": user("Who lit the lamp?"), **body})


def test_a_chat_is_answered_with_footnotes_and_citations(chatbot: openai.OpenAI, client: TestClient):
    found = chatbot.chat.completions.create(model="tiny-qa", messages=user("Who lit the lamp?"), temperature=0.2)
    [choice] = found.choices
    assert choice.finish_reason == "stop"
    assert choice.message.content.startswith("Ada lit it. [1]\n\n[1] ")
    citation = choice.message.model_extra["citations"][0]
    text = client.get(f"/v1/knowledge/{citation['document']}").json()["text"]
    assert text[citation["start"] : citation["end"]] == citation["text"] == "Ada lit it."
    assert citation["headings"][-1] == "Who lit the lamp?"
    assert found.usage.total_tokens == found.usage.prompt_tokens + found.usage.completion_tokens > 0


def test_a_stream_says_the_same(chatbot: openai.OpenAI):
    whole = chatbot.chat.completions.create(model="tiny-qa", messages=user("Who lit the lamp?"))
    chunks = list(
        chatbot.chat.completions.create(
            model="tiny-qa",
            messages=user("Who lit the lamp?"),
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].usage == whole.usage
    assert len({chunk.id for chunk in chunks}) == 1


def test_a_stream_is_server_sent_events_to_the_end(client: TestClient):
    answer = post(client, stream=True)
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = answer.text.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    assert all(json.loads(event.removeprefix("data: "))["object"] == "chat.completion.chunk" for event in events[:-2])


def test_what_the_documents_do_not_say_is_said_to_be_missing(open_client: OpenClient):
    with open_client() as client:
        [choice] = post(client).json()["choices"]
    assert choice["message"]["content"] == SILENT
    assert choice["message"]["citations"] == []


def test_a_follow_up_is_completed_by_the_question_before(chatbot: openai.OpenAI, client: TestClient, monkeypatch: Any):
    asked: list[tuple[str, str | None]] = []
    engine = client.lifecycle()
    ask = type(engine).ask

    async def noted(self: Any, question: str, *, previous: str | None = None, **others: Any) -> Any:
        asked.append((question, previous))
        return await ask(self, question, previous=previous, **others)

    monkeypatch.setattr(type(engine), "ask", noted)
    messages = [
        *user("Who lit the lamp?"),
        {"role": "assistant", "content": "Ada"},
        {"role": "user", "content": [{"type": "text", "text": "and when?"}]},
    ]
    chatbot.chat.completions.create(model="tiny-qa", messages=messages)
    assert asked == [("and when?", "Who lit the lamp?")]


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"model": "gpt-4o"}, 404, "there is no model 'gpt-4o' here; there is tiny-qa"),
        ({"messages": []}, 422, "messages"),
        ({"messages": [{"role": "assistant", "content": "a"}]}, 400, "expected one of the user"),
        ({"messages": [{"role": "user", "content": " "}]}, 400, "the last message"),
        ({"messages": [{"role": "user", "content": None}]}, 400, "the last message"),
        ({"messages": [{"role": "user", "content": "a" * 301}]}, 413, "301 characters"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, 400, "text"),
        ({"n": 2}, 400, "n is 2"),
        ({"tools": [{"type": "function"}]}, 400, "tools cannot be called"),
        ({"response_format": {"type": "json_object"}}, 400, "answers are text"),
        ({"stream": "yes"}, 422, "stream"),
    ],
)
def test_what_cannot_be_done_is_refused(client: TestClient, body: dict[str, Any], status: int, words: str):
    answer = post(client, **body)
    assert answer.status_code == status, answer.text
    assert words in answer.json()["error"]["message"]


def test_openais_client_raises_its_own_errors_with_our_words(chatbot: openai.OpenAI):
    with pytest.raises(openai.NotFoundError, match="there is no model"):
        chatbot.chat.completions.create(model="gpt-4o", messages=user("Who?"))
    with pytest.raises(openai.BadRequestError, match="n is 2"):
        chatbot.chat.completions.create(model="tiny-qa", messages=user("Who?"), n=2)


def test_models_are_listed_and_found(chatbot: openai.OpenAI, embedding_bundle: Bundle):
    names = [model.id for model in chatbot.models.list()]
    assert names == ["tiny-qa", embedding_bundle.name]
    assert chatbot.models.retrieve(names[1]).id == names[1]
    with pytest.raises(openai.NotFoundError):
        chatbot.models.retrieve("gpt-4o")


def test_embeddings_are_those_of_the_encoder_however_they_are_sent(
    chatbot: openai.OpenAI, client: TestClient, embedding_bundle: Bundle
):
    name = embedding_bundle.name
    texts = ["play a song", "who"]
    own = client.post("/v1/embed", json={"texts": texts}).json()
    assert own["model"] == name
    assert np.linalg.norm(own["embeddings"], axis=1) == pytest.approx([1, 1], abs=1e-3)
    found = chatbot.embeddings.create(model=name, input=texts)  # asks for base64
    assert [each.index for each in found.data] == [0, 1]
    assert np.array([each.embedding for each in found.data]) == pytest.approx(np.array(own["embeddings"]), abs=1e-6)
    plain = client.post(
        "/openai/v1/embeddings", json={"model": name, "input": "who", "encoding_format": "float"}
    ).json()
    packed = client.post("/openai/v1/embeddings", json={"model": name, "input": "who", "encoding_format": "base64"})
    row = np.frombuffer(base64.b64decode(packed.json()["data"][0]["embedding"]), dtype="<f4")
    assert row == pytest.approx(plain["data"][0]["embedding"], abs=1e-6)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"input": []}, 400),
        ({"input": [""]}, 400),
        ({"input": ["a"] * 5}, 413),
        ({"input": ["a" * 301]}, 413),
        ({"input": ["a" * 290] * 3}, 413),
        ({"input": [[1, 2]]}, 422),
        ({"input": "a", "model": "text-embedding-3-small"}, 404),
        ({"input": "a", "dimensions": 2}, 400),
        ({"input": "a", "encoding_format": "int8"}, 422),
    ],
)
def test_what_cannot_be_embedded_is_refused(
    client: TestClient, embedding_bundle: Bundle, body: dict[str, Any], status: int
):
    answer = client.post("/openai/v1/embeddings", json={"model": embedding_bundle.name, **body})
    assert answer.status_code == status, answer.text


def test_without_an_encoder_there_is_nothing_to_embed_with(open_client: OpenClient):
    with open_client() as client:
        for path, body in (("/v1/embed", {"texts": ["a"]}), ("/openai/v1/embeddings", {"model": "a", "input": "a"})):
            answer = client.post(path, json=body)
            assert (answer.status_code, "no sentence encoder" in answer.text) == (404, True)
        assert [each["id"] for each in client.get("/openai/v1/models").json()["data"]] == ["tiny-qa"]
