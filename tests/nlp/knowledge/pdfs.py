"""Small PDFs, written by hand: what is in them is known to the byte."""

from __future__ import annotations

import io
import zlib
from collections.abc import Sequence

import pypdf


def make_pdf(pages: Sequence[str], *, title: str | None = None) -> bytes:
    """Return a PDF with one line of text for each line of each page."""
    streams = []
    for text in pages:
        lines = "".join(f"({_escaped(line)}) Tj T*\n" for line in text.split("\n"))
        streams.append(f"BT /F1 12 Tf 14 TL 72 720 Td\n{lines}ET".encode("cp1252"))
    return pdf_of_streams(streams, title=title)


def nested_bookmarks(pages: int, levels: int) -> bytes:
    """Return a PDF whose pages are words, each of its bookmarks inside the one before."""
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(make_pdf([f"word {page}" for page in range(pages)])))
    above = None
    for level in range(levels):
        above = writer.add_outline_item(title=f"{level} " + "x" * 290, page_number=level % pages, parent=above)
    written = io.BytesIO()
    writer.write(written)
    return written.getvalue()


def pdf_of_streams(streams: Sequence[bytes], *, title: str | None = None) -> bytes:
    """Return a PDF whose pages show what these content streams draw."""
    kids = " ".join(f"{4 + 2 * index} 0 R" for index in range(len(streams)))
    font = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>"
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Count {len(streams)} /Kids [{kids}] >>".encode(),
        font,
    ]
    for index, stream in enumerate(streams):
        packed = zlib.compress(stream, 1)
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Resources << /Font << /F1 3 0 R >> >> "
            + f"/Contents {5 + 2 * index} 0 R >>".encode()
        )
        objects.append(f"<< /Length {len(packed)} /Filter /FlateDecode >> stream\n".encode() + packed + b"\nendstream")
    info = b""
    if title is not None:
        objects.append(b"<< /Title (" + _escaped(title).encode("cp1252") + b") >>")
        info = f" /Info {len(objects)} 0 R".encode()
    written = io.BytesIO()
    written.write(b"%PDF-1.7\n")
    places = []
    for number, each in enumerate(objects, 1):
        places.append(written.tell())
        written.write(f"{number} 0 obj\n".encode() + each + b"\nendobj\n")
    table = written.tell()
    written.write(f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode())
    written.write("".join(f"{place:010d} 00000 n \n" for place in places).encode())
    trailer = f"trailer << /Size {len(objects) + 1} /Root 1 0 R".encode() + info + b" >>\n"
    written.write(trailer + f"startxref\n{table}\n%%EOF\n".encode())
    return written.getvalue()


def rewritten(content: bytes, *, password: str | None = None, bookmarks: dict[str, int] | None = None) -> bytes:
    """Return a PDF with a password, or with bookmarks (title -> page index), as pypdf writes it."""
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(content))
    for name, page in (bookmarks or {}).items():
        writer.add_outline_item(title=name, page_number=page)
    if password is not None:
        writer.encrypt(password, "owner", algorithm="RC4-128")
    written = io.BytesIO()
    writer.write(written)
    return written.getvalue()


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
