"""The tutorial's worked numbers and images: `python -m training.report.tutorial`.

Without arguments it writes the numbers in docs/tutorial.md and the images that need no network
anew. With a model file, also those that show one.
"""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from service.inference.classifier import Classifier, Selection
from service.inference.contract import ModelCard
from service.inference.explanation import importance
from service.inference.heat import heat
from training.report import charts, images
from training.report.importance import most_important
from training.report.layers import Network

GUIDE = Path("docs/tutorial.md")
IMAGES = Path("docs/images")
MOST_COLOURS = 64  # of an image in the guide, to keep the files small

PATCH = np.array(
    [
        [[10, 10, 90], [10, 10, 90], [10, 10, 90]],
        [[20, 20, 80], [20, 20, 80], [20, 20, 80]],
        [[50, 50, 50], [50, 50, 50], [50, 50, 50]],
    ]
)
FILTER = np.array([[[-1, 0, 1]] * 3, [[-1, 0, 1]] * 3, [[0, 0, 0]] * 3])
BIAS = -100
MAP = np.array([[3, -1, 0, 2], [-2, 5, 1, -4], [0, 1, -3, -1], [2, -6, 4, 7]])
LOGITS = np.array([2.0, 1.0, 0.1])


def convolve(pixels: NDArray[Any], kernel: NDArray[Any], bias: float) -> NDArray[Any]:
    """One filter, [C, h, w], at every place of an image, [C, H, W]: [H - h + 1, W - w + 1]."""
    _, height, width = kernel.shape
    rows, columns = pixels.shape[1] - height + 1, pixels.shape[2] - width + 1
    return np.array(
        [
            [
                (pixels[:, y : y + height, x : x + width] * kernel).sum() + bias
                for x in range(columns)
            ]
            for y in range(rows)
        ]
    )


def convolution_numbers() -> str:
    """27 products and a bias, written out."""
    lines = ["         pixels          filter        products"]
    for name, pixels, weights in zip(("red", "green", "blue"), PATCH, FILTER, strict=True):
        for i in range(3):
            cells = [_row(row[i], 4) for row in (pixels, weights, pixels * weights)]
            lines.append(f"{name if i == 0 else '':6}" + "    ".join(cells).rstrip())
    total = int((PATCH * FILTER).sum())
    lines += ["", f"sum of the 27 products {total}, bias {BIAS}: the answer is {total + BIAS}"]
    return "\n".join(lines)


def pooling_numbers() -> str:
    """RELU, then the largest of each 2x2."""
    positive = np.maximum(MAP, 0)
    pooled = positive.reshape(2, 2, 2, 2).max(axis=(1, 3))
    lines = ["answers             after RELU          after pooling"]
    for i in range(4):
        last = _row(pooled[i], 4) if i < len(pooled) else ""
        lines.append(f"{_row(MAP[i], 4)}    {_row(positive[i], 4)}    {last}".rstrip())
    return "\n".join(lines)


def loss_numbers() -> str:
    """Softmax of three scores, and both losses for each label that may be right."""
    p = np.exp(LOGITS) / np.exp(LOGITS).sum()
    lines = [
        "scores          " + "".join(f"{x:8.1f}" for x in LOGITS),
        "probabilities   " + "".join(f"{x:8.3f}" for x in p),
        "",
        "right label     cross-entropy   squared error",
    ]
    for i in range(3):
        squared = ((p - np.eye(3)[i]) ** 2).sum()
        lines.append(f"{('first', 'second', 'third')[i]:16}{-np.log(p[i]):13.3f}   {squared:13.3f}")
    return "\n".join(lines)


def descent() -> list[tuple[float, float, float]]:
    """(weight, loss, slope) of w * 2 that should be 3, step by step, at the rate 0.05."""
    weight, steps = 0.0, []
    for _ in range(8):
        error = weight * 2 - 3
        steps.append((weight, error**2, 2 * error * 2))
        weight -= 0.05 * steps[-1][2]
    return steps


def descent_numbers() -> str:
    """The first steps of gradient descent."""
    rows = (f"{w:8.3f}{2 * w:9.3f}{loss:9.3f}{slope:9.3f}" for w, loss, slope in descent())
    return "\n".join(["  weight   answer     loss    slope", *rows])


NUMBERS = {
    "convolution": convolution_numbers,
    "pooling": pooling_numbers,
    "loss": loss_numbers,
    "descent": descent_numbers,
}


def with_numbers(text: str) -> str:
    """The guide with its marked blocks written anew. Raises ValueError for a missing block."""
    for name, numbers in NUMBERS.items():
        start, end = f"<!-- {name} -->\n", "<!-- end -->"
        if text.count(start) != 1:
            raise ValueError(f"{GUIDE} has {text.count(start)} blocks of the name {name}")
        before, rest = text.split(start)
        text = f"{before}{start}```text\n{numbers()}\n```\n{rest[rest.index(end) :]}"
    return text


def drawing() -> Image.Image:
    """A ship, drawn here, so that no photograph with a licence is needed."""
    image = Image.new("RGB", (256, 256), (150, 190, 225))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 165, 256, 256), fill=(40, 85, 120))
    draw.polygon([(30, 140), (232, 140), (205, 185), (60, 185)], fill=(70, 30, 30))
    draw.rectangle((85, 105, 185, 140), fill=(235, 235, 235))
    draw.rectangle((105, 80, 165, 105), fill=(220, 220, 220))
    draw.rectangle((140, 50, 158, 80), fill=(190, 60, 40))
    for x in range(95, 180, 18):
        draw.rectangle((x, 115, x + 8, 124), fill=(60, 80, 100))
    return image


def plain_images(folder: Path) -> None:
    """Images that need no network: a convolution, and gradient descent."""
    small = drawing().resize((32, 32), Image.Resampling.BILINEAR)
    answers = convolve(np.asarray(small, float).transpose(2, 0, 1), FILTER, 0.0)
    shares = np.abs(answers) / np.abs(answers).max()
    answer = np.rint(255 * shares[..., None].repeat(3, axis=2)).astype(np.uint8)
    _save(_beside([np.asarray(small), answer]), folder / "convolution.png")

    def paint(axes: Any, theme: charts.Theme) -> None:
        weights = np.linspace(-0.2, 3.2, 100)
        axes.plot(weights, (2 * weights - 3) ** 2, color=theme.faint)
        steps = descent()
        axes.plot([w for w, *_ in steps], [loss for _, loss, _ in steps], "o-", color=theme.second)
        axes.set_xlabel("weight")
        axes.set_ylabel("loss")

    chart = Image.open(io.BytesIO(charts.draw(paint).light)).convert("RGB")
    _save(np.asarray(chart.resize((420, 300), Image.Resampling.BOX)), folder / "descent.png")


def network_images(model: Path, folder: Path) -> None:
    """Images of a network: filters, maps, important pixels of the drawing."""
    classifier, network = Classifier.load(model), Network.load(model)
    filters = network.first_filters()
    if filters is not None:
        _save(_on_white(images.sheet_of_filters(filters)), folder / "filters.png")
    photo = _photograph(classifier.card)
    layer = next(layer for layer in network.layers if layer.is_spatial)
    maps = network.values(photo.pixels[None], [layer.answer])[layer.answer][0]
    _save(_on_white(images.sheet_of_maps(maps[:32])), folder / "maps.png")
    answer = classifier.predict(photo.pixels[None])[0]
    found = importance(
        classifier.predict,
        photo.pixels,
        int(answer.argmax()),
        activation=classifier.card.activation,
    )
    best = images.kept(photo, most_important(found))
    _save(_beside([photo.shown, heat(photo.shown, found), best]), folder / "important.png")
    sys.stdout.write(f"the drawing: {classifier.rank(answer, Selection(top_k=3))}\n")


def _photograph(card: ModelCard) -> images.Photograph:
    file = io.BytesIO()
    drawing().save(file, "PNG")
    return images.photograph(file.getvalue(), card)


def _beside(parts: list[NDArray[np.uint8]], side: int = 192) -> NDArray[np.uint8]:
    """Images as squares of one height, a white gap between them."""
    gap = np.full((side, 12, 3), 255, np.uint8)
    row: list[NDArray[Any]] = []
    for part in parts:
        resized = Image.fromarray(part).resize((side, side), Image.Resampling.NEAREST)
        row += [np.asarray(resized), gap]
    return np.concatenate(row[:-1], axis=1)


def _on_white(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    image = Image.fromarray(pixels)
    white = Image.new("RGBA", image.size, "white")
    return np.asarray(Image.alpha_composite(white, image).convert("RGB"))


def _save(pixels: NDArray[np.uint8], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels).quantize(MOST_COLOURS, dither=Image.Dither.NONE)
    image.save(path, "PNG", optimize=True)
    sys.stdout.write(f"{path}: {path.stat().st_size} bytes\n")


def _row(values: NDArray[Any], width: int) -> str:
    return "".join(f"{int(value):{width}}" for value in values)


def main(words: list[str]) -> None:
    """Write the guide's numbers and images, in the folder that the command was started in."""
    parser = argparse.ArgumentParser("python -m training.report.tutorial", description=__doc__)
    parser.add_argument("model", type=Path, nargs="?", metavar="MODEL", help="an .onnx file")
    options = parser.parse_args(words)
    GUIDE.write_text(with_numbers(GUIDE.read_text(encoding="utf-8")), encoding="utf-8")
    plain_images(IMAGES)
    if options.model is not None:
        network_images(options.model, IMAGES)


if __name__ == "__main__":
    main(sys.argv[1:])
