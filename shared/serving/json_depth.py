"""How deep the arrays and objects of a JSON body may nest: judged before any parser builds them.

Parsers end somewhere by themselves, each elsewhere and in its own words; this is one limit for all of them. It looks at
the brackets alone, in as many passes as the limit at the most, and in most bodies counts them once.
"""

from __future__ import annotations

import re

from fastapi.exceptions import RequestValidationError
from starlette.types import Scope

MAX_JSON_DEPTH = "percept.max_json_depth"
"""Key in the ASGI scope, where the body limit leaves what the settings say."""
DEFAULT_MAX_JSON_DEPTH = 32
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_ALL_BUT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_ONE_KIND = bytes.maketrans(b"{}", b"[]")


def check_depth(body: bytes, scope: Scope) -> None:
    """Refuse a JSON body that nests deeper than the limit; whether it is JSON at all its parser says.

    Raises:
        RequestValidationError: it does.
    """
    limit: int = scope.get(MAX_JSON_DEPTH, DEFAULT_MAX_JSON_DEPTH)
    if is_deeper(body, limit):
        raise RequestValidationError([{"loc": ("body",), "msg": f"nested deeper than the limit of {limit}"}])


def is_deeper(body: bytes, limit: int) -> bool:
    r"""Return whether arrays and objects that are closed nest more than `limit` deep.

    >>> is_deeper(b'{"a": [[1], [2]]}', 2), is_deeper(b'{"a": [[1], [2]]}', 3)
    (True, False)
    >>> is_deeper(b'["[[[[\\"]]]]"]', 1)
    False
    """
    if body.count(b"[") + body.count(b"{") <= limit:
        return False
    brackets = _STRING.sub(b"", body).translate(_ONE_KIND, _ALL_BUT_BRACKETS)
    for _ in range(limit):  # each round takes the innermost pairs away
        rest = brackets.replace(b"[]", b"")
        if len(rest) == len(brackets):
            return False
        brackets = rest
    return b"[]" in brackets
