"""Examples for the description: one of each type, and a detail of each error."""

import msgspec

from service.http.explain import ExplainRequest, Explanation, Explanations, ImportanceMap
from service.http.health import Health, Live, Ready, Status
from service.http.hugging_face import HuggingFaceRequest, Parameters, Scored
from service.http.model import (
    CardVersion,
    ListedModel,
    ListedVersion,
    ModelExamples,
    ModelList,
)
from service.http.model_status import ModelNames, ModelStatus
from service.http.open_inference.answers import PROBABILITIES, InferAnswer, OutputTensor
from service.http.open_inference.descriptions import (
    PLATFORM,
    ConfigTensor,
    IndexedModel,
    ModelConfig,
    ModelMetadata,
    ModelReady,
    ServerMetadata,
    SpecificVersions,
    TensorMetadata,
    VersionPolicy,
)
from service.http.open_inference.inputs import TENSOR
from service.http.open_inference.statistics import StatisticsAnswer, statistics
from service.http.page.routes import Root
from service.http.predict import Answer, BatchAnswer, FileResult, JsonRequest, ModelName
from service.http.tensorflow_serving import Classified, Columned, Ranked, Rowed
from service.inference import errors as inference
from service.inference.classifier import Prediction
from service.inference.contract import (
    INPUT_NAME,
    OUTPUT_NAME,
    Example,
    Familiarity,
    Figures,
    InputSpec,
    LabelFigures,
    ModelCard,
    Provenance,
    ReliabilityBin,
    StrangerFigures,
    TrainingData,
)
from service.inference.explanation import METHOD
from service.inference.layout import ONLY_VERSION
from service.runtime.metrics import Totals
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
    serving.TooSlow: "an explanation takes 60.3 s with this model (201 inferences), and 30.0 s are"
    " left of the 30 s that a request may take",
    serving.DeadlineExceeded: "the request was not answered within 30 s",
}

MODEL = ModelName("cifar10-deep", "2026-11-20")
_RANKED = [Prediction("cat", 0.93), Prediction("dog", 0.04)]

# A PNG of one pixel.
IMAGE_IN_BASE64 = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR42mM4oREFAAMGAUszneddAAAAAElFTkSuQmCC"
)
JSON_REQUEST = JsonRequest(IMAGE_IN_BASE64, top_k=3, min_probability=0.1)

ANSWER = Answer(MODEL, _RANKED, 0.41, False)
BATCH_ANSWER = BatchAnswer(
    MODEL,
    [
        FileResult("a.jpg", _RANKED, 0.004, True),
        FileResult("b.heic", problem=problem_of(inference.UnsupportedFormat("the image is HEIC"))),
    ],
)
EXPLAIN_REQUEST = ExplainRequest(IMAGE_IN_BASE64, label="cat", method=METHOD)
EXPLANATION = Explanation(
    MODEL, "cat", 0.93, METHOD, 201, ImportanceMap(2, 2, [[0.0219, 0.3271], [-0.0413, 0.0096]])
)
EXPLANATIONS = Explanations([EXPLANATION])
ROOT = Root("alive", "labelserve", "0.1.0", {"predict": "predict", "docs": "docs"})
LIVE, READY = Status("live"), Status("ready")
HEALTH = Health("ready", MODEL)
CARD = ModelCard(
    schema=2,
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
        reliability=(ReliabilityBin(0.52, 0.9, 0.97, 60), ReliabilityBin(0.98, 0.99, 1.0, 140)),
    ),
    familiarity=Familiarity(0.01, 200, 0.01, {"drawings": StrangerFigures(300, 0.97, 0.12)}),
    examples=(Example("cat"), Example("dog")),
    provenance=Provenance("2026-11-20T10:00:00+00:00", "python -m training photos", {}, {}),
)
MODEL_EXAMPLES = ModelExamples(MODEL, (Example("cat", f"data:image/png;base64,{IMAGE_IN_BASE64}"),))
MODEL_LIST = ModelList(
    [
        ListedModel(
            MODEL.name,
            1,
            [
                ListedVersion(1, ["stable"], "available", CardVersion(MODEL.version)),
                ListedVersion(2, [], "refused", reason="model file pets/2/model.onnx is empty"),
            ],
        )
    ]
)
METRICS = """\
# HELP labelserve_requests_total Answered requests.
# TYPE labelserve_requests_total counter
labelserve_requests_total{method="POST",route="/predict",status="200"} 42.0
"""

# ---- /v1 -----------------------------------------------------------------------------------------

ROWED = Rowed([[0.93, 0.04]])
COLUMNED = Columned([[0.93, 0.04]])
CLASSIFIED = Classified([[Ranked("cat", 0.93), Ranked("dog", 0.04)]])
MODEL_NAMES = ModelNames([MODEL.name])
MODEL_STATUS = ModelStatus(MODEL.name)
_IMAGE_TENSOR = {"dtype": "DT_UINT8", "tensor_shape": {"dim": [{"size": "-1", "name": ""}]}}
_SIGNATURE = {"inputs": {INPUT_NAME: _IMAGE_TENSOR}, "method_name": "tensorflow/serving/predict"}
V1_METADATA = {
    "model_spec": {"name": MODEL.name, "signature_name": "", "version": str(ONLY_VERSION)},
    "metadata": {"signature_def": {"signature_def": {"serving_default": _SIGNATURE}}},
}

# ---- /v2 -----------------------------------------------------------------------------------------

SERVER = ServerMetadata()
PROTOCOL_LIVE, PROTOCOL_READY = Live(live=True), Ready(live=True, ready=True)
MODEL_READY = ModelReady(MODEL.name)
INDEXED = IndexedModel(MODEL.name)
MODEL_METADATA = ModelMetadata(
    name=MODEL.name,
    versions=(str(ONLY_VERSION),),
    platform=PLATFORM,
    inputs=(TensorMetadata(INPUT_NAME, TENSOR, (-1, 32, 32, 3)),),
    outputs=(TensorMetadata(OUTPUT_NAME, PROBABILITIES, (-1, 10)),),
)
MODEL_CONFIG = ModelConfig(
    name=MODEL.name,
    platform=PLATFORM,
    backend="onnxruntime",
    max_batch_size=64,
    version_policy=VersionPolicy(SpecificVersions([ONLY_VERSION])),
    input=(ConfigTensor(INPUT_NAME, f"TYPE_{TENSOR}", (32, 32, 3), "FORMAT_NHWC"),),
    output=(ConfigTensor(OUTPUT_NAME, f"TYPE_{PROBABILITIES}", (10,)),),
    dynamic_batching={},
)
_TOTALS = Totals(
    answered=42,
    refused=1,
    images=42,
    phases={"wait": 0.002, "decode": 0.005, "inference": 0.034},
)
STATISTICS = StatisticsAnswer([statistics(MODEL.name, ONLY_VERSION, _TOTALS)])
INFER_ANSWER = InferAnswer(
    MODEL.name,
    str(ONLY_VERSION),
    (OutputTensor(OUTPUT_NAME, PROBABILITIES, (1, 2), data=[0.93, 0.04]),),
    "a1b2c3",
)

# ---- platforms, and bodies without a type --------------------------------------------------------

SCORED = Scored("cat", 0.93)
HUGGING_FACE_REQUEST = HuggingFaceRequest(IMAGE_IN_BASE64, Parameters(top_k=3))
_IMAGE_FILE = {"b64": IMAGE_IN_BASE64}
# By the names of their schemas.
REQUESTS = {
    "JsonRequest": msgspec.to_builtins(JSON_REQUEST),
    "Rows": {"instances": [_IMAGE_FILE]},
    "Row": {"instances": [_IMAGE_FILE]},
    "Columns": {"inputs": {INPUT_NAME: [_IMAGE_FILE]}},
    "Examples": {"examples": [{INPUT_NAME: _IMAGE_FILE}]},
    "InferenceRequest": {
        "id": "a1b2c3",
        "inputs": [
            {"name": INPUT_NAME, "datatype": "BYTES", "shape": [1], "data": [IMAGE_IN_BASE64]}
        ],
    },
}
