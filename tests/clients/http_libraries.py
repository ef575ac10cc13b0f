"""Python's libraries for HTTP, as their readers are taught to use them: posts a file in every way.

Arguments: the service's address and an image file. Prints the most probable label of each way.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import requests

ADDRESS, FILE = sys.argv[1], Path(sys.argv[2])


async def by_aiohttp(data: object) -> Any:
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{ADDRESS}/predict", data=data, params={"top_k": 1}) as reply,
    ):
        return await reply.json()


def main() -> None:
    url, body, one = f"{ADDRESS}/predict", FILE.read_bytes(), {"top_k": 1}
    answers = {
        "requests raw": requests.post(url, body, params=one, timeout=30).json(),
        "requests form": requests.post(
            url, files={"image": FILE.open("rb")}, params=one, timeout=30
        ).json(),
        "requests streamed": requests.post(url, FILE.open("rb"), params=one, timeout=30).json(),
        "httpx raw": httpx.post(url, content=body, params=one).json(),
        "httpx form": httpx.post(url, files={"image": FILE.open("rb")}, params=one).json(),
        "aiohttp raw": asyncio.run(by_aiohttp(body)),
        "aiohttp form": asyncio.run(by_aiohttp({"image": FILE.open("rb")})),
    }
    labels = {way: answer["predictions"][0]["label"] for way, answer in answers.items()}
    sys.stdout.write(json.dumps(labels))


if __name__ == "__main__":
    main()
