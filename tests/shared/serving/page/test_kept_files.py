"""What was dropped on a page does not stay."""

import os
from pathlib import Path

import pytest

from shared.errors import ConfigError
from shared.serving.page import kept_files
from shared.serving.page.kept_files import KeptFolder


def dropped(folder: Path, name: str, size: int = 10) -> Path:
    path = folder / name / "photo.jpg"
    path.parent.mkdir()
    path.write_bytes(bytes(size))
    return path


def made(path: Path) -> float:
    status = path.stat()
    return max(status.st_mtime, status.st_ctime)


def sweep(folder: Path, *, now: float, keep_s: float = 60, keep_bytes: int = 1000) -> int:
    return kept_files.sweep(KeptFolder(folder, keep_s, keep_bytes), now=now)


def test_old_entries_go_and_young_ones_stay(tmp_path: Path):
    path = dropped(tmp_path, "one")
    assert sweep(tmp_path, now=made(path) + 10) == 0
    assert path.is_file()
    assert sweep(tmp_path, now=made(path) + 61) == 1
    assert list(tmp_path.iterdir()) == []  # its folder too


def test_entry_goes_whole_or_not_at_all(tmp_path: Path):
    path = dropped(tmp_path, "visitor")
    beside = path.with_suffix(".wal")
    beside.write_bytes(b"young")
    os.utime(beside, (made(path) + 50, made(path) + 50))
    assert sweep(tmp_path, now=made(path) + 100) == 0
    assert path.is_file()
    assert sweep(tmp_path, now=made(path) + 120) == 1
    assert not beside.exists()


def test_copy_with_the_time_of_its_source_is_as_young_as_it_is(tmp_path: Path):
    path = dropped(tmp_path, "sample")
    os.utime(path, (0, 0))
    assert sweep(tmp_path, now=made(path) + 1) == 0


def test_oldest_go_first_when_there_are_too_many(tmp_path: Path):
    old, young = dropped(tmp_path, "old"), dropped(tmp_path, "young")
    os.utime(young, (made(old) + 100, made(old) + 100))
    assert sweep(tmp_path, now=made(young), keep_s=1000, keep_bytes=10) == 1
    assert young.is_file()
    assert not old.exists()


def test_what_a_link_points_to_stays(tmp_path: Path):
    outside = tmp_path / "outside" / "photo.jpg"
    outside.parent.mkdir()
    outside.write_bytes(b"mine")
    folder = tmp_path / "uploads"
    folder.mkdir()
    (folder / "file").symlink_to(outside)
    (folder / "folder").symlink_to(outside.parent)
    assert sweep(folder, now=made(outside) + 1000) == 2
    assert outside.read_bytes() == b"mine"


def test_gradio_is_told_a_folder_of_our_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    folder = kept_files.upload_folder().path
    assert folder.parent == tmp_path
    assert folder.stat().st_mode & 0o777 == 0o700
    assert os.environ["GRADIO_TEMP_DIR"] == str(folder)
    assert kept_files.upload_folder().path == folder  # asked again: not one folder deeper
    beside = kept_files.private_folder("documents")
    assert beside.parent == tmp_path  # not inside the uploads, which are swept by other rules


def test_folder_that_is_a_link_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    folder = kept_files.upload_folder().path
    folder.rmdir()
    folder.symlink_to(tmp_path)
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    with pytest.raises(ConfigError, match="belongs to another user"):
        kept_files.upload_folder()
