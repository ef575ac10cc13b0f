"""Counting the parts of files, the honest and the others."""

import io

import pytest
from PIL import Image

from service.inference.bounds import (
    BYTES_PER_READ,
    FREE_READS,
    SMALL_FILE,
    BoundedReader,
    check_parts,
    count_jpeg_scans,
    is_decoded_by_rows,
)
from service.inference.errors import BrokenImage
from tests.hostile_images import segment
from tests.images import encode, make_tiff, photograph, tiff_tags


def jpeg(**options: object) -> bytes:
    return encode(photograph(1, 48, 64), "JPEG", **options)


def test_reader_gives_the_bytes_and_then_no_more() -> None:
    data = bytes(range(256)) * 10
    reader = BoundedReader(data)
    assert reader.read() == data
    allowed = FREE_READS + len(data) // BYTES_PER_READ
    for _ in range(allowed - 1):
        reader.read(1)
    with pytest.raises(BrokenImage, match="too many small parts"):
        reader.read(1)


def test_large_files_may_be_read_more_often() -> None:
    reader = BoundedReader(bytes(BYTES_PER_READ * 1000))
    for _ in range(FREE_READS + 1000):
        reader.read(1)


def test_scans_of_a_progressive_jpeg() -> None:
    data = jpeg(progressive=True)
    assert count_jpeg_scans(data) == data.count(b"\xff\xda") > 5


def test_scans_of_a_baseline_jpeg_end_with_the_first_that_has_everything() -> None:
    data = jpeg()
    repeated = data[data.index(b"\xff\xda") : -2]
    assert count_jpeg_scans(data[:-2] + repeated * 9 + data[-2:]) == 1


def test_scans_of_a_baseline_jpeg_with_a_scan_for_each_channel() -> None:
    """Written by hand: the reader goes on to the next scan as it does in a progressive one."""
    data = jpeg()
    start = data.index(b"\xff\xda")
    one = b"\xff\xda\0\x08\1\1\0\0\x3f\0" + bytes(20)
    assert count_jpeg_scans(data[:start] + one * 7 + b"\xff\xd9") == 7


def test_what_is_decoded_row_by_row() -> None:
    """Not what has its channels in several scans, or its pixels in several passes."""
    data = jpeg()
    assert is_decoded_by_rows(data)
    assert is_decoded_by_rows(jpeg(restart_marker_blocks=3, subsampling=0))
    assert not is_decoded_by_rows(jpeg(progressive=True))
    start = data.index(b"\xff\xda")
    assert not is_decoded_by_rows(data[:start] + b"\xff\xda\0\x08\1\1\0\0\x3f\0" + bytes(20))
    for end in range(2, start):
        assert not is_decoded_by_rows(data[:end])


def test_scans_behind_the_end_do_not_count() -> None:
    data = jpeg(progressive=True)
    assert count_jpeg_scans(data + data + b"\xff\xda" * 99) == count_jpeg_scans(data)


def test_scans_in_metadata_do_not_count() -> None:
    data = jpeg(progressive=True)
    hidden = data[:2] + segment(0xE5, b"\xff\xda\xff\xd9" * 1000) + data[2:]
    assert count_jpeg_scans(hidden) == count_jpeg_scans(data)


def test_end_in_a_table_does_not_hide_the_scans_behind_it() -> None:
    data = jpeg(progressive=True)
    second = data.index(b"\xff\xda", data.index(b"\xff\xda") + 2)
    hiding = data[:second] + segment(0xFE, b"\xff\xd9") + data[second:]
    assert count_jpeg_scans(hiding) == count_jpeg_scans(data)


def test_segments_without_end_are_not_walked_to_it() -> None:
    data = jpeg(progressive=True)
    assert count_jpeg_scans(data[:2] + segment(0xFE) * 100_000 + data[2:]) > 10_000


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "TIFF", "WEBP", "GIF", "BMP", "MPO"])
def test_honest_files_pass(image_format: str) -> None:
    data = encode(photograph(1, 300, 400), image_format)
    check_parts(data, "JPEG" if image_format == "MPO" else image_format)


def test_exif_may_come_in_a_few_parts() -> None:
    data, part = jpeg(), segment(0xE1, b"Exif\0\0" + bytes(60_000))
    check_parts(data[:2] + part * 100 + data[2:], "JPEG")
    with pytest.raises(BrokenImage, match="JPEG image has too many parts of one kind"):
        check_parts(data[:2] + part * 101 + data[2:], "JPEG")


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("values", "refused"), [(50_000, False), (100_001, True)])
def test_tags_of_a_tiff(order: str, values: int, *, refused: bool) -> None:
    tags = {**tiff_tags(2, 2, 1, [8]), 50_000: (3, [0] * values), 50_001: (1, [0] * 500_000)}
    data = make_tiff(tags, bytes(4), order)
    if refused:
        with pytest.raises(BrokenImage, match="TIFF"):
            check_parts(data, "TIFF")
    else:
        check_parts(data, "TIFF")
        with Image.open(io.BytesIO(data)) as image:
            image.load()


def test_tags_of_a_bigtiff() -> None:
    small = encode(Image.new("L", (4, 4)), "TIFF", big_tiff=True)
    check_parts(small, "TIFF")
    place = small.index(b"\x11\1\4\0")  # where the strips are
    many = small[: place + 4] + (10**6).to_bytes(8, "little") + small[place + 12 :]
    many += bytes(SMALL_FILE)
    with pytest.raises(BrokenImage, match="TIFF"):
        check_parts(many, "TIFF")


def test_small_files_pass_for_they_cannot_hold_many_parts() -> None:
    data, part = jpeg(), segment(0xE1, b"Exif\0\0")
    small = data[:2] + part * 101 + data[2:]
    assert len(small) < SMALL_FILE
    check_parts(small, "JPEG")


def test_restarts_among_the_pixels_are_no_segments() -> None:
    """A marker after every block, more of them than segments are allowed."""
    data = encode(Image.new("L", (900, 900)), "JPEG", progressive=True, restart_marker_blocks=1)
    assert data.count(b"\xff\xd0") * 8 > 10_000
    assert count_jpeg_scans(data) == data.count(b"\xff\xda") < 20
