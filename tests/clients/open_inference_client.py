"""The client that is generated from the Open Inference Protocol's own description."""

import base64
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from open_inference.openapi.client import InferenceRequest, OpenInferenceClient
from open_inference.openapi.errors import BadRequestError

ADDRESS, *FILES = sys.argv[1:]
MODEL = "cifar10-deep"


def request(datatype: str, shape: list[int], data: Sequence[object]) -> InferenceRequest:
    image = {"name": "image", "datatype": datatype, "shape": shape, "data": data}
    return InferenceRequest(id="42", inputs=[image])


def main() -> None:
    client = OpenInferenceClient(base_url=f"http://{ADDRESS}")
    client.check_server_liveness()  # these three raise an error if it is not so
    client.check_server_readiness()
    client.check_model_readiness(MODEL)
    files = [base64.b64encode(Path(name).read_bytes()).decode() for name in FILES]
    answer = client.model_infer(MODEL, request=request("BYTES", [len(files)], files))
    answers = {
        "server": client.read_server_metadata().dict(),
        "metadata": client.read_model_metadata(MODEL).dict(),
        "files": answer.dict(),
    }
    try:
        client.model_infer(MODEL, request=request("UINT8", [1, 2, 2, 3], [0] * 12))
    except BadRequestError as error:
        answers["wrong shape"] = error.body
    print(json.dumps(answers, indent=2))


if __name__ == "__main__":
    main()
