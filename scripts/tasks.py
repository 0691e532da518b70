"""The task table: the one place that lists what Percept can be trained for. Imports no library."""

from __future__ import annotations

from nlp.intent import TASK as INTENT
from nlp.qa import TASK as QA
from shared.bundle.layout import BundleConfig
from shared.errors import ConfigError
from shared.task import Task
from vision.tagging import TASK as TAGGING

TASKS: dict[str, Task] = {"tagging": TAGGING, "intent": INTENT, "qa": QA}


def find_task(name: str) -> Task:
    """Return the task of that name.

    Raises:
        ConfigError: there is none; lists those there are.
    """
    if name not in TASKS:
        raise ConfigError(f"there is no task {name!r}; there is {', '.join(TASKS)}.")
    return TASKS[name]


def task_of(config: BundleConfig, *, only: str) -> Task:
    """Return the bundle's task, which must be `only`.

    Raises:
        ConfigError: the bundle is for another task.
    """
    if config.task != only:
        raise ConfigError(f"this command takes a bundle for {only}; {config.name} is one for {config.task}.")
    return find_task(config.task)
