"""Small foreign networks, and what is asked of them by onnxruntime alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from service.inference.classifier import Classifier
from tests.images import photograph
from training.cli import main

LABELS = ("ant", "bee", "cat", "dog")
NAMES = ("--labels", ",".join(LABELS))
NUMPY: dict[int, Any] = {
    TensorProto.FLOAT: np.float32,
    TensorProto.FLOAT16: np.float16,
    TensorProto.DOUBLE: np.float64,
    TensorProto.UINT8: np.uint8,
}
CAST = (TensorProto.UINT8, TensorProto.DOUBLE)  # to float32, in these networks
Floats = NDArray[np.float64]
Nodes = list[onnx.NodeProto]


@dataclass
class Network:
    """A convolution, the mean, a product: one number for each label.

    `shape`: of the input. `end`: nodes from `logits` to what is in `outputs`. `flat`: how [N, 8, 1,
    1] becomes [N, 8], from `pooled` to `flat`. `start`: nodes from `input` to `pixels`.
    """

    shape: Sequence[Any] = ("N", 3, 8, 8)
    kind: int = TensorProto.FLOAT
    start: Sequence[onnx.NodeProto] = ()
    flat: Sequence[onnx.NodeProto] = ()
    end: Sequence[onnx.NodeProto] = ()
    outputs: Sequence[str] = ("logits",)
    labels: int = len(LABELS)
    channels: int = 3
    opset: int = 17
    ir: int = 8
    name: str = "input"
    sharpness: float = 1.0
    constants: Sequence[onnx.TensorProto] = ()

    def nodes(self) -> Nodes:
        is_nhwc = self.shape[-1] == self.channels
        seen = "pixels" if self.start else self.name
        nodes = [*self.start]
        if is_nhwc:
            nodes.append(helper.make_node("Transpose", [seen], ["first"], perm=[0, 3, 1, 2]))
            seen = "first"
        if self.kind in CAST:
            nodes.append(helper.make_node("Cast", [seen], ["floats"], to=TensorProto.FLOAT))
            seen = "floats"
        flat = [*self.flat] or [helper.make_node("Flatten", ["pooled"], ["flat"])]
        return [
            *nodes,
            helper.make_node("Conv", [seen, "filters"], ["maps"], name="conv"),
            helper.make_node("Relu", ["maps"], ["active"]),
            helper.make_node("GlobalAveragePool", ["active"], ["pooled"]),
            *flat,
            helper.make_node("Gemm", ["flat", "head", "bias"], ["logits"]),
            *self.end,
        ]

    def weights(self) -> list[onnx.TensorProto]:
        kind = NUMPY[TensorProto.FLOAT if self.kind in CAST else self.kind]
        rng = np.random.default_rng(5)
        values = {
            "filters": rng.normal(0, 0.3, (8, self.channels, 3, 3)),
            "head": rng.normal(0, self.sharpness, (8, self.labels)),
            "bias": rng.normal(0, 0.3, self.labels),
        }
        if self.kind == TensorProto.UINT8:  # it sees numbers up to 255
            values["filters"] /= 100
        return [numpy_helper.from_array(each.astype(kind), name) for name, each in values.items()]

    def model(self, metadata: dict[str, str] | None = None) -> onnx.ModelProto:
        kind = TensorProto.FLOAT if self.kind in CAST else self.kind
        inputs = [helper.make_tensor_value_info(self.name, self.kind, [*self.shape])]
        weights = [*self.weights(), *self.constants]
        if self.ir < 4:  # weights were inputs too
            inputs += [
                helper.make_tensor_value_info(each.name, each.data_type, each.dims)
                for each in weights
            ]
        outputs = [helper.make_tensor_value_info(name, kind, None) for name in self.outputs]
        graph = helper.make_graph(self.nodes(), "foreign", inputs, outputs, weights)
        opsets = [helper.make_opsetid("", self.opset), helper.make_opsetid("ai.onnx.ml", 3)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=self.ir)
        helper.set_model_props(model, metadata or {})
        return model

    def save(self, folder: Path, metadata: dict[str, str] | None = None) -> Path:
        path = folder / "foreign.onnx"
        path.write_bytes(self.model(metadata).SerializeToString())
        return path


def node(kind: str, *names: str, **attributes: Any) -> onnx.NodeProto:
    """An operator that gives the last of the names."""
    return helper.make_node(kind, names[:-1], names[-1:], **attributes)


def pictures(height: int = 8, width: int = 8, count: int = 5) -> NDArray[np.uint8]:
    return np.stack([np.asarray(photograph(i, height, width)) for i in range(count)])


def asked(
    model: Path, seen: NDArray[Any], output: str = "logits", batch: int = 1
) -> NDArray[np.float64]:
    """What the original gives for these inputs, one after the other; [N, labels]."""
    session = ort.InferenceSession(model)
    name = session.get_inputs()[0].name
    batches = [np.repeat(seen[i : i + 1], batch, axis=0) for i in range(len(seen))]
    found = [session.run([output], {name: each})[0].reshape(batch, -1)[0] for each in batches]
    return np.stack(found).astype(np.float64)


def imagenet(images: NDArray[np.uint8], kind: Any = np.float32) -> NDArray[Any]:
    """PyTorch's ToTensor and Normalize: [N, 3, H, W]."""
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    return np.asarray(((images / 255 - mean) / deviation).transpose(0, 3, 1, 2), kind)


def softmax(rows: Floats) -> Floats:
    powers = np.exp(rows - rows.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def sigmoid(rows: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-rows)))


def adopt(source: Path | str, *words: str, output: Path | None = None) -> Classifier:
    """The model that the command makes of it."""
    path = output or Path(source).parent / "served.onnx"
    assert main(["adopt", str(source), "--output", str(path), *words]) == 0
    return Classifier.load(path)


def agree(
    classifier: Classifier, images: NDArray[np.uint8], expected: Floats, within: float = 1e-4
) -> None:
    """Alone and together, an image is answered as the original does, and images differ."""
    assert len({tuple(row) for row in expected.round(3)}) == len(expected)
    np.testing.assert_allclose(classifier.predict(images), expected, atol=within)
    np.testing.assert_allclose(classifier.predict(images[1:2]), expected[1:2], atol=within)
