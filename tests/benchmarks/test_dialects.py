"""What the benchmark of wire formats sends is the same image, and is answered."""

from pathlib import Path

import numpy as np

from tests.benchmarks.dialects import BATCH, FILES, PREDICT, TENSOR, TENSORS, Dialects
from tests.server import Reply, Server
from tests.service.http.open_inference import rows_of


def test_the_same_image_in_each_format(server: Server, tiny_model: Path, tmp_path: Path) -> None:
    dialects = Dialects(tiny_model, tmp_path, 0.1)

    def send(name: str) -> Reply:
        body = dialects.bodies[name]
        fields = dict(field.split(": ") for field in body.fields)
        return server.post(body.path, body.file.read_bytes(), fields)

    predictions = send(PREDICT).json()["predictions"]
    by_label = {one["label"]: one["probability"] for one in predictions}
    expected = np.array([by_label[label] for label in ("red", "green", "blue")], np.float32)
    for name, times in {FILES: 1, TENSOR: 1, TENSORS: BATCH}.items():
        rows = rows_of(send(name))
        assert rows.shape == (times, 3)
        assert np.allclose(rows, expected)
