"""Examples for the description: one of each type, and a detail of each error."""

from service.http.health import Health, Status
from service.http.predict import Answer, BatchAnswer, FileResult, JsonRequest, ModelName
from service.inference import errors as inference
from service.inference.classifier import Prediction
from service.inference.contract import (
    Figures,
    InputSpec,
    LabelFigures,
    ModelCard,
    Provenance,
    TrainingData,
)
from service.serving import errors as serving
from service.serving.problems import problem_of

REQUEST_ID = "4bf92f3577b34da6a3ce929d0e0e4736"

# Every error but ClientDisconnected, which no client is ever told.
DETAILS: dict[type[Exception], str] = {
    inference.EmptyImage: "the image has no bytes",
    inference.UnsupportedFormat: "the image is HEIC, accepted are JPEG, PNG, WEBP, GIF, BMP",
    inference.BrokenImage: "the JPEG ends early",
    inference.TooManyPixels: "the image has 120000000 pixels, 50000000 are allowed",
    inference.InvalidAnswer: "the model answered with NaN or infinity",
    serving.Unauthorized: "send a valid key: Authorization: Bearer … or X-API-Key: …",
    serving.BadParameter: "top_k has to be a whole number of at least 1",
    serving.BadBody: "the body ended after 1000 of 2000 bytes",
    serving.MissingImage: "the form holds 2 files, send exactly one",
    serving.UnknownModel: "no model 'dogs' is served here, there is 'pets'",
    serving.BadTensor: "the tensor has shape [1, 28, 28, 3], [n, 96, 96, 3] is expected",
    serving.WrongMediaType: "the body is declared as text/html, send an image's bytes as image/…",
    serving.UnsupportedCoding: "the bytes are declared as gzip: send them without a coding",
    serving.BodyTooLarge: "the body has 30000000 bytes, 20000000 are allowed",
    serving.TooManyFiles: "the form holds 65 files, 64 are allowed",
    serving.BodyTimeout: "the body was not all there after 30 s",
    serving.Overloaded: "too many predictions are in flight, try again",
    serving.NotReady: "the service is stopping",
    serving.DeadlineExceeded: "the request was not answered within 30 s",
}

_MODEL = ModelName("cifar10-deep", "2026-11-20")
_RANKED = [Prediction("cat", 0.93), Prediction("dog", 0.04)]

# A PNG of one pixel.
IMAGE_IN_BASE64 = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR42mM4oREFAAMGAUszneddAAAAAElFTkSuQmCC"
)
JSON_REQUEST = JsonRequest(IMAGE_IN_BASE64, top_k=3, min_probability=0.1)

ANSWER = Answer(_MODEL, _RANKED)
BATCH_ANSWER = BatchAnswer(
    _MODEL,
    [
        FileResult("a.jpg", _RANKED),
        FileResult("b.heic", problem=problem_of(inference.UnsupportedFormat("the image is HEIC"))),
    ],
)
LIVE, READY, HEALTH = Status("live"), Status("ready"), Health("ready", _MODEL)
CARD = ModelCard(
    schema=1,
    name="pets",
    version="2026-11-20",
    labels=("cat", "dog"),
    input=InputSpec(96, 96, "crop"),
    temperature=1.2,
    training_data=TrainingData("our photographs", "CC-BY-4.0", {"train": 1800, "test": 200}),
    figures=Figures(
        split="test",
        images=200,
        accuracy=0.985,
        calibration_error=0.012,
        parity=0.0001,
        per_label={"cat": LabelFigures(0.99, 0.98, 100), "dog": LabelFigures(0.98, 0.99, 100)},
    ),
    provenance=Provenance("2026-11-20T10:00:00+00:00", "python -m training photos", {}, {}),
)
METRICS = """\
# HELP labelserve_requests_total Answered requests.
# TYPE labelserve_requests_total counter
labelserve_requests_total{method="POST",route="/predict",status="200"} 42.0
"""
