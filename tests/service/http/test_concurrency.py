"""Answers never mix: many different pictures at once, each answer held against the classifier's."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from service.inference.classifier import Classifier
from service.inference.imaging import decode_image
from tests.pictures import encode
from tests.server import Server, multipart, start_server

COUNT, CLIENTS = 300, 32


def pictures() -> list[bytes]:
    """Every one of another colour and size, most in another format than its neighbour."""
    rng = np.random.default_rng(5)
    made = []
    for number in range(COUNT):
        colour = tuple(int(value) for value in rng.integers(0, 256, 3))
        image = Image.new("RGB", (8 + number % 40, 8 + number % 23), colour)
        made.append(encode(image, ("PNG", "JPEG", "WEBP", "BMP")[number % 4]))
    return made


def probabilities(predictions: list[dict[str, Any]]) -> dict[str, float]:
    return {p["label"]: p["probability"] for p in predictions}


def expected(classifier: Classifier, data: bytes) -> dict[str, float]:
    image = decode_image(data, classifier.input_size, classifier.card.input.resize)
    (row,) = classifier.predict(image.pixels[None])
    return {p.label: p.probability for p in classifier.rank(row)}


def test_every_answer_is_to_its_own_picture(server: Server, tiny_classifier: Classifier) -> None:
    made = pictures()
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


def test_batches_and_single_pictures_at_once(server: Server, tiny_classifier: Classifier) -> None:
    made = pictures()

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


def test_answering_reads_no_file(tiny_model: Path) -> None:
    """Not even to find out how many cores there are, which once cost every request 0.2 ms."""
    picture = encode(Image.new("RGB", (32, 32), "teal"), "JPEG")
    with start_server(tiny_model, workers=0) as server:
        before = reads(server)
        for _ in range(COUNT):
            assert server.post("/predict", picture).status == 200
        # The watch for new models may have read a little.
        assert reads(server) - before < COUNT / 2


def reads(server: Server) -> int:
    """System calls that read files, of all workers so far."""
    counts = [Path(f"/proc/{pid}/io").read_text(encoding="ascii") for pid in server.workers]
    return sum(int(text.split("syscr: ")[1].split()[0]) for text in counts)
