"""Bytes to pixels: one function for training folders and for requests alike.

The rule, exactly and in this order: the first frame; 16-bit scaled linearly to 8; palettes and
transparent colours expanded; an embedded ICC profile converted to sRGB, CMYK without one converted
plainly; transparency composed over white; resized by Pillow's antialiased bilinear filter, either
the whole picture (``stretch``) or its centre (``crop``); turned upright by EXIF. The turn comes
last because the filter commutes with it and there are fewer pixels to turn then.

Peak memory beside the file's own bytes, measured: at most 17 bytes a pixel of WebP, whose decoder
keeps two canvases, and 12 of JPEG (progressive CMYK, else 10), PNG (with a transparent colour, else
9), GIF and BMP; of a JPEG that the decoder scales down less. Of what is read on request: 12 of TIFF
and AVIF, 25 of JPEG 2000.
"""

import io
import logging
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

from service.inference.bounds import BoundedReader, check_parts, count_jpeg_scans
from service.inference.contract import ResizeRule
from service.inference.errors import BrokenImage, EmptyImage, TooManyPixels, UnsupportedFormat
from service.inference.formats import DEFAULT_FORMATS, detect_format
from service.inference.jpeg import decode_plain, plain_size

# Pillow warns of what it skips in a file: nothing that whoever reads the log could mend, and not
# for senders to fill it with. For good, because catch_warnings() is not safe among threads.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").setLevel(logging.CRITICAL)

# The decoder may scale a JPEG down as long as so many times the wanted size is left for the real
# filter, whose triangle its boxes widen by 1 part in 2 x oversampling squared. Measured on enlarged
# CIFAR-10 test images, into 32x32: at 2 the default model's label stays for 99.2 %, at 4 for 99.2
# to 99.9 %, at 6 for 99.6 to 99.9 %, at 8 for 99.8 %; 640x427 takes 0.9, 1.5, 1.5 and 1.9 ms, with
# much detail 2.4, 3.1, 3.1 and 7.0 ms; 12 megapixels take 22 ms at any of them, 154 ms in full.
DRAFT_OVERSAMPLING = 6
_DRAFT_SCALES = (8, 4, 2)

# A progressive JPEG is decoded in one pass over its pixels for every scan: at most so many passes
# over an image of the largest size, more over smaller ones. Encoders make about 10.
MAX_SCANS = 20
_LEAST_SCAN_BYTES = 10

# These decoders are written in Python and take some 0.2 us a pixel or byte: less is allowed.
_SLOW_DECODERS = ("bmp_rle", "ppm", "ppm_plain")
_SLOW_SHARE = 10

# Transforms to sRGB are kept for the profiles seen last, which are their keys: none too large.
_KEPT_TRANSFORMS = 8
_LARGEST_KEPT_PROFILE = 2**21
# Every grey, and colours from all over the cube: uint8 [N, 1, 3].
_GREYS = np.arange(256, dtype=np.uint8).repeat(3).reshape(-1, 3)
_COLOURS = np.vstack([_GREYS, np.indices((18, 18, 18), np.uint8).reshape(3, -1).T * 15])[:, None]

# What Pillow's readers raise on damaged files. Everything else is a fault of ours.
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

_JPEGS = ("JPEG", "MPO")  # MPO: several JPEGs, the first of them alone is read

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
# A PNG's transparent colour counts in the file's own depth, Pillow's pixels in 8 bits.
_EIGHT_BITS_OF_KEY: dict[str, Callable[[int], int]] = {
    "L;2": lambda value: (value & 3) * 85,
    "L;4": lambda value: (value & 15) * 17,
    "RGB;16B": lambda value: value >> 8,
}


@dataclass(frozen=True)
class ImageLimits:
    """What is decoded at all: at most ``max_pixels`` (width x height), one of ``formats``."""

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

    def decode(self, size: tuple[int, int], resize: ResizeRule = "stretch") -> NDArray[np.uint8]:
        """The pixels that a model takes, uint8 [height, width, 3] RGB. Once: the file is closed.

        Args:
            size: (height, width) of the result.
            resize: ``stretch`` gives up the ratio, ``crop`` keeps the centre in the wanted ratio.

        Raises:
            BrokenImage: damaged, or with pixels that have no defined range (floating point).
            TooManyPixels: more than the header promised.
        """


class _PillowImage:
    """What Pillow has opened."""

    def __init__(self, data: bytes, image_format: str, limits: ImageLimits) -> None:
        _bound_allocations(limits)
        self._format = image_format
        with _reading(image_format):
            self._image = Image.open(BoundedReader(data), formats=[image_format])
            self.source_pixels = _check_pixels(self._image.size, limits)
            _check_work(self._image, data, limits)

    def decode(self, size: tuple[int, int], resize: ResizeRule = "stretch") -> NDArray[np.uint8]:
        with _reading(self._format), self._image as image:
            return _pixels(image, size, resize)


class _PlainJpeg:
    """A JPEG that needs no Pillow to be opened, and mostly none to be decoded."""

    def __init__(self, data: bytes, size: tuple[int, int], limits: ImageLimits) -> None:
        self._data = data
        self._size = size
        self._limits = limits
        self.source_pixels = _check_pixels(size, limits)

    def decode(self, size: tuple[int, int], resize: ResizeRule = "stretch") -> NDArray[np.uint8]:
        height, width = size
        room = min(self._size[0] // width, self._size[1] // height) // DRAFT_OVERSAMPLING
        scale = next((scale for scale in _DRAFT_SCALES if room >= scale), 1)
        pixels = decode_plain(self._data, self._size, scale)
        if pixels is None:
            return _PillowImage(self._data, "JPEG", self._limits).decode(size, resize)
        if self._size == (width, height):
            return pixels
        extent = self._size[0] / scale, self._size[1] / scale
        return np.asarray(_resized(Image.fromarray(pixels), extent, (width, height), resize))


def open_image(data: bytes, limits: ImageLimits = DEFAULT_LIMITS) -> OpenedImage:
    """Read an image's header and hold it against the limits, before anything is decoded.

    Args:
        data: the whole file.
        limits: formats and pixels.

    Raises:
        EmptyImage: no bytes.
        UnsupportedFormat: not one of ``limits.formats``.
        TooManyPixels: the header promises more than ``limits.max_pixels``.
        BrokenImage: damaged.
    """
    image_format = _allowed_format(data, limits)
    check_parts(data, image_format)
    plain = plain_size(data) if image_format == "JPEG" else None
    if plain is not None:
        return _PlainJpeg(data, plain, limits)
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
    """What goes wrong in a ``with`` block of Pillow's readers, said in our words."""

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
        if isinstance(error, UnidentifiedImageError):  # its text is about a Python object of ours
            raise BrokenImage(f"the {self._format} image's header cannot be read") from error
        if isinstance(error, damage):
            raise BrokenImage(f"the {self._format} image cannot be decoded: {error}") from error


def _allowed_format(data: bytes, limits: ImageLimits) -> str:
    if not data:
        raise EmptyImage("the image has no bytes")
    image_format = detect_format(data)
    allowed = ", ".join(limits.formats)
    if image_format is None:
        raise UnsupportedFormat(f"the bytes are no image that is read here ({allowed})")
    if image_format not in limits.formats:
        raise UnsupportedFormat(f"{image_format} is not read here, send one of {allowed}")
    return image_format


def _bound_allocations(limits: ImageLimits) -> None:
    """Bound what Pillow allocates while it only opens: a GIF's background, a WebP's canvases.

    Pillow refuses more than twice of its limit, which is the process's: so it only ever grows here.
    The exact check follows on the open image.
    """
    if (Image.MAX_IMAGE_PIXELS or 0) < limits.max_pixels:
        Image.MAX_IMAGE_PIXELS = limits.max_pixels


def _check_pixels(size: tuple[int, int], limits: ImageLimits) -> int:
    """The pixels of an image of ``size`` (width, height), if they are not too many."""
    width, height = size
    pixels = width * height
    if pixels > limits.max_pixels:
        raise TooManyPixels(
            f"the image has {width}x{height} = {pixels} pixels, {limits.max_pixels} are allowed"
        )
    return pixels


def _check_work(image: ImageFile.ImageFile, data: bytes, limits: ImageLimits) -> None:
    """Refuse an open image, of which nothing is decoded yet, that would take too long."""
    pixels = image.width * image.height
    slow = any(tile.codec_name in _SLOW_DECODERS for tile in image.tile[:1])
    if slow and pixels + len(data) > limits.max_pixels // _SLOW_SHARE:
        raise TooManyPixels(
            f"the image has {image.width}x{image.height} = {pixels} pixels in {len(data)} bytes,"
            f" {limits.max_pixels // _SLOW_SHARE} together are allowed in this encoding"
        )
    # Not even counted where no number of scans that fits into the file could matter.
    passes = MAX_SCANS * limits.max_pixels
    if (
        image.format in _JPEGS
        and len(data) // _LEAST_SCAN_BYTES * pixels > passes
        and count_jpeg_scans(data) * pixels > passes
    ):
        raise TooManyPixels("the JPEG image has too many scans for its number of pixels")


def _pixels(
    image: ImageFile.ImageFile, size: tuple[int, int], resize: ResizeRule
) -> NDArray[np.uint8]:
    _mend_transparent_colour(image)
    if image.format not in _JPEGS:
        image.load()  # only a JPEG is sure to say before its pixels how it is turned
    orientation = _orientation(image)
    wanted = size if orientation in _QUARTER_TURNS else size[::-1]
    drafted = image.draft("RGB", (wanted[0] * DRAFT_OVERSAMPLING, wanted[1] * DRAFT_OVERSAMPLING))
    # A drafted JPEG has its last column and row only in part.
    extent = drafted[1][2:] if drafted else image.size
    image.load()
    colours = _over_white(_to_srgb(_expanded(image), image.info.get("icc_profile")))
    small = _resized(colours, extent, wanted, resize)
    if orientation in _TURNS:
        small = small.transpose(_TURNS[orientation])
    return np.asarray(small.convert("RGB"))


def _resized(
    image: Image.Image, extent: tuple[float, float], wanted: tuple[int, int], resize: ResizeRule
) -> Image.Image:
    """The image in the wanted size (width, height); ``extent``: how far it really goes."""
    box = _centre(extent, wanted) if resize == "crop" else (0, 0, *extent)
    return image.resize(wanted, Image.Resampling.BILINEAR, box)


def _orientation(image: ImageFile.ImageFile) -> int:
    """EXIF's orientation, 1 to 8; 1 where there is none, or none that can be read.

    A TIFF turns itself upright in load() and forgets that it was not.
    """
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except DECODE_ERRORS:
        return 1
    return value if value in _TURNS else 1


def _mend_transparent_colour(image: ImageFile.ImageFile) -> None:
    colour = image.info.get("transparency")
    eight_bits = _EIGHT_BITS_OF_KEY.get(str(image.tile[0].args)) if image.tile else None
    if colour is None or eight_bits is None:
        return
    mended = tuple(map(eight_bits, colour)) if isinstance(colour, tuple) else eight_bits(colour)
    image.info["transparency"] = mended


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
    """The transform of a profile to sRGB; None of one that is damaged, does not fit, or is sRGB."""
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
    """Whether it moves no colour by more than a level: most profiles are somebody's sRGB."""
    if transform.input_mode not in ("RGB", "RGBA"):
        return False
    before = Image.fromarray(_COLOURS).convert(transform.input_mode)
    after = np.asarray(transform.apply(before), np.int16)
    return int(np.abs(after - np.asarray(before, np.int16)).max()) <= 1


_kept_transform = lru_cache(maxsize=_KEPT_TRANSFORMS)(_transform)


def _centre(
    size: tuple[float, float], wanted: tuple[int, int]
) -> tuple[float, float, float, float]:
    """The largest box of the wanted ratio in the middle of an image of ``size`` (width, height)."""
    width, height = size
    scale = min(width / wanted[0], height / wanted[1])
    box_width, box_height = wanted[0] * scale, wanted[1] * scale
    left, top = (width - box_width) / 2, (height - box_height) / 2
    return left, top, left + box_width, top + box_height


def _over_white(image: Image.Image) -> Image.Image:
    if image.mode not in ("LA", "RGBA"):
        return image
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=image)
    return white
