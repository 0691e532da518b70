"""The knowledge base: documents in one SQLite file, found again by what they say.

Several processes may have one file open, and several threads one `KnowledgeBase`. A document is there whole or not at
all, however a process ends.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np

from nlp.knowledge import documents, search
from nlp.knowledge.database import Database
from nlp.knowledge.passages import Section, split_passages
from nlp.knowledge.pdf import FOR_OPERATORS, PdfLimits
from nlp.knowledge.search import Embeddings, Passage, SentenceEncoder
from shared.errors import ConfigError, InputError, NotFound, ServiceError, TooLarge
from shared.project import PROJECT_ROOT
from shared.serving.settings import Settings

_log = logging.getLogger(__name__)

MAX_DOCUMENTS = 10_000
MAX_BYTES = 10 << 20
"""Of one document's file."""
MAX_PASSAGES = 20_000
"""Of one document; 10 MB of running text have about 12,000."""
MAX_HEADING_CHARS = 2_000_000
"""Of the headings above all passages of one document: each passage has its own, and 79 KB of bookmarks were 162 MB."""
MAX_LIMIT = 100
MAX_EMBEDDED_CHARS = 2_000_000
"""Of what embeddings are made of, when a document is put: about 10 ms for `search.KEY_CHARS`. The rest of a longer one
is found by its words, and embedded at the next start."""
_READER_VERSION = 3
"""Goes up when documents are read, cut or indexed differently: `put` and `add_folder` then redo unchanged files."""
OWN_FOLDER = "percept"
"""What the ids of this project's own documentation begin with."""
Change = Literal["new", "replaced", "none"]


@dataclass(frozen=True)
class DocumentInfo:
    """What is known of a document."""

    id: str
    title: str
    media_type: str
    passages: int
    characters: int
    """Of its plain text."""
    sha256: str
    """Of the file as it came."""
    updated: str
    """ISO 8601, UTC: when it last changed here."""


_FIELDS = "id, title, media_type, passages, characters, sha256, updated"
_INFO = f"SELECT {_FIELDS} FROM documents WHERE id = ?"  # noqa: S608 our own names
_UNCHANGED = f"{_INFO} AND fingerprint = ?"
_UNEMBEDDED = """
SELECT key, title, path, text, kind, lead FROM passages WHERE embedding IS NULL ORDER BY random() LIMIT 64
"""
_LIST = f"SELECT {_FIELDS} FROM documents ORDER BY id"  # noqa: S608
_INSERT = f"INSERT INTO documents ({_FIELDS}, fingerprint, text) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608


class KnowledgeBase:
    """Documents that can be put, replaced, removed and searched, in one file; a missing file is made, and its folder.

    Args:
        path: on a local disk: SQLite's write-ahead log needs memory that processes share.
        encoder: finds what means nearly the same; None to search by words alone.
        max_embedded_chars: of what the embeddings of one document are made of; its other passages are found by their
            words.
        max_documents: the limit of documents.
        max_bytes: the limit of one document's file.
        max_characters: the limit of one document's text.
        pdf_limits: what reading a PDF may take.

    Raises:
        ConfigError: the file cannot be opened, is not a knowledge base or is one of another version.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        encoder: SentenceEncoder | None = None,
        max_embedded_chars: int = MAX_EMBEDDED_CHARS,
        max_documents: int = MAX_DOCUMENTS,
        max_bytes: int = MAX_BYTES,
        max_characters: float = math.inf,
        pdf_limits: PdfLimits = FOR_OPERATORS,
    ) -> None:
        self.encoder = encoder
        self.max_embedded_chars = max_embedded_chars
        self.max_documents = max_documents
        self.max_bytes = max_bytes
        self.max_characters = max_characters
        self.pdf_limits = pdf_limits
        self._database = Database(Path(path))
        self._embeddings: Embeddings | None = None
        if encoder is not None:
            self._use_embeddings_of(encoder.name)

    def put(
        self,
        id: str,  # noqa: A002 the field's name
        content: bytes,
        *,
        media_type: str | None = None,
        title: str | None = None,
    ) -> tuple[DocumentInfo, bool]:
        """Add a document or replace the one of that id; return what is known of it and whether it is new.

        A document that is there already, with the same bytes, media type and title, stays untouched.

        Args:
            id: a relative path such as guides/serving.md, at most 200 characters.
            content: the file's bytes.
            media_type: Markdown, plain text, HTML or PDF, with or without a charset; None to go by the id.
            title: None for the document's own, or one made from the id.

        Raises:
            InputError: the id, the title or the document cannot be used.
            UnsupportedMedia: not a kind of document that is read here.
            TooLarge: too many bytes, characters, passages or documents.
            ServiceError: the disk is full, cannot be written to or is busy; nothing has changed.
        """
        info, change = self._put(id, content, media_type, title)
        return info, change == "new"

    def delete(self, id: str) -> None:  # noqa: A002
        """Remove a document.

        Raises:
            NotFound: there is none of that id.
            ServiceError: as `put`.
        """
        with self._database.transaction() as connection:
            found = connection.execute("SELECT key FROM documents WHERE id = ?", (documents.checked_id(id),)).fetchone()
            if found is None:
                raise _not_found(id)
            _remove(connection, found[0])

    def get(self, id: str) -> DocumentInfo:  # noqa: A002
        """Return what is known of a document, or raise NotFound."""
        return DocumentInfo(*self._one(_INFO, id))

    def text(self, id: str) -> str:  # noqa: A002
        """Return a document's whole plain text, in which passages have their places, or raise NotFound."""
        return str(self._one("SELECT text FROM documents WHERE id = ?", id)[0])

    def search(self, query: str, limit: int = 5) -> list[Passage]:
        """Return the passages that fit best, best first; without an encoder none if no word of the query is known.

        A passage that says nearly the same as a better one is left out.

        Args:
            query: any text. Its words count, not their order, and with an encoder its meaning.
            limit: the most passages to return, 1 to 100.

        Raises:
            InputError: the limit is out of range.
            ServiceError: the file cannot be read.
        """
        if not 1 <= limit <= MAX_LIMIT:
            raise InputError(f"limit is {limit}; it must be 1 to {MAX_LIMIT}.")
        question = self.encoder.embed([query])[0] if self.encoder else None
        with self._database.reading() as connection:
            if question is not None:
                self._embeddings = search.all_embeddings(connection, self._embeddings)
            found = search.ranked(connection, query, question, self._embeddings)
        return search.distinct(found, limit)

    def embed_missing(self) -> int:
        """Embed the passages that have no embedding, as after a change of the encoder; return how many.

        Raises:
            ServiceError: as `put`.
        """
        done = 0
        while self.encoder is not None:
            with self._database.reading() as connection:
                found = connection.execute(_UNEMBEDDED).fetchall()
            if not found:
                break
            keys = [
                search.key_text(title, text, Section(tuple(json.loads(path)), 0, len(text), kind, lead))
                for _, title, path, text, kind, lead in found
            ]
            rows = search.packed(self.encoder.embed(keys))
            with self._database.transaction() as connection:
                pairs = [(row, key) for row, (key, *_) in zip(rows, found, strict=True)]
                connection.executemany("UPDATE passages SET embedding = ? WHERE key = ?", pairs)
                connection.execute("UPDATE state SET changes = changes + 1")
            done += len(found)
        return done

    def add_folder(self, folder: Path) -> list[DocumentInfo]:
        """Put every document of a folder and return those that were new or changed; broken ones are logged and skipped.

        Ids are paths inside the folder. Documents whose files are gone stay. Several processes may do it at once.

        Raises:
            ConfigError: there is no such folder.
            ServiceError: as `put`.
        """
        if not folder.is_dir():
            raise ConfigError(
                f"{folder} is not a folder, so no documents can be read from it. Name a folder of documents."
            )
        changed = []
        for name, file in documents.documents_in(folder):
            try:
                with file.open("rb") as opened:
                    content = opened.read(self.max_bytes + 1)
                info, change = self._put(name, content, None, None)
            except (InputError, OSError) as error:
                _log.warning("%s was left out of the knowledge base: %s", name.encode(errors="replace").decode(), error)
                continue
            if change != "none":
                changed.append(info)
        return changed

    def list(self) -> list[DocumentInfo]:
        """Return what is known of every document, by id."""
        with self._database.reading() as connection:
            return [DocumentInfo(*row) for row in connection.execute(_LIST)]

    def close(self) -> None:
        """Close the file. What is running finishes first; later calls raise NotReady."""
        self._database.close()

    def _put(self, name: str, content: bytes, media_type: str | None, title: str | None) -> tuple[DocumentInfo, Change]:
        """Put a document; return what is known of it and what changed."""
        name, title = documents.checked_id(name), documents.checked_title(title)
        if len(content) > self.max_bytes:
            raise TooLarge(f"the document has {len(content)} bytes; the limit is {self.max_bytes}. Split it.")
        kind = documents.media_type_of(name, content, media_type)
        sha256 = hashlib.sha256(content).hexdigest()
        fingerprint = repr((sha256, kind, (media_type or "").lower(), title, _READER_VERSION))
        with self._database.reading() as connection:
            known = _unchanged(connection, name, fingerprint)
        if known:
            return known, "none"
        document = documents.read_document(name, content, media_type, self.pdf_limits)
        if len(document.text) > self.max_characters:
            raise TooLarge(
                f"the document has {len(document.text)} characters of text; the limit is {self.max_characters}. "
                "Split it."
            )
        passages = split_passages(document.text, document.sections)
        if len(passages) > MAX_PASSAGES:
            raise TooLarge(f"the document has {len(passages)} passages; the limit is {MAX_PASSAGES}. Split it.")
        headings = sum(len(heading) for passage in passages for heading in passage.headings)
        if headings > MAX_HEADING_CHARS:
            raise TooLarge(
                f"the headings above the document's passages have {headings} characters; the limit is "
                f"{MAX_HEADING_CHARS}. Split it."
            )
        info = DocumentInfo(
            id=name,
            title=title or document.title or documents.readable_title(name),
            media_type=kind,
            passages=len(passages),
            characters=len(document.text),
            sha256=sha256,
            updated=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        )
        embeddings = None
        if self.encoder is not None and passages:
            keys = [search.key_text(info.title, document.text, each) for each in passages]
            room = np.cumsum([len(key) for key in keys]) <= self.max_embedded_chars
            embeddings = self.encoder.embed(keys[: int(room.sum())])
        return self._write(info, fingerprint, document.text, passages, embeddings)

    def _write(
        self,
        info: DocumentInfo,
        fingerprint: str,
        text: str,
        passages: Sequence[Section],
        embeddings: np.ndarray | None,
    ) -> tuple[DocumentInfo, Change]:
        with self._database.transaction() as connection:
            known = _unchanged(connection, info.id, fingerprint)
            if known:  # another process was faster
                return known, "none"
            old = connection.execute("SELECT key FROM documents WHERE id = ?", (info.id,)).fetchone()
            if old:
                _remove(connection, old[0])
            elif connection.execute("SELECT count(*) FROM documents").fetchone()[0] >= self.max_documents:
                raise TooLarge(f"the knowledge base is full: {self.max_documents} documents. Remove some first.")
            cursor = connection.execute(_INSERT, (*astuple(info), fingerprint, text))
            search.add(connection, int(cursor.lastrowid or 0), info.title, text, passages, embeddings)
        return info, "replaced" if old else "new"

    def _use_embeddings_of(self, name: str) -> None:
        """Forget the embeddings of another encoder."""
        with self._database.reading() as connection:
            (kept,) = connection.execute("SELECT encoder FROM state").fetchone()
        if kept != name:
            with self._database.transaction() as connection:
                connection.execute("UPDATE passages SET embedding = NULL")
                connection.execute("UPDATE state SET encoder = ?, changes = changes + 1", (name,))

    def _one(self, statement: str, name: str) -> Any:
        with self._database.reading() as connection:
            found = connection.execute(statement, (documents.checked_id(name),)).fetchone()
        if found is None:
            raise _not_found(name)
        return found


def open_knowledge(settings: Settings, encoder: SentenceEncoder | None = None) -> KnowledgeBase:
    """Return the knowledge base of a service, with the documents that its settings name put into it.

    Every worker does this at its start; what is there already stays untouched. Our own documentation is removed again
    if the settings do not ask for it: it came for a demonstration.

    Raises:
        ConfigError: the file cannot be opened, or there is no such folder of documents.
    """
    knowledge = KnowledgeBase(settings.knowledge_file, encoder=encoder)
    wanted = settings.knowledge_documents
    try:
        if isinstance(wanted, Path):
            knowledge.add_folder(wanted)
        for name, file in _own_documents():
            if wanted == "own":
                knowledge.put(name, file.read_bytes())
            else:
                with contextlib.suppress(NotFound):
                    knowledge.delete(name)
        knowledge.embed_missing()
    except (InputError, ServiceError, OSError) as error:  # another worker may have done it; questions can be answered
        _log.warning("the first documents were not put into the knowledge base: %s", error)
    return knowledge


def _own_documents() -> Iterator[tuple[str, Path]]:
    """Return id and file of each page of this project's documentation that is installed here."""
    pages = sorted((PROJECT_ROOT / "docs").glob("*.md"))
    for file in (PROJECT_ROOT / "README.md", PROJECT_ROOT / "CONTRIBUTING.md", *pages):
        if file.is_file():
            yield f"{OWN_FOLDER}/{file.relative_to(PROJECT_ROOT).as_posix()}", file


def _unchanged(connection: sqlite3.Connection, name: str, fingerprint: str) -> DocumentInfo | None:
    """Return what is known of a document that is there already, exactly as it came."""
    found = connection.execute(_UNCHANGED, (name, fingerprint)).fetchone()
    return DocumentInfo(*found) if found else None


def _remove(connection: sqlite3.Connection, key: int) -> None:
    search.remove(connection, key)
    connection.execute("DELETE FROM documents WHERE key = ?", (key,))


def _not_found(name: str) -> NotFound:
    return NotFound(f"there is no document {name[: documents.MAX_ID_CHARS]!r}. GET /v1/knowledge lists them all.")
