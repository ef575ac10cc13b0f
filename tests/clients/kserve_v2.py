"""KServe's client with the Open Inference Protocol, version 2."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

ADDRESS, *FILES = sys.argv[1:]
MODEL = "cifar10-deep"


def request(data: Any, datatype: str, binary: bool = True) -> InferRequest:
    image = InferInput("image", list(data.shape), datatype)
    image.set_data_from_numpy(data, binary_data=binary)
    return InferRequest(MODEL, [image], request_id="42")


async def main() -> None:
    client, base = InferenceRESTClient(RESTConfig(protocol="v2")), f"http://{ADDRESS}"
    files = np.array([Path(name).read_bytes() for name in FILES], dtype=np.object_)
    black = np.zeros((1, 32, 32, 3), np.uint8)  # pixels of the network's own size, RGB

    async def probabilities(asked: InferRequest) -> Any:
        answer = await client.infer(base, asked, model_name=MODEL)
        return answer.outputs[0].as_numpy().tolist()

    answers = {
        "live": await client.is_server_live(base),
        "ready": await client.is_server_ready(base),
        "model ready": await client.is_model_ready(base, MODEL),
        "files": await probabilities(request(files, "BYTES")),
        "black": await probabilities(request(black, "UINT8")),
        "black in JSON": await probabilities(request(black, "UINT8", binary=False)),
    }
    try:
        await client.infer(base, request(black[:, 1:], "UINT8"), model_name=MODEL)
    except httpx.HTTPStatusError as error:
        answers["wrong shape"] = str(error)
    print(json.dumps(answers, indent=2))


if __name__ == "__main__":
    asyncio.run(main())
