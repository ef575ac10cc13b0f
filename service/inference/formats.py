"""Image formats, told by their first bytes: which are read, which are only named in a refusal."""

from collections.abc import Callable

# A file of the HEIF family begins with a box of brands: its length, "ftyp", the major brand, a
# version, and compatible brands. The container's brands leave open what is in it.
_BRANDS = {
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"), "HEIC"),
}
_CONTAINER_BRANDS = (b"mif1", b"mif2", b"msf1", b"miaf")
_BRAND_BYTES = 4
_SIGNATURE_BYTES = 256  # room for some 60 brands

_SIGNATURES: dict[str, Callable[[bytes], bool]] = {
    "JPEG": lambda head: head.startswith(b"\xff\xd8\xff"),
    "PNG": lambda head: head.startswith(b"\x89PNG\r\n\x1a\n"),
    "WEBP": lambda head: head.startswith(b"RIFF") and head[8:12] == b"WEBP",
    "GIF": lambda head: head.startswith((b"GIF87a", b"GIF89a")),
    "BMP": lambda head: head.startswith(b"BM"),
    "TIFF": lambda head: head.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    "AVIF": lambda head: _heif_kind(head) == "AVIF",
    "JPEG2000": lambda head: head.startswith((b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")),
    "PPM": lambda head: head[:1] == b"P" and head[1:2] in b"123456" and head[2:3].isspace(),
    # Named in the refusal, never read:
    "HEIC": lambda head: _heif_kind(head) == "HEIC",
    "HEIF": lambda head: _heif_kind(head) == "HEIF",
    "JPEG XL": lambda head: head.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")),
    "PDF": lambda head: head.startswith(b"%PDF-"),
    "SVG": lambda head: head.lstrip().startswith((b"<svg", b"<?xml")),
}
# Formats that are read, with their media types.
MEDIA_TYPES = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "GIF": "image/gif",
    "BMP": "image/bmp",
    "TIFF": "image/tiff",
    "AVIF": "image/avif",
    "JPEG2000": "image/jp2",
    "PPM": "image/x-portable-pixmap",
}
READABLE_FORMATS = tuple(MEDIA_TYPES)
DEFAULT_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")


def detect_format(data: bytes) -> str | None:
    """The name of the format that the first bytes announce; None if it is none of the known."""
    head = data[:_SIGNATURE_BYTES]
    return next((name for name, matches in _SIGNATURES.items() if matches(head)), None)


def _heif_kind(head: bytes) -> str | None:
    """AVIF or HEIC by the major brand or else the first compatible one; HEIF of another kind."""
    if head[4:8] != b"ftyp":
        return None
    end = min(int.from_bytes(head[:4], "big"), len(head))
    brands = [head[i : i + _BRAND_BYTES] for i in (8, *range(16, end, _BRAND_BYTES))]
    kinds = (_BRANDS[brand] for brand in brands if brand in _BRANDS)
    return next(kinds, "HEIF" if brands[0] in _CONTAINER_BRANDS else None)
