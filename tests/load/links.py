"""Memory over many images: links to a few files, and the largest memory of all processes.

    python -m tests.load.links [--images 100000] [--archive]

Prints what the command's processes had together, from a tenth of the images on: it may not grow.
"""

import argparse
import io
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.images import encode, photograph
from tests.server import ROOT
from tests.tiny_model import make_card, write_model

_DIFFERENT = 20
_PER_FOLDER = 1000


class Memory(NamedTuple):
    """Bytes that are the processes' own (PSS), together: after a tenth of the rows, and most."""

    early: int
    most: int


def write_links(folder: Path, images: int) -> Path:
    """Links to a few photographs, a thousand in a folder; the folder."""
    files = [folder / f"{seed}.source" for seed in range(_DIFFERENT)]
    for seed, file in enumerate(files):
        file.write_bytes(encode(photograph(seed, 32, 32), "JPEG", quality=90))
    for number in range(images):
        link = folder / "links" / f"{number // _PER_FOLDER:05}" / f"{number:07}.jpg"
        if number % _PER_FOLDER == 0:
            link.parent.mkdir(parents=True)
        link.symlink_to(files[number % _DIFFERENT])
    return folder / "links"


def write_tar(path: Path, images: int) -> Path:
    """The same as a compressed tar."""
    files = [encode(photograph(seed, 32, 32), "JPEG", quality=90) for seed in range(_DIFFERENT)]
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        members: list[tarfile.TarInfo] = vars(archive)["members"]
        for number in range(images):
            member = tarfile.TarInfo(f"{number:07}.jpg")
            member.size = len(files[number % _DIFFERENT])
            archive.addfile(member, io.BytesIO(files[number % _DIFFERENT]))
            members.clear()  # it would keep all
    return path


def predict(model: Path, source: Path, output: Path, images: int) -> Memory:
    """Answer all images, and look at the memory meanwhile."""
    command = [sys.executable, "-m", "service", "predict", str(model), str(source)]
    early = most = 0
    with running([*command, f"--output={output}", "--top-k=1"]) as process:
        while process.poll() is None:
            time.sleep(0.05)
            memory = memory_of(process.pid)
            most = max(most, memory)
            if not early and rows_in(output) > images // 10:
                early = memory
    assert process.returncode == 0
    assert rows_in(output) == images + 1  # and a header
    return Memory(early, most)


@contextmanager
def running(command: list[str]) -> "Iterator[subprocess.Popen[bytes]]":
    """A command, which is ended if it should not have."""
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def rows_in(output: Path) -> int:
    """Lines that are written so far."""
    if not output.exists():
        return 0
    with output.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))


def memory_of(pid: int) -> int:
    """Bytes of a process and its children, pages that they share counted once."""
    total = 0
    for one in [pid, *children(pid)]:
        try:
            text = Path(f"/proc/{one}/smaps_rollup").read_text(encoding="ascii")
        except (OSError, ProcessLookupError):
            continue
        total += next(
            (int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Pss:")),
            0,
        )
    return total


def children(pid: int) -> list[int]:
    """Of a process."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    except OSError:
        return []
    return [int(word) for word in text.split()]


def main() -> None:
    """Print the two figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--archive", action="store_true", help="in a tar.gz in place of links")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        model = write_model(folder / "tiny.onnx", make_card())
        if chosen.archive:
            source = write_tar(folder / "images.tar.gz", chosen.images)
        else:
            source = write_links(folder, chosen.images)
        memory = predict(model, source, folder / "out.csv", chosen.images)
    grown = memory.most - memory.early
    print(  # noqa: T201
        f"{chosen.images} images: {memory.early / 1e6:.0f} MB after a tenth,"
        f" {memory.most / 1e6:.0f} MB at most, {grown / 1e6:+.1f} MB"
    )


if __name__ == "__main__":
    main()
