"""What a document may be called: ids that are safe in addresses and logs, titles on one line."""

from __future__ import annotations

import unicodedata

from nlp.knowledge.sections import MAX_HEADING_CHARS, one_line
from shared.errors import InputError

MAX_ID_CHARS = 200
_NEVER = "\\\ufffd"
"""A path of another system, and what stands for bytes that are no UTF-8: ids that differ would become one."""
_HOW = "Name it like guides/serving.md."


def checked_id(name: str) -> str:
    """Return a document's id in Unicode's form NFC.

    >>> checked_id("guides/serving.md")
    'guides/serving.md'
    >>> checked_id("../secret.md")
    Traceback (most recent call last):
    shared.errors.InputError: the document's id has the part '..'; ... Name it like guides/serving.md.

    Raises:
        InputError: it is empty, too long, no relative path or has characters that cannot be seen.
    """
    name = unicodedata.normalize("NFC", name)
    if not name:
        raise InputError(f"the document has no id. {_HOW}")
    if len(name) > MAX_ID_CHARS:
        raise InputError(f"the document's id has {len(name)} characters; the limit is {MAX_ID_CHARS}. {_HOW}")
    bad = next((character for character in name if character in _NEVER or not character.isprintable()), None)
    if bad is not None:
        raise InputError(
            f"the document's id has the character U+{ord(bad):04X}; it may have letters, digits, spaces, slashes and "
            f"signs that can be seen, no backslash. {_HOW}"
        )
    for part in name.split("/"):
        if part in ("", ".", "..") or part != part.strip():
            raise InputError(
                f"the document's id has the part {part!r}; it must be a relative path without empty parts, '.', '..' "
                f"and spaces at the edges of its parts. {_HOW}"
            )
    return name


def checked_title(title: str | None) -> str | None:
    """Return a title on one line; None for a blank one.

    Raises:
        InputError: it is too long.
    """
    if title is None:
        return None
    line = one_line(title, max_chars=MAX_HEADING_CHARS + 1)
    if len(line) > MAX_HEADING_CHARS:
        raise InputError(f"the title is longer than {MAX_HEADING_CHARS} characters, which is the limit. Shorten it.")
    return line or None
