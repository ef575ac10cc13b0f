"""Lists of names: one a line, or with a NUL behind each, as ``find -print0`` writes them."""

from collections.abc import Iterator
from typing import BinaryIO

_BLOCK = 1 << 16
_BOM = b"\xef\xbb\xbf"  # some editors begin a file with it


def names_in(file: BinaryIO) -> Iterator[bytes]:
    """The names in a list, as they come; empty ones are left out.

    A NUL is in no name: where one is seen with the first names, NULs separate them. Else lines do,
    which may end as on Windows.
    """
    text = _beginning(file)
    text = text.removeprefix(_BOM)
    separator = b"\0" if b"\0" in text else b"\n"
    while True:
        *names, rest = text.split(separator)
        yield from filter(None, (_clean(name, separator) for name in names))
        block = _more(file)
        if not block:
            break
        text = rest + block
    if last := _clean(rest, separator):
        yield last


def _beginning(file: BinaryIO) -> bytes:
    """Enough to see what separates names."""
    text = b""
    while block := _more(file):
        text += block
        if b"\0" in text or b"\n" in text:
            break
    return text


def _more(file: BinaryIO) -> bytes:
    """What is there, without waiting for more."""
    read = getattr(file, "read1", file.read)
    block: bytes = read(_BLOCK)
    return block


def _clean(name: bytes, separator: bytes) -> bytes:
    return name.removesuffix(b"\r") if separator == b"\n" else name
