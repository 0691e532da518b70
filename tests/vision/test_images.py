"""Decoding beyond what the API's tests see: what is computed, pixel by pixel."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from shared.errors import InvalidImage, TooLarge, UnsupportedMedia
from tests.pictures import bomb_png, encode, quarter_turned_jpeg, tiff, truncated_jpeg
from vision.images import DEFAULT_FORMATS, ImagePreprocessor, decode_image


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def test_16_bit_grey_is_scaled_and_not_clipped():
    values = np.array([[0, 257, 25_700, 65_535]], dtype=np.uint16)
    pixels = np.asarray(decode_image(png(Image.fromarray(values))).pixels)
    np.testing.assert_array_equal(pixels[..., 0], [[0, 1, 100, 255]])


def test_transparency_is_laid_on_white():
    image = Image.new("RGBA", (2, 1), (255, 0, 0, 0))
    assert decode_image(png(image)).pixels.getpixel((0, 0)) == (255, 255, 255)


def test_a_photo_is_turned_as_its_exif_asks():
    found = decode_image(quarter_turned_jpeg())
    assert (found.width, found.height) == (48, 64) == found.pixels.size


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_each_format_is_decoded_where_it_is_listed_and_refused_by_name_where_not(format_: str):
    data = encode(Image.new("RGB", (8, 8), (255, 0, 0)), format_)
    assert decode_image(data, formats=[format_]).pixels.size == (8, 8)
    others = [other for other in ("JPEG", "PNG") if other != format_]
    with pytest.raises(UnsupportedMedia, match=f"the image is a {format_}; accepted are {', '.join(others)}"):
        decode_image(data, formats=others)


def test_of_several_frames_the_first_is_decoded():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ((255, 0, 0), (0, 0, 255))]
    for format_ in ("GIF", "WEBP", "PNG", "TIFF"):
        stream = io.BytesIO()
        frames[0].save(stream, format_, save_all=True, append_images=frames[1:])
        red, _, blue = decode_image(stream.getvalue(), formats=[format_]).pixels.getpixel((4, 4))
        assert (red > 240, blue < 15) == (True, True), format_


@pytest.mark.parametrize(
    ("data", "error"),
    [(truncated_jpeg(), InvalidImage), (tiff(), UnsupportedMedia), (bomb_png(), TooLarge), (b"no image", InvalidImage)],
)
def test_what_cannot_be_decoded_is_refused_by_its_kind(data: bytes, error: type[Exception]):
    with pytest.raises(error):
        decode_image(data, max_pixels=1_000_000)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC"),
        (b"\0\0\0\x1cftypavif\0\0\0\0", "AVIF"),
        (b'<?xml version="1.0"?>\n<!-- drawn -->\n<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
        (b"%PDF-1.7\n", "PDF"),
        (tiff(), "TIFF"),
    ],
)
def test_a_format_that_is_not_accepted_is_named_and_its_decoder_is_never_run(
    data: bytes, name: str, monkeypatch: pytest.MonkeyPatch
):
    asked = []
    real = Image.open

    def open_image(file, mode="r", formats=None):
        asked.append(formats)
        return real(file, mode, formats)

    monkeypatch.setattr(Image, "open", open_image)
    with pytest.raises(UnsupportedMedia, match=f"^the image is a {name}; accepted are JPEG"):
        decode_image(data)
    assert asked == [list(DEFAULT_FORMATS)]


def test_a_draft_is_nearly_the_whole_decoded_photo():
    generator = np.random.default_rng(0)
    coarse = Image.fromarray(generator.integers(0, 255, (12, 16, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    coarse.resize((1600, 1200), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=92)
    preprocess = ImagePreprocessor(96, 1.0, "bilinear", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    drafted = decode_image(buffer.getvalue(), target_size_px=96)
    assert drafted.pixels.width < 1600
    assert (drafted.width, drafted.height) == (1600, 1200)
    whole = preprocess(decode_image(buffer.getvalue()).pixels)
    assert float(np.abs(preprocess(drafted.pixels) - whole).mean()) * 255 < 1.0
