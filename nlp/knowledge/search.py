"""Finding passages: by a question's words in a BM25 index, and by what it means if there is a sentence encoder.

BM25 runs over title, headings and text, twice: by word stems and by the words as written. Chosen on questions with the
one passage that each was written for; recall@1 / recall@5, BM25 of FTS5 with titles:

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
neighbouring words gained nothing. The English stemmer helps French too: it removes the plural s.

With the columns of then, without an encoder, recall@1 / @5 / @20, each text a document: English 0.815 / 0.947 / 0.973
(1,984 questions that nothing was chosen on), French 0.716 / 0.880 / 0.930 (the 3,833 above).

A sentence encoder alone sorts worse than BM25; both together sort better, and find what shares no word with the
question: see `MEANING_WEIGHT`. A passage's embedding is made once, of its first words and what stands above it.
"""

from __future__ import annotations

import json
import math
import re
import sqlite3
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from nlp.embedding.predictor import EmbeddingPredictor
from nlp.knowledge.passages import Kind, Section, one_line
from shared.bundle.read import Bundle
from shared.runtime.protocol import Runtime

MAX_WORDS = 64
"""Words of a question that are searched; the longest of the 11,000 questions tried has 40."""
MAX_CHARS = 4000
MAX_CANDIDATES = 200
"""Passages that are ranked, by words and as many by meaning; a handful of them are read."""
MAX_COMPARED = 20_000
"""Passages whose embeddings are compared with each question's, 30 MB; of more, only those that share a word with it."""
SAME_SHARE = 0.9
"""Two passages that share this much of their words count as one (Jaccard)."""
KEY_CHARS = 300
"""Of a passage, headings and all, that its embedding is made of: about 70 tokens."""
MEANING_WEIGHT = 0.5
"""Of the cosine, beside BM25 as a share of what is attainable. recall@1 / @5 of 600 questions (SQuADShifts Wikipedia)
with 0, 0.25, 0.5, 0.75, 1: 0.798 / 0.943, 0.813 / 0.947, 0.818 / 0.955, 0.817 / 0.955, 0.800 / 0.957; by the cosine
alone 0.477 / 0.707. Of 300 French ones (PIAF; the encoder is English): 0.690 / 0.887 with 0, 0.680 / 0.867 with 0.5."""
QUESTION_WEIGHT = 1.3
"""Of the cosine of a question with its answer: of 40 paraphrases that share few words with theirs, the cosine alone
found 25 first, BM25 alone 12, both with 0.5 of the cosine 16."""
ATTAINED = 1.2
"""BM25 of a passage with a word, as a multiple of the word's weight."""
_SCALE = 127

_WORD = re.compile(r"\w+")
_ENGLISH, _FRENCH = (
    frozenset(Path(__file__).with_name("stop_words").joinpath(f"{language}.txt").read_text("utf-8").split())
    for language in ("english", "french")
)
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Burmese, Khmer
    "\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+"  # kana, ideographs
)
"""Writing without spaces: pairs of neighbouring characters stand for its words."""

_ADD = (
    "INSERT INTO passages (document, title, path, headings, text, start, end, kind, lead, pieces, page, cells, "
    "embedding) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_COLUMNS = "title, headings, lead, text, pieces"
# The index holds no text of its own; FTS5 has to be told what to forget (its manual, section 4.4.3).
_INDEX = [
    f"INSERT INTO {table} (rowid, {_COLUMNS}) SELECT key, {_COLUMNS} FROM passages WHERE document = ?"  # noqa: S608 our own names
    for table in ("stems", "forms")
]
_FORGET = [
    f"INSERT INTO {table} ({table}, rowid, {_COLUMNS}) "  # noqa: S608
    f"SELECT 'delete', key, {_COLUMNS} FROM passages WHERE document = ?"
    for table in ("stems", "forms")
]
_CHANGED = "UPDATE state SET changes = changes + 1"
_WEIGHTS = "2.0, 2.0, 2.0, 1.0, 1.0"
_RANK = f"""
SELECT key, sum(score) AS total FROM (
    SELECT rowid AS key, -0.7 * bm25(stems, {_WEIGHTS}) AS score FROM stems WHERE stems MATCH :words
    UNION ALL
    SELECT rowid AS key, -0.3 * bm25(forms, {_WEIGHTS}) AS score FROM forms WHERE forms MATCH :words
) GROUP BY key ORDER BY total DESC, key LIMIT :limit
"""  # noqa: S608
_READ = """
SELECT documents.id, documents.title, passages.path, passages.text, passages.start, passages.end, passages.kind,
    passages.lead, passages.page, passages.cells
FROM passages JOIN documents ON documents.key = passages.document WHERE passages.key = ?
"""


@dataclass(frozen=True)
class Passage:
    """A piece of a document that was found."""

    document: str
    """The document's id."""
    title: str
    headings: tuple[str, ...]
    """Above the passage, from the outermost to the nearest, without the document's title."""
    text: str
    start: int
    end: int
    """In the document's plain text: `text(document)[start:end] == text`."""
    score: float
    """Higher is better; comparable within one search only, and not a probability."""
    kind: Kind = "prose"
    lead: str = ""
    """The question that it answers, or the words that introduce it; they stand before it in the document."""
    page: int | None = None
    cells: tuple[tuple[str, int, int], ...] = ()
    """Of a row: the column's name with the start and end of the cell in `text`."""
    words: float = 0.0
    """How much of the query's words it has, rare ones counting more, 0 to 1: BM25 as a share of what is attainable."""
    meaning: float | None = None
    """Cosine of its embedding and the question's, -1 to 1; None without an encoder."""


def words_of(question: str) -> list[str]:
    """Return the words to search for, each once and in order; function words only if there are no others.

    Stop words are those of the language that more words belong to: French "comment" (how) is none in English. Writing
    without spaces is searched by pairs of neighbouring characters.

    >>> words_of("How do I reset my password?"), words_of("Comment réinitialiser mon mot de passe ?")
    (['reset', 'password'], ['réinitialiser', 'mot', 'passe'])
    >>> words_of("商店几点开门？")
    ['商店', '店几', '几点', '点开', '开门']
    """
    text = unicodedata.normalize("NFC", question[:MAX_CHARS].replace("’", "'")).lower()
    words = list(dict.fromkeys(_WORD.findall(_UNSPACED.sub(" ", text))))
    english, french = (sum(word in each for word in words) for each in (_ENGLISH, _FRENCH))
    stopped = _ENGLISH & _FRENCH
    if english != french:
        stopped = _ENGLISH if english > french else _FRENCH
    pairs = list(dict.fromkeys(pieces_of(text).split()))
    return ([*(word for word in words if word not in stopped), *pairs] or words)[:MAX_WORDS]


def pieces_of(text: str) -> str:
    """Return pairs of neighbouring characters of all writing without spaces, with spaces between.

    >>> pieces_of("The 商店开 is open")
    '商店 店开'
    """
    runs = _UNSPACED.findall(text)
    return " ".join(run[place : place + 2] for run in runs for place in range(max(1, len(run) - 1)))


def match_expression(question: str) -> str | None:
    """Return FTS5's search expression for a question; None if it has no words.

    >>> match_expression('serve" OR NEAR(*')
    '"serve" OR "near"'
    """
    return " OR ".join(f'"{word}"' for word in words_of(question)) or None


def add(
    connection: sqlite3.Connection,
    document: int,
    title: str,
    text: str,
    passages: Sequence[Section],
    embeddings: np.ndarray | None = None,
) -> None:
    """Put a document's passages into the index, within the caller's transaction.

    Args:
        embeddings: float [n, d] of the first n passages.
    """
    kept = packed(embeddings) if embeddings is not None else []
    rows = (
        (*_row(document, title, text, passage), kept[place] if place < len(kept) else None)
        for place, passage in enumerate(passages)
    )
    connection.executemany(_ADD, rows)
    for statement in _INDEX:
        connection.execute(statement, (document,))
    connection.execute(_CHANGED)


def remove(connection: sqlite3.Connection, document: int) -> None:
    """Take a document's passages out of the index, within the caller's transaction."""
    for statement in _FORGET:
        connection.execute(statement, (document,))
    connection.execute("DELETE FROM passages WHERE document = ?", (document,))
    connection.execute(_CHANGED)


def packed(embeddings: np.ndarray) -> list[bytes]:
    """Return each row of length 1 in 8 bits a number: cosines change by less than 0.01."""
    return [row.tobytes() for row in np.rint(embeddings * _SCALE).astype(np.int8)]


def unpacked(rows: Sequence[bytes]) -> np.ndarray:
    """Return float32 [N, d] of what `packed` made."""
    numbers = np.frombuffer(b"".join(rows), dtype=np.int8).reshape(len(rows), -1)
    return np.asarray(numbers.astype(np.float32) / _SCALE)


def key_text(title: str, text: str, passage: Section) -> str:
    """Return what a passage's embedding is made of: what says what it is about, and its beginning."""
    about = passage.headings or (title,)
    parts = (passage.lead,) if passage.kind == "answer" else (*about[-2:], passage.lead)
    own = text[passage.start : min(passage.end, passage.start + KEY_CHARS)]
    return one_line(". ".join((*filter(None, parts), own)), KEY_CHARS)


class SentenceEncoder:
    """Embeds questions and passages, so that those are near that mean nearly the same.

    Args:
        bundle: one for the task embedding, as `percept import-encoder` makes it.
        runtime: computes it.

    Raises:
        BundleError: the bundle is for another task.
    """

    def __init__(self, bundle: Bundle, runtime: Runtime) -> None:
        self.predictor = EmbeddingPredictor(bundle, runtime)
        self.name = f"{bundle.name} {bundle.version}"
        """What embeddings were made by; those of another one mean nothing beside them."""

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Return float32 [len(texts), d], rows of length 1."""
        # Half a surrogate pair is no reason to find nothing.
        return self.predictor.embed([text.encode("utf-8", "replace").decode() for text in texts])


@dataclass(frozen=True, eq=False)
class Embeddings:
    """All passages' embeddings at one state of the file."""

    changes: int
    keys: np.ndarray
    """int64 [N]."""
    rows: np.ndarray | None
    """float32 [N, d]; None of more than `MAX_COMPARED` passages."""


def all_embeddings(connection: sqlite3.Connection, known: Embeddings | None) -> Embeddings:
    """Return what is kept, or `known` if that is still right."""
    (changes,) = connection.execute("SELECT changes FROM state").fetchone()
    if known is not None and known.changes == changes:
        return known
    found = connection.execute(
        "SELECT key, embedding FROM passages WHERE embedding IS NOT NULL LIMIT ?", (MAX_COMPARED + 1,)
    ).fetchall()
    if len(found) > MAX_COMPARED:
        return Embeddings(changes, np.empty(0, dtype=np.int64), None)
    rows = unpacked([row for _, row in found]) if found else np.empty((0, 0), dtype=np.float32)
    return Embeddings(changes, np.array([key for key, _ in found], dtype=np.int64), rows)


def ranked(
    connection: sqlite3.Connection, query: str, question: np.ndarray | None = None, kept: Embeddings | None = None
) -> list[Passage]:
    """Return passages that share words or meaning with a query, best first, within the caller's transaction.

    Args:
        query: its words are searched.
        question: its embedding, float32 [d]; None without an encoder.
        kept: embeddings of all passages.
    """
    expression = match_expression(query)
    by_words: dict[int, float] = {}
    if expression is not None:
        found = connection.execute(_RANK, {"words": expression, "limit": MAX_CANDIDATES})
        by_words = dict(found.fetchall())
    by_meaning: dict[int, float] = {}
    if question is not None:
        by_meaning = _compared(connection, question, kept, list(by_words))
    attainable = _attainable(connection, query) if by_words else 1.0
    shares = {key: min(1.0, by_words.get(key, 0.0) / attainable) for key in by_words | by_meaning}
    rough = {key: shares[key] + QUESTION_WEIGHT * by_meaning.get(key, 0.0) for key in shares}
    passages = []
    for key in sorted(rough, key=lambda key: (-rough[key], key))[:MAX_CANDIDATES]:
        name, title, path, text, start, end, kind, lead, page, cells = connection.execute(_READ, (key,)).fetchone()
        meaning = by_meaning.get(key, 0.0)
        fit = shares[key] + MEANING_WEIGHT * meaning
        passages.append(
            Passage(
                document=name,
                title=title,
                headings=tuple(json.loads(path)),
                text=text,
                start=start,
                end=end,
                score=max(fit, QUESTION_WEIGHT * meaning) if kind == "answer" else fit,
                kind=cast("Kind", kind),
                lead=lead,
                page=page,
                cells=tuple((name, start, end) for name, start, end in json.loads(cells)),
                words=shares[key],
                meaning=meaning if question is not None else None,
            )
        )
    return sorted(passages, key=lambda passage: -passage.score)


def _attainable(connection: sqlite3.Connection, query: str) -> float:
    """Return about the BM25 of a passage that has each of the query's words; words that no passage has count too.

    Source: SQLite's FTS5, section 5.1.1, whose weight of a word this is.
    """
    words = {_without_accents(word) for word in words_of(query)}
    marks = ", ".join("?" * len(words))
    known = dict(connection.execute(f"SELECT term, doc FROM vocabulary WHERE term IN ({marks})", list(words)))  # noqa: S608
    (count,) = connection.execute("SELECT count(*) FROM passages").fetchone()
    weights = [math.log(max(1.0 + 1e-6, (count - known.get(w, 0) + 0.5) / (known.get(w, 0) + 0.5))) for w in words]
    return ATTAINED * sum(weights)


def _without_accents(word: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFD", word) if not unicodedata.combining(c))


def _compared(
    connection: sqlite3.Connection, question: np.ndarray, kept: Embeddings | None, keys: Sequence[int]
) -> dict[int, float]:
    """Return key -> cosine, of the nearest passages and of those with the keys."""
    if kept is None or kept.rows is None:
        marks = ", ".join("?" * len(keys))
        found = connection.execute(
            f"SELECT key, embedding FROM passages WHERE embedding IS NOT NULL AND key IN ({marks})",  # noqa: S608
            list(keys),
        ).fetchall()
        kept = (
            Embeddings(0, np.array([key for key, _ in found]), unpacked([row for _, row in found])) if found else None
        )
    if kept is None or kept.rows is None or not len(kept.keys) or kept.rows.shape[1] != len(question):
        return {}
    cosines = kept.rows @ question
    chosen = set(np.argpartition(-cosines, min(MAX_CANDIDATES, len(cosines)) - 1)[:MAX_CANDIDATES].tolist())
    chosen |= set(np.flatnonzero(np.isin(kept.keys, keys)).tolist())
    return {int(kept.keys[place]): float(cosines[place]) for place in chosen}


def distinct(passages: Iterable[Passage], limit: int) -> list[Passage]:
    """Return the first passages that do not say nearly the same as an earlier one: boilerplate, copies, versions."""
    taken: list[frozenset[str]] = []
    found = []
    for passage in passages:
        words = frozenset(_WORD.findall(f"{passage.lead} {passage.text}".casefold()))
        if not any(_are_the_same(words, each) for each in taken):
            taken.append(words)
            found.append(passage)
            if len(found) == limit:
                break
    return found


def _row(document: int, title: str, text: str, passage: Section) -> tuple[object, ...]:
    headings = passage.headings[1:] if passage.headings[:1] == (title,) else passage.headings
    path = json.dumps(headings, ensure_ascii=False)
    own = text[passage.start : passage.end]
    pieces = pieces_of(" ".join((title, *headings, passage.lead, own)))
    lead = passage.lead
    place = (passage.start, passage.end)
    cells = json.dumps(passage.cells, ensure_ascii=False)
    return document, title, path, " ".join(headings), own, *place, passage.kind, lead, pieces, passage.page, cells


def _are_the_same(words: frozenset[str], others: frozenset[str]) -> bool:
    smaller, larger = sorted((len(words), len(others)))
    return smaller >= SAME_SHARE * larger and len(words & others) >= SAME_SHARE * len(words | others)
