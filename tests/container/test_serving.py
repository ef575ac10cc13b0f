"""The hardened container answers as the ``Classifier`` on this side does."""

import json
import math
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from service.inference.classifier import Classifier
from service.inference.imaging import decode_image
from tests.container.conftest import Run
from tests.container.engine import HARDENED, Container, Engine
from tests.images import encode, photograph, random_pixels
from tests.server import free_port, multipart
from tests.tiny_model import make_card, write_model


def check_answer(
    answer: dict[str, Any], data: bytes, classifier: Classifier, tolerance: float = 1e-6
) -> None:
    """The answer says what the classifier says of the same bytes."""
    pixels = decode_image(data, classifier.input_size, classifier.card.input.resize).pixels
    (row,) = classifier.predict(pixels[None])
    found = {each["label"]: each["probability"] for each in answer["predictions"]}
    expected = {each.label: each.probability for each in classifier.rank(row)}
    assert found == pytest.approx(expected, abs=tolerance)
    assert answer["model"] == {"name": classifier.card.name, "version": classifier.card.version}


def photographs() -> list[tuple[str, bytes]]:
    """Files as cameras and pages have them, small and large."""
    return [
        ("small.png", encode(photograph(1, 32, 32), "PNG")),
        ("photo.jpg", encode(photograph(2, 480, 640), "JPEG", quality=85)),
        ("portrait.webp", encode(photograph(3, 900, 600), "WEBP", quality=80)),
        ("large.jpg", encode(photograph(4, 2000, 3000), "JPEG", quality=92)),
    ]


@pytest.mark.parametrize("as_form", [False, True], ids=["raw", "form"])
@pytest.mark.parametrize(("name", "data"), photographs(), ids=lambda value: str(value)[:12])
def test_photographs_get_the_classifiers_probabilities(
    service: Container, classifier: Classifier, name: str, data: bytes, as_form: bool
) -> None:
    raw = data, {"Content-Type": "image/jpeg"}
    body, headers = multipart(("image", name, data)) if as_form else raw
    status, answer = service.ask("POST", "/predict", body, headers)
    assert status == 200, answer
    check_answer(answer, data, classifier)


def test_an_upload_of_5_megabytes_needs_no_writable_path(
    service: Container, classifier: Classifier
) -> None:
    """Frameworks like to spool large uploads to a temporary file, which there is no place for."""
    data = encode(Image.fromarray(random_pixels(1300, 1300, 3)), "PNG")
    assert 5_000_000 < len(data) < 6_000_000
    status, answer = service.ask("POST", "/predict", *multipart(("image", "noise.png", data)))
    assert status == 200, answer
    check_answer(answer, data, classifier)


def test_healthy_within_seconds_and_every_log_line_is_json(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    container = run()
    seconds = container.wait_ready()
    healthy = container.wait_healthy()
    with capsys.disabled():
        print(f"\n  ready after {seconds:.1f} s, seen healthy after {healthy:.1f} s")  # noqa: T201
    assert seconds < 15
    assert container.log_lines
    health = container.state["Health"]["Log"][-1]
    assert health["ExitCode"] == 0
    assert "200" in health["Output"]


def test_unhealthy_while_nothing_answers(service: Container, engine: Engine) -> None:
    """The check can say no: asked for a port where nothing listens, it does."""
    command = engine.inspect(service.id)["Config"]["Healthcheck"]["Test"][1:]
    asked = engine.call("exec", "--env", f"PORT={free_port()}", service.id, *command, check=False)
    assert asked.returncode == 1
    assert "no answer on port" in asked.stdout
    assert engine.call("exec", service.id, *command, check=False).returncode == 0


def test_the_health_check_knows_the_arguments(run: Run, tmp_path: Path) -> None:
    """They win over the variables, which name a port where nothing listens."""
    tmp_path.chmod(0o755)
    write_model(tmp_path / "only.onnx", make_card(version="mounted-8"))
    port = free_port()
    container = run(
        *("--volume", f"{tmp_path}:/models:ro"),
        command=("serve", "--host=::", f"--port={port}", "--model=/models"),
    )
    container.wait_healthy()
    listening = next(line for line in container.log_lines if "Listening" in line["message"])
    assert f"http://[::]:{port}" in listening["message"]


def test_another_model_is_served_from_a_mounted_folder(run: Run, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)  # the container's user is another one
    other = write_model(tmp_path / "other.onnx", make_card(version="mounted-7"))
    container = run(
        *("--volume", f"{tmp_path}:/models:ro"),
        environment={"LABELSERVE_MODEL": "/models/other.onnx"},
    )
    container.wait_ready()
    data = encode(photograph(5, 120, 160), "JPEG")
    status, answer = container.ask("POST", "/predict", data)
    assert status == 200, answer
    assert answer["model"] == {"name": "tiny", "version": "mounted-7"}
    check_answer(answer, data, Classifier.load(other))


def test_a_wrong_model_ends_the_container_with_one_clear_line(run: Run) -> None:
    container = run(environment={"LABELSERVE_MODEL": "/models/missing.onnx"})
    assert container.wait_exit() != 0
    assert container.ran_seconds < 5
    lines = [line["message"] for line in container.log_lines if "missing.onnx" in line["message"]]
    assert len(lines) == 1, container.log
    assert lines[0].startswith("cannot start")
    assert "Traceback" not in container.log
    assert container.engine.inspect(container.id)["RestartCount"] == 0


def test_a_wrong_setting_ends_the_container_with_one_clear_line(run: Run) -> None:
    container = run(environment={"LABELSERVE_MAX_PIXELS": "many"})
    assert container.wait_exit() != 0
    (line,) = container.log.splitlines()
    assert line.startswith("cannot start: LABELSERVE_MAX_PIXELS")


@pytest.mark.parametrize(
    ("limit", "workers"),
    [(("--cpus", "0.5"), 1), (("--cpus", "1"), 1), (("--cpuset-cpus", "0"), 1), ((), None)],
    ids=["half a core", "one core", "one core by affinity", "all cores"],
)
def test_one_worker_per_core_that_the_container_may_use(
    run: Run, engine: Engine, limit: tuple[str, ...], workers: int | None
) -> None:
    cores = int(engine.call("info", "--format", "{{.NCPU}}").stdout)
    container = run(*limit)
    container.wait_ready()
    master_and_workers = [command for _, command in container.processes if "service" in command]
    assert len(master_and_workers) == 1 + (workers or cores)


def test_512_megabytes_are_enough_for_a_crowd_with_large_photographs(
    run: Run, classifier: Classifier
) -> None:
    """What would not fit is refused; nothing is ever killed for its memory."""
    container = run("--memory", "512m", "--memory-swap", "512m")
    container.wait_ready()
    phone = photograph(6, 375, 500).resize((4000, 3000), Image.Resampling.NEAREST)
    files = [encode(phone, "PNG", compress_level=1), encode(phone, "JPEG", progressive=True)] * 4
    with ThreadPoolExecutor(len(files)) as clients:
        answers = list(clients.map(lambda data: container.ask("POST", "/predict", data), files))
    for data, (status, answer) in zip(files, answers, strict=True):
        assert status == 200, answer
        check_answer(answer, data, classifier)
    huge = encode(Image.new("RGB", (8000, 6000)), "PNG")
    assert container.ask("POST", "/predict", huge)[0] == 422
    state = container.state
    assert state["Running"]
    assert not state["OOMKilled"]
    # The kernel may also have taken a worker, which gunicorn would have replaced.
    assert not [line for line in container.log_lines if line["level"] in ("error", "critical")]


def test_the_largest_images_at_full_concurrency_fit_the_memory(run: Run) -> None:
    """As many pixels as the lowered limit allows, in the format that takes the most memory for
    each, from more clients than are decoded for at a time.
    """
    container = run("--memory", "512m", "--memory-swap", "512m")
    container.wait_ready()
    (lowered,) = (
        line["message"]
        for line in container.log_lines
        if line["message"].startswith("LABELSERVE_MAX_PIXELS is lowered")
    )
    pixels = int(re.findall(r"to (\d+)", lowered)[0])
    side = math.isqrt(pixels)
    frames = [Image.new("RGBA", (side, side), (shade, 80, 160, 128)) for shade in (10, 200)]
    largest = encode(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    with ThreadPoolExecutor(12) as clients:
        statuses = list(
            clients.map(lambda _: container.ask("POST", "/predict", largest)[0], range(12))
        )
    assert statuses == [200] * 12
    assert container.state["Running"]
    assert not container.state["OOMKilled"]
    assert not [line for line in container.log_lines if line["level"] in ("error", "critical")]


def test_predictions_without_http_from_the_same_image(
    engine: Engine, image: str, classifier: Classifier, tmp_path: Path
) -> None:
    tmp_path.chmod(0o755)
    data = encode(photograph(7, 200, 300), "PNG")
    (tmp_path / "a.png").write_bytes(data)
    done = engine.call(
        *(
            "run",
            "--rm",
            "--network",
            "host",
            *HARDENED,
            "--volume",
            f"{tmp_path}:/images:ro",
            image,
        ),
        *("predict", "--format", "jsonl", "models/default.onnx", "/images/a.png"),
    )
    (line,) = done.stdout.splitlines()
    check_answer(json.loads(line), data, classifier)
