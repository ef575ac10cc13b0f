"""HTML from the templates beside this file, safe by construction: all values are escaped.

There is no script, and the page forbids itself to load anything that it does not hold.
"""

from __future__ import annotations

import functools
import unicodedata
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from training.atomic_files import make_folder, write_whole
from training.errors import ExportError
from training.report.images import data_uri, png


def render(template: str, **values: Any) -> Markup:
    """A template with its values; a value that is missing is an error."""
    text = _environment().get_template(template).render(values)
    return Markup(text)  # noqa: S704 - the template has escaped all values


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count": "{:,}".format,
        "data_uri": data_uri,
        "percent": percent,
        "plain": plain,
        "png": png,
        "times": times,
    }
    return environment


def write(path: Path, text: str) -> None:
    """Write the page, whole or not at all. Raises ExportError."""
    try:
        make_folder(path.parent)
        write_whole(path, text.encode("utf-8", "replace"))
    except OSError as error:
        raise ExportError(f"page {path} cannot be written: {error.strerror or error}") from error


def plain(text: str) -> str:
    """Text from outside without what cannot be shown or written: line ends, surrogates and such."""
    shown = (unicodedata.category(c) not in ("Cc", "Cs", "Zl", "Zp") for c in text)
    return "".join(
        c if is_shown else "\N{REPLACEMENT CHARACTER}"
        for c, is_shown in zip(text, shown, strict=True)
    )


def percent(share: float, digits: int = 1) -> str:
    """0.9341 → "93.4 %", not broken over lines; never rounded up to all or down to nothing."""
    least = 10.0**-digits
    value = 100 * share
    if 0 < value < least / 2:
        shown = f"< {least:.{digits}f} %"
    elif 100 - least / 2 <= value < 100:
        shown = f"> {100 - least:.{digits}f} %"
    else:
        shown = f"{value:.{digits}f} %"
    return shown.replace(" ", "\N{NO-BREAK SPACE}")


def times(lengths: tuple[int, ...]) -> str:
    """(30, 30, 32) → "30x30x32", with the multiplication sign."""
    return "\N{MULTIPLICATION SIGN}".join(map(str, lengths))
