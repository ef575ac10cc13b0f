"""KServe's client with its version 1, which is TensorFlow Serving's REST API."""

import asyncio
import base64
import json
import sys
from pathlib import Path

import httpx
from kserve import InferenceRESTClient, RESTConfig

ADDRESS, *FILES = sys.argv[1:]
MODEL = "cifar10-deep"


async def main() -> None:
    client, base = InferenceRESTClient(RESTConfig(protocol="v1")), f"http://{ADDRESS}"
    rows = [{"b64": base64.b64encode(Path(name).read_bytes()).decode()} for name in FILES]
    black = [[[0, 0, 0]] * 32] * 32  # pixels of the network's own size, RGB

    async def predict(**asked: object) -> object:
        answer = await client.infer(base, asked, model_name=MODEL)
        return answer["predictions"]

    answers = {
        "live": await client.is_server_live(base),
        "model ready": await client.is_model_ready(base, MODEL),
        "files": await predict(instances=rows),
        "labels": await predict(instances=rows, signature_name="labels"),
        "black": await predict(instances=[black]),
        "explained": await client.explain(base, MODEL, {"instances": rows[:1]}),
    }
    try:
        await predict(instances=["not an image"])
    except httpx.HTTPStatusError as error:
        answers["not an image"] = str(error)
    print(json.dumps(answers, indent=2))


if __name__ == "__main__":
    asyncio.run(main())
