"""The command as a person types it: mostly in processes of its own."""

import contextlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from service.inference.classifier import Classifier
from tests.training.conftest import TrainedModel, fill_folder
from training.cli import main
from training.fitting import checkpoint
from training.options import RUN_FILE

ROOT = Path(__file__).parents[2]
EPOCHS = 40


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "training", *map(str, words)]


def training_words(data: Path, output: Path, *more: object) -> list[object]:
    words = ["--data", data, "--output", output, "--image-size", 16, "--epochs", EPOCHS]
    return [*words, "--batch-size", 16, "--architecture", "basic", "--patience", 0, *more]


def run(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*words), cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )


def stop(words: list[object], log: Path, by: signal.Signals) -> tuple[int, str]:
    """Start a training, end it in its third epoch or later; its status and what it said."""
    # A shell starts what it puts in the background with Ctrl-C ignored, and children inherit that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(command(*words), cwd=ROOT, stderr=subprocess.PIPE, text=True)
    signal.signal(signal.SIGINT, before)
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(FileNotFoundError):
            if len(log.read_text().splitlines()) > 2:
                break
        time.sleep(0.02)
    process.send_signal(by)
    _, said = process.communicate(timeout=60)
    return process.returncode, said


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The digest of the graph, weights included, that a run ends with when nothing stops it."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    output = folder / "whole.onnx"
    data = fill_folder(folder / "photos", images=20)
    assert main([*map(str, training_words(data, output))]) == 0
    return Classifier.load(output).card.version[-8:]


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGKILL])
def test_a_run_stopped_by_a_signal_resumes_to_where_an_uninterrupted_one_ends(
    tmp_path: Path, by: signal.Signals, uninterrupted: str
) -> None:
    data = fill_folder(tmp_path / "photos", images=20)
    stopped = tmp_path / "stopped.onnx"

    status, said = stop(training_words(data, stopped), tmp_path / "stopped" / checkpoint.LOG, by)

    if by == signal.SIGINT:
        assert status == 130, said
        assert "--resume continues" in said
    assert "Traceback" not in said
    saved = checkpoint.load(tmp_path / "stopped")
    assert saved is not None
    assert 2 <= saved.epochs < EPOCHS
    assert not stopped.exists()
    (tmp_path / ".stopped.onnx.4711.draft").write_bytes(b"of one that was killed earlier")

    assert main([*map(str, training_words(data, stopped))]) == 1  # in this process: it is quicker
    resumed = run(*training_words(data, stopped, "--resume"))
    assert resumed.returncode == 0, resumed.stderr
    assert "cuda" not in resumed.stderr.lower()  # TensorFlow's start is not shown
    assert f"resuming after epoch {saved.epochs} of {EPOCHS}" in resumed.stderr
    card = Classifier.load(stopped).card
    assert card.version[-8:] == uninterrupted
    assert "resume" not in card.provenance.command
    assert not [*tmp_path.rglob("*.draft")]


@pytest.mark.parametrize(
    "words",
    [["--help"], ["evaluate", "--help"], ["--epochs", "0"], ["--data", "no"]],
)
def test_tensorflow_is_not_waited_for(words: list[str]) -> None:
    code = (
        "import sys; from training.cli import main\n"
        "try: status = main(sys.argv[1:])\n"
        "except SystemExit as stop: status = stop.code\n"
        "assert not {'tensorflow', 'keras', 'tf2onnx'} & set(sys.modules), 'TensorFlow'\n"
        "sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert "Traceback" not in done.stderr
    assert done.returncode == (0 if "--help" in words else 2 if "--epochs" in words else 1)


def test_help_names_every_option_and_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])

    text = capsys.readouterr().out
    for word in ("--config", "--resume", "--seed", "--strict", "evaluate:", "report:", "basic:"):
        assert word in text


@pytest.mark.parametrize(
    ("words", "status", "named"),
    [
        (["--data", "{tmp}/nowhere"], 1, "nowhere does not exist"),
        (["--data", "{tmp}/photos/red"], 1, "no label folders"),
        (["--data", "{tmp}/photos", "--architecture", "basik"], 2, "not one of: basic"),
        (["--data", "{tmp}/photos", "--output", "{tmp}/photos"], 2, "needs a suffix"),
        (["--data", "{tmp}/photos", "--output", "{tmp}/broken/red/0000.jpg/m.onnx"], 1, "m.onnx"),
        (["--data", "{tmp}/photos", "--output", "{tmp}/m.onnx", "--resume"], 1, "no checkpoint"),
        (["--data", "{tmp}/broken", "--output", "{tmp}/m.onnx", "--strict"], 1, "0003.png"),
        (["--config", "{tmp}/photos/run.toml"], 2, "run.toml cannot be read"),
        (["--epochs", "few"], 2, "--epochs: invalid int value: 'few'"),
        (["--epoch-number", "3"], 2, "unrecognized arguments: --epoch-number 3"),
        (["report", "m.onnx"], 2, "required: --data"),
        (["repot", "m.onnx"], 2, "'repot' is not one of the commands: train, adopt, evaluate"),
        (["explain", "{model}", "{tmp}/broken/green/0003.png"], 1, "0003.png cannot be read: "),
        (["evaluate", "{tmp}/photos/red/0000.jpg", "--data", "{tmp}/photos"], 1, "0000.jpg"),
    ],
)
def test_bad_input_is_one_line_and_a_status(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    status: int,
    named: str,
) -> None:
    fill_folder(tmp_path / "photos")
    broken = fill_folder(tmp_path / "broken") / "green" / "0003.png"
    broken.write_bytes(broken.read_bytes()[:100])

    model = str(ROOT / "models" / "default.onnx")
    found = main([word.format(tmp=tmp_path, model=model) for word in words])

    message = capsys.readouterr().err.splitlines()[-1]
    assert found == status
    assert message.startswith("error: ")
    assert named in message


def test_a_run_is_repeated_from_its_file(tmp_path: Path) -> None:
    """The command line wins over the file."""
    data = fill_folder(tmp_path / "photos")
    first, second = tmp_path / "first.onnx", tmp_path / "second.onnx"
    words = training_words(data, first, "--epochs", 1, "--cutout", 3)
    assert main([*map(str, words)]) == 0

    assert main(["--config", str(tmp_path / "first" / RUN_FILE), "--output", str(second)]) == 0

    one, two = (Classifier.load(path).card for path in (first, second))
    assert two.provenance.config == {**one.provenance.config, "output": "second.onnx"}
    assert two.provenance.config["cutout"] == 3
    assert two.version[-8:] == one.version[-8:]  # digests of the graphs, weights included
    assert (tmp_path / "second" / RUN_FILE).exists()


def test_nothing_is_said_but_the_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As a new user would: a folder with oddities, everything else is chosen to suit it."""
    side = 70
    folder = fill_folder(tmp_path / "my-photos", images=20, side=side)
    (folder / "red" / "broken.jpg").write_bytes(b"\xff\xd8\xff no picture")
    Image.new("L", (side, 2 * side), 90).save(folder / "blue" / "grey.png")
    Image.new("RGBA", (300, 200), (40, 180, 60, 99)).save(folder / "green" / "glass.png")
    output = tmp_path / "pets.onnx"

    done = run("--data", folder, "--output", output, "--max-minutes", 1)

    assert done.returncode == 0, done.stderr
    assert "63 images of 3 labels" in done.stderr
    assert "image size 128x128" in done.stderr
    assert "broken.jpg" in done.stderr
    classifier = Classifier.load(output)
    assert classifier.input_size == (128, 128)
    assert (classifier.card.figures.accuracy or 0) > 0.8  # three colours
    assert main(["evaluate", str(output), "--data", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == classifier.card.figures.images


def test_evaluate_measures_the_file_alone(
    trained_model: TrainedModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = fill_folder(tmp_path / "photos", images=4)

    assert main(["evaluate", str(trained_model.path), "--data", str(folder)]) == 0
    assert "images             12 (all)" in capsys.readouterr().out
    assert main(["evaluate", str(trained_model.path), "--data", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 12
