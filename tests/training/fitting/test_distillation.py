import dataclasses
import re
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import onnx
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from service.inference.classifier import Classifier
from tests.tiny_model import make_card, make_graph, write_model
from tests.training.conftest import TrainedModel
from training.config import TrainConfig
from training.data.augmentation import augment
from training.data.batches import Batch
from training.data.dataset import Dataset
from training.data.loading import load
from training.errors import DataError, RunError
from training.fitting import checkpoint, loop
from training.fitting.distillation import Teacher, Teachers, at_temperature, load_teachers
from training.fitting.loop import fit
from training.fitting.state import start
from training.fitting.step import training_step
from training.pipeline import train


@pytest.fixture
def config(config: TrainConfig, trained_model: TrainedModel) -> TrainConfig:
    return dataclasses.replace(config, image_size=(32, 32), teachers=(trained_model.path,))


@pytest.fixture
def dataset(config: TrainConfig) -> Dataset:
    return load(config)


@pytest.fixture
def teacher(config: TrainConfig) -> Teacher:
    return load_teachers(config).each[0]


def test_a_teacher_answers_to_what_is_seen(teacher: Teacher, dataset: Dataset) -> None:
    images = dataset.train.images[:]

    found = Teachers((teacher,), mirrors=False, weight=1.0, temperature=1.0).answers(
        images.astype(np.float32) + 0.3
    )

    np.testing.assert_allclose(found, teacher.model.predict(images), atol=1e-6)


def test_mirror_images_are_answered_alike(teacher: Teacher, dataset: Dataset) -> None:
    images = dataset.train.images[:]
    mirrored = np.ascontiguousarray(images[:, :, ::-1])
    expected = (teacher.model.predict(images) + teacher.model.predict(mirrored)) / 2
    assert np.abs(expected - teacher.model.predict(images)).max() > 1e-4
    asked = Teachers((teacher,), mirrors=True, weight=1.0, temperature=1.0)

    np.testing.assert_allclose(asked.answers(images.astype(np.float32)), expected, atol=1e-6)
    np.testing.assert_allclose(asked.answers(mirrored.astype(np.float32)), expected, atol=1e-6)


class Known:
    """A teacher that answers the same to everything."""

    card = SimpleNamespace(labels=("blue", "green", "red"))

    def __init__(self, *probabilities: float) -> None:
        self.probabilities = np.array(probabilities, np.float32)

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.repeat(self.probabilities[None], len(images), axis=0)


def known(*answers: tuple[float, ...], weight: float = 1.0, temperature: float = 1.0) -> Teachers:
    each = tuple(unnamed(Known(*answer)) for answer in answers)
    return Teachers(each, mirrors=False, weight=weight, temperature=temperature)


def unnamed(known: Known) -> Teacher:
    return Teacher(Path("x.onnx"), "", cast("Classifier", known))


def test_the_target_lies_between_the_label_and_the_mean_of_the_answers() -> None:
    teachers = known((0.8, 0.2, 0.0), (0.4, 0.2, 0.4), weight=0.75)
    targets = np.array([[0, 1, 0], [0.5, 0, 0.5]], np.float32)

    found = teachers.taught(np.zeros((2, 4, 4, 3), np.float32), targets)

    expected = 0.25 * targets + 0.75 * np.array([0.6, 0.2, 0.2])
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_the_mean_of_the_answers_is_brought_to_the_temperature() -> None:
    teachers = known((0.8, 0.2), (0.4, 0.6), temperature=2.0)

    found = teachers.taught(np.zeros((1, 4, 4, 3), np.float32), np.zeros((1, 2), np.float32))

    expected = np.sqrt([0.6, 0.4]) / np.sqrt([0.6, 0.4]).sum()
    np.testing.assert_allclose(found[0], expected, rtol=1e-6)


def test_teachers_are_those_of_the_configuration(
    config: TrainConfig, trained_model: TrainedModel
) -> None:
    config = dataclasses.replace(config, flip=False)

    found = load_teachers(config)

    assert (found.mirrors, found.weight, found.temperature) == (False, 0.9, 2.0)
    assert [teacher.path for teacher in found.each] == [trained_model.path]
    assert load_teachers(dataclasses.replace(config, teachers=())).each == ()


def test_temperature_divides_the_logits() -> None:
    logits = np.array([[4.0, 0.0, -2.0], [-60.0, 60.0, 0.0]])
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)

    found = at_temperature(probabilities.astype(np.float32), 4.0)

    expected = np.exp(logits / 4) / np.exp(logits / 4).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-6)


def test_the_teacher_sees_what_the_student_sees(config: TrainConfig, dataset: Dataset) -> None:
    """Moved, mirrored and partly hidden: not the images that the batch came with."""
    config = dataclasses.replace(config, architecture="small", width=0.1, cutout=8, shift=4)
    seen: list[NDArray[np.float32]] = []

    class Watching(Known):
        def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
            seen.append(images.astype(np.float32))
            return super().predict(images)

    started = start(config, dataset)
    watching = Teachers((unnamed(Watching(0.2, 0.3, 0.5)),), mirrors=False, weight=1, temperature=1)
    take = training_step(started, watching)
    images, targets = dataset.train.images[:8], dataset.train.targets[:8]
    batch = Batch(images, targets, np.arange(8) % 2 == 0, np.ones(8, np.float32))
    seed, rates = np.array([3, 4], np.int32), np.zeros(len(started.groups), np.float32)

    changed = augment(images, batch.mirrored, seed, config)
    logits = started.model(changed, training=True).numpy()

    losses, _ = take(batch, seed, rates)

    np.testing.assert_allclose(seen[0], np.rint(changed), atol=0)
    assert (seen[0] != images).any(axis=(1, 2, 3)).all()
    expected = -(tf.nn.log_softmax(logits).numpy() * [0.2, 0.3, 0.5]).sum(axis=1)
    np.testing.assert_allclose(losses, expected, rtol=1e-4)


def test_a_student_becomes_like_its_teacher_and_not_like_the_labels(
    config: TrainConfig, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Taught alone, and always the same, it says that of everything."""
    config = dataclasses.replace(
        config, architecture="small", width=0.25, epochs=12, learning_rate=0.1, bias_rate=0.2
    )
    monkeypatch.setattr(loop, "load_teachers", lambda *_: known((0.05, 0.9, 0.05)))

    fit(config, dataset)

    saved = checkpoint.load(config.run_folder)
    assert saved is not None
    assert saved.log[-1].loss < 0.5
    assert saved.log[-1].accuracy == pytest.approx(np.mean(dataset.train.targets == 1))


def test_a_teacher_of_other_labels_is_refused(config: TrainConfig) -> None:
    with pytest.raises(DataError, match=r"--teachers: .*knows other labels: blue, green, red"):
        load_teachers(config).require_labels(["blue", "green", "pink"])


def test_a_teacher_whose_labels_stand_alone_is_refused(config: TrainConfig, tmp_path: Path) -> None:
    path = tmp_path / "alone.onnx"
    graph = make_graph(size=config.image_size, activation="sigmoid")
    write_model(path, make_card(size=config.image_size, activation="sigmoid"), graph)
    with pytest.raises(DataError, match=r"--teachers: .*alone\.onnx .*sigmoid.*only a teacher"):
        load_teachers(dataclasses.replace(config, teachers=(path,)))


def test_a_teacher_that_cannot_be_asked_is_found_before_any_image_is_read(
    config: TrainConfig, tmp_path: Path
) -> None:
    (tmp_path / "text.onnx").write_text("no model")
    for changes, said in (
        ({"image_size": (48, 48)}, "takes images of 32x32: give --image-size"),
        ({"teachers": (tmp_path / "none.onnx",)}, "none.onnx"),
        ({"teachers": (tmp_path / "text.onnx",)}, "text.onnx"),
    ):
        asked = dataclasses.replace(config, data=tmp_path / "nowhere", **changes)
        with pytest.raises(DataError, match=f"--teachers: .*{re.escape(said)}"):
            train(asked)
    assert not config.run_folder.exists()


def test_another_teacher_of_the_same_name_is_another_run(
    config: TrainConfig, dataset: Dataset, tmp_path: Path, trained_model: TrainedModel
) -> None:
    """And the same one in another place is not."""
    paths = [tmp_path / name / "teacher.onnx" for name in "ab"]
    for path in paths:
        path.parent.mkdir()
        path.write_bytes(trained_model.path.read_bytes())
    config = dataclasses.replace(config, teachers=(paths[0],), epochs=1)
    fit(config, dataset)
    saved = checkpoint.load(config.run_folder)
    fit(dataclasses.replace(config, teachers=(paths[1],)), dataset, saved)
    model = onnx.load(paths[1])
    model.doc_string = "another"
    onnx.save(model, paths[1])

    with pytest.raises(RunError, match="other teachers"):
        fit(dataclasses.replace(config, teachers=(paths[1],)), dataset, saved)
