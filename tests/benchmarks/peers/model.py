"""What both peers share: the model, decoding, and the answer. Nothing of the service is used."""

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from PIL import Image

LABELS = tuple(os.environ.get("LABELS", "").split(","))


class Model:
    """An .onnx of the contract, on one thread, as one process a core wants it."""

    def __init__(self, path: Path) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        height, width = self._session.get_inputs()[0].shape[1:3]
        self._size = (width, height)

    def probabilities(self, data: bytes) -> NDArray[np.float32]:
        """float32 [labels] of one image file."""
        with Image.open(io.BytesIO(data)) as image:
            pixels = image.convert("RGB").resize(self._size, Image.Resampling.BILINEAR)
        (rows,) = self._session.run(["probabilities"], {"image": np.asarray(pixels)[None]})
        row: NDArray[np.float32] = rows[0]
        return row

    def answer(self, data: bytes) -> dict[str, Any]:
        """What goes out as JSON."""
        pairs = zip(LABELS, self.probabilities(data).tolist(), strict=True)
        ranked = sorted(pairs, key=lambda pair: pair[1], reverse=True)
        return {"predictions": [{"label": name, "probability": value} for name, value in ranked]}


def model_from_environ() -> Model:
    """The model that $MODEL names."""
    return Model(Path(os.environ["MODEL"]))
