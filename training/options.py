"""A parser of command lines that says in one line what is wrong."""

from __future__ import annotations

import argparse
from typing import NoReturn

from training.errors import ConfigError


class Parser(argparse.ArgumentParser):
    """As argparse's, without its page of all options in front of every mistake."""

    def error(self, message: str) -> NoReturn:
        """Raise ConfigError, whose message names the option."""
        raise ConfigError(f"{message.removeprefix('argument ')} (see {self.prog} --help)")
