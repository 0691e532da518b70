"""SQuAD's nested JSON, versions 1 and 2, as flat rows of id, title, question, context and answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shared.errors import DataError
from shared.sources.stored import StoredRows, splits_of, table_files
from shared.sources.tables import read_json


def read_squad(place: Path) -> StoredRows | None:
    """Return flat rows of a file in SQuAD's nested form, or of a folder of such files; None for anything else."""
    files = table_files(place) if place.exists() else []
    if not files or {file.suffix.lower() for file in files} != {".json"}:
        return None
    nested = {file: squad_rows(file, read_json(file)) for file in files}
    if not any(nested.values()):
        return None
    stored = StoredRows()
    split_of = splits_of(place, files)
    for file, rows in nested.items():
        if rows is None:
            raise DataError(f"{place}: {file.name} is not in SQuAD's form, as the others are. Move it away.")
        stored.splits.setdefault(split_of[file] or "train", []).extend(rows)
    if place.is_dir():
        told = "; ".join(
            f"{split_of[file] or 'train'} from {file.name} ({len(nested[file] or ()):,})" for file in files
        )
        stored.notes.append(f"splits: {told}")
    return stored


def squad_rows(file: Path, content: Any) -> list[dict[str, Any]] | None:
    """Return flat rows of what a file in SQuAD's nested form holds; None where it is something else.

    Raises:
        DataError: it is nearly of that form.
    """
    articles = content.get("data") if isinstance(content, dict) else None
    if not isinstance(articles, list) or not any(isinstance(a, dict) and "paragraphs" in a for a in articles):
        return None
    try:
        return list(_flat(articles))
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{file} has `data` but is not in SQuAD's form ({error!r}). Expected data[].paragraphs[] with context and "
            "qas[] of id, question and answers[] of text and answer_start."
        ) from error


def _flat(articles: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for article in articles:
        for paragraph in article["paragraphs"]:
            for asked in paragraph["qas"]:
                answers = [] if asked.get("is_impossible") else asked["answers"]
                yield {
                    "id": asked.get("id"),
                    "title": article.get("title"),
                    "question": asked["question"],
                    "context": paragraph["context"],
                    "answers": {
                        "text": [answer["text"] for answer in answers],
                        "answer_start": [answer["answer_start"] for answer in answers],
                    },
                }
