"""Folders for the files that people drop on the demo pages, and how long these stay.

Every worker sweeps the folders, which all of them share, so files go no matter who received them.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from shared.errors import ConfigError

UPLOAD_KEEP_S = 15 * 60
"""An upload that was not used for so long is deleted."""
UPLOAD_KEEP_BYTES = 1 << 30
SWEEP_EVERY_S = 30
_PARENT = "GRADIO_TEMP_DIR"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class KeptFolder:
    """A folder whose entries, files or folders, are deleted one by one."""

    path: Path
    keep_s: float
    """An entry in which nothing was touched for so long is deleted."""
    keep_bytes: int
    """Beyond this the oldest entries go earlier."""


def upload_folder() -> KeptFolder:
    """Return this user's folder, in GRADIO_TEMP_DIR or the system's temporary folder.

    If Gradio keeps a file of its own, it is there too, and swept.

    Raises:
        ConfigError: somebody else created the folder.
    """
    folder = private_folder("uploads")
    os.environ[_PARENT] = str(folder)  # the only way to tell Gradio
    return KeptFolder(folder, UPLOAD_KEEP_S, UPLOAD_KEEP_BYTES)


def private_folder(kind: str) -> Path:
    """Return a folder that this user's processes share and nobody else can read, created if missing.

    Anything in it may be swept, so it is never a folder with other files.

    Raises:
        ConfigError: somebody else created the folder.
    """
    user = os.getuid() if hasattr(os, "getuid") else 0
    parent = Path(os.environ.get(_PARENT) or tempfile.gettempdir()).resolve()
    if parent.name == f"percept-uploads-{user}":  # GRADIO_TEMP_DIR is ours already
        parent = parent.parent
    folder = parent / f"percept-{kind}-{user}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.is_symlink() or (hasattr(os, "getuid") and folder.stat().st_uid != user):
        raise ConfigError(f"{folder} belongs to another user. Remove it, or set {_PARENT} to a folder of your own.")
    return folder


def sweep(folder: KeptFolder, *, now: float) -> int:
    """Delete entries that are too old, then the oldest until the rest fits; return how many were deleted."""
    entries = []
    for path in folder.path.iterdir():
        try:
            inside = path.rglob("*") if path.is_dir() and not path.is_symlink() else ()
            statuses = [part.lstat() for part in inside if not part.is_dir()] or [path.lstat()]
        except FileNotFoundError:  # another worker sweeps too
            continue
        touched = max(max(status.st_mtime, status.st_ctime) for status in statuses)  # a copy has its source's mtime
        entries.append((touched, sum(status.st_size for status in statuses), path))
    total = sum(size for _, size, _ in entries)
    gone = 0
    for touched, size, path in sorted(entries):
        if now - touched <= folder.keep_s and total <= folder.keep_bytes:
            break
        if path.is_symlink() or not path.is_dir():
            path.unlink(missing_ok=True)
        else:
            shutil.rmtree(path, ignore_errors=True)
        total -= size
        gone += 1
    return gone


async def keep_sweeping(folder: KeptFolder) -> None:
    """Sweep the folder until cancelled."""
    while True:
        try:
            gone = await asyncio.to_thread(sweep, folder, now=time.time())
        except Exception as error:  # noqa: BLE001 the next sweep may go through, and without any the disk fills up
            _log.warning("files of the page cannot be deleted: %s: %s", type(error).__name__, error)
        else:
            if gone:
                _log.info("%d entries of %s were deleted", gone, folder.path.name)
        await asyncio.sleep(SWEEP_EVERY_S)
