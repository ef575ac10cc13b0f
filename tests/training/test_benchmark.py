import argparse
import dataclasses
import shutil
from pathlib import Path

import pytest
from PIL import Image

from tests.tiny_model import make_card, write_model
from tests.training.conftest import TrainedModel
from training.benchmark import ROWS, Result, benchmark, cost, measured, row_config, table
from training.cli import main
from training.config import TrainConfig, from_options
from training.errors import ConfigError, ExportError, RunError
from training.fitting import checkpoint
from training.fitting.checkpoint import Checkpoint, EpochLog

RESULT = Result("small-10", 387_000, 52_000_000, 9.5, 8, 0.87, 0.008, 0.46, 1.6)
LOG = [EpochLog(i, 0.1, 1.0, 0.5, 1.0, 0.5, 30.0) for i in (1, 2)]


def options(folder: Path, **changes: object) -> argparse.Namespace:
    asked = {"rows": [*ROWS], "seeds": [0, 1], "max_minutes": None, "epochs": None}
    return argparse.Namespace(data=Path("data"), folder=folder, **{**asked, **changes})


def test_the_table_has_means_and_spreads() -> None:
    other = dataclasses.replace(RESULT, accuracy=0.872, minutes=9.7)
    single = dataclasses.replace(RESULT, name="basic")

    lines = table([RESULT, other, single]).splitlines()

    assert len(lines) == 4
    assert len({line.count("|") for line in lines}) == 1
    assert "| small-10 | 387,000 | 52 | 9.6 | 8.0 | 87.10 % (87.00 to 87.20)" in lines[2]
    assert "| 87.00 % |" in lines[3]


@pytest.mark.parametrize("name", [name for name in ROWS if not name.startswith("few")])
def test_rows_can_be_trained(name: str, tmp_path: Path) -> None:
    config = row_config(name, 3, options(tmp_path))

    assert config.seed == 3
    assert config.output == tmp_path / f"{name}-3.onnx"
    parameters, flops = cost(config)
    assert parameters > 300_000
    assert flops > 2 * parameters


def test_the_cost_is_that_of_all_branches(tmp_path: Path) -> None:
    config = row_config("small-10", 0, options(tmp_path))

    one, two, three = (cost(dataclasses.replace(config, branches=n)) for n in (1, 2, 3))

    for a, b, c in zip(one, two, three, strict=True):
        assert 0.6 * a < b - a < a  # a branch begins behind the first stage
        assert c - b == b - a


@pytest.mark.parametrize(
    ("name", "architecture", "side"),
    [
        ("few-9", "efficientnet-lite0", 128),
        ("few-9-small", "small", 64),
        ("few-9-basic", "basic", 64),
    ],
)
def test_rows_of_few_images(name: str, architecture: str, side: int, tmp_path: Path) -> None:
    """200 training images a label, all test images, and what suits them."""
    for split, count in (("train", 203), ("test", 4)):
        for label in ("cat", "dog"):
            (tmp_path / "data" / split / label).mkdir(parents=True)
            for number in range(count):
                path = tmp_path / "data" / split / label / f"{number:04}.png"
                Image.new("RGB", (4, 4), (number, 0, 0)).save(path)
    asked = options(tmp_path / "runs")
    asked.data = tmp_path / "data"

    for _ in range(2):  # what is there already is no obstacle
        config = row_config(name, 1, asked)

    assert (config.architecture, config.image_size) == (architecture, (side, side))
    assert (config.zoom, config.seed, config.max_minutes) == (0.2, 1, 9.0)
    assert config.data == tmp_path / "runs" / "few"
    linked = sorted((config.data / "train" / "cat").iterdir())
    assert [path.name for path in linked] == [f"{number:04}.png" for number in range(200)]
    assert linked[7].resolve() == tmp_path / "data/train/cat/0007.png"
    assert len(list((config.data / "test" / "dog").iterdir())) == 4


def test_rows_of_few_images_need_files(tmp_path: Path) -> None:
    asked = options(tmp_path)
    asked.data = None
    with pytest.raises(ConfigError, match="--data"):
        row_config("few-9", 0, asked)


def test_rows_can_be_cut_short_and_lie_apart(tmp_path: Path) -> None:
    config = row_config("fast-10", 0, options(tmp_path, max_minutes=2.0, epochs=1))

    assert (config.max_minutes, config.epochs) == (2.0, 1)
    assert config.run_folder.parent == config.output.parent == tmp_path / "try"
    assert row_config("fast-10", 0, options(tmp_path)).output.parent == tmp_path


def test_a_run_of_another_recipe_is_no_row(
    trained_model: TrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = options(tmp_path, rows=["basic-10"], seeds=[0])
    config = row_config("basic-10", 0, asked)
    shutil.copy(trained_model.path, config.output)
    checkpoint.save(Checkpoint(config.identity(), tuple(LOG), (), finished=True), config.run_folder)
    assert "| basic-10 | 477,994 |" in benchmark(asked)

    monkeypatch.setitem(ROWS["basic-10"], "epochs", 41)

    with pytest.raises(RunError, match=r"basic-10-0 was started with other epochs"):
        benchmark(asked)


def test_a_refused_row_leaves_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def train(name: str, config: TrainConfig) -> Result:
        if config.quantize:
            raise ExportError("--quantize: refused, as it is slow")
        return dataclasses.replace(RESULT, name=name)

    monkeypatch.setattr("training.benchmark._result", train)

    lines = benchmark(options(tmp_path, rows=["deep-60-int8", "small-10"], seeds=[0])).splitlines()

    assert len({line.count("|") for line in lines}) == 1
    assert lines[2].startswith("| small-10 | 387,000 |")
    assert lines[3].startswith(
        "| deep-60-int8, seed 0 | refused: --quantize: refused, as it is slow"
    )


def test_integers_are_another_export_of_the_same_run(tmp_path: Path) -> None:
    whole, small = (row_config(name, 1, options(tmp_path)) for name in ("deep-60", "deep-60-int8"))

    assert whole.run_folder == small.run_folder
    assert whole.identity() == small.identity()
    assert whole.output != small.output
    assert small.quantize


def test_the_row_is_that_of_the_file(trained_model: TrainedModel) -> None:
    config = from_options({"output": trained_model.path})

    result = measured("basic", config, LOG, (5, 6))

    assert (result.parameters, result.flops, result.epochs, result.minutes) == (5, 6, 2, 1.0)
    assert 0 < result.milliseconds < 1000
    assert result.megabytes == pytest.approx(trained_model.path.stat().st_size / 1e6)
    assert 0 <= result.accuracy <= 1


def test_a_row_of_a_file_that_claims_nothing_is_refused(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.onnx", make_card())

    with pytest.raises(ExportError, match=r"nothing was measured of .*m\.onnx"):
        measured("basic", from_options({"output": path}), LOG, (5, 6))


def test_an_unknown_row_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--rows: 'big' is not one of: basic-10, small-10"):
        benchmark(options(tmp_path, rows=["big"]))


def test_the_command_finds_out_before_it_trains(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["benchmark", "--data", str(tmp_path / "nowhere"), "--folder", str(tmp_path / "out")]

    assert main(words) == 1
    assert "nowhere does not exist" in capsys.readouterr().err
