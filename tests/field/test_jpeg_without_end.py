"""A JPEG that does not end as it should: whole pictures are read, others are refused.

Cameras cut the end marker off, and Samsung's panoramas have a film in its place (libjpeg-turbo's
issue 163): every pixel is there. Where one is missing, no decoder may answer.
"""

import io
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from service.inference.errors import BrokenImage
from service.inference.imaging import decode_image
from tests.hostile_images import segment
from tests.images import Pixels, encode, photograph
from tests.server import Server, assert_problem
from tests.training.conftest import decoded_pixels

SIZE = (8, 12)
END = b"\xff\xd9"
PHOTOGRAPH = photograph(3, 120, 168)


def jpeg(image: Image.Image = PHOTOGRAPH, **options: object) -> bytes:
    return encode(image, "JPEG", quality=85, **options)


def turned_with_thumbnail() -> bytes:
    """EXIF with an orientation, and a whole JPEG in it: its end is not the picture's."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.MakerNote] = encode(photograph(4, 16, 24), "JPEG")
    return jpeg(exif=exif)


KINDS: dict[str, Callable[[], bytes]] = {
    "plain": jpeg,
    "plain with restarts": lambda: jpeg(restart_marker_blocks=7),
    "EXIF": turned_with_thumbnail,
    "4:4:4": lambda: jpeg(subsampling=0),
    "grey": lambda: jpeg(PHOTOGRAPH.convert("L"), restart_marker_rows=1),
    "CMYK": lambda: jpeg(PHOTOGRAPH.convert("CMYK")),
    "progressive": lambda: jpeg(progressive=True),
    "progressive with restarts": lambda: jpeg(progressive=True, restart_marker_blocks=5),
    "progressive CMYK": lambda: jpeg(PHOTOGRAPH.convert("CMYK"), progressive=True),
}


def pixels(data: bytes) -> Pixels:
    return decode_image(data, SIZE).pixels


def film(seed: int) -> bytes:
    """Samsung's block of data: its name, then what may look like any part of a JPEG."""
    other = encode(photograph(seed, 24, 24), "JPEG")
    return (
        b"\0\0\x01\x0a\x0e\0\0\0Image_UTC_Data" + random.Random(seed).randbytes(5000) + other[:-2]
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_marker_alone_may_be_missing(kind: str) -> None:
    data = KINDS[kind]()
    whole = pixels(data)
    for cut in (1, 2):
        np.testing.assert_array_equal(pixels(data[:-cut]), whole)
    start = data.index(b"\xff\xda") + 20
    ends = {*range(start, len(data) - 2, 97), *range(len(data) - 40, len(data) - 2)}
    for end in ends:
        with pytest.raises(BrokenImage):
            pixels(data[:end])


@pytest.mark.parametrize("kind", KINDS)
def test_a_film_in_the_place_of_the_marker(kind: str) -> None:
    data = KINDS[kind]()
    whole = pixels(data)
    for seed in range(12):
        np.testing.assert_array_equal(pixels(data[:-2] + film(seed)), whole)


def test_a_second_picture_in_the_place_of_the_marker() -> None:
    """MPO, as cameras of two lenses write it."""
    file = io.BytesIO()
    PHOTOGRAPH.save(file, "MPO", save_all=True, append_images=[photograph(5, 120, 168)])
    data = file.getvalue()
    end = data.index(END + b"\xff\xd8")
    np.testing.assert_array_equal(pixels(data[:end] + data[end + 2 :]), pixels(data))


def test_a_progressive_picture_cut_between_two_scans_is_coarse_and_refused() -> None:
    data = jpeg(progressive=True)
    scans = [at for at in range(len(data)) if data.startswith(b"\xff\xda", at)]
    for scan in scans[1:]:
        table = data.rindex(b"\xff\xc4", 0, scan)
        for end in (scan, table):
            with pytest.raises(BrokenImage):
                pixels(data[:end])


def test_a_scan_for_each_channel() -> None:
    """Without its last scan a picture has no colours."""
    data = jpeg(PHOTOGRAPH.convert("L"))
    frame = data.index(b"\xff\xc0")
    scan = data.index(b"\xff\xda")
    one = data[scan + 10 : -2]
    three = segment(0xC0, data[frame + 4 : frame + 9] + bytes([3, 1, 17, 0, 2, 17, 0, 3, 17, 0]))
    head = data[:frame] + three + data[frame + 2 + 11 : scan]
    scans = [segment(0xDA, bytes([1, number, 0, 0, 63, 0])) + one for number in (1, 2, 3)]
    whole = pixels(head + b"".join(scans) + END)
    np.testing.assert_array_equal(pixels(head + b"".join(scans)), whole)
    with pytest.raises(BrokenImage):
        pixels(head + b"".join(scans[:2]))


def test_a_cut_that_was_filled_up_with_zeros_is_no_picture() -> None:
    """Zeros can be read as pixels where they follow a scan that was cut."""
    data = jpeg(progressive=True)
    for cut in (3, 20, 100):
        with pytest.raises(BrokenImage):
            pixels(data[:-cut] + bytes(1000))
    np.testing.assert_array_equal(pixels(data[:-2] + bytes(1000)), pixels(data))


def test_a_cut_before_a_restart_is_noticed_through_what_follows() -> None:
    data = jpeg(progressive=True, restart_marker_blocks=5)
    last = data.rindex(b"\xff\xda")
    for restart in range(8):
        place = data.find(bytes([0xFF, 0xD0 + restart]), last)
        if place > 0:
            with pytest.raises(BrokenImage):
                pixels(data[:place] + b"junk")


def test_training_reads_the_same(tmp_path: Path) -> None:
    data = jpeg(progressive=True)
    paths = [tmp_path / "whole.jpg", tmp_path / "film.jpg", tmp_path / "cut.jpg"]
    for path, content in zip(paths, (data, data[:-2] + film(1), data[:-9]), strict=True):
        path.write_bytes(content)
    whole, with_film, cut = decoded_pixels(paths, SIZE)
    np.testing.assert_array_equal(with_film, whole)
    assert isinstance(cut, str)


@pytest.mark.parametrize("kind", ["plain", "EXIF", "progressive"])
def test_requests(server: Server, kind: str) -> None:
    data = KINDS[kind]()
    answer = server.post("/predict", data)
    assert answer.status == 200
    for content in (data[:-2], data[:-2] + film(2)):
        assert server.post("/predict", content).body == answer.body
    assert_problem(server.post("/predict", data[:-3]), 422, "broken-image")
