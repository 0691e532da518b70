"""Photos that were dropped on the page do not stay."""

import os
from pathlib import Path

import pytest

from shared.errors import ConfigError
from vision.page import photos


def photo(folder: Path, name: str, size: int = 10) -> Path:
    path = folder / name / "photo.jpg"
    path.parent.mkdir()
    path.write_bytes(bytes(size))
    return path


def made(path: Path) -> float:
    status = path.stat()
    return max(status.st_mtime, status.st_ctime)


def test_old_photos_go_and_young_ones_stay(tmp_path: Path):
    path = photo(tmp_path, "one")
    assert photos.sweep(tmp_path, now=made(path) + 10, keep_s=60) == 0
    assert path.is_file()
    assert photos.sweep(tmp_path, now=made(path) + 61, keep_s=60) == 1
    assert list(tmp_path.iterdir()) == []  # its folder too


def test_copy_with_the_time_of_its_source_is_as_young_as_it_is(tmp_path: Path):
    path = photo(tmp_path, "sample")
    os.utime(path, (0, 0))
    assert photos.sweep(tmp_path, now=made(path) + 1, keep_s=60) == 0


def test_oldest_go_first_when_there_are_too_many(tmp_path: Path):
    old, young = photo(tmp_path, "old"), photo(tmp_path, "young")
    os.utime(young, (made(old) + 100, made(old) + 100))
    assert photos.sweep(tmp_path, now=made(young), keep_s=1000, keep_bytes=10) == 1
    assert young.is_file()
    assert not old.exists()


def test_what_a_link_points_to_stays(tmp_path: Path):
    outside = tmp_path / "outside.jpg"
    outside.write_bytes(b"mine")
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "link").symlink_to(outside)
    assert photos.sweep(folder, now=made(outside) + 1000, keep_s=60) == 1
    assert outside.read_bytes() == b"mine"


def test_gradio_is_told_a_folder_of_our_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    folder = photos.photo_folder()
    assert folder.parent == tmp_path
    assert folder.stat().st_mode & 0o777 == 0o700
    assert os.environ["GRADIO_TEMP_DIR"] == str(folder)
    assert photos.photo_folder() == folder  # asked again: not one folder deeper


def test_folder_that_is_a_link_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    folder = photos.photo_folder()
    folder.rmdir()
    folder.symlink_to(tmp_path)
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    with pytest.raises(ConfigError, match="belongs to another user"):
        photos.photo_folder()
