"""The page on a network that is hardly ever in doubt: its maps, its chart and its bars."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.inference.contract import ReliabilityBin
from service.inference.explanation import importance
from training.report import charts, rendering


def sure(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Two labels; the second one's log-odds are 40 and more, the more the brighter the corner."""
    logits = 40 + images[:, :8, :8].mean(axis=(1, 2, 3)) / 10
    rest = np.exp(-logits)
    return np.stack([rest, 1 - rest], axis=1).astype(np.float32)


def test_what_an_answer_depends_on_is_seen_though_it_never_changes() -> None:
    image = np.full((24, 24, 3), 60, np.uint8)
    image[:8, :8] = 240
    assert sure(image[None])[0, 1] == 1

    found = importance(sure, image, 1)

    assert found[:8, :8].mean() > 0.01
    assert found[:8, :8].mean() > 3 * np.abs(found[12:, 12:]).mean()


def test_the_axes_of_calibration_end_at_one(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = []

    def draw(paint: charts.Draw, size: tuple[float, float]) -> charts.Chart:
        def and_look(axes: Any, theme: charts.Theme) -> None:
            paint(axes, theme)
            ends.extend([axes.get_xlim()[1], axes.get_ylim()[1]])
            ends.extend([axes.get_xticks()[-1], axes.get_yticks()[-1]])

        return drawn(and_look, size)

    drawn = charts.draw
    monkeypatch.setattr(charts, "draw", draw)

    for low in (0.31, 0.62, 0.93, 0.985):
        charts.reliability([ReliabilityBin(each, each, 1.0, 9) for each in (low, 0.999)])

    assert ends
    assert ends == pytest.approx([1.0] * len(ends))


def test_next_to_nothing_has_no_full_bar() -> None:
    """The bar's ground, which is full, could be taken for one."""
    style = (Path(rendering.__file__).with_name("templates") / "page.css").read_text()
    (rule,) = re.findall(r"^\.bar \{([^}]*)\}", style, re.MULTILINE)

    assert "background" not in rule
    assert "border" not in rule
