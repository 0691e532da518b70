"""The service's log: one JSON object per line on standard output, and never what a client sent.

Source of the trace id in it: W3C Trace Context, section 3.2 (traceparent).
"""

from __future__ import annotations

import contextlib
import logging
import re
import sys
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

import orjson

from shared.serving.observe import metrics

OWN_LOGGERS = ("shared", "vision", "nlp")
OTHER_LOGGERS = ("bentoml", "uvicorn", "uvicorn.error", "gradio")
"""Those that a worker's libraries give a handler or a level of their own."""
_said_lost = threading.Event()
_TRACEPARENT = re.compile(rb"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")
_STANDARD = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """Time, level, logger, message, the fields of `extra`, and the traceback if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update({name: value for name, value in vars(record).items() if name not in _STANDARD})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str, option=orjson.OPT_UTC_Z).decode()


class LogHandler(logging.StreamHandler[TextIO]):
    """Writes if it can; lines that cannot be written are counted, and reported once on standard error."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 logging's name
        """Count a line that could not be written."""
        error = sys.exc_info()[1]
        if isinstance(error, (OSError, ValueError)):
            lost_line(error)
        else:
            super().handleError(record)


def lost_line(error: Exception) -> None:
    """Count a line that could not be written; the first one is reported on standard error."""
    metrics.LOG_LINES_LOST.inc()
    if _said_lost.is_set():
        return
    _said_lost.set()
    with contextlib.suppress(OSError, ValueError):
        reason = getattr(error, "strerror", None) or str(error)
        print(f"percept: the log cannot be written: {reason}. Requests are answered without it.", file=sys.stderr)


def configure_logs(level: int = logging.INFO, *, owns_process: bool = False) -> None:
    """Send the log of Percept's packages to standard output as JSON lines.

    Args:
        level: the lowest that is written.
        owns_process: whether other libraries' warnings and errors go the same way; else their logs stay as they are.
    """
    handler = LogHandler(sys.stdout)
    handler.setFormatter(JsonFormatter())
    if owns_process:
        logging.captureWarnings(True)
        logging.getLogger().handlers[:] = [handler]
        for logger in (logging.getLogger(name) for name in OTHER_LOGGERS):
            logger.handlers.clear()
            logger.setLevel(logging.WARNING)
            logger.propagate = True
    for name, known in list(logging.root.manager.loggerDict.items()):
        if name.partition(".")[0] in OWN_LOGGERS and isinstance(known, logging.Logger):
            known.disabled = False  # BentoML's own configuration disables those that are there before it
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # its warnings repeat what a client sent
    for name in OWN_LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(level)
        logger.propagate = False


class RequestLog:
    """Writes one line per request: all errors, and as many successes per second as allowed.

    Args:
        lines_per_s: successes beyond it are left out; the next line written says how many.
        stream: None for standard output.
    """

    def __init__(self, lines_per_s: float, stream: TextIO | None = None) -> None:
        self._rate = lines_per_s
        self._stream = stream
        self._budget = lines_per_s
        self._refilled = time.monotonic()
        self._left_out = 0

    def write(self, fields: Mapping[str, Any], *, is_error: bool) -> None:
        """Write the line of one request, or count it."""
        now = time.monotonic()
        self._budget = min(self._rate, self._budget + (now - self._refilled) * self._rate)
        self._refilled = now
        if self._budget < 1 and not is_error:
            self._left_out += 1
            return
        self._budget = max(0.0, self._budget - 1)
        line = {"time": datetime.now(UTC), "level": "info", "logger": "request", **fields}
        if self._left_out:
            line["left_out"] = self._left_out
            self._left_out = 0
        try:
            stream = self._stream or sys.stdout
            stream.write(orjson.dumps(line, option=orjson.OPT_UTC_Z).decode() + "\n")
            stream.flush()
        except (OSError, ValueError) as error:  # a full disk, a broken pipe, a closed file: requests are answered
            lost_line(error)


def trace_id(headers: list[tuple[bytes, bytes]], *, is_traced: bool = False) -> str | None:
    """Return the trace's id, 32 hexadecimal digits, or None if there is no valid one.

    Args:
        headers: of the request, as ASGI has them.
        is_traced: whether spans are made: then a request without a valid one has its own.

    >>> trace_id([(b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")])
    '0af7651916cd43dd8448eb211c80319c'
    >>> trace_id([(b"traceparent", b"00-" + b"0" * 32 + b"-b7ad6b7169203331-01")])
    """
    given = [value for name, value in headers if name == b"traceparent"]
    found = _TRACEPARENT.fullmatch(given[0]) if len(given) == 1 else None
    if found and not (found[1] == b"00" and found[3]):  # version 00 has no further fields
        return found[2].decode("ascii")
    return _own_trace_id() if is_traced else None


def _own_trace_id() -> str | None:
    trace = sys.modules.get("opentelemetry.trace")  # loaded if its middleware is
    context = trace.get_current_span().get_span_context() if trace else None
    return f"{context.trace_id:032x}" if context is not None and context.is_valid else None
