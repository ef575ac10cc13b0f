"""FastAPI as tutorials write it; async, which is the faster of its two ways here."""

from typing import Any

from fastapi import FastAPI, Request

from tests.benchmarks.peers.model import model_from_environ

app = FastAPI()
model = model_from_environ()


@app.post("/predict")  # type: ignore[untyped-decorator]
async def predict(request: Request) -> dict[str, Any]:
    """One image in, all labels out."""
    return model.answer(await request.body())
