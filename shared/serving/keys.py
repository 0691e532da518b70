"""API keys: who may change what a service knows. The key itself is never logged and stands in no message."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable

from fastapi import Request, Security
from fastapi.security import APIKeyHeader, HTTPBearer
from fastapi.security.http import HTTPAuthorizationCredentials

from shared.errors import Forbidden, Unauthorized
from shared.serving.access import CALLER, HEADER
from shared.serving.api_keys import ApiKey
from shared.serving.settings import PREFIX, Settings

_VARIABLE = f"{PREFIX}ADMIN_KEY"


def admin_only(settings: Settings) -> Callable[..., None]:
    """Return a FastAPI dependency that lets requests through that carry the admin's key, or one of that role.

    Raises:
        Forbidden: the service has no such key, so that nobody may; or the key that came is another's.
        Unauthorized: the request has none, or a wrong one.
    """
    # Both are optional: one is enough, and what is missing is told in our own words.
    bearer = HTTPBearer(auto_error=False, scheme_name="bearer", description=f"The key that {_VARIABLE} set.")
    header = APIKeyHeader(
        name=HEADER, auto_error=False, scheme_name="key", description="The same, in a header of its own."
    )

    def check(
        request: Request,
        authorization: HTTPAuthorizationCredentials | None = Security(bearer),
        key: str | None = Security(header),
    ) -> None:
        caller: ApiKey | None = request.scope.get(CALLER)
        if caller is not None:  # keys are set, and `Access` knows this one
            if caller.role != "admin":
                raise Forbidden(f"the key {caller.name!r} may ask, and not change anything. Send an admin's key.")
            return
        if settings.admin_key is None:
            raise Forbidden(f"this service was started without an admin's key. Set {_VARIABLE} and start it again.")
        given = authorization.credentials if authorization else key
        if given is None:
            raise Unauthorized(f"this needs the admin's key. Send it as `Authorization: Bearer …` or `{HEADER}: …`.")
        if not hmac.compare_digest(_digest(given, "latin-1"), _digest(settings.admin_key.get_secret_value(), "utf-8")):
            raise Unauthorized("the admin's key is wrong.")

    return check


def _digest(key: str, encoding: str) -> bytes:
    """Return a hash, so that a comparison takes the same time whatever came; headers are decoded as Latin-1."""
    return hashlib.sha256(key.encode(encoding, "surrogateescape")).digest()
