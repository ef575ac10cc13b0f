"""POST /predict, POST /predict/batch, GET /model: what is answered, under both workers."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from service.inference.classifier import Classifier
from service.inference.imaging import decode_image
from tests.images import encode, photograph
from tests.server import WORKERS, Reply, Server, assert_problem, multipart, start_server
from tests.tiny_model import make_card, make_graph, write_model

RED = encode(Image.new("RGB", (9, 7), (200, 40, 90)), "PNG")
BLACK = encode(Image.new("RGB", (9, 7)), "PNG")
PHOTOGRAPH = encode(photograph(3, 300, 400), "JPEG", quality=90)
MODEL = {"name": "tiny", "version": "test-1"}
FORM_TYPE = {"Content-Type": "application/x-www-form-urlencoded"}


def expected(classifier: Classifier, data: bytes) -> list[dict[str, Any]]:
    """What the classifier says of an image without any HTTP."""
    image = decode_image(data, classifier.input_size, classifier.card.input.resize)
    (row,) = classifier.predict(image.pixels[None])
    return [{"label": p.label, "probability": p.probability} for p in classifier.rank(row)]


def assert_prediction(reply: Reply, classifier: Classifier, data: bytes) -> None:
    assert reply.status == 200, reply.body
    assert reply.headers["Content-Type"] == "application/json"
    answer = reply.json()
    assert list(answer) == ["model", "predictions"]
    assert answer["model"] == MODEL
    assert answer["predictions"] == expected(classifier, data)


@pytest.mark.parametrize("data", [RED, PHOTOGRAPH], ids=["png", "jpeg"])
def test_numbers_are_the_classifiers(
    server: Server, tiny_classifier: Classifier, data: bytes
) -> None:
    reply = server.post("/predict", data)
    assert_prediction(reply, tiny_classifier, data)
    predictions = reply.json()["predictions"]
    probabilities = [p["probability"] for p in predictions]
    assert probabilities == sorted(probabilities, reverse=True)
    assert {p["label"] for p in predictions} == set(tiny_classifier.card.labels)
    assert sum(probabilities) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    "declared",
    [
        None,
        "",
        "application/octet-stream",
        "application/x-www-form-urlencoded",
        "image/png",
        "image/jpeg",  # a lie; the bytes decide
        "IMAGE/WebP",
        "image/x-whatever; q=1",
    ],
)
def test_declared_types_that_are_taken(
    server: Server, tiny_classifier: Classifier, declared: str | None
) -> None:
    headers = {} if declared is None else {"Content-Type": declared}
    assert_prediction(server.post("/predict", RED, headers), tiny_classifier, RED)


@pytest.mark.parametrize(
    "declared",
    [
        "text/plain",
        "image/svg+xml",
        "Image/SVG+XML; charset=utf-8",
        "multipart/mixed; boundary=x",
        "nonsense",
    ],
)
def test_declared_types_that_are_refused(server: Server, declared: str) -> None:
    reply = server.post("/predict", RED, {"Content-Type": declared})
    assert_problem(reply, 415, "wrong-media-type")


@pytest.mark.parametrize(
    ("field", "filename"), [("image", "a.png"), ("x", "cat.txt"), ("", "a"), ("ü", "猫.png")]
)
def test_one_file_of_any_name_in_a_form(
    server: Server, tiny_classifier: Classifier, field: str, filename: str
) -> None:
    body, headers = multipart((field, filename, RED))
    assert_prediction(server.post("/predict", body, headers), tiny_classifier, RED)


def test_text_fields_and_empty_file_fields_are_passed_over(
    server: Server, tiny_classifier: Classifier
) -> None:
    body, headers = multipart(
        ("nothing", "", b""), ("image", "a.png", RED), fields={"note": "hello", "n": "1"}
    )
    assert_prediction(server.post("/predict", body, headers), tiny_classifier, RED)


def test_a_large_part_of_a_form(server: Server, tiny_classifier: Classifier) -> None:
    """Beyond werkzeug's 500 kB, where it would take to a temporary file."""
    large = RED + bytes(3_000_000)
    body, headers = multipart(("image", "a.png", large))
    assert_prediction(server.post("/predict", body, headers), tiny_classifier, RED)


@pytest.mark.parametrize(
    ("files", "slug"),
    [
        ([], "missing-image"),
        ([("image", "", b"")], "missing-image"),
        ([("image", "a.png", b"")], "missing-image"),
        ([("a", "a.png", RED), ("b", "b.png", RED)], "missing-image"),
        ([(str(n), "a.png", RED) for n in range(80)], "too-many-files"),
    ],
    ids=["no part", "empty field", "empty file", "two files", "80 files"],
)
def test_forms_without_exactly_one_image(
    server: Server, files: list[tuple[str, str, bytes]], slug: str
) -> None:
    body, headers = multipart(*files)
    assert_problem(server.post("/predict", body, headers), 413 if "too" in slug else 400, slug)


@pytest.mark.parametrize(
    ("declared", "body"),
    [
        ("multipart/form-data", b"--x--"),
        ("multipart/form-data; boundary=", b"--x--"),
        ("multipart/form-data; boundary=x", b""),
        ("multipart/form-data; boundary=x", b"no form at all"),
        ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="a"'),
        ("multipart/form-data; boundary=x", b"--x\r\nno header\r\n\r\nabc\r\n--x--\r\n"),
    ],
)
def test_broken_forms(server: Server, declared: str, body: bytes) -> None:
    reply = server.post("/predict", body, {"Content-Type": declared})
    assert_problem(reply, 400, "bad-body")


def test_no_bytes(server: Server) -> None:
    assert_problem(server.post("/predict", b""), 400, "missing-image")


@pytest.mark.parametrize(("top_k", "count"), [("1", 1), ("2", 2), ("3", 3), ("4", 3), ("9" * 9, 3)])
def test_top_k(server: Server, tiny_classifier: Classifier, top_k: str, count: int) -> None:
    reply = server.post(f"/predict?top_k={top_k}", RED)
    assert reply.json()["predictions"] == expected(tiny_classifier, RED)[:count]


@pytest.mark.parametrize(
    "top_k", ["0", "-1", "x", "1.5", "", "+1", "%201", "1e3", "0x2", "%D9%A1", "%C2%B2", "9" * 5000]
)
@pytest.mark.parametrize("route", ["/predict", "/predict/batch"])
def test_top_k_that_is_no_whole_number(server: Server, route: str, top_k: str) -> None:
    if len(top_k) > 1000:
        top_k = top_k[:1000]  # a longer line is the parser's to refuse
    body, headers = multipart(("image", "a.png", RED))
    reply = server.post(f"{route}?top_k={top_k}", body, headers)
    assert "top_k" in assert_problem(reply, 400, "bad-parameter")["detail"]


@pytest.mark.parametrize(
    "least",
    ["-0.1", "1.1", "x", "", "nan", "inf", "1e400", "0,2", "20%25", "+0.5", "%200.5", "0_0"],
)
@pytest.mark.parametrize("route", ["/predict", "/predict/batch"])
def test_min_probability_that_is_none(server: Server, route: str, least: str) -> None:
    body, headers = multipart(("image", "a.png", RED))
    reply = server.post(f"{route}?top_k=1&min_probability={least}", body, headers)
    assert "min_probability" in assert_problem(reply, 400, "bad-parameter")["detail"]


def test_the_first_of_a_parameter_given_twice(server: Server) -> None:
    reply = server.post("/predict?top_k=1&top_k=2", RED)
    assert len(reply.json()["predictions"]) == 1
    reply = server.post("/predict?min_probability=0&min_probability=1", RED)
    assert len(reply.json()["predictions"]) == 3


def test_unknown_parameters_are_passed_over(server: Server, tiny_classifier: Classifier) -> None:
    assert_prediction(server.post("/predict?colour=blue", RED), tiny_classifier, RED)


# ---- labels that stand alone ---------------------------------------------------------------------


@pytest.fixture(scope="module", params=WORKERS)
def multi_label(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server of a model whose card says sigmoid."""
    path = tmp_path_factory.mktemp("model") / "sigmoid.onnx"
    write_model(path, make_card(activation="sigmoid"), make_graph(activation="sigmoid"))
    with start_server(path, worker=request.param) as running:
        yield running


def test_labels_that_stand_alone_are_answered_as_they_are(multi_label: Server) -> None:
    predictions = multi_label.post("/predict", RED).json()["predictions"]
    assert [p["label"] for p in predictions] == ["red", "blue", "green"]
    found = [p["probability"] for p in predictions]
    expected = [1 / (1 + math.exp(-8 * colour / 255)) for colour in (200, 90, 40)]
    assert found == pytest.approx(expected, abs=1e-6)
    assert multi_label.get("/model").json()["activation"] == "sigmoid"


@pytest.mark.parametrize(
    ("query", "labels"),
    [  # of 0.998, 0.944 and 0.778
        ("min_probability=0", ["red", "blue", "green"]),
        ("min_probability=0.5", ["red", "blue", "green"]),
        ("min_probability=0.9", ["red", "blue"]),
        ("min_probability=9e-1", ["red", "blue"]),
        ("top_k=1&min_probability=0.9", ["red"]),
        ("min_probability=0.9&top_k=3", ["red", "blue"]),
        ("min_probability=0.999", []),
        ("min_probability=1", []),
    ],
)
def test_labels_of_at_least_a_probability(
    multi_label: Server, query: str, labels: list[str]
) -> None:
    whole = multi_label.post("/predict", RED).json()["predictions"]
    expected = [p for p in whole if p["label"] in labels]
    reply = multi_label.post(f"/predict?{query}", RED)
    assert reply.json()["predictions"] == expected
    assert [p["label"] for p in expected] == labels

    body, headers = multipart(("a", "a", RED), ("b", "b", BLACK))
    results = multi_label.post(f"/predict/batch?{query}", body, headers).json()["results"]
    found = [[p["label"] for p in result["predictions"]] for result in results]
    black = ["red", "green", "blue"] if len(labels) == 3 else []  # 0.5 each
    assert found == [labels, black]


# ---- batches -------------------------------------------------------------------------------------


def test_batch_in_order_with_problems_in_their_place(
    server: Server, tiny_classifier: Classifier
) -> None:
    images = [encode(Image.new("RGB", (5, 5), (n * 12, 255 - n * 12, n)), "PNG") for n in range(20)]
    files = [("f", f"{n}.png", data) for n, data in enumerate(images)]
    files[3] = ("f", "3.png", b"\x89PNG\r\n\x1a\nbroken")
    files[17] = ("f", "17.txt", b"hello")
    body, headers = multipart(*files)
    reply = server.post("/predict/batch", body, headers)
    assert reply.status == 200, reply.body
    answer = reply.json()
    assert list(answer) == ["model", "results"]
    assert answer["model"] == MODEL
    results = answer["results"]
    assert [result["filename"] for result in results] == [name for _, name, _ in files]
    for number, result in enumerate(results):
        if number in (3, 17):
            assert set(result) == {"filename", "problem"}
        else:
            assert set(result) == {"filename", "predictions"}
            assert [p["label"] for p in result["predictions"]] == [
                p["label"] for p in expected(tiny_classifier, images[number])
            ]
            assert [p["probability"] for p in result["predictions"]] == pytest.approx(
                [p["probability"] for p in expected(tiny_classifier, images[number])], abs=1e-6
            )
    assert results[3]["problem"]["status"] == 422
    assert results[3]["problem"]["type"] == "urn:labelserve:problem:broken-image"
    assert results[17]["problem"]["status"] == 415
    assert results[17]["problem"]["type"] == "urn:labelserve:problem:unsupported-format"
    assert all(set(r["problem"]) == {"type", "title", "status", "detail"} for r in results[3:18:14])


def test_batch_of_one_is_the_single_prediction(server: Server, tiny_classifier: Classifier) -> None:
    body, headers = multipart(("image", "a.png", PHOTOGRAPH))
    (result,) = server.post("/predict/batch", body, headers).json()["results"]
    assert result["predictions"] == expected(tiny_classifier, PHOTOGRAPH)


def test_batch_names_come_back_as_they_were(server: Server) -> None:
    names = ["ü猫🐈.png", "a.png", "a.png", "", "../../etc/passwd", "a b;c.png"]
    body, headers = multipart(*(("same", name, RED) for name in names))
    results = server.post("/predict/batch", body, headers).json()["results"]
    assert [result["filename"] for result in results] == names
    assert all(result["predictions"] for result in results)


def test_batch_top_k(server: Server) -> None:
    body, headers = multipart(("a", "a", RED), ("b", "b", RED))
    results = server.post("/predict/batch?top_k=1", body, headers).json()["results"]
    assert [len(result["predictions"]) for result in results] == [1, 1]


def test_batch_of_unreadable_files_only(server: Server) -> None:
    body, headers = multipart(("a", "a", b"x"), ("b", "b", b"y"))
    reply = server.post("/predict/batch", body, headers)
    assert reply.status == 200
    assert [result["problem"]["status"] for result in reply.json()["results"]] == [415, 415]


def test_batch_with_an_empty_file_that_has_a_name(server: Server) -> None:
    body, headers = multipart(("a", "empty.png", b""), ("b", "b.png", RED))
    results = server.post("/predict/batch", body, headers).json()["results"]
    assert results[0]["problem"]["type"] == "urn:labelserve:problem:empty-image"
    assert results[1]["predictions"]


def test_batch_without_files(server: Server) -> None:
    body, headers = multipart(fields={"a": "b"})
    assert_problem(server.post("/predict/batch", body, headers), 400, "missing-image")


def test_batch_is_a_form(server: Server) -> None:
    assert_problem(server.post("/predict/batch", RED), 415, "wrong-media-type")
    reply = server.post("/predict/batch", RED, {"Content-Type": "image/png"})
    assert_problem(reply, 415, "wrong-media-type")


@pytest.mark.parametrize("count", [64, 65, 200])
def test_number_of_files_in_a_batch(server: Server, count: int) -> None:
    body, headers = multipart(*(("f", str(n), RED) for n in range(count)))
    reply = server.post("/predict/batch", body, headers)
    if count <= 64:
        assert len(reply.json()["results"]) == count
    else:
        assert_problem(reply, 413, "too-many-files")


@pytest.mark.parametrize("worker", ["asyncio", "gthread"])
def test_limits_of_bytes(tiny_model: Path, worker: str) -> None:
    limits = {"max_image_bytes": 20_000, "max_batch_bytes": 100_000}
    fits = RED.ljust(20_000, b"\0")
    with start_server(tiny_model, worker=worker, **limits) as server:
        assert server.post("/predict", fits).status == 200
        assert_problem(server.post("/predict", fits + b"\0"), 413, "body-too-large")
        # A form may be larger than its image, the image in it may not.
        body, headers = multipart(("image", "a.png", fits))
        assert server.post("/predict", body, headers).status == 200
        body, headers = multipart(("image", "a.png", fits + b"\0"))
        assert_problem(server.post("/predict", body, headers), 413, "body-too-large")
        # In a batch, a file that is too large spoils only itself.
        body, headers = multipart(("a", "a", fits + b"\0"), ("b", "b", fits))
        results = server.post("/predict/batch", body, headers).json()["results"]
        assert results[0]["problem"]["status"] == 413
        assert results[1]["predictions"]
        body, headers = multipart(*(("f", str(n), fits) for n in range(6)))
        assert_problem(server.post("/predict/batch", body, headers), 413, "body-too-large")
        # Chunked, the length is known only in the end.
        connection = server.connection()
        connection.request("POST", "/predict", iter([fits, b"\0"]), encode_chunked=True)
        response = connection.getresponse()
        assert response.status == 413
        connection.close()


# ---- the card, methods, paths --------------------------------------------------------------------


def test_model_is_the_card(server: Server, tiny_classifier: Classifier) -> None:
    reply = server.get("/model")
    assert reply.status == 200
    assert reply.headers["Content-Type"] == "application/json"
    assert type(tiny_classifier.card).from_json(reply.body) == tiny_classifier.card
    assert server.get("/model/examples").json() == {"model": MODEL, "examples": []}


def test_health(server: Server) -> None:
    assert server.get("/health/live").json() == {"status": "live"}
    assert server.get("/health/ready").json() == {"status": "ready"}
    assert server.get("/health").json() == {"status": "ready", "model": MODEL}


@pytest.mark.parametrize("path", ["/health", "/health/live", "/health/ready", "/model", "/metrics"])
def test_head_is_get_without_a_body(server: Server, path: str) -> None:
    plain, head = server.get(path), server.ask("HEAD", path)
    assert (head.status, head.body) == (plain.status, b"")
    assert head.headers["Content-Type"] == plain.headers["Content-Type"]
    if path != "/metrics":
        assert head.headers["Content-Length"] == str(len(plain.body))


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/predict", {"POST", "OPTIONS"}),
        ("HEAD", "/predict", {"POST", "OPTIONS"}),
        ("PUT", "/predict", {"POST", "OPTIONS"}),
        ("GET", "/predict/batch", {"POST", "OPTIONS"}),
        ("POST", "/model", {"GET", "HEAD", "OPTIONS"}),
        ("POST", "/", {"GET", "HEAD", "OPTIONS"}),
        ("DELETE", "/health", {"GET", "HEAD", "OPTIONS"}),
        ("POST", "/metrics", {"GET", "HEAD", "OPTIONS"}),
        ("PURGE", "/metrics", {"GET", "HEAD", "OPTIONS"}),
    ],
)
def test_methods_that_are_not_allowed(
    server: Server, method: str, path: str, allowed: set[str]
) -> None:
    reply = server.ask(method, path)
    assert set(reply.headers["Allow"].split(", ")) == allowed
    if method == "HEAD":
        assert (reply.status, reply.body) == (405, b"")
    else:
        assert_problem(reply, 405, None)


def test_options(server: Server) -> None:
    reply = server.ask("OPTIONS", "/predict")
    assert reply.status == 200
    assert set(reply.headers["Allow"].split(", ")) == {"POST", "OPTIONS"}


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/predict/",
        "/predict//",
        "/predict//batch",
        "/Predict",
        "/static/x",
        "/%00",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("size", [0, 100_000])
def test_paths_that_do_not_exist(server: Server, method: str, path: str, size: int) -> None:
    assert_problem(server.ask(method, path, bytes(size)), 404, None)


def test_a_method_that_does_not_exist_with_a_body(server: Server) -> None:
    assert_problem(server.ask("PUT", "/predict", bytes(3_000_000)), 405, None)
    assert server.post("/predict", RED).status == 200


@pytest.mark.parametrize("path", ["//predict", "///predict", "/%70redict", "/%2Fpredict"])
def test_other_spellings_of_a_path(server: Server, tiny_classifier: Classifier, path: str) -> None:
    """Every worker has to take them for the same route, limits included."""
    assert_prediction(server.post(path, RED.ljust(100_000, b"\0")), tiny_classifier, RED)


def test_crop_rule_reaches_the_pixels(tmp_path: Path) -> None:
    """The card's resize rule is what HTTP requests get too."""
    pixels = np.zeros((8, 24, 3), np.uint8)
    pixels[:, :8, 0] = pixels[:, 16:, 0] = 255  # red, black, red
    data = encode(Image.fromarray(pixels), "PNG")
    answers = {}
    for rule in ("stretch", "crop"):
        model = write_model(tmp_path / f"{rule}.onnx", make_card(resize=rule))
        with start_server(model) as server:
            answers[rule] = server.post("/predict", data).json()["predictions"][0]["probability"]
    assert answers["crop"] == pytest.approx(1 / 3, abs=1e-3)  # black only: all alike
    assert answers["stretch"] > 0.9
