"""The model card's pictures are PNGs of a readable size that hold what they were given, and stay small."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shared.errors import DataError
from shared.training.plots import (
    DPI,
    WIDTH_IN,
    _read_curves,
    confusion_pairs,
    contact_sheet,
    learning_curves,
    per_label,
    reliability_diagram,
)

STEPS = 50


def opened(png: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(png))
    assert image.format == "PNG"
    return image.convert("RGB")


def colours(png: bytes) -> set[tuple[int, int, int]]:
    return {colour for _, colour in opened(png).getcolors(1 << 20)}


def metrics_csv(path: Path, epochs: int = 6, columns: tuple[str, ...] = ()) -> Path:
    """What Lightning's CSVLogger writes: learning rates in rows of their own, validation and training apart."""
    rows: list[dict[str, object]] = []
    for epoch in range(epochs):
        rows.append({"step": epoch * STEPS, "lr-AdamW/pg1": 1e-3 / (epoch + 1), "lr-AdamW/pg2": 1e-4 / (epoch + 1)})
        end = {"epoch": epoch, "step": (epoch + 1) * STEPS - 1}
        rows.append({**end, "val/loss": 3 / (epoch + 1), "val/quality": 0.9 - 0.5 / (epoch + 1), "val/ece": 0.05})
        rows.append({**end, "train/loss": 4 / (epoch + 1)})
    names = columns or tuple(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, names, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return path


def bins(count: int = 100) -> list[dict[str, float]]:
    return [
        {"low": i / 15, "high": (i + 1) / 15, "confidence": (i + 0.5) / 15, "accuracy": (i + 0.5) / 15, "count": count}
        for i in range(15)
    ]


def label_rows(count: int) -> list[dict[str, object]]:
    return [{"label": f"label {i}", "support": i + 1, "ap": i / count, "f1": i / count / 2} for i in range(count)]


def pair_rows(count: int) -> list[dict[str, object]]:
    return [{"label": f"a{i}", "given": f"b{i}", "count": count - i, "of": 2 * count} for i in range(count)]


def test_every_picture_is_a_png_as_wide_as_a_readme(tmp_path: Path):
    pictures = [
        learning_curves(metrics_csv(tmp_path / "metrics.csv")),
        reliability_diagram({"a": bins(), "b": bins(), "c": bins()}),
        per_label(label_rows(60)),
        confusion_pairs(pair_rows(20)),
    ]
    assert {opened(png).width for png in pictures} == {int(WIDTH_IN * DPI)}


def test_all_pictures_of_a_bundle_together_stay_below_250_kilobytes(tmp_path: Path):
    rows = label_rows(500)
    long = [{**row, "label": f"a rather long label name {i}"} for i, row in enumerate(rows)]
    total = (
        len(learning_curves(metrics_csv(tmp_path / "metrics.csv", epochs=60)))
        + len(reliability_diagram({name: bins() for name in "abcdef"}))
        + len(per_label(long))
        + len(confusion_pairs([{**row, "label": "a rather long label name"} for row in pair_rows(30)]))
    )
    assert total < 250_000


def test_curves_are_read_at_the_epochs_that_ended_and_rates_where_they_began(tmp_path: Path):
    curves = _read_curves(metrics_csv(tmp_path / "metrics.csv", epochs=3))
    assert curves["val/loss"][0].tolist() == [1, 2, 3]
    assert curves["train/loss"][1] == pytest.approx([4, 2, 4 / 3])
    assert curves["lr-AdamW/pg1"][0].tolist() == [0, 1, 2]


def test_learning_curves_draw_only_what_was_logged(tmp_path: Path):
    full = opened(learning_curves(metrics_csv(tmp_path / "full.csv")))
    loss = opened(learning_curves(metrics_csv(tmp_path / "loss.csv", columns=("epoch", "step", "train/loss"))))
    assert loss.height < full.height


def test_learning_curves_of_a_single_epoch_are_drawn(tmp_path: Path):
    assert opened(learning_curves(metrics_csv(tmp_path / "metrics.csv", epochs=1))).width == WIDTH_IN * DPI


def test_learning_curves_with_a_quality_that_was_never_defined_are_drawn(tmp_path: Path):
    path = tmp_path / "metrics.csv"
    path.write_text("epoch,step,val/quality\n0,9,nan\n1,19,nan\n")
    assert opened(learning_curves(path)).width == WIDTH_IN * DPI


@pytest.mark.parametrize("content", ["", "epoch,step,val/loss\n", "epoch,step,val/loss\n0,9,often\n"])
def test_a_table_without_a_finished_epoch_is_named(tmp_path: Path, content: str):
    path = tmp_path / "metrics.csv"
    path.write_text(content)
    with pytest.raises(DataError, match=r"metrics\.csv"):
        learning_curves(path)


def test_a_missing_table_is_named(tmp_path: Path):
    with pytest.raises(DataError, match=r"none\.csv cannot be read"):
        learning_curves(tmp_path / "none.csv")


def test_another_reliability_is_another_picture():
    off = [{**row, "accuracy": row["accuracy"] / 2} for row in bins()]
    assert reliability_diagram({"a": bins()}) != reliability_diagram({"a": off})


def test_the_same_input_gives_the_same_bytes():
    assert per_label(label_rows(5)) == per_label(label_rows(5))


def test_labels_without_average_precision_are_left_out():
    rows = label_rows(4)
    undefined = {"label": "nobody", "support": 0, "ap": None, "f1": None}
    assert per_label([*rows, undefined]) == per_label(rows)


def test_a_label_name_that_the_font_lacks_is_drawn_without_a_warning():
    assert opened(per_label([{"label": "猫 ☕ 🐈 $\\frac$", "support": 1, "ap": 0.5, "f1": None}])).height > 100


def test_confusions_show_the_share_of_the_labels_photos():
    assert confusion_pairs([{"label": "a", "given": "b", "count": 1, "of": 2}]) != confusion_pairs(
        [{"label": "a", "given": "b", "count": 1, "of": 1}]
    )


@pytest.mark.parametrize("draw", [reliability_diagram, per_label, confusion_pairs, contact_sheet])
def test_nothing_to_draw_is_an_error(draw):
    with pytest.raises(DataError):
        draw({} if draw is reliability_diagram else [])


def test_contact_sheet_shows_each_photo_in_rows_of_four():
    shades = [(10 * i, 0, 200) for i in range(6)]
    photos = [(Image.new("RGB", (300, 100 + 50 * i), shade), "sea", "forest 0.91") for i, shade in enumerate(shades)]
    sheet = contact_sheet(photos)
    assert set(shades) <= colours(sheet)
    pixels = np.asarray(opened(sheet))
    assert (pixels[: pixels.shape[0] // 2] == shades[3]).all(axis=-1).any()
    assert (pixels[pixels.shape[0] // 2 :] == shades[4]).all(axis=-1).any()


def test_contact_sheet_takes_photos_without_tags_and_grey_photos():
    assert opened(contact_sheet([(Image.new("L", (50, 500), 77), "", "")])).width > 200
