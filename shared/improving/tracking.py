"""Promotions and rollbacks as runs of MLflow, for those who keep their experiments there."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from shared.improving.registry import Change

EXPERIMENT = "percept-{name}"
PAGE = "promoted.html"
_MAX_TAG_CHARS = 500
_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # nothing is sent to anybody but the server that was named
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # a server that is gone costs half a minute, and not many
}


def log_change(
    uri: str, name: str, change: Change, *, page: str | None = None, outcome: str | None = None
) -> tuple[bool, str]:
    """Log a change of a registry as a run; never fails, because the change is made.

    Args:
        uri: of the tracking server, as MLflow has it.
        name: of the model.
        change: the line of the history.
        page: of the promotion, HTML.
        outcome: what came of it, if that is more than the change says.

    Returns:
        Whether it was logged, and a sentence that says where, or why not.
    """
    for variable, value in _SETTINGS.items():
        os.environ.setdefault(variable, value)
    try:
        from mlflow import MlflowClient
    except ModuleNotFoundError:
        return False, "MLflow was told nothing: mlflow is not installed. Run: pip install 'percept[mlflow]'"
    try:
        client = MlflowClient(tracking_uri=uri)
        title = EXPERIMENT.format(name=name)
        experiment = client.get_experiment_by_name(title)
        id_ = experiment.experiment_id if experiment is not None else client.create_experiment(title)
        tags = {key: value[:_MAX_TAG_CHARS] for key, value in _tags(name, change, outcome).items()}
        run = client.create_run(id_, tags=tags, run_name=f"{change.what} {change.to}").info.run_id
        for key, number in _numbers(change.figures):
            client.log_metric(run, key, number)
        if page is not None:
            client.log_text(run, page, PAGE)
        client.set_terminated(run)
    except Exception as error:  # noqa: BLE001 MLflow raises what its stores and the network raise
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        return False, f"MLflow could not be told everything: {reason[:300]}"
    return True, f"MLflow has it as a run of the experiment {title}."


def _tags(name: str, change: Change, outcome: str | None) -> dict[str, str]:
    given = {
        "percept.model": name,
        "percept.what": change.what,
        "percept.from": change.before,
        "percept.to": change.to,
        "percept.digest": change.digest,
        "percept.by": change.by,
        "percept.when": change.when,
        "percept.verdict": change.verdict,
        "percept.forced": str(change.is_forced).lower(),
        "percept.reason": change.reason,
        "percept.url": change.url,
        "percept.serial": str(change.serial),
        "percept.outcome": outcome,
        "percept.measure": change.figures.get("measure"),
    }
    return {key: str(value) for key, value in given.items() if value is not None}


def _numbers(figures: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, float]]:
    for key, value in figures.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{above}{key}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{above}{key}", float(value)
