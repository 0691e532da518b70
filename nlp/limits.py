"""What a text must be before it is read: not blank, not too long, made of whole characters."""

from __future__ import annotations

from typing import Any

from nlp.text import check_text
from shared.errors import InputError, TooLarge


def checked_text(text: Any, max_chars: int, what: str = "the text") -> str:
    r"""Return the text, which may hold any character, NUL and other control characters too.

    >>> checked_text("Ça va ?", 10)
    'Ça va ?'
    >>> checked_text(" \n\u200b", 10)
    Traceback (most recent call last):
    shared.errors.InputError: the text is empty or blank. Send some words.

    Args:
        text: what came.
        max_chars: most characters.
        what: how it is called in messages.

    Raises:
        InputError: it is no string, has no visible character or half a surrogate pair.
        TooLarge: it is longer.
    """
    if not isinstance(text, str):
        raise InputError(f"{what} must be a string; came {_JSON_NAMES.get(type(text), 'something else')}.")
    if len(text) > max_chars:
        raise TooLarge(f"{what} has {len(text)} characters; the limit is {max_chars}. Send a shorter one.")
    check_text(text)
    if not any(character.isprintable() and not character.isspace() for character in text):
        raise InputError(f"{what} is empty or blank. Send some words.")
    return text


_JSON_NAMES = {type(None): "null", bool: "true or false", int: "a number", float: "a number", list: "an array",
               dict: "an object"}  # fmt: skip
