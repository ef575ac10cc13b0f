"""What cannot be adopted: a sentence that says what was found, a status, and nothing written."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.training.adoption.networks import LABELS, Network, node
from training.cli import main

USUAL = ("--labels", ",".join(LABELS), "--preprocess", "imagenet")
FAILED, MISUSED = 1, 2


def refused(
    model: Path | str,
    *words: str,
    status: int,
    said: Sequence[str],
    capsys: pytest.CaptureFixture[str],
    folder: Path,
) -> str:
    """The sentence."""
    before = sorted(folder.rglob("*"))
    assert main(["adopt", str(model), "--output", str(folder / "o.onnx"), *words]) == status
    assert sorted(folder.rglob("*")) == before
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    (line,) = error
    for part in said:
        assert part in line
    assert len(line) < 300 + len(str(model))
    assert "ONNXRuntimeError" not in line
    assert ".cc" not in line
    return line


FILES: dict[str, tuple[bytes, str]] = {
    "empty.onnx": (b"", "is empty"),
    "pointer.onnx": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
    "page.onnx": (b"<!DOCTYPE html><html>", "web page"),
    "weights.pt": (b"PK\x03\x04.....", "export"),
    "old.pth": (b"\x80\x02\x8a\x0a", "export"),
    "weights.safetensors": (b'\x10\0\0\0\0\0\0\0{"a":1}', "safetensors"),
    "phone.tflite": (b"\x1c\0\0\0TFL3", "TensorFlow Lite"),
    "text.onnx": (b"This is my model, have fun with it.\n", "is no ONNX file"),
    "noise.onnx": (np.random.default_rng(0).bytes(5000), "is no ONNX file"),
    "half.onnx": (Network().model().SerializeToString()[:-500], "is no ONNX file"),
    "proto.onnx": (onnx.ModelProto(ir_version=8).SerializeToString(), "no graph"),
}


@pytest.mark.parametrize("name", FILES)
def test_files(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    content, said = FILES[name]
    (tmp_path / name).write_bytes(content)
    refused(
        tmp_path / name, *USUAL, status=FAILED, said=[name, said], capsys=capsys, folder=tmp_path
    )


def test_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = ["nowhere.onnx is not there", "efficientnet-lite0"]
    refused("nowhere.onnx", *USUAL, status=MISUSED, said=said, capsys=capsys, folder=tmp_path)


def test_a_folder_of_several(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    said = ["no .onnx"]
    refused(folder, *USUAL, status=MISUSED, said=said, capsys=capsys, folder=tmp_path)
    for name in ("a.onnx", "b.keras"):
        (folder / name).touch()
    said = ["a.onnx, b.keras"]
    refused(folder, *USUAL, status=MISUSED, said=said, capsys=capsys, folder=tmp_path)


def no_image() -> onnx.ModelProto:
    return Network(shape=["N", 16]).model()


def four_channels() -> onnx.ModelProto:
    return Network(shape=["N", 4, 8, 8], channels=4).model()


def a_second_input() -> onnx.ModelProto:
    model = Network(end=[node("Add", "logits", "mask", "out")], outputs=["out"]).model()
    model.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, ["N", 4]))
    return model


def whole_numbers() -> onnx.ModelProto:
    start = [node("Cast", "input", "pixels", to=TensorProto.FLOAT)]
    model = Network(start=start).model()
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT32
    return model


def foreign_operator() -> onnx.ModelProto:
    end = [helper.make_node("Deform", ["logits"], ["out"], domain="mmcv")]
    model = Network(end=end, outputs=["out"]).model()
    model.opset_import.append(helper.make_opsetid("mmcv", 1))
    return model


def made_up_operator() -> onnx.ModelProto:
    return Network(end=[node("Erfc", "logits", "out")], outputs=["out"]).model()


def no_numbers() -> onnx.ModelProto:
    model = Network(end=[node("ArgMax", "logits", "out", axis=1)], outputs=["out"]).model()
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64
    return model


def in_doubles() -> onnx.ModelProto:
    model = Network().model()
    text = model.graph.input[0].type.tensor_type
    text.elem_type = TensorProto.DOUBLE
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor).astype(np.float64)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.DOUBLE
    return model


def from_the_future() -> onnx.ModelProto:
    return Network(ir=99).model()


MODELS: dict[Callable[[], onnx.ModelProto], list[str]] = {
    no_image: ["takes no image", "input float [N, 16]", "3 or 1"],
    four_channels: ["takes no image", "input float [N, 4, 8, 8]"],
    a_second_input: ["more than the image", "mask"],
    whole_numbers: ["takes int32", "uint8"],
    foreign_operator: ["no operator mmcv.Deform"],
    made_up_operator: ["no operator Erfc"],
    no_numbers: ["no classifier"],
    in_doubles: ["Conv"],
    from_the_future: ["IR version"],
}


@pytest.mark.parametrize("make", MODELS)
def test_models(
    tmp_path: Path, make: Callable[[], onnx.ModelProto], capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "foreign.onnx"
    path.write_bytes(make().SerializeToString())
    refused(path, *USUAL, status=FAILED, said=MODELS[make], capsys=capsys, folder=tmp_path)


def test_data_that_are_not_beside_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "foreign.onnx"
    onnx.save(
        Network().model(), path, save_as_external_data=True, location="w.bin", size_threshold=0
    )
    (tmp_path / "w.bin").unlink()
    said = ["w.bin is not there", "beside it"]
    refused(path, *USUAL, status=FAILED, said=said, capsys=capsys, folder=tmp_path)


def test_a_size_that_the_graph_cannot_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The shape is free, but what follows is not."""
    flat = [
        node("Reshape", "active", "sizes", "flatter"),
        node("ReduceMean", "flatter", "flat", axes=[2], keepdims=0),
    ]
    sizes = numpy_helper.from_array(np.array([-1, 8, 36]), "sizes")
    path = Network(["N", 3, "h", "w"], flat=flat, constants=[sizes]).save(tmp_path)
    said = ["does not answer an input of 1x3x9x9", "--size"]
    refused(path, *USUAL, "--size", "9", status=FAILED, said=said, capsys=capsys, folder=tmp_path)


OPTIONS: dict[str, tuple[list[str], list[str]]] = {
    "labels' number": (["--labels", "a,b,c"], ["3 labels (--labels)", "4 (logits)"]),
    "one label": (["--labels", '["a"]'], ["1 labels (--labels)"]),
    "an empty label": (["--labels", "a,,c,d"], ["number 1 is empty"]),
    "no labels": (["--labels", "nothing"], ["nothing is no file"]),
    "another size": (["--size", "9"], ["--size: the graph takes 8"]),
    "no size": (["--size", "large"], ["--size: 'large' is not a size"]),
    "size 0": (["--size", "0"], ["--size: 0", "1 to 4096"]),
    "a huge size": (["--size", "5000x8"], ["--size: 5000x8"]),
    "another layout": (["--layout", "nhwc"], ["--layout", "nchw"]),
    "no layout": (["--layout", "chwn"], ["--layout", "'nchw', 'nhwc'"]),
    "no preset": (["--preprocess", "inception"], ["--preprocess"]),
    "both": (["--mean", "0", "--std", "1"], ["say the same"]),
    "no rule": (["--resize", "crop-2"], ["--resize", "crop-2"]),
    "no softmax": (["--softmax", "maybe"], ["--softmax"]),
    "no number": (["--mean", "grey"], ["--mean"]),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_options(tmp_path: Path, case: str, capsys: pytest.CaptureFixture[str]) -> None:
    words, said = OPTIONS[case]
    path = Network().save(tmp_path)
    refused(path, *USUAL, *words, status=MISUSED, said=said, capsys=capsys, folder=tmp_path)


FIGURES = {
    "a mean alone": (["--mean", "0.5"], ["need one another"]),
    "two of them": (["--mean", "0.5", "0.5", "--std", "1"], ["one number or three"]),
    "a deviation of 0": (["--mean", "0.5", "--std", "0"], ["above 0"]),
    "nothing at all": ([], ["--preprocess: nothing tells", "imagenet", "--data"]),
}


@pytest.mark.parametrize("case", FIGURES)
def test_figures(tmp_path: Path, case: str, capsys: pytest.CaptureFixture[str]) -> None:
    words, said = FIGURES[case]
    path = Network().save(tmp_path)
    names = ("--labels", ",".join(LABELS))
    refused(path, *names, *words, status=MISUSED, said=said, capsys=capsys, folder=tmp_path)


@pytest.mark.parametrize("labels", [4, 1000])
def test_labels_that_nothing_tells(
    tmp_path: Path, labels: int, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Network(labels=labels).save(tmp_path)
    said = [f"{labels} things", "imagenet-1k" if labels == 1000 else "one a line"]
    words = ("--preprocess", "tf")
    refused(path, *words, status=MISUSED, said=said, capsys=capsys, folder=tmp_path)


def test_bytes_are_not_normalised(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = Network(["N", 8, 8, 3], TensorProto.UINT8).save(tmp_path)
    said = ["--preprocess", "uint8"]
    refused(path, *USUAL, status=MISUSED, said=said, capsys=capsys, folder=tmp_path)


def test_a_size_that_nothing_tells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = Network(["N", 3, "h", "w"]).save(tmp_path)
    said = ["--size", "any size"]
    refused(path, *USUAL, status=MISUSED, said=said, capsys=capsys, folder=tmp_path)


def test_a_data_folder_of_other_things(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = Network().save(tmp_path)
    words = (*USUAL, "--data", str(tmp_path / "none"))
    refused(path, *words, status=FAILED, said=["none"], capsys=capsys, folder=tmp_path)


def test_an_output_that_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Network().save(tmp_path)
    words = (*USUAL, "--output", str(path / "o.onnx"))
    refused(path, *words, status=FAILED, said=["cannot be written"], capsys=capsys, folder=tmp_path)
    words = (*USUAL, "--output", str(path))
    before = path.read_bytes()
    refused(path, *words, status=MISUSED, said=["itself"], capsys=capsys, folder=tmp_path)
    assert path.read_bytes() == before
