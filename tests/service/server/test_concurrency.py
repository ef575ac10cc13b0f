"""Answers never mix: many different images at once, each answer held against the classifier's."""

import http.client
import json
import select
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from service.inference.classifier import Classifier
from service.inference.imaging import decode_image
from service.runtime.shared_state import SharedState, WorkerSlot
from service.serving.batcher import TURN_SECONDS
from tests.benchmarks.models import adopt, network
from tests.images import encode
from tests.server import Server, Wire, eventually, multipart, raw_request, start_server
from tests.service.server.in_process import serving

COUNT, CLIENTS = 300, 32


def many_images() -> list[bytes]:
    """Every one of another colour and size, most in another format than its neighbour.

    Some are so large that a thread decodes them; they join the others before the network.
    """
    rng = np.random.default_rng(5)
    made = []
    for number in range(COUNT):
        colour = tuple(int(value) for value in rng.integers(0, 256, 3))
        size = (420, 300 + number) if number % 7 == 0 else (8 + number % 40, 8 + number % 23)
        image = Image.new("RGB", size, colour)
        made.append(encode(image, ("PNG", "JPEG", "WEBP", "BMP")[number % 4]))
    return made


def probabilities(predictions: list[dict[str, Any]]) -> dict[str, float]:
    return {p["label"]: p["probability"] for p in predictions}


def expected(classifier: Classifier, data: bytes) -> dict[str, float]:
    image = decode_image(data, classifier.input_size, classifier.card.input.resize)
    (row,) = classifier.predict(image.pixels[None])
    return {p.label: p.probability for p in classifier.rank(row)}


def test_every_answer_is_to_its_own_image(server: Server, tiny_classifier: Classifier) -> None:
    made = many_images()
    assert len({tuple(expected(tiny_classifier, data).values()) for data in made}) > COUNT * 0.95

    def ask(share: tuple[int, ...]) -> list[tuple[int, str, dict[str, float]]]:
        connection = server.connection()
        answers = []
        for number in share:
            connection.request("POST", "/predict", made[number], {"X-Request-ID": f"n{number}"})
            response = connection.getresponse()
            answer = json.loads(response.read())
            found = probabilities(answer["predictions"])
            answers.append((number, response.headers["X-Request-ID"], found))
        connection.close()
        return answers

    shares = [tuple(range(start, COUNT, CLIENTS)) for start in range(CLIENTS)]
    with ThreadPoolExecutor(CLIENTS) as clients:
        answers = [answer for share in clients.map(ask, shares) for answer in share]
    assert len(answers) == COUNT
    for number, request_id, found in answers:
        assert request_id == f"n{number}"
        assert found == pytest.approx(expected(tiny_classifier, made[number]), abs=1e-6)


def test_batches_and_single_images_at_once(server: Server, tiny_classifier: Classifier) -> None:
    made = many_images()

    def ask(start: int) -> list[dict[str, float]]:
        some = made[start : start + 20]
        body, headers = multipart(*(("f", str(n), data) for n, data in enumerate(some)))
        reply = server.post("/predict/batch", body, headers)
        single = server.post("/predict", made[start]).json()["predictions"]
        results = reply.json()["results"]
        return [probabilities(r["predictions"]) for r in results] + [probabilities(single)]

    starts = range(0, COUNT, 20)
    with ThreadPoolExecutor(len(starts)) as clients:
        for start, found in zip(starts, clients.map(ask, starts), strict=True):
            wanted = [*made[start : start + 20], made[start]]
            for data, one in zip(wanted, found, strict=True):
                assert one == pytest.approx(expected(tiny_classifier, data), abs=1e-6)


def test_a_single_image_does_not_wait_for_whole_forms(tiny_model: Path) -> None:
    """Forms of many are taken apart beside single images, not before them."""
    slope = Image.linear_gradient("L").resize((1000, 700)).convert("RGB")
    image = encode(slope, "PNG")  # few bytes, and some 5 ms of work
    body, headers = multipart(*(("f", str(n), image) for n in range(32)))
    with start_server(tiny_model, workers=1) as server, ThreadPoolExecutor(3) as clients:

        def form_alone() -> float:
            begun = time.monotonic()
            assert server.post("/predict/batch", body, headers).status == 200
            return time.monotonic() - begun

        before = form_alone()
        forms = [clients.submit(server.post, "/predict/batch", body, headers) for _ in range(3)]
        waited = []
        while not all(form.done() for form in forms):
            begun = time.monotonic()
            assert server.post("/predict", image).status == 200
            waited.append(time.monotonic() - begun)
        assert {form.result().status for form in forms} == {200}
        after = form_alone()
    assert statistics.median(waited) < (before + after) / 2 / 3, waited


def slow_classifier(path: Path) -> Classifier:
    """A network as wide as this machine needs it to take twice as long as the loop may."""
    for width in (256, 384, 512, 768, 1024, 1536):
        onnx.save(network(width), path.with_suffix(".bare"))
        adopt(path.with_suffix(".bare"), path)
        classifier = Classifier.load(path)
        if classifier.seconds_per_image > 2 * TURN_SECONDS:
            return classifier
    raise AssertionError(f"none of these networks takes {2 * TURN_SECONDS} s")


def test_a_slow_network_stays_off_the_loop(tmp_path: Path) -> None:
    """Nobody's probe waits for it, and its answers are right all the same."""
    model = tmp_path / "slow.onnx"
    classifier = slow_classifier(model)
    made = many_images()[:16]
    with (
        start_server(model, workers=1) as server,
        ThreadPoolExecutor(len(made)) as clients,
    ):
        work = [clients.submit(server.post, "/predict", data) for data in made]
        waited = []
        while not all(one.done() for one in work):
            begun = time.monotonic()
            assert server.get("/health/live").status == 200
            waited.append(time.monotonic() - begun)
    assert statistics.median(waited) < classifier.seconds_per_image * len(made) / 4, waited
    for data, one in zip(made, work, strict=True):
        found = probabilities(one.result().json()["predictions"])
        assert found == pytest.approx(expected(classifier, data), abs=1e-5)


def test_connections_are_shared_out(tiny_model: Path) -> None:
    """No worker takes all of a few busy clients, and leaves a core idle."""
    image = many_images()[1]

    def sockets(pid: int) -> int:
        found = 0
        for path in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # it has just been closed
                found += str(path.readlink()).startswith("socket:")
        return found

    def ask(connection: http.client.HTTPConnection) -> None:
        for _ in range(3):
            connection.request("POST", "/predict", image)
            assert connection.getresponse().read()

    with start_server(tiny_model, workers=2) as server, ThreadPoolExecutor(16) as clients:
        server.descriptors_at_rest()
        before = {pid: sockets(pid) for pid in server.workers}
        for _ in range(5):
            with ExitStack() as stack:
                connections = [stack.enter_context(closing(server.connection())) for _ in range(16)]
                list(clients.map(ask, connections))
                held = [sockets(pid) - before[pid] for pid in server.workers]
                assert min(held) >= 4, held
            assert eventually(lambda: {pid: sockets(pid) for pid in server.workers} == before)


def test_a_probe_does_not_wait_for_a_scrape(tiny_model: Path, tiny_classifier: Classifier) -> None:
    """A scrape waits for another worker's counts; here they never come."""
    slot = WorkerSlot(SharedState(2), 0)
    slot.state.add_answered(1)
    with (
        serving(tiny_classifier, tiny_model, slot) as port,
        Wire(port) as scrape,
        Wire(port) as probe,
    ):
        scrape.send(raw_request("/metrics", method="GET"))
        time.sleep(0.02)  # it waits already
        assert probe.send(raw_request("/health/live", method="GET")).reply().status == 200
        assert not select.select([scrape.sock], [], [], 0)[0]
        assert scrape.reply().status == 200


def test_answering_reads_no_file(tiny_model: Path) -> None:
    """Not even to find out how many cores there are, which once cost every request 0.2 ms."""
    image = encode(Image.new("RGB", (32, 32), "teal"), "JPEG")
    with start_server(tiny_model, workers=0) as server:
        before = reads(server)
        for _ in range(COUNT):
            assert server.post("/predict", image).status == 200
        # libuv reads a socket by the same call, twice for a request and the client's end. A file
        # costs two more. The watch for new models may have read a little.
        assert reads(server) - before < 2.5 * COUNT


def reads(server: Server) -> int:
    """System calls that read files, of all workers so far."""
    counts = [Path(f"/proc/{pid}/io").read_text(encoding="ascii") for pid in server.workers]
    return sum(int(text.split("syscr: ")[1].split()[0]) for text in counts)
