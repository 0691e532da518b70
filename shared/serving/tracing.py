"""Which trace a request belongs to, for its log line; and how BentoML is told where spans go.

Source: W3C Trace Context, section 3.2 (traceparent).
"""

from __future__ import annotations

import re
import sys
from typing import Any

from shared.serving.settings import Settings

_TRACEPARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*)?")
_HEADER = b"traceparent"
_ZEROS = re.compile(rb"0+")
QUIET = "livez,healthz,readyz,metrics,v2/health"
"""Addresses that have no spans, as parts of expressions: machines ask them every few seconds."""


def trace_id(headers: list[tuple[bytes, bytes]], *, is_traced: bool = False) -> str | None:
    """Return the trace's id, 32 hexadecimal digits, or None where there is none that can be believed.

    Args:
        headers: of the request, as ASGI has them.
        is_traced: whether spans are made: then a request that brings none has one of its own.

    >>> trace_id([(b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")])
    '0af7651916cd43dd8448eb211c80319c'
    >>> trace_id([(b"traceparent", b"00-" + b"0" * 32 + b"-b7ad6b7169203331-01")])
    """
    given = [value for name, value in headers if name == _HEADER]
    if len(given) == 1:
        found = _TRACEPARENT.fullmatch(given[0])
        if found and found[1] != b"ff" and not (found[1] == b"00" and found[4]):
            trace, parent = found[2], found[3]
            if not _ZEROS.fullmatch(trace) and not _ZEROS.fullmatch(parent):
                return trace.decode("ascii")
    return _own_trace_id() if is_traced else None


def tracing_config(settings: Settings) -> dict[str, Any]:
    """Return BentoML's settings of tracing; none where no exporter is set, and then nothing is traced.

    With one, its middleware makes a span of each request: `pip install 'percept[tracing]'` brings the exporter.
    """
    if settings.otlp_endpoint is None:
        return {}
    exporter = {"protocol": "http", "endpoint": settings.otlp_endpoint}
    rate = settings.trace_sample_rate
    return {"exporter_type": "otlp", "sample_rate": rate, "excluded_urls": QUIET, "otlp": exporter}


def _own_trace_id() -> str | None:
    trace = sys.modules.get("opentelemetry.trace")  # there, where its middleware is
    context = trace.get_current_span().get_span_context() if trace else None
    return f"{context.trace_id:032x}" if context is not None and context.is_valid else None
