"""The fields of TrainConfig as options: read from words and TOML files, and written as both."""

from __future__ import annotations

import argparse
import dataclasses
import json
import shlex
import tomllib
from pathlib import Path
from typing import Any, NoReturn

from training.architectures import ARCHITECTURES
from training.config import (
    SWITCH,
    Kind,
    TrainConfig,
    flag_of,
    publishable,
    size_text,
    usual_options,
)
from training.errors import ConfigError

RUN_FILE = "run.toml"


class Parser(argparse.ArgumentParser):
    """As argparse's, without its page of all options in front of every mistake."""

    def error(self, message: str) -> NoReturn:
        """Raise ConfigError, whose message names the option."""
        raise ConfigError(f"{message.removeprefix('argument ')} (see {self.prog} --help)")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give the parser one option for each field of TrainConfig, in the fields' groups."""
    groups: dict[str, Any] = {}
    for item in dataclasses.fields(TrainConfig):
        group = item.metadata["group"]
        if group not in groups:
            groups[group] = parser.add_argument_group(group)
        groups[group].add_argument(flag_of(item.name), **_argument(item))


def _argument(item: dataclasses.Field[Any]) -> dict[str, Any]:
    """What argparse is told of an option."""
    kind: Kind = item.metadata["kind"]
    about = {
        "dest": item.name,
        "default": argparse.SUPPRESS,
        "help": (item.metadata["help"] + _defaults(item)).replace("%", "%%"),
    }
    if kind is SWITCH:
        return {**about, "action": argparse.BooleanOptionalAction}
    about["metavar"] = "|".join(item.metadata["choices"]) or kind.metavar
    if kind.many:
        return {**about, "type": kind.parse, "nargs": "+", "action": _StoreTuple}
    return {**about, "type": kind.parse}


class _StoreTuple(argparse.Action):
    """Keeps several values as a tuple."""

    def __call__(
        self, _parser: Any, namespace: argparse.Namespace, values: Any, _flag: str | None = None
    ) -> None:
        setattr(namespace, self.dest, tuple(values))


def _defaults(item: dataclasses.Field[Any]) -> str:
    """The option's own default, and where it has another: `(default: 1; small: 2)`."""
    by_value: dict[str, list[str]] = {}
    for name, architecture in ARCHITECTURES.items():
        value = architecture.options.get(item.name, item.default)
        if value != item.default:
            by_value.setdefault(_shown(value), []).append(name)
    parts = [f"{', '.join(names)}: {value}" for value, names in by_value.items()]
    general = _shown(item.default)
    if general and (parts or item.default is not False):
        parts.insert(0, general)
    if item.metadata["chosen"]:
        parts.append("with --data alone: chosen from the images")
    return f" (default: {'; '.join(parts)})" if parts else ""


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value in (None, ()) else str(publishable(value))


def command(config: TrainConfig) -> str:
    """A command that makes this configuration, but for absolute paths (see `publishable`)."""
    words = ["python", "-m", "training"]
    usual = usual_options(config.architecture)
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        flag = flag_of(item.name)
        is_named = item.name in ("dataset", "architecture")
        if value == usual.get(item.name, item.default) and not is_named:
            continue
        if isinstance(value, bool):
            words.append(flag if value else "--no-" + flag[2:])
        else:
            plain = publishable(value)
            words += [flag, *(plain if isinstance(plain, list) else [str(plain)])]
    return shlex.join(words)


def read_toml(path: Path) -> dict[str, Any]:
    """The options that a TOML file gives, by their fields' names.

    Keys are options' names, with dashes or underscores. Relative paths are below the working
    folder, as on the command line.

    Raises:
        ConfigError: the file cannot be read, is not TOML, or has a key that is no option or a value
            of the wrong type; the key is named.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))  # Windows' editors mark it
    except (OSError, ValueError) as error:  # both decoders' errors are ValueErrors
        raise ConfigError(f"--config: {path} cannot be read: {error}") from error
    fields = {item.name: item for item in dataclasses.fields(TrainConfig)}
    options: dict[str, Any] = {}
    for key, value in content.items():
        name = key.replace("-", "_")
        if name not in fields:
            raise ConfigError(f"--config: {path}: {key!r} is not an option")
        if name in options:
            raise ConfigError(f"--config: {path}: {key!r} is there twice")
        options[name] = _from_toml(fields[name].metadata["kind"], value, f"{path}: {key!r}")
    return options


def _from_toml(kind: Kind, value: Any, where: str) -> Any:
    values = value if kind.many and isinstance(value, list) else [value]
    # Exact types: to Python True is an int.
    if kind.many is not isinstance(value, list) or any(type(x) not in kind.types for x in values):
        raise ConfigError(f"--config: {where} must be {kind.name}, not {value!r}")
    parsed = tuple(map(kind.parse, values))
    return parsed if kind.many else parsed[0]


def to_toml(config: TrainConfig) -> bytes:
    """The whole configuration, for `read_toml`; an option that has no value is left out."""
    lines = ["# Repeats this run: python -m training --config and this file."]
    group = ""
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        if item.metadata["group"] != group:
            group = item.metadata["group"]
            lines += ["", f"# {group}"]
        if value is not None:
            lines.append(f"{item.name.replace('_', '-')} = {_toml(item.metadata['kind'], value)}")
    # A path that is not in Unicode is written as it is, and refused when the file is read.
    return ("\n".join(lines) + "\n").encode("utf-8", "surrogateescape")


def _toml(kind: Kind, value: Any) -> str:
    if kind.many:
        one = dataclasses.replace(kind, many=False)
        return f"[{', '.join(_toml(one, item) for item in value)}]"
    if isinstance(value, tuple):
        value = size_text(value)
    # JSON's numbers, booleans and strings are TOML's, but for one control character.
    plain = value if isinstance(value, (bool, int, float)) else str(value)
    return json.dumps(plain, ensure_ascii=False).replace("\x7f", "\\u007f")
