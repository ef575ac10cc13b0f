"""The guide's numbers are the code's, and its commands exist."""

import re
from pathlib import Path

import numpy as np
import onnx.reference
import pytest
from onnx import TensorProto, helper

from tests.images import random_pixels
from tests.training.report.nets import colour_filters, write
from training.cli import COMMANDS
from training.config import TrainConfig
from training.report import tutorial

ROOT = Path(__file__).parents[3]
GUIDE = (ROOT / tutorial.GUIDE).read_text(encoding="utf-8")


def test_the_guide_holds_what_the_code_computes() -> None:
    assert tutorial.with_numbers(GUIDE) == GUIDE


def test_a_block_that_is_missing_is_named() -> None:
    with pytest.raises(ValueError, match="0 blocks of the name loss"):
        tutorial.with_numbers(GUIDE.replace("<!-- loss -->", ""))


def test_the_convolution_is_that_of_onnx() -> None:
    pixels = random_pixels(32, 32, 3).transpose(2, 0, 1).astype(np.float32)
    kernel = tutorial.FILTER.astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w", "b"], ["y"])],
        "conv",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "xwb"],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    evaluator = onnx.reference.ReferenceEvaluator(helper.make_model(graph))
    (answer,) = evaluator.run(
        None, {"x": pixels[None], "w": kernel[None], "b": np.array([-100], np.float32)}
    )

    found = tutorial.convolve(pixels, kernel, -100)

    assert found.shape == (30, 30)
    np.testing.assert_allclose(found, np.asarray(answer)[0, 0], rtol=1e-5)


def test_worked_answers() -> None:
    assert tutorial.convolution_numbers().endswith("products 420, bias -100: the answer is 320")
    assert tutorial.pooling_numbers().splitlines()[1].split()[-2:] == ["5", "2"]
    assert "0.659   0.242   0.099" in tutorial.loss_numbers()
    assert "0.417           0.185" in tutorial.loss_numbers()
    first, second = tutorial.descent()[:2]
    assert first == (0.0, 9.0, -12.0)
    assert second[0] == pytest.approx(0.6)


def test_every_option_and_command_of_the_guide_exists() -> None:
    options = {
        name
        for line in re.findall(r"[^\n]*--[a-z][^\n]*", GUIDE)
        for name in re.findall(r"--([a-z][a-z-]+)", line)
    } - {"data", "output", "help"}
    fields = {name.replace("_", "-") for name in TrainConfig.__dataclass_fields__}
    assert len(options) > 8
    assert options <= fields
    commands = set(re.findall(r"python -m training ([a-z]+)", GUIDE))
    assert commands == {"evaluate", "report", "explain"}
    assert commands <= set(COMMANDS)


def test_images_are_small_and_the_same_every_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write(tmp_path / "m.onnx", colour_filters(), ("red", "green", "blue"))
    for folder in ("one", "two"):
        tutorial.plain_images(tmp_path / folder)
        tutorial.network_images(model, tmp_path / folder)

    assert "the drawing: " in capsys.readouterr().out
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == ["convolution.png", "descent.png", "filters.png", "important.png", "maps.png"]
    for name in names:
        assert f"images/{name}" in GUIDE
        content = (tmp_path / "one" / name).read_bytes()
        assert len(content) < 40_000
        assert content == (tmp_path / "two" / name).read_bytes()
