"""Bytes to pixels: one function for training folders and for requests alike.

The steps, in this order: take the first frame; scale 16 bits linearly to 8; expand palettes and
transparent colours; convert an embedded ICC profile to sRGB, and CMYK without one by Pillow's
formula; compose transparency over white; resize by Pillow's antialiased bilinear filter, either the
whole image (``stretch``) or its centre (``crop``, ``crop-0.875``); turn upright by EXIF. The turn
is last because it commutes with the filter and there are fewer pixels to turn then.

Peak memory beside the file's own bytes, measured in bytes per pixel: 17 for WebP, whose decoder
keeps two canvases; at most 12 for JPEG (progressive CMYK; others 10, and less where the decoder
scales down), PNG (with a transparent colour; others 9), GIF and BMP. Of the formats that are off by
default: 12 for TIFF and AVIF, 25 for JPEG 2000.
"""

import io
import logging
import math
import struct
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, ImageFile, UnidentifiedImageError
from PIL.AvifImagePlugin import AvifImageFile
from PIL.JpegImagePlugin import JpegImageFile

from service.inference.bounds import (
    BoundedReader,
    check_parts,
    count_jpeg_scans,
    is_decoded_by_rows,
)
from service.inference.contract import ResizeRule, centre_share
from service.inference.errors import BrokenImage, EmptyImage, TooManyPixels, UnsupportedFormat
from service.inference.formats import DEFAULT_FORMATS, detect_format
from service.inference.jpeg import decode_plain, plain_size, with_end_marker
from service.inference.lookalikes import damage, described
from service.inference.png import without_wrong_chunks

# Pillow warns of parts of a file that it skips. An operator could do nothing about them, and a
# client could fill the log. Switched off for good, because catch_warnings() is not thread-safe.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").setLevel(logging.CRITICAL)

# The JPEG decoder may scale an image down to this many times the wanted size; the bilinear filter
# does the rest. The decoder's box filter widens the triangle by 1 part in 2 x oversampling squared.
# Measured on enlarged CIFAR-10 test images, into 32x32: at 2 the default model's label stays for
# 99.2 %, at 4 for 99.2 to 99.9 %, at 6 for 99.6 to 99.9 %, at 8 for 99.8 %; 640x427 takes 0.9, 1.5,
# 1.5 and 1.9 ms, with much detail 2.4, 3.1, 3.1 and 7.0 ms; 12 megapixels take 22 ms at any of
# them, and 154 ms without scaling.
DRAFT_OVERSAMPLING = 6
_DRAFT_SCALES = (8, 4, 2)

# A progressive JPEG costs one pass over its pixels for each scan. An image of the largest size may
# have this many scans, a smaller one more. Encoders make about 10.
MAX_SCANS = 20
_LEAST_SCAN_BYTES = 10
# A baseline JPEG is scaled while it is decoded, and takes little memory then; but time: 2 s for
# this many pixels. Phones have up to 200 million.
MAX_SCALED_PIXELS = 1_000_000_000

# These decoders are written in Python and take some 0.2 us per pixel or byte: fewer are allowed.
_SLOW_DECODERS = ("bmp_rle", "ppm", "ppm_plain")
_SLOW_SHARE = 10

# Transforms to sRGB are cached for the profiles seen last. The profile itself is the key, so large
# ones are not cached.
_KEPT_TRANSFORMS = 8
_LARGEST_KEPT_PROFILE = 2**21
# All greys, and a grid of colours: uint8 [N, 1, 3].
_GREYS = np.arange(256, dtype=np.uint8).repeat(3).reshape(-1, 3)
_COLOURS = np.vstack([_GREYS, np.indices((18, 18, 18), np.uint8).reshape(3, -1).T * 15])[:, None]

# What Pillow's readers raise on damaged files. Any other exception is a bug of the service.
DECODE_ERRORS = (
    AssertionError,  # it asserts what files promise: a palette, the header of a JPEG 2000
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    TypeError,
    OverflowError,
    struct.error,
    zlib.error,
)
# AVIF's reader raises RuntimeError for all that libavif says, and divides by a number of the file.
AVIF_DECODE_ERRORS = (*DECODE_ERRORS, RuntimeError, ZeroDivisionError)

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_QUARTER_TURNS = (5, 6, 7, 8)

# Opened without Image.open(): it compares a JPEG's pixels before it is scaled, looks for the other
# images of a file (MPO), and does not look at AVIF's compatible brands.
_OPENERS: dict[str, type[ImageFile.ImageFile]] = {"JPEG": JpegImageFile, "AVIF": AvifImageFile}

_EXPANDED = {
    "1": "L",
    "P": "RGB",
    "PA": "RGBA",
    "La": "LA",
    "RGBa": "RGBA",
    "RGBX": "RGB",
    "YCbCr": "RGB",
}
_EXPANDED_TRANSPARENT = {**_EXPANDED, "1": "LA", "L": "LA", "P": "RGBA", "RGB": "RGBA"}
_SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I;16N", "I")
_EIGHT_OF_SIXTEEN: NDArray[np.uint8] = (
    (np.arange(65536, dtype=np.uint32) * 255 + 32767) // 65535
).astype(np.uint8)
# A PNG's transparent colour has the file's depth, Pillow's pixels have 8 bits.
_EIGHT_BITS_OF_KEY: dict[str, Callable[[int], int]] = {
    "L;2": lambda value: (value & 3) * 85,
    "L;4": lambda value: (value & 15) * 17,
    "RGB;16B": lambda value: value >> 8,
}


@dataclass(frozen=True)
class ImageLimits:
    """What is decoded at all: at most ``max_pixels`` (width x height), one of ``formats``.

    A baseline JPEG's pixels are counted as its decoder gives them, scaled down.
    """

    max_pixels: int = 50_000_000
    formats: tuple[str, ...] = DEFAULT_FORMATS


@dataclass(frozen=True)
class DecodedImage:
    """``pixels``: uint8 [height, width, 3], RGB; ``source_pixels``: what the header promised."""

    pixels: NDArray[np.uint8]
    source_pixels: int


DEFAULT_LIMITS = ImageLimits()


class OpenedImage(Protocol):
    """An image whose header is read and within the limits, and of which no pixel is decoded."""

    @property
    def source_pixels(self) -> int:
        """Width x height, as the header promises."""

    def upright_size(self) -> tuple[int, int]:
        """(height, width) of the whole image, turned upright.

        Raises:
            BrokenImage: damaged.
        """

    def decode(self, size: tuple[int, int], resize: ResizeRule = "stretch") -> NDArray[np.uint8]:
        """The pixels that a model takes, uint8 [height, width, 3] RGB. Once: the file is closed.

        Args:
            size: (height, width) of the result.
            resize: which part of the image is shown, as of ``centre_share``.

        Raises:
            BrokenImage: damaged, or with pixels that have no defined range (floating point).
            TooManyPixels: more than are allowed, or than the header promised.
        """


class _PillowImage:
    """What Pillow has opened."""

    def __init__(self, data: bytes, image_format: str, limits: ImageLimits) -> None:
        _bound_allocations(limits)
        self._data = data
        self._format = image_format
        self._limits = limits
        with _reading(image_format):
            self._image = _opened(data, image_format)
            scales = image_format == "JPEG" and is_decoded_by_rows(data)
            self.source_pixels = _check_header(self._image.size, limits, scales=scales)
            _check_work(self._image, data, limits, scales=scales)

    def upright_size(self) -> tuple[int, int]:
        with _reading(self._format):
            orientation = _orientation(self._image)
            width, height = self._image.size
        return (width, height) if orientation in _QUARTER_TURNS else (height, width)

    def decode(self, size: tuple[int, int], resize: ResizeRule = "stretch") -> NDArray[np.uint8]:
        try:
            with _reading(self._format), self._image as image:
                return _pixels(image, size, resize, self._limits)
        except BrokenImage:
            ended = with_end_marker(self._data) if self._format == "JPEG" else None
            if ended is None:
                raise
            self._image.close()
        return _PillowImage(ended, self._format, self._limits).decode(size, resize)


class _PlainJpeg:
    """A JPEG that libjpeg-turbo opens and, unless it warns, decodes without Pillow."""

    def __init__(self, data: bytes, size: tuple[int, int], limits: ImageLimits) -> None:
        self._data = data
        self._size = size
        self._limits = limits
        self.source_pixels = _check_header(size, limits, scales=True)

    def upright_size(self) -> tuple[int, int]:
        return self._size[::-1]

    def decode(self, size: tuple[int, int], resize: ResizeRule = "stretch") -> NDArray[np.uint8]:
        height, width = size
        share = centre_share(resize)
        least = _least_decoded((width, height), share)
        room = min(self._size[0] // least[0], self._size[1] // least[1])
        scale = next((scale for scale in _DRAFT_SCALES if room >= scale), 1)
        _check_decoded((-(-self._size[0] // scale), -(-self._size[1] // scale)), self._limits)
        pixels = decode_plain(self._data, self._size, scale)
        if pixels is None:
            return _PillowImage(self._data, "JPEG", self._limits).decode(size, resize)
        if self._size == (width, height) and share in (None, 1):
            return pixels
        extent = self._size[0] / scale, self._size[1] / scale
        return np.asarray(_resized(Image.fromarray(pixels), extent, (width, height), share))


def open_image(data: bytes, limits: ImageLimits = DEFAULT_LIMITS) -> OpenedImage:
    """Read an image's header and check it against the limits, before anything is decoded.

    Args:
        data: the whole file.
        limits: formats and pixels.

    Raises:
        EmptyImage: no bytes.
        UnsupportedFormat: not one of ``limits.formats``.
        TooManyPixels: the header promises more than the limits allow, however it is decoded.
        BrokenImage: damaged.
    """
    image_format = _allowed_format(data, limits)
    check_parts(data, image_format)
    plain = plain_size(data) if image_format == "JPEG" else None
    if plain is not None:
        return _PlainJpeg(data, plain, limits)
    if image_format == "PNG":
        data = without_wrong_chunks(data)
    return _PillowImage(data, image_format, limits)


def decode_image(
    data: bytes,
    size: tuple[int, int],
    resize: ResizeRule = "stretch",
    limits: ImageLimits = DEFAULT_LIMITS,
) -> DecodedImage:
    """Open and decode an image; arguments and errors are those of the two."""
    opened = open_image(data, limits)
    return DecodedImage(opened.decode(size, resize), opened.source_pixels)


class _reading:  # noqa: N801  used like a function; a class is a third of a generator's cost
    """Turns what Pillow raises in a ``with`` block into the errors of this package."""

    def __init__(self, image_format: str) -> None:
        self._format = image_format

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: object
    ) -> None:
        if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
            raise TooManyPixels("the image has more pixels than are allowed") from error
        damage = AVIF_DECODE_ERRORS if self._format == "AVIF" else DECODE_ERRORS
        if isinstance(error, UnidentifiedImageError):  # its text names a Python object
            raise BrokenImage(f"the {self._format} image's header cannot be read") from error
        if isinstance(error, damage):
            raise BrokenImage(f"the {self._format} image cannot be decoded: {error}") from error


def _opened(data: bytes, image_format: str) -> ImageFile.ImageFile:
    reader = BoundedReader(data)
    opener = _OPENERS.get(image_format)
    return opener(reader) if opener else Image.open(reader, formats=[image_format])


def _allowed_format(data: bytes, limits: ImageLimits) -> str:
    if not data:
        raise EmptyImage("the image has no bytes")
    image_format = detect_format(data)
    if image_format is not None and image_format in limits.formats:
        damaged = damage(data, image_format)
        if damaged is not None:
            raise BrokenImage(f"the bytes are {damaged}")
        return image_format
    allowed = ", ".join(limits.formats)
    what = described(data)
    if what is not None:
        raise UnsupportedFormat(f"the bytes are {what}")
    if image_format is None:
        raise UnsupportedFormat(f"the bytes are no image that is read here ({allowed})")
    raise UnsupportedFormat(f"{image_format} is not read here, send one of {allowed}")


def _bound_allocations(limits: ImageLimits) -> None:
    """Bound what Pillow allocates when it opens a file: a GIF's background, a WebP's canvases.

    Pillow refuses more than twice its limit. The limit is the whole process's, so it is only raised
    here. The exact check follows on the open image.
    """
    if (Image.MAX_IMAGE_PIXELS or 0) < limits.max_pixels:
        Image.MAX_IMAGE_PIXELS = limits.max_pixels


def _check_header(size: tuple[int, int], limits: ImageLimits, *, scales: bool) -> int:
    """The number of pixels of an image of ``size`` (width, height), if it is allowed.

    Where its decoder ``scales`` it, this bounds the time alone.
    """
    allowed = max(MAX_SCALED_PIXELS, limits.max_pixels) if scales else limits.max_pixels
    return _check_pixels(size, allowed, "has")


def _check_decoded(size: tuple[int, int], limits: ImageLimits) -> None:
    """Refuse an image that takes more pixels in memory than are allowed."""
    _check_pixels(size, limits.max_pixels, "is decoded to")


def _check_pixels(size: tuple[int, int], allowed: int, how: str) -> int:
    width, height = size
    pixels = width * height
    if pixels > allowed:
        raise TooManyPixels(
            f"the image {how} {width}x{height} = {pixels} pixels, {allowed} are allowed"
        )
    return pixels


def _check_work(
    image: ImageFile.ImageFile, data: bytes, limits: ImageLimits, *, scales: bool
) -> None:
    """Refuse an open image whose decoding would take too long.

    Where its decoder ``scales`` it, a JPEG has one scan.
    """
    pixels = image.width * image.height
    slow = any(tile.codec_name in _SLOW_DECODERS for tile in image.tile[:1])
    if slow and pixels + len(data) > limits.max_pixels // _SLOW_SHARE:
        raise TooManyPixels(
            f"the image has {image.width}x{image.height} = {pixels} pixels in {len(data)} bytes,"
            f" {limits.max_pixels // _SLOW_SHARE} together are allowed in this encoding"
        )
    # Scans are counted only where the file is large enough to hold too many.
    passes = MAX_SCANS * limits.max_pixels
    if (
        image.format == "JPEG"
        and not scales
        and len(data) // _LEAST_SCAN_BYTES * pixels > passes
        and count_jpeg_scans(data) * pixels > passes
    ):
        raise TooManyPixels("the JPEG image has too many scans for its number of pixels")


def _pixels(
    image: ImageFile.ImageFile, size: tuple[int, int], resize: ResizeRule, limits: ImageLimits
) -> NDArray[np.uint8]:
    _scale_transparent_colour(image)
    orientation = _orientation(image)
    wanted = size if orientation in _QUARTER_TURNS else size[::-1]
    share = centre_share(resize)
    drafted = image.draft("RGB", _least_decoded(wanted, share))
    # The last column and row of a scaled JPEG may cover less than a pixel.
    extent = drafted[1][2:] if drafted else image.size
    _check_decoded(image.size, limits)
    image.load()
    colours = _over_white(_to_srgb(_expanded(image), image.info.get("icc_profile")))
    small = _resized(colours, extent, wanted, share)
    if orientation in _TURNS:
        small = small.transpose(_TURNS[orientation])
    return np.asarray(small.convert("RGB"))


def _least_decoded(wanted: tuple[int, int], share: float | None) -> tuple[int, int]:
    """The size (width, height) that a decoder may scale a whole image down to, and no further.

    Where only a share of each side is kept, that share has to be large enough.
    """
    times = DRAFT_OVERSAMPLING / (share or 1)
    return math.ceil(wanted[0] * times), math.ceil(wanted[1] * times)


def _resized(
    image: Image.Image,
    extent: tuple[float, float],
    wanted: tuple[int, int],
    share: float | None,
) -> Image.Image:
    """The image in the wanted size (width, height); ``extent``: its exact size."""
    box = (0, 0, *extent) if share is None else _centre(extent, wanted, share)
    return image.resize(wanted, Image.Resampling.BILINEAR, box)


def _orientation(image: ImageFile.ImageFile) -> int:
    """EXIF's orientation, 1 to 8; 1 if it is missing or cannot be read. XMP's does not count.

    Pillow's getexif() takes XMP's where EXIF has none; browsers do not. Pillow turns a TIFF upright
    in load() and removes the tag.
    """
    image.info.pop("xmp", None)  # before load(), which may turn a TIFF by it
    if image.format != "JPEG":
        image.load()  # only a JPEG always has its EXIF before its pixels
    try:
        content = _exif_bytes(image)
        if not content:
            return 1
        exif = Image.Exif()
        exif.load(content)
        value = exif.get(ExifTags.Base.Orientation)
    except DECODE_ERRORS:
        return 1
    return value if value in _TURNS else 1


def _exif_bytes(image: ImageFile.ImageFile) -> bytes:
    """EXIF as it stands in the file, or in hexadecimal in a text chunk of a PNG."""
    in_text = image.info.get("Raw profile type exif")
    if "exif" in image.info or in_text is None:
        content: bytes = image.info.get("exif", b"")
        return content
    return bytes.fromhex("".join(in_text.split("\n")[3:]))


def _scale_transparent_colour(image: ImageFile.ImageFile) -> None:
    colour = image.info.get("transparency")
    eight_bits = _EIGHT_BITS_OF_KEY.get(str(image.tile[0].args)) if image.tile else None
    if colour is None or eight_bits is None:
        return
    scaled = tuple(map(eight_bits, colour)) if isinstance(colour, tuple) else eight_bits(colour)
    image.info["transparency"] = scaled


def _expanded(image: Image.Image) -> Image.Image:
    """The image as L, LA, RGB, RGBA, CMYK or LAB of 8 bits a channel."""
    if image.mode in _SIXTEEN_BITS:
        return _eight_bits(image)
    if image.mode == "F":
        raise BrokenImage("floating point pixels have no defined range")
    modes = _EXPANDED_TRANSPARENT if image.has_transparency_data else _EXPANDED
    mode = modes.get(image.mode)
    return image.convert(mode) if mode else image


def _eight_bits(image: Image.Image) -> Image.Image:
    """16-bit grey as L, or LA where one grey value stands for transparent."""
    values = np.asarray(image)
    if image.mode == "I" and (values.min() < 0 or values.max() > 65535):
        raise BrokenImage("32-bit pixels outside 0 to 65535 have no defined range")
    grey = Image.fromarray(_EIGHT_OF_SIXTEEN[values])
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        opaque = (values != transparent).view(np.uint8)
        grey.putalpha(Image.fromarray(opaque * np.uint8(255)))
    return grey


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Colours as sRGB: L, LA, RGB or RGBA. A profile that does not fit the image is ignored."""
    alpha = image.getchannel("A") if image.mode == "LA" and profile else None
    plain = image.convert("L") if alpha is not None else image
    transform = _transform_of(profile, plain.mode) if profile else None
    if transform is None:
        return image if image.mode in ("L", "LA", "RGB", "RGBA") else image.convert("RGB")
    if plain.mode == transform.output_mode:
        return transform.apply_in_place(plain)
    converted = transform.apply(plain)
    if alpha is not None:
        converted.putalpha(alpha)
    return converted


def _transform_of(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The transform of a profile to sRGB; None if it is damaged, does not fit, or is sRGB."""
    keep = len(profile) <= _LARGEST_KEPT_PROFILE
    return _kept_transform(profile, mode) if keep else _transform(profile, mode)


def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    try:
        transform = ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            mode,
            "RGBA" if mode == "RGBA" else "RGB",
            # One transform serves several threads at once.
            flags=ImageCms.Flags.NOCACHE,
        )
    except (ImageCms.PyCMSError, *DECODE_ERRORS):
        return None
    return None if _changes_nothing(transform) else transform


def _changes_nothing(transform: ImageCms.ImageCmsTransform) -> bool:
    """Whether it changes no colour by more than 1 of 255: most profiles are a form of sRGB."""
    if transform.input_mode not in ("RGB", "RGBA"):
        return False
    before = Image.fromarray(_COLOURS).convert(transform.input_mode)
    after = np.asarray(transform.apply(before), np.int16)
    return int(np.abs(after - np.asarray(before, np.int16)).max()) <= 1


_kept_transform = lru_cache(maxsize=_KEPT_TRANSFORMS)(_transform)


def _centre(
    size: tuple[float, float], wanted: tuple[int, int], share: float
) -> tuple[float, float, float, float]:
    """In the middle of an image of ``size`` (width, height), a box of the wanted ratio.

    Of the largest such box it has a share of each side.
    """
    width, height = size
    scale = share * min(width / wanted[0], height / wanted[1])
    box_width, box_height = wanted[0] * scale, wanted[1] * scale
    left, top = (width - box_width) / 2, (height - box_height) / 2
    return left, top, left + box_width, top + box_height


def _over_white(image: Image.Image) -> Image.Image:
    if image.mode not in ("LA", "RGBA"):
        return image
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=image)
    return white
