"""How many requests a minute each key has left, counted for all workers of a server together.

One number a key is enough, the time at which its requests so far would be paid off (the generic cell rate algorithm,
which is a token bucket told by its end: ITU-T I.371, annex A). They lie in a small file that all workers map, in the
folder that BentoML gives them and empties at each start; a lock of the file, which the system takes back from a worker
that dies, holds while one is read and written. So a client has its rate whichever workers its connections meet.
"""

from __future__ import annotations

import fcntl
import logging
import mmap
import os
import struct
import time
from pathlib import Path

_SLOTS = 4096
_SLOT = struct.Struct("=8sd")  # the beginning of the key's hash; seconds of the machine's monotonic clock
_PROBES = 32
_MINUTE_S = 60.0
_FILE = "percept_rates"

_log = logging.getLogger(__name__)


class Rates:
    """A bucket for each key: a minute's requests may come at once, and they come back one by one.

    Args:
        folder: that the workers share; None for a count of this process alone.
    """

    def __init__(self, folder: Path | None) -> None:
        size = _SLOTS * _SLOT.size
        self._file: int | None = None
        try:
            if folder is not None:
                self._file = os.open(folder / _FILE, os.O_RDWR | os.O_CREAT, 0o600)
                os.ftruncate(self._file, size)
        except OSError as error:
            _log.warning("requests of keys are counted by each worker for itself: %s", error.strerror)
            self._file = None
        self._slots = mmap.mmap(-1 if self._file is None else self._file, size)

    def wait_s(self, identity: bytes, per_minute: int) -> float:
        """Count a request in and return 0, or return how many seconds later one would be.

        Args:
            identity: 8 bytes or more, evenly distributed, such as a hash.
            per_minute: of this key.
        """
        if self._file is None:
            return self._take(identity, per_minute)
        fcntl.lockf(self._file, fcntl.LOCK_EX)
        try:
            return self._take(identity, per_minute)
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)

    def _take(self, identity: bytes, per_minute: int) -> float:
        now = time.monotonic()
        period = _MINUTE_S / per_minute
        offset, paid_off = self._find(identity[:8], now)
        if not now < paid_off <= now + _MINUTE_S + period:  # idle, or left over from before the machine started
            paid_off = now
        wait_s = paid_off + period - now - _MINUTE_S
        if wait_s > 1e-6:
            return wait_s
        _SLOT.pack_into(self._slots, offset, identity[:8], paid_off + period)
        return 0.0

    def _find(self, identity: bytes, now: float) -> tuple[int, float]:
        """Return the place of a key and its time; that of a key which is idle becomes free for another."""
        first = int.from_bytes(identity[:4], "little")
        free: int | None = None
        for step in range(_PROBES):
            offset = (first + step) % _SLOTS * _SLOT.size
            owner, paid_off = _SLOT.unpack_from(self._slots, offset)
            if owner == identity:
                return offset, paid_off
            if free is None and paid_off <= now:
                free = offset
        return first % _SLOTS * _SLOT.size if free is None else free, 0.0
