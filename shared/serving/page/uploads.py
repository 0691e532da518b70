"""What visitors dropped on the page: kept for a while in a folder that all workers share.

A browser knows a file by an address of random bits, which shows no folder of the server and leads to no other file.
"""

from __future__ import annotations

import re
import secrets
from pathlib import Path, PurePath

from shared.errors import NotFound

_ADDRESS = re.compile(r"[0-9a-f]{32}(\.[a-z0-9]{1,5})?")
_SUFFIX = re.compile(r"\.[a-z0-9]{1,5}")
_PICTURES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".gif": "image/gif",
    ".bmp": "image/bmp",
    ".avif": "image/avif",
}
"""Suffix -> media type of what a browser may show; anything else, an SVG or a page, could run a script from here."""


class Uploads:
    """The files of all visitors.

    Args:
        folder: where they are kept; somebody else sweeps it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def keep(self, name: str, content: bytes) -> str:
        """Keep a file and return its address.

        Args:
            name: what the visitor calls it; only its suffix matters.
            content: its bytes.

        Raises:
            OSError: the disk is full, or cannot be written.
        """
        suffix = PurePath(name).suffix.lower()
        address = secrets.token_hex(16) + (suffix if _SUFFIX.fullmatch(suffix) else "")
        (self.folder / address).write_bytes(content)
        return address

    def find(self, address: object) -> Path:
        """Return the file with this address.

        Raises:
            NotFound: there is none, or no longer.
        """
        if isinstance(address, str) and _ADDRESS.fullmatch(address):
            path = self.folder / address
            if path.is_file() and not path.is_symlink():
                return path
        raise NotFound("there is no such upload, or it is no longer here. Drop the file again.")


def media_type(path: Path) -> str:
    """Return what a browser is told that an upload is.

    >>> media_type(Path("a.png")), media_type(Path("a.svg"))
    ('image/png', 'application/octet-stream')
    """
    return _PICTURES.get(path.suffix, "application/octet-stream")
