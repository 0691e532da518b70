"""A folder that is written beside its place and put there in one step: whole, or not at all."""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_AT_FDCWD = -100  # linux/fcntl.h
_RENAME_EXCHANGE = 2  # linux/fs.h, man 2 renameat2


@contextmanager
def staged(target: Path) -> Iterator[Path]:
    """Yield an empty folder that replaces `target` when the block ends without an error.

    Until then an older folder at `target` stays as it was, whatever fails; afterwards it is gone. The block must see
    to it that its files are on the disk (`sync_file`).
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent))
    try:
        staging.chmod(0o755)  # mkdtemp's 0700 would lock out a service that runs as another user
        yield staging
        for folder, _, _ in os.walk(staging):
            _sync_folder(Path(folder))
        _put_in_place(staging, target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)  # after an exchange this is the older folder


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that is there whole or not at all, whatever ends this process."""
    partial = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.partial")
    try:
        partial.write_bytes(content)
        sync_file(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def sync_file(path: Path) -> None:
    """Wait until a file is on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # folders cannot be opened there
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _put_in_place(staging: Path, target: Path) -> None:
    if target.is_dir() and any(target.iterdir()):
        if not _exchange(staging, target):
            _replace_in_two_steps(staging, target)
    else:
        if target.is_dir():
            target.rmdir()
        staging.rename(target)
    _sync_folder(target.parent)


def _exchange(first: Path, second: Path) -> bool:
    """Swap two folders in one step; False where the system or the file system cannot."""
    if sys.platform != "linux":
        return False
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)  # glibc 2.28 and newer
    if renameat2 is None:
        return False
    result: int = renameat2(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE)
    return result == 0


def _replace_in_two_steps(staging: Path, target: Path) -> None:
    """For systems that cannot exchange folders: a kill in between leaves the older one as `.NAME.previous`."""
    previous = target.with_name(f".{target.name}.previous")
    shutil.rmtree(previous, ignore_errors=True)
    target.rename(previous)
    try:
        staging.rename(target)
    except OSError:
        previous.rename(target)
        raise
    shutil.rmtree(previous, ignore_errors=True)
