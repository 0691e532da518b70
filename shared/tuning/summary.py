"""What a study has found: for the page, and for the lines that the command prints."""

from __future__ import annotations

from typing import Any

import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState

from shared.tuning.space import Range
from shared.tuning.study import Searching, best_of

LEAST_FOR_IMPORTANCE = 8
"""Finished trials, below which nothing is said of which settings matter."""
_STATES = {
    TrialState.COMPLETE: "finished",
    TrialState.PRUNED: "ended early",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}


def summarised(searching: Searching) -> dict[str, Any]:
    """Return all that the page shows, JSON-able."""
    study, search = searching.study, searching.search
    trials = [_trial(each) for each in study.get_trials(deepcopy=False) if each.state != TrialState.WAITING]
    best = best_of(study)
    recipe = next((each for each in trials if each["is_recipe"]), None)
    return {
        "task": search.task.name,
        "folder": searching.folder.name,
        "sampler": search.sampler,
        "pruner": search.pruner,
        "folds": search.folds,
        "space": {
            name: {"low": values.low, "high": values.high, "log": values.log} if isinstance(values, Range) else values
            for name, values in search.space.items()
        },
        "trials": trials,
        "best": None if best is None else best.number,
        "recipe": None if recipe is None else recipe["number"],
        "importance": importance(study),
        "counts": {state: sum(each["state"] == state for each in trials) for state in _STATES.values()},
        "minutes": sum(each["minutes"] or 0 for each in trials),
        "epochs": sum(each["epochs"] or 0 for each in trials),
    }


def importance(study: optuna.Study) -> dict[str, float] | None:
    """Return setting -> share of the differences between good and other trials; None where too few are finished.

    Source: Watanabe et al. 2023, "PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in Arbitrary Subspaces".
    """
    done = [each for each in study.get_trials(deepcopy=False) if each.state == TrialState.COMPLETE]
    if len(done) < LEAST_FOR_IMPORTANCE or len({each.value for each in done}) < 3:
        return None
    found = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
    return {name: float(value) for name, value in found.items()}


def lines_of(found: dict[str, Any]) -> list[str]:
    """Return what the command prints in the end."""
    counts = ", ".join(f"{count} {state}" for state, count in found["counts"].items() if count)
    lines = [f"{len(found['trials'])} trials ({counts}), {found['epochs']} epochs, {found['minutes']:.1f} minutes."]
    by_number = {each["number"]: each for each in found["trials"]}
    if found["best"] is None:
        last = next((each["error"] for each in reversed(found["trials"]) if each["error"]), None)
        return [*lines, "No trial is finished." + (f" The last that failed: {last}" if last else "")]
    best = by_number[found["best"]]
    settings = ", ".join(f"{name} {shown(value)}" for name, value in best["params"].items())
    lines.append(f"Best: trial {best['number']}, {best['value']:.4f} on validation examples: {settings}.")
    recipe = by_number.get(found["recipe"])
    if recipe is not None and recipe["value"] is not None:
        what = "the recipe as it is" if recipe["state"] == "finished" else "the recipe as it is, until it was ended"
        lines.append(f"Beside it, {what}: {recipe['value']:.4f}. Compare both on the test split: percept compare.")
    if found["importance"]:
        most = [f"{name} {100 * share:.0f} %" for name, share in list(found["importance"].items())[:3]]
        lines.append(f"What mattered most: {', '.join(most)}.")
    return lines


def shown(value: object) -> str:
    """Return a value as people read it.

    >>> shown(0.00012345678), shown(64), shown("linear")
    ('0.000123', '64', 'linear')
    """
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _trial(trial: FrozenTrial) -> dict[str, Any]:
    known = trial.user_attrs
    curves = known.get("curves") or [[value for _, value in sorted(trial.intermediate_values.items())]]
    reached = [value for curve in curves for value in curve]
    return {
        "number": trial.number,
        "state": _STATES[trial.state],
        "value": trial.value if trial.state == TrialState.COMPLETE else max(reached, default=None),
        "by_fold": known.get("by_fold") or [],
        "params": trial.params,
        "curves": curves,
        "epochs": known.get("epochs", len(reached)),
        "minutes": known["seconds"] / 60 if "seconds" in known else None,
        "is_recipe": bool(known.get("is_recipe")),
        "error": known.get("error"),
    }
