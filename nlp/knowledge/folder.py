"""The documents in a folder, with the ids that they get."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from nlp.knowledge.documents import SUFFIXES


def documents_in(folder: Path) -> Iterator[tuple[str, Path]]:
    """Return id and file of every document below a folder, sorted; the id is the path from the folder on, with slashes.

    Names that begin with a dot are passed over. A link to a file counts where the file lies in the folder; links to
    folders are not followed.
    """
    root = folder.resolve()
    for place, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            file = Path(place, name)
            if name.startswith(".") or file.suffix.lower() not in SUFFIXES:
                continue
            try:
                target = file.resolve(strict=True)
            except (OSError, RuntimeError):  # a link to nothing, or round in a circle
                continue
            if target.is_relative_to(root) and target.is_file():
                yield file.relative_to(root).as_posix(), file
