"""Finding passages: a question's words, the BM25 index they are looked up in, and the re-ranker's second opinion.

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

As built, recall@1 / @5 / @20, each text a document: English 0.815 / 0.947 / 0.973 (1,984 questions that nothing was
chosen on), French 0.716 / 0.880 / 0.930 (the 3,833 above). With all texts of one title in one document, cut into
passages, where a hit is a passage that holds the whole answer: 0.811 / 0.944 / 0.973 and 0.716 / 0.881 / 0.930.

A sentence encoder alone sorts worse than BM25; both together sort better. recall@1 / @5 of the best 20 by BM25, each
text a document, with all-MiniLM-L6-v2 in int8, an English encoder (SQLite 3.40.1, ONNX Runtime 1.32.0, 2026-11-24):

    | sorted by | English (n = 1,984) | French (n = 1,917) |
    |---|---|---|
    | BM25 | 0.815 / 0.947 | 0.720 / 0.874 |
    | cosine | 0.693 / 0.914 | 0.405 / 0.749 |
    | cosine + 0.5 x BM25 | 0.845 / 0.955 | 0.709 / 0.881 |
    | cosine + BM25: this one | 0.844 / 0.956 | 0.721 / 0.881 |
    | cosine + 2 x BM25 | 0.832 / 0.954 | 0.721 / 0.881 |

On as many other questions, on which nothing was chosen, it took English from 0.798 / 0.938 to 0.821 / 0.955 and French
from 0.711 / 0.885 to 0.722 / 0.890. BM25 counts as a share of the best passage's.
"""

from __future__ import annotations

import json
import re
import sqlite3
import threading
import unicodedata
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nlp.embedding.predictor import EmbeddingPredictor
from nlp.knowledge.passages import Section
from shared.bundle.read import Bundle
from shared.runtime.protocol import Runtime

MAX_WORDS = 64
"""Words of a question that are searched; the longest of the 11,000 questions tried has 40."""
MAX_CHARS = 4000
MAX_CANDIDATES = 1000
"""Passages that are ranked; a handful of them are read."""
SAME_SHARE = 0.9
"""Two passages that share this much of their words count as one (Jaccard)."""
RERANKED = 20
"""A re-ranker sees at least so many passages: recall@20 by BM25 is 0.97 in English and 0.93 in French."""
MAX_REMEMBERED = 10_000
"""Embeddings of passages that are kept, 15 MB at 384 numbers each: a passage takes 10 ms to embed, a question one."""

_WORD = re.compile(r"\w+")
_ENGLISH, _FRENCH = (
    frozenset(Path(__file__).with_name("stop_words").joinpath(f"{language}.txt").read_text("utf-8").split())
    for language in ("english", "french")
)

_ADD = "INSERT INTO passages (document, title, path, headings, text, start, end) VALUES (?, ?, ?, ?, ?, ?, ?)"
# The index holds no text of its own; FTS5 has to be told what to forget (its manual, section 4.4.3).
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
    """The document's id."""
    title: str
    headings: tuple[str, ...]
    """Above the passage, from the outermost to the nearest, without the document's title."""
    text: str
    start: int
    end: int
    """In the document's plain text: `text(document)[start:end] == text`."""
    score: float
    """Higher is better: BM25, or what `reranked` makes of it. Comparable within one search only; not a probability."""


def words_of(question: str) -> list[str]:
    """Return the words to search for, each once and in order; function words only if there are no others.

    Stop words are those of the language that more words belong to: French "comment" (how) is none in English.

    >>> words_of("How do I reset my password?"), words_of("Comment réinitialiser mon mot de passe ?")
    (['reset', 'password'], ['réinitialiser', 'mot', 'passe'])
    """
    text = unicodedata.normalize("NFC", question[:MAX_CHARS].replace("’", "'")).lower()
    words = list(dict.fromkeys(_WORD.findall(text)))
    english, french = (sum(word in each for word in words) for each in (_ENGLISH, _FRENCH))
    stopped = _ENGLISH & _FRENCH
    if english != french:
        stopped = _ENGLISH if english > french else _FRENCH
    return ([word for word in words if word not in stopped] or words)[:MAX_WORDS]


def match_expression(question: str) -> str | None:
    """Return FTS5's search expression for a question; None if it has no words.

    >>> match_expression('serve" OR NEAR(*')
    '"serve" OR "near"'
    """
    return " OR ".join(f'"{word}"' for word in words_of(question)) or None


def add(connection: sqlite3.Connection, document: int, title: str, text: str, passages: Sequence[Section]) -> None:
    """Put a document's passages into the index, within the caller's transaction."""
    connection.executemany(_ADD, (_row(document, title, text, passage) for passage in passages))
    for statement in _INDEX:
        connection.execute(statement, (document,))


def remove(connection: sqlite3.Connection, document: int) -> None:
    """Take a document's passages out of the index, within the caller's transaction."""
    for statement in _FORGET:
        connection.execute(statement, (document,))
    connection.execute("DELETE FROM passages WHERE document = ?", (document,))


def ranked(connection: sqlite3.Connection, expression: str) -> Iterator[Passage]:
    """Return passages with a word of the expression, best first, within the caller's transaction."""
    found = connection.execute(_RANK, {"words": expression, "limit": MAX_CANDIDATES}).fetchall()
    for key, score in found:
        name, title, path, text, start, end = connection.execute(_READ, (key,)).fetchone()
        yield Passage(name, title, tuple(json.loads(path)), text, start, end, score)


def distinct(passages: Iterable[Passage]) -> Iterator[Passage]:
    """Return the passages without those that say nearly the same as an earlier one: boilerplate, copies, versions."""
    taken: list[frozenset[str]] = []
    for passage in passages:
        words = frozenset(_WORD.findall(passage.text.casefold()))
        if not any(_are_the_same(words, each) for each in taken):
            taken.append(words)
            yield passage


class SentenceReranker:
    """Scores passages by the cosine of their embedding and the question's; remembers the embeddings of passages.

    Args:
        bundle: one for the task embedding, as `percept import-encoder` makes it.
        runtime: computes it.

    Raises:
        BundleError: the bundle is for another task.
    """

    def __init__(self, bundle: Bundle, runtime: Runtime) -> None:
        self.predictor = EmbeddingPredictor(bundle, runtime)
        self._remembered: OrderedDict[str, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def scores(self, query: str, texts: Sequence[str]) -> np.ndarray:
        """Return float32 [len(texts)], -1 to 1."""
        with self._lock:
            known = {text: self._remembered[text] for text in texts if text in self._remembered}
        fresh = [text for text in dict.fromkeys(texts) if text not in known]
        query = query.encode("utf-8", "replace").decode()  # half a surrogate pair is no reason to find nothing
        question, *rows = self.predictor.embed([query, *fresh])
        known |= dict(zip(fresh, rows, strict=True))
        with self._lock:
            for text in dict.fromkeys(texts):
                self._remembered[text] = known[text]
                self._remembered.move_to_end(text)
            while len(self._remembered) > MAX_REMEMBERED:
                self._remembered.popitem(last=False)
        if not texts:
            return np.empty(0, dtype=np.float32)
        scores: np.ndarray = np.stack([known[text] for text in texts]) @ question  # [len(texts)]
        return scores


def reranked(reranker: SentenceReranker, query: str, passages: Sequence[Passage]) -> list[Passage]:
    """Return the passages with new scores, -1 to 2, best first: the re-ranker's plus the share of the best BM25.

    The re-ranker reads each passage with its title and headings above it. Equal scores keep BM25's order.
    """
    texts = ["\n".join((passage.title, *passage.headings, passage.text)) for passage in passages]
    scores = np.asarray(reranker.scores(query, texts), dtype=np.float64)
    best = max((passage.score for passage in passages), default=0.0)
    shares = [passage.score / best if best > 0 else 0.0 for passage in passages]
    judged = [
        replace(passage, score=float(score) + share)
        for passage, score, share in zip(passages, scores, shares, strict=True)
    ]
    return sorted(judged, key=lambda passage: passage.score, reverse=True)


def _row(document: int, title: str, text: str, passage: Section) -> tuple[int, str, str, str, str, int, int]:
    headings = passage.headings[1:] if passage.headings[:1] == (title,) else passage.headings
    path = json.dumps(headings, ensure_ascii=False)
    return document, title, path, " ".join(headings), text[passage.start : passage.end], passage.start, passage.end


def _are_the_same(words: frozenset[str], others: frozenset[str]) -> bool:
    smaller, larger = sorted((len(words), len(others)))
    return smaller >= SAME_SHARE * larger and len(words & others) >= SAME_SHARE * len(words | others)
