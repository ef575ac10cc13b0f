import dataclasses
from pathlib import Path
from typing import Any

import pytest

from training.architectures import ARCHITECTURES, KERAS, Architecture
from training.config import TrainConfig, from_options
from training.errors import ConfigError


def test_data_alone_means_a_folder() -> None:
    data = Path("photos")

    assert from_options({"data": data}).dataset == "folder"
    assert from_options({"data": data, "dataset": "cifar10"}).dataset == "cifar10"
    assert from_options({}).dataset == "cifar10"


def test_identity_leaves_out_what_the_weights_do_not_depend_on() -> None:
    first = TrainConfig(output=Path("a.onnx"), name="a", strict=True)

    assert first.identity() == TrainConfig().identity()
    assert first.identity() != TrainConfig(seed=1).identity()


def test_identity_and_card_have_the_recipe() -> None:
    config = TrainConfig(architecture="small")

    for values in (config.identity(), config.published()):
        assert values["recipe"]["optimizer"] == "muon"
        assert values["recipe"]["schedule"] == "linear"


def test_weights_fit_where_the_network_is_the_same() -> None:
    config = TrainConfig(architecture="small", branches=2)

    assert config.network_identity() == {
        "architecture": "small",
        "backbone": None,
        "width": 1.0,
        "branches": 2,
        "mirrored_filters": False,
    }


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"architecture": "basik"}, "--architecture: 'basik' is not one of: basic"),
        ({"dataset": "cifar"}, "--dataset: 'cifar' is not one of: cifar10, folder"),
        ({"resize": "fit"}, "--resize: 'fit' is not stretch, crop, or crop with a share"),
        ({"dataset": "folder"}, "--dataset folder needs --data"),
        ({"epochs": 0}, "--epochs: 0 is below 1"),
        ({"learning_rate": float("nan")}, "--learning-rate: nan is below"),
        ({"validation_fraction": 0.9}, "--validation-fraction: 0.9 is above 0.5"),
        ({"image_size": (15, 32)}, "--image-size: 15x32 does not fit architecture basic"),
        ({"image_size": (32, 4000)}, "--image-size: 32x4000"),
        ({"architecture": "small", "image_size": (16, 64)}, "each side must be 18 to 512"),
        ({"architecture": "small", "image_size": (32, 128)}, "each side must be 36 to 512"),
        ({"mirrored_filters": True}, "--mirrored-filters: basic cannot have them; small, fast"),
        ({"branches": 2}, "--branches: basic has one; small, fast, deep can have more"),
        ({"backbone": "keras:MobileNet"}, "takes the place of --architecture basic: give one"),
        (
            {"architecture": "keras", "image_size": (96, 96)},
            "--architecture keras needs --backbone",
        ),
        ({"shift": 32}, "--shift: 32 pixels"),
        ({"cutout": 32}, "--cutout: 32 pixels"),
        (
            {"data": Path("a"), "output": Path("a/b/c.onnx")},
            "--output: the run folder a/b/c.run lies in a,",
        ),
        ({"data": Path("a/b"), "run": Path("a/b")}, "--run: the run folder a/b lies in a/b,"),
        ({"loss": "hinge"}, "--loss: 'hinge' is not one of: cross-entropy, squared-error"),
        ({"output": Path("model")}, "--output: model needs a suffix"),
    ],
)
def test_a_value_that_cannot_work_is_named(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError) as error:
        TrainConfig(**options)

    assert named in str(error.value)


def test_an_architectures_options_stand_between_the_defaults_and_what_is_asked_for() -> None:
    config = from_options({"architecture": "small", "epochs": 3})

    assert config.learning_rate == ARCHITECTURES["small"].options["learning_rate"]
    assert config.learning_rate != TrainConfig.learning_rate
    assert config.epochs == 3


@pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=str)
def test_an_architectures_options_exist_and_work(architecture: Architecture) -> None:
    assert architecture.options.keys() <= {item.name for item in dataclasses.fields(TrainConfig)}
    backbone = {"backbone": "keras:MobileNet"} if architecture.name == KERAS else {}
    config = from_options({"architecture": architecture.name, **backbone})
    assert config.recipe is architecture.recipe


def test_a_backbone_means_its_architecture() -> None:
    config = from_options({"backbone": "keras:MobileNet"})

    assert config.architecture == KERAS
    assert config.image_size == (128, 128)
    assert config.network.is_pretrained
