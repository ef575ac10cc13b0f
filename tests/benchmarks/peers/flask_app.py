"""Flask as tutorials write it."""

from flask import Flask, Response, jsonify, request

from tests.benchmarks.peers.model import model_from_environ

app = Flask(__name__)
model = model_from_environ()


@app.post("/predict")
def predict() -> Response:
    """One image in, all labels out."""
    return jsonify(model.answer(request.get_data()))
