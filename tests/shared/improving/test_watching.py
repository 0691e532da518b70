"""A service is swapped, watched by its own metrics, and goes back if they move."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import httpx
import pytest

from shared.errors import ConfigError
from shared.improving.watching import Counts, Limits, Service, moved, not_watched, read_counts

MODEL = "tiny"


@dataclass
class FakeService:
    """A service of two workers with a clock; traffic comes while somebody sleeps."""

    bundle: str = "v1"
    previous: str | None = None
    confidence: dict[str, float] = field(default_factory=dict)
    """Bundle -> of its answers; 0.9 if not named."""
    out_of_scope: dict[str, float] = field(default_factory=dict)
    """Bundle -> share; 0.1 if not named."""
    errors: dict[str, float] = field(default_factory=dict)
    """Bundle -> share; 0 if not named."""
    per_s: float = 20.0
    refuses: str | None = None
    is_gone: bool = False
    now: float = 0.0
    seen: Counts = field(default_factory=Counts)
    asked: list[str] = field(default_factory=list)

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.traffic(seconds * self.per_s)

    def traffic(self, requests: float) -> None:
        failing, scope = self.errors.get(self.bundle, 0.0), self.out_of_scope.get(self.bundle, 0.1)
        answers = requests * (1 - failing)
        score = self.confidence.get(self.bundle, 0.9)
        self.seen = Counts(
            self.seen.requests + requests, self.seen.errors + requests * failing, self.seen.answers + answers,
            self.seen.without_answer + answers * scope, self.seen.scored + answers, self.seen.scores + answers * score,
        )  # fmt: skip

    def metrics(self) -> str:
        seen = self.seen
        fine, scoped = seen.requests - seen.errors, seen.answers - seen.without_answer
        lines = [
            "# TYPE percept_http_requests_total counter",
            f'percept_http_requests_total{{method="POST",route="/v1/intent",status="200"}} {fine}',
            f'percept_http_requests_total{{method="POST",route="/v1/intent",status="500"}} {seen.errors}',
            'percept_http_requests_total{method="GET",route="/metrics",status="500"} 77',
            "# TYPE percept_answers_total counter",
            f'percept_answers_total{{model="{MODEL}",outcome="in_scope",label="a"}} {scoped}',
            f'percept_answers_total{{model="{MODEL}",outcome="out_of_scope",label=""}} {seen.without_answer}',
            'percept_answers_total{model="another",outcome="out_of_scope",label=""} 1000',
            "# TYPE percept_top_score histogram",
            f'percept_top_score_bucket{{model="{MODEL}",le="0.5"}} 0',
            f'percept_top_score_bucket{{model="{MODEL}",le="0.95"}} {seen.scored}',
            f'percept_top_score_bucket{{model="{MODEL}",le="+Inf"}} {seen.scored}',
            f'percept_top_score_count{{model="{MODEL}"}} {seen.scored}',
            f'percept_top_score_sum{{model="{MODEL}"}} {seen.scores}',
        ]
        return "\n".join(lines) + "\n"

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(f"{request.method} {request.url.path}")
        if self.is_gone:
            raise httpx.ConnectError("refused")
        if request.url.path == "/metrics":
            return httpx.Response(200, text=self.metrics())
        if request.headers.get("x-api-key") != "secret":
            return self.error(401, "unauthorized", "this needs a key")
        if request.method == "PUT":
            wanted = json.loads(request.content)["bundle"]
            if self.refuses:
                return self.error(400, "invalid_input", self.refuses)
            self.bundle, self.previous = wanted, self.bundle
        elif request.method == "POST":
            assert self.previous is not None
            self.bundle, self.previous = self.previous, self.bundle
        model = {"name": MODEL, "task": "intent", "version": self.bundle, "bundle": self.bundle, "since": "2026",
                 "previous": self.previous, "workers": 2}  # fmt: skip
        return httpx.Response(200, json={"models": [model], "workers": 2, "problems": []})

    def error(self, status: int, kind: str, message: str) -> httpx.Response:
        return httpx.Response(status, json={"error": {"type": kind, "message": message, "request_id": "1"}})

    def client(self, key: str | None = "secret") -> Service:
        transport = httpx.MockTransport(self.answer)
        return Service("http://fake", key, transport=transport, clock=self.clock, sleep=self.sleep)


def watched(fake: FakeService, minutes: float = 5.0) -> list[str]:
    service = fake.client()
    fake.traffic(2000)
    before = service.counts(MODEL)
    service.swap(MODEL, "v2")
    return service.watch(MODEL, before, minutes, Limits()).moved


def test_counts_are_read_from_the_services_own_metrics():
    fake = FakeService()
    fake.traffic(200)
    found = read_counts(fake.metrics(), MODEL)
    assert (found.requests, found.errors, found.answers, found.without_answer) == (200, 0, 200, pytest.approx(20))
    assert found.scores / found.scored == pytest.approx(0.9)
    assert found.squares == pytest.approx(200 * 0.95**2)
    with pytest.raises(ConfigError, match="no metric of Percept's"):
        read_counts("# TYPE other counter\nother_total 3\n", MODEL)


def test_a_version_that_does_as_the_last_one_stays():
    fake = FakeService()
    assert watched(fake) == []
    assert fake.now >= 300
    assert fake.bundle == "v2"


def test_a_version_that_is_less_sure_is_noticed_before_the_time_is_over():
    fake = FakeService(confidence={"v2": 0.7})
    [reason] = watched(fake)
    assert "the mean confidence of" in reason
    assert "is 0.700; before, it was 0.900" in reason
    assert fake.now < 60


def test_a_version_that_gives_fewer_answers_is_noticed():
    [reason] = watched(FakeService(out_of_scope={"v2": 0.3}))
    assert reason.startswith("30.0 % of ")
    assert reason.endswith("inputs got no answer; before, 10.0 % did not")


def test_a_version_that_fails_is_noticed():
    [reason] = watched(FakeService(errors={"v2": 0.05}))
    assert "requests failed inside the service (5.0 %, 0.0 % before)" in reason


def test_a_service_that_is_gone_is_noticed():
    fake = FakeService()
    service = fake.client()
    fake.is_gone = True
    found = service.watch(MODEL, Counts(), 5.0, Limits())
    assert "did not answer 3 times in a row" in found.moved[0]


def test_what_chance_does_and_what_is_too_little_moves_nothing():
    before = Counts(1000, 0, 1000, 100, 1000, 900, 1000 * 0.9)
    few = Counts(40, 0, 40, 20, 40, 20, 20)
    assert moved(before, few, Limits()) == []
    assert any("only 40 answers came since" in each for each in not_watched(before, few))
    by_chance = Counts(60, 0, 60, 11, 60, 53, 53)  # 18 % of 60
    assert moved(before, by_chance, Limits()) == []
    new = not_watched(Counts(), Counts(60, 0, 60))
    assert any("the service had given 0 answers before" in each for each in new)


def test_a_service_that_was_restarted_meanwhile_counts_from_nothing():
    assert Counts(5, 0, 5).since(Counts(100, 0, 100)) == Counts(5, 0, 5)
    assert Counts(105, 1, 103).since(Counts(100, 0, 100)) == Counts(5, 1, 3)


def test_going_back_uses_the_rollback_and_leaves_what_others_changed():
    fake = FakeService()
    service = fake.client()
    service.swap(MODEL, "v2")
    service.back(MODEL, "v2", "v1")
    assert fake.bundle == "v1"
    assert fake.asked.count("POST /v1/model/rollback") == 1
    service.swap(MODEL, "v3")
    with pytest.raises(ConfigError, match="serves v3 by now, and not v2"):
        service.back(MODEL, "v2", "v1")
    assert fake.bundle == "v3"


def test_going_back_names_the_bundle_where_the_service_remembers_another():
    fake = FakeService(bundle="v2", previous="v2")  # as after a link and a call that led to the same
    fake.client().back(MODEL, "v2", "v1")
    assert fake.bundle == "v1"


def test_a_refusal_is_told_with_the_services_words():
    service = FakeService(refuses="the bundle was refused, and the previous one still serves").client()
    with pytest.raises(ConfigError, match="does not take up v2: the bundle was refused"):
        service.swap(MODEL, "v2")
    with pytest.raises(ConfigError, match="this needs a key"):
        FakeService().client(None).model(MODEL)
    with pytest.raises(ConfigError, match="serves no model 'other'"):
        FakeService().client().model("other")
