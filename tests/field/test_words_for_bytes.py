"""An image is declared as S3, browsers and other clients declare bytes: the bytes decide."""

import pytest
from PIL import Image

from tests.images import encode
from tests.server import Server, assert_problem

RED = encode(Image.new("RGB", (9, 7), (200, 40, 90)), "PNG")


@pytest.mark.parametrize(
    "declared",
    [
        "binary/octet-stream",  # S3's default
        "Binary/Octet-Stream; charset=binary",
        "application/binary",
        "application/x-binary",
        "application/x-octet-stream",
        "application/force-download",
        "application/unknown",
        "unknown/unknown",
        "application/octet-stream, application/octet-stream",  # joined by a proxy
        "image/*",
        "image/jpg",
        "image/vnd.something",
        "*/*",
        ";",
    ],
)
def test_the_bytes_decide(server: Server, declared: str) -> None:
    assert server.post("/predict", RED, {"Content-Type": declared}).status == 200
    reply = server.post("/predict", b"no image", {"Content-Type": declared})
    assert_problem(reply, 415, "unsupported-format")


@pytest.mark.parametrize(
    "declared",
    [
        "text/html",
        "application/ld+json; charset=utf-8",
        "application/ld+json",
        "application/xml",
        "application/pdf",
        "application/zip",
        "video/mp4",
        "audio/mpeg",
        "multipart/related; boundary=x",
        "jpeg",
    ],
)
def test_what_says_something_else_is_refused_by_its_name(server: Server, declared: str) -> None:
    reply = server.post("/predict", RED, {"Content-Type": declared})
    problem = assert_problem(reply, 415, "wrong-media-type")
    assert declared.partition(";")[0] in problem["detail"]
