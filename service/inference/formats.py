"""Image formats, told by their first bytes: which are read, which are only named in a refusal."""

from collections.abc import Callable

# The HEIF family keeps its kind in the brand after "ftyp".
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_AVIF_BRANDS = (b"avif", b"avis")
_SIGNATURE_BYTES = 32

_SIGNATURES: dict[str, Callable[[bytes], bool]] = {
    "JPEG": lambda head: head.startswith(b"\xff\xd8\xff"),
    "PNG": lambda head: head.startswith(b"\x89PNG\r\n\x1a\n"),
    "WEBP": lambda head: head.startswith(b"RIFF") and head[8:12] == b"WEBP",
    "GIF": lambda head: head.startswith((b"GIF87a", b"GIF89a")),
    "BMP": lambda head: head.startswith(b"BM"),
    "TIFF": lambda head: head.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    "AVIF": lambda head: head[4:8] == b"ftyp" and head[8:12] in _AVIF_BRANDS,
    "JPEG2000": lambda head: head.startswith((b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")),
    "PPM": lambda head: head[:1] == b"P" and head[1:2] in b"123456" and head[2:3].isspace(),
    # Named in the refusal, never read:
    "HEIC": lambda head: head[4:8] == b"ftyp" and head[8:12] in _HEIC_BRANDS,
    "JPEG XL": lambda head: head.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")),
    "PDF": lambda head: head.startswith(b"%PDF-"),
    "SVG": lambda head: head.lstrip().startswith((b"<svg", b"<?xml")),
}
READABLE_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM")
DEFAULT_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")


def detect_format(data: bytes) -> str | None:
    """The name of the format that the first bytes announce; None if it is none of the known."""
    head = data[:_SIGNATURE_BYTES]
    return next((name for name, matches in _SIGNATURES.items() if matches(head)), None)
