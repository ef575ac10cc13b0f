"""OpenVINO Model Server's client, which speaks TensorFlow Serving's REST API."""

import json
import sys
from pathlib import Path

import numpy as np
from ovmsclient import make_http_client

ADDRESS, *FILES = sys.argv[1:]
MODEL = "cifar10-deep"


def main() -> None:
    client = make_http_client(ADDRESS)
    black = np.zeros((1, 32, 32, 3), np.uint8)  # pixels of the network's own size, RGB
    answers = {
        "status": client.get_model_status(MODEL),
        "metadata": client.get_model_metadata(MODEL),
        "files": [
            client.predict({"image": Path(name).read_bytes()}, MODEL)[0].tolist() for name in FILES
        ],
        "black": client.predict({"image": black}, MODEL).tolist(),
    }
    print(json.dumps(answers, indent=2))


if __name__ == "__main__":
    main()
