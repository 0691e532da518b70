"""prometheus_client's metric files, made so that a full disk cannot kill a worker.

Its files are mapped into memory before the disk has room for them: on a full disk the first write to a page ends the
process with SIGBUS, and then the worker that replaces it. Here the room is allocated first; if there is none, the
worker keeps its further metrics in memory, where the others cannot see them, and logs that. Needed until
prometheus_client (0.26) allocates the room itself.
"""

from __future__ import annotations

import logging
import mmap
import os
from pathlib import Path
from typing import Any

from prometheus_client import values
from prometheus_client.mmap_dict import MmapedDict

from shared.serving.host.versions import is_known

_INITIAL_BYTES = 1 << 16
"""prometheus_client's own value."""
_log = logging.getLogger(__name__)


class SafeDict(MmapedDict):
    """prometheus_client's dict of numbers in a file, or in memory if the disk has no room."""

    def __init__(self, filename: str, read_mode: bool = False) -> None:
        if not read_mode:
            try:
                _take_room(filename)
            except OSError as error:
                self._f: Any = None
                self._m: Any = bytearray(_INITIAL_BYTES)
                self._capacity = _INITIAL_BYTES
                self._positions: dict[str, int] = {}
                self._used = 8
                _say(error)
                return
        super().__init__(filename, read_mode)  # type: ignore[no-untyped-call]

    def _init_value(self, key: str) -> None:
        encoded = key.encode("utf-8")
        needed = 4 + len(encoded) + (8 - (len(encoded) + 4) % 8) + 16
        while self._used + needed > self._capacity:
            self._grow()
        super()._init_value(key)  # type: ignore[no-untyped-call]

    def _grow(self) -> None:
        wanted = 2 * self._capacity
        if self._f is not None:
            try:
                _allocate(self._f.fileno(), wanted)
                self._m = mmap.mmap(self._f.fileno(), wanted)
                self._capacity = wanted
                return
            except OSError as error:
                _say(error)
                self._m, mapped = bytearray(self._m[: self._capacity]), self._m
                mapped.close()
                self._f.truncate(self._capacity)
                self._f.close()
                self._f = None
        self._m.extend(bytes(wanted - len(self._m)))
        self._capacity = wanted

    def close(self) -> None:
        """Close the file, if there is one."""
        if self._f is not None:
            super().close()  # type: ignore[no-untyped-call]


def use_safe_files() -> None:
    """Have prometheus_client keep metrics created from now on in safe files."""
    if hasattr(os, "posix_fallocate") and is_known("prometheus-client"):
        values.MmapedDict = SafeDict  # type: ignore[attr-defined]


def _take_room(filename: str) -> None:
    """Create the file with its first bytes, unless it has some; if that fails, nothing of it stays."""
    path = Path(filename)
    if path.exists() and path.stat().st_size:
        return
    try:
        with path.open("ab") as file:
            _allocate(file.fileno(), _INITIAL_BYTES)
    except OSError:
        path.unlink(missing_ok=True)
        raise


def _allocate(descriptor: int, size: int) -> None:
    os.posix_fallocate(descriptor, 0, size)


def _say(error: OSError) -> None:
    _log.warning("metrics of this worker stay in its memory, unseen by the others: %s", error.strerror)
