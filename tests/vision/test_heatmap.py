"""A heat map points at what decides the tag, and the picture made of it has the photo's size."""

import numpy as np
import pytest
from PIL import Image

from shared.bundle.read import Bundle
from shared.errors import NotFound
from shared.runtime.cpu import OnnxRuntime
from vision import heatmap
from vision.tagging.predictor import TagPredictor

GREY = (128, 128, 128)


@pytest.fixture(scope="module")
def predictor(tagger_bundle: Bundle) -> TagPredictor:
    return TagPredictor(tagger_bundle, OnnxRuntime(tagger_bundle))


def photo(colour: tuple[int, int, int], cell: tuple[int, int], grid: int = 7, cell_px: int = 20) -> Image.Image:
    """A grey photo with one coloured cell at (row, column)."""
    image = Image.new("RGB", (grid * cell_px, grid * cell_px), GREY)
    image.paste(colour, (cell[1] * cell_px, cell[0] * cell_px, (cell[1] + 1) * cell_px, (cell[0] + 1) * cell_px))
    return image


@pytest.mark.parametrize("cell", [(0, 0), (2, 5), (6, 3)])
def test_peak_is_on_the_patch_that_decides_the_label(predictor: TagPredictor, cell: tuple[int, int]):
    heat = heatmap.occlusion_map(predictor, photo((255, 0, 0), cell), predictor.labels.index("cat"), grid=7)
    assert heat.shape == (7, 7)
    assert heat.dtype == np.float32
    assert np.unravel_index(heat.argmax(), heat.shape) == cell
    assert heat.max() > 0


def test_what_speaks_against_a_label_is_negative(predictor: TagPredictor):
    heat = heatmap.occlusion_map(predictor, photo((255, 0, 0), (2, 5)), predictor.labels.index("car"), grid=7)
    assert np.unravel_index(heat.argmin(), heat.shape) == (2, 5)
    assert heat.min() < 0


def test_plain_photo_gives_a_flat_map(predictor: TagPredictor):
    heat = heatmap.occlusion_map(predictor, Image.new("RGB", (90, 60), (255, 0, 0)), 0)
    assert np.abs(heat).max() < heatmap.FLAT


def test_drop_in_log_odds_is_what_a_single_covered_photo_loses(predictor: TagPredictor):
    image = photo((255, 0, 0), (2, 5))
    pixels = predictor.preprocess(image)
    square = predictor.preprocessor.resize(image)
    blurred = square.filter(heatmap.ImageFilter.GaussianBlur(predictor.preprocessor.size * heatmap.BLUR))
    mask = heatmap.patches(predictor.preprocessor.size, 7)[2 * 7 + 5]
    covered = pixels * (1 - mask) + predictor.preprocessor.normalise(blurred) * mask
    before, after = (float(predictor.scores(row)[0]) for row in predictor.infer([pixels, covered]))
    heat = heatmap.occlusion_map(predictor, image, 0, grid=7)
    assert heatmap.lowered(before, float(heat[2, 5])) == pytest.approx(after, abs=1e-5)  # float32 logits


def test_patches_leave_no_pixel_uncovered():
    masks = heatmap.patches(32, 7)
    assert masks.shape == (49, 32, 32)
    assert masks.min() >= 0
    assert masks.max() == 1
    assert masks.max(axis=0).min() == 1


@pytest.mark.parametrize("index", [-1, 3])
def test_label_that_is_not_there_is_refused(predictor: TagPredictor, index: int):
    with pytest.raises(NotFound, match="no label number"):
        heatmap.occlusion_map(predictor, photo((255, 0, 0), (2, 5)), index)


def test_overlay_has_the_photos_size_and_glows_at_the_peak():
    heat = np.zeros((7, 7), dtype=np.float32)
    heat[1, 5] = 2.0
    shown = np.asarray(heatmap.overlay(Image.new("RGB", (280, 280), GREY), heat)).astype(int)
    assert shown.shape == (280, 280, 3)
    assert shown[60, 220].sum() > shown[220, 60].sum() + 100
    assert shown[60, 220, 0] > shown[60, 220, 2]  # warm


def test_overlay_of_a_map_without_a_peak_glows_nowhere():
    shown = np.asarray(heatmap.overlay(Image.new("RGB", (70, 70), GREY), np.full((7, 7), -1, dtype=np.float32)))
    assert len(np.unique(shown.reshape(-1, 3), axis=0)) == 1


def test_seen_square_is_what_the_preprocessor_crops(predictor: TagPredictor):
    image = photo((255, 0, 0), (3, 3)).resize((300, 140))
    shown = heatmap.seen_square(predictor.preprocessor, image, predictor.preprocessor.size)
    difference = np.asarray(shown).astype(int) - np.asarray(predictor.preprocessor.resize(image)).astype(int)
    assert np.abs(difference).mean() < 2  # of 255: bicubic against bilinear
