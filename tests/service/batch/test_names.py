"""Lists of names: a line each, or a NUL behind each."""

import io
import os

import pytest

from service.batch.names import names_in


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (b"a.jpg\nb c.jpg\n", [b"a.jpg", b"b c.jpg"]),
        (b"a.jpg\nb.jpg", [b"a.jpg", b"b.jpg"]),
        (b"a.jpg\r\n\r\nb.jpg\r\n", [b"a.jpg", b"b.jpg"]),
        (b"\xef\xbb\xbfa.jpg\n", [b"a.jpg"]),
        (b"a\n.jpg\0b.jpg\r\0", [b"a\n.jpg", b"b.jpg\r"]),
        (b"\n\n", []),
        (b"", []),
    ],
)
def test_names(text: bytes, names: list[bytes]) -> None:
    assert list(names_in(io.BytesIO(text))) == names


@pytest.mark.parametrize("separator", [b"\0", b"\n"])
def test_names_longer_than_a_block(separator: bytes) -> None:
    names = [str(number).encode() * 50 for number in range(5000)]
    assert list(names_in(io.BytesIO(separator.join(names)))) == names


def test_names_are_used_as_they_come() -> None:
    """A pipe that stays open is not waited for; a name may come in two pieces."""
    read_end, write_end = os.pipe()
    with open(read_end, "rb") as file:  # noqa: PTH123
        os.write(write_end, b"a.jpg\nb.")
        names = names_in(file)
        assert next(names) == b"a.jpg"
        os.write(write_end, b"jpg\n")
        assert next(names) == b"b.jpg"
        os.close(write_end)
        assert list(names) == []
