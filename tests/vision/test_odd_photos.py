"""Photos as cameras and programs really write them: metadata that nobody can read condemns no pixel.

What is still wrong is marked as expected to fail, with what happens today; whoever mends it takes the mark away.
"""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from shared.errors import InvalidImage, UnsupportedMedia
from tests.pictures import encode
from vision.images import decode_image

ORIENTATION = 0x0112
EXIF_IFD = 0x8769
BRIGHTNESS = 0x9203
SRATIONAL = 10
TURNED = 6
XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
)


def gradient(mode: str = "RGB", size: tuple[int, int] = (48, 32)) -> Image.Image:
    """Return a picture that is dark on its left and bright on its right."""
    row = np.linspace(0, 255, size[0], dtype=np.uint8)
    return Image.fromarray(np.tile(row, (size[1], 1))).convert(mode)


def jpeg_with_exif(block: bytes) -> bytes:
    """Return a JPEG whose EXIF segment holds exactly these bytes."""
    whole = encode(gradient(), "JPEG")
    content = b"Exif\0\0" + block
    return whole[:2] + b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content + whole[2:]


def tiff_block(header: bytes = b"II*\0", *, brightness: tuple[int, int] | None = None) -> bytes:
    """Return EXIF that asks for a quarter turn, and may hold a brightness as numerator and denominator."""
    entries = [struct.pack("<HHIHH", ORIENTATION, 3, 1, TURNED, 0)]
    below = b""
    if brightness is not None:
        entries.append(struct.pack("<HHII", EXIF_IFD, 4, 1, 38))
        below = struct.pack("<H", 1) + struct.pack("<HHII", BRIGHTNESS, SRATIONAL, 1, 56) + struct.pack("<I", 0)
        below += struct.pack("<ii", *brightness)
    return header + struct.pack("<IH", 8, len(entries)) + b"".join(entries) + struct.pack("<I", 0) + below


def test_the_blocks_made_here_are_right_where_nothing_is_broken():
    found = decode_image(jpeg_with_exif(tiff_block()))
    assert (found.width, found.height) == (32, 48) == found.pixels.size


@pytest.mark.parametrize("header", [b"\xff\xff\xff\xff", b"EXIF"], ids=["0xff", "letters"])
def test_an_unreadable_exif_header_counts_as_no_orientation(header: bytes):
    found = decode_image(jpeg_with_exif(tiff_block(header)))
    assert (found.width, found.height) == (48, 32) == found.pixels.size


@pytest.mark.xfail(strict=True, raises=InvalidImage, reason="a number over zero in EXIF makes the photo 'broken'")
def test_a_photo_is_turned_although_another_exif_value_is_a_number_over_zero():
    found = decode_image(jpeg_with_exif(tiff_block(brightness=(-1, 0))))
    assert (found.width, found.height) == (32, 48) == found.pixels.size


@pytest.mark.xfail(strict=True, raises=InvalidImage, reason="a JPEG without its last two bytes is refused")
def test_a_jpeg_that_lacks_only_its_end_marker_is_decoded():
    whole = encode(gradient(), "JPEG", quality=95)
    assert whole.endswith(b"\xff\xd9")
    found = np.asarray(decode_image(whole[:-2]).pixels)
    np.testing.assert_array_equal(found, np.asarray(decode_image(whole).pixels))


@pytest.mark.parametrize(
    ("format_", "kept"),
    [
        pytest.param("GIF", 20, marks=pytest.mark.xfail(strict=True, raises=UnsupportedMedia, reason="415 for a GIF")),
        ("PNG", 20),
        ("JPEG", 30),
        ("WEBP", 20),
        ("BMP", 20),
    ],
)
def test_a_damaged_file_of_an_accepted_format_is_broken_and_not_unsupported(format_: str, kept: int):
    with pytest.raises(InvalidImage, match="broken"):
        decode_image(encode(gradient(), format_)[:kept])


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="pixels are turned as XMP says, the size is not")
def test_orientation_in_xmp_turns_pixels_and_size_alike():
    info = PngInfo()
    info.add_itxt("XML:com.adobe.xmp", XMP)
    stream = io.BytesIO()
    gradient("RGBA").save(stream, "PNG", pnginfo=info)
    found = decode_image(stream.getvalue())
    assert found.pixels.size == (found.width, found.height)
