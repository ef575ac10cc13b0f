"""Triton's client: asks for what the server knows, then for images in every form."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.http as triton
from PIL import Image
from tritonclient.utils import InferenceServerException

ADDRESS, *FILES = sys.argv[1:]
MODEL = "cifar10-deep"


def tensor(data: Any, datatype: str, binary: bool) -> triton.InferInput:
    """What is sent: ``image`` is the name of the model's one input."""
    given = triton.InferInput("image", list(data.shape), datatype)
    given.set_data_from_numpy(data, binary_data=binary)
    return given


def error_of(call: Any) -> str:
    """What the server says to a request that it refuses."""
    try:
        return f"not refused: {call()}"
    except InferenceServerException as error:
        return f"{error.status()}: {error.message()}"


def main() -> None:
    client = triton.InferenceServerClient(ADDRESS)
    metadata = client.get_model_metadata(MODEL)
    height, width = metadata["inputs"][0]["shape"][1:3]

    files = np.array([Path(name).read_bytes() for name in FILES], dtype=np.object_)
    pictures = [Image.open(name).convert("RGB").resize((width, height)) for name in FILES]
    pixels = np.stack([np.asarray(picture) for picture in pictures])

    def infer(given: triton.InferInput, **more: Any) -> triton.InferResult:
        return client.infer(MODEL, [given], **more)

    def probabilities(given: triton.InferInput, **more: Any) -> Any:
        return infer(given, **more).as_numpy("probabilities").tolist()

    json_answer = [triton.InferRequestedOutput("probabilities", binary_data=False)]
    three_best = [triton.InferRequestedOutput("probabilities", class_count=3)]
    files_given = tensor(files, "BYTES", binary=True)
    answers = {
        "live": client.is_server_live(),
        "ready": client.is_server_ready(),
        "model ready": client.is_model_ready(MODEL),
        "server": client.get_server_metadata(),
        "metadata": metadata,
        "config": client.get_model_config(MODEL),
        "repository": client.get_model_repository_index(),
        # JPEG or PNG files, as they are: the server decodes and resizes them.
        "files": probabilities(files_given),
        "files answered in JSON": probabilities(files_given, outputs=json_answer),
        "three best": infer(files_given, outputs=three_best)
        .as_numpy("probabilities")
        .astype(str)
        .tolist(),
        # Pixels of the network's own size: UINT8, height x width x RGB.
        "pixels": probabilities(tensor(pixels, "UINT8", binary=True)),
        "pixels in JSON": probabilities(tensor(pixels, "UINT8", binary=False)),
        "asynchronous": client.async_infer(MODEL, [files_given])
        .get_result()
        .as_numpy("probabilities")
        .tolist(),
        "request id": infer(files_given, request_id="42").get_response()["id"],
        "statistics": client.get_inference_statistics(MODEL)["model_stats"][0],
        "wrong shape": error_of(lambda: infer(tensor(pixels[:, 1:], "UINT8", binary=True))),
        "wrong model": error_of(lambda: client.infer("no-such-model", [files_given])),
        "compressed": error_of(lambda: infer(files_given, request_compression_algorithm="gzip")),
        "load": error_of(lambda: client.load_model(MODEL)),
    }
    print(json.dumps(answers, indent=2))


if __name__ == "__main__":
    main()
