"""What a search may try: settings of a recipe with the values that they may have."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import optuna
import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from shared.errors import ConfigError, shown

GRID_POINTS = 5
"""Of a range without a step, where every combination is tried."""
_MOST_STEPS = 1_000_000
Choice = bool | int | float | str | None


class Range(BaseModel):
    """Numbers from `low` to `high`, both included."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    low: int | float
    high: int | float
    log: bool = False
    """Small ones are tried as often as large ones: 0.001 to 0.01 as often as 0.01 to 0.1."""
    step: Annotated[int | float, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _fits(self) -> Range:
        if self.low >= self.high:
            raise ValueError(f"low must be less than high; came {self.low} and {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"log needs low above 0; came {self.low}")
        if self.step is not None and (self.high - self.low) / self.step > _MOST_STEPS:
            raise ValueError(f"at most {_MOST_STEPS:,} steps lie between low and high; came {self.step}")
        if self.log and self.step is not None:
            raise ValueError("log and step do not go together: leave one out")
        return self

    @property
    def is_whole(self) -> bool:
        return all(isinstance(each, int) for each in (self.low, self.high, self.step or 1))

    def drawn(self, trial: optuna.Trial, name: str) -> int | float:
        """Return the value that a trial has, drawn if it has none yet."""
        if self.is_whole:
            return trial.suggest_int(name, int(self.low), int(self.high), log=self.log, step=int(self.step or 1))
        return trial.suggest_float(name, float(self.low), float(self.high), log=self.log, step=self.step)

    def points(self) -> list[Any]:
        """Return the values that a grid has: by the step, else `GRID_POINTS` evenly from end to end."""
        if self.step is not None:
            count = int((self.high - self.low) / self.step + 1e-9) + 1
            found: list[Any] = [self.low + i * self.step for i in range(count)]
        else:
            spread = np.geomspace if self.log else np.linspace
            found = [float(each) for each in spread(self.low, self.high, GRID_POINTS)]
            found[0], found[-1] = float(self.low), float(self.high)
        if self.is_whole:
            return sorted({round(each) for each in found})
        return [float(f"{each:.12g}") for each in found]


Space = dict[str, Range | list[Choice]]
"""Setting, such as model.lr -> its values."""
_SPACE = TypeAdapter(dict[str, Range | list[Choice]], config=ConfigDict(strict=True))


def read_space(path: Path) -> Space:
    """Return what a YAML file says may be tried.

    Raises:
        ConfigError: it cannot be read, is empty, or a setting's values are none.
    """
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"the search space {path} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict) or not content:
        raise ConfigError(
            f"the search space {path} must say which values settings may have, such as `model.lr: {{low: 1.0e-4, high: "
            f"1.0e-3, log: true}}` or `model.head: [linear, prototype]`; came {shown(content)}."
        )
    try:
        space = _SPACE.validate_python(content)
    except ValidationError as error:
        place, message = error.errors()[0]["loc"], error.errors()[0]["msg"]
        raise ConfigError(
            f"{path}: {place[0]}: {message.removeprefix('Value error, ')}. Give {{low: …, high: …}}, with log: true or "
            f"step: … if you like, or a list of values; came {shown(content.get(place[0]))}."
        ) from error
    for name, values in space.items():
        if not isinstance(values, Range) and (len(values) < 2 or len(set(map(repr, values))) < len(values)):
            raise ConfigError(f"{path}: {name} needs at least two values, each once; came {shown(values)}.")
    return space


def draw(trial: optuna.Trial, space: Mapping[str, Range | list[Choice]]) -> dict[str, Any]:
    """Return the values that a trial tries; those that it has already stay."""
    return {
        name: values.drawn(trial, name) if isinstance(values, Range) else trial.suggest_categorical(name, values)
        for name, values in space.items()
    }


def grid(space: Mapping[str, Range | list[Choice]]) -> dict[str, list[Any]]:
    """Return the values of each setting of which all combinations are tried."""
    return {name: values.points() if isinstance(values, Range) else list(values) for name, values in space.items()}


def within(space: Mapping[str, Range | list[Choice]], recipe: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a recipe's own values of the settings; None if one of them may not be tried.

    Args:
        space: what may be tried.
        recipe: all settings, nested as in YAML.
    """
    found: dict[str, Any] = {}
    for name, values in space.items():
        value: Any = recipe
        for part in name.split("."):
            if not isinstance(value, Mapping) or part not in value:
                return None
            value = value[part]
        if isinstance(values, Range):
            if isinstance(value, bool) or not isinstance(value, int | float) or not values.low <= value <= values.high:
                return None
            if values.is_whole and value != int(value):
                return None
        elif not any(value == each and isinstance(value, bool) == isinstance(each, bool) for each in values):
            return None
        found[name] = value
    return found
