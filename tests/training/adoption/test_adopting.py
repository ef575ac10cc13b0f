"""A foreign file becomes one that answers as it did, alone and in a batch."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from service.inference.classifier import Classifier
from service.inference.contract import METADATA_KEY, NOTHING_MEASURED, Familiarity
from tests.training.adoption.networks import (
    LABELS,
    NAMES,
    NUMPY,
    Network,
    adopt,
    agree,
    asked,
    imagenet,
    node,
    pictures,
    softmax,
)
from tests.training.conftest import COLOURS, fill_folder
from training.cli import main

USUAL = (*NAMES, "--preprocess", "imagenet")
LOOP = "one image after another"


def vector(name: str, *sizes: int) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(sizes, np.int64), name)


@pytest.mark.parametrize("batch", ["N", 1, 3], ids=["free", "one", "three"])
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_layouts_and_batches(tmp_path: Path, layout: str, batch: Any) -> None:
    shape = [batch, 3, 8, 10] if layout == "nchw" else [batch, 8, 10, 3]
    model = Network(shape, name="image").save(tmp_path)
    images = pictures(8, 10)
    seen = imagenet(images)
    seen = seen if layout == "nchw" else seen.transpose(0, 2, 3, 1)
    expected = asked(model, seen, batch=3 if batch == 3 else 1)
    classifier = adopt(model, *USUAL)
    assert classifier.input_size == (8, 10)
    assert classifier.card.input.resize == ("crop" if layout == "nchw" else "stretch")
    agree(classifier, images, softmax(expected))


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_a_layout_that_nothing_tells_is_asked_for(
    tmp_path: Path, layout: str, capsys: pytest.CaptureFixture[str]
) -> None:
    hidden = [node("Relu", "input", "x")]  # the same in either layout
    if layout == "nhwc":
        hidden.append(node("Transpose", "x", "pixels", perm=[0, 3, 1, 2]))
    else:
        hidden.append(node("Identity", "x", "pixels"))
    model = Network(["N", "a", "b", "c"], start=hidden).save(tmp_path)
    assert main(["adopt", str(model), *USUAL, "--size", "8"]) == 2
    assert "--layout" in capsys.readouterr().err
    images = pictures()
    seen = imagenet(images)
    seen = seen if layout == "nchw" else seen.transpose(0, 2, 3, 1)
    classifier = adopt(model, *USUAL, "--size", "8", "--layout", layout)
    agree(classifier, images, softmax(asked(model, seen)))


def test_a_layout_is_seen_by_the_first_convolution(tmp_path: Path) -> None:
    model = Network(["N", "c", "h", "w"]).save(tmp_path)
    images = pictures(9, 12)
    classifier = adopt(model, *USUAL, "--size", "9x12")
    agree(classifier, images, softmax(asked(model, imagenet(images))))


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.DOUBLE])
def test_other_numbers_than_float32(tmp_path: Path, kind: int) -> None:
    model = Network(kind=kind).save(tmp_path)
    images = pictures()
    expected = softmax(asked(model, imagenet(images, NUMPY[kind])))
    agree(adopt(model, *USUAL), images, expected, 1e-3 if kind == TensorProto.FLOAT16 else 1e-4)


@pytest.mark.parametrize("channels", [3, 1])
def test_bytes_are_taken_as_they_are(tmp_path: Path, channels: int) -> None:
    model = Network(["N", 8, 8, channels], TensorProto.UINT8, channels=channels).save(tmp_path)
    images = pictures()
    grey = np.rint(images @ [0.299, 0.587, 0.114]).astype(np.uint8)[..., None]
    classifier = adopt(model, *NAMES)
    agree(classifier, images, softmax(asked(model, images if channels == 3 else grey)))


def test_bytes_in_the_other_order(tmp_path: Path) -> None:
    metadata = {"Image.NominalPixelRange": "NominalRange_0_255", "Image.BitmapPixelFormat": "Bgr8"}
    model = Network(["N", 8, 8, 3], TensorProto.UINT8).save(tmp_path, metadata)
    images = pictures()
    agree(adopt(model, *NAMES), images, softmax(asked(model, images[..., ::-1])))


def test_grey(tmp_path: Path) -> None:
    model = Network(["N", 1, 8, 8], channels=1).save(tmp_path)
    images = pictures()
    grey = (images @ np.array([0.299, 0.587, 0.114]))[:, None] / 255
    seen = ((grey - 0.1307) / 0.3081).astype(np.float32)
    classifier = adopt(model, *NAMES, "--mean", "0.1307", "--std", "0.3081")
    agree(classifier, images, softmax(asked(model, seen)))


WAYS: dict[str, tuple[list[onnx.NodeProto], list[onnx.TensorProto]]] = {
    "written": ([node("Reshape", "pooled", "shape", "flat")], [vector("shape", 1, 8)]),
    # Freed, each of these gives an error, or a wrong answer.
    "put together": (
        [
            node("Concat", "one", "eight", "shape", axis=0),
            node("Reshape", "pooled", "shape", "flat"),
        ],
        [vector("one", 1), vector("eight", 8)],
    ),
    "mixed": (
        [
            node("ReduceMean", "pooled", "mean", axes=[0], keepdims=1),
            node("Add", "pooled", "mean", "sum"),
            node("Flatten", "sum", "flat"),
        ],
        [],
    ),
}


@pytest.mark.parametrize("batch", [1, "N"], ids=["fixed", "free, which is a lie"])
@pytest.mark.parametrize("way", WAYS)
def test_a_graph_for_one_image(
    tmp_path: Path, way: str, batch: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    flat, constants = WAYS[way]
    model = Network([batch, 3, 8, 8], flat=flat, constants=constants).save(tmp_path)
    images = pictures()
    classifier = adopt(model, *USUAL)
    agree(classifier, images, softmax(asked(model, imagenet(images))))
    is_looped = way != "written"
    assert (LOOP in capsys.readouterr().err) == is_looped
    # In a loop onnxruntime optimises only with weights that are the loop's own.
    assert (not onnx.load(tmp_path / "served.onnx").graph.initializer) == is_looped


def test_a_mix_up_of_sure_answers_is_seen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flat, _ = WAYS["mixed"]
    model = Network([1, 3, 8, 8], flat=flat, sharpness=200.0).save(tmp_path)
    classifier = adopt(model, *USUAL)
    assert classifier.predict(pictures()).max(axis=1).min() > 0.999
    assert LOOP in capsys.readouterr().err


def test_a_constant_operator_with_the_batch(tmp_path: Path) -> None:
    shape = onnx.helper.make_node("Constant", [], ["shape"], value=vector("value", 1, 8))
    flat = [shape, node("Reshape", "pooled", "shape", "flat")]
    model = Network([1, 3, 8, 8], flat=flat).save(tmp_path)
    images = pictures()
    agree(adopt(model, *USUAL), images, softmax(asked(model, imagenet(images))))


def test_four_images_at_a_time_and_no_other_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flat, _ = WAYS["put together"]
    constants = [vector("one", 4), vector("eight", 8)]
    model = Network([4, 3, 8, 8], flat=flat, constants=constants).save(tmp_path)
    assert main(["adopt", str(model), *USUAL, "--output", str(tmp_path / "o.onnx")]) == 1
    said = capsys.readouterr().err
    assert "4 images at a time" in said
    assert [path.name for path in tmp_path.iterdir()] == [model.name]


@pytest.mark.parametrize(("opset", "ir"), [(7, 3), (8, 3), (9, 4), (12, 7), (21, 10)])
def test_old_files_and_new_ones(tmp_path: Path, opset: int, ir: int) -> None:
    model = Network(opset=opset, ir=ir).save(tmp_path)
    images = pictures()
    agree(adopt(model, *USUAL), images, softmax(asked(model, imagenet(images))))


def test_data_beside_the_file_are_taken_in(tmp_path: Path) -> None:
    model = tmp_path / "foreign.onnx"
    onnx.save(
        Network().model(), model, save_as_external_data=True, location="d.bin", size_threshold=0
    )
    assert (tmp_path / "d.bin").is_file()
    images = pictures()
    expected = softmax(asked(model, imagenet(images)))
    classifier = adopt(model, *USUAL)
    (tmp_path / "d.bin").unlink()
    agree(classifier, images, expected)


def test_names_like_ours(tmp_path: Path) -> None:
    """`image`, `probabilities`, and operators called as those that are put around."""
    end = [
        node("Softmax", "logits", "Softmax_1", axis=1),
        node("Identity", "Softmax_1", "probabilities"),
    ]
    network = Network(name="image", end=end, outputs=["probabilities"])
    graph = network.model()
    for place, each in enumerate(graph.graph.node):
        each.name = f"Transpose_{place + 1}"
    graph.graph.node[0].output[0] = graph.graph.node[1].input[0] = "Cast_2"
    graph.graph.initializer[0].name = graph.graph.node[0].input[1] = "constant_0"
    model = tmp_path / "foreign.onnx"
    onnx.save(graph, model)
    images = pictures()
    agree(adopt(model, *USUAL), images, asked(model, imagenet(images), "probabilities"))


def test_what_exporters_write_of_their_machine_stays_behind(tmp_path: Path) -> None:
    """PyTorch leaves stack traces at every operator."""
    graph = Network().model()
    trace = 'File "/home/somebody/secret.py", line 1'
    graph.graph.node[0].doc_string = graph.doc_string = graph.graph.doc_string = trace
    graph.graph.node[1].metadata_props.add(key="pkg.torch.onnx.stack_trace", value=trace)
    model = tmp_path / "foreign.onnx"
    onnx.save(graph, model)
    adopt(model, *USUAL)
    assert b"somebody" not in (tmp_path / "served.onnx").read_bytes()


def test_the_card(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = Network().save(tmp_path)
    (tmp_path / "names.txt").write_text("\n".join(LABELS))
    served = tmp_path / "new" / "served.onnx"
    words = (f"--labels={tmp_path / 'names.txt'}", "--preprocess", "imagenet", "--licence", "MIT")
    card = adopt(model, *words, output=served).card
    assert card.name == "foreign"
    assert card.labels == LABELS
    assert card.figures.parity is not None
    assert card.figures.parity < 1e-4
    assert card.figures.accuracy is None
    assert card.figures.per_label == NOTHING_MEASURED.per_label
    assert card.training_data.licence == "MIT"
    found = card.provenance
    assert found.adopted_from.startswith("foreign.onnx, SHA-256 ")
    assert found.command.startswith("python -m training adopt foreign.onnx --output served.onnx")
    assert "--labels=names.txt" in found.command
    assert found.config["resize"] == "crop (assumed)"
    assert "4 logits of logits" in found.config["output"]
    text = {prop.key: prop.value for prop in onnx.load(served).metadata_props}[METADATA_KEY]
    assert json.loads(text)["name"] == "foreign"
    assert str(tmp_path) not in text
    said = capsys.readouterr().err
    for line in found.config.values():
        assert line in said
    assert "nothing was measured" in said


def test_the_version_is_the_graphs(tmp_path: Path) -> None:
    model = Network().save(tmp_path)
    versions = [
        adopt(model, *NAMES, "--preprocess", name).card.version for name in ("tf", "tf", "clip")
    ]
    assert versions[0] == versions[1] != versions[2]


def by_colour(tmp_path: Path, end: list[onnx.NodeProto] | None = None) -> Path:
    """A network that tells mean colours apart, of -1 to 1; with others it is wrong or unsure."""
    head = np.array([[-1, -1, 9], [-1, 9, -1], [9, -1, -1]], np.float32).T  # blue, green, red
    nodes = [
        node("GlobalAveragePool", "input", "pooled"),
        node("Flatten", "pooled", "flat"),
        node("MatMul", "flat", "head", "logits"),
        *(end or []),
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "colours",
        [onnx.helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [onnx.helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)],
        [numpy_helper.from_array(head, "head")],
    )
    path = tmp_path / "foreign.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)]), path)
    return path


def test_data_measure_calibrate_and_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Labels from the folders' names, the preset that answers best, figures, a temperature."""
    model = by_colour(tmp_path)
    fill_folder(tmp_path / "photos" / "test")
    fill_folder(tmp_path / "photos" / "train", images=2)
    card = adopt(model, "--data", str(tmp_path / "photos")).card
    assert card.labels == tuple(sorted(COLOURS))
    assert "folders" in card.provenance.config["labels"]
    assert "of 36 images right" in card.provenance.config["pixels"]
    assert card.figures.split == "test"
    assert card.figures.images == 36
    assert card.figures.accuracy is not None
    assert card.figures.accuracy > 0.9
    assert card.figures.calibration_error is not None
    assert {row.support for row in card.figures.per_label.values()} == {12}
    assert card.temperature != 1
    assert "accuracy" in capsys.readouterr().err


def test_data_that_make_familiarity(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Half of the images are compared with, the others are held back."""
    model = by_colour(tmp_path)
    fill_folder(tmp_path / "few")
    assert adopt(model, "--data", str(tmp_path / "few")).card.familiarity is None
    assert "no familiarity: it is a share" in capsys.readouterr().err

    fill_folder(tmp_path / "photos", images=67)
    classifier = adopt(model, "--data", str(tmp_path / "photos"))
    assert classifier.card.familiarity == Familiarity(0.01, 100, None)
    _, shares = classifier.run(np.full((1, *classifier.input_size, 3), 255, np.uint8))
    assert shares is not None
    assert shares[0] < 0.1  # white is no colour
    path = str(tmp_path / "served.onnx")
    assert main(["familiarity", path, "--data", str(tmp_path / "photos")]) == 0
    again = Classifier.load(path).card
    assert again.figures == classifier.card.figures
    assert again.version == classifier.card.version


def test_the_temperature_is_in_the_graph(tmp_path: Path) -> None:
    model = by_colour(tmp_path)
    fill_folder(tmp_path / "photos")
    images = pictures()
    words = ("--preprocess", "tf", "--data", str(tmp_path / "photos"))
    classifier = adopt(model, *words)
    assert classifier.card.figures.split == "all"
    seen = (images / 127.5 - 1).transpose(0, 3, 1, 2).astype(np.float32)
    agree(classifier, images, softmax(asked(model, seen) / classifier.card.temperature))


def test_images_of_the_data_are_in_the_file_if_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = by_colour(tmp_path)
    data = str(fill_folder(tmp_path / "photos", images=5))
    assert adopt(model, "--preprocess", "tf", "--data", data).card.examples == ()
    card = adopt(model, "--preprocess", "tf", "--data", data, "--examples").card
    assert [one.label for one in card.examples] == [*["blue"] * 4, *["green"] * 3, *["red"] * 3]
    assert "10 test images are in the file" in capsys.readouterr().err
    assert main(["adopt", str(model), "--preprocess", "tf", "--examples"]) == 2
    assert "--examples: they are images of --data" in capsys.readouterr().err


def test_data_with_labels_that_stand_alone(tmp_path: Path) -> None:
    model = by_colour(tmp_path, [node("Sigmoid", "logits", "each")])
    fill_folder(tmp_path / "photos")
    classifier = adopt(model, "--preprocess", "tf", "--data", str(tmp_path / "photos"))
    assert classifier.card.activation == "sigmoid"
    assert classifier.card.temperature == 1
    assert classifier.card.figures.accuracy is not None
    images = pictures()
    seen = (images / 127.5 - 1).transpose(0, 3, 1, 2).astype(np.float32)
    agree(classifier, images, asked(model, seen, "each"))


def test_data_that_no_preset_tells_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = by_colour(tmp_path)
    fill_folder(tmp_path / "photos")
    words = ["--data", str(tmp_path / "photos"), "--labels", "red,blue,green"]
    assert main(["adopt", str(model), *words, "--output", str(tmp_path / "o.onnx")]) == 2
    assert "order of the labels" in capsys.readouterr().err
    assert not (tmp_path / "o.onnx").exists()
