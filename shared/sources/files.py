"""The files of a set that is a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_IGNORED = frozenset({"__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found"})


def walk(root: Path) -> Iterator[Path]:
    """Yield the files below a folder, sorted, links followed, without those that systems and tools leave behind."""
    seen: set[tuple[int, int]] = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        state = Path(folder).stat()
        key = state.st_dev, state.st_ino
        if key in seen and Path(folder) != root:  # a link back up would go round for ever
            folders.clear()
            continue
        seen.add(key)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in _IGNORED)
        yield from (Path(folder, name) for name in sorted(files) if not name.startswith("."))
