"""The image for arm64, in an emulator: from the same Dockerfile and lock, built and asked.

`make test-arm64` prepares what this needs (arm64_base.sh) and runs it; it takes minutes.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from service.inference.classifier import Classifier
from tests.container.conftest import ROOT
from tests.container.engine import Container, Engine
from tests.container.test_image import BASE
from tests.container.test_serving import check_answer
from tests.images import encode, photograph

pytestmark = [pytest.mark.arm64, pytest.mark.timeout(2400)]

PLATFORM = ("--platform", "linux/arm64")
BASE_OF_ARM64 = f"arm64v8/{BASE}"  # by which name Docker Hub has the same image of this platform
# The first of all, without any later extension: what docs/container.md names.
LEAST = {"QEMU_CPU": "cortex-a53"}
SECONDS = 2000


@pytest.fixture(scope="module")
def arm64(
    engine: Engine, context: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Container]:
    if engine.call("image", "inspect", BASE_OF_ARM64, check=False).returncode:
        pytest.skip(
            f"ARM64 IS NOT TESTED: the engine has no {BASE_OF_ARM64}; use `make test-arm64`"
        )
    dockerfile = (ROOT / "Dockerfile").read_text().replace(f"FROM {BASE}", f"FROM {BASE_OF_ARM64}")
    iidfile = tmp_path_factory.mktemp("arm64") / "id"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOCKER_BUILDKIT", "1")  # the classic builder knows this machine's platform
        try:
            image = engine.build(
                context, iidfile, *PLATFORM, dockerfile=dockerfile, seconds=SECONDS
            )
        except AssertionError as error:
            if "uncaught target signal 11" in str(error):  # QEMU 7.2, importing onnxruntime
                pytest.skip(
                    "ARM64 IS NOT TESTED: the emulator crashes; take a newer qemu-user-static"
                )
            raise
    container = engine.run(image, *PLATFORM, environment=LEAST)
    try:
        container.wait_ready(seconds=300)
        yield container
    finally:
        container.remove()


def test_it_is_of_that_platform(arm64: Container, engine: Engine) -> None:
    image = engine.inspect(engine.inspect(arm64.id)["Image"])
    assert (image["Os"], image["Architecture"]) == ("linux", "arm64")
    assert arm64.execute("import platform; print(platform.machine())").strip() == "aarch64"


def test_it_answers_as_the_classifier_here(arm64: Container, classifier: Classifier) -> None:
    data = encode(photograph(1, 32, 32), "JPEG")
    status, answer = arm64.ask("POST", "/predict", data)
    assert status == 200, answer
    # Other instructions round sums otherwise before they become 8-bit integers.
    check_answer(answer, data, classifier, tolerance=0.02)
