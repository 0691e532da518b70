"""Entities over HTTP: exact places, Rasa's and Hugging Face's shapes, built-in extractors, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from shared.bundle.read import Bundle
from tests.language_bundles import make_intent_bundle
from tests.nlp.conftest import OpenClient

NOW = {"now": "2026-11-24T10:15:00+01:00", "time_zone": "Europe/Paris"}
ALL = ["number", "date", "time", "duration", "money", "email", "phone", "url"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_intent_bundle(tmp_path_factory.mktemp("entities") / "bundle", has_entities=True)


@pytest.fixture(scope="module")
def found_by_network(open_client: OpenClient, bundle: Bundle) -> Iterator[TestClient]:
    with open_client(intent=bundle.path, max_texts=8, max_text_chars=500) as client:
        yield client


@pytest.fixture(scope="module")
def found_by_both(open_client: OpenClient, bundle: Bundle) -> Iterator[TestClient]:
    with open_client(intent=bundle.path, extractors=ALL, phone_region="FR", max_texts=8, max_text_chars=500) as client:
        yield client


@pytest.fixture(scope="module")
def found_by_rules(open_client: OpenClient) -> Iterator[TestClient]:
    with open_client(extractors=["date", "time", "money"], time_zone="Europe/Paris") as client:
        yield client


def post(client: TestClient, path: str, **body: object) -> dict:
    response = client.post(path, json=body)
    assert response.status_code == 200, response.text
    return response.json()


def refused(client: TestClient, path: str, **body: object) -> tuple[int, str]:
    response = client.post(path, json=body)
    return response.status_code, response.json()["error"]["message"]


TEXTS = (
    "play Ada",
    "🎶👩‍👧 play a song of Émile Hugo 🇫🇷",
    "play e\u0301 Marie\u00a0Curie, Ada Lovelace!",
    "\u200fplay 東京 ada",
)


@pytest.mark.parametrize("text", TEXTS)
def test_offsets_are_code_points_of_the_text_as_it_was_sent(found_by_network: TestClient, text: str):
    [result] = post(found_by_network, "/v1/intent", text=text)["results"]
    assert result["entities"]
    for each in result["entities"]:
        assert text[each["start"] : each["end"]] == each["text"]
        assert (each["entity"], each["role"], each["extractor"]) == ("person", "singer", "percept")
        assert 0.5 < each["score"] <= 1
    assert result["entities"] == post(found_by_network, "/v1/entities", text=text)["results"][0]["entities"]
    assert result["entities"] == post(found_by_network, "/v1/understand", text=text)["intent"]["entities"]


def test_words_of_one_entity_are_together_and_synonyms_have_their_value(found_by_network: TestClient):
    [result] = post(found_by_network, "/v1/entities", text="Marie Curie, ADA  Lovelace and 42")["results"]
    found = [(each["text"], each["value"], each["group"]) for each in result["entities"]]
    assert found == [
        ("Marie Curie", "Marie Curie", None),
        ("ADA  Lovelace", "Countess of Lovelace", None),
        ("42", "42", "1"),
    ]


def test_an_utterance_out_of_scope_keeps_its_entities(found_by_network: TestClient):
    [result] = post(found_by_network, "/v1/intent", text="xyzzy Ada")["results"]
    assert (result["intent"], result["intents"]) == (None, [])
    assert [each["text"] for each in result["entities"]] == ["Ada"]


def test_a_bad_text_fails_alone(found_by_both: TestClient):
    texts = ["play Ada", "", 7, "x" * 501, "tomorrow"]
    for path in ("/v1/entities", "/v1/intent"):
        results = post(found_by_both, path, texts=texts, **NOW)["results"]
        assert ["error" in each for each in results] == [False, True, True, True, False], path
        assert [each["text"] for each in results[0]["entities"]] == ["Ada"]
        assert [each["value"] for each in results[4]["entities"]] == ["2026-11-25"]


def test_a_text_longer_than_the_model_reads_at_once_has_entities_to_its_end(found_by_network: TestClient):
    text = "play " * 60 + "Ada"
    [result] = post(found_by_network, "/v1/entities", text=text)["results"]
    assert [(each["start"], each["end"]) for each in result["entities"]] == [(300, 303)]
    assert result["truncated"] is False


def test_intents_in_one_utterance_are_told_one_by_one(open_client: OpenClient, tmp_path: Path):
    several = make_intent_bundle(tmp_path / "several", labels=["greet+order", "c++", "weather"], has_entities=True)
    with open_client(intent=several.path) as client:
        [result] = post(client, "/v1/intent", text="book a flight")["results"]
        assert (result["intent"], result["intents"]) == ("greet+order", ["greet", "order"])
        [result] = post(client, "/v1/intent", text="play a song")["results"]
        assert result["intents"] == ["c++"]
        assert post(client, "/model/parse", text="book a flight")["intent"]["name"] == "greet+order"


def test_rasa_gets_its_own_fields(found_by_both: TestClient):
    text = "play 🎶 Ada at 6pm"
    body = post(found_by_both, "/model/parse", text=text)
    person, moment = body["entities"]
    assert set(person) == {"entity", "value", "start", "end", "confidence_entity", "role", "extractor"}
    assert (person["entity"], person["value"], person["role"], person["extractor"]) == (
        "person",
        "Ada",
        "singer",
        "percept",
    )
    assert set(moment) == {"entity", "value", "start", "end", "extractor"}
    assert (moment["entity"], text[moment["start"] : moment["end"]], moment["extractor"]) == ("time", "6pm", "built-in")
    assert [text[start:end] for start, end in body["text_tokens"]] == ["play", "🎶", "Ada", "at", "6pm"]


def test_rules_read_beside_the_network(found_by_both: TestClient):
    text = "Ada, call +33 6 12 34 56 78 tomorrow at 8 for $1,200.50"
    [result] = post(found_by_both, "/v1/intent", text=text, **NOW)["results"]
    found = [
        (each["entity"], each["value"], each["score"]) for each in result["entities"] if each["extractor"] == "built-in"
    ]
    assert found == [
        ("phone", "+33612345678", None),
        ("time", "2026-11-25T08:00:00+01:00", None),
        ("money", {"amount": 1200.5, "currency": "USD"}, None),
    ]
    assert [each["start"] for each in result["entities"]] == sorted(each["start"] for each in result["entities"])


@pytest.mark.parametrize("with_intents", [True, False])
def test_what_is_understood_has_entities_with_and_without_an_intent_model(
    open_client: OpenClient, bundle: Bundle, *, with_intents: bool
):
    intent = bundle.path if with_intents else "none"
    with open_client(intent=intent, extractors=["date"]) as client:
        body = post(client, "/v1/understand", text="play Ada tomorrow", **NOW)
        assert [each["text"] for each in body["entities"]] == (["Ada"] if with_intents else []) + ["tomorrow"]
        assert (body["intent"] and body["intent"]["entities"]) == (body["entities"] if with_intents else None)


def test_a_request_chooses_among_the_extractors(found_by_both: TestClient):
    text = "20 dollars tomorrow"
    for extract, expected in ((["money"], ["money"]), ([], []), (None, ["money", "date"])):
        [result] = post(found_by_both, "/v1/entities", text=text, extract=extract)["results"]
        assert [each["entity"] for each in result["entities"]] == expected


def test_rules_need_no_model_of_entities(found_by_rules: TestClient):
    body = post(found_by_rules, "/v1/entities", text="demain à 8 h", **NOW)
    assert body["model"] is None
    assert [each["value"] for each in body["results"][0]["entities"]] == ["2026-11-25T08:00:00+01:00"]


def test_now_and_the_zone_decide_what_tomorrow_is(found_by_rules: TestClient):
    def tomorrow(**sent: str) -> str:
        [result] = post(found_by_rules, "/v1/entities", text="tomorrow", **sent)["results"]
        return result["entities"][0]["value"]

    late = "2026-11-24T23:30:00+00:00"
    assert tomorrow(now=late) == "2026-11-25"
    assert tomorrow(now=late, time_zone="Europe/Paris") == "2026-11-26"
    assert tomorrow(now="2026-11-24T23:30:00", time_zone="America/New_York") == "2026-11-25"
    [summer] = post(found_by_rules, "/v1/entities", text="on 3 July at 9 am", **NOW)["results"]
    assert summer["entities"][0]["value"] == "2027-07-03T09:00:00+02:00"


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        ({"extract": ["url"]}, "url is not switched on here; there are money, time, date."),
        ({"time_zone": "Europe/Nowhere"}, "there is no time zone 'Europe/Nowhere'"),
        ({"time_zone": "../../etc/passwd"}, "there is no time zone"),
        ({"now": "9999-12-31T23:59:59-12:00", "time_zone": "Asia/Tokyo"}, "too near the end of time"),
    ],
)
def test_what_is_not_there_is_refused_by_name(found_by_rules: TestClient, sent: dict, message: str):
    for path in ("/v1/entities", "/v1/intent", "/v1/understand"):
        status, said = refused(found_by_rules, path, text="tomorrow", **sent)
        assert (status, message in said) == (400, True), said


@pytest.mark.parametrize(
    "sent", [{"extract": ["colour"]}, {"language": "de"}, {"now": "yesterday"}, {"now": 0}, {"texts": ["a"]}]
)
def test_a_field_that_does_not_fit_is_422(found_by_rules: TestClient, sent: dict):
    assert refused(found_by_rules, "/v1/entities", text="tomorrow", **sent)[0] == 422


@pytest.mark.parametrize("now", ["0001-01-01T00:00:00+00:00", "9999-12-31T23:59:59+00:00"])
def test_the_ends_of_time_are_no_server_error(found_by_rules: TestClient, now: str):
    text = "yesterday, tomorrow at 8, in 3 weeks, last month, next year, il y a deux heures, this weekend"
    assert found_by_rules.post("/v1/entities", json={"text": text, "now": now}).status_code in (200, 400)


def test_without_entities_the_routes_say_so(client: TestClient):
    for path, body in (("/v1/entities", {"text": "play"}), ("/hf/token-classification", {"inputs": "play"})):
        status, said = refused(client, path, **body)
        assert status == 404
        assert "entities" in said
    status, said = refused(client, "/v1/intent", text="play", extract=["date"])
    assert status == 400
    assert "PERCEPT_EXTRACTORS" in said
    assert post(client, "/v1/intent", text="play")["results"][0]["entities"] == []


def test_too_many_texts_are_413(found_by_network: TestClient):
    assert refused(found_by_network, "/v1/entities", texts=["a"] * 9)[0] == 413


def tagged(client: TestClient, inputs: object, **parameters: object) -> list:
    return post(client, "/hf/token-classification", inputs=inputs, parameters=parameters)  # type: ignore[return-value]


@pytest.mark.parametrize("strategy", ["simple", "first", "average", "max", None])
def test_hugging_faces_strategies_give_entities(found_by_network: TestClient, strategy: str | None):
    text = "👋 play Marie Curie and 42"
    first, second = tagged(found_by_network, text, aggregation_strategy=strategy, stride=4)
    assert set(first) == {"entity_group", "score", "word", "start", "end"}
    assert (first["entity_group"], first["word"]) == ("person.singer", "Marie Curie")
    assert text[first["start"] : first["end"]] == "Marie Curie"
    assert second["entity_group"] == "count#1"


def test_hugging_faces_none_gives_words(found_by_network: TestClient):
    found = tagged(found_by_network, "play Marie Curie", aggregation_strategy="none")
    assert [(each["entity"], each["word"]) for each in found] == [
        ("B-person.singer", "Marie"),
        ("I-person.singer", "Curie"),
    ]
    everything = tagged(found_by_network, "play Marie Curie", aggregation_strategy="none", ignore_labels=[])
    assert [each["entity"][0] for each in everything] == ["O", "B", "I"]
    assert tagged(found_by_network, "Ada", ignore_labels=["person.singer"]) == []
    assert tagged(found_by_network, ["Ada", "play"]) == [tagged(found_by_network, "Ada"), []]


def test_an_unknown_strategy_is_422(found_by_network: TestClient):
    body = {"inputs": "Ada", "parameters": {"aggregation_strategy": "all"}}
    assert found_by_network.post("/hf/token-classification", json=body).status_code == 422
