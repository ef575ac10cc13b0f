"""Small networks of PyTorch's, exported as people do; beside each what PyTorch answers.

    python torch_exports.py FOLDER

Run by an interpreter that has torch, onnx and onnxscript; the project's own has no torch.
"""

import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

LABELS, SIZE = 10, 64


class Block(nn.Module):  # type: ignore[misc]
    """Two convolutions with batch norms and a shortcut, as in ResNet-18."""

    def __init__(self, before: int, channels: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(before, channels, 3, stride, 1, bias=False),
            nn.BatchNorm2d(channels, momentum=1.0),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False),
            nn.BatchNorm2d(channels, momentum=1.0),
        )
        self.shortcut = nn.Sequential(
            nn.Conv2d(before, channels, 1, stride, bias=False),
            nn.BatchNorm2d(channels, momentum=1.0),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


class ResNet(nn.Module):  # type: ignore[misc]
    """ResNet-18's stem and stages, narrower.

    `end`: what follows the logits. `batch`: a batch that a reshape writes down.
    """

    def __init__(self, *, end: nn.Module | None = None, batch: int | None = None) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 16, 7, 2, 3, bias=False),
            nn.BatchNorm2d(16, momentum=1.0),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, 1),
        )
        self.stages = nn.Sequential(Block(16, 16, 1), Block(16, 32, 2), Block(32, 64, 2))
        self.head = nn.Linear(64, LABELS)
        self.end = end or nn.Identity()
        self.batch = batch

    def forward(self, x: Tensor) -> Tensor:
        x = self.stages(self.stem(x)).mean((2, 3))
        if self.batch is not None:
            x = x.reshape(self.batch, 64)
        return self.end(self.head(x))


class Transformer(nn.Module):  # type: ignore[misc]
    """A vision transformer's parts: patches, a token for the class, attention, GELU."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 16, 16)
        self.token = nn.Parameter(torch.randn(1, 1, width))
        self.places = nn.Parameter(torch.randn(1, 1 + (SIZE // 16) ** 2, width))
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(3)])
        self.mixed = nn.Linear(width, 3 * width)
        self.rest = nn.Sequential(nn.Linear(width, 64), nn.GELU(), nn.Linear(64, width))
        self.head = nn.Linear(width, LABELS)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.places
        q, k, v = self.mixed(self.norms[0](x)).unflatten(2, (3, 4, -1)).permute(2, 0, 3, 1, 4)
        seen = nn.functional.scaled_dot_product_attention(q, k, v)
        x = x + seen.transpose(1, 2).flatten(2)
        x = x + self.rest(self.norms[1](x))
        return 3 * self.head(self.norms[2](x)[:, 0])


def settled(model: nn.Module) -> nn.Module:
    """The network with its batch norms' figures taken from images, ready to answer."""
    images = torch.randn(64, 3, SIZE, SIZE) + torch.randn(64, 3, 1, 1)
    batch, model.batch = getattr(model, "batch", None), None
    model.train()
    with torch.no_grad():
        model(images)
    model.batch = batch
    return model.eval()


def exports() -> dict[str, tuple[nn.Module, dict[str, Any]]]:
    """Each network, and the options that it is exported with."""
    old: dict[str, Any] = {"dynamo": False}
    free = {**old, "dynamic_axes": {"input": {0: "batch"}, "output": {0: "batch"}}}
    sizes = {**old, "dynamic_axes": {"input": {0: "batch", 2: "height", 3: "width"}}}
    return {
        "free_batch": (ResNet(), free),
        "fixed_batch": (ResNet(), old),
        "written_batch": (ResNet(batch=1), old),
        "free_size": (ResNet(), sizes),
        "softmax": (ResNet(end=nn.Softmax(1)), free),
        "sigmoid": (ResNet(end=nn.Sigmoid()), free),
        "half": (ResNet(), old),
        "transformer": (Transformer(), old),
        "dynamo": (ResNet(), {"external_data": False}),
        "dynamo_free_batch": (ResNet(), {"dynamic_shapes": ({0: torch.export.Dim("batch")},)}),
        "dynamo_transformer": (Transformer(), {"external_data": True}),
    }


def main(folder: Path) -> None:
    """Write every export as `NAME.onnx`, and what PyTorch answers to `images.npy` as `NAME.npy`."""
    warnings.filterwarnings("ignore")
    torch.manual_seed(0)
    torch.set_num_threads(1)  # others may be at work beside
    folder.mkdir(parents=True, exist_ok=True)
    squares = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), np.uint8)
    pixels = squares.repeat(SIZE // 8, axis=1).repeat(SIZE // 8, axis=2)
    np.save(folder / "images.npy", pixels)
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    images = torch.tensor(((pixels / 255 - mean) / deviation).transpose(0, 3, 1, 2)).float()
    for name, (network, options) in exports().items():
        model = settled(network)
        with torch.no_grad():
            answers = torch.cat([model(image[None]) for image in images])
        np.save(folder / f"{name}.npy", answers.numpy())
        example = images[:2] if "dynamic_shapes" in options else images[:1]
        if name == "half":
            model, example = model.half(), example.half()
        torch.onnx.export(
            model,
            (example,),
            str(folder / f"{name}.onnx"),
            input_names=["input"],
            output_names=["output"],
            **options,
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
