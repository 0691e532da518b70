"""A visitor's documents are the visitor's alone, bounded, and lie where nothing from outside says."""

from __future__ import annotations

import hashlib
import os
import time
from contextlib import closing
from pathlib import Path

import pytest

from nlp.page import documents as page_documents
from nlp.page.documents import MAX_DOCUMENTS, MAX_FILE_BYTES, VisitorDocuments
from shared.errors import InputError, NotFound, TooLarge, UnsupportedMedia
from shared.serving.page.kept_files import KeptFolder, sweep
from shared.serving.page.uploads import Uploads

ADA, MARIE = "a" * 32, "b" * 32


@pytest.fixture
def kept(tmp_path: Path) -> VisitorDocuments:
    for name in ("documents", "uploads"):
        (tmp_path / name).mkdir()
    return VisitorDocuments(tmp_path / "documents", Uploads(tmp_path / "uploads"))


def titles(kept: VisitorDocuments, visitor: str) -> list[str]:
    return sorted(each.title for each in kept.list(visitor))


def test_document_is_found_by_its_visitor_and_by_nobody_else(kept: VisitorDocuments):
    kept.add(ADA, "shop.md", b"# Hours\n\nThe shop opens at eight.")
    knowledge = kept.open(ADA)
    assert knowledge is not None
    with closing(knowledge):
        (passage,) = knowledge.search("when does the shop open")
    assert (passage.title, passage.headings) == ("shop.md", ("Hours",))
    assert titles(kept, ADA) == ["shop.md"]
    assert kept.list(MARIE) == []
    assert kept.open(MARIE) is None


def test_same_name_takes_the_place_of_the_old_document(kept: VisitorDocuments):
    kept.add(ADA, "shop.md", b"eight")
    kept.add(ADA, "shop.md", b"nine")
    (info,) = kept.list(ADA)
    knowledge = kept.open(ADA)
    assert knowledge is not None
    with closing(knowledge):
        assert knowledge.text(info.id).strip() == "nine"


def test_last_document_that_is_removed_takes_the_file_with_it(kept: VisitorDocuments):
    info = kept.add(ADA, "shop.md", b"eight")
    kept.remove(MARIE, info.id)
    assert titles(kept, ADA) == ["shop.md"]
    kept.remove(ADA, "0" * 16)  # is not there
    kept.remove(ADA, info.id)
    assert kept.list(ADA) == []
    assert list(kept.folder.iterdir()) == []


@pytest.mark.parametrize("visitor", ["", "a" * 31, "A" * 32, "../" + "a" * 29, "a" * 33, None, 5, ["a" * 32], "é" * 32])
def test_name_that_no_browser_makes_is_refused(kept: VisitorDocuments, visitor: object):
    for use in (kept.open, kept.list, lambda name: kept.add(name, "a.md", b"text"), lambda name: kept.remove(name, "")):
        with pytest.raises(InputError, match="Load the page again"):
            use(visitor)
    assert list(kept.folder.iterdir()) == []


def test_folder_says_nothing_of_the_visitor(kept: VisitorDocuments):
    kept.add(ADA, "shop.md", b"eight")
    (folder,) = kept.folder.iterdir()
    assert folder.name == hashlib.sha256(ADA.encode()).hexdigest()[:32]
    assert folder.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("name", ["../../etc/passwd.txt", "C:\\etc\\passwd.txt", "/etc/passwd.txt", "a\0/passwd.txt"])
def test_name_of_a_file_is_only_shown(kept: VisitorDocuments, name: str):
    assert kept.add(ADA, name, b"text").title == "passwd.txt"
    (folder,) = kept.folder.iterdir()
    assert {file.name.partition("-")[0] for file in folder.iterdir()} == {"knowledge.sqlite"}


def test_long_name_keeps_its_end(kept: VisitorDocuments):
    title = kept.add(ADA, "x" * 500 + ".md", b"text").title
    assert len(title) <= page_documents.MAX_NAME_CHARS
    assert title.endswith("….md")


@pytest.mark.parametrize("name", ["photo.jpg", "letter.odt", "noend", None])
def test_kind_that_is_not_read_is_refused(kept: VisitorDocuments, name: object):
    with pytest.raises(UnsupportedMedia, match=r"\.md"):
        kept.add(ADA, name, b"text")


def test_what_cannot_be_read_is_refused_and_leaves_nothing_to_ask(kept: VisitorDocuments):
    with pytest.raises(InputError):
        kept.add(ADA, "broken.txt", b"\xff\xfe\x00\xd8 no text")
    with pytest.raises(InputError):
        kept.add(ADA, "broken.pdf", b"%PDF-1.7 no more")
    assert kept.open(ADA) is None


def test_too_much_is_refused(kept: VisitorDocuments, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(TooLarge, match="5 MB"):
        kept.add(ADA, "large.txt", bytes(MAX_FILE_BYTES + 1))
    with pytest.raises(TooLarge, match="2000001 characters of text"):
        kept.add(ADA, "long.txt", b"a " * 1_000_000 + b"b")
    for number in range(MAX_DOCUMENTS):
        kept.add(ADA, f"{number}.txt", b"text")
    with pytest.raises(TooLarge, match="Remove one"):
        kept.add(ADA, "more.txt", b"text")
    kept.add(ADA, "0.txt", b"in the place of the old one")
    monkeypatch.setattr(page_documents, "MAX_CHARACTERS", 10)
    with pytest.raises(TooLarge, match="reached the limit in length"):
        kept.add(ADA, "1.txt", b"other text")


def test_upload_is_read_once_and_deleted(kept: VisitorDocuments):
    address = kept.uploads.keep("shop.md", b"text")
    assert kept.take_upload(address) == b"text"
    assert list(kept.uploads.folder.iterdir()) == []
    with pytest.raises(NotFound, match="Drop the file again"):
        kept.take_upload(address)


def test_file_that_is_no_upload_is_neither_read_nor_deleted(kept: VisitorDocuments):
    secret = kept.folder / "secret.md"
    secret.write_bytes(b"secret")
    link = kept.uploads.folder / f"{'a' * 32}.md"
    link.symlink_to(secret)
    for path in (
        str(secret),
        f"{kept.uploads.folder}/../documents/secret.md",
        "../documents/secret.md",
        str(link),
        link.name,
        str(kept.uploads.folder),
        "",
        None,
        7,
        "a\0",
    ):
        with pytest.raises(NotFound):
            kept.take_upload(path)
    assert secret.read_bytes() == b"secret"


def test_question_gives_the_documents_another_hour(kept: VisitorDocuments):
    kept.add(ADA, "shop.md", b"eight")
    (folder,) = kept.folder.iterdir()
    hour_ago = time.time() - 3600
    for file in folder.iterdir():
        os.utime(file, (hour_ago, hour_ago))
    assert kept.list(ADA)
    assert (folder / "knowledge.sqlite").stat().st_mtime > hour_ago + 3000
    rule = KeptFolder(kept.folder, 3600, 1 << 30)
    assert sweep(rule, now=time.time() + 3000) == 0
    assert sweep(rule, now=time.time() + 3700) == 1
    assert kept.list(ADA) == []  # gone, and no error
