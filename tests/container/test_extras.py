"""An image that was built with extras has what they are for; the plain one serves without."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.collector import collecting
from tests.container.conftest import Run
from tests.container.engine import Engine
from tests.images import encode

RED = encode(Image.new("RGB", (9, 7), (200, 40, 90)), "PNG")


@pytest.fixture(scope="module")
def image_with_extras(
    engine: Engine, context: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    iidfile = tmp_path_factory.mktemp("image") / "id"
    image = engine.build(context, iidfile, "--build-arg", "EXTRAS=otel parquet")
    yield image
    engine.call("rmi", "--force", image)


def test_an_image_with_extras_exports_its_traces(engine: Engine, image_with_extras: str) -> None:
    with collecting() as collector:
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint}
        container = engine.run(image_with_extras, environment=environment)
        try:
            container.wait_ready()
            assert container.ask("POST", "/predict", RED)[0] == 200
            assert container.execute("import pyarrow.parquet; print('there')").strip() == "there"
            assert container.stop() == 0
        finally:
            container.remove()
        assert "POST /predict" in {span.name for span in collector.spans}


def test_a_plain_image_that_is_asked_for_traces_serves_and_says_what_is_missing(run: Run) -> None:
    container = run(environment={"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"})
    container.wait_ready()
    assert container.ask("POST", "/predict", RED)[0] == 200
    (line,) = [line for line in container.log.splitlines() if "traced" in line]
    assert "--build-arg EXTRAS=otel" in line
