"""A running service takes up a version, is watched by its own metrics, and goes back if they move.

Everything goes through routes that services have: GET and PUT /v1/model, its rollback, and /metrics. The metrics name
the model, not its version, so what counts is how much they grow: from the service's start to the swap, and from when
all workers had changed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import httpx
import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from percept import Client, ServedModel
from percept.errors import ClientError, Overloaded
from percept.retry import Retry
from shared.errors import ConfigError, PerceptError

SWAP_S = 600.0
"""The longest wait for a worker that loads a bundle."""
SETTLE_S = 120.0
"""The longest wait for the other workers."""
LOOK_EVERY_S = 5.0
LEAST_ANSWERS = 50
"""Before and after, below which nothing is said of answers."""
LEAST_ERRORS = 3
MISSES = 3
"""Looks in a row without an answer, after which the service counts as gone."""
_SURE_Z = 4.0
"""Standard errors; so many because it is looked again and again."""
_OWN_ROUTES = ("/v1/model", "/metrics", "/livez", "/readyz", "/v2/health")
_NO_ANSWER = frozenset({"untagged", "out_of_scope", "unanswerable"})


@dataclass(frozen=True)
class Limits:
    """How far the metrics may move. Shares, not percent."""

    confidence: float = 0.05
    """The mean confidence of answers, up or down."""
    no_answer: float = 0.05
    """The share of inputs that get no answer: out of scope, untagged, unanswerable; up or down."""
    errors: float = 0.01
    """The share of requests that the service fails (5xx), up."""


@dataclass(frozen=True)
class Counts:
    """What a service has counted since it started."""

    requests: float = 0.0
    errors: float = 0.0
    """Answered with a status of 500 or more. Of all models: the metrics do not tell whose."""
    answers: float = 0.0
    """Of the model."""
    without_answer: float = 0.0
    scored: float = 0.0
    scores: float = 0.0
    """Sum of the highest scores."""
    squares: float = 0.0
    """Sum of their squares, at most."""

    def since(self, before: Counts) -> Counts:
        """Return what came since; all of it, if the service has been restarted meanwhile."""
        now, then = asdict(self), asdict(before)
        if any(now[name] < then[name] - 1e-6 for name in ("requests", "answers", "scored")):
            return self
        return Counts(**{name: max(0.0, now[name] - then[name]) for name in now})

    @property
    def figures(self) -> dict[str, float | None]:
        """What is told of them."""
        return {
            "requests": self.requests,
            "errors": self.errors,
            "answers": self.answers,
            "without_answer": _share(self.without_answer, self.answers),
            "confidence": _share(self.scores, self.scored),
        }


@dataclass(frozen=True)
class Watched:
    """What came of it."""

    moved: list[str]
    """What moved too far, in sentences; [] if nothing did."""
    not_watched: list[str]
    """What could not be watched, and why."""
    before: Counts
    after: Counts
    minutes: float
    figures: dict[str, Any] = field(default_factory=dict)
    """JSON-able."""


def read_counts(text: str, model: str) -> Counts:
    """Return the counts in a page of Prometheus metrics.

    Args:
        text: of /metrics.
        model: its name.

    Raises:
        ConfigError: it is not a Percept service's.
    """
    found = dict.fromkeys(("requests", "errors", "answers", "without_answer", "scored", "scores"), 0.0)
    buckets: dict[float, float] = {}
    is_ours = False
    try:
        families = list(text_string_to_metric_families(text))
    except ValueError as error:
        raise ConfigError(f"what /metrics answers cannot be read: {error}") from error
    for sample in (sample for family in families for sample in family.samples):
        name, labels, value = sample.name, sample.labels, float(sample.value)
        is_ours = is_ours or name.startswith("percept_")
        if name == "percept_http_requests_total" and not labels.get("route", "").startswith(_OWN_ROUTES):
            found["requests"] += value
            found["errors"] += value if labels.get("status", "").startswith("5") else 0.0
        elif labels.get("model") != model:
            continue
        elif name == "percept_answers_total":
            found["answers"] += value
            found["without_answer"] += value if labels.get("outcome") in _NO_ANSWER else 0.0
        elif name == "percept_top_score_count":
            found["scored"] += value
        elif name == "percept_top_score_sum":
            found["scores"] += value
        elif name == "percept_top_score_bucket":
            edge = min(1.0, float(labels["le"]))
            buckets[edge] = max(buckets.get(edge, 0.0), value)
    if not is_ours:
        raise ConfigError("/metrics has no metric of Percept's. Is this the address of a Percept service?")
    edges = sorted(buckets)
    sizes = np.diff([0.0, *(buckets[edge] for edge in edges)])
    return Counts(**found, squares=float(np.square(edges) @ sizes) if edges else 0.0)


def moved(before: Counts, after: Counts, limits: Limits) -> list[str]:
    """Return what is worse or other than before, beyond the limits and beyond chance, in sentences."""
    found = []
    usual = _share(before.errors, before.requests) or 0.0
    failing = _share(after.errors, after.requests) or 0.0
    if after.errors >= LEAST_ERRORS and failing > usual + limits.errors:
        found.append(
            f"{after.errors:,.0f} of {after.requests:,.0f} requests failed inside the service ({100 * failing:.1f} %, "
            f"{100 * usual:.1f} % before)"
        )
    if min(before.answers, after.answers) >= LEAST_ANSWERS:
        then, now = before.without_answer / before.answers, after.without_answer / after.answers
        both = (before.without_answer + after.without_answer) / (before.answers + after.answers)
        error = np.sqrt(both * (1 - both) * (1 / before.answers + 1 / after.answers))
        if abs(now - then) > max(limits.no_answer, _SURE_Z * error):
            found.append(
                f"{100 * now:.1f} % of {after.answers:,.0f} inputs got no answer; before, {100 * then:.1f} % did not"
            )
    if min(before.scored, after.scored) >= LEAST_ANSWERS:
        then, now = before.scores / before.scored, after.scores / after.scored
        error = np.sqrt(_variance(before) / before.scored + _variance(after) / after.scored)
        if abs(now - then) > max(limits.confidence, _SURE_Z * error):
            found.append(f"the mean confidence of {after.scored:,.0f} answers is {now:.3f}; before, it was {then:.3f}")
    return found


def not_watched(before: Counts, after: Counts) -> list[str]:
    """Return what cannot be compared for want of answers, in sentences."""
    found = []
    for what, then, now in (
        ("the share of inputs without an answer", before.answers, after.answers),
        ("the mean confidence", before.scored, after.scored),
    ):
        if then < LEAST_ANSWERS:
            found.append(f"{what} (the service had given {then:,.0f} answers before; it takes {LEAST_ANSWERS})")
        elif now < LEAST_ANSWERS:
            found.append(f"{what} (only {now:,.0f} answers came since; it takes {LEAST_ANSWERS})")
    return found


class Service:
    """A running service.

    Args:
        url: such as "http://localhost:3000".
        key: the administrator's.
        transport: in place of the network, for tests.
        clock: returns seconds.
        sleep: waits for seconds.
    """

    def __init__(
        self,
        url: str,
        key: str | None,
        *,
        transport: httpx.BaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.url = url
        self._clock, self._sleep = clock, sleep
        # A swap that is sent twice would make the new bundle its own predecessor: it is sent once, and then looked for.
        once = Retry(attempts=1, total_s=SWAP_S)
        self._changes = Client(url, api_key=key, timeout_s=SWAP_S, retry=once, transport=transport)
        self._reads = Client(url, api_key=key, transport=transport, sleep=sleep)
        headers = {} if key is None else {"X-API-Key": key}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=30.0, transport=transport)

    def model(self, name: str) -> ServedModel:
        """Return what serves under a name.

        Raises:
            ConfigError: the service cannot be asked, or has no such model.
        """
        return self._model(name)[0]

    def _model(self, name: str) -> tuple[ServedModel, int, tuple[str, ...]]:
        try:
            served = self._reads.models()
        except ClientError as error:
            raise ConfigError(f"{self.url} cannot be asked what it serves: {error}") from error
        found = next((each for each in served.models if each.name == name), None)
        if found is None:
            names = ", ".join(each.name for each in served.models) or "none"
            raise ConfigError(f"{self.url} serves no model {name!r} (it serves: {names}).")
        return found, served.workers, served.problems

    def counts(self, name: str) -> Counts:
        """Return what the service has counted.

        Raises:
            ConfigError: /metrics cannot be read.
        """
        try:
            answer = self._http.get("/metrics")
            answer.raise_for_status()
        except httpx.HTTPError as error:
            raise ConfigError(f"{self.url}/metrics cannot be read: {error}") from error
        return read_counts(answer.text, name)

    def swap(self, name: str, bundle: str) -> None:
        """Have a bundle served, and return once all workers do.

        Args:
            name: of the model.
            bundle: of the folder.

        Raises:
            ConfigError: the service refuses, or a worker does not follow.
        """
        end = self._clock() + SWAP_S
        while True:
            try:
                self._changes.serve_bundle(bundle)
                break
            except ClientError as error:
                if self.model(name).bundle == bundle:
                    break  # only the answer was lost, or the service follows the link and was first
                if not isinstance(error, Overloaded) or self._clock() >= end:
                    raise ConfigError(f"the service does not take up {bundle}: {error}") from error
                self._sleep(error.retry_after_s or 1.0)  # another bundle is being loaded, maybe this one
        self._settle(name, bundle)

    def back(self, name: str, bundle: str, to: str) -> None:
        """Have the bundle served that served before, and return once all workers do.

        Args:
            name: of the model.
            bundle: what it serves now; if it is another by then, somebody has changed it, and nothing is done.
            to: what it served before.

        Raises:
            ConfigError: it does not.
        """
        served = self.model(name)
        if served.bundle == to:
            return
        if served.bundle != bundle:
            raise ConfigError(f"the service serves {served.bundle} by now, and not {bundle}: it is left as it is.")
        if served.previous != to:
            self.swap(name, to)
            return
        try:
            self._changes.roll_back(name)
        except ClientError as error:
            if self.model(name).bundle != to:
                raise ConfigError(f"the service does not go back to {to}: {error}") from error
        self._settle(name, to)

    def _settle(self, name: str, bundle: str) -> None:
        end = self._clock() + SETTLE_S
        while True:
            served, workers, problems = self._model(name)
            if served.bundle == bundle and served.workers == workers:
                return
            if self._clock() >= end:
                why = f": {'; '.join(problems)}" if problems else "."
                raise ConfigError(f"not all workers serve {bundle} ({served.workers} of {workers}){why}")
            self._sleep(0.5)

    def watch(self, name: str, before: Counts, minutes: float, limits: Limits) -> Watched:
        """Watch a model for some minutes, or until something moves.

        Args:
            name: of the model.
            before: what had been counted when the bundle was changed.
            minutes: how long.
            limits: how far the metrics may move.
        """
        start = self._clock()
        base: Counts | None = None
        after, misses, reasons = Counts(), 0, list[str]()
        while True:
            try:
                now = self.counts(name)
                misses = 0
                base = now if base is None else base
                after = now.since(base)
                reasons = moved(before, after, limits)
            except PerceptError as error:
                misses += 1
                reasons = [f"the service did not answer {misses} times in a row: {error}"] if misses >= MISSES else []
            spent_s = self._clock() - start
            if reasons or spent_s >= 60 * minutes:
                break
            self._sleep(min(LOOK_EVERY_S, max(0.01, 60 * minutes - spent_s)))
        missing = [] if reasons else not_watched(before, after)
        figures = {"before": before.figures, "after": after.figures, "minutes": round(spent_s / 60, 2)}
        return Watched(reasons, missing, before, after, spent_s / 60, figures)

    def close(self) -> None:
        """Close the connections."""
        for each in (self._changes, self._reads, self._http):
            each.close()


def _share(part: float, whole: float) -> float | None:
    return round(part / whole, 5) if whole else None


def _variance(counts: Counts) -> float:
    """Return the variance of the scores, at most: the histogram tells only up to where each one is."""
    mean = counts.scores / counts.scored
    return max(0.0, min(mean * (1 - mean), counts.squares / counts.scored - mean**2))
