"""decode_image and files that mean harm: the documented answer, in bounded time and memory."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from service.inference.errors import ImageError, UnsupportedFormat
from service.inference.formats import READABLE_FORMATS
from service.inference.imaging import ImageLimits, decode_image
from tests.hostile_images import HostileImage, hostile_images, small

# The filters of pytest come before the one that imaging sets; production has only that one.
pytestmark = pytest.mark.filterwarnings(r"ignore:::PIL\.")

CASES = hostile_images()
# The largest ones take a second each: once, where they are measured, is enough.
LIGHT = [case for case in CASES if "megapixels" not in case.name]
EVERYTHING = ImageLimits(formats=READABLE_FORMATS)

# Of the processor time of an honest photograph of a quarter of the pixels that are allowed.
TIMES_HONEST = 6
# 17 bytes for each of 49 million pixels is what WebP's own decoder takes.
MEGABYTES = 900

# In a fresh interpreter with warnings as errors: nothing but imaging's own filter holds them.
MEASURE = """
import json, time
from contextlib import suppress
from pathlib import Path
from service.inference.errors import ImageError
from service.inference.formats import READABLE_FORMATS
from service.inference.imaging import ImageLimits, decode_image
from tests.hostile_images import hostile_images, small
from tests.images import encode, photograph

def memory(kind):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(kind)) / 1024

limits = ImageLimits(formats=READABLE_FORMATS)
decode_image(small(), (32, 32))
honest = encode(photograph(1, 3500, 3500), "PNG", compress_level=1)
start = time.process_time()
decode_image(honest, (32, 32))
print(time.process_time() - start)
for case in hostile_images():
    data = case.build()
    with suppress(OSError):  # else the peak is that of all cases until here
        Path("/proc/self/clear_refs").write_text("5")
    before, start = memory("VmRSS"), time.process_time()
    try:
        decode_image(data, (32, 32), limits=limits)
        found = None
    except ImageError as error:
        found = type(error).__name__
    seconds = time.process_time() - start
    print(json.dumps([case.name, found, seconds, memory("VmHWM") - before]), flush=True)
"""


@pytest.mark.parametrize("case", LIGHT, ids=lambda case: case.name)
def test_answer(case: HostileImage) -> None:
    data = case.build()
    if case.expected is None:
        image = decode_image(data, (8, 12), limits=EVERYTHING)
        assert image.pixels.shape == (8, 12, 3)
    else:
        with pytest.raises(case.expected) as caught:
            decode_image(data, (8, 12), limits=EVERYTHING)
        assert type(caught.value) is case.expected
        assert str(caught.value)
    # A good image right after is a good image still.
    assert decode_image(small(), (8, 12)).pixels.shape == (8, 12, 3)


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.on_request], ids=lambda case: case.name
)
def test_formats_that_are_not_enabled_are_not_even_opened(case: HostileImage) -> None:
    with pytest.raises(UnsupportedFormat, match="is not read here"):
        decode_image(case.build(), (8, 12))


@pytest.mark.skipif(sys.platform != "linux", reason="measures memory as Linux counts it")
def test_bounded_time_and_memory_and_no_warning() -> None:
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", MEASURE],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    honest, *measured = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(measured) == len(CASES)
    for case, (name, found, seconds, megabytes) in zip(CASES, measured, strict=True):
        assert name == case.name
        assert found == (case.expected.__name__ if case.expected else None), name
        assert seconds < TIMES_HONEST * honest, name
        assert megabytes < MEGABYTES, name
    assert run.stderr == ""


def test_every_error_is_met() -> None:
    """The corpus shows every way in which an image can be refused."""
    assert {case.expected for case in CASES} - {None} == set(ImageError.__subclasses__())
