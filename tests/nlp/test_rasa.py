"""POST /model/parse takes what Rasa sends and gives what Rasa's own server gives."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from tests.language_bundles import make_intent_bundle
from tests.nlp.conftest import OpenClient


def parse(client: TestClient, path: str = "/model/parse", **body: object) -> dict:
    response = client.post(path, json=body)
    assert response.status_code == 200, response.text
    return response.json()


def test_a_message_has_rasas_fields(client: TestClient):
    body = parse(client, text="Joue-moi une chanson, s'il te plaît 🎶", message_id="b2831e73")
    assert set(body) == {"text", "intent", "entities", "intent_ranking", "text_tokens", "message_id"}
    assert (body["text"], body["message_id"]) == ("Joue-moi une chanson, s'il te plaît 🎶", "b2831e73")
    assert set(body["intent"]) == {"name", "confidence"}
    assert body["intent"] == body["intent_ranking"][0]
    assert body["intent"]["name"] == "play_music"
    assert body["entities"] == []
    confidences = [each["confidence"] for each in body["intent_ranking"]]
    assert confidences == sorted(confidences, reverse=True)


def test_out_of_scope_is_rasas_fallback_first_in_the_ranking_and_the_others_behind_it(client: TestClient):
    body = parse(client, text="xyzzy")
    assert body["intent"]["name"] == "nlu_fallback"
    assert body["intent"]["confidence"] > 0.5
    names = [each["name"] for each in body["intent_ranking"]]
    assert names == ["nlu_fallback", "book_flight", "play_music", "weather"]


def test_what_rasas_own_client_sends_is_taken(client: TestClient):
    """rasa.core.http_interpreter posts its token with the text, null where there is none."""
    body = parse(client, text="météo", message_id="1", token=None)
    assert body["intent"]["name"] == "weather"
    assert parse(client, "/model/parse?emulation_mode=LUIS&token=x", text="météo")["intent"]["name"] == "weather"


def test_without_a_message_id_none_comes_back(client: TestClient):
    assert "message_id" not in parse(client, text="play")


def test_the_ranking_has_at_most_ten_beside_the_fallback(open_client: OpenClient):
    asked: list[int | None] = []

    def watch(engine) -> None:
        classify = engine.intent.classify

        async def watched(text: str, *, top_k: int | None = None):
            asked.append(top_k)
            return await classify(text, top_k=top_k)

        engine.intent.classify = watched

    with open_client(watch) as client:
        assert len(parse(client, text="xyzzy")["intent_ranking"]) == 4
    assert asked == [10]


def test_a_retrieval_intent_has_its_base_name_and_the_response_selector_the_full_one(
    open_client: OpenClient, tmp_path: Path
):
    bundle = make_intent_bundle(tmp_path / "faq", prefix="faq/")
    with open_client(intent=bundle.path) as client:
        body = parse(client, text="play music")
    assert body["intent"]["name"] == "faq"
    selected = body["response_selector"]["default"]["response"]
    assert selected["intent_response_key"] == "faq/play_music"


def test_a_button_s_payload_is_its_intent_with_the_entities(client: TestClient):
    text = '/book_flight{"to": "Rome", "seats": [1, 2]}'
    body = parse(client, text=text)
    assert body["intent"] == {"name": "book_flight", "confidence": 1.0} == body["intent_ranking"][0]
    found = [(each["entity"], each["value"]) for each in body["entities"]]
    assert found == [("to", "Rome"), ("seats", 1), ("seats", 2)]
    assert {text[each["start"] : each["end"]] for each in body["entities"]} == {text[len("/book_flight") :]}


@pytest.mark.parametrize(
    ("text", "intent"),
    [
        ("/greet", "greet"),
        (" /restart ", "restart"),
        ("/faq/hours", "faq/hours"),
        ("/inform@0.9{}", "inform"),
        ("/greet{broken", None),
        ("/greet{]}", "greet"),
        ("/ greet", None),
        ("//", None),
    ],
)
def test_payloads_are_told_from_texts(client: TestClient, text: str, intent: str | None):
    body = parse(client, text=text)
    assert body["entities"] == []
    assert body["intent"]["name"] == (intent or "nlu_fallback")


def test_retrieval_intents_are_ranked_by_their_base_names(open_client: OpenClient, tmp_path: Path):
    bundle = make_intent_bundle(tmp_path / "faq", prefix="faq/")
    with open_client(intent=bundle.path) as client:
        body = parse(client, text="play music")
    assert [(each["name"], round(each["confidence"], 6)) for each in body["intent_ranking"]] == [("faq", 1.0)]
    ranking = body["response_selector"]["default"]["ranking"]
    assert len(ranking) == 3
    assert sum(each["confidence"] for each in ranking) == pytest.approx(1)


def test_a_text_longer_than_the_model_reads_says_so(client: TestClient):
    assert "truncated" not in parse(client, text="play a song")
    assert parse(client, text="play " + "a " * 245)["truncated"] is True


def test_rasas_clients_find_a_version_and_a_model(client: TestClient):
    assert client.get("/version").json() == {"version": "3.6.0", "minimum_compatible_version": "3.6.0"}
    status = client.get("/status").json()
    assert (status["model_file"], status["num_active_training_jobs"]) == ("tiny-intent", 0)
    assert client.get("/").status_code == 307  # to the page
