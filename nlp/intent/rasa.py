"""Rasa's NLU training data (YAML): intents with their examples, entity marks taken out.

Source: https://rasa.com/docs/rasa/nlu-training-data/. Lookups, synonyms, regexes, stories, rules and domains are no
examples and are passed over. Neighbour: `sources` reads all other forms.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from shared.errors import DataError

SUFFIXES = (".yml", ".yaml")
TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet")
_ENTITY = re.compile(
    r"\[(?P<text>[^\]]+?)\]"  # [text], then (entity), {"entity": …} or [{"entity": …}, …]
    r"(?:\([^)]+?\)|\{[^}]+?\}|\[\s*\{.*?\}\s*\])"
)


def is_rasa(place: Path) -> bool:
    """Whether a file is YAML, or a folder holds YAML and no table."""
    has_table = place.is_dir() and any(file.suffix.lower() in TABLES for file in place.rglob("*"))
    return bool(_files(place)) and not has_table


def read_rasa(place: Path) -> list[dict[str, str]]:
    """Return rows of `text` and `label` of a file, or of all YAML files in a folder.

    Raises:
        DataError: a file is no YAML or not in Rasa's form, or there is no intent at all.
    """
    rows = [row for file in _files(place) for row in _rows(file)]
    if not rows:
        raise DataError(f"{place} holds no `nlu:` section with intents. Expected Rasa's NLU training data.")
    return rows


def without_entities(text: str) -> str:
    """Return an example as a person would have written it.

    >>> without_entities('from [Paris](city) to [the big apple]{"entity": "city", "value": "NYC"} [now]')
    'from Paris to the big apple [now]'
    """
    return _ENTITY.sub(lambda found: found["text"], text)


def _files(place: Path) -> list[Path]:
    if place.is_file():
        return [place] if place.suffix.lower() in SUFFIXES else []
    return sorted(file for file in place.rglob("*") if file.suffix.lower() in SUFFIXES)


def _rows(file: Path) -> Iterator[dict[str, str]]:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"{file} cannot be read as YAML: {error}") from error
    blocks = content.get("nlu") if isinstance(content, dict) else None
    if blocks is None:
        return
    if not isinstance(blocks, list):
        raise DataError(f"{file}: `nlu` must be a list of blocks such as `- intent: greet`.")
    for block in blocks:
        if not isinstance(block, dict) or "intent" not in block:
            continue
        for text in _examples(block.get("examples"), file, str(block["intent"])):
            yield {"text": without_entities(text), "label": str(block["intent"])}


def _examples(examples: Any, file: Path, intent: str) -> Iterator[str]:
    """Yield the examples of one intent: lines of a text that begin with a dash, or a list of {text: …}."""
    if examples is None:
        return
    if isinstance(examples, list):
        for entry in examples:
            text = entry.get("text") if isinstance(entry, dict) else entry
            yield from _lines(str(text))
        return
    if not isinstance(examples, str):
        raise DataError(f"{file}: the examples of {intent!r} must be a text (`examples: |`) with a `- ` before each.")
    yield from _lines(examples)


def _lines(text: str) -> Iterator[str]:
    for line in text.splitlines():
        stripped = line.strip()
        if stripped:
            yield stripped.removeprefix("-").strip()
