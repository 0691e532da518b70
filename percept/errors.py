"""Every error that the client raises:

ClientError
├── NoAnswer          no answer came: no connection, a broken one, or a timeout
├── BadAnswer         what came is not the answer of a Percept service
└── ApiError          the service refused: `status`, `type`, `message`, `request_id`
    ├── BadInput      400, 408, 413, 415, 422: sending it again will not help
    ├── Denied        401, 403: no key, a wrong one, or one that may not do this
    ├── NotFound      404: no such route, model or document
    ├── Overloaded    429, with `retry_after_s`
    └── Unavailable   503, 504: not ready, shutting down, or it took too long
"""

from __future__ import annotations

import json
from collections.abc import Mapping


class ClientError(Exception):
    """Base of all errors here."""


class NoAnswer(ClientError):
    """No answer came. Unless no connection was made, the service may have done what was asked."""


class BadAnswer(ClientError):
    """What came is not the answer of a Percept service, or of one of another version."""


class ApiError(ClientError):
    """The service refused.

    Args:
        message: from the service, for people.
        type: the service's name for it, such as "invalid_image"; "unknown" if something in between answered.
        request_id: the request's id in the service's log, if the answer has it.
        status: of HTTP.
        retry_after_s: when to try again, if the answer says so.
    """

    def __init__(
        self,
        message: str,
        *,
        type: str,  # noqa: A002 the name that the service's JSON has
        request_id: str | None,
        status: int,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.type = type
        self.request_id = request_id
        self.status = status
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        asked = f", request {self.request_id}" if self.request_id else ""
        return f"{self.message} ({self.status} {self.type}{asked})"


class BadInput(ApiError):
    """The input cannot be answered; sending it again will not help."""


class Denied(ApiError):
    """No key, a wrong one, or one that may not do this."""


class NotFound(ApiError):
    """No such route, model or document."""


class Overloaded(ApiError):
    """The queue is full, or the key has used up its requests for this minute."""


class Unavailable(ApiError):
    """Not ready, shutting down, or it took too long."""


_KINDS: dict[int, type[ApiError]] = {
    400: BadInput,
    401: Denied,
    403: Denied,
    404: NotFound,
    408: BadInput,
    413: BadInput,
    415: BadInput,
    422: BadInput,
    429: Overloaded,
    503: Unavailable,
    504: Unavailable,
}
_SHOWN_CHARS = 200


def api_error(status: int, headers: Mapping[str, str], body: bytes, retry_after_s: float | None) -> ApiError:
    """Return the error for an answer; one that is not the service's own JSON is quoted in the message."""
    kind, message = "unknown", body[: 4 * _SHOWN_CHARS].decode("utf-8", "replace")[:_SHOWN_CHARS].strip()
    request_id = headers.get("x-request-id")
    try:
        said = json.loads(body)["error"]
        kind, message = str(said["type"]), str(said["message"])
        request_id = said.get("request_id") or request_id
    except (ValueError, TypeError, KeyError, AttributeError):
        pass  # a proxy's page, or nothing
    return _KINDS.get(status, ApiError)(
        message or "the answer is empty",
        type=kind,
        request_id=request_id,
        status=status,
        retry_after_s=retry_after_s,
    )
