"""The character set of a text file: what its first bytes say, else UTF-8 if all of it is, else a checked guess."""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from pathlib import Path

from shared.errors import DataError

_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_CHUNK_BYTES = 1 << 20
_LETTERS = {
    "German": "äöüß",
    "French": "àâæçéèêëîïôœùûüÿ",
    "Spanish": "áéíñóúü",
    "Portuguese": "àáâãçéêíóôõúü",
    "Italian": "àèéìíîòóùú",
    "Dutch": "áéèëïíóöúü",
    "Swedish and Finnish": "åäöé",
    "Danish and Norwegian": "æøåé",
    "English": "éèïöñç",
}
"""Language -> its letters beyond a to z, which are at the same places in cp1252 and ISO 8859-1."""
_SIGNS = frozenset("€‚„…‰‹‘’“”•–—›¡£§©«®°±²³´·»¿ªº½¼¾×\xa0")
_PROBED_CHARACTERS = 100_000


def find_charset(path: Path) -> tuple[str, list[str]]:
    """Return the name of the character set, and a line for the user where it is a guess.

    Raises:
        DataError: it is none that can be told for sure; names the first line in question.
        OSError: the file cannot be read.
    """
    if marked := marked_charset(path):
        return marked, []
    with path.open("rb") as file:
        head = file.read(4096)
    if b"\0" in head:
        return _without_mark(path, head), []
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                decoder.decode(chunk)
            decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return _western(path)
    return "utf-8", []


def marked_charset(path: Path) -> str | None:
    """Return the name of the character set that the first bytes of a file name; None if they name none."""
    with path.open("rb") as file:
        head = file.read(4)
    return next((name for mark, name in _MARKS.items() if head.startswith(mark)), None)


def _without_mark(path: Path, head: bytes) -> str:
    """Return which UTF-16 it is: of most texts every other byte is 0."""
    zeros = [head[start::2].count(0) for start in (0, 1)]
    if max(zeros) > 10 * min(zeros):
        return "utf-16-be" if zeros[0] > zeros[1] else "utf-16-le"
    raise DataError(f"{path} is no text: it has zero bytes in it. Export it as CSV in UTF-8.")


def _western(path: Path) -> tuple[str, list[str]]:
    with path.open("rb") as file:
        odd = [(number, line) for number, line in enumerate(file, 1) if not line.isascii()]
    number, line = next((number, line) for number, line in odd if not _is_utf8(line))
    if is_western(line for _, line in odd):
        shown = line.decode("cp1252").strip()[:60]
        return "cp1252", [
            f"{path}: not UTF-8, read as cp1252, Windows' set for Western Europe (line {number} reads {shown!r}); "
            "`encoding` chooses another"
        ]
    shown = line.decode("cp1252", "replace").strip()[:60]
    raise DataError(
        f"{path} is not UTF-8: line {number} has the bytes {_odd_bytes(line)}. Save it as UTF-8, or name its character "
        f"set, as in `encoding: cp1252`, with which the line reads {shown!r}."
    )


def is_western(lines: Iterable[bytes]) -> bool:
    """Return whether bytes beyond ASCII make words of one Western European language if they are read as cp1252.

    >>> is_western(["schöne Grüße".encode("cp1252")]), is_western(["příliš žluťoučký".encode("cp1250")])
    (True, False)
    """
    letters: set[str] = set()
    plain = accented = 0
    for line in lines:
        try:
            text = line.decode("cp1252")
        except UnicodeDecodeError:
            return False
        for before, character, after in zip(" " + text, text, text[1:] + " ", strict=False):
            if character.isascii():
                plain += character.isalpha()
            elif character in _SIGNS:
                if before.isalpha() and after.isalpha() and character not in "’\xa0·":
                    return False  # a sign in the middle of a word is a letter of another set
            elif character.isalpha() and not (before.islower() and character.isupper()):
                letters.add(character.lower())
                accented += 1
            else:
                return False
        if plain + accented > _PROBED_CHARACTERS and len(letters) > 3:
            break
    is_known = any(letters <= set(known) for known in _LETTERS.values())
    return is_known and accented <= plain


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _odd_bytes(line: bytes) -> str:
    return " ".join(f"{byte:02X}" for byte in line if byte > 127)[:24].strip()
