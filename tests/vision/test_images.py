"""Decoding beyond what the API's tests see: what is computed, pixel by pixel."""

from __future__ import annotations

import io
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shared.errors import InvalidImage, TooLarge, UnsupportedMedia
from shared.project import PROJECT_ROOT
from tests.pictures import bomb_png, encode, quarter_turned_jpeg, tiff, truncated_jpeg
from vision import images
from vision.images import DEFAULT_FORMATS, MAX_DECODED_BYTES, ImagePreprocessor, Postponed, Work, decode_image


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


def scan_bomb(side: int, scans: int) -> bytes:
    """Return a progressive JPEG of one colour that repeats its last scan, which is some bytes long."""
    stream = io.BytesIO()
    Image.new("RGB", (side, side), (90, 120, 60)).save(stream, "JPEG", progressive=True)
    content = stream.getvalue()
    last = content.rindex(b"\xff\xda")
    return content[:-2] + content[last:-2] * scans + b"\xff\xd9"


def test_a_jpeg_of_thousands_of_scans_is_refused_before_it_is_decoded():
    content = scan_bomb(4000, 8000)
    assert len(content) < 500_000
    began = time.process_time()
    decode_image(scan_bomb(4000, 0), target_size_px=96)
    honest, began = time.process_time() - began, time.process_time()
    with pytest.raises(TooLarge, match="the JPEG has 8010 scans"):
        decode_image(content, target_size_px=96)
    assert time.process_time() - began < honest


def test_the_scans_that_programs_write_are_decoded():
    assert decode_image(scan_bomb(6000, 7), target_size_px=96).width == 6000  # 17 scans


MODES = ["RGB", "RGBA", "LA", "L", "P", "1", "I;16"]


def large(mode: str, width: int = 3500, height: int = 2500) -> Image.Image:
    small = Image.fromarray(np.random.default_rng(1).integers(0, 255, (5, 7, 4), dtype=np.uint8), "RGBA")
    image = small.resize((width, height), Image.Resampling.BICUBIC)
    if mode == "I;16":
        return Image.fromarray(np.asarray(image)[..., 0].astype(np.uint16) * 257)
    return image.convert("RGB").quantize(40) if mode == "P" else image.convert(mode)


@pytest.mark.parametrize("mode", MODES)
def test_a_large_image_is_decoded_smaller_and_looks_the_same(mode: str):
    content = png(large(mode))
    preprocess = ImagePreprocessor(96, 1.0, "bilinear", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    found = decode_image(content, target_size_px=96)
    assert (found.width, found.height) == (3500, 2500)
    assert found.pixels.size == (270, 193)  # a thirteenth, rounded up
    whole = decode_image(content).pixels
    assert whole.size == (3500, 2500)
    assert float(np.abs(preprocess(found.pixels) - preprocess(whole)).mean()) * 255 < 2


def test_a_large_image_in_strips_is_the_same_as_in_one_piece(monkeypatch: pytest.MonkeyPatch):
    for mode in MODES:
        content = png(large(mode))
        found = np.asarray(decode_image(content).pixels)
        monkeypatch.setattr(images, "_WHOLE_PIXELS", 10_000_000)
        np.testing.assert_array_equal(found, np.asarray(decode_image(content).pixels))
        monkeypatch.undo()


def test_a_webp_that_would_take_a_gigabyte_is_413_and_one_of_a_phone_is_not():
    stream = io.BytesIO()
    Image.new("RGB", (16383, 2441)).save(stream, "WEBP", lossless=True, method=0)
    with pytest.raises(TooLarge, match="a WEBP of 16383x2441 px, which takes 640 MB to decode; the limit is 300 MB"):
        decode_image(stream.getvalue())
    stream = io.BytesIO()
    Image.new("RGB", (4032, 3024)).save(stream, "WEBP", method=0)
    assert decode_image(stream.getvalue(), target_size_px=96).width == 4032


PEAK = """
import io, resource, sys
from PIL import Image
from vision.images import ImagePreprocessor, decode_image
Image.init()
content = sys.stdin.buffer.read()
decode_image(open(sys.argv[1], "rb").read(), target_size_px=256)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
decode_image(content, target_size_px=256)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("kind", ["RGBA PNG", "LA PNG", "P PNG", "RGB WEBP", "CMYK JPEG"])
def test_the_largest_images_take_no_more_memory_than_the_limit(kind: str, tmp_path: Path):
    mode, format_ = kind.split()
    side, stream = (4300 if format_ == "WEBP" else 6100), io.BytesIO()
    image = Image.new("RGBA", (side, side), (200, 20, 20, 128))
    image = image.convert("RGB").quantize(8) if mode == "P" else image.convert("RGB" if mode == "CMYK" else mode)
    options = {"progressive": True, "subsampling": 0} if mode == "CMYK" else {}
    (image.convert("CMYK") if mode == "CMYK" else image).save(stream, format_, **options)
    (tmp_path / "small").write_bytes(png(Image.new("RGB", (8, 8))))
    run = subprocess.run(
        [sys.executable, "-c", PEAK, str(tmp_path / "small")],
        input=stream.getvalue(), capture_output=True, check=True, cwd=PROJECT_ROOT,
    )  # fmt: skip
    assert int(run.stdout) * 1024 < MAX_DECODED_BYTES


@pytest.mark.parametrize("start", [b" ", b"<!--", b"<?xml ", b"\n<!-- -->", b"\0\0\0\0ftyp"])
def test_naming_a_format_looks_at_the_first_bytes_alone(start: bytes):
    taken = []
    for size in (1_000_000, 30_000_000):
        content = start * (size // len(start))
        began = time.process_time()
        with pytest.raises(InvalidImage):
            decode_image(content)
        taken.append(time.process_time() - began)
    assert taken[1] < 5 * taken[0] + 0.02


def test_who_decodes_is_told_how_much_memory_it_takes():
    told: list[int] = []

    @contextmanager
    def hold(work: Work) -> Iterator[None]:
        told.append(work.memory_bytes)
        yield

    decode_image(png(Image.new("RGB", (640, 480))), hold=hold)
    decode_image(encoded("WEBP"), hold=hold)
    decode_image(encoded("JPEG"), hold=hold)
    decode_image(encoded("JPEG", progressive=True), hold=hold)
    assert told == [640 * 480 * 4, 64 * 48 * 16, 0, 64 * 48 * 6]


def test_who_decodes_may_postpone_it():
    def hold(work: Work) -> AbstractContextManager[None]:
        assert work.pixels == 640 * 480
        raise Postponed

    with pytest.raises(Postponed):
        decode_image(png(Image.new("RGB", (640, 480))), hold=hold)


def encoded(kind: str, **options: bool) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (64, 48)).save(stream, kind, **options)
    return stream.getvalue()
