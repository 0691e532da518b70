"""Photos as cameras and programs really write them: metadata that nobody can read condemns no pixel."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from shared.errors import InvalidImage
from tests.pictures import encode
from vision.images import FILE_FORMATS, decode_image, open_photo

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


def test_a_photo_is_turned_although_another_exif_value_is_a_number_over_zero():
    found = decode_image(jpeg_with_exif(tiff_block(brightness=(-1, 0))))
    assert (found.width, found.height) == (32, 48) == found.pixels.size


def test_a_jpeg_that_lacks_only_its_end_marker_is_decoded():
    whole = encode(gradient(), "JPEG", quality=95)
    assert whole.endswith(b"\xff\xd9")
    found = np.asarray(decode_image(whole[:-2]).pixels)
    np.testing.assert_array_equal(found, np.asarray(decode_image(whole).pixels))


@pytest.mark.parametrize(
    ("format_", "kept"),
    [
        ("GIF", 20),
        ("PNG", 20),
        ("JPEG", 30),
        ("WEBP", 20),
        ("BMP", 20),
    ],
)
def test_a_damaged_file_of_an_accepted_format_is_broken_and_not_unsupported(format_: str, kept: int):
    with pytest.raises(InvalidImage, match="broken"):
        decode_image(encode(gradient(), format_)[:kept])


def test_orientation_in_xmp_turns_pixels_and_size_alike():
    info = PngInfo()
    info.add_itxt("XML:com.adobe.xmp", XMP)
    stream = io.BytesIO()
    gradient("RGBA").save(stream, "PNG", pnginfo=info)
    found = decode_image(stream.getvalue())
    assert found.pixels.size == (found.width, found.height)


def png_with(*chunks: tuple[bytes, bytes]) -> bytes:
    """Return a PNG with more chunks behind its header."""
    whole = encode(gradient(), "PNG")
    made = b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    return whole[:33] + made + whole[33:]


@pytest.mark.parametrize(
    "chunk",
    [
        (b"zTXt", b"Comment\0\0" + zlib.compress(b"a" * 3_000_000)),
        (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(b"a" * 3_000_000)),
        (b"zTXt", b"Comment\0\0" + b"no zlib"),
        (b"iCCP", b"profile\0\0" + zlib.compress(b"a" * 3_000_000)),
        (b"eXIf", b"no exif"),
        (b"tEXt", b"\xff" * 20),
    ],
    ids=lambda chunk: chunk[0].decode() + str(len(chunk[1])),
)
def test_metadata_of_a_png_condemns_no_pixel(chunk: tuple[bytes, bytes]):
    found = decode_image(png_with(chunk))
    np.testing.assert_array_equal(np.asarray(found.pixels), np.asarray(gradient()))


def test_a_png_whose_pixels_are_broken_stays_broken_without_its_metadata():
    whole = png_with((b"zTXt", b"Comment\0\0" + zlib.compress(b"a" * 3_000_000)))
    with pytest.raises(InvalidImage, match="broken"):
        decode_image(whole[:-40])


@pytest.mark.parametrize("missing", [1, 2])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 30}, {"restart_marker_rows": 1}])
def test_a_jpeg_that_lacks_only_its_end_is_whole(options: dict[str, object], missing: int):
    whole = encode(gradient(size=(300, 200)), "JPEG", **options)
    found = decode_image(whole[:-missing])
    np.testing.assert_array_equal(np.asarray(found.pixels), np.asarray(decode_image(whole).pixels))


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9, 0.98])
@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_a_jpeg_that_lacks_pixels_is_broken(options: dict[str, object], kept: float):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8))
    whole = encode(noise, "JPEG", **options)
    with pytest.raises(InvalidImage, match="broken"):
        decode_image(whole[: int(len(whole) * kept)])


def test_a_bmp_whose_transparency_is_all_zero_is_opaque():
    """As programs write it that know no transparency: 32 bits a pixel, the fourth byte unused."""
    picture = gradient("RGBA")
    picture.putalpha(0)
    found = decode_image(bmp32(np.asarray(picture)))
    np.testing.assert_array_equal(np.asarray(found.pixels), np.asarray(gradient()))


def bmp32(pixels: np.ndarray) -> bytes:
    """Return a BMP with a V4 header and a mask for transparency. pixels: uint8 [H, W, 4]."""
    height, width, _ = pixels.shape
    masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    header = (
        struct.pack("<IiiHHIIiiII", 108, width, height, 1, 32, 3, pixels.size, 0, 0, 0, 0) + masks + b"BGRs" + bytes(48)
    )
    body = pixels[::-1, :, [2, 1, 0, 3]].tobytes()
    return b"BM" + struct.pack("<IHHI", 14 + len(header) + len(body), 0, 0, 14 + len(header)) + header + body


def test_a_photo_of_several_is_decoded_as_small_as_a_jpeg():
    """MPO, as phones and stereo cameras write it: JPEGs one behind the other, of which the first is the photo."""
    stream = io.BytesIO()
    gradient(size=(1600, 1200)).save(stream, "MPO", save_all=True, append_images=[gradient(size=(1600, 1200))])
    found = decode_image(stream.getvalue(), target_size_px=100)
    assert (found.width, found.height) == (1600, 1200)
    assert (
        found.pixels.size == decode_image(encode(gradient(size=(1600, 1200)), "JPEG"), target_size_px=100).pixels.size
    )


def test_orientation_in_a_raw_profile_turns_pixels_and_size_alike():
    """As ImageMagick writes it into a PNG."""
    block = b"Exif\0\0" + tiff_block()
    profile = f"\nexif\n{len(block):8d}\n{block.hex()}\n"
    info = PngInfo()
    info.add_text("Raw profile type exif", profile, zip=True)
    stream = io.BytesIO()
    gradient().save(stream, "PNG", pnginfo=info)
    found = decode_image(stream.getvalue())
    assert found.pixels.size == (found.width, found.height) == (32, 48)


@pytest.mark.parametrize("orientation", range(10))
def test_a_photo_is_turned_as_pillow_turns_it(orientation: int):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    stream = io.BytesIO()
    gradient().save(stream, "PNG", exif=exif)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(stream.getvalue())))
    found = decode_image(stream.getvalue())
    np.testing.assert_array_equal(np.asarray(found.pixels), np.asarray(expected))
    assert found.pixels.size == (found.width, found.height)


@pytest.mark.parametrize("format_", ["TIFF", "WEBP", "AVIF", "HEIF"])
def test_photos_of_one_s_own_may_be_of_more_kinds(format_: str):
    if format_ not in FILE_FORMATS:
        pytest.skip(f"nothing installed here reads {format_}")
    assert open_photo(encode(gradient(), format_)).pixels.size == (48, 32)
