"""A card for a bare ONNX model of the contract, so that the service opens it.

    python -m tests.benchmarks.add_card MODEL.onnx --labels a,b,c OUT.onnx

The graph stays as it is, byte for byte: a card is metadata. What nobody has measured, the card does
not claim: it is for benchmarks and trials, a model of one's own comes from ``python -m training``.
"""

import argparse
import sys
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import onnx

from service.inference.classifier import Classifier
from service.inference.contract import (
    INPUT_NAME,
    METADATA_KEY,
    NOTHING_MEASURED,
    InputSpec,
    ModelCard,
    Provenance,
    TrainingData,
)
from service.inference.errors import ModelError
from training.data.cifar10 import LABELS as CIFAR10_LABELS


def with_card(model: onnx.ModelProto, name: str, labels: tuple[str, ...]) -> ModelCard:
    """Write a card into a model's metadata, in place of any it had.

    Raises:
        ValueError: the graph has no input ``image`` of fixed height and width, or the labels are
            not at least two different ones.
    """
    sizes = [
        [size.dim_value for size in value.type.tensor_type.shape.dim]
        for value in model.graph.input
        if value.name == INPUT_NAME
    ]
    if not sizes or len(sizes[0]) != 4:
        raise ValueError(f"the graph has no input {INPUT_NAME!r} of shape [N, height, width, 3]")
    _, height, width, _ = sizes[0]
    digest = sha256(model.graph.SerializeToString(deterministic=True)).hexdigest()
    now = datetime.now(UTC).replace(microsecond=0)
    card = ModelCard(
        schema=1,
        name=name,
        version=f"{now:%Y.%m.%d}-{digest[:8]}",
        labels=labels,
        input=InputSpec(height, width),
        temperature=1.0,
        training_data=TrainingData("unknown", "unknown", {}),
        figures=NOTHING_MEASURED,
        provenance=Provenance(now.isoformat(), "python -m tests.benchmarks.add_card", {}, {}),
    )
    kept = {prop.key: prop.value for prop in model.metadata_props}
    onnx.helper.set_model_props(model, {**kept, METADATA_KEY: card.to_json()})
    return card


def add_card(source: Path, target: Path, labels: tuple[str, ...] = CIFAR10_LABELS) -> ModelCard:
    """Write ``source`` with a card to ``target``, and open it as the service would.

    Raises:
        ValueError: as of ``with_card``.
        ModelError: the service would not open it.
    """
    model = onnx.load(source)
    card = with_card(model, source.stem, labels)
    data = model.SerializeToString()
    Classifier.open(data, target)
    target.write_bytes(data)
    return card


def main(arguments: list[str] | None = None) -> int:
    """Run the command; its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.add_card",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", type=Path, metavar="MODEL.onnx")
    parser.add_argument("target", type=Path, metavar="OUT.onnx")
    parser.add_argument(
        "--labels",
        default=",".join(CIFAR10_LABELS),
        help="names in the order of the output, separated by commas (default: CIFAR-10's)",
    )
    chosen = parser.parse_args(arguments)
    try:
        card = add_card(chosen.source, chosen.target, tuple(chosen.labels.split(",")))
    except (OSError, ValueError, ModelError) as error:
        sys.stderr.write(f"cannot add a card: {error}\n")
        return 1
    sys.stdout.write(f"{chosen.target}: {card.name} {card.version}, {len(card.labels)} labels\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
