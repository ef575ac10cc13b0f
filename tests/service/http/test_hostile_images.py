"""Every hostile image over HTTP: the documented status, and a good answer right after."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from service.inference.formats import READABLE_FORMATS
from service.serving.problems import KINDS
from tests.hostile_images import HostileImage, hostile_images
from tests.images import encode
from tests.server import Server, assert_problem, multipart, start_server

RED = encode(Image.new("RGB", (9, 7), (200, 40, 90)), "PNG")
CASES = hostile_images()
# The largest ones take a second each: once is enough.
LIGHT = [case for case in CASES if "megapixels" not in case.name]


@pytest.fixture(scope="module")
def lenient(tiny_model: Path) -> Iterator[Server]:
    """A server that reads every format there is."""
    with start_server(tiny_model, formats=",".join(READABLE_FORMATS)) as running:
        yield running


def check(server: Server, case: HostileImage, *, read: bool) -> None:
    data = case.build()
    reply = server.post("/predict", data)
    if not data:
        assert_problem(reply, 400, "missing-image")
    elif not read:
        assert_problem(reply, 415, "unsupported-format")
    elif case.expected is None:
        assert reply.status == 200, reply.body
        assert sum(p["probability"] for p in reply.json()["predictions"]) == pytest.approx(1)
    else:
        kind = KINDS[case.expected]
        assert_problem(reply, kind.status, kind.slug)
    after = server.post("/predict", RED)
    assert after.status == 200
    assert after.json()["predictions"][0]["label"] == "red"


@pytest.mark.parametrize("server", ["asyncio"], indirect=True)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_status(server: Server, case: HostileImage) -> None:
    check(server, case, read=not case.on_request)


@pytest.mark.parametrize("case", [c for c in CASES if c.on_request], ids=lambda case: case.name)
def test_status_where_the_format_is_read(lenient: Server, case: HostileImage) -> None:
    check(lenient, case, read=True)


def test_all_of_them_in_batches(server: Server) -> None:
    """Each file's problem is its own, and the good one among them is answered."""
    for start in range(0, len(LIGHT), 15):
        some = LIGHT[start : start + 15]
        files = [("f", case.name.replace('"', ""), case.build()) for case in some]
        body, headers = multipart(*files, ("f", "good", RED))
        reply = server.post("/predict/batch", body, headers)
        assert reply.status == 200, reply.body
        *results, good = reply.json()["results"]
        assert good["predictions"][0]["label"] == "red"
        for case, result in zip(some, results, strict=True):
            if case.on_request:
                assert result["problem"]["status"] == 415
            elif case.expected is None:
                assert result["predictions"], case.name
            else:
                slug = result["problem"]["type"].rpartition(":")[2]
                assert slug == KINDS[case.expected].slug, case.name


def test_none_of_them_was_a_fault_of_ours(server: Server, lenient: Server) -> None:
    """The last test of this module."""
    for asked in (server, lenient):
        assert not asked.tracebacks
        assert not asked.requests(status=500)
