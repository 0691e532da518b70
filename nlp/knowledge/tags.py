"""HTML cut into tags and text, in time that grows with its length whatever it holds.

Python's html.parser took 6 minutes for 336 KB of tags that never close (3.11.7, 2026-11: its time grows with the square
of the length), and Beautiful Soup reads through it. What callers send needs a bound, so the cutting is done here; the
rules are those of the HTML standard's tokenizer, for all that matters to plain text.

Source: HTML Living Standard, section 13.2.5 "Tokenization". Neighbour: `webpage` makes paragraphs of the pieces.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass

MAX_ATTRIBUTE_CHARS = 4096
"""Of one tag are read; what matters here (hidden, role, alt, charset) is short."""
_RAW = frozenset({"script", "style", "title", "textarea", "xmp", "iframe", "noembed", "noframes"})
"""Elements whose content is no markup, up to their end tag."""
_NAME = re.compile(r"[a-z][^\s/>]*", re.IGNORECASE)
_COMMENT_END = re.compile("--!?>")
_TAG_END = re.compile(r"=\s*([\"'])|>")
_ATTRIBUTE = re.compile(r"([^\s=/>\"']+)(?:\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s>]+)))?")
_LONG_REFERENCE = re.compile(r"&#(?:[0-9]{8,}|[xX][0-9a-fA-F]{7,});?")


@dataclass(frozen=True)
class Start:
    """A start tag."""

    name: str
    attributes: str
    """As written, cut off behind `MAX_ATTRIBUTE_CHARS`."""

    def values(self) -> dict[str, str]:
        """Return attribute -> value; of two with one name the first counts."""
        found: dict[str, str] = {}
        for match in _ATTRIBUTE.finditer(self.attributes):
            value = next((group for group in match.groups()[1:] if group is not None), "")
            found.setdefault(match[1].lower(), unescape(value))
        return found


@dataclass(frozen=True)
class End:
    """An end tag."""

    name: str


@dataclass(frozen=True)
class Raw:
    """An element whose content is no markup, such as a script or the title, without its tags."""

    name: str
    content: str


def pieces(text: str) -> Iterator[str | Start | End | Raw]:
    """Return text (character references resolved), tags and raw contents in their order; comments are left out.

    As in a browser, an unfinished tag, comment or script swallows the rest.
    """
    place = 0
    while (opening := text.find("<", place)) >= 0:
        if opening > place:
            yield unescape(text[place:opening])
        place = opening + 1
        following = text[place : place + 1]
        if following in {"!", "?"}:
            place = _behind_comment(text, place)
        elif following == "/":
            name = _NAME.match(text, place + 1)
            place = _behind(text, ">", place)
            if name and name.end() < place:
                yield End(name[0].lower())
        elif name := _NAME.match(text, place):
            end = _tag_end(text, name.end())
            if end < 0:
                return
            tag, place = name[0].lower(), end + 1
            if tag in _RAW:
                closing = re.compile(rf"</{tag}(?=[\s/>])", re.IGNORECASE).search(text, place)
                stop = closing.start() if closing else len(text)
                yield Raw(tag, text[place:stop])
                place = _behind(text, ">", stop)
            else:
                yield Start(tag, text[name.end() : min(end, name.end() + MAX_ATTRIBUTE_CHARS)])
        else:
            yield "<"
    if place < len(text):
        yield unescape(text[place:])


def unescape(text: str) -> str:
    """Return the text with character references resolved.

    >>> unescape("caf&eacute; &#39;&amp;#39; &#99999999999;")
    "café '&#39; \\ufffd"
    """
    # html.unescape turns the digits into a number, which Python refuses above 4300 of them.
    return html.unescape(_LONG_REFERENCE.sub("\ufffd", text)) if "&" in text else text


def _behind_comment(text: str, place: int) -> int:
    """Return where it goes on behind a comment, declaration or instruction whose `!` or `?` stands at `place`."""
    if text.startswith("!--", place):
        if text.startswith(("!-->", "!--->"), place):
            return text.index(">", place) + 1
        closing = _COMMENT_END.search(text, place + 3)
        return closing.end() if closing else len(text)
    return _behind(text, ">", place)


def _behind(text: str, mark: str, place: int) -> int:
    found = text.find(mark, place)
    return len(text) if found < 0 else found + len(mark)


def _tag_end(text: str, place: int) -> int:
    """Return where a tag's `>` stands, which is not one inside a quoted value; -1 where there is none."""
    while match := _TAG_END.search(text, place):
        if match[1] is None:
            return match.start()
        close = text.find(match[1], match.end())
        if close < 0:
            return -1
        place = close + 1
    return -1
