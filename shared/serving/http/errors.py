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
from pydantic import BaseModel, ConfigDict, Field, ValidationError
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
from shared.serving.observe import metrics

_log = logging.getLogger(__name__)
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
    metrics.REJECTED.labels(_kind)  # there from the start, at 0
NOT_READY_RETRY_S = 5
_DISK_ERRORS = {
    errno.ENOSPC: "the service's disk is full",
    errno.EDQUOT: "the service has used up its share of the disk",
    errno.EROFS: "the service's disk can only be read at present",
}
_SHOWN_PROBLEMS = 5
_HTTP_TYPES = {
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    415: "unsupported_media",
}
_HTTP_MESSAGES = {
    404: "there is no such route. GET /openapi.json lists the routes.",
    405: "this route does not answer this method. GET /openapi.json lists the routes with their methods.",
}
_INTERNAL = "the service failed on this request. It is not your input's fault; the log has it under its X-Request-ID."
REQUEST_ID = "percept.request_id"
"""Key in the ASGI scope."""
INFERENCE_PROTOCOL = "/v2"
"""Where the Open Inference Protocol's routes stand: its clients have the path built in."""


class ErrorDetail(BaseModel):
    """What went wrong."""

    type: str = Field(description="A word for programs, such as `invalid_image`.")
    message: str = Field(description="A sentence for people: what was expected, what came, what to do.")
    request_id: str = Field(description="Also in the header X-Request-ID and in the service's log.")


class ErrorBody(BaseModel):
    """The body of every answer that is not a success, but for those under /v2."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "error": {
                        "type": "invalid_image",
                        "message": "the image cannot be decoded: it is truncated or broken. Send a complete file.",
                        "request_id": "0f8e3a1c9d7b4e6f",
                    }
                }
            ]
        }
    )

    error: ErrorDetail


class InferenceErrorBody(BaseModel):
    """The body of every answer under /v2 that is not a success, as the Open Inference Protocol has it."""

    error: str = Field(description="A sentence for people: what was expected, what came, what to do.")


def classify(error: Exception) -> tuple[int, str, str, dict[str, str]]:
    """Return status, type, message and extra headers for any exception.

    Pydantic's own ValidationError is a fault of ours: who parses a body on its own raises `invalid_body` of it.
    """
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


def invalid_body(error: ValidationError) -> RequestValidationError:
    """Return the error of a request whose body is not what its schema says; without the body, as it may be logged."""
    return RequestValidationError(error.errors(include_url=False, include_input=False, include_context=False))


def error_response(error: Exception, scope: Scope, headers: Mapping[str, str] | None = None) -> Response:
    """Return the answer that an exception becomes for the request of an ASGI scope."""
    status, kind, message, own = classify(error)
    if status != 500:
        metrics.REJECTED.labels(kind).inc()
    message = message.encode("utf-8", "replace").decode()  # half a surrogate pair in it would end in a 500
    detail = {"type": kind, "message": message, "request_id": scope.get(REQUEST_ID, "")}
    body = orjson.dumps({"error": message if _is_inference_protocol(route_path(scope)) else detail})
    return Response(body, status, {**own, **(headers or {})}, media_type="application/json")


def install_error_handlers(app: FastAPI | Starlette) -> None:
    """Make an app answer every error in the one shape; an unexpected exception is logged by the edge."""
    for kind in (PerceptError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, _handle)
    install_disk_handler(app)


def install_disk_handler(app: FastAPI | Starlette) -> None:
    """Make an app answer 503 where the disk is full or cannot be written to; any other error stays what it is."""
    app.add_exception_handler(OSError, _handle_disk)


async def _handle_disk(request: Request, error: Exception) -> Response:
    response = disk_response(error, request.scope)
    if response is None:
        raise error
    return response


def disk_response(error: Exception, scope: Scope) -> Response | None:
    """Return the answer where the disk is full or cannot be written to, None for any other error."""
    if not isinstance(error, OSError) or error.errno not in _DISK_ERRORS:
        return None
    _log.error("something could not be written: %s", error)
    return error_response(ServiceError(f"{_DISK_ERRORS[error.errno]}. Nothing was kept; send it again later."), scope)


async def _handle(request: Request, error: Exception) -> Response:
    response = error_response(error, request.scope)
    if response.status_code == 405 and (methods := _documented_methods(request)):
        response.headers["allow"] = methods
    return response


def _documented_methods(request: Request) -> str:
    """Return the methods of this path as Allow lists them; the router names those of one function alone."""
    app, path = request.scope.get("app"), getattr(request.scope.get("route"), "path_format", None)
    operations = app.openapi()["paths"].get(path, {}) if isinstance(app, FastAPI) else {}
    return ", ".join(sorted(method.upper() for method in operations))


def header(scope: Scope, name: bytes) -> str:
    """Return the first header of a request by that name in lower case; empty where there is none."""
    for key, value in scope["headers"]:
        if key == name:
            found: str = value.decode("latin-1")
            return found
    return ""


def route_path(scope: Scope) -> str:
    """Return the path of a request below where a proxy shows the service."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("app_root_path", scope.get("root_path", "")))


def _is_inference_protocol(path: str) -> bool:
    return path == INFERENCE_PROTOCOL or path.startswith(f"{INFERENCE_PROTOCOL}/")


def error_responses(*statuses: int, body: type[BaseModel] = ErrorBody) -> dict[int | str, dict[str, Any]]:
    """Return FastAPI's `responses` for a route: each status with its body and an example.

    Args:
        statuses: those that the route may answer with.
        body: InferenceErrorBody for routes under /v2.
    """

    def example(status: int) -> dict[str, Any]:
        _, kind, message = _DESCRIPTIONS[status]
        detail = {"type": kind, "message": message, "request_id": "0f8e3a1c9d7b4e6f"}
        return {"error": message if body is InferenceErrorBody else detail}

    return {
        status: {
            "model": body,
            "description": _DESCRIPTIONS[status][0],
            "content": {"application/json": {"example": example(status)}},
        }
        for status in statuses
    }


_DESCRIPTIONS = {
    400: (
        "The input cannot be answered",
        "invalid_image",
        "the image cannot be decoded: it is truncated or broken. Send a complete file.",
    ),
    401: ("No key, or a wrong one", "unauthorized", "this needs the key of the service's admin. Send it as …"),
    403: ("No key opens it here", "forbidden", "this service was started without a key. Set PERCEPT_ADMIN_KEY."),
    404: ("No such model or route", "not_found", _HTTP_MESSAGES[404]),
    413: ("Too many bytes, pixels or items", "too_large", "the image is 9000x7000 px; the limit is 40 megapixels."),
    415: (
        "A kind of body or image that is not accepted",
        "unsupported_media",
        "the image is a TIFF; accepted are JPEG, …",
    ),
    422: (
        "A parameter or field is wrong",
        "validation_error",
        "query.top_k: Input should be greater than or equal to 1",
    ),
    429: (
        "Overloaded; see Retry-After",
        "overloaded",
        "64 requests wait already, which is the limit. Send it again later.",
    ),
    503: ("Starting or draining; see Retry-After", "not_ready", "the model is not loaded yet. Send the request again."),
    504: (
        "Not answered in time",
        "deadline_exceeded",
        "the answer was not there within 30 s. Send the request again later.",
    ),
}


def _place(loc: Sequence[object]) -> str:
    """Return where a problem is; the name of a field that a client made up is cut short."""
    return ".".join(str(part)[:80] for part in loc) or "body"


def _validation_message(error: RequestValidationError) -> str:
    problems = error.errors()
    shown = [f"{_place(p['loc'])}: {p['msg']}" for p in problems[:_SHOWN_PROBLEMS]]
    more = f" (and {len(problems) - _SHOWN_PROBLEMS} more)" if len(problems) > _SHOWN_PROBLEMS else ""
    return "; ".join(shown) + more
