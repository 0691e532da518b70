"""What the model looked at: which parts of a photo count for one label.

The method is occlusion, because the bundle's ONNX graph returns only logits. Class activation maps need the last
feature maps, and gradient methods a backward pass; covering a part and looking again works with every runtime and
network, and a person can check the result ("without this part the score falls"). It costs grid² + 1 passes.

The covered part is filled with the photo's own strongly blurred colours and fades out at its rim, so that there is no
hard edge that the network could take for an object. Neighbouring patches overlap by half.

Sources: Zeiler & Fergus 2014, "Visualizing and Understanding Convolutional Networks", section 4.2 (occlusion);
Petsiuk et al. 2018, "RISE", section 3 (averaging masks into a map, soft masks against edges).
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter

from vision.images import ImagePreprocessor
from vision.tagging.predictor import OUTPUT, TagPredictor

GRID = 8
"""Patches along a side: 65 passes, 0.4 s with MobileNetV2 on one core of a server CPU."""
MAX_GRID = 16
BATCH = 8
"""Covered photos in one call: bounds memory (5 MB at 224 px), and lets other requests have their turn."""
PATCH_CELLS = 2.0
"""Width of a patch in grid cells at half height, so that neighbours overlap by half."""
BLUR_FRACTION = 0.15
"""Blur radius of the fill, as a fraction of the side; wide enough to take an object's shape and texture away."""
GLOW = 0.72
"""How opaque the hottest part of the overlay is."""
FLAT = 0.1
"""A smaller fall of the log-odds is not a peak: 50% would become 47.5%. A map without a peak glows accordingly less."""
_SMALLEST = 1e-12
"""Scores are kept this far from 0 and 1, where float64 log-odds are still exact to a percent."""


def occlusion_map(predictor: TagPredictor, image: Image.Image, label_index: int, grid: int = GRID) -> np.ndarray:
    """Return how far the label's log-odds fall when a part is covered, float32 [grid, grid], rows from the top.

    Above 0, the part counts for the label; below 0, against it. The map spans `ImagePreprocessor.crop_box`, the square
    that the network sees.

    Args:
        predictor: the model, used as a black box.
        image: RGB, any size.
        label_index: which label, in the order of `predictor.labels`.
        grid: cells along a side, 2 to 16.

    Raises:
        ValueError: grid or label_index is out of range.
    """
    if not 2 <= grid <= MAX_GRID:
        raise ValueError(f"grid must be 2 to {MAX_GRID}; came {grid}.")
    if not 0 <= label_index < len(predictor.labels):
        raise ValueError(f"label_index must be 0 to {len(predictor.labels) - 1}; came {label_index}.")
    seen = predictor.preprocessor.resize(image)
    photo = predictor.preprocessor.normalise(seen)  # [3, H, W]
    fill = predictor.preprocessor.normalise(seen.filter(ImageFilter.GaussianBlur(BLUR_FRACTION * seen.width)))
    masks = patch_masks(grid, seen.width)  # [grid * grid, H, W]

    def log_odds(batch: list[np.ndarray]) -> np.ndarray:
        scores = predictor.scores(np.stack([row[OUTPUT] for row in predictor.infer(batch)]))[
            :, label_index
        ]  # [N, num_labels] -> [N]
        scores = scores.clip(_SMALLEST, 1 - _SMALLEST)
        odds: np.ndarray = np.log(scores) - np.log1p(-scores)
        return odds

    covered = []
    for start in range(0, len(masks), BATCH):
        weights = masks[start : start + BATCH, None]  # [N, 1, H, W]
        covered.append(log_odds(list(photo + weights * (fill - photo))))  # [N, 3, H, W] -> [N]
    drops: np.ndarray = log_odds([photo])[0] - np.concatenate(covered)  # [grid * grid]
    return drops.reshape(grid, grid).astype(np.float32)


def patch_masks(grid: int, size: int) -> np.ndarray:
    """Return one soft patch for each cell, float32 [grid * grid, size, size] in 0 to 1, row by row.

    >>> masks = patch_masks(4, 32)
    >>> masks.shape, float(masks[0, 4, 4]) > 0.9, float(masks[0, 20, 20])
    ((16, 32, 32), True, 0.0)
    """
    cell = size / grid
    centres = (np.arange(grid) + 0.5) * cell
    distance = np.abs(np.arange(size) + 0.5 - centres[:, None]) / cell  # [grid, size], in cells
    half = PATCH_CELLS / 2
    profile = (half + 0.5 - distance).clip(0, 1)  # 1 inside, falls to 0 over one cell around the rim
    profile = (profile * profile * (3 - 2 * profile)).astype(np.float32)  # smooth at both ends
    masks: np.ndarray = profile[:, None, :, None] * profile[None, :, None, :]  # [rows, columns, size, size]
    return masks.reshape(grid * grid, size, size)


def overlay(
    image: Image.Image, heat: np.ndarray, preprocessor: ImagePreprocessor, max_side_px: int = 640
) -> Image.Image:
    """Return the photo with a glow over what counts for the label, and the rest faded.

    Everything outside the square that the network sees is faded most.

    Args:
        image: RGB, any size.
        heat: float32 [grid, grid] from `occlusion_map`.
        preprocessor: knows which square the map spans.
        max_side_px: the longer side of the result.
    """
    scale = min(1.0, max_side_px / max(image.size))
    width, height = (max(1, round(side * scale)) for side in image.size)
    photo = np.asarray(image.resize((width, height), Image.Resampling.LANCZOS), dtype=np.float32)  # [H, W, 3]
    strength, seen = _spread(heat, preprocessor, width, height)  # [H, W], [H, W]
    grey = photo.mean(axis=2, keepdims=True)
    faded = (0.35 * photo + 0.65 * grey) * (0.35 + 0.35 * seen[..., None])
    mix = (GLOW * strength)[..., None]
    result = faded * (1 - mix) + _warm(strength) * mix + 0.3 * photo * mix  # the photo shines through the glow
    return Image.fromarray(result.clip(0, 255).astype(np.uint8), mode="RGB")


def _spread(
    heat: np.ndarray, preprocessor: ImagePreprocessor, width: int, height: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the map as strength 0 to 1 over the whole photo, and 1 where the network sees; both float32 [H, W]."""
    left, top, right, bottom = (round(edge) for edge in preprocessor.crop_box(width, height))
    right, bottom = max(right, left + 1), max(bottom, top + 1)
    positive = heat.clip(min=0) / max(float(heat.max()), FLAT)
    smooth = Image.fromarray(positive.astype(np.float32), mode="F").resize(
        (right - left, bottom - top), Image.Resampling.BICUBIC
    )
    strength = np.zeros((height, width), dtype=np.float32)
    seen = np.zeros((height, width), dtype=np.float32)
    strength[top:bottom, left:right] = np.asarray(smooth).clip(0, 1)
    seen[top:bottom, left:right] = 1
    return strength, seen


def _warm(strength: np.ndarray) -> np.ndarray:
    """Return a colour from purple over orange to pale yellow, float32 [H, W, 3] in 0 to 255."""
    stops = [0.0, 0.35, 0.7, 1.0]
    colours = np.array([[60, 10, 90], [180, 40, 90], [250, 130, 30], [255, 235, 140]], dtype=np.float32)
    channels = [np.interp(strength, stops, colours[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=-1).astype(np.float32)
