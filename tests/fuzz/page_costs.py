"""What a visitor of the demo page can send: photos, documents, messages, and events that no page sends.

An upload is read once, so each request that names one makes it anew, before its cost is measured.
"""

from __future__ import annotations

import io
import json
import secrets
import zipfile
from collections.abc import Iterator
from functools import partial
from typing import Any

import docx
from PIL import Image

from nlp.page.documents import MAX_CHARACTERS, MAX_FILE_BYTES
from tests.fuzz.costs import FORM, Sent, encoded, hostile_forms, photo_of, words_of
from tests.nlp.knowledge.pdfs import make_pdf, nested_bookmarks
from tests.server import Server

EVENT, CALL, UPLOAD, JOIN = (
    f"/ui/gradio_api/{name}" for name in ("run/predict", "component_server", "upload", "queue/join")
)
PASTED = 300_000
"""Characters of a pasted text."""


def _upload(server: Server, name: str, content: bytes) -> str:
    head = f'--cut\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'.encode()
    answer = server.post(UPLOAD, head + content + b"\r\n--cut--\r\n", FORM)
    assert answer.status == 200, answer.body
    return str(answer.json[0])


class _Page:
    def __init__(self, server: Server) -> None:
        config = server.get("/ui/config").json
        self.parts = {part["props"].get("elem_id"): part["id"] for part in config["components"]}
        self.named = {each["api_name"]: each["id"] for each in config["dependencies"] if not each["targets"]}
        self.events = {tuple(each["targets"][0]): each["id"] for each in config["dependencies"] if each["targets"]}

    def call(self, name: str, kind: str, data: dict[str, Any], honest: Sent | None = None) -> Sent:
        return Sent(CALL, kind, b"", honest=honest, made=lambda _: self._called(name, data))

    def _called(self, name: str, data: dict[str, Any]) -> bytes:
        """Return a call's body, of a visitor who was never here."""
        data = {"visitor": secrets.token_hex(16), **data}
        return json.dumps({"component_id": self.parts["language"], "fn_name": name, "data": data}).encode()

    def add(self, name: str, kind: str, content: bytes, honest: Sent | None = None) -> Sent:
        def made(server: Server) -> bytes:
            return self._called("add_file", {"path": _upload(server, name, content), "name": name})

        return Sent(CALL, kind, b"", honest=honest, made=made)

    def look(self, kind: str, content: bytes, honest: Sent | None = None) -> Sent:
        return Sent(EVENT, kind, b"", honest=honest, made=partial(self._looked, content))

    def tag(self, kind: str, content: bytes, honest: Sent | None = None) -> Sent:
        return Sent(
            JOIN, kind, b"", honest=honest, made=lambda server: self._join("tag", _upload(server, "a", content))
        )

    def understand(self, kind: str, text: str, honest: Sent | None = None) -> Sent:
        return Sent(JOIN, kind, b"", honest=honest, made=lambda _: self._join("understand", text))

    def _join(self, name: str, value: str) -> bytes:
        """Return a call by name, of a session that was never here."""
        return json.dumps(
            {"fn_index": self.named[name], "data": [value], "session_hash": secrets.token_hex(16)}
        ).encode()

    def _looked(self, content: bytes, server: Server) -> bytes:
        data = [_upload(server, "a.png", content), True, 50]
        return self._event("photo-address", "change", data)

    def _event(self, part: str, event: str, data: list[Any], **more: Any) -> bytes:
        return json.dumps({"fn_index": self.events[self.parts[part], event], "data": data, **more}).encode()

    def explain(self, kind: str, content: bytes, honest: Sent | None = None) -> Sent:
        def made(server: Server) -> bytes:
            kept = server.post(EVENT, self._looked(content, server), "application/json").json["data"][0]
            data = [_upload(server, "a.png", content), kept]
            index = int(next(iter(json.loads(kept)["scores"])))
            return self._event("tags", "select", data, event_data={"index": index})

        return Sent(EVENT, kind, b"", honest=honest, made=made)


def word_document(block: str) -> bytes:
    """Return a .docx with these blocks."""
    whole = io.BytesIO()
    docx.Document().save(whole)
    space = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    made = io.BytesIO()
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as new:
        for part in old.infolist():
            body = f'<w:document xmlns:w="{space}"><w:body>{block}</w:body></w:document>'.encode()
            new.writestr(part, body if part.filename == "word/document.xml" else old.read(part))
    return made.getvalue()


def page_requests(server: Server) -> Iterator[Sent]:
    """Yield honest and hostile requests to the page of a server that has the starter models."""
    page = _Page(server)
    photo, message, heat, pasted, document, pdf, tagged, understood = honest = (
        page.look("a photo of 1 megapixel on the page", photo_of(1000)),
        page.call("reply", "a message of 2,000 characters on the page", {"text": words_of(2000)}),
        page.explain("a heat map of a photo of 1 megapixel", photo_of(1000)),
        page.call("add_text", f"a pasted text of {PASTED:,} characters", {"text": words_of(PASTED)}),
        page.add("a.txt", "a text of 1 million characters, dropped", words_of(MAX_CHARACTERS).encode()),
        page.add("a.pdf", "a PDF of 100 pages, dropped", make_pdf(["\n".join([words_of(80)] * 50)] * 100)),
        page.tag("a photo of 1 megapixel, by name", photo_of(1000)),
        page.understand("a message of 2,000 characters, by name", words_of(2000)),
    )
    yield from honest
    large = Image.new("RGBA", (6300, 6300), (200, 10, 10, 128))
    yield page.look("a PNG of 39 megapixels with alpha on the page", encoded(large, "PNG"))
    yield page.explain("a heat map of a PNG of 39 megapixels", encoded(large, "PNG"), heat)
    yield page.tag("a PNG of 39 megapixels, by name", encoded(large, "PNG"), tagged)
    yield page.understand("a message of 5 MB, by name", "漢字 " * 500_000, understood)
    for kind, text in {
        "punctuation": "a.,;" * 500,
        "ideographs": "漢字" * 1000,
        "marks in thirties": ("a" + "\u0301\u0316" * 15) * 64,
        "questions": "who? " * 400,
    }.items():
        yield page.call("reply", f"a message of {kind} on the page", {"text": text[:2000]}, message)
        long = text * (PASTED // len(text))
        yield page.call("add_text", f"a pasted text of {kind}", {"text": long}, pasted)
    for name, kind, piece in (
        ("a.md", "headings", "# a\n\nb\n\n"),
        ("a.md", "deep quotes", "> " * 900 + "a\n\n"),
        ("a.md", "deep lists", "".join(f"{'  ' * level}- a\n" for level in range(200)) + "\n"),
        ("a.md", "brackets", "[" * 5000 + "\n\n"),
        ("a.md", "emphasis", "*a_ **b__ " * 500 + "\n\n"),
        ("a.md", "tables", "|a|b|\n|-|-|\n" + "|c|d|\n" * 50 + "\n"),
        ("a.html", "deep elements", "<div>" * 200 + "a" + "</div>" * 200),
        ("a.html", "table cells", "<table>" + "<tr><td>a<td>b" * 50 + "</table>"),
        ("a.html", "entities", "&amp;&#9731;&nbsp;" * 100),
        ("a.txt", "one-letter words", "a b c d e f. " * 100),
        ("a.html", "one-letter words in HTML", "a b c d e f. " * 100),
        ("a.txt", "lines", "\n" * 999 + "a"),
    ):
        for size, said in ((MAX_FILE_BYTES, "5 MB"), (MAX_CHARACTERS, "1 MB")):
            content = (piece * (size // len(piece))).encode()
            yield page.add(name, f"{said} of {kind}, dropped", content, document)
    for kind, block in {
        "paragraphs": "<w:p><w:r><w:t>word word word</w:t></w:r></w:p>" * 74_000,
        "runs": "<w:p>" + "<w:r><w:t>a</w:t></w:r>" * 140_000 + "</w:p>",
        "table rows": "<w:tbl>" + "<w:tr><w:tc><w:p><w:r><w:t>a</w:t></w:r></w:p></w:tc></w:tr>" * 56_000 + "</w:tbl>",
        "marks beyond the limit": "<w:p/>" * 2_000_000,
    }.items():
        yield page.add("a.docx", f"a Word document of {kind}, dropped", word_document(block), document)
    yield page.add("a.pdf", "a PDF with 900 nested bookmarks, dropped", nested_bookmarks(50, 900), pdf)
    yield page.add(
        "a.pdf", "a PDF of one page of 5 MB of text, dropped", make_pdf(["\n".join([words_of(80)] * 60_000)]), pdf
    )
    for kind, body in {
        "300,000 arrays": b'{"fn_index": 1, "data": [' + b"[]," * 300_000 + b"[]]}",
        "100,000 names": b"{" + b",".join(b'"%d":0' % each for each in range(100_000)) + b"}",
        "nested arrays": b"[" * 500_000 + b"]" * 500_000,
        "400,000 values": b'{"fn_index": 1, "data": [' + b"0," * 400_000 + b"0]}",
    }.items():
        for route in (EVENT, CALL, JOIN):
            yield Sent(route, f"an event of {kind}", body, honest=message)
    for sent in hostile_forms():
        yield Sent(UPLOAD, sent.kind, sent.body.replace(b'name="image"', b'name="files"'), FORM, photo)
    yield page.look("a photo of 8 by 8", encoded(Image.new("RGB", (8, 8)), "PNG"), photo)
