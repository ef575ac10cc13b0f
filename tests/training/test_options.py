import argparse
import dataclasses
import shlex
from pathlib import Path

import pytest

from training.config import TrainConfig, from_options
from training.errors import ConfigError
from training.options import add_options, command, read_toml, to_toml

EVERY_KIND = (
    "--dataset folder --data 'my photos' --image-size 48x64 --resize crop-0.875 --strict "
    "--architecture small --width 0.5 --mirrored-filters --epochs 3 --no-flip --seed 7 "
    "--teachers a.onnx 'my runs/b.onnx' --initial-weights runs/c --data-licence 'CC0 \"1.0\"\t\\'"
)


def parsed(*words: str) -> TrainConfig:
    parser = argparse.ArgumentParser()
    add_options(parser)
    return from_options(vars(parser.parse_args(words)))


def helps() -> dict[str, str]:
    parser = argparse.ArgumentParser()
    add_options(parser)
    return {action.dest: str(action.help) for action in parser._actions}


def test_no_options_are_the_defaults() -> None:
    assert parsed() == TrainConfig()


@pytest.mark.parametrize(
    "words",
    [
        "--dataset cifar10 --architecture basic --epochs 3 --no-flip --seed 7",
        "--learning-rate 0.01 --output a/b.onnx --run c --name x",
        "--architecture deep --bias-rate 1.0 --shift 3",
        "--data photos --backbone keras:MobileNet --learning-rate 0.001",
        EVERY_KIND,
    ],
)
def test_the_command_on_the_card_makes_the_same_configuration(words: str) -> None:
    config = parsed(*shlex.split(words))

    assert parsed(*shlex.split(command(config))[3:]) == config


def test_the_command_is_short() -> None:
    config = parsed("--architecture", "small", "--epochs", "3")

    assert command(config).endswith("--architecture small --epochs 3")


def test_nothing_published_names_a_folder_of_this_machine(tmp_path: Path) -> None:
    config = TrainConfig(
        dataset="folder",
        data=tmp_path / "photos",
        output=Path("..") / "secret" / "model.onnx",
        run=tmp_path / "run",
        teachers=(tmp_path / "teacher.onnx", Path("runs/other.onnx")),
    )

    published = f"{command(config)} {config.published()}"

    assert str(tmp_path) not in published
    assert "secret" not in published
    assert config.published()["data"] == "photos"
    assert config.published()["output"] == "model.onnx"
    assert config.published()["teachers"] == ["teacher.onnx", "runs/other.onnx"]


def test_relative_paths_are_published_as_typed() -> None:
    config = TrainConfig(dataset="cifar10", data=Path("data/cifar10"))

    assert "--data data/cifar10" in command(config)


def test_help_tells_the_architectures_defaults() -> None:
    told = "(default: 128; small, fast, deep: 512; efficientnet-lite0, keras: 32; with --data alone"
    assert told in helps()["batch_size"]


def test_help_tells_what_the_images_decide() -> None:
    named = {name for name, text in helps().items() if text.endswith("chosen from the images)")}

    chosen = {item.name for item in dataclasses.fields(TrainConfig) if item.metadata["chosen"]}
    assert named == chosen


def test_there_are_at_most_38_options() -> None:
    """The last ones are --backbone, whose names only Keras knows, and --examples, which only the
    images' owner can decide."""
    flags = ("--config", "--resume", "--restart")

    assert len(dataclasses.fields(TrainConfig)) + len(flags) <= 38


@pytest.mark.parametrize("size", ["large", "32x", "x32", "3x3x3"])
def test_a_size_that_is_none_is_named(size: str) -> None:
    with pytest.raises(ConfigError, match="--image-size"):
        parsed("--image-size", size)


@pytest.mark.parametrize(
    "words",
    ["", EVERY_KIND, "--backbone keras:MobileNet", "--data-licence 'by \x7f and \u732b'"],
)
def test_the_run_file_makes_the_same_configuration(words: str, tmp_path: Path) -> None:
    config = parsed(*shlex.split(words))
    (tmp_path / "run.toml").write_bytes(to_toml(config))

    options = read_toml(tmp_path / "run.toml")

    assert from_options(options) == config
    valued = {
        item.name for item in dataclasses.fields(config) if getattr(config, item.name) is not None
    }
    assert options.keys() == valued


def test_a_file_is_written_by_hand_too(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('image-size = 48\nlearning_rate = 1\nteachers = ["a.onnx"]\nflip = false\n')

    assert read_toml(path) == {
        "image_size": (48, 48),
        "learning_rate": 1.0,
        "teachers": (Path("a.onnx"),),
        "flip": False,
    }


def test_a_file_of_a_windows_editor(tmp_path: Path) -> None:
    """It may begin with a byte order mark."""
    path = tmp_path / "mine.toml"
    path.write_bytes(b"\xef\xbb\xbfepochs = 3\r\n")
    assert read_toml(path) == {"epochs": 3}


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"epoch = 3", "'epoch' is not an option"),
        (b"resume = true", "'resume' is not an option"),
        (b'epochs = "3"', "'epochs' must be a whole number, not '3'"),
        (b"epochs = 3.0", "'epochs' must be a whole number, not 3.0"),
        (b"epochs = true", "'epochs' must be a whole number, not True"),
        (b"flip = 1", "'flip' must be true or false, not 1"),
        (b'teachers = "a.onnx"', "'teachers' must be a list of paths, not 'a.onnx'"),
        (b"teachers = [1]", "'teachers' must be a list of paths, not [1]"),
        (b"data = ['a']", "'data' must be a path, not ['a']"),
        (b"[training]\nepochs = 3", "'training' is not an option"),
        (b"batch-size = 3\nbatch_size = 3", "'batch_size' is there twice"),
        (b'image-size = "wide"', "--image-size: 'wide' is not a size"),
        (b"epochs: 3", "cannot be read"),
        (b"name = '\xff'", "cannot be read"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(content: bytes, named: str, tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_bytes(content)

    with pytest.raises(ConfigError) as error:
        read_toml(tmp_path / "run.toml")

    assert named in str(error.value)


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--config: .*nowhere\.toml cannot be read"):
        read_toml(tmp_path / "nowhere.toml")


@pytest.mark.parametrize("bad", ["epochs = 0", 'architecture = "basik"'])
def test_a_value_that_cannot_work_is_named_as_on_the_command_line(bad: str, tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text(bad)

    with pytest.raises(ConfigError, match=rf"--{bad.split(maxsplit=1)[0]}: "):
        from_options(read_toml(tmp_path / "run.toml"))
