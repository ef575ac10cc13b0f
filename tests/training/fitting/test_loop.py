import dataclasses
import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from tqdm import tqdm

from tests.training.conftest import TrainedModel, in_memory
from training.config import TrainConfig
from training.data.dataset import Dataset
from training.data.loading import load
from training.errors import FitError, RunError, Stopped
from training.fitting import budget, checkpoint, loop, state, step
from training.fitting.checkpoint import Checkpoint
from training.fitting.distillation import Teachers
from training.fitting.loop import fit
from training.networks import building, inference, whitening
from training.networks.inference import predict_logits


@pytest.fixture
def dataset(config: TrainConfig) -> Dataset:
    return load(config)


def saved_in(config: TrainConfig) -> Checkpoint:
    saved = checkpoint.load(config.run_folder)
    assert saved is not None
    return saved


def in_folder(config: TrainConfig, folder: Path) -> TrainConfig:
    return dataclasses.replace(config, run=folder)


def assert_same_weights(first: keras.Model, second: keras.Model, *, same: bool = True) -> None:
    pairs = zip(first.get_weights(), second.get_weights(), strict=True)
    assert all(np.array_equal(a, b) for a, b in pairs) is same


def test_it_learns(config: TrainConfig, dataset: Dataset) -> None:
    config = dataclasses.replace(config, epochs=12, learning_rate=0.005)

    model = fit(config, dataset)

    log = saved_in(config).log
    assert [row.epoch for row in log] == list(range(1, 13))
    assert log[-1].loss < log[0].loss / 2
    answers = predict_logits(model, dataset.test.images).argmax(axis=1)
    assert (answers == dataset.test.targets).mean() >= 0.8


def test_the_same_seed_gives_the_same_weights(
    config: TrainConfig, dataset: Dataset, tmp_path: Path
) -> None:
    first = fit(in_folder(config, tmp_path / "1"), dataset)
    second = fit(in_folder(config, tmp_path / "2"), dataset)
    other = fit(in_folder(dataclasses.replace(config, seed=1), tmp_path / "3"), dataset)

    assert_same_weights(first, second)
    assert_same_weights(first, other, same=False)


@pytest.mark.parametrize("stop_at", [1, 2, 5])
def test_a_stopped_run_continues_to_the_same_weights(
    config: TrainConfig,
    dataset: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stop_at: int,
) -> None:
    # Of two steps each; of the first epoch's losses depends what the second takes.
    config = dataclasses.replace(config, epochs=3, prune_easy=0.3)
    whole = fit(in_folder(config, tmp_path / "whole"), dataset)
    stopped = in_folder(config, tmp_path / "stopped")
    build_step = step.training_step

    def stopping_step(of: state.TrainingState, teachers: Teachers) -> Any:
        compute, taken = build_step(of, teachers), 0

        def counted(*batch: Any) -> Any:
            nonlocal taken
            taken += 1
            if taken > stop_at:
                raise KeyboardInterrupt
            return compute(*batch)

        return counted

    with monkeypatch.context() as patch:
        patch.setattr(loop, "training_step", stopping_step)
        with pytest.raises(Stopped, match=f"epoch {stop_at // 2} of 3 .*--resume"):
            fit(stopped, dataset)
    resumed = fit(stopped, dataset, saved_in(stopped))

    assert_same_weights(whole, resumed)
    assert_same_logs(saved_in(in_folder(config, tmp_path / "whole")), saved_in(stopped))


def test_bfloat16_takes_nearly_the_same_steps(
    config: TrainConfig, dataset: Dataset, tmp_path: Path
) -> None:
    config = dataclasses.replace(config, epochs=1)
    coarse = in_folder(dataclasses.replace(config, precision="bfloat16"), tmp_path / "coarse")
    usual = in_folder(config, tmp_path / "usual")

    assert_same_weights(fit(coarse, dataset), fit(usual, dataset), same=False)

    losses = [saved_in(of).log[0].loss for of in (coarse, usual)]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)


def assert_same_logs(first: Checkpoint, second: Checkpoint) -> None:
    first_log, second_log = (
        [dataclasses.replace(row, seconds=0, waiting=0) for row in saved.log]
        for saved in (first, second)
    )
    assert first_log == second_log


def test_dropout_goes_on_where_it_was(config: TrainConfig, dataset: Dataset) -> None:
    """The generator's state is among the variables that a checkpoint has."""
    before = state.start(config, dataset)
    states = [v for v in before.model.variables if "seed_generator" in v.path]

    fit(config, dataset)

    assert len(states) == 1
    index = [v.path for v in before.variables].index(states[0].path)
    assert not np.array_equal(saved_in(config).variables[index], states[0].numpy())


def test_other_images_are_not_resumed(config: TrainConfig, dataset: Dataset) -> None:
    fit(config, dataset)
    other = in_memory(dataset)
    images = np.asarray(other.train.images)
    images[0] ^= 1

    with pytest.raises(RunError, match="other images"):
        fit(config, other, saved_in(config))


def test_a_run_starts_from_the_weights_of_another(
    config: TrainConfig, dataset: Dataset, tmp_path: Path
) -> None:
    before = in_folder(config, tmp_path / "before")
    first = fit(before, dataset)
    # A rate of next to nothing leaves the weights where they began.
    still = dataclasses.replace(
        config, epochs=1, learning_rate=1e-8, initial_weights=before.run_folder
    )

    second = fit(in_folder(still, tmp_path / "after"), dataset)

    assert_same_weights(first, second, same=False)
    answers = [predict_logits(model, dataset.test.images) for model in (first, second)]
    np.testing.assert_allclose(answers[0], answers[1], atol=1e-3)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"width": 0.5}, "has other width$"),
        ({"seed": 1}, "has other images$"),
        ({}, "there is no checkpoint"),
    ],
)
def test_weights_of_other_runs_are_not_taken(
    config: TrainConfig, tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    before = in_folder(config, tmp_path / "before")
    if changes:
        fit(before, load(config))
    later = dataclasses.replace(config, initial_weights=before.run_folder, **changes)

    with pytest.raises(RunError, match=reason):
        fit(in_folder(later, tmp_path / "after"), load(later))


def test_a_run_folder_that_cannot_be_written_stops_at_once(
    config: TrainConfig, dataset: Dataset, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(RunError, match="file"):
        fit(in_folder(config, tmp_path / "file"), dataset)


def test_a_loss_that_is_no_number_is_said(config: TrainConfig, dataset: Dataset) -> None:
    config = dataclasses.replace(config, learning_rate=1e30)

    with pytest.raises(FitError, match="--learning-rate"):
        fit(config, dataset)


def test_channel_statistics_are_exact() -> None:
    images = np.random.default_rng(0).integers(0, 256, (50, 8, 9, 3), np.uint8)
    images[..., 2] = 7

    mean, deviation = building.channel_statistics(images)

    np.testing.assert_allclose(mean, images.mean(axis=(0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(deviation[:2], images.std(axis=(0, 1, 2))[:2], rtol=1e-6)
    assert deviation[2] == 1


def test_the_first_layer_is_made_from_images_of_all_labels(
    config: TrainConfig, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampled: list[Any] = []

    moments = whitening.patch_moments

    def watched(images: Any, *rest: Any) -> Any:
        sampled.extend(images)
        return moments(images, *rest)

    monkeypatch.setattr(whitening, "patch_moments", watched)
    monkeypatch.setattr(building, "SAMPLE", 20)  # of 27

    building.pixel_statistics(small(config), dataset.train.images)

    labels = {
        image.tobytes(): label
        for image, label in zip(dataset.train.images[:], dataset.train.targets, strict=True)
    }
    assert len(sampled) == 20
    assert np.bincount([labels[image.tobytes()] for image in sampled]).min() >= 6


def test_logits_do_not_depend_on_the_batch(
    config: TrainConfig, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = state.start(config, dataset).model
    images = dataset.train.images
    together = predict_logits(model, images)
    monkeypatch.setattr(inference, "LARGEST_BATCH", 4)

    np.testing.assert_allclose(predict_logits(model, images), together, atol=1e-5)


def test_the_checkpoint_knows_its_run(config: TrainConfig, dataset: Dataset) -> None:
    fit(config, dataset)

    identity = saved_in(config).identity
    of_content = {"images": dataset.digest(), "teachers": []}
    assert json.loads(json.dumps(identity)) == {**config.identity(), **of_content}


def small(config: TrainConfig, **changes: Any) -> TrainConfig:
    """A tiny staged network with everything that a run can have."""
    asked: dict[str, Any] = {"architecture": "small", "width": 0.1, "learning_rate": 0.1}
    return dataclasses.replace(config, **asked, **changes)


def test_all_together_resumes_to_the_same_weights(
    config: TrainConfig, tmp_path: Path, trained_model: TrainedModel
) -> None:
    """Muon, mirrored filters, branches, pruning, the best weights, a teacher: all comes back."""
    config = small(config, mirrored_filters=True, branches=2, prune_easy=0.3, patience=3, epochs=4)
    config = dataclasses.replace(config, image_size=(32, 32), teachers=(trained_model.path,))
    dataset = load(config)
    kept: list[Checkpoint] = []
    save = checkpoint.save

    def saving(state: Checkpoint, folder: Path) -> None:
        kept.append(state)
        save(state, folder)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "save", saving)
        whole = fit(in_folder(config, tmp_path / "whole"), dataset)
    assert [each.epochs for each in kept] == [0, 1, 2, 3, 4]
    resumed = fit(in_folder(config, tmp_path / "resumed"), dataset, kept[2])

    assert_same_weights(whole, resumed)
    assert not any(each.finished for each in kept[:-1])
    assert kept[-1].finished


def test_patience_stops_and_keeps_the_best(config: TrainConfig, dataset: Dataset) -> None:
    config = dataclasses.replace(config, patience=2, epochs=50, learning_rate=0.02)

    model = fit(config, dataset)

    saved = saved_in(config)
    losses = [row.validation_loss for row in saved.log]
    assert len(losses) < 50
    assert losses.index(min(losses)) == len(losses) - 3
    assert saved.finished
    logits = predict_logits(model, dataset.validation.images)
    rows = np.arange(len(logits))
    logits -= logits.max(axis=1, keepdims=True)
    exact = np.log(np.exp(logits).sum(axis=1)) - logits[rows, dataset.validation.targets]
    assert exact.mean() == pytest.approx(min(losses), rel=1e-3, abs=1e-6)


class Ticking:
    """A clock on which every look takes a second, however busy the machine is."""

    def __init__(self) -> None:
        self._now = 0.0

    def monotonic(self) -> float:
        self._now += 1
        return self._now


def test_a_time_budget_ends_the_run_with_its_schedule(
    config: TrainConfig, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = dataclasses.replace(config, epochs=10**6, max_minutes=1)
    monkeypatch.setattr(budget, "SPARE_SECONDS", 0.0)
    monkeypatch.setattr(budget, "time", Ticking())

    fit(config, dataset, started=0.0)

    saved = saved_in(config)
    assert saved.finished
    assert 5 < saved.epochs < 60 / 4  # a step looks at the clock twice, an epoch has two steps
    assert saved.log[-1].learning_rate < 0.05 * config.learning_rate
    assert max(row.learning_rate for row in saved.log) > 0.9 * config.learning_rate


def test_muon_learns(config: TrainConfig, dataset: Dataset) -> None:
    config = dataclasses.replace(small(config), width=0.25, bias_rate=0.1, epochs=12)

    fit(config, dataset)

    log = saved_in(config).log
    assert log[-1].loss < 0.5 * log[0].loss
    assert log[-1].accuracy > 0.6


class Clock:
    """A pace whose time is over when it has been asked so often."""

    def __init__(self, asked: int) -> None:
        self.steps, self._left = 20, asked

    def share(self, step: float) -> float:
        self._left -= 1
        return step / self.steps if self._left >= 0 else 1.0


def test_an_epoch_without_a_step_is_none(
    config: TrainConfig, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step asks twice, the end of an epoch once; there are two steps in an epoch."""
    config = dataclasses.replace(config, epochs=10, max_minutes=1.0)
    monkeypatch.setattr(loop, "pace_of", lambda *_: Clock(5))

    fit(config, dataset)

    (row,) = saved_in(config).log
    assert row.loss > 0
    assert saved_in(config).finished
    monkeypatch.setattr(loop, "pace_of", lambda *_: Clock(0))
    with pytest.raises(FitError, match="--max-minutes"):
        fit(config, dataset)


def test_integers_take_longer_to_export(config: TrainConfig, dataset: Dataset) -> None:
    seconds = []
    for quantize in (False, True):
        started = state.start(dataclasses.replace(config, quantize=quantize), dataset)
        seconds.append(budget.export_seconds(started) - budget.SPARE_SECONDS)

    assert seconds[1] > 10 * seconds[0]  # of a data set as small as this


def test_the_bar_shows_how_it_goes(
    config: TrainConfig, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[dict[str, Any]] = []

    class Bar(tqdm):  # type: ignore[misc]
        def set_postfix(self, **values: Any) -> None:
            values.pop("refresh")
            shown.append(values)

    monkeypatch.setattr("training.progress.tqdm", Bar)

    fit(config, dataset)

    assert len(shown) == 4
    first, second = (float(values["accuracy"]) for values in shown[:2])
    assert first == pytest.approx(round(first * 14) / 14, abs=5e-4)  # of 27 images in two steps
    assert second == pytest.approx(saved_in(config).log[0].accuracy, abs=5e-4)


def test_a_budget_that_is_none_is_said(config: TrainConfig, dataset: Dataset) -> None:
    with pytest.raises(FitError, match="--max-minutes"):
        fit(dataclasses.replace(config, max_minutes=0.1), dataset)


def test_the_log_tells_how_long_images_were_waited_for(
    config: TrainConfig, dataset: Dataset
) -> None:
    fit(config, dataset)

    assert all(0 <= row.waiting < 0.5 for row in saved_in(config).log)
