"""A trained network → one self-describing ONNX file, measured before anybody can see it.

Convert; write a draft with a provisional card beside the destination; measure the draft through the
service's own Classifier; write the card into the metadata; open it once more; `os.replace`.
"""

from __future__ import annotations

import math
import shlex
from pathlib import Path

import keras
import numpy as np
import onnx
import tensorflow as tf
from numpy.typing import NDArray

from service.inference.classifier import Classifier
from service.inference.contract import (
    INPUT_NAME,
    NOTHING_MEASURED,
    OUTPUT_NAME,
    Familiarity,
    Figures,
    InputSpec,
    ModelCard,
    Provenance,
    TrainingData,
)
from training.atomic_files import draft_path, drafted
from training.calibration import fit_temperature, logits_of
from training.config import TrainConfig
from training.data.dataset import Dataset, Split
from training.data.pixels import Images
from training.errors import ExportError
from training.export import cards, examples
from training.export.conversion import to_onnx
from training.export.evaluation import (
    accuracy_text,
    examples_text,
    familiarity_text,
    figures,
    outputs,
    predict,
    unfamiliar_share,
)
from training.export.familiarity import tried
from training.export.graphs import divide_logits, number_names
from training.export.quantisation import Comparison, compare, milliseconds, quantised, why_not
from training.networks.building import initial_weights, served_network
from training.networks.inference import inference_batch
from training.options import command
from training.progress import say

PARITY_LIMIT = 1e-5
# Float32 is no more exact in the deepest of them: with random weights, InceptionV3 differs by 8e-5,
# where Keras is off by 7e-5 from a pass in float64 and the file by 3e-5.
PRETRAINED_PARITY_LIMIT = 1e-3


class ServedNetwork(tf.Module):  # type: ignore[misc]
    """What a model file computes: uint8 pixels → probabilities, as one TensorFlow function.

    The network's own layers normalise; this adds the cast before them and the temperature and the
    softmax behind, so that nothing but pixels has to be agreed on between training and serving.
    """

    def __init__(self, model: keras.Model, temperature: float) -> None:
        super().__init__()
        signature = tf.TensorSpec(model.input_shape, tf.uint8, name=INPUT_NAME)

        def serve(image: tf.Tensor) -> dict[str, tf.Tensor]:
            logits = model(tf.cast(image, tf.float32), training=False)
            return {OUTPUT_NAME: tf.nn.softmax(logits / temperature)}

        self.signature = signature
        self.function = tf.function(serve, input_signature=[signature])

    def predict(self, images: Images) -> NDArray[np.float32]:
        """Keras' own probabilities, float32 [N, labels], of uint8 [N, H, W, 3]."""
        size = inference_batch(images.shape[1:3])
        batches = (self.function(images[i : i + size]) for i in range(0, len(images), size))
        return np.concatenate([batch[OUTPUT_NAME].numpy() for batch in batches])


def export(
    model: keras.Model, temperature: float, config: TrainConfig, dataset: Dataset
) -> ModelCard:
    """Write `config.output` with its card, and return the card.

    The destination holds what it held before until the new file has passed everything. With
    `config.quantize` the file is in 8-bit integers, and has a temperature of its own.

    Raises:
        ExportError: the file's probabilities differ from Keras' by more than the limit, it is
            quantised and not worth it, or it cannot be written.
        service.inference.errors.ModelError: the service would not open the file.
    """
    network = ServedNetwork(model, temperature)
    limit = PRETRAINED_PARITY_LIMIT if config.network.is_pretrained else PARITY_LIMIT
    graph = convert(ServedNetwork(served_network(model, config), 1.0), config.architecture)
    with drafted(config.output) as draft:
        served = at_temperature(graph, temperature)
        if config.quantize:
            cards.save(served, provisional_card(served, temperature, config, dataset), draft)
            measure(draft, network, dataset, limit)
            served, temperature = quantise(graph, draft, config, dataset)
            limit = math.inf
        served, familiarity = tried(served, dataset.train, dataset.validation.images)
        card = provisional_card(served, temperature, config, dataset, familiarity)
        cards.save(served, card, draft)
        card = cards.with_figures(card, *measure(draft, network, dataset, limit))
        cards.save(served, card, draft)
        if Classifier.load(draft).card != card:
            raise ExportError(f"{config.output}: the card is not read as it was written")
    return card


def convert(network: ServedNetwork, name: str) -> onnx.ModelProto:
    """The function as an ONNX model: `image` uint8 [batch, H, W, 3] → `probabilities`."""
    model = to_onnx(network.function, network.signature)
    model.graph.name, model.graph.doc_string = name, ""
    number_names(model.graph)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    return model


def at_temperature(model: onnx.ModelProto, temperature: float) -> onnx.ModelProto:
    """A copy of the model whose logits are divided by the temperature."""
    copy: onnx.ModelProto = onnx.ModelProto.FromString(model.SerializeToString())
    divide_logits(copy, temperature)
    number_names(copy.graph)
    return copy


def quantise(
    graph: onnx.ModelProto, float_file: Path, config: TrainConfig, dataset: Dataset
) -> tuple[onnx.ModelProto, float]:
    """The graph in 8-bit integers, with the temperature that fits it, and that temperature.

    Raises ExportError, with the figures, where the validation images show that it is not worth
    having (see `quantisation.why_not`). The test images' figures are said and decide nothing.
    """
    small = quantised(graph, dataset.train.images)
    trial = draft_path(config.trial_file)
    try:
        cards.save(small, provisional_card(small, 1.0, config, dataset), trial)
        pair = Classifier.load(trial), Classifier.load(float_file)
    finally:
        trial.unlink(missing_ok=True)
    times = milliseconds(*pair)

    def beside(title: str, split: Split) -> tuple[NDArray[np.float32], Comparison]:
        answers, float_answers = (predict(each, split.images) for each in pair)
        found = compare(title, split.targets, answers, float_answers, (times[0], times[1]))
        say(f"quantised: {found}")
        return answers, found

    answers, found = beside("validation", dataset.validation)
    if reason := why_not(found):
        raise ExportError(
            f"--quantize: refused, as {reason}: {found}; --no-quantize exports it in floats"
        )
    beside("test", dataset.test)
    temperature = fit_temperature(logits_of(answers), dataset.validation.targets)
    return at_temperature(small, temperature), temperature


def measure(
    path: Path, network: ServedNetwork, dataset: Dataset, limit: float
) -> tuple[Figures, float | None]:
    """Figures of the file at `path` on the test images, and the share that is unfamiliar.

    Raises ExportError where its probabilities differ from the network's by more than `limit`.
    """
    classifier = Classifier.load(path)
    probabilities, shares = outputs(classifier, dataset.test.images)
    parity = float(np.abs(probabilities - network.predict(dataset.test.images)).max())
    if not parity <= limit:
        raise ExportError(
            f"the exported graph differs from Keras by {parity:.1e}, {limit:.0e} is allowed"
        )
    targets, labels = dataset.test.targets, dataset.labels
    found = figures(probabilities, targets, labels, split="test", parity=parity)
    return found, unfamiliar_share(classifier, shares)


def provisional_card(
    model: onnx.ModelProto,
    temperature: float,
    config: TrainConfig,
    dataset: Dataset,
    familiarity: Familiarity | None = None,
) -> ModelCard:
    """The card but for its figures, which only the file itself can tell."""
    created = cards.now()
    height, width = config.image_size
    return ModelCard(
        schema=2,
        name=config.model_name,
        version=cards.version_of(model, created),
        labels=dataset.labels,
        input=InputSpec(height, width, config.resize),
        temperature=temperature,
        training_data=TrainingData(dataset.name, dataset.licence, dataset.counts()),
        figures=NOTHING_MEASURED,
        familiarity=familiarity,
        examples=examples.of_split(dataset.test, dataset.labels) if config.shows_examples else (),
        provenance=Provenance(
            created=created.isoformat(),
            command=command(config),
            config=config.published(),
            libraries=cards.libraries(),
            initial_weights=initial_weights(config),
        ),
    )


def announce(card: ModelCard, config: TrainConfig, seconds: float) -> None:
    """Say what was written, how good it is, how long it took, and what to do with it."""
    path, found = config.output, card.figures
    data = shlex.quote(str(config.data or "FOLDER"))
    name = shlex.quote(str(path))
    say(
        f"{path}: {card.name} {card.version}, {path.stat().st_size / 1e6:.1f} MB, "
        f"after {seconds / 60:.1f} minutes\n"
        f"  {accuracy_text(found)}\n"
        f"  calibration error {found.calibration_error:.4f}, temperature {card.temperature:.3f}, "
        f"largest difference from Keras {found.parity:.1e}\n"
        f"{familiarity_text(card)}{examples_text(card)}"
        f"results and mistakes:    python -m training report {name} --data {data}\n"
        f"which pixels mattered:   python -m training explain {name} IMAGE\n"
        f"serve it:                LABELSERVE_MODEL={name} python -m service"
    )
