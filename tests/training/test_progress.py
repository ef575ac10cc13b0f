import os

import pytest

from training.progress import bar, quiet_start, say


def test_a_bar_tells_how_much_time_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    with bar(total=4, desc="reading", unit="image", mininterval=0) as progress:
        for _ in range(4):
            progress.update()

    captured = capsys.readouterr()
    assert "reading: 100%" in captured.err
    assert "4/4 [00:00<00:00" in captured.err  # elapsed < left
    assert captured.out == ""


def test_lines_go_where_the_bars_go(capsys: pytest.CaptureFixture[str]) -> None:
    say("a line")

    captured = capsys.readouterr()
    assert captured.err.endswith("a line\n")
    assert captured.out == ""


def test_a_quiet_start_hides_native_chatter_and_nothing_after_it(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with quiet_start():
        os.write(2, b"E0000 failed call to cuInit")
    os.write(2, b"seen")

    assert capfd.readouterr().err == "seen"


def test_an_exception_comes_through_a_quiet_start(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ImportError), quiet_start():
        raise ImportError
    os.write(2, b"seen")

    assert capfd.readouterr().err == "seen"
