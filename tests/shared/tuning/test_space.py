"""Search spaces: what may be tried."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from shared.errors import ConfigError
from shared.project import PROJECT_ROOT
from shared.tuning.space import draw, grid, read_space, within


def space_of(tmp_path: Path, text: str):
    (tmp_path / "space.yaml").write_text(text)
    return read_space(tmp_path / "space.yaml")


def test_ranges_and_choices_are_drawn_from_as_they_are_written(tmp_path: Path):
    space = space_of(tmp_path, "model.lr: {low: 1.0e-5, high: 1.0e-3, log: true}\nmodel.head: [linear, prototype]\n"
                     "trainer.max_epochs: {low: 2, high: 6, step: 2}\n")  # fmt: skip
    trial = optuna.create_study().ask()
    tried = draw(trial, space)
    assert draw(trial, space) == tried == trial.params, "what a trial has stays"
    assert trial.distributions == {
        "model.lr": FloatDistribution(1e-5, 1e-3, log=True),
        "model.head": CategoricalDistribution(["linear", "prototype"]),
        "trainer.max_epochs": IntDistribution(2, 6, step=2),
    }


def test_a_grid_has_all_steps_and_five_points_of_a_range_without(tmp_path: Path):
    steps, log = "{low: 0.0, high: 0.3, step: 0.1}", "{low: 1.0e-4, high: 1.0, log: true}"
    space = space_of(tmp_path, f"a: {steps}\nb: {log}\nc: [x, y]\nd: {{low: 1, high: 3}}\n")
    assert grid(space) == {
        "a": [0.0, 0.1, 0.2, 0.3],
        "b": [0.0001, 0.001, 0.01, 0.1, 1.0],
        "c": ["x", "y"],
        "d": [1, 2, 3],
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must say which values"),
        ("- model.lr", "must say which values"),
        ("model.lr: {low: 1, high: 1}", "low must be less than high"),
        ("model.lr: {low: 0, high: 1, log: true}", "log needs low above 0"),
        ("model.lr: {low: 1, high: 2, log: true, step: 1}", "log and step do not go together"),
        ("model.lr: {low: 0, high: 1.0e+308, step: 1.0e-300}", "at most 1,000,000 steps"),
        ("model.lr: {low: a, high: 1}", "model.lr: "),
        ("model.lr: {low: .nan, high: 1}", "model.lr: "),
        ("model.lr: {lowest: 0, high: 1}", "model.lr: "),
        ("model.lr: 3", "model.lr: "),
        ("model.head: [linear]", "at least two values"),
        ("model.head: [linear, linear]", "each once"),
        ("model: [", "cannot be read"),
    ],
)
def test_a_space_that_says_nothing_is_refused(tmp_path: Path, text: str, message: str):
    with pytest.raises(ConfigError, match=message):
        space_of(tmp_path, text)


def test_the_recipes_own_values_are_known_where_they_may_be_tried(tmp_path: Path):
    space = space_of(
        tmp_path, "model.lr: {low: 0.001, high: 0.1}\nmodel.twice: [true, false]\nmodel.size: {low: 1, high: 9}"
    )
    recipe = {"model": {"lr": 0.01, "twice": True, "size": 3}}
    assert within(space, recipe) == {"model.lr": 0.01, "model.twice": True, "model.size": 3}
    assert within(space, {"model": {**recipe["model"], "lr": 1.0}}) is None
    assert within(space, {"model": {**recipe["model"], "twice": 1}}) is None, "1 is not true"
    assert within(space, {"model": {"lr": 0.01}}) is None


@pytest.mark.parametrize(
    "path", sorted((PROJECT_ROOT / "configs" / "search").glob("*.yaml")), ids=lambda path: path.stem
)
def test_the_shipped_spaces_hold_the_shipped_recipes(path: Path):
    import yaml

    [recipe] = [file for file in path.parents[1].glob(f"*/{path.stem}.yaml") if file != path]
    settings = yaml.safe_load(recipe.read_text())
    defaults = {"model": {"label_smoothing": 0.0}, "data": {}}
    for section, values in defaults.items():
        settings[section] = {**values, **settings[section]}
    assert within(read_space(path), settings) is not None, "the recipe itself is the first trial"
