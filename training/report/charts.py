"""Charts, each drawn twice: for a light page and for a dark one.

They hold only text of our own, in ASCII: names from outside stand in the page, because the page can
show every script and the charts' font cannot.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from service.inference.contract import ReliabilityBin

SIZE = (4.2, 3.0)  # inches; a page shows 100 pixels of its own for each
DENSITY = 200
SMALLEST_GAP = 0.02


@dataclass(frozen=True)
class Theme:
    """Colours of a chart."""

    ink: str
    faint: str
    first: str
    second: str
    ground: str


LIGHT = Theme(ink="#24292f", faint="#c9d1d9", first="#1d5fd0", second="#c2410c", ground="#ffffff")
DARK = Theme(ink="#d7dce2", faint="#444c56", first="#79a8ff", second="#ff9a5c", ground="#1b2027")


@dataclass(frozen=True)
class Chart:
    """The same chart as two PNG files."""

    light: bytes
    dark: bytes


Draw = Callable[[Any, Theme], None]


def draw(paint: Draw, size: tuple[float, float] = SIZE) -> Chart:
    """Both versions of what `paint(axes, theme)` draws; the same data give the same bytes."""
    return Chart(_render(paint, LIGHT, size), _render(paint, DARK, size))


def _render(paint: Draw, theme: Theme, size: tuple[float, float]) -> bytes:
    with mpl.rc_context():
        mpl.rcdefaults()  # whatever the user's matplotlibrc says
        figure = Figure(figsize=size, layout="constrained", facecolor=theme.ground)
        axes = figure.add_subplot()
        _dress(axes, theme)
        paint(axes, theme)
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=DENSITY, metadata={"Software": None})
    return file.getvalue()


def _dress(axes: Any, theme: Theme) -> None:
    axes.set_facecolor(theme.ground)
    axes.grid(visible=True, color=theme.faint, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.tick_params(colors=theme.ink, labelsize=9, length=0)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(theme.faint)


def _name_axes(axes: Any, theme: Theme, x: str, y: str) -> None:
    axes.set_xlabel(x, color=theme.ink, fontsize=9)
    axes.set_ylabel(y, color=theme.ink, fontsize=9)


def _legend(axes: Any, theme: Theme, place: str) -> None:
    axes.legend(loc=place, fontsize=9, frameon=False, labelcolor=theme.ink)


def curves(
    epochs: Sequence[float], series: Mapping[str, Sequence[float]], what: str, legend: str
) -> Chart:
    """One or two series over the epochs, by name."""

    def paint(axes: Any, theme: Theme) -> None:
        for (name, values), colour in zip(
            series.items(), (theme.first, theme.second), strict=False
        ):
            marker = "o" if len(epochs) < 12 else None
            axes.plot(epochs, values, color=colour, label=name, linewidth=1.8, marker=marker)
        axes.xaxis.get_major_locator().set_params(integer=True)
        _name_axes(axes, theme, "epoch", what)
        if len(series) > 1:
            _legend(axes, theme, legend)

    return draw(paint)


def reliability(bins: Sequence[ReliabilityBin]) -> Chart:
    """Accuracy over confidence, a point for each bin, and the line where they are equal."""
    promised, right = [each.mean for each in bins], [each.right for each in bins]

    def paint(axes: Any, theme: Theme) -> None:
        axes.plot([0, 1], [0, 1], color=theme.ink, linewidth=1, linestyle="--", label="as promised")
        axes.vlines(promised, promised, right, color=theme.second, linewidth=2, alpha=0.6)
        axes.plot(
            promised,
            right,
            color=theme.first,
            marker="o",
            markersize=5,
            linewidth=1.2,
            label="measured",
            clip_on=False,  # a point on the edge is seen whole
        )
        low = max(0.0, min(*promised, *right) - SMALLEST_GAP)
        axes.set_xlim(low, 1)
        axes.set_ylim(low, 1)
        _name_axes(axes, theme, "mean probability of the answer", "share that is right")
        _legend(axes, theme, "upper left")

    return draw(paint, (4.2, 3.6))


def confusion(counts: NDArray[np.int64]) -> Chart:
    """Shares of each row as shades, for more labels than a table can hold."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)

    def paint(axes: Any, theme: Theme) -> None:
        colours = mpl.colors.LinearSegmentedColormap.from_list("", [theme.ground, theme.first])
        # The root, so that a few mistakes among many labels are seen.
        ends = (0.5, len(counts) + 0.5)
        axes.imshow(
            np.sqrt(shares),
            cmap=colours,
            vmin=0,
            vmax=1,
            interpolation="nearest",
            extent=(*ends, *ends[::-1]),
        )
        axes.grid(visible=False)
        _name_axes(axes, theme, "number of the label answered", "number of the label shown")

    return draw(paint, (5.6, 5.6))
