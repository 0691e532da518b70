"""Processes that end when the one that started them is gone, whatever ended it."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import threading
import time

_LOOK_S = 0.5


def end_with_parent() -> None:
    """End this process as soon as the one that started it is gone: nobody is there to take what it does."""
    started_by = multiprocessing.parent_process()
    parent = os.getppid()

    def watch() -> None:
        if started_by is not None:
            multiprocessing.connection.wait([started_by.sentinel])
        while started_by is None and os.getppid() == parent:
            time.sleep(_LOOK_S)
        os._exit(1)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
