"""Training from pretrained weights: the last layer first, then everything, the better is kept."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from tests.training.conftest import in_memory
from training import pipeline
from training.config import TrainConfig
from training.data.loading import load
from training.errors import WeightsError
from training.fitting import checkpoint
from training.fitting.head import features_of, fit_head
from training.fitting.loop import fit
from training.fitting.optimizers import groups
from training.fitting.state import start
from training.networks import pretrained
from training.networks.inference import predict_logits


@pytest.fixture
def config(config: TrainConfig) -> TrainConfig:
    return dataclasses.replace(
        config, architecture="efficientnet-lite0", image_size=(64, 64), epochs=1, patience=1
    )


def test_the_last_layer_alone_is_an_answer(config: TrainConfig) -> None:
    dataset = in_memory(load(config))
    model = start(config, dataset).model
    before = features_of(model, dataset.train.images)

    fit_head(model, dataset.train)

    np.testing.assert_array_equal(features_of(model, dataset.train.images), before)
    for split in (dataset.train, dataset.test):
        answers = predict_logits(model, split.images).argmax(axis=1)
        assert (answers == split.targets).mean() > 0.8


def test_weights_that_learning_spoils_are_not_kept(config: TrainConfig) -> None:
    spoiling = dataclasses.replace(config, learning_rate=10.0)
    dataset = in_memory(load(spoiling))
    alone = start(spoiling, dataset).model
    fit_head(alone, dataset.train)

    model = fit(spoiling, dataset)

    images = dataset.validation.images
    np.testing.assert_allclose(predict_logits(model, images), predict_logits(alone, images))
    saved = checkpoint.load(spoiling.run_folder)
    assert saved is not None
    assert saved.log[0].validation_loss > saved.start_loss


def test_rates_fall_towards_the_image(config: TrainConfig) -> None:
    model = start(config, in_memory(load(config))).model
    peaks = {v.path: group.peak for group in groups(config, model) for v in group.variables}

    still = ("stem", "block0_", "block1_", "block2_")
    assert set(peaks) == {v.path for v in model.trainable_variables if not v.path.startswith(still)}
    assert peaks["logits/kernel"] == config.learning_rate * config.bias_rate
    order = ["block3_expand", "block5_expand", "block15_project", "head", "logits"]
    rates = [peaks[f"{name}/bias"] for name in order]
    assert rates == sorted(rates)
    assert rates[0] < rates[-1] / 3


def test_the_card_names_the_initial_weights(config: TrainConfig) -> None:
    card = pipeline.train(config)

    assert card.provenance.initial_weights == pretrained.ABOUT
    assert "Apache-2.0" in pretrained.ABOUT


def test_a_file_that_was_changed_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / pretrained.FILE
    file.parent.mkdir()
    file.write_bytes(b"something else")
    monkeypatch.setattr(pretrained, "_file", lambda: file)

    with pytest.raises(WeightsError, match="is not the file that was published"):
        pretrained.tensors()
