"""What a freshly built bento is asked as people ask, and how its answer is held to that of the predictor in process."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from shared.errors import ConfigError
from shared.project import CODE_ROOT
from shared.task import PredictOptions

_JSON = "application/json"
_PHOTO = CODE_ROOT / "vision" / "page" / "samples" / "dahlia.jpg"
_UTTERANCE = "book a flight"
_QUESTION = "Who keeps the light?"
_CONTEXT = "The light on the rock is kept by Ada Brandt."


@dataclass(frozen=True)
class Question:
    """One request over a route of ours, and the same for `percept predict`."""

    route: str
    body: bytes
    content_type: str
    input: str
    """Of `Task.predict`."""
    pick_here: Callable[[dict[str, Any]], Any]
    """What is compared, out of `Predicted.values`."""
    pick_there: Callable[[Any], Any]
    """The same, out of the response."""
    show: Callable[[Any], str]
    options: PredictOptions = field(default_factory=PredictOptions)


def question_for(task: str) -> Question:
    """Return what a bundle of that task is asked.

    Raises:
        ConfigError: no service answers for it.
    """
    if task == "tagging":
        return Question(
            route="/v1/tag",
            body=_PHOTO.read_bytes(),
            content_type="image/jpeg",
            input=str(_PHOTO),
            pick_here=lambda values: _scores(values["tags"]),
            pick_there=lambda body: _scores(body["results"][0]["tags"]),
            show=lambda tags: f"{_PHOTO.name}: {_shown(tags)}",
        )
    if task == "intent":
        return Question(
            route="/v1/intent",
            body=json.dumps({"text": _UTTERANCE}).encode(),
            content_type=_JSON,
            input=_UTTERANCE,
            pick_here=_intent,
            pick_there=lambda body: _intent(body["results"][0]),
            show=lambda found: f"{_UTTERANCE!r}: {found['intent'] or 'out of scope'} {found['confidence']:.2f}",
        )
    if task == "qa":
        return Question(
            route="/v1/answer",
            body=json.dumps({"question": _QUESTION, "context": _CONTEXT}).encode(),
            content_type=_JSON,
            input=_QUESTION,
            options=PredictOptions(context=_CONTEXT),
            pick_here=lambda values: _answer(next(iter(values["answers"]), None)),
            pick_there=lambda body: _answer(body["answer"]),
            show=lambda found: f"{_QUESTION!r}: {found['text'] if found else 'no answer'}",
        )
    raise ConfigError(f"there is no request to try a bundle of the task {task!r} with.")


def _scores(tags: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: tag[name] for name in ("label", "score")} for tag in tags]


def _shown(tags: list[dict[str, Any]]) -> str:
    return ", ".join(f"{tag['label']} {tag['score']:.2f}" for tag in tags) or "no tag"


def _intent(result: dict[str, Any]) -> dict[str, Any]:
    return {name: result[name] for name in ("intent", "confidence", "out_of_scope", "out_of_scope_score")}


def _answer(answer: dict[str, Any] | None) -> dict[str, Any] | None:
    return answer and {name: answer[name] for name in ("text", "score", "start", "end")}
