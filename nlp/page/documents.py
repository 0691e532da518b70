"""Documents that visitors dropped on the page: each visitor has a knowledge base, which all workers share.

A visitor is known by 128 random bits that the browser made and keeps. No path is made from anything else that a client
sends. Documents are swept an hour after the last question about them.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from contextlib import closing
from pathlib import Path

from nlp.knowledge import DocumentInfo, KnowledgeBase, SentenceEncoder
from nlp.knowledge.documents import SUFFIXES
from nlp.knowledge.pdf import PdfLimits
from shared.errors import InputError, NotFound, TooLarge, UnsupportedMedia
from shared.serving.page.kept_files import KeptFolder, private_folder
from shared.serving.page.uploads import Uploads

KEEP_S = 60 * 60
KEEP_BYTES = 1 << 30
"""For all visitors' documents together; beyond it, those not asked about for longest go early."""
MAX_DOCUMENTS = 20
MAX_EMBEDDED_CHARS = 12_000
"""Of a dropped document, of what its embeddings are made of: 40 passages, or 120 questions, in about half a second."""
MAX_FILE_BYTES = 5 << 20
MAX_CHARACTERS = 1_000_000
"""Of one document, about a thousand pages; a visitor who has more than that takes no further one. Indexing as many
words of one letter takes 2.5 s (two cores, 2026-11)."""
PDF_LIMITS = PdfLimits(seconds=3, memory_bytes=400 << 20)
"""A stranger's PDF may take less than one of whoever runs the service: about a hundred pages."""
MAX_NAME_CHARS = 120
_FILE = "knowledge.sqlite"
_VISITOR = re.compile(r"[0-9a-f]{32}")
_DOCUMENT = re.compile(r"[0-9a-f]{16}")


def document_folder() -> KeptFolder:
    """Return the folder of all visitors' documents, next to that of uploads.

    Raises:
        ConfigError: it belongs to somebody else.
    """
    return KeptFolder(private_folder("documents"), KEEP_S, KEEP_BYTES)


class VisitorDocuments:
    """Every visitor's documents.

    Args:
        folder: where they are kept.
        uploads: what visitors dropped; no other file is read.
        encoder: finds what means the same; None to search by words alone.
    """

    def __init__(self, folder: Path, uploads: Uploads, encoder: SentenceEncoder | None = None) -> None:
        self.folder = folder
        self.uploads = uploads
        self.encoder = encoder

    def open(self, visitor: object) -> KnowledgeBase | None:
        """Return the visitor's knowledge base for the caller to close, or None if there is none.

        Raises:
            InputError: it is not a visitor's name.
        """
        file = self._file(visitor)
        if not file.is_file():
            return None
        os.utime(file)  # its time starts again
        knowledge = self._opened(file)
        if knowledge.list():
            return knowledge
        knowledge.close()  # none that was sent could be read
        return None

    def list(self, visitor: object) -> list[DocumentInfo]:
        """Return what the visitor dropped; raises as `open`."""
        knowledge = self.open(visitor)
        if knowledge is None:
            return []
        with closing(knowledge):
            return list(knowledge.list())

    def add(self, visitor: object, name: object, content: bytes, media_type: str | None = None) -> DocumentInfo:
        """Keep a document; one with the same name is replaced.

        Args:
            visitor: whose it is.
            name: of the file; only for display.
            content: the file's bytes.
            media_type: None if the name tells.

        Raises:
            InputError: it cannot be read, or it is not a visitor's name.
            UnsupportedMedia: this kind of file is not supported.
            TooLarge: it is too large, or the visitor has too many documents.
        """
        if len(content) > MAX_FILE_BYTES:
            raise TooLarge(f"it has {len(content) / 1e6:.1f} MB; the limit is {MAX_FILE_BYTES >> 20} MB per document.")
        title = shown_name(name)
        kind = media_type or SUFFIXES.get(Path(title).suffix.lower())
        if kind is None:
            raise UnsupportedMedia(f"I read files whose names end in {', '.join(SUFFIXES)}.")
        document = hashlib.sha256(title.encode("utf-8", "replace")).hexdigest()[:16]
        file = self._file(visitor)
        file.parent.mkdir(mode=0o700, exist_ok=True)
        with closing(self._opened(file)) as knowledge:
            others = [each for each in knowledge.list() if each.id != document]
            if len(others) >= MAX_DOCUMENTS:
                raise TooLarge(f"you have {len(others)} documents here, which is the limit. Remove one first.")
            if sum(each.characters for each in others) > MAX_CHARACTERS:
                raise TooLarge("your documents here have reached the limit in length. Remove one first.")
            info, _ = knowledge.put(document, content, media_type=kind, title=title)
        return info

    def take_upload(self, address: object) -> bytes:
        """Return the bytes of an upload, and delete it.

        Raises:
            NotFound: it is not an upload, or it is gone already.
        """
        place = self.uploads.find(address)
        try:
            with place.open("rb") as file:
                content = file.read(MAX_FILE_BYTES + 1)
            place.unlink()
        except OSError as error:  # swept in between
            raise NotFound("the upload is no longer here. Drop the file again.") from error
        return content

    def remove(self, visitor: object, document: object) -> None:
        """Delete a document, if it is there. Raises as `open`."""
        knowledge = self.open(visitor)
        if knowledge is None or not isinstance(document, str) or not _DOCUMENT.fullmatch(document):
            return
        with closing(knowledge):
            if any(each.id == document for each in knowledge.list()):
                knowledge.delete(document)
            is_empty = not knowledge.list()
        if is_empty:
            shutil.rmtree(self._file(visitor).parent, ignore_errors=True)

    def _opened(self, file: Path) -> KnowledgeBase:
        return KnowledgeBase(
            file,
            encoder=self.encoder,
            max_embedded_chars=MAX_EMBEDDED_CHARS,
            max_documents=MAX_DOCUMENTS,
            max_bytes=MAX_FILE_BYTES,
            max_characters=MAX_CHARACTERS,
            pdf_limits=PDF_LIMITS,
        )

    def _file(self, visitor: object) -> Path:
        if not isinstance(visitor, str) or not _VISITOR.fullmatch(visitor):
            raise InputError("this browser has no name here. Load the page again.")
        return self.folder / hashlib.sha256(visitor.encode()).hexdigest()[:32] / _FILE  # reveals no name


def shown_name(name: object) -> str:
    """Return a file's name without folders and control characters, shortened if it is long."""
    last = re.split(r"[\\/]", str(name))[-1]
    shown = " ".join("".join(character if character.isprintable() else " " for character in last).split())
    if len(shown) > MAX_NAME_CHARS:
        suffix = Path(shown).suffix[:12]
        shown = shown[: MAX_NAME_CHARS - len(suffix) - 1] + "…" + suffix
    return shown or "Untitled"
