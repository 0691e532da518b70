"""Ends a server whose workers cannot start, under plain `bentoml serve` too, which would start them again for ever.

A worker that fails leaves its reason in a file (`bento.load_or_exit`), unless another one answers already. Here the
process that starts the workers looks for it once a second, stops the server and ends with a code that is not 0.
`percept serve` looks for itself.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

from shared.serving.settings import START_REPORT

LOOK_EVERY_S = 1.0
_FAILED = 2


def watch_the_start() -> None:
    """Begin to look; called in the process that starts the workers, before it does."""
    if os.environ.get(START_REPORT):
        return
    report = Path(tempfile.mkdtemp(prefix="percept-start-")) / "cannot_start"
    os.environ[START_REPORT] = str(report)  # the workers inherit it
    atexit.register(_end, report)
    threading.Thread(target=_look, args=(report,), name="start-watch", daemon=True).start()


def _look(report: Path) -> None:
    while not report.exists():
        time.sleep(LOOK_EVERY_S)
    os.kill(os.getpid(), signal.SIGTERM)


def _end(report: Path) -> None:
    reason = report.read_text(encoding="utf-8") if report.exists() else None
    shutil.rmtree(report.parent, ignore_errors=True)
    if reason is not None:
        sys.stdout.flush()
        print(f"percept: {reason}", file=sys.stderr, flush=True)
        os._exit(_FAILED)  # the server thinks that it ended in peace
