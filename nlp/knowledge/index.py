"""The search index: BM25 over title, headings and text, twice, by word stems and by the words as they stand.

Chosen on questions with the one passage that each was written for; recall@1 / recall@5, BM25 of FTS5 with titles:

    | words searched | index | English | French |
    |---|---|---|---|
    | all | unicode61 | 0.780 / 0.914 | 0.688 / 0.856 |
    | without stop words | unicode61 | 0.788 / 0.925 | 0.695 / 0.861 |
    | without stop words | porter | 0.799 / 0.938 | 0.705 / 0.872 |
    | without stop words | Snowball, by language | 0.802 / 0.942 | 0.714 / 0.876 |
    | without stop words | porter | 0.800 / 0.935 | 0.705 / 0.872 |
    | without stop words | porter and unicode61, half each | 0.806 / 0.936 | 0.715 / 0.877 |
    | without stop words | porter 0.7, unicode61 0.3: this one | 0.806 / 0.939 | 0.714 / 0.877 |

English: SQuADShifts New Wikipedia, 1,581 passages, 1,985 questions (the last three lines: another 1,985). French:
PIAF, 761 passages, 3,833 questions. SQLite 3.40.1, Python 3.11.7, 2026-11-24. Indexing titles gave 0.2 to 0.5 points
of recall@1 in English and 1.7 in French. Without stop words a search takes a tenth of the time. Phrases of
neighbouring words gained nothing. The English stemmer does French good too: it takes the s of the plural off.

As built, recall@1 / @5 / @20, each text a document: English 0.815 / 0.947 / 0.973 (1,984 questions that nothing was
chosen on), French 0.716 / 0.880 / 0.930 (the 3,833 above). All texts of one title in one document, cut by `chunks`;
found is a passage that holds the whole answer: 0.811 / 0.944 / 0.973 and 0.716 / 0.881 / 0.930.

Neighbours: `schema` makes the tables, `queries` the expressions, `store` asks.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nlp.knowledge.chunks import Chunk

MAX_CANDIDATES = 1000
"""Passages that are ranked; what is read is a handful."""
_ADD = """INSERT INTO passages (document, title, path, headings, text, start, end) VALUES (?, ?, ?, ?, ?, ?, ?)"""
# The content lies in `passages`; FTS5 asks to be told what it forgets (its manual, section 4.4.3).
_INDEX = [
    f"INSERT INTO {table} (rowid, title, headings, text) "  # noqa: S608 our own names
    "SELECT key, title, headings, text FROM passages WHERE document = ?"
    for table in ("stems", "forms")
]
_FORGET = [
    f"INSERT INTO {table} ({table}, rowid, title, headings, text) "  # noqa: S608
    "SELECT 'delete', key, title, headings, text FROM passages WHERE document = ?"
    for table in ("stems", "forms")
]
_RANK = """
SELECT key, sum(score) AS total FROM (
    SELECT rowid AS key, -0.7 * bm25(stems, 2.0, 2.0, 1.0) AS score FROM stems WHERE stems MATCH :words
    UNION ALL
    SELECT rowid AS key, -0.3 * bm25(forms, 2.0, 2.0, 1.0) AS score FROM forms WHERE forms MATCH :words
) GROUP BY key ORDER BY total DESC, key LIMIT :limit
"""
_READ = """
SELECT documents.id, documents.title, passages.path, passages.text, passages.start, passages.end
FROM passages JOIN documents ON documents.key = passages.document WHERE passages.key = ?
"""


@dataclass(frozen=True)
class Passage:
    """A piece of a document that was found."""

    document: str
    """Its id."""
    title: str
    headings: tuple[str, ...]
    """Above the passage, from the outermost to the nearest, without the document's title."""
    text: str
    start: int
    end: int
    """In the document's plain text: `text(document)[start:end] == text`."""
    score: float
    """Higher is better: BM25, or what `ranking` makes of it. Comparable within one search alone; no probability."""


def add(connection: sqlite3.Connection, document: int, title: str, text: str, chunks: Sequence[Chunk]) -> None:
    """Put a document's passages into the index, within the caller's transaction."""
    connection.executemany(_ADD, (_row(document, title, text, chunk) for chunk in chunks))
    for statement in _INDEX:
        connection.execute(statement, (document,))


def remove(connection: sqlite3.Connection, document: int) -> None:
    """Take a document's passages out of the index, within the caller's transaction."""
    for statement in _FORGET:
        connection.execute(statement, (document,))
    connection.execute("DELETE FROM passages WHERE document = ?", (document,))


def ranked(connection: sqlite3.Connection, expression: str) -> Iterator[Passage]:
    """Return passages that hold a word of the expression, the best first, within the caller's transaction."""
    found = connection.execute(_RANK, {"words": expression, "limit": MAX_CANDIDATES}).fetchall()
    for key, score in found:
        name, title, path, text, start, end = connection.execute(_READ, (key,)).fetchone()
        yield Passage(name, title, tuple(json.loads(path)), text, start, end, score)


def _row(document: int, title: str, text: str, chunk: Chunk) -> tuple[int, str, str, str, str, int, int]:
    headings = chunk.headings[1:] if chunk.headings[:1] == (title,) else chunk.headings
    path = json.dumps(headings, ensure_ascii=False)
    return document, title, path, " ".join(headings), text[chunk.start : chunk.end], chunk.start, chunk.end
