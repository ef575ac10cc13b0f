"""Triton's client for asyncio: many images at once, each in a request of its own."""

import asyncio
import json
import sys
from pathlib import Path

import numpy as np
import tritonclient.http.aio as triton

ADDRESS, *FILES = sys.argv[1:]
MODEL = "cifar10-deep"


async def classify(client: triton.InferenceServerClient, file: str) -> str:
    data = np.array([Path(file).read_bytes()], dtype=np.object_)
    image = triton.InferInput("image", [1], "BYTES")
    image.set_data_from_numpy(data)
    best = triton.InferRequestedOutput("probabilities", class_count=1)
    answer = await client.infer(MODEL, [image], outputs=[best])
    text: str = answer.as_numpy("probabilities")[0, 0].decode()  # probability:index:label
    return text


async def main() -> None:
    async with triton.InferenceServerClient(ADDRESS) as client:
        answers = await asyncio.gather(*(classify(client, file) for file in FILES))
        ready = await client.is_model_ready(MODEL)
    print(json.dumps({"model ready": ready, "best": dict(zip(FILES, answers, strict=True))}))


if __name__ == "__main__":
    asyncio.run(main())
