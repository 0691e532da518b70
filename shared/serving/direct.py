"""A FastAPI app whose busiest routes are found in a dictionary instead of being asked one after the other.

FastAPI matches a request against route after route and prepares dependencies, exit stacks and telemetry for each; a
route that takes the request as it is needs none of that. A third of the time that an answer took outside of the model
and the socket went there (FastAPI 0.165, Starlette 1.3, 2026-11). Such routes are answered here, with the same bodies,
errors and documentation; all others, and whatever is odd about a request, go FastAPI's way.

Neighbours: `app` makes the app; `bento.ApiFirst` hands it the requests.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from fastapi import APIRouter, FastAPI, params
from fastapi.datastructures import DefaultPlaceholder
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import TypeAdapter
from starlette._utils import get_route_path
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from shared.errors import PerceptError
from shared.serving.edge import disk_response, error_response

_JSON = (b"content-type", b"application/json")


class DirectApi(FastAPI):
    """FastAPI with a short way to some of its routes; `take` names the routers that they may stand in."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._direct: dict[str, _DirectRoute] = {}

    @property
    def direct_paths(self) -> list[str]:
        """The paths that are answered directly."""
        return list(self._direct)

    def take(self, routers: Iterable[APIRouter]) -> None:
        """Answer directly what can be: `POST` routes without a prefix that take the request, and queries at the most.

        Call it once all routes are there: where two have one path, the first answers, here as there.
        """
        assert not self.router.dependencies, "what all routes depend on is FastAPI's to ask"
        earlier: list[APIRoute] = []
        for route in (route for router in routers for route in router.routes):
            if isinstance(route, APIRoute) and "POST" in (route.methods or ()):
                is_first = not any(other.path_regex.match(route.path) for other in earlier)
                if is_first and _can_be_direct(route):
                    self._direct[route.path] = _DirectRoute(route)
                earlier.append(route)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http" and scope["method"] == "POST" and not self.user_middleware and not self.root_path:
            route = self._direct.get(get_route_path(scope))
            if route is not None and not (scope["query_string"] and route.defaults):
                scope["app"] = self
                await route(scope, receive, send)
                return
        await super().__call__(scope, receive, send)


class _DirectRoute:
    def __init__(self, route: APIRoute) -> None:
        self.route = route
        self.endpoint: Callable[..., Awaitable[Any]] = route.endpoint
        self.defaults = _defaults(route.endpoint)
        self._adapter: TypeAdapter[Any] = TypeAdapter(route.response_model)
        self._excludes_none = route.response_model_exclude_none

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["route"] = self.route
        scope["path_params"] = {}
        try:
            answer = await self.endpoint(Request(scope, receive), **self.defaults)
            body = None
            if not isinstance(answer, Response):
                body = self._adapter.dump_json(answer, by_alias=True, exclude_none=self._excludes_none)
        except ClientDisconnect:
            raise
        except Exception as error:
            response = _expected(error, scope)
            await (response or error_response(error, scope))(scope, receive, send)
            if response is None:
                raise  # the edge logs it; answered it is here, within the layers that add headers
            return
        if body is None:
            await answer(scope, receive, send)
            return
        headers = [(b"content-length", b"%d" % len(body)), _JSON]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def _expected(error: Exception, scope: Scope) -> Response | None:
    """Return the answer to an error that is no fault of the service's code, or None."""
    if isinstance(error, (PerceptError, RequestValidationError, HTTPException)):
        return error_response(error, scope)
    return disk_response(error, scope)


def _can_be_direct(route: APIRoute) -> bool:
    parameters = list(inspect.signature(route.endpoint).parameters.values())
    return (
        route.methods == {"POST"}
        and "{" not in route.path
        and [each.name for each in parameters[:1]] == ["request"]
        and all(isinstance(each.default, params.Query) for each in parameters[1:])
        and not any(each.default.is_required() for each in parameters[1:])
        and inspect.iscoroutinefunction(route.endpoint)
        and not route.dependencies
        and route.status_code in (None, 200)
        and route.response_model is not None
        and isinstance(route.response_class, DefaultPlaceholder)
        and route.response_model_by_alias
        and not (route.response_model_exclude_unset or route.response_model_exclude_defaults)
        and route.response_model_include is None
        and route.response_model_exclude is None
    )


def _defaults(endpoint: Callable[..., Any]) -> dict[str, Any]:
    """Return what a route's queries are where the request has none."""
    others = list(inspect.signature(endpoint).parameters.values())[1:]
    return {each.name: each.default.get_default(call_default_factory=True) for each in others}
