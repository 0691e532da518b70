"""What is tried again, after how long, and when the client gives up; no test waits."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from percept import AsyncClient, BadAnswer, BadInput, Client, NoAnswer, Overloaded, Retry, Unavailable
from percept.retry import retry_after_s
from tests.percept.scripted import Clock, Script, Step, intent, no

URL = "http://service"


def client(clock: Clock, *steps: Step, **retry: float) -> tuple[Client, Script]:
    script = Script(steps)
    return Client(URL, transport=script, clock=clock, sleep=clock.sleep, retry=Retry(**retry)), script


@pytest.mark.parametrize("failure", [no(429), no(503, "not_ready"), httpx.ConnectError, httpx.ReadError,
                                     httpx.ReadTimeout, httpx.RemoteProtocolError])  # fmt: skip
def test_what_may_go_through_later_is_asked_again(failure: Step):
    clock = Clock()
    asking, script = client(clock, failure, intent())
    assert asking.intent("play").intent == "play_music"
    assert len(script.asked) == 2
    assert script.asked[0].content == script.asked[1].content == b'{"text":"play"}'
    assert len(clock.slept) == 1


@pytest.mark.parametrize("failure", [no(400), no(401), no(404), no(413), no(422), no(500), no(504)])
def test_what_would_fail_again_is_asked_once(failure: httpx.Response):
    asking, script = client(Clock(), failure)
    with pytest.raises(Exception, match="not now"):
        asking.intent("play")
    assert len(script.asked) == 1


def test_pauses_double_with_full_jitter_and_stay_below_their_most(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("percept.client.draw", lambda: 1.0)
    clock = Clock()
    asking, _ = client(clock, *[no(503)] * 6, attempts=6, base_s=1, max_pause_s=4)
    with pytest.raises(Unavailable):
        asking.intent("play")
    assert clock.slept == [1, 2, 4, 4, 4]
    clock = Clock()
    drawn = iter([0.5, 0.25])
    monkeypatch.setattr("percept.client.draw", lambda: next(drawn))
    client(clock, no(503), no(503), intent(), base_s=1)[0].intent("play")
    assert clock.slept == [0.5, 0.5]


def test_retry_after_is_kept_and_never_cut_short():
    clock = Clock()
    client(clock, no(429, retry_after="7"), intent())[0].intent("play")
    assert 7 <= clock.slept[0] <= 7.2


def test_a_service_that_asks_for_more_time_than_there_is_ends_it_at_once():
    clock = Clock()
    asking, script = client(clock, no(429, retry_after="61"), total_s=60)
    with pytest.raises(Overloaded) as caught:
        asking.intent("play")
    assert caught.value.retry_after_s == 61
    assert clock.slept == []
    assert len(script.asked) == 1


def test_the_total_time_ends_it_before_the_attempts_do(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("percept.client.draw", lambda: 1.0)
    clock = Clock()
    asking, script = client(clock, *[no(503)] * 3, attempts=100, base_s=1, total_s=4)
    with pytest.raises(Unavailable):
        asking.intent("play")
    assert clock.slept == [1, 2]
    assert len(script.asked) == 3


def test_no_wait_for_the_network_is_longer_than_what_is_left(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("percept.client.draw", lambda: 1.0)
    asking, script = client(Clock(), no(503), intent(), base_s=4, total_s=10)
    asking.intent("play")
    first, second = (request.extensions["timeout"]["read"] for request in script.asked)
    assert (first, second) == (10, 6)


def test_a_rollback_that_may_have_happened_is_not_sent_twice():
    for failure in (httpx.ReadError, httpx.ReadTimeout, no(503)):
        asking, script = client(Clock(), failure)
        with pytest.raises((NoAnswer, Unavailable)):
            asking.roll_back()
        assert len(script.asked) == 1


def test_a_rollback_that_was_refused_or_never_left_is_sent_again():
    served = httpx.Response(200, json={"models": [], "workers": 1, "problems": []})
    for failure in (httpx.ConnectError, no(429)):
        assert client(Clock(), failure, served)[0].roll_back().workers == 1


def test_errors_tell_what_the_service_said():
    asking, _ = client(Clock(), no(415, "unsupported_media"))
    with pytest.raises(BadInput) as caught:
        asking.tag(b"x")
    error = caught.value
    assert (error.status, error.type, error.message, error.request_id) == (415, "unsupported_media", "not now", "r-1")
    assert str(error) == "not now (415 unsupported_media, request r-1)"


def test_a_proxys_page_is_an_error_of_unknown_type():
    page = httpx.Response(503, text="<h1>upstream down</h1>", headers={"x-request-id": "p-1"})
    asking, _ = client(Clock(), page, attempts=1)
    with pytest.raises(Unavailable, match="upstream down") as caught:
        asking.models()
    assert (caught.value.type, caught.value.request_id) == ("unknown", "p-1")


@pytest.mark.parametrize("body", ["no json", "[]", "{}", '{"model": {"name": "t", "version": 1}, "results": [{}]}'])
def test_what_is_no_answer_of_a_service_is_told_and_not_asked_again(body: str):
    asking, script = client(Clock(), httpx.Response(200, text=body))
    with pytest.raises(BadAnswer, match="Percept service"):
        asking.intent("play")
    assert len(script.asked) == 1


def test_ready_is_false_where_nothing_answers_and_asks_once():
    for failure in (httpx.ConnectError, no(503, "not_ready")):
        asking, script = client(Clock(), failure)
        assert asking.ready() is False
        assert len(script.asked) == 1
    assert client(Clock(), httpx.Response(200, json={"status": "ready"}))[0].ready() is True


def test_the_async_client_tries_again_by_the_same_rules(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("percept.client.draw", lambda: 1.0)

    async def run() -> None:
        clock, script = Clock(), Script([no(503), httpx.ConnectError, no(429, retry_after="3"), intent(), no(422)])
        async with AsyncClient(
            URL, transport=script, clock=clock, sleep=clock.sleep_async, retry=Retry(base_s=1)
        ) as asking:
            assert (await asking.intent("play")).intent == "play_music"
            assert clock.slept == [1, 2, 7]
            with pytest.raises(BadInput):
                await asking.intent("play")
        assert len(script.asked) == 5

    asyncio.run(run())


def test_settings_that_make_no_sense_are_refused():
    for wrong in ({"attempts": 0}, {"base_s": -1}, {"total_s": 0}):
        with pytest.raises(ValueError, match="attempts must be at least 1"):
            Retry(**wrong)


def test_a_date_that_is_over_asks_for_no_wait():
    assert retry_after_s("Wed, 21 Oct 2015 07:28:00 GMT") == 0
