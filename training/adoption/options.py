"""The options of `python -m training adopt`."""

from __future__ import annotations

from pathlib import Path

from training.adoption.choices import SOFTMAX_CHOICES
from training.adoption.normalisation import PRESETS
from training.config import parse_resize, parse_size
from training.errors import ConfigError
from training.options import Parser

LARGEST_SIDE = 4096


def adoption_parser() -> Parser:
    """What the command understands."""
    parser = Parser(
        "python -m training adopt",
        description="Make a served model of one from elsewhere. What the graph, its metadata and "
        "the files beside it tell is taken from there, the rest is asked for; what was decided is "
        "printed and stands on the card. Preprocessing and softmax become part of the graph.",
    )
    parser.add_argument(
        "source",
        metavar="MODEL",
        help="an .onnx file, a .keras file, a folder with a SavedModel, or efficientnet-lite0: the "
        "weights that come with the package, with ImageNet's 1,000 labels",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("runs/adopted.onnx"),
        metavar="FILE",
        help="the model file to write (default: runs/adopted.onnx)",
    )
    parser.add_argument(
        "--labels",
        metavar="LABELS",
        help="in the order of the output: a file with one a line or JSON, the labels with commas "
        "between, or imagenet-1k",
    )
    parser.add_argument(
        "--size",
        type=_size,
        metavar="SIZE",
        help="what images are resized to, where the graph takes any: 224, or HEIGHTxWIDTH",
    )
    parser.add_argument(
        "--preprocess",
        choices=[*PRESETS],
        metavar="|".join(PRESETS),
        help="what the graph wants of pixels: ImageNet's mean and deviation; -1..1 (tf); 0..1 "
        "(unit); blue, green, red less their means (caffe); CLIP's mean and deviation; 0..255 "
        "(pixels)",
    )
    for name in ("mean", "std"):
        parser.add_argument(
            f"--{name}",
            type=float,
            nargs="+",
            metavar="N",
            help="the same in figures, for red, green and blue: of 0..1, or of 0..255 where one "
            "is above 2",
        )
    parser.add_argument(
        "--resize",
        type=parse_resize,
        metavar="RULE",
        help="stretch (the whole image), crop (the centre), or crop-0.875 (so much of the centre)",
    )
    parser.add_argument("--layout", choices=("nchw", "nhwc"), help="of the graph's input")
    parser.add_argument(
        "--softmax",
        choices=SOFTMAX_CHOICES,
        default="auto",
        metavar="|".join(SOFTMAX_CHOICES),
        help="whether a softmax has to be added (yes: the graph gives logits), none (no: it gives "
        "probabilities), or a sigmoid, for labels that do not exclude each other (default: auto)",
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="FOLDER",
        help="images in a folder for each label: the model is measured on them and calibrated",
    )
    parser.add_argument(
        "--examples",
        action="store_true",
        help="put ten of the images of --data into the model file, small, for those who try it; "
        "whoever has the file has them",
    )
    parser.add_argument("--licence", default="", metavar="TEXT", help="of the model, on the card")
    parser.add_argument(
        "--name",
        default="",
        metavar="TEXT",
        help="on the card (default: the file's without ending)",
    )
    return parser


def _size(text: str) -> tuple[int, int]:
    size = parse_size(text, "--size")
    if not 1 <= min(size) <= max(size) <= LARGEST_SIDE:
        raise ConfigError(f"--size: {text} is not 1 to {LARGEST_SIDE} pixels a side")
    return size
