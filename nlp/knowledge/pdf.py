"""PDF to readable text, page by page, read in a process of its own that has little time and memory.

Some PDFs take hours or all memory to read, by accident or on purpose. Such a file ends its own process, nothing else.
"""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nlp.knowledge import pdf_process
from nlp.knowledge.passages import Builder, normalise, one_line, rejoined
from shared.errors import InputError, ServiceError, TooLarge

MAX_PAGES = 2000
MAX_CHARS = 5_000_000
MAX_LEVELS = 6
"""Bookmarks that are nested deeper are no headings: as in Markdown and HTML."""
_AT_ONCE = threading.Semaphore(2)
"""Processes at a time, each of which keeps a core busy."""
_LIGATURES = str.maketrans({"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "ft", "ﬆ": "st"})
_BROKEN = "the PDF cannot be read: it is truncated or broken. Send a complete file."


@dataclass(frozen=True)
class PdfLimits:
    """What reading one PDF may take."""

    seconds: float = 60
    """Of the processor, and by the clock."""
    memory_bytes: int = 1 << 30
    """Of addresses; half of them are Python's and pypdf's own at most."""


FOR_OPERATORS = PdfLimits()


def read_pdf(content: bytes, limits: PdfLimits = FOR_OPERATORS) -> Builder:
    """Return the text of each page, under the bookmarks that lead to it and the page's number.

    Raises:
        InputError: it is broken, encrypted or has no text.
        TooLarge: more pages or text than the limits, or more time than there is.
    """
    if b"%PDF-" not in content[:1024]:  # where readers look for it (ISO 32000-2, annex I)
        raise InputError("the document is not a PDF: it does not begin with %PDF-. Send the file as it is.")
    found = _run(content, limits)
    _check(found.get("problem"))
    bookmarks: dict[int, list[tuple[int, str]]] = {}
    for level, title, page in found["outline"]:
        if level <= MAX_LEVELS:
            bookmarks.setdefault(page, []).append((level, one_line(title)))
    builder = Builder()
    path: list[tuple[int, str]] = []
    for index, text in enumerate(found["pages"]):
        for level, title in bookmarks.get(index, ()):
            path = [each for each in path if each[0] < level] + [(level, title)]
        headings = tuple(title for _, title in path if title)
        builder.page(index + 1, (*headings, f"Page {index + 1}"), rejoined(normalise(text.translate(_LIGATURES))))
    if builder.is_empty:
        raise InputError("the PDF has no text, as is usual for scans. Send one with recognised text (OCR).")
    builder.title = one_line(found["title"]) or None
    return builder


def _run(content: bytes, limits: PdfLimits) -> dict[str, Any]:
    bounds = [str(each) for each in (MAX_PAGES, MAX_CHARS, math.ceil(limits.seconds), limits.memory_bytes)]
    # Run as a file, with -P: the process imports pypdf and nothing of Percept.
    command = [sys.executable, "-P", str(Path(pdf_process.__file__)), *bounds]
    try:
        with _AT_ONCE:
            done = subprocess.run(command, input=content, capture_output=True, timeout=limits.seconds, check=False)  # noqa: S603 our own program
    except subprocess.TimeoutExpired as error:
        raise _too_slow(limits) from error
    except OSError as error:
        raise ServiceError("no PDF can be read now: the service has no room for another process. Try again.") from error
    if done.returncode == -getattr(signal, "SIGXCPU", 0):
        raise _too_slow(limits)
    if done.returncode != 0:  # killed at its limit of memory, or a bug in pypdf
        raise InputError(_BROKEN)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _too_slow(limits: PdfLimits) -> TooLarge:
    return TooLarge(f"the PDF takes more than {limits.seconds:g} s to read. Split it, or send its text.")


def _check(problem: str | None) -> None:
    if problem == "encrypted":
        raise InputError("the PDF is encrypted. Send a copy without a password.")
    if problem == "broken":
        raise InputError(_BROKEN)
    if problem:
        limit = f"{MAX_PAGES} pages" if problem == "pages" else f"{MAX_CHARS} characters"
        raise TooLarge(f"the PDF has more than {limit}, which is the limit. Split it.")
