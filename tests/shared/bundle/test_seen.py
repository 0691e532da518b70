"""What a bundle says of the examples that it has seen."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from shared.bundle.read import Bundle
from shared.bundle.seen import SPLITS_FILE, read_seen, seen_file
from shared.bundle.write import rewrite_bundle
from shared.errors import BundleError


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def with_file(bundle: Bundle, path: Path, content: bytes) -> Bundle:
    return rewrite_bundle(bundle, path, bundle.config, onnx=bundle.file("model.onnx"), files={SPLITS_FILE: content})


def test_each_example_is_found_in_its_split_and_no_other_is(tagger_bundle: Bundle, tmp_path: Path):
    splits = {"train": [digest(f"t{n}") for n in range(1000)], "val": [digest("v")], "test": []}
    seen = read_seen(with_file(tagger_bundle, tmp_path / "b", seen_file(splits)))
    assert seen is not None
    assert {seen.split_of(each) for each in splits["train"]} == {"train"}
    assert seen.split_of(digest("v")) == "val"
    assert seen.split_of(digest("w")) is None


def test_a_bundle_of_format_1_does_not_say(tagger_bundle: Bundle):
    assert read_seen(tagger_bundle) is None


@pytest.mark.parametrize("content", [b"", b"PK\3\4", b"text"])
def test_a_broken_file_is_one_line(tagger_bundle: Bundle, tmp_path: Path, content: bytes):
    with pytest.raises(BundleError, match=r"splits\.npz cannot be read"):
        read_seen(with_file(tagger_bundle, tmp_path / "b", content))


def test_other_arrays_are_refused(tagger_bundle: Bundle, tmp_path: Path):
    with (tmp_path / "other.npz").open("wb") as file:
        np.savez(file, allow_pickle=False, train=np.ones((2, 2)))
    with pytest.raises(BundleError, match=r"splits\.npz must hold"):
        read_seen(with_file(tagger_bundle, tmp_path / "b", (tmp_path / "other.npz").read_bytes()))


def test_what_was_trained_on_counts_as_trained_wherever_else_it_was(tagger_bundle: Bundle, tmp_path: Path):
    both = {"train": [digest("a")], "val": [digest("a")], "test": [digest("a"), digest("b")]}
    seen = read_seen(with_file(tagger_bundle, tmp_path / "b", seen_file(both)))
    assert seen is not None
    assert (seen.split_of(digest("a")), seen.split_of(digest("b"))) == ("train", "test")
