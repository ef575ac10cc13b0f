"""A service as it runs elsewhere: by arguments, from a folder, below a path, for other origins.

One server for each worker has all of it at once.
"""

import json
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.field.starting import refused
from tests.images import encode
from tests.server import (
    WORKERS,
    Reply,
    Server,
    accepts,
    assert_problem,
    eventually,
    free_port,
    multipart,
    raw_request,
    start_server,
)

RED = encode(Image.new("RGB", (9, 7), (200, 40, 90)), "PNG")
KEY = {"X-API-Key": "a-key"}
PAGE = {"Origin": "https://example.org"}
PREFLIGHT = {
    **PAGE,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type",
}
ALLOW_ORIGIN = "Access-Control-Allow-Origin"
CORS = [
    f"Access-Control-{name}"
    for name in ("Allow-Origin", "Allow-Methods", "Allow-Headers", "Max-Age", "Expose-Headers")
]
LONG = 32_000


@pytest.fixture(scope="module")
def folder(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    shutil.copy(tiny_model, folder / "pets.onnx")
    (folder / "README.txt").write_text("about it", encoding="ascii")
    return folder


@pytest.fixture(scope="module", params=WORKERS)
def elsewhere(request: pytest.FixtureRequest, folder: Path) -> Iterator[Server]:
    with start_server(
        Path("/nowhere.onnx"),
        arguments=f"serve --host=:: --port {{port}} --model {folder} --name=pets",
        worker=request.param,
        host="192.0.2.1",
        PORT=free_port(),
        AIP_HEALTH_ROUTE="/v1/endpoints/7",
        root_path="/classify",
        cors_origins="https://example.org,http://localhost:3000",
        api_keys="a-key",
        max_header_bytes=32768,
        max_image_bytes=200_000,
    ) as running:
        yield running


# ---- addresses -----------------------------------------------------------------------------------


def test_arguments_win_and_every_address_answers(elsewhere: Server) -> None:
    """The variables name another host, port and model."""
    for home in ("127.0.0.1", "::1"):
        with socket.create_connection((home, elsewhere.port), timeout=10) as sock:
            sock.sendall(raw_request("/health/live", method="GET"))
            assert sock.recv(100).startswith(b"HTTP/1.1 200 "), home
    listening = [r["message"] for r in elsewhere.records if "Listening at" in r["message"]]
    assert f"http://[::]:{elsewhere.port}" in listening[0]


def test_the_folders_model_answers(elsewhere: Server) -> None:
    assert elsewhere.post("/predict", RED, KEY).json()["model"]["name"] == "tiny"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--port", "eighty"), "--port='eighty'"),
        (("--host", "192.0.2.1"), "host 192.0.2.1 "),
    ],
)
def test_a_bad_argument_is_named(arguments: tuple[str, ...], said: str) -> None:
    ended = refused(command=("serve", *arguments))
    assert ended.status == 2, ended.lines
    (line,) = ended.lines
    assert line.startswith("cannot start: ")
    assert said in line


def test_a_folder_of_several_models_is_refused(folder: Path, tmp_path: Path) -> None:
    for name in ("a.onnx", "b.onnx"):
        shutil.copy(folder / "pets.onnx", tmp_path / name)
    ended = refused(tmp_path, workers=1)
    assert ended.status == 3
    (line,) = [json.loads(line) for line in ended.lines if "cannot start" in line]
    assert "2 .onnx files (a.onnx, b.onnx)" in line["message"]


# ---- below a path --------------------------------------------------------------------------------


@pytest.mark.parametrize("root", ["", "/classify"])
def test_every_route_answers_below_the_path_and_without_it(elsewhere: Server, root: str) -> None:
    form, headers = multipart(("a", "a", RED))
    assert elsewhere.post(f"{root}/predict?top_k=1", RED, KEY).json()["predictions"]
    assert elsewhere.post(f"{root}/predict/batch", form, KEY | headers).json()["results"]
    assert elsewhere.get(f"{root}/model", KEY).json()["name"] == "tiny"
    for path in ("/v1/models/pets", "/v2/models/pets", "/v2/models/pets/config"):
        assert elsewhere.get(root + path, KEY).status == 200, path
    for path in ("/health/live", "/health/ready", "/health", "/ping", "/metrics", "/docs"):
        assert elsewhere.get(root + path).status == 200, path
    raw = KEY | {"Inference-Header-Content-Length": "0"}
    assert elsewhere.post(f"{root}/v2/models/pets/infer", RED, raw).status == 200
    assert_problem(elsewhere.get(f"{root}/model"), 401, "unauthorized")
    assert_problem(elsewhere.get(f"{root}/nothing", KEY), 404, None)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/class%69fy/model", 200),
        ("//classify/model", 200),
        ("/classify//model", 200),
        ("http://example.org/classify/model", 200),
        ("/classify", 200),  # the same as /
        ("/classify/classify/model", 404),
        ("/classifymodel", 404),
        ("/x/classify/model", 404),
    ],
)
def test_the_path_is_taken_off_once(elsewhere: Server, path: str, status: int) -> None:
    with elsewhere.wire() as wire:
        reply = wire.send(raw_request(path, method="GET", headers=KEY)).reply()
    assert reply.status == status


def test_metrics_know_the_route_alone(elsewhere: Server) -> None:
    def counted() -> float:
        return elsewhere.metric("labelserve_requests_total", route="/predict", status="200")

    before = counted()
    elsewhere.post("/classify/predict", RED, KEY)
    assert counted() == before + 1


# ---- platforms -----------------------------------------------------------------------------------


def test_platforms_ask_for_health_where_they_expect_it(elsewhere: Server) -> None:
    """Without a key, and as often as they like: it is not logged."""
    before = elsewhere.metric("labelserve_requests_total", route="/health/ready", status="200")
    with elsewhere.wire() as wire:
        for path in ("/ping", "/v1/endpoints/7"):
            reply = wire.send(raw_request(path, method="GET")).reply()
            assert reply.json() == {"status": "ready"}
    after = elsewhere.metric("labelserve_requests_total", route="/health/ready", status="200")
    assert after == before + 2
    assert not [r for r in elsewhere.records if r.get("route") == "/ping"]


# ---- long fields ---------------------------------------------------------------------------------


def test_a_long_field_is_taken_with_the_usual_others(elsewhere: Server) -> None:
    others = {f"X-Forwarded-{n}": "x" * 2_000 for n in range(8)}
    reply = elsewhere.get("/model?" + "q" * 6_000, {"Cookie": "c" * LONG, **others, **KEY})
    assert reply.status == 200


def test_a_longer_field_is_refused(elsewhere: Server) -> None:
    with elsewhere.wire() as wire:
        fields = {"Cookie": "c" * 33_000, **KEY}
        reply = wire.send(raw_request("/model", method="GET", headers=fields)).reply()
        assert_problem(reply, 431, None)


# ---- other origins -------------------------------------------------------------------------------


def refusals(server: Server) -> dict[str, Reply]:
    """Answers by the route, by the application, and by the server before it read a body."""
    form, headers = multipart(("a", "a", RED))
    return {
        "200": server.post("/predict", RED, PAGE | KEY),
        "200 form": server.post("/predict/batch", form, PAGE | KEY | headers),
        "200 GET": server.get("/model", PAGE | KEY),
        "400": server.post("/predict", b"", PAGE | KEY),
        "401": server.post("/predict", RED, PAGE),
        "404": server.get("/nothing", PAGE | KEY),
        "404 in /v2": server.get("/v2/models/dogs", PAGE | KEY),
        "401 in /v2": server.post("/v2/models/pets/infer", RED, PAGE),
        "405": server.get("/predict", PAGE | KEY),
        "413": server.post("/predict", b"x" * 300_000, PAGE | KEY),
        "415": server.post("/predict", RED, PAGE | KEY | {"Content-Encoding": "gzip"}),
    }


def test_a_page_may_read_every_answer(elsewhere: Server) -> None:
    for name, reply in refusals(elsewhere).items():
        assert str(reply.status) == name[:3]
        assert reply.headers[ALLOW_ORIGIN] == PAGE["Origin"], name
        assert "Retry-After" in reply.headers["Access-Control-Expose-Headers"], name
        assert reply.headers["Vary"] == "Origin", name
        assert "Access-Control-Allow-Methods" not in reply.headers, name


@pytest.mark.parametrize("path", ["/predict", "/classify/predict", "/predict/batch", "/model"])
def test_a_preflight_needs_no_key(elsewhere: Server, path: str) -> None:
    reply = elsewhere.ask("OPTIONS", path, headers=PREFLIGHT)
    assert (reply.status, reply.body) == (200, b"")
    assert reply.headers[ALLOW_ORIGIN] == PAGE["Origin"]
    assert "POST" in reply.headers["Access-Control-Allow-Methods"]
    allowed = reply.headers["Access-Control-Allow-Headers"].lower().split(", ")
    assert {"authorization", "content-type"} < set(allowed)
    assert int(reply.headers["Access-Control-Max-Age"]) > 0


@pytest.mark.parametrize("origin", ["https://evil.example", "null"])
def test_other_pages_may_not(elsewhere: Server, origin: str) -> None:
    for method, headers in (("POST", KEY), ("OPTIONS", PREFLIGHT)):
        reply = elsewhere.ask(method, "/predict", RED, {**headers, "Origin": origin})
        assert reply.status == 200
        assert not [name for name in CORS if name in reply.headers]
        assert reply.headers["Vary"] == "Origin"


def test_by_default_no_page_may(server: Server) -> None:
    for reply in (server.get("/model", PAGE), server.ask("OPTIONS", "/predict", headers=PREFLIGHT)):
        assert reply.status == 200
        assert not [name for name in (*CORS, "Vary") if name in reply.headers]


def test_what_the_server_itself_refuses_is_told_to_every_page(tiny_model: Path) -> None:
    """A body that comes too slowly, and a prediction while the service stops."""
    with (
        start_server(tiny_model, body_timeout=0.3, cors_origins="*") as server,
        server.wire() as slow,
        server.wire() as late,
    ):
        page = {"Origin": "null"}
        head = raw_request("/predict", RED, headers=page)[: -len(RED)]
        reply = slow.send(head).reply()
        assert_problem(reply, 408, "body-timeout")
        assert reply.headers[ALLOW_ORIGIN] == "*"
        assert late.send(raw_request("/predict", RED, headers=page)).reply().status == 200
        server.terminate()
        assert eventually(lambda: not accepts(server.port))
        reply = late.send(raw_request("/predict", RED, headers=page)).reply()
        assert_problem(reply, 503, "not-ready")
        assert reply.headers[ALLOW_ORIGIN] == "*"
        assert "Retry-After" in reply.headers["Access-Control-Expose-Headers"]
