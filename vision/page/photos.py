"""The folder where Gradio lays the photos that people drop on the page, and how long they stay there.

Gradio deletes only what its own process took in, and only when that ends in peace. Here every worker sweeps the one
folder that all of them share, so that photos go whoever took them. Neighbour: `vision.demo.mount_page`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
import time
from pathlib import Path

from shared.errors import ConfigError

KEEP_S = 15 * 60
"""A photo that nobody has asked anything of for so long is deleted."""
KEEP_BYTES = 1 << 30
"""Above this the oldest photos go earlier."""
SWEEP_EVERY_S = 30

_log = logging.getLogger(__name__)


def photo_folder() -> Path:
    """Return the folder of this user that Gradio uses from now on, in GRADIO_TEMP_DIR or the system's temporary folder.

    Raises:
        ConfigError: somebody else made the folder.
    """
    user = os.getuid() if hasattr(os, "getuid") else 0
    name = f"percept-photos-{user}"
    parent = Path(os.environ.get("GRADIO_TEMP_DIR") or tempfile.gettempdir()).resolve()
    folder = (
        parent if parent.name == name else parent / name
    )  # whatever is in it may be swept: never a folder of others
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.is_symlink() or (hasattr(os, "getuid") and folder.stat().st_uid != user):
        raise ConfigError(
            f"{folder} belongs to another user. Remove it, or set GRADIO_TEMP_DIR to a folder of your own."
        )
    os.environ["GRADIO_TEMP_DIR"] = str(folder)  # the one way to tell Gradio
    return folder


def sweep(folder: Path, *, now: float, keep_s: float = KEEP_S, keep_bytes: int = KEEP_BYTES) -> int:
    """Delete files of the folder that are too old, then the oldest until the rest fits; return how many went."""
    files = []
    for path in folder.rglob("*"):
        try:
            status = path.lstat()
        except FileNotFoundError:  # another worker sweeps too
            continue
        if not path.is_dir():
            files.append((max(status.st_mtime, status.st_ctime), status.st_size, path))  # a copy has its source's mtime
    total = sum(size for _, size, _ in files)
    gone = 0
    for modified, size, path in sorted(files):
        if now - modified <= keep_s and total <= keep_bytes:
            break
        path.unlink(missing_ok=True)
        total -= size
        gone += 1
    for parent in {path.parent for _, _, path in files} - {folder}:
        try:
            parent.rmdir()
        except OSError:  # not empty, or gone already
            continue
    return gone


async def keep_sweeping(folder: Path) -> None:
    """Sweep the folder until cancelled."""
    while True:
        try:
            gone = await asyncio.to_thread(sweep, folder, now=time.time())
        except OSError as error:
            _log.warning("photos of the page cannot be deleted: %s", error)
        else:
            if gone:
                _log.info("%d photos of the page were deleted", gone)
        await asyncio.sleep(SWEEP_EVERY_S)
