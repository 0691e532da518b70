"""Errors to HTTP responses: the only module that knows status codes, and the shapes of error bodies.

There are two shapes, by the path of the request. Usually `{"error": {"type", "message", "request_id"}}`; under /v2,
which KServe's and Triton's clients call, `{"error": "message"}`, because the Open Inference Protocol wants a string and
tritonclient fails with a TypeError of its own on anything else. The request id is in a header either way.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from shared.errors import (
    DeadlineExceeded,
    Forbidden,
    InputError,
    InvalidImage,
    NotFound,
    NotReady,
    Overloaded,
    PerceptError,
    RateLimited,
    ServiceError,
    TooLarge,
    TooSlow,
    Unauthorized,
    UnsupportedMedia,
)
from shared.serving.http.requests import REQUEST_ID, examples, route_path
from shared.serving.observe import metrics

STATUS: dict[type[PerceptError], tuple[int, str]] = {
    InvalidImage: (400, "invalid_image"),
    UnsupportedMedia: (415, "unsupported_media"),
    TooLarge: (413, "too_large"),
    TooSlow: (408, "timeout"),
    NotFound: (404, "not_found"),
    Unauthorized: (401, "unauthorized"),
    Forbidden: (403, "forbidden"),
    InputError: (400, "invalid_input"),
    RateLimited: (429, "rate_limited"),
    Overloaded: (429, "overloaded"),
    NotReady: (503, "not_ready"),
    DeadlineExceeded: (504, "deadline_exceeded"),
    ServiceError: (503, "unavailable"),
    PerceptError: (500, "internal"),
}
"""Exception class -> status and type. A class that is not listed takes its nearest listed ancestor's."""
for _, _kind in STATUS.values():
    metrics.REJECTED.labels(_kind)  # so that each is there from the start, at 0

NOT_READY_RETRY_S = 5
INFERENCE_PROTOCOL = "/v2"
"""Path of the Open Inference Protocol's routes, which its clients have built in."""
_DISK_ERRORS = {
    errno.ENOSPC: "the service's disk is full",
    errno.EDQUOT: "the service has used up its disk quota",
    errno.EROFS: "the service's disk is read-only at present",
}
_HTTP_TYPES = {405: "method_not_allowed"} | {
    status: kind for status, kind in STATUS.values() if status in (401, 403, 404, 413, 415)
}
_HTTP_MESSAGES = {
    404: "there is no such route. GET /openapi.json lists the routes.",
    405: "this route does not answer this method. GET /openapi.json lists the routes with their methods.",
}
_INTERNAL = "the service failed on this request. It is not your input's fault; the log has it under its X-Request-ID."
_SHOWN_PROBLEMS = 5
_EXAMPLE_ID = "0f8e3a1c9d7b4e6f"
_EXAMPLES = {
    400: ("invalid_image", "the image cannot be decoded: it is truncated or broken. Send a complete file."),
    401: ("unauthorized", "this needs the key of the service's admin. Send it as …"),
    403: ("forbidden", "this service was started without a key. Set PERCEPT_ADMIN_KEY."),
    404: ("not_found", _HTTP_MESSAGES[404]),
    413: ("too_large", "the image is 9000x7000 px; the limit is 40 megapixels."),
    415: ("unsupported_media", "the image is a TIFF; accepted are JPEG, …"),
    422: ("validation_error", "query.top_k: Input should be greater than or equal to 1"),
    429: ("overloaded", "64 requests wait already, which is the limit. Send it again later."),
    503: ("not_ready", "the model is not loaded yet. Send the request again."),
    504: ("deadline_exceeded", "the answer was not there within 30 s. Send the request again later."),
}
_DESCRIPTIONS = {
    400: "The input cannot be answered",
    401: "No key, or a wrong one",
    403: "No key opens this here",
    404: "No such model or route",
    413: "Too many bytes, pixels or items",
    415: "A kind of body or image that is not accepted",
    422: "A parameter or field is wrong",
    429: "Overloaded; see Retry-After",
    503: "Starting or draining; see Retry-After",
    504: "Not answered in time",
}
_log = logging.getLogger(__name__)


class ErrorDetail(BaseModel):
    """What went wrong."""

    type: str = Field(description="A word for programs, such as `invalid_image`.")
    message: str = Field(description="A sentence for people: what was expected, what came, what to do.")
    request_id: str = Field(description="Also in the header X-Request-ID and in the service's log.")


class ErrorBody(BaseModel):
    """The body of every error response, except under /v2."""

    model_config = examples(
        {"error": {"type": _EXAMPLES[400][0], "message": _EXAMPLES[400][1], "request_id": _EXAMPLE_ID}}
    )

    error: ErrorDetail


class InferenceErrorBody(BaseModel):
    """The body of every error response under /v2, as the Open Inference Protocol defines it."""

    error: str = Field(description="A sentence for people: what was expected, what came, what to do.")


def classify(error: Exception) -> tuple[int, str, str, dict[str, str]]:
    """Return status, type, message and extra headers for any exception.

    pydantic's own ValidationError is a bug of ours: a route that parses a body itself raises `invalid_body` of it.
    """
    if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
        _log.error("something could not be written: %s", error)
        error = ServiceError(f"{_DISK_ERRORS[error.errno]}. Nothing was kept; send it again later.")
    if isinstance(error, PerceptError):
        status, kind = next(STATUS[cls] for cls in type(error).__mro__ if cls in STATUS)
        if status == 500:
            return status, kind, _INTERNAL, {}
        headers: dict[str, str] = {}
        if isinstance(error, Overloaded):
            headers["retry-after"] = str(error.retry_after_s)
        elif status == 503:
            headers["retry-after"] = str(NOT_READY_RETRY_S)
        elif status == 401:
            headers["www-authenticate"] = "Bearer"
        return status, kind, str(error), headers
    if isinstance(error, RequestValidationError):
        return 422, "validation_error", _validation_message(error), {}
    if isinstance(error, HTTPException):
        message = _HTTP_MESSAGES.get(error.status_code, str(error.detail))
        kind = _HTTP_TYPES.get(error.status_code, "http_error" if error.status_code < 500 else "unavailable")
        return error.status_code, kind, message, dict(error.headers or {})
    return 500, "internal", _INTERNAL, {}


def is_expected(error: Exception) -> bool:
    """Return whether an exception is raised on purpose, or says that the disk is full or read-only."""
    is_ours = isinstance(error, (PerceptError, RequestValidationError, HTTPException))
    return is_ours or (isinstance(error, OSError) and error.errno in _DISK_ERRORS)


def error_response(error: Exception, scope: Scope, headers: Mapping[str, str] | None = None) -> Response:
    """Return the response to the request of an ASGI scope that ended in an exception."""
    status, kind, message, own = classify(error)
    if status != 500:
        metrics.REJECTED.labels(kind).inc()
    message = message.encode("utf-8", "replace").decode()  # half a surrogate pair in it would end in a 500
    detail = {"type": kind, "message": message, "request_id": scope.get(REQUEST_ID, "")}
    is_inference_protocol = f"{route_path(scope)}/".startswith(f"{INFERENCE_PROTOCOL}/")
    body = orjson.dumps({"error": message if is_inference_protocol else detail})
    return Response(body, status, {**own, **(headers or {})}, media_type="application/json")


def install_error_handlers(app: FastAPI | Starlette) -> None:
    """Make an app answer every error in the one shape; an unexpected exception is logged by `RequestEdge`."""
    for kind in (PerceptError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, _handle)
    app.add_exception_handler(OSError, _handle_disk)


async def _handle_disk(request: Request, error: Exception) -> Response:
    if not is_expected(error):
        raise error
    return error_response(error, request.scope)


async def _handle(request: Request, error: Exception) -> Response:
    response = error_response(error, request.scope)
    if response.status_code == 405 and (methods := _documented_methods(request)):
        response.headers["allow"] = methods
    return response


def _documented_methods(request: Request) -> str:
    """Return all methods of this path as Allow lists them; the router names those of one function only."""
    app, path = request.scope.get("app"), getattr(request.scope.get("route"), "path_format", None)
    operations = app.openapi()["paths"].get(path, {}) if isinstance(app, FastAPI) else {}
    return ", ".join(sorted(method.upper() for method in operations))


def error_responses(*statuses: int, body: type[BaseModel] = ErrorBody) -> dict[int | str, dict[str, Any]]:
    """Return FastAPI's `responses` of a route: each status with its body and an example.

    Args:
        statuses: those that the route may answer with.
        body: InferenceErrorBody for routes under /v2.
    """

    def documented(status: int) -> dict[str, Any]:
        kind, message = _EXAMPLES[status]
        detail = {"type": kind, "message": message, "request_id": _EXAMPLE_ID}
        example = {"error": message if body is InferenceErrorBody else detail}
        content = {"application/json": {"example": example}}
        return {"model": body, "description": _DESCRIPTIONS[status], "content": content}

    return {status: documented(status) for status in statuses}


def _validation_message(error: RequestValidationError) -> str:
    problems = error.errors()
    shown = [f"{_place(p['loc'])}: {p['msg']}" for p in problems[:_SHOWN_PROBLEMS]]
    more = f" (and {len(problems) - _SHOWN_PROBLEMS} more)" if len(problems) > _SHOWN_PROBLEMS else ""
    return "; ".join(shown) + more


def _place(loc: Sequence[object]) -> str:
    """Return where a problem is; a field name made up by a client is cut short."""
    return ".".join(str(part)[:80] for part in loc) or "body"
