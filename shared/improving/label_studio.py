"""Label Studio: records as its tasks with the model's answers as predictions, and its annotations as reviews.

Source: https://labelstud.io/guide/predictions and https://labelstud.io/guide/task_format, and of its tags
https://labelstud.io/tags/choices, /textarea and /filter (2026-12).
"""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from shared.bundle.read import Bundle
from shared.errors import DataError
from shared.improving.examples import check_task
from shared.records.inputs import photos_of
from shared.records.queue import REASONS, Item, queue
from shared.records.record import redacted
from shared.records.reviewing import Review, keep_reviews
from shared.records.store import Store

NOTHING = "(nothing fits)"
"""The choice for what no label fits."""
NO_ANSWER = "There is no answer"
REVIEWER = "label-studio"
"""Whose reviews are done, when tasks are chosen; and the name of an annotator without one."""
_MOST_CHARS = {"label": 200, "answer": 2000, "reviewer": 64}
_FILTERED_FROM = 20
"""Labels from which the configuration has a field to search them."""
_AT_ONCE = 500
_LARGEST_ID = 2**63 - 1
_HOW = "Export from Label Studio as JSON (not JSON-MIN or CSV)."


class _Result(BaseModel):
    from_name: str = ""
    type: str = ""
    value: dict[str, Any] = {}


class _Annotation(BaseModel):
    completed_by: int | str | dict[str, Any] | None = None
    result: list[_Result] = []
    was_cancelled: bool = False
    updated_at: str = ""


class _Task(BaseModel):
    data: dict[str, Any]
    annotations: list[_Annotation] = Field(default_factory=list)


_TASKS = TypeAdapter(list[_Task])


@dataclass
class Imported:
    """What came of an import."""

    kept: Counter[str] = field(default_factory=Counter)
    """Reviewer -> reviews."""
    unknown: list[int] = field(default_factory=list)
    """Records that the model has not, or no longer."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Reason -> annotations that became no review."""
    new_labels: list[str] = field(default_factory=list)
    """That the bundle does not know."""


def tasks_of(store: Store, bundle: Bundle, limit: int) -> tuple[list[dict[str, Any]], list[str]]:
    """Return tasks to import into Label Studio, in the order of the queue, and the labels to choose among.

    Raises:
        ConfigError: the bundle's task has no records.
        StoreError: the store cannot be read.
    """
    check_task(bundle)
    parents = bundle.config.label_parents
    found = queue(store, bundle.config.name, REVIEWER, limit=limit, parents=parents)
    photos = photos_of(store, [item.record["id"] for item in found.items if item.record["has_photo"]])
    tasks = [_task(item, photos.get(item.record["id"])) for item in found.items]
    of_classes = bundle.config.task != "qa"
    own = bundle.config.id2label.values() if of_classes else ()
    labels = sorted({*own, *found.reviewed_labels, *(label for item in found.items for label in item.record["labels"])})
    return tasks, labels if of_classes else []


def config_of(bundle: Bundle, labels: Sequence[str]) -> str:
    """Return the labeling configuration for these tasks, to paste into the project's settings.

    Raises:
        ConfigError: the bundle's task has no records.
    """
    check_task(bundle)
    if bundle.config.task == "qa":
        lines = [
            '<Text name="text" value="$text"/>',
            '<Text name="context" value="$context"/>',
            '<TextArea name="answer" toName="text" maxSubmissions="1" editable="true" rows="2"/>',
            f'<Choices name="none" toName="text" choice="multiple"><Choice value={quoteattr(NO_ANSWER)}/></Choices>',
        ]
    else:
        is_photo = bundle.config.task == "tagging"
        name, choice = ("image", "multiple") if is_photo else ("text", "single")
        tag = f'<{"Image" if is_photo else "Text"} name="{name}" value="${name}"/>'
        search = ['<Filter name="filter" toName="label" minlength="0"/>'] if len(labels) >= _FILTERED_FROM else []
        choices = [f"  <Choice value={quoteattr(label)}/>" for label in [*labels, NOTHING]]
        start = f'<Choices name="label" toName="{name}" choice="{choice}" required="true" showInline="true">'
        lines = [tag, *search, start, *choices, "</Choices>"]
    return "\n".join(["<View>", *(f"  {line}" for line in lines), "</View>", ""])


def read_tasks(file: Path) -> list[_Task]:
    """Return the tasks of Label Studio's export.

    Raises:
        DataError: it is none.
    """
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{file} cannot be read as JSON: {error}. {_HOW}") from error
    try:
        return _TASKS.validate_python(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise DataError(f"{file} is no export of Label Studio: {place}: {first['msg'].lower()}. {_HOW}") from error


def keep_annotations(store: Store, bundle: Bundle, tasks: Sequence[_Task]) -> Imported:
    """Keep what annotators said as their reviews; sent again, it takes the place of what was kept.

    Raises:
        ConfigError: the bundle's task has no records.
        StoreError: the store cannot be written; what is counted as kept before is.
    """
    check_task(bundle)
    imported = Imported()
    of_reviewer: dict[str, dict[int, Review]] = {}
    for task in tasks:
        record, model = task.data.get("record"), task.data.get("model")
        if type(record) is not int or not 0 < record <= _LARGEST_ID or model != bundle.config.name:
            imported.left_out["not about a record of this model"] += max(1, len(task.annotations))
            continue
        for annotation in sorted(task.annotations, key=lambda each: each.updated_at):
            said = _said(bundle.config.task, annotation)
            if isinstance(said, str):
                imported.left_out[said] += 1
                continue
            reason = task.data.get("why") if task.data.get("why") in REASONS else "uncertain"
            review = Review(record, said[0], said[1], None, str(reason))
            of_reviewer.setdefault(_name(annotation.completed_by), {})[record] = review
    known = set(bundle.config.id2label.values())
    for reviewer, reviews in of_reviewer.items():
        for some in _parts(list(reviews.values())):
            unknown, _ = keep_reviews(store, bundle.config.name, reviewer, some)
            gone = set(unknown)
            there = [each for each in some if each.record not in gone]
            if unknown and there:  # nothing was kept
                keep_reviews(store, bundle.config.name, reviewer, there)
            imported.unknown += unknown
            imported.kept[reviewer] += len(there)
            imported.new_labels += [label for each in there for label in each.labels or () if label not in known]
    imported.unknown = sorted(set(imported.unknown))
    imported.new_labels = sorted(set(imported.new_labels))
    return imported


def _task(item: Item, photo: bytes | None) -> dict[str, Any]:
    row = item.record
    data = {"record": row["id"], "model": row["model"], "request_id": row["request_id"], "why": item.reason}
    if item.group is not None:
        data["group"] = item.group
    if photo is not None:
        data["image"] = f"data:image/jpeg;base64,{base64.b64encode(photo).decode()}"
    data |= {name: row[name] for name in ("text", "context") if row[name] is not None}
    if row["task"] == "qa":
        data.setdefault("context", "")
    prediction: dict[str, Any] = {"model_version": row["version"], "result": list(_predicted(row))}
    if row["confidence"] is not None:
        prediction["score"] = row["confidence"]
    return {"data": data, "predictions": [prediction] if prediction["result"] else []}


def _predicted(row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    place = {"id": f"record-{row['id']}", "to_name": "image" if row["task"] == "tagging" else "text"}
    if row["task"] != "qa":
        choices = list(row["labels"]) or [NOTHING]
        yield {**place, "from_name": "label", "type": "choices", "value": {"choices": choices}}
    elif row["outcome"] == "unanswerable":
        yield {**place, "from_name": "none", "type": "choices", "value": {"choices": [NO_ANSWER]}}
    elif row["answer"]:
        yield {**place, "from_name": "answer", "type": "textarea", "value": {"text": [row["answer"]]}}


def _said(task: str, annotation: _Annotation) -> tuple[list[str] | None, str | None] | str:
    """Return labels and answer of an annotation, or why it says nothing."""
    if annotation.was_cancelled:  # "Skip" in Label Studio
        return None, None
    choices = _texts(annotation, "choices", "choices")
    if task != "qa":
        return _labels(task, choices)
    written, has_none = _texts(annotation, "textarea", "text"), NO_ANSWER in choices
    wrong = {
        "with several answers": len(written) > 1,
        "with an answer and without one": bool(written) and has_none,
        "without an answer": not written and not has_none,
        "with an answer that is too long": any(len(text) > _MOST_CHARS["answer"] for text in written),
    }
    return next((reason for reason, is_so in wrong.items() if is_so), (None, "".join(written)))


def _labels(task: str, choices: list[str]) -> tuple[list[str] | None, str | None] | str:
    """Return the chosen labels, or why they say nothing."""
    wrong = {
        "without a choice": not choices,
        f"with labels and {NOTHING}": NOTHING in choices and len(choices) > 1,
        "with several intents": task == "intent" and len(choices) > 1,
        "with a label that is too long": any(len(label) > _MOST_CHARS["label"] for label in choices),
    }
    return next(
        (reason for reason, is_so in wrong.items() if is_so), ([each for each in choices if each != NOTHING], None)
    )


def _texts(annotation: _Annotation, kind: str, name: str) -> list[str]:
    """Return the texts of all results of a kind, each once, with personal data masked."""
    found = []
    for result in annotation.result:
        values = result.value.get(name) if result.type == kind else None
        for each in [values] if isinstance(values, str) else values if isinstance(values, list) else ():
            text = (redacted(each) or "").strip() if isinstance(each, str) else ""
            found += [text] if text else []
    return list(dict.fromkeys(found))


def _name(completed_by: int | str | dict[str, Any] | None) -> str:
    """Return what an annotator is called among reviewers.

    >>> _name(7), _name({"id": 7, "email": "ada@example.org"}), _name(None)
    ('label-studio-7', 'ada@example.org', 'label-studio')
    """
    if isinstance(completed_by, dict):
        name = completed_by.get("email") or completed_by.get("username")
        if isinstance(name, str) and (clean := _clean(name)):
            return clean
        completed_by = completed_by.get("id")
    return REVIEWER if completed_by is None else _clean(f"{REVIEWER}-{completed_by}")


def _clean(name: str) -> str:
    """Return a name as a database takes it."""
    return name.replace("\x00", "").encode("utf-8", "replace").decode().strip()[: _MOST_CHARS["reviewer"]]


def _parts(reviews: Sequence[Review]) -> Iterator[Sequence[Review]]:
    for start in range(0, len(reviews), _AT_ONCE):
        yield reviews[start : start + _AT_ONCE]
