"""The page: HTML that is safe by construction, and everything inside the one file.

`Markup(...).format(...)` escapes whatever it is given that is not Markup itself, so names of labels
and files cannot become anything but text. There is no script; the page forbids itself to load
anything that it does not hold.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from markupsafe import Markup

from service.inference.contract import ModelCard
from training.atomic_files import write_whole
from training.errors import ExportError
from training.report.charts import Chart
from training.report.pictures import Pixels, data_uri, png

SMALL = 96  # pictures up to this side are enlarged with square pixels

_PAGE = Markup("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<header>
<h1>{heading}</h1>
<p class="soft">{about}</p>
</header>
<nav><ul>{links}</ul></nav>
<main>
{sections}
</main>
<footer>{footer}</footer>
</body>
</html>
""")


def page(
    heading: str, about: Markup, sections: Sequence[tuple[str, Markup]], footer: Markup
) -> str:
    """A whole page.

    Args:
        heading: plain text.
        about: the line below it.
        sections: titles, and what stands under them.
        footer: the last line.
    """
    style = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    text = _PAGE.format(
        title=plain(heading),
        heading=name(heading),
        style=Markup(style),  # noqa: S704 - our own file
        about=about,
        links=join(
            Markup('<li><a href="#{}">{}</a></li>').format(_anchor(title), title)
            for title, _ in sections
        ),
        sections=join(
            Markup('<section id="{}">\n<h2>{}</h2>\n{}\n</section>\n').format(
                _anchor(title), title, content
            )
            for title, content in sections
        ),
        footer=footer,
    )
    return str(text)


def write(path: Path, text: str) -> None:
    """Write the page, whole or not at all. Raises ExportError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, text.encode("utf-8", "replace"))
    except OSError as error:
        raise ExportError(f"page {path} cannot be written: {error.strerror or error}") from error


def join(parts: Iterable[Markup]) -> Markup:
    """Parts one after the other."""
    return Markup("\n").join(parts)


def plain(text: str) -> str:
    """Text from outside without what cannot be shown or written: line ends, surrogates and such."""
    shown = (unicodedata.category(c) not in ("Cc", "Cs", "Zl", "Zp") for c in text)
    return "".join(
        c if is_shown else "\N{REPLACEMENT CHARACTER}"
        for c, is_shown in zip(text, shown, strict=True)
    )


def name(text: str) -> Markup:
    """A name from outside: isolated, so that its direction of writing stays its own affair."""
    return Markup("<bdi>{}</bdi>").format(plain(text))


def clamped(text: str) -> Markup:
    """A name that may be long: a few lines of it, all of it for who points at it."""
    return Markup('<bdi class="clamp" title="{}">{}</bdi>').format(plain(text), plain(text))


def paragraph(text: str | Markup, kind: str = "") -> Markup:
    """A paragraph; kind "note" for what a reader must not miss, "soft" for what they may."""
    return Markup('<p class="{}">{}</p>').format(kind, text)


def heading(text: str | Markup) -> Markup:
    """A heading within a section."""
    return Markup("<h3>{}</h3>").format(text)


def division(kind: str, parts: Iterable[Markup]) -> Markup:
    """Parts laid out in a way that the style sheet knows by name."""
    return Markup('<div class="{}">\n{}\n</div>').format(kind, join(parts))


def picture(pixels: Pixels, about: str) -> Markup:
    """A picture; small ones are enlarged without smoothing."""
    height, width = pixels.shape[:2]
    return Markup('<img class="{}" src="{}" width="{}" height="{}" alt="{}">').format(
        "pixels" if max(height, width) <= SMALL else "",
        data_uri(png(pixels)),
        width,
        height,
        plain(about),
    )


def chart(drawn: Chart, about: str, width: int = 420) -> Markup:
    """A chart in the reader's theme."""
    return Markup(
        '<picture><source media="(prefers-color-scheme: dark)" srcset="{}">'
        '<img src="{}" width="{}" alt="{}"></picture>'
    ).format(data_uri(drawn.dark), data_uri(drawn.light), width, about)


def figure(content: Markup, caption: str | Markup, kind: str = "") -> Markup:
    """A picture and what is to be said of it."""
    return Markup('<figure class="{}">{}<figcaption>{}</figcaption></figure>').format(
        kind, content, caption
    )


def percent(share: float, digits: int = 1) -> str:
    """0.9341 → "93.4 %", not broken over lines; never rounded up to all or down to nothing."""
    # Spaces that no line breaks at.
    least = 10.0**-digits
    value = 100 * share
    if 0 < value < least / 2:
        return f"<\N{NO-BREAK SPACE}{least:.{digits}f}\N{NO-BREAK SPACE}%"
    if 100 - least / 2 <= value < 100:
        return f">\N{NO-BREAK SPACE}{100 - least:.{digits}f}\N{NO-BREAK SPACE}%"
    return f"{value:.{digits}f}\N{NO-BREAK SPACE}%"


def times(*lengths: int) -> str:
    """(30, 30, 32) → "30x30x32", with the sign that printers use."""
    return "\N{MULTIPLICATION SIGN}".join(map(str, lengths))


def bar(share: float) -> Markup:
    """A bar of this length, 0..1."""
    return Markup('<span class="bar"><i style="width:{:.1f}%"></i></span>').format(100 * share)


def about_model(card: ModelCard) -> Markup:
    """One line on what the page is about."""
    return Markup("version {} · {} pixels · {} labels · trained on {} · {}").format(
        name(card.version),
        times(card.input.height, card.input.width),
        len(card.labels),
        name(card.training_data.name),
        name(card.provenance.created[:10]),
    )


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")
