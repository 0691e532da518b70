"""Bytes to pixels to network input: the one decoder and the one preprocessor that training and serving share.

Needs only Pillow, numpy and pydantic; pillow-heif adds HEIC where it is installed.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal, cast

import numpy as np
import pydantic
from PIL import ExifTags, Image, UnidentifiedImageError, features
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from shared.errors import BundleError, InvalidImage, TooLarge, UnsupportedMedia

DEFAULT_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
"""Formats that Pillow decodes safely and that browsers send; the first frame is used. TIFF is off: easy to attack."""
DEFAULT_MAX_PIXELS = 40_000_000
FILE_MAX_PIXELS = 200_000_000
"""For photos of one's own, in files: as training, `percept predict` and `percept batch` read them."""
DRAFT_SCALE = 2
"""A JPEG is decoded at no less than this many times the target size: 22 ms instead of 101 at 12 megapixels, and a mean
pixel difference of 0.2 to 0.3 of 255 (two cores, Pillow 12, 2026-10)."""

MAX_DECODED_BYTES = 300_000_000
"""Most memory that decoding one image may take in a service, as `_decoded_bytes` estimates it from the header."""
MAX_SCAN_PIXELS = 1_000_000_000
"""Most scans of a JPEG times its pixels: a scan of a few bytes takes about 1 ns per pixel too (Pillow 12, 2026-11).
Encoders write 1 to 17 scans."""
_SCAN = b"\xff\xda"
_WEBP_BYTES = 16
"""Per pixel: two canvases, their copy and the image (measured: 16.0, Pillow 12)."""
_WHOLE_PIXELS = 8_000_000
_STRIP_PIXELS = 1_000_000
"""An image above the first is turned into RGB in strips of the second, and made smaller where the target is."""
_OTHER_FORMATS = {
    "JPEG": re.compile(rb"\xff\xd8\xff"),
    "PNG": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "WEBP": re.compile(rb"RIFF.{4}WEBP", re.DOTALL),
    "GIF": re.compile(rb"GIF8[79]a"),
    "BMP": re.compile(rb"BM.{4}\0{4}", re.DOTALL),
    "TIFF": re.compile(rb"II\*\0|MM\0\*|II\+\0|MM\0\+"),
    "AVIF": re.compile(rb".{4}ftypavi[fs]", re.DOTALL),
    "HEIC": re.compile(rb".{4}ftyp(hei[cxms]|hev[cxms]|mif1|msf1)", re.DOTALL),
    "JPEG 2000": re.compile(rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51"),
    "JPEG XL": re.compile(rb"\xff\x0a|\0\0\0\x0cJXL "),
    "SVG": re.compile(
        rb"\s*(<\?xml[^>]{0,200}>\s*)?(<!--.{0,500}?-->\s*)?(<!doctype svg|<svg[\s>])", re.DOTALL | re.IGNORECASE
    ),
    "PDF": re.compile(rb"%PDF-"),
    "ICO": re.compile(rb"\0\0[\1\2]\0"),
    "PSD": re.compile(rb"8BPS"),
}
"""What people send in good faith, by its first bytes, so that no decoder of a refused format runs just to name it."""
MAX_SIZE = 4096
"""Of the square that a network sees, in pixels: larger ones are no network's."""
_HEAD_BYTES = 1024
"""Signatures are looked for in so many bytes."""
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Orientation as EXIF numbers it -> how the picture is turned upright."""
_QUARTER_TURNS = (5, 6, 7, 8)
_MENDED_SCAN_PIXELS = 100_000_000
"""A JPEG without an end is decoded twice more, so only up to so many scans times pixels."""
_JPEG_END = b"\xff\xd9"
_NOISE = bytes(range(1, 255)) * 2
"""Follows pixel data to see whether a decoder still needs more of them; has no marker in it."""
_PNG_METADATA = frozenset({b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"tIME", b"pHYs", b"gAMA", b"cHRM", b"sRGB", b"sPLT"})
_RESAMPLE = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def _file_formats() -> tuple[str, ...]:
    """Return the formats of files that this machine decodes."""
    formats = [*DEFAULT_FORMATS, "TIFF"]
    if features.check("avif"):
        formats.append("AVIF")
    try:
        import pillow_heif
    except ImportError:
        return tuple(formats)
    pillow_heif.register_heif_opener()
    return (*formats, "HEIF")


FILE_FORMATS = _file_formats()
_SUFFIXES = {
    "JPEG": {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"},
    "PNG": {".png"},
    "WEBP": {".webp"},
    "GIF": {".gif"},
    "BMP": {".bmp", ".dib"},
    "TIFF": {".tif", ".tiff"},
    "AVIF": {".avif"},
    "HEIF": {".heic", ".heif"},
}
PHOTO_SUFFIXES = frozenset().union(*(_SUFFIXES[name] for name in FILE_FORMATS))
"""Of files that are photos, for training, `percept predict` and `percept batch` alike."""
UNREADABLE_SUFFIXES = {
    ".avif": "AVIF photos, which this Pillow cannot read",
    ".heic": "HEIC photos, which need pillow-heif",
    ".heif": "HEIC photos, which need pillow-heif",
    **dict.fromkeys((".cr2", ".nef", ".arw", ".dng", ".raw"), "raw photos, which must be developed first"),
    **dict.fromkeys((".jp2", ".jxl", ".svg", ".psd", ".ico"), "pictures of a kind that is not read"),
}
"""Suffix of pictures that are not read here -> why; those in `PHOTO_SUFFIXES` are."""


@dataclass(frozen=True)
class Work:
    """What decoding an image will take, as its header tells."""

    memory_bytes: int
    pixels: int
    """All pixels, once for each scan."""


class Postponed(Exception):
    """Raised by a `Hold`: this image is not decoded here and now."""


Hold = Callable[[Work], AbstractContextManager[Any]]


def nothing_held(work: Work) -> AbstractContextManager[Any]:  # noqa: ARG001 where nobody else decodes
    """Return a context that does nothing."""
    return nullcontext()


@dataclass(frozen=True)
class DecodedImage:
    """A picture ready for preprocessing, with its size as the owner sees it."""

    pixels: Image.Image
    """RGB, turned as its EXIF says; a JPEG may be smaller than `width` x `height` (draft decoding)."""
    width: int
    height: int


def decode_image(
    data: bytes,
    *,
    target_size_px: int | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    formats: Collection[str] = DEFAULT_FORMATS,
    max_decoded_bytes: float = MAX_DECODED_BYTES,
    hold: Hold = nothing_held,
) -> DecodedImage:
    """Return the first frame as RGB, upright, with white behind transparent parts.

    An image that is much larger than the target is decoded into a smaller one, by whole fractions.

    Args:
        data: the file's bytes.
        target_size_px: the side that the preprocessor will resize to.
        max_pixels: checked against the header, before any pixel is decoded.
        formats: Pillow format names that are accepted.
        max_decoded_bytes: most memory that decoding may take, as estimated from the header.
        hold: called with what decoding will take, and its result held meanwhile; may raise TooLarge or Postponed.

    Raises:
        InvalidImage: the bytes are empty, truncated or not a picture.
        UnsupportedMedia: a picture in a format that is not accepted.
        TooLarge: more pixels than `max_pixels`, more memory than `max_decoded_bytes` or more scans than anybody writes.
        Postponed: `hold` said so.
    """
    if not data:
        raise InvalidImage("the image is empty (0 bytes). Send the bytes of a JPEG, PNG, WebP, GIF or BMP file.")
    limits = _Limits(target_size_px, max_pixels, tuple(formats), max_decoded_bytes, hold)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns about odd metadata, and about sizes that are checked below
            try:
                return _decode(data, limits)
            except (UnsupportedMedia, TooLarge, Postponed, Image.DecompressionBombError, MemoryError):
                raise
            except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, struct.error, KeyError, …
                mended = _decode_mended(data, limits)
                if mended is None:
                    raise _undecodable(data, limits.formats, error) from error
                return mended
    except Image.DecompressionBombError as error:
        raise TooLarge(f"the image has more pixels than the limit of {max_pixels / 1e6:g} megapixels.") from error
    except MemoryError as error:
        raise TooLarge("the image needs more memory to decode than the service has. Send a smaller image.") from error


def open_photo(data: bytes, target_size_px: int | None = None) -> DecodedImage:
    """Return a photo of one's own as `decode_image` does, with wider limits: up to 200 megapixels, of any memory.

    Raises:
        InputError: as `decode_image`.
    """
    return decode_image(
        data,
        target_size_px=target_size_px,
        max_pixels=FILE_MAX_PIXELS,
        formats=FILE_FORMATS,
        max_decoded_bytes=math.inf,
    )


@dataclass(frozen=True)
class _Limits:
    """As for `decode_image`."""

    target_size_px: int | None
    max_pixels: int
    formats: tuple[str, ...]
    max_decoded_bytes: float
    hold: Hold


def _decode(data: bytes, limits: _Limits) -> DecodedImage:
    image: Image.Image = Image.open(io.BytesIO(data), formats=list(limits.formats))
    width, height = image.size
    if width * height > limits.max_pixels:
        raise TooLarge(
            f"the image is {width}x{height} px; the limit is {limits.max_pixels / 1e6:g} megapixels. "
            "Send a smaller image."
        )
    scans = _scans(image, data)
    if scans * width * height > MAX_SCAN_PIXELS:
        raise TooLarge(f"the JPEG has {scans} scans, far more than cameras and programs write. Save it again.")
    needed = _decoded_bytes(image, scans)
    if needed > limits.max_decoded_bytes:
        raise TooLarge(
            f"the image is a {image.format} of {width}x{height} px, which takes {needed / 1e6:.0f} MB to decode; the "
            f"limit is {limits.max_decoded_bytes / 1e6:.0f} MB. Send a smaller image, or a JPEG."
        )
    if _is_jpeg(image):
        if limits.target_size_px is not None:
            wanted = DRAFT_SCALE * limits.target_size_px
            image.draft("RGB", (wanted, wanted))
        # One call of the decoder, not one per 64 KB: each gives up the interpreter lock and waits to get it back.
        image.decodermaxblock = len(data)  # type: ignore[attr-defined]
    with limits.hold(Work(needed, scans * width * height)):
        orientation = _orientation(image)
        pixels = _in_strips(image, limits.target_size_px)
        if orientation in _TURNS:
            pixels = pixels.transpose(_TURNS[orientation])
    if orientation in _QUARTER_TURNS:
        width, height = height, width
    return DecodedImage(pixels, width, height)


def _is_jpeg(image: Image.Image) -> bool:
    return image.format in ("JPEG", "MPO")  # several JPEGs in one file, of which the first is the photo


def _scans(image: Image.Image, data: bytes) -> int:
    return data.count(_SCAN) if _is_jpeg(image) else 1


def _orientation(image: Image.Image) -> int:
    """Return the orientation that EXIF, XMP or a raw profile gives, 1 to 8; 1 where none can be read."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # noqa: BLE001 metadata never condemns a photo; as many kinds of errors as there are formats
        image.load()  # but pixels that cannot be read do: PNG's are on the way to its EXIF
        return 1
    return orientation if isinstance(orientation, int) and orientation in _TURNS else 1


def _decode_mended(data: bytes, limits: _Limits) -> DecodedImage | None:
    """Return a photo whose pixels are all there although the file is not as it should be; None if they are not.

    Raises:
        TooLarge: as `decode_image`.
        Postponed: as `decode_image`.
    """
    try:
        if data.startswith(b"\xff\xd8\xff"):
            return _decode_endless_jpeg(data, limits)
        if data.startswith(b"\x89PNG\r\n\x1a\n"):
            bare = b"".join(_png_pixels(data))
            return _decode(bare, limits) if len(bare) < len(data) else None
    except (TooLarge, Postponed, Image.DecompressionBombError, MemoryError):
        raise
    except Exception:  # noqa: BLE001 as in `decode_image`
        return None
    return None


def _decode_endless_jpeg(data: bytes, limits: _Limits) -> DecodedImage | None:
    """Return a JPEG that lacks its last two bytes, if all of its pixels are there.

    A decoder goes on with made-up pixels where data end too early. They depend on what follows: if the photo is the
    same whether or not noise follows, nothing of it was made up.
    """
    image = Image.open(io.BytesIO(data), formats=("JPEG",))
    if math.prod(image.size) * _scans(image, data) > _MENDED_SCAN_PIXELS:
        return None
    body = data.removesuffix(b"\xff")
    photo, other = (_decode(body + tail + _JPEG_END, limits) for tail in (b"", _NOISE))
    return photo if photo.pixels.tobytes() == other.pixels.tobytes() else None


def _png_pixels(data: bytes) -> Iterator[bytes]:
    """Yield the signature and the chunks of a PNG file but for texts, profiles and the like, which may be broken.

    Source: PNG specification, third edition, section 5.3.
    """
    yield data[:8]
    place = 8
    while place + 12 <= len(data):
        length = int.from_bytes(data[place : place + 4])
        if data[place + 4 : place + 8] not in _PNG_METADATA:
            yield data[place : place + length + 12]
        place += length + 12


def _decoded_bytes(image: Image.Image, scans: int) -> int:
    """Return about how much memory decoding will take: Pillow's image, and what its decoder holds beside it.

    A JPEG of one scan is decoded at a fraction; with several, libjpeg keeps two bytes of each component of all pixels.
    """
    width, height = image.size
    channels = len(image.getbands())
    if _is_jpeg(image):
        return width * height * 2 * channels if scans > 1 else 0
    per_pixel = (
        _WEBP_BYTES if image.format == "WEBP" else {1: 1, 2: 4}.get(channels, 4) * (2 if "16" in image.mode else 1)
    )
    return width * height * per_pixel


def _in_strips(image: Image.Image, target_size_px: int | None) -> Image.Image:
    """Return RGB pixels; a large image strip by strip, at a fraction of its size where the target is much smaller.

    Pillow's conversions of a whole image take up to five copies of it.
    """
    width, height = image.size
    if image.format == "BMP" and image.mode == "RGBA" and image.getchannel("A").getextrema() == (0, 0):
        image = image.convert("RGB")  # programs that know no transparency leave the fourth byte at 0
    if width * height <= _WHOLE_PIXELS or (image.mode == "RGB" and target_size_px is None):
        return _to_rgb(image)
    image.load()
    fraction = max(1, min(width, height) // (DRAFT_SCALE * target_size_px)) if target_size_px else 1
    brightest = cast("tuple[float, float]", image.getextrema())[1] if _is_deep(image) else None
    rows = max(1, _STRIP_PIXELS // width // fraction) * fraction
    whole = Image.new("RGB", (-(-width // fraction), -(-height // fraction)))
    for top in range(0, height, rows):
        strip = image.crop((0, top, width, min(top + rows, height)))
        strip.info = image.info
        whole.paste(_to_rgb(strip, brightest).reduce(fraction), (0, top // fraction))
    return whole


def _undecodable(data: bytes, formats: Collection[str], error: Exception) -> Exception:
    """Return what is said of bytes that Pillow does not decode."""
    if isinstance(error, InvalidImage):
        return error
    accepted = ", ".join(formats)
    found = next((name for name, signature in _OTHER_FORMATS.items() if signature.match(data, 0, _HEAD_BYTES)), None)
    if {"HEIC": "HEIF"}.get(found or "", found) in formats or not isinstance(error, UnidentifiedImageError):
        return InvalidImage("the image cannot be decoded: it is truncated or broken. Send a complete file.")
    if found:
        return UnsupportedMedia(f"the image is a {found}; accepted are {accepted}. Convert it and send it again.")
    return InvalidImage(f"the {len(data)} bytes are not a picture in an accepted format ({accepted}).")


def _to_rgb(image: Image.Image, brightest: float | None = None) -> Image.Image:
    """Return RGB pixels; 16-bit grey is scaled to 8 bits, and transparent parts become white.

    Args:
        image: may be a strip of a larger one.
        brightest: the largest value of the larger one, if it is deep.
    """
    image.load()
    if _is_deep(image):  # Pillow clips these at 255 instead of scaling
        values = np.array(image, dtype=np.float32)  # changed in place: copies add up
        top = 65535.0 if (values.max(initial=0) if brightest is None else brightest) > 255 else 255.0
        np.clip(values, 0, top, out=values)
        values *= 255.0 / top
        image = Image.fromarray(values.astype(np.uint8), mode="L")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, rgba)
    return image if image.mode == "RGB" else image.convert("RGB")


def _is_deep(image: Image.Image) -> bool:
    return image.mode.startswith("I") or image.mode == "F"


Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


@pydantic.dataclasses.dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class ImagePreprocessor:
    """Resize, centre-crop and normalise, as preprocessor_config.json says."""

    size: Annotated[int, Field(ge=1, le=MAX_SIZE)]
    """Side of the square that the network sees, in pixels."""
    crop_pct: Annotated[float, Field(ge=0.01, le=1)]
    """The short side is resized to size / crop_pct before the centre crop."""
    resample: Literal["bilinear", "bicubic"]
    mean: tuple[Finite, Finite, Finite]
    std: tuple[Positive, Positive, Positive]

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> ImagePreprocessor:
        """Return the preprocessor that a bundle's preprocessor_config.json describes.

        Raises:
            BundleError: a field is missing, unknown or out of range.
        """
        try:
            return TypeAdapter(cls).validate_python(dict(config))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise BundleError(
                f"preprocessor_config.json is wrong: {'.'.join(map(str, first['loc']))}: {first['msg']}. It needs "
                "size, crop_pct, resample, mean and std. Copy the bundle again from where it was made."
            ) from error

    def to_config(self) -> dict[str, Any]:
        """Return what preprocessor_config.json holds."""
        return {**asdict(self), "mean": list(self.mean), "std": list(self.std)}

    @property
    def resize_px(self) -> int:
        """The side to which the short side is resized; what `decode_image` takes as target."""
        return round(self.size / self.crop_pct)

    def __call__(self, image: Image.Image) -> np.ndarray:
        """Return float32 [3, size, size], normalised, from an RGB image of any size."""
        return self.normalise(self.resize(image))

    def resize(self, image: Image.Image) -> Image.Image:
        """Return the RGB square that the network sees: short side resized, centre cropped."""
        # The box is cut from the original, so that a strip a thousand times longer than high costs no memory.
        return image.resize((self.size, self.size), _RESAMPLE[self.resample], self.crop_box(*image.size))

    def crop_box(self, width: int, height: int) -> tuple[float, float, float, float]:
        """Return left, top, right, bottom of the square that the network sees of a width x height image, in pixels."""
        side = min(width, height) * self.crop_pct
        left, top = (width - side) / 2, (height - side) / 2
        return left, top, left + side, top + side

    def normalise(self, image: Image.Image) -> np.ndarray:
        """Return float32 [3, H, W] = (pixel / 255 - mean) / std."""
        pixels = np.asarray(image).transpose(2, 0, 1)  # [3, H, W], bytes: a quarter of what floats would move
        std = np.array(self.std, dtype=np.float32)[:, None, None]
        mean = np.array(self.mean, dtype=np.float32)[:, None, None]
        normalised = np.empty(pixels.shape, dtype=np.float32)
        np.multiply(pixels, np.float32(1 / 255) / std, out=normalised)
        normalised -= mean / std
        return normalised
