"""Plain JPEGs come out to the last bit as Pillow decodes them, and what is broken stays broken."""

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import ExifTags, Image

from service.inference import imaging
from service.inference.contract import ResizeRule
from service.inference.errors import ImageError
from service.inference.imaging import ImageLimits, decode_image
from service.inference.jpeg import decode_plain, plain_size
from tests.images import encode, photograph

SIZE = (32, 32)
MUTATED = 600


def outcome(data: bytes, resize: ResizeRule = "stretch") -> object:
    """Pixels, or what was said against them."""
    try:
        image = decode_image(data, SIZE, resize)
    except ImageError as error:
        return type(error), str(error)
    return image.source_pixels, image.pixels.tobytes()


def both(data: bytes, resize: ResizeRule = "stretch") -> tuple[object, object]:
    """The outcome as it is, and as it would be with Pillow alone."""
    ours = outcome(data, resize)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(imaging, "plain_size", lambda _data: None)
        return ours, outcome(data, resize)


@pytest.mark.parametrize("resize", ["stretch", "crop", "crop-0.875"])
@pytest.mark.parametrize("subsampling", [0, 1, 2, "grey"])
@pytest.mark.parametrize(
    "extent",
    # as large as wanted; smaller; a part of a block more; halved, quartered and by eight
    [
        (32, 32),
        (1, 1),
        (8, 17),
        (33, 47),
        (399, 517),
        (384, 439),
        (427, 640),
        (1200, 1601),
        (1700, 1537),
    ],
    ids=lambda extent: "x".join(map(str, extent)),
)
def test_the_pixels_are_pillows(
    extent: tuple[int, int], subsampling: int | str, resize: ResizeRule
) -> None:
    image = photograph(3, *extent)
    if subsampling == "grey":
        data = encode(image.convert("L"), "JPEG", quality=85)
    else:
        data = encode(image, "JPEG", quality=85, subsampling=subsampling)
    assert plain_size(data) == (extent[1], extent[0])
    ours, pillows = both(data, resize)
    assert ours == pillows


def test_the_decoders_own_scales() -> None:
    data = encode(photograph(5, 427, 640), "JPEG")
    for scale in (1, 2, 4, 8):
        pixels = decode_plain(data, (640, 427), scale)
        assert pixels is not None
        assert pixels.shape == (-(-427 // scale), -(-640 // scale), 3)
        assert pixels.dtype == np.uint8


def turned() -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    return encode(photograph(1, 48, 64), "JPEG", exif=exif)


NOT_PLAIN: dict[str, Callable[[], bytes]] = {
    "progressive": lambda: encode(photograph(1, 48, 64), "JPEG", progressive=True),
    "EXIF": turned,
    "ICC": lambda: encode(photograph(1, 48, 64), "JPEG", icc_profile=b"a profile"),
    "CMYK": lambda: encode(photograph(1, 48, 64).convert("CMYK"), "JPEG"),
    "PNG": lambda: encode(photograph(1, 48, 64), "PNG"),
    "no pixels": lambda: b"\xff\xd8\xff\xe0",
    "nothing but comments": lambda: b"\xff\xd8" + b"\xff\xfe\x00\x02" * 1000,
}


@pytest.mark.parametrize("name", NOT_PLAIN)
def test_pillow_has_the_rest(name: str) -> None:
    data = NOT_PLAIN[name]()
    assert plain_size(data) is None
    ours, pillows = both(data)
    assert ours == pillows


def test_no_more_pixels_than_are_allowed() -> None:
    data = encode(photograph(1, 48, 64), "JPEG")
    with pytest.raises(ImageError, match="64x48 = 3072 pixels, 3071 are allowed"):
        decode_image(data, SIZE, limits=ImageLimits(max_pixels=3071))


@pytest.mark.parametrize("extent", [(32, 32), (400, 500)], ids=["small", "large"])
def test_cut_off_anywhere(extent: tuple[int, int]) -> None:
    data = encode(photograph(2, *extent), "JPEG")
    ends = range(0, len(data) + 1, max(1, len(data) // 300))
    outcomes = [both(data[:end]) for end in ends]
    assert all(ours == pillows for ours, pillows in outcomes)
    refused = sum(isinstance(ours, tuple) and isinstance(ours[0], type) for ours, _ in outcomes)
    assert refused > 0.9 * len(outcomes)


def mutations(data: bytes, number: int) -> Iterator[bytes]:
    chosen = random.Random(number)
    for _ in range(number):
        file = bytearray(data)
        for _ in range(chosen.choice((1, 1, 2, 8))):
            file[chosen.randrange(2, len(file))] = chosen.choice(
                (0, 0xFF, 0xD9, 0xC2, 0xDA, chosen.randrange(256))
            )
        yield bytes(file)


@pytest.mark.parametrize(
    ("extent", "options"),
    list(product([(32, 32), (48, 40)], [{}, {"subsampling": 1, "restart_marker_blocks": 2}])),
)
def test_damaged_files_get_the_same_outcome_as_with_pillow(
    extent: tuple[int, int], options: dict[str, int]
) -> None:
    data = encode(photograph(4, *extent), "JPEG", **options)
    for file in mutations(data, MUTATED):
        ours, pillows = both(file)
        assert ours == pillows, file.hex()


def test_several_threads_at_once() -> None:
    files = [encode(photograph(seed, 64, 48), "JPEG") for seed in range(40)]
    alone: list[NDArray[np.uint8]] = [decode_image(file, SIZE).pixels for file in files]
    with ThreadPoolExecutor(8) as pool:
        together = pool.map(lambda file: decode_image(file, SIZE).pixels, files * 5)
    for number, pixels in enumerate(together):
        assert np.array_equal(pixels, alone[number % len(files)])
