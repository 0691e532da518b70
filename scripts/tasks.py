"""The task table: what Percept can be trained for. Imports no library."""

from __future__ import annotations

from nlp.embedding import TASK as EMBEDDING
from nlp.intent import TASK as INTENT
from nlp.qa import TASK as QA
from nlp.writing import TASK as WRITER
from shared.errors import ConfigError
from shared.task import Task
from vision.tagging import TASK as TAGGING

TASKS: dict[str, Task] = {task.name: task for task in (TAGGING, INTENT, QA, WRITER, EMBEDDING)}


def find_task(name: str) -> Task:
    """Return the task with that name.

    Raises:
        ConfigError: there is none; lists the known ones.
    """
    if name not in TASKS:
        raise ConfigError(f"there is no task {name!r}; there is {', '.join(TASKS)}.")
    return TASKS[name]
