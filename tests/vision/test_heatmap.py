"""A heat map points at what decides the label, and the picture made of it has the photo's proportions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageFilter

from shared.bundle.read import Bundle
from shared.runtime.cpu import OnnxRuntime
from vision import heatmap
from vision.tagging.predictor import TagPredictor

GREY = (128, 128, 128)


@pytest.fixture(scope="module")
def predictor(tagger_bundle: Bundle) -> TagPredictor:
    return TagPredictor(tagger_bundle, OnnxRuntime(tagger_bundle))


def photo(cell: tuple[int, int], colour: tuple[int, int, int] = (255, 0, 0), grid: int = 8) -> Image.Image:
    """A grey photo with one coloured cell at (row, column)."""
    image = Image.new("RGB", (grid * 20, grid * 20), GREY)
    row, column = cell
    image.paste(colour, (column * 20, row * 20, (column + 1) * 20, (row + 1) * 20))
    return image


@pytest.mark.parametrize("cell", [(0, 0), (2, 5), (7, 3)])
def test_peak_is_on_the_patch_that_decides_the_label(predictor: TagPredictor, cell: tuple[int, int]) -> None:
    heat = heatmap.occlusion_map(predictor, photo(cell), predictor.labels.index("cat"))
    assert heat.shape == (heatmap.GRID, heatmap.GRID)
    assert heat.dtype == np.float32
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    assert max(abs(row - cell[0]), abs(column - cell[1])) <= 1  # neighbours cover the whole cell, too
    assert heat[cell] > 0.9 * heat.max() > 0


def test_what_speaks_against_a_label_is_negative(predictor: TagPredictor) -> None:
    heat = heatmap.occlusion_map(predictor, photo((2, 5)), predictor.labels.index("car"))
    assert heat[2, 5] < 0.9 * heat.min() < 0


def test_plain_photo_has_a_flat_map(predictor: TagPredictor) -> None:
    heat = heatmap.occlusion_map(predictor, Image.new("RGB", (90, 60), (255, 0, 0)), 0)
    assert np.abs(heat).max() < heatmap.FLAT


def test_value_is_what_the_log_odds_lose_when_that_patch_alone_is_covered(predictor: TagPredictor) -> None:
    image, grid = photo((2, 5)), 5
    seen = predictor.preprocessor.resize(image)
    pixels = predictor.preprocessor.normalise(seen)
    fill = predictor.preprocessor.normalise(seen.filter(ImageFilter.GaussianBlur(heatmap.BLUR_FRACTION * seen.width)))
    mask = heatmap.patch_masks(grid, seen.width)[1 * grid + 3]
    scores = [
        predictor.scores(row["logits"])[0] for row in predictor.infer([pixels, pixels * (1 - mask) + fill * mask])
    ]
    before, after = (np.log(score / (1 - score)) for score in scores)
    heat = heatmap.occlusion_map(predictor, image, 0, grid=grid)
    assert heat[1, 3] == pytest.approx(before - after, abs=1e-4)  # float32 logits


def test_every_pixel_is_covered_by_a_patch() -> None:
    masks = heatmap.patch_masks(7, 32)
    assert masks.shape == (49, 32, 32)
    assert masks.min() == 0
    assert masks.max() == 1
    assert masks.max(axis=0).min() > 0.9


@pytest.mark.parametrize(("index", "grid"), [(-1, 8), (3, 8), (0, 1), (0, 17)])
def test_label_or_grid_out_of_range_is_refused(predictor: TagPredictor, index: int, grid: int) -> None:
    with pytest.raises(ValueError, match="must be"):
        heatmap.occlusion_map(predictor, photo((2, 5)), index, grid=grid)


def test_overlay_glows_at_the_peak_and_nowhere_else(predictor: TagPredictor) -> None:
    heat = np.zeros((7, 7), dtype=np.float32)
    heat[1, 5] = 2.0
    shown = np.asarray(heatmap.overlay(Image.new("RGB", (280, 280), GREY), heat, predictor.preprocessor)).astype(int)
    assert shown.shape == (280, 280, 3)
    red, _, blue = shown[60, 220]
    assert red > blue + 50
    assert shown[220, 60].tolist() == shown[140, 20].tolist() < shown[60, 220].tolist()


def test_overlay_of_a_map_without_a_peak_glows_nowhere(predictor: TagPredictor) -> None:
    against = np.full((7, 7), -1, dtype=np.float32)
    shown = np.asarray(heatmap.overlay(Image.new("RGB", (70, 70), GREY), against, predictor.preprocessor))
    assert len(np.unique(shown.reshape(-1, 3), axis=0)) == 1


def test_overlay_fades_what_the_network_does_not_see(predictor: TagPredictor) -> None:
    cropping = replace(predictor.preprocessor, crop_pct=0.5)
    shown = heatmap.overlay(Image.new("RGB", (400, 200), GREY), np.zeros((4, 4), dtype=np.float32), cropping)
    assert shown.getpixel((200, 100)) > shown.getpixel((10, 100))  # type: ignore[operator]
    assert shown.getpixel((145, 100)) == shown.getpixel((10, 100))  # the seen square is x 150 to 250


@pytest.mark.parametrize(("size", "expected"), [((1600, 400), (640, 160)), ((3, 900), (2, 640)), ((40, 30), (40, 30))])
def test_overlay_keeps_the_proportions_of_any_photo(
    predictor: TagPredictor, size: tuple[int, int], expected: tuple[int, int]
) -> None:
    heat = np.ones((4, 4), dtype=np.float32)
    assert heatmap.overlay(Image.new("RGB", size, GREY), heat, predictor.preprocessor).size == expected
