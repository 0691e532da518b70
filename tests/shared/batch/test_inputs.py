"""Photos that are not files here: a store's prefix and a parquet file's column, good ones and bad ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet
import pytest
from click.testing import CliRunner, Result

from scripts.main import main
from shared.batch.inputs import ahead, fetch, stored_photos
from shared.bundle.read import Bundle
from shared.errors import ConfigError, DataError
from tests.pictures import BLUE, GREEN, RED, plain

COLOURS = {"cat": RED, "dog": GREEN, "car": BLUE}


def batch(*args: object) -> Result:
    return CliRunner().invoke(main, ["batch", *map(str, args), "--device", "cpu", "--workers", "1"])


def read(folder: Path) -> list[dict[str, Any]]:
    return pyarrow.dataset.dataset(folder, format="parquet").to_table().sort_by("row").to_pylist()


@pytest.fixture
def bucket(tmp_path: Path) -> Path:
    """A folder that is read as a store: what pyarrow opens by file:// goes the way of s3:// and gs://."""
    root = tmp_path / "bucket"
    for number, (label, colour) in enumerate(list(COLOURS.items()) * 15):
        file = root / "photos" / label / f"{number:02d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(plain(colour, (48, 48)))
    (root / "photos" / "notes.txt").write_text("no photo")
    (root / "photos" / ".hidden").mkdir()
    (root / "photos" / ".hidden" / "a.png").write_bytes(plain())
    return root


def test_a_prefix_of_a_store_is_tagged_in_the_order_of_its_names(bucket: Path, tagger_bundle: Bundle, tmp_path: Path):
    (bucket / "photos" / "cat" / "00.png").write_bytes(b"no picture")
    result = batch(tagger_bundle.path, f"file://{bucket}/photos/", tmp_path / "out", "--shard-rows", 7)
    assert result.exit_code == 0, result.output
    rows = read(tmp_path / "out")
    names = [row["file"] for row in rows]
    assert len(names) == 45
    assert names == sorted(names)
    for row in rows:
        if row["file"] == "cat/00.png":
            assert "picture" in row["error"]
        else:
            assert [tag["label"] for tag in row["tags"]] == [row["file"].partition("/")[0]]


def test_a_photo_that_is_gone_when_its_turn_comes_is_a_row_with_its_error(
    bucket: Path, tagger_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def fetch_after_it_is_gone(uri: str, name: str) -> bytes:
        (bucket / "photos" / "dog" / "01.png").unlink(missing_ok=True)
        return fetch(uri, name)

    monkeypatch.setattr("vision.tagging.offline.fetch", fetch_after_it_is_gone)
    assert batch(tagger_bundle.path, f"file://{bucket}/photos", tmp_path / "out").exit_code == 0
    errors = {row["file"]: row["error"] for row in read(tmp_path / "out") if row["error"]}
    assert list(errors) == ["dog/01.png"]
    assert "cannot be read" in errors["dog/01.png"]


def test_what_a_store_holds_is_what_its_results_are_of(bucket: Path):
    before = stored_photos(f"file://{bucket}/photos", [".png"]).fingerprint
    assert stored_photos(f"file://{bucket}/photos", [".png"]).fingerprint == before
    (bucket / "photos" / "cat" / "99.png").write_bytes(plain())
    assert stored_photos(f"file://{bucket}/photos", [".png"]).fingerprint != before


@pytest.mark.parametrize(
    ("uri", "error", "said"),
    [
        ("nowhere://bucket/photos", ConfigError, "is not a store"),
        ("file:///there/is/none", DataError, "cannot be listed"),
        ("file://{bucket}/empty", DataError, "no photo was found below"),
    ],
)
def test_a_store_without_photos_says_what_is_wrong(bucket: Path, uri: str, error: type[Exception], said: str):
    (bucket / "empty").mkdir()
    with pytest.raises(error, match=said):
        stored_photos(uri.format(bucket=bucket), [".png"])


def test_what_is_fetched_ahead_comes_in_order_and_a_few_at_a_time():
    at_work: list[int] = []
    taken = 0

    def items() -> Any:
        nonlocal taken
        for number in range(100):
            taken += 1
            yield number

    for place, found in enumerate(ahead(items(), lambda number: at_work.append(number) or number)):
        assert found == place
        assert taken <= place + 17
    assert sorted(at_work) == list(range(100))


def parquet(path: Path, values: list[Any], kind: pa.DataType) -> Path:
    names = pa.array([f"n{number}" for number in range(len(values))])
    pyarrow.parquet.write_table(pa.table({"image": pa.array(values, kind), "id": names}), path)
    return path


def test_photos_in_a_parquet_file_are_tagged_beside_the_columns_to_keep(tagger_bundle: Bundle, tmp_path: Path):
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    values = [
        {"bytes": plain(RED), "path": "red.png"},
        {"bytes": None, "path": "elsewhere.png"},
        {"bytes": b"no picture", "path": None},
        {"bytes": plain(BLUE), "path": None},
    ]
    file = parquet(tmp_path / "photos.parquet", values, struct)
    result = batch(tagger_bundle.path, file, tmp_path / "out", "--keep", "id")
    assert result.exit_code == 0, result.output
    rows = read(tmp_path / "out")
    assert [row["id"] for row in rows] == ["n0", "n1", "n2", "n3"]
    assert [row["file"] for row in rows] == ["red.png", None, "2", "3"]
    assert [[tag["label"] for tag in row["tags"] or ()] for row in rows] == [["cat"], [], [], ["car"]]
    assert "has no photo in it" in rows[1]["error"]
    assert "picture" in rows[2]["error"]


def test_photos_as_plain_bytes_under_another_name(tagger_bundle: Bundle, tmp_path: Path):
    file = tmp_path / "p.parquet"
    pyarrow.parquet.write_table(pa.table({"jpg": [plain(GREEN)] * 70}), file)
    assert batch(tagger_bundle.path, file, tmp_path / "out", "--image", "jpg").exit_code == 0
    rows = read(tmp_path / "out")
    assert [row["file"] for row in rows] == [str(number) for number in range(70)]
    assert {row["tags"][0]["label"] for row in rows} == {"dog"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "has string in it, not photos"),
        (("--image", "picture"), "has no column 'picture'; it has image, id"),
        (("--keep", "nothing"), "has no column 'nothing'"),
        (("--ray", "local"), "--ray cannot read photos from a parquet file"),
        (("--text", "id"), "--text is not for tagging"),
    ],
)
def test_a_parquet_file_that_cannot_be_tagged_says_why(
    tagger_bundle: Bundle, tmp_path: Path, options: tuple[str, ...], said: str
):
    file = parquet(tmp_path / "p.parquet", ["a", "b"], pa.string())
    result = batch(tagger_bundle.path, file, tmp_path / "out", *options)
    assert result.exit_code != 0
    assert said in result.output
