"""Image folders with real bytes, and one network that was really trained and exported."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from service.inference.imaging import decode_image
from training import pipeline
from training.config import TrainConfig
from training.data.dataset import Dataset, Split
from training.data.decoding import decoded
from training.data.loading import load
from training.fitting import checkpoint

if TYPE_CHECKING:
    from training.fitting.state import TrainingState

COLOURS = {"blue": (40, 60, 200), "green": (40, 180, 60), "red": (200, 50, 40)}

FolderMaker = Callable[..., Path]


def image_file(label: str, number: int, image_format: str = "PNG", side: int = 20) -> bytes:
    """The bytes of a noisy image in the label's colour, the same for the same arguments."""
    rng = np.random.default_rng([sorted(COLOURS).index(label), number])
    pixels = rng.normal(COLOURS[label], 60, (side, side + 4, 3)).clip(0, 255).astype(np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, image_format)
    return content.getvalue()


def fill_folder(
    folder: Path, images: int = 12, labels: tuple[str, ...] = tuple(COLOURS), side: int = 20
) -> Path:
    """A folder of label folders, JPEG and PNG by turns; returns it."""
    for label in labels:
        (folder / label).mkdir(parents=True)
        for i in range(images):
            image_format, suffix = ("PNG", "png") if i % 2 else ("JPEG", "jpg")
            path = folder / label / f"{i:04d}.{suffix}"
            path.write_bytes(image_file(label, i, image_format, side))
    return folder


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    """Three labels of twelve images each."""
    return fill_folder(tmp_path / "photos")


@pytest.fixture
def config(image_folder: Path, tmp_path: Path) -> TrainConfig:
    """The least training: two epochs of two steps on `image_folder`, 20x16 pixels."""
    return TrainConfig(
        dataset="folder",
        data=image_folder,
        image_size=(20, 16),
        shift=2,
        epochs=2,
        batch_size=16,
        output=tmp_path / "out" / "model.onnx",
    )


def in_memory(dataset: Dataset) -> Dataset:
    """The same images as arrays, that a test may change."""
    train, validation, test = (
        Split(np.array(split.images), split.targets)
        for split in (dataset.train, dataset.validation, dataset.test)
    )
    return Dataset(dataset.name, dataset.licence, dataset.labels, train, validation, test)


def moved_by_gradients(state: TrainingState) -> TrainingState:
    """The same run, where a step follows the gradients alone: their differences are seen."""
    import keras  # starts TensorFlow

    from training.fitting.optimizers import Group

    variables = state.model.trainable_variables
    optimizer = keras.optimizers.SGD(0.1)
    optimizer.build(variables)
    return replace(state, groups=[Group(optimizer, variables, 0.1)])


@dataclass(frozen=True)
class TrainedModel:
    """An exported network, and what Keras itself answers.

    `path`: the .onnx file. `files`: the bytes of some image files. `images`: uint8 [N, H, W, 3],
    what the service's decoder makes of them. `probabilities`: Keras' answers, float32 [N, 3].
    """

    path: Path
    files: tuple[bytes, ...]
    images: NDArray[np.uint8]
    probabilities: NDArray[np.float32]


@pytest.fixture(scope="session")
def trained_model(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    """One step of training on a folder, through the whole line but for the command's parsing."""
    from training.export.model_file import ServedNetwork  # starts TensorFlow
    from training.fitting.state import restore, start

    folder = tmp_path_factory.mktemp("trained")
    config = TrainConfig(
        dataset="folder",
        data=fill_folder(folder / "photos", side=24),  # no file of any other folder here
        epochs=1,
        batch_size=64,
        output=folder / "model.onnx",
    )
    card = pipeline.train(config)

    saved = checkpoint.load(config.run_folder)
    assert saved is not None
    state = start(config, load(config))
    restore(state, saved)
    files = tuple(
        image_file(label, i, "PNG", side=32) for label in COLOURS for i in range(100, 103)
    )
    images = np.stack([decode_image(file, config.image_size).pixels for file in files])
    network = ServedNetwork(state.model, card.temperature)
    return TrainedModel(config.output, files, images, network.predict(images))


def decoded_pixels(paths: Sequence[Path], size: tuple[int, int]) -> list[Any]:
    """What training decodes files to: pixels, or what is wrong with a file."""
    found = decoded(paths, size, "stretch", "test")
    return [read if isinstance(read, str) else read.image.pixels for read in found]
