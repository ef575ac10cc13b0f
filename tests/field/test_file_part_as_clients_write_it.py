"""Parts of forms as old browsers, curl, Node, Retrofit, requests and httpx write them.

A file name that is no UTF-8 does not lose the image, and a file need not have a name.
"""

from typing import Any

import pytest
import requests
from PIL import Image

from service.serving.uploads import uploads
from tests.images import encode
from tests.server import Server, assert_problem

RED = encode(Image.new("RGB", (9, 7), (200, 40, 90)), "PNG")
BOUNDARY = {"Content-Type": "multipart/form-data; boundary=x"}


def form(*parts: tuple[bytes, bytes]) -> bytes:
    """A form of (header lines behind ``form-data``, content)."""
    begin = b"--x\r\nContent-Disposition: form-data"
    return b"".join(begin + head + b"\r\n\r\n" + data + b"\r\n" for head, data in parts) + b"--x--"


def results(server: Server, *parts: tuple[bytes, bytes]) -> list[dict[str, Any]]:
    reply = server.post("/predict/batch", form(*parts), BOUNDARY)
    assert reply.status == 200, reply.body
    found: list[dict[str, Any]] = reply.json()["results"]
    assert all("predictions" in result for result in found), found
    return found


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Käse.png".encode("latin-1"), "K\ufffdse.png"),
        ("猫.png".encode("shift-jis"), "\ufffdL.png"),
        (b"\xff\xfe\x80.png", "\ufffd\ufffd\ufffd.png"),
        ("Käse.png".encode(), "Käse.png"),
    ],
)
def test_a_name_that_is_no_utf8(server: Server, name: bytes, expected: str) -> None:
    odd = (b'; name="a"; filename="' + name + b'"', RED)
    good = (b'; name="b"; filename="b.png"', RED)
    assert server.post("/predict", form(odd), BOUNDARY).status == 200
    assert [one["filename"] for one in results(server, good, odd)] == ["b.png", expected]


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"; name=a; filename*=UTF-8''K%C3%A4se.png", "Käse.png"),
        (b"; name=a; filename*=UTF-8''K%E4se.png", "K\ufffdse.png"),
        (b"; name=a; filename=\"b.png\"; filename*=UTF-8''c.png", "c.png"),
        (b'; name=a; filename=""', ""),
        (b'; filename="a.png"', "a.png"),
        (b'; name="\xe4"; filename="a.png"', "a.png"),
        (b'; name="a"; filename="a.png"\r\nX-Note: \xe4', "a.png"),
    ],
)
def test_other_ways_to_write_a_name(server: Server, head: bytes, expected: str) -> None:
    assert [one["filename"] for one in results(server, (head, RED))] == [expected]


@pytest.mark.parametrize(
    "declared", ["image/png", "IMAGE/PNG; q=1", "image/*", "application/octet-stream", "binary/x"]
)
def test_a_type_makes_a_file(server: Server, declared: str) -> None:
    nameless = (b'; name="i"\r\nContent-Type: ' + declared.encode(), RED)
    assert server.post("/predict", form(nameless), BOUNDARY).status == 200
    assert [one["filename"] for one in results(server, nameless, nameless)] == ["", ""]


@pytest.mark.parametrize(
    "head",
    [
        b'; name="note"',
        b'; name="note"\r\nContent-Type: text/plain; charset=utf-8',
        b'; name="note"\r\nContent-Type: application/json',
        b'; name="note"\r\nContent-Type: application/vnd.a+json',
        b'; name="note"\r\nContent-Type: ',
    ],
)
def test_a_text_field_beside_a_file_stays_a_field(server: Server, head: bytes) -> None:
    field, file = (head, b"{}"), (b'; name="i"\r\nContent-Type: image/png', RED)
    assert server.post("/predict", form(field, file, field), BOUNDARY).status == 200
    assert len(results(server, field, file)) == 1
    problem = assert_problem(server.post("/predict", form(field), BOUNDARY), 400, "missing-image")
    assert "file name" in problem["detail"]


def test_requests_without_a_name(server: Server) -> None:
    reply = requests.post(
        f"http://127.0.0.1:{server.port}/predict",
        files={"i": (None, RED, "image/png")},
        data={"note": "hello"},
        timeout=30,
    )
    assert reply.status_code == 200, reply.text


def test_a_part_that_is_encoded_as_in_mail_is_its_own_problem(server: Server) -> None:
    coded = (b'; name="a"; filename="a"\r\nContent-Transfer-Encoding: base64', b"iVBORw0KGgo=")
    plain = (b'; name="b"; filename="b"\r\nContent-Transfer-Encoding: binary', RED)
    zipped = (b'; name="c"; filename="c"\r\nContent-Encoding: gzip', RED)
    reply = server.post("/predict/batch", form(coded, plain, zipped), BOUNDARY)
    problems = [one.get("problem", {}) for one in reply.json()["results"]]
    assert [one.get("status") for one in problems] == [415, None, 415]
    assert "base64" in problems[0]["detail"]
    assert "gzip" in problems[2]["detail"]
    assert_problem(server.post("/predict", form(coded), BOUNDARY), 415, "unsupported-coding")


def test_a_type_of_a_million_bytes_is_read_quickly() -> None:
    part = (b'; name="a"\r\nContent-Type: application/' + b"+" * 1_000_000, RED)
    (upload,) = uploads(form(part), BOUNDARY["Content-Type"])
    assert upload.data == RED
