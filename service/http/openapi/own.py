"""The service's own API, and what monitoring asks."""

from dataclasses import replace

from service.http.explain import EXPLAIN
from service.http.health import ROOT
from service.http.model import CARD, EXAMPLES, MODEL_LIST
from service.http.openapi import examples
from service.http.openapi.bodies import (
    IMAGE_ERRORS,
    REQUEST_ERRORS,
    binary,
    files_body,
    image_body,
)
from service.http.openapi.operations import (
    JsonObject,
    Operation,
    answer,
    json_answer,
    json_content,
    reference,
)
from service.http.openapi.parameters import EXPLAINED, SELECTION
from service.http.page.routes import files
from service.http.predict import MODEL, PREDICT, PREDICT_BATCH
from service.serving.errors import NotReady, TooSlow, UnknownModel, WrongMediaType
from service.settings import Settings


def paths(settings: Settings) -> dict[str, dict[str, Operation]]:
    """All operations, by path (without the root path) and method."""
    images = {
        PREDICT: _predict(settings),
        PREDICT_BATCH: _predict_batch(settings),
        EXPLAIN: _explain(settings),
    }
    return {
        **{path: {"post": operation} for path, operation in images.items()},
        **{MODEL + path: {"post": _of_model(operation)} for path, operation in images.items()},
        MODEL_LIST: {"get": _models()},
        CARD: {"get": _model()},
        CARD + EXAMPLES: {"get": _examples()},
        MODEL: {"get": _of_model(_model())},
        MODEL + EXAMPLES: {"get": _of_model(_examples())},
        ROOT: {"get": _root(settings)},
        "/health/live": {"get": _live()},
        "/health/ready": {"get": ready("get_ready")},
        "/ping": {"get": ready("ping")},
        "/health": {"get": _health()},
        "/metrics": {"get": _metrics()},
        "/openapi.json": {"get": _openapi()},
        "/docs": {"get": _docs()},
        **{f"/{name}": {"get": _page_file(name, kind)} for name, kind in files(settings).items()},
    }


def _predict(settings: Settings) -> Operation:
    return Operation(
        name="predict",
        summary="A probability for every label",
        description="""
        Takes one image: the raw bytes as the body, a form with exactly one file, or JSON that holds
        it in base64 or as a data URL. The bytes decide which format it has, not its name and not
        its declared type.

        The answer is sorted by probability, the highest first. What JSON says of labels wins over
        the query.
        """,
        tag="predictions",
        parameters=SELECTION,
        body=image_body(settings, json_content(examples.JSON_REQUEST)),
        answers={200: json_answer("The predictions for the image.", examples.ANSWER)},
        errors=[*REQUEST_ERRORS, *IMAGE_ERRORS, WrongMediaType],
    )


def _predict_batch(settings: Settings) -> Operation:
    return Operation(
        name="predict_batch",
        summary="The same for several images",
        description=f"""
        Takes a form with 1 to {settings.max_batch_files} files, and returns one result for each,
        in the order of the form. A file that cannot be answered gets a problem as its result; the
        other files are answered normally, and the status is 200.
        """,
        tag="predictions",
        parameters=SELECTION,
        body=files_body(settings),
        answers={200: json_answer("One result for each file.", examples.BATCH_ANSWER)},
        errors=[*REQUEST_ERRORS, WrongMediaType],
    )


def _explain(settings: Settings) -> Operation:
    as_json = json_answer("The map, as JSON or as a picture.", examples.EXPLANATION)
    as_json["content"]["image/png"] = {"schema": binary("image/png")}
    return Operation(
        name="explain",
        summary="Why an answer: which pixels a label's probability depends on",
        description="""
        Takes one image as `/predict` does. The model answers it 200 times with random parts
        covered, behind all predictions; the map says what each pixel of the model's input size adds
        to the log-odds of the label. With `Accept: image/png` the map is laid over the image as the
        model sees it: orange speaks for the label, blue against it.

        What JSON says of label and method wins over the query.
        """,
        tag="predictions",
        parameters=EXPLAINED,
        body=image_body(settings, json_content(examples.EXPLAIN_REQUEST)),
        answers={200: as_json},
        errors=[*REQUEST_ERRORS, *IMAGE_ERRORS, WrongMediaType, TooSlow],
    )


def _of_model(operation: Operation) -> Operation:
    """The same for the model that the path names."""
    return replace(operation, name=f"{operation.name}_of_model")


def _models() -> Operation:
    return Operation(
        name="get_models",
        summary="What is served, what is refused, and why",
        description="""
        All models with their versions, the labels that lead to each, and the version that answers
        where none is named.
        """,
        tag="model",
        answers={200: json_answer("The models.", examples.MODEL_LIST)},
    )


def _model() -> Operation:
    return Operation(
        name="get_model",
        summary="The card of the model that answers",
        description="Name, version, labels, input size, and figures that were measured on it. Of"
        " examples there are the labels; `/model/examples` has the images.",
        tag="model",
        parameters=[reference("parameters", "WantedVersion")],
        answers={200: json_answer("The card.", examples.CARD)},
        errors=[UnknownModel],
    )


def _examples() -> Operation:
    found = json_content(examples.MODEL_EXAMPLES)
    return Operation(
        name="get_model_examples",
        summary="Test images of the model that answers, to try it with",
        description="PNG or JPEG as data URLs, which `/predict` takes in JSON, and the labels that"
        " they have. There are none where the model's file has none.",
        tag="model",
        parameters=[reference("parameters", "WantedVersion")],
        answers=_cached(answer("The images.", found, headers=["ETag"])),
        errors=[UnknownModel],
    )


def _root(settings: Settings) -> Operation:
    found = json_content(examples.ROOT)
    page = {"text/html": {"schema": {"type": "string"}}} if settings.page else {}
    whole = answer("What the service is, or the page.", found | page)
    return Operation(
        name="get_root",
        summary="What the service is, and a page for trying it",
        description="""
        Name, version and links for programs, load balancers and KServe's client of version 1; a
        page for who prefers `text/html`.
        """,
        tag="description",
        answers=_cached(whole) if settings.page else {200: whole},
        errors=[NotReady] if settings.platform_health_route == ROOT else [],
    )


def _page_file(name: str, media_type: str) -> Operation:
    content = {media_type: {"schema": {"type": "string"}}}
    return Operation(
        name=f"get_{name.replace('.', '_')}",
        summary="A file of the page for trying the service",
        description="The page at `/` loads it.",
        tag="description",
        answers=_cached(answer("The file.", content, headers=["ETag"])),
    )


def _live() -> Operation:
    return Operation(
        name="get_live",
        summary="Whether the process answers",
        description="For liveness probes. It never waits behind predictions.",
        tag="health",
        answers={200: json_answer("It does.", examples.LIVE)},
    )


def ready(name: str) -> Operation:
    """Whether the service is ready, by the name of a path's operation."""
    return Operation(
        name=name,
        summary="Whether requests should come here",
        description="Every worker has answered its warm-up image, and the service is not stopping."
        " SageMaker asks `/ping`.",
        tag="health",
        answers={200: json_answer("They should.", examples.READY)},
        errors=[NotReady],
    )


def _health() -> Operation:
    return Operation(
        name="get_health",
        summary="The same, and which model answers",
        description="As `/health/ready`, with the model's name and version.",
        tag="health",
        answers={200: json_answer("Ready, with this model.", examples.HEALTH)},
        errors=[NotReady],
    )


def _metrics() -> Operation:
    text = {"text/plain": {"schema": {"type": "string"}, "example": examples.METRICS}}
    return Operation(
        name="get_metrics",
        summary="Figures for Prometheus",
        description="Prometheus' text format, over all workers.",
        tag="health",
        answers={200: answer("All metrics.", text)},
    )


def _openapi() -> Operation:
    document = {"application/json": {"schema": {"type": "object"}}}
    return Operation(
        name="get_openapi",
        summary="This description",
        description="OpenAPI 3.1, to make clients from. `python -m service openapi` prints it.",
        tag="description",
        answers=_cached(answer("The description.", document, headers=["ETag"])),
    )


def _docs() -> Operation:
    page = {"text/html": {"schema": {"type": "string"}}}
    return Operation(
        name="get_docs",
        summary="This description as a page",
        description="HTML without scripts, which needs no other address.",
        tag="description",
        answers=_cached(answer("The page.", page, headers=["ETag"])),
    )


def _cached(whole: JsonObject) -> dict[int, JsonObject]:
    same = answer("It has not changed since the `ETag` in `If-None-Match`.", headers=["ETag"])
    return {200: whole, 304: same}
