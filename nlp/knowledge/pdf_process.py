"""A program of its own that reads one PDF from standard input and prints its text as JSON. `pdf` runs it as a file.

It prints {"title", "pages": [text], "outline": [[level, title, page index]]}, or {"problem": …}, and imports nothing
of Percept.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from typing import Any


def main(max_pages: int, max_chars: int, cpu_s: int, max_memory_bytes: int) -> None:
    """Print what is in the PDF on standard input."""
    _bound(cpu_s, max_memory_bytes)
    json.dump(read(sys.stdin.buffer.read(), max_pages, max_chars), sys.stdout)


def read(content: bytes, max_pages: int, max_chars: int) -> dict[str, Any]:
    """Return title, pages and outline, or the problem: encrypted, broken, pages or characters."""
    import pypdf
    from pypdf.errors import DependencyError, FileNotDecryptedError

    try:
        reader = pypdf.PdfReader(io.BytesIO(content))
        if reader.is_encrypted and not reader.decrypt(""):  # many are encrypted with no password at all
            return {"problem": "encrypted"}
        if len(reader.pages) > max_pages:
            return {"problem": "pages"}
        pages: list[str] = []
        characters = 0
        for page in reader.pages:
            pages.append(page.extract_text())
            characters += len(pages[-1])
            if characters > max_chars:
                return {"problem": "characters"}
        return {"title": _title(reader), "pages": pages, "outline": _outline(reader)}
    except (DependencyError, FileNotDecryptedError):
        return {"problem": "encrypted"}
    except Exception:  # noqa: BLE001 pypdf raises whatever a broken file leads it to; MemoryError and RecursionError too
        return {"problem": "broken"}


def _title(reader: Any) -> str:
    with contextlib.suppress(Exception):  # a broken title counts as none
        return str((reader.metadata or {}).get("/Title") or "")
    return ""


def _outline(reader: Any) -> list[tuple[int, str, int]]:
    found: list[tuple[int, str, int]] = []
    with contextlib.suppress(Exception):  # a broken outline ends where it breaks
        waiting = [(iter(reader.outline), 1)]
        while waiting:
            entries, level = waiting.pop()
            for entry in entries:
                if isinstance(entry, list):
                    waiting += [(entries, level), (iter(entry), level + 1)]
                    break
                page = reader.get_destination_page_number(entry)
                if page is not None and page >= 0:
                    found.append((level, str(entry.title), page))
    return found


def _bound(cpu_s: int, max_memory_bytes: int) -> None:
    try:
        import resource
    except ImportError:  # not on Windows: there the parent's clock is the only bound
        return
    memory, seconds = (max_memory_bytes, max_memory_bytes), (cpu_s, cpu_s + 1)  # SIGXCPU before SIGKILL: `pdf` tells
    for kind, limits in ((resource.RLIMIT_AS, memory), (resource.RLIMIT_CPU, seconds)):
        with contextlib.suppress(OSError, ValueError):  # a system may have lower limits, or none
            resource.setrlimit(kind, limits)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
