import argparse
import dataclasses
import shlex
from pathlib import Path
from typing import Any

import pytest

from training.architectures import ARCHITECTURES
from training.config import (
    CHOSEN,
    OPTIMIZERS,
    WITH_OPTIMIZER,
    TrainConfig,
    add_options,
    from_options,
)
from training.errors import ConfigError
from training.recipes import RECIPES


def parsed(*words: str) -> TrainConfig:
    parser = argparse.ArgumentParser()
    add_options(parser)
    return from_options(vars(parser.parse_args(words)))


def test_no_options_are_the_defaults() -> None:
    assert parsed() == TrainConfig()


def test_data_alone_means_a_folder() -> None:
    assert parsed("--data", "photos").dataset == "folder"
    assert parsed("--data", "photos", "--dataset", "cifar10").dataset == "cifar10"


@pytest.mark.parametrize(
    "words",
    [
        "--dataset cifar10 --architecture basic --epochs 3 --no-flip --seed 7",
        "--dataset folder --data 'my photos' --image-size 48x64 --resize crop --strict",
        "--learning-rate 0.01 --output a/b.onnx --run c --name x --model-version 1.2",
        "--teachers a.onnx 'my runs/b.onnx' --teaching 0.5",
    ],
)
def test_the_command_on_the_card_makes_the_same_configuration(words: str) -> None:
    config = parsed(*shlex.split(words))

    assert parsed(*shlex.split(config.command())[3:]) == config


def test_nothing_published_names_a_folder_of_this_machine(tmp_path: Path) -> None:
    config = TrainConfig(
        dataset="folder",
        data=tmp_path / "photos",
        output=Path("..") / "secret" / "model.onnx",
        run=tmp_path / "run",
        teachers=(tmp_path / "teacher.onnx", Path("runs/other.onnx")),
    )

    published = f"{config.command()} {config.published()}"

    assert str(tmp_path) not in published
    assert "secret" not in published
    assert config.published()["data"] == "photos"
    assert config.published()["output"] == "model.onnx"
    assert config.published()["teachers"] == ["teacher.onnx", "runs/other.onnx"]


def test_relative_paths_are_published_as_typed() -> None:
    config = TrainConfig(dataset="cifar10", data=Path("data/cifar10"))

    assert "--data data/cifar10" in config.command()


def test_identity_leaves_out_what_the_weights_do_not_depend_on() -> None:
    first = TrainConfig(output=Path("a.onnx"), name="a", strict=True)

    assert first.identity() == TrainConfig().identity()
    assert first.identity() != TrainConfig(seed=1).identity()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"architecture": "basik"}, "--architecture: 'basik' is not one of: basic"),
        ({"dataset": "cifar"}, "--dataset: 'cifar' is not one of: cifar10, folder"),
        ({"resize": "fit"}, "--resize: 'fit' is not one of: stretch, crop"),
        ({"dataset": "folder"}, "--dataset folder needs --data"),
        ({"epochs": 0}, "--epochs: 0 is below 1"),
        ({"learning_rate": float("nan")}, "--learning-rate: nan is below"),
        ({"validation_fraction": 0.9}, "--validation-fraction: 0.9 is above 0.5"),
        ({"image_size": (15, 32)}, "--image-size: 15x32 does not fit architecture basic"),
        ({"image_size": (32, 4000)}, "--image-size: 32x4000"),
        ({"architecture": "small", "image_size": (16, 64)}, "each side must be 18 to 512"),
        ({"architecture": "small", "image_size": (32, 128)}, "each side must be 36 to 512"),
        ({"depth": 5}, "basic at --depth 5: each side must be 34 to 512"),
        ({"activation": "silu"}, "--activation: basic has relu only"),
        ({"symmetric": True}, "--symmetric: basic cannot be; small, fast, deep can"),
        ({"branches": 2}, "--branches: basic has one; small, fast, deep can have more"),
        ({"shift": 32}, "--shift: 32 pixels"),
        ({"cutout": 32}, "--cutout: 32 pixels"),
        ({"start_scale": 0.5}, "--start-scale: basic takes one size only; small, fast"),
        ({"architecture": "small", "image_size": (16, 16), "start_scale": 0.5}, "0.5 of 16x16"),
        (
            {"architecture": "small", "image_size": (64, 64), "start_scale": 0.25},
            "0.25 of 64x64 is too small for small, which needs 18 pixels",
        ),
        ({"data": Path("a"), "output": Path("a/b/c.onnx")}, "--run: a/b/c lies in a,"),
        ({"data": Path("a/b"), "output": Path("a/b.onnx")}, "--run: a/b lies in a/b,"),
        ({"optimizer": "adam"}, "--optimizer: 'adam' is not one of: adamw, sgd, lion, muon"),
        ({"loss": "hinge"}, "--loss: 'hinge' is not one of: cross-entropy, squared-error"),
        ({"schedule": "step"}, "--schedule: 'step' is not one of: cosine, triangular, constant"),
        ({"output": Path("model")}, "--output: model needs a suffix"),
    ],
)
def test_a_value_that_cannot_work_is_named(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError) as error:
        TrainConfig(**options)

    assert named in str(error.value)


def test_a_recipe_stands_between_the_defaults_and_what_is_asked_for() -> None:
    config = parsed("--architecture", "small", "--epochs", "3")

    assert config.optimizer == RECIPES["small"]["optimizer"]
    assert config.epochs == 3
    assert config.command().endswith("--architecture small --epochs 3")


def test_help_tells_the_recipes(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add_options(parser)
    parser.print_help()

    text = " ".join(capsys.readouterr().out.split())
    assert "(default: 128; small, fast, deep: 512; with --data alone" in text
    assert "(default: no; small, fast, deep: yes)" in text


def test_help_tells_what_the_images_and_the_optimizer_decide() -> None:
    parser = argparse.ArgumentParser()
    add_options(parser)

    helps = {action.dest: str(action.help) for action in parser._actions}

    chosen = {name for name, text in helps.items() if text.endswith("chosen from the images)")}
    assert chosen == set(CHOSEN)
    rates = "architecture's: adamw 0.002, sgd 0.05, lion 0.0003, muon 0.1"
    assert rates in helps["learning_rate"]


@pytest.mark.parametrize("architecture", RECIPES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_an_optimizer_comes_with_its_rate(architecture: str, optimizer: str) -> None:
    words = ["--architecture", architecture, "--optimizer", optimizer]

    config = parsed(*words)

    recipe = parsed("--architecture", architecture)
    if optimizer == recipe.optimizer:
        assert config == recipe
    else:
        assert config.learning_rate == WITH_OPTIMIZER[optimizer]["learning_rate"]
        assert config.bias_rate == WITH_OPTIMIZER[optimizer]["bias_rate"]
    assert parsed(*shlex.split(config.command())[3:]) == config
    given = parsed(*words, "--learning-rate", "0.1", "--bias-rate", "0.1")
    assert (given.learning_rate, given.bias_rate) == (0.1, 0.1)
    assert parsed(*shlex.split(given.command())[3:]) == given


def test_every_optimizer_has_a_rate() -> None:
    assert tuple(WITH_OPTIMIZER) == OPTIMIZERS


@pytest.mark.parametrize("recipe", RECIPES.values())
def test_recipes_are_of_options(recipe: dict[str, Any]) -> None:
    assert recipe.keys() <= {item.name for item in dataclasses.fields(TrainConfig)}


def test_every_architecture_has_a_recipe() -> None:
    assert RECIPES.keys() == ARCHITECTURES.keys()
    for name in RECIPES:
        assert parsed("--architecture", name).architecture == name


@pytest.mark.parametrize("size", ["large", "32x", "x32", "3x3x3"])
def test_a_size_that_is_none_is_named(size: str) -> None:
    with pytest.raises(ConfigError, match="--image-size"):
        parsed("--image-size", size)
