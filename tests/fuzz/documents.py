"""Documents as nobody should send them: Markdown and HTML grown out of their own signs, real PDFs cut and flipped."""

from __future__ import annotations

import random
import re
import zlib
from collections.abc import Callable

from tests.fuzz.images import _ANY, bomb
from tests.nlp.knowledge.pdfs import make_pdf, pdf_of_streams, rewritten

_MARKDOWN = [
    *(
        "# ",
        "###### ",
        "\n",
        "\n\n",
        "    ",
        "- ",
        "1. ",
        "> ",
        "```",
        "~~~",
        "`",
        "*",
        "**",
        "_",
        "[",
        "](",
        ")",
        "![",
    ),
    *(
        "<div>",
        "</div>",
        "<!--",
        "-->",
        "<script>",
        "|",
        "---|---\n",
        "\\",
        "&amp;",
        "&#0;",
        "[a]: ",
        "---\n",
        "title: x\n",
    ),
    *(
        "word ",
        "Ada ",
        "42 ",
        "é",
        "\u202e",
        "\0",
        "\ufeff",
        "\u2028",
        "\r",
        "\t",
        "javascript:alert(1)",
        "http://a.b ",
    ),
]
_HTML = [
    *(
        "<",
        ">",
        "</",
        "/>",
        "<p>",
        "</p>",
        "<div hidden>",
        "<h1>",
        "</h1>",
        "<table><tr><td>",
        "<li>",
        "<main>",
        "</main>",
    ),
    *(
        "<script>",
        "</script>",
        "<style>",
        "</style>",
        "<!--",
        "-->",
        "--!>",
        "<![CDATA[",
        "]]>",
        "<!doctype ",
        "<?xml ",
    ),
    *(
        "<title>",
        "</title>",
        "<textarea>",
        "<iframe src=",
        "<svg onload=",
        "<meta charset=utf-16>",
        "<base href=",
        "<pre>",
    ),
    *(
        ' a="',
        "'",
        "=",
        " ",
        "\n",
        "&",
        "&#",
        "&#x",
        "&#1114112;",
        "&lt;",
        "&nbsp",
        ";",
        "word ",
        "Ada ",
        "é",
        "\0",
        "\u202e",
    ),
]


def make_markdown(rng: random.Random) -> tuple[str, bytes]:
    return "a.md", _grown(_MARKDOWN, rng)


def make_html(rng: random.Random) -> tuple[str, bytes]:
    return "a.html", _grown(_HTML, rng)


def _grown(signs: list[str], rng: random.Random) -> bytes:
    """Return signs in a row; now and then one of them a thousand times, which is where a parser's time grows."""
    parts = []
    for _ in range(rng.randint(1, 60)):
        part = rng.choice(signs) * rng.choice((1, 1, 1, 2, 5))
        if rng.random() < 0.02:
            part = "".join(rng.choices(signs, k=rng.randint(1, 3))) * rng.choice((300, 1000, 5000))
        parts.append(part)
    content = "".join(parts).encode("utf-8")
    if rng.random() < 0.2:
        content = rng.choice(_ANY)(content, rng)
    if rng.random() < 0.1:
        content = (
            rng.choice((b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf", b"PK\x03\x04", b"%PDF-", b"\x1f\x8b")) + content
        )
    return content


def _pdf_seeds() -> list[bytes]:
    plain = make_pdf(["The engine was written by Ada.", "It costs 42 francs."], title="Engine")
    bombed = plain.replace(b"endstream", b"endstream", 1)
    stream = re.compile(rb"/Length \d+ /Filter /FlateDecode >> stream\n.*?\nendstream", re.DOTALL)
    packed = bomb(64)
    bombed = stream.sub(
        lambda _: b"/Length %d /Filter /FlateDecode >> stream\n%b\nendstream" % (len(packed), packed), plain, 1
    )
    loop = plain.replace(b"/Kids [4 0 R 6 0 R]", b"/Kids [2 0 R 2 0 R]")
    nested = pdf_of_streams([b"q " * 20_000 + b"BT (Ada) Tj ET"])
    filters = plain.replace(b"/FlateDecode", b"[/FlateDecode /FlateDecode /LZWDecode]")
    return [plain, bombed, loop, nested, filters, rewritten(plain, password="x"), rewritten(plain, bookmarks={"A": 0}),
            zlib.compress(plain)]  # fmt: skip


_PDFS = _pdf_seeds()


def make_pdf_file(rng: random.Random) -> tuple[str, bytes]:
    content = rng.choice(_PDFS)
    changes: tuple[Callable[[bytes, random.Random], bytes], ...] = (*_ANY, _change_number, _change_number)
    for _ in range(rng.choice((0, 1, 1, 2))):
        content = rng.choice(changes)(content, rng)
    return "a.pdf", content


def _change_number(content: bytes, rng: random.Random) -> bytes:
    """Return the file with one of its numbers changed: lengths, references, counts, places."""
    numbers = list(re.finditer(rb"\b\d{1,10}\b", content[:20_000]))
    if not numbers:
        return content
    chosen = rng.choice(numbers)
    value = rng.choice((b"0", b"-1", b"2", b"4", b"999999999", b"99999999999999999999", b"1e9"))
    return content[: chosen.start()] + value + content[chosen.end() :]
