"""The images that are sent: made of numbers, alike on every machine."""

from tests.images import encode, photograph

# Name: width, height, format. The first two are what a thumbnail and a photograph of the web are.
SIZES = {
    "32x32": (32, 32, "JPEG"),
    "640x427": (640, 427, "JPEG"),
    "1920x1280": (1920, 1280, "JPEG"),
    "4000x3000": (4000, 3000, "JPEG"),
    "640x427 PNG": (640, 427, "PNG"),
}
SMALL, PHOTOGRAPH = "32x32", "640x427"


def image_bytes(name: str) -> bytes:
    """The file of one of ``SIZES``."""
    width, height, kind = SIZES[name]
    options = {"quality": 90} if kind == "JPEG" else {}
    return encode(photograph(1, height, width), kind, **options)
