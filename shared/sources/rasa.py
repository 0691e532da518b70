"""Rasa's NLU training data: YAML with intents and their examples, in which entities are marked."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from shared.errors import DataError, shown
from shared.sources.stored import StoredRows, splits_of, table_files
from shared.sources.tables import Row

_BLOCKS = ("intent", "synonym", "lookup", "regex")
RASA_SUFFIXES = (".yml", ".yaml")
_RASA_ENTITY = re.compile(
    r"\[(?P<text>[^\[\]]{1,500})\]"  # [text], then (entity), {"entity": …} or [{"entity": …}, …]; bounded, so that
    r"(?:\((?P<name>[^()]{1,200})\)|"  # no text costs much
    r"(?P<said>\{[^{}]{1,500}\}|\[\s{0,9}\{[^\[\]]{1,1000}\}\s{0,9}\]))"
)


def is_rasa(place: Path) -> bool:
    """Whether a file is YAML, or a folder has YAML and no table."""
    return bool(_rasa_files(place)) and not (place.is_dir() and table_files(place))


def has_examples(file: Path) -> bool:
    """Whether a file has a section with examples; stories, rules and domains have none."""
    try:
        return any(line.startswith(b"nlu:") for line in file.read_bytes().splitlines())
    except OSError:
        return True  # whoever reads it will say why it cannot be read


def read_rasa(place: Path) -> StoredRows:
    """Return rows of `text`, `label` and `entities` of Rasa's NLU training data: a file, or all YAML files in a folder.

    Scalars are read as text, so that `yes`, `no`, `on`, `off` and numbers are the words that they are in YAML 1.2.
    Rows without a marked entity have no `entities`. Synonyms and lookups are kept beside the rows; regexes are not
    used, and named. Stories, rules and domains are ignored; files called after splits are these, if all that have
    examples are. Source: https://rasa.com/docs/rasa/nlu-training-data/.

    Raises:
        DataError: a file is not YAML or not in Rasa's form, or there is no intent at all.
    """
    stored = StoredRows()
    by_file: dict[Path, list[Row]] = {}
    for file in _rasa_files(place):
        rows = list(_rasa_examples(file, stored))
        if rows:
            by_file[file] = rows
    if not by_file and stored.left_out:
        raise DataError(f"{place}: no example begins with a dash, as `- hello` does. {stored.left_out[0][1]}.")
    if not by_file:
        raise DataError(f"{place} holds no `nlu:` section with intents. Expected Rasa's NLU training data.")
    split_of = splits_of(place, list(by_file))
    for file, rows in by_file.items():
        stored.splits.setdefault(split_of[file] or "train", []).extend(rows)
    return stored


def without_entities(text: str) -> str:
    """Return an example as a person would have written it.

    >>> without_entities('from [Paris](city) to [the big apple]{"entity": "city", "value": "NYC"} [now]')
    'from Paris to the big apple [now]'
    """
    return _RASA_ENTITY.sub(lambda found: found["text"], text)


def marked_entities(text: str) -> tuple[str, list[dict[str, Any]], list[str]]:
    """Return an example without its marks, what was marked in it, and the marks that cannot be read.

    A mark is as in Rasa: `[Paris](city)`, `[Paris](city:PAR)`, `[Paris]{"entity": "city", "role": "from"}`, or a list
    of such objects. Source: https://rasa.com/docs/rasa/nlu-training-data/#entities.

    >>> marked_entities("to [Oslo](city:OSL)")
    ('to Oslo', [{'start': 3, 'end': 7, 'entity': 'city', 'value': 'OSL'}], [])
    """
    plain, marks, unread, last = "", [], [], 0
    for found in _RASA_ENTITY.finditer(text):
        plain += text[last : found.start()]
        last = found.end()
        place = {"start": len(plain), "end": len(plain) + len(found["text"])}
        plain += found["text"]
        if found["name"] is not None:
            entity, _, value = found["name"].partition(":")
            said: Any = [{"entity": entity.strip(), **({"value": value.strip()} if value.strip() else {})}]
        else:
            try:
                said = json.loads(found["said"])
            except ValueError:
                said = None
        said = said if isinstance(said, list) else [said]
        if all(isinstance(each, dict) and isinstance(each.get("entity"), str) for each in said):
            names = ("entity", "value", "role", "group")
            marks += [{**place, **{name: each[name] for name in names if each.get(name) is not None}} for each in said]
        else:
            unread.append(found[0])
    return plain + text[last:], marks, unread


def _rasa_files(place: Path) -> list[Path]:
    if place.is_file():
        return [place] if place.suffix.lower() in RASA_SUFFIXES else []
    return table_files(place, RASA_SUFFIXES)


def _rasa_examples(file: Path, stored: StoredRows) -> Iterator[Row]:
    """Yield the examples; lines without a dash and marks that cannot be read are left out."""
    try:
        content = yaml.load(file.read_bytes(), Loader=yaml.BaseLoader)  # noqa: S506 it makes nothing but texts, lists and mappings
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise DataError(f"{file} cannot be read as YAML: {_one_line(error)}") from error
    blocks = content.get("nlu") if isinstance(content, dict) else None
    if not blocks:
        return
    if not isinstance(blocks, list):
        raise DataError(f"{file}: `nlu` must be a list of blocks such as `- intent: greet`.")
    without_dash: list[str] = []
    regexes: list[str] = []
    for block in blocks:
        kind = next((kind for kind in _BLOCKS if kind in block), None) if isinstance(block, dict) else None
        if kind is None:
            continue
        if not isinstance(block[kind], str):
            what = "an intent" if kind == "intent" else f"a {kind}"
            raise DataError(f"{file}: {what} is {shown(block[kind])}; expected its name.")
        name = block[kind].strip()
        if kind == "regex":
            regexes.append(name)
            continue
        examples = _examples_of(block.get("examples") or "", file, name, without_dash)
        if kind == "intent":
            yield from (_row(text, name, file, stored.left_out) for text in examples)
        elif kind == "synonym":
            stored.synonyms |= dict.fromkeys(examples, name)
        else:
            stored.lookups.setdefault(name, []).extend(examples)
    if regexes:
        stored.notes.append(f"{file.name}: regexes are not used: {', '.join(regexes)}")
    stored.left_out += [("lines without a dash", f"{file.name}: {line!r} has no dash") for line in without_dash]


def _row(text: str, intent: str, file: Path, left_out: list[tuple[str, str]]) -> Row:
    plain, marks, unread = marked_entities(text)
    left_out += [("entities whose marks cannot be read", f"{file.name}: {mark!r}") for mark in unread]
    return {"text": plain, "label": intent, **({"entities": marks} if marks else {})}


def _examples_of(examples: Any, file: Path, intent: str, without_dash: list[str]) -> Iterator[str]:
    """Yield the examples of an intent: lines that begin with a dash, or a list of texts or of {text: …}."""
    if isinstance(examples, list):
        for entry in examples:
            text = entry.get("text") if isinstance(entry, dict) else entry
            if not isinstance(text, str):
                raise DataError(f"{file}: an example of {intent!r} has no `text`: {shown(entry)}.")
            yield from (line.strip().removeprefix("-").strip() for line in text.splitlines() if line.strip())
        return
    if not isinstance(examples, str):
        raise DataError(f"{file}: the examples of {intent!r} must be a text (`examples: |`) with a `- ` before each.")
    for line in filter(None, map(str.strip, examples.splitlines())):
        if line.startswith("-"):
            yield line.removeprefix("-").strip()
        else:
            without_dash.append(line)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
