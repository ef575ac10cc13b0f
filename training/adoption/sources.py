"""What can be adopted: an ONNX file, a network of Keras', a SavedModel, the packaged weights."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from training.adoption import foreign, hints, labels
from training.adoption.choices import Choice
from training.adoption.foreign import first_line
from training.adoption.hints import Hints
from training.adoption.normalisation import PIXELS
from training.architectures import ARCHITECTURES
from training.errors import AdoptionError, ConfigError
from training.progress import quiet_start

PACKAGED = "efficientnet-lite0"
PACKAGED_SIZE, PACKAGED_RESIZE = (224, 224), "crop-0.875"  # as its accuracy was measured
KERAS_SIGNS = (b"PK\x03\x04", b"\x89HDF")
KERAS_SUFFIXES = (".keras", ".h5", ".hdf5")
NUMBERS = "numbers"  # what a converted network's output is called; others are numbered

Answers = Callable[[NDArray[np.float32]], dict[str, NDArray[np.float32]]]


@dataclass(frozen=True)
class Source:
    """A network from elsewhere.

    `model`: as an ONNX graph. `name`: for the card. `about`: where it is from, for the card.
    `hints`: what lies in it and beside it. `answers`: float32 [N, H, W, channels] → each output's
    numbers by its own framework, where that is not onnxruntime. `learned_on`: the data's name.
    """

    model: onnx.ModelProto
    name: str
    about: str
    hints: Hints
    answers: Answers | None = None
    learned_on: str = "unknown"


def opened(word: str, size: tuple[int, int] | None) -> Source:
    """What is meant by a file, a folder or a name.

    `size`: height and width that a network of any size is wanted for. Raises TrainingError.
    """
    if word == PACKAGED:
        return _packaged(size or PACKAGED_SIZE)
    path = Path(word)
    if not path.exists():
        raise ConfigError(f"{word} is not there; give a file, a folder, or {PACKAGED}")
    if path.name == "saved_model.pb":
        path = path.parent
    if path.is_dir() and (path / "saved_model.pb").is_file():
        return _saved_model(path, size)
    if path.is_dir():
        path = _only_model(path)
    if path.suffix.lower() in KERAS_SUFFIXES:
        return _keras(path, size)
    return _onnx(path)


def _only_model(folder: Path) -> Path:
    suffixes = (".onnx", *KERAS_SUFFIXES)
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in suffixes)
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "no .onnx, .keras or saved_model.pb"
        raise ConfigError(f"the folder {folder} holds {names}: give the file")
    return found[0]


def _onnx(path: Path) -> Source:
    model = foreign.read(path)
    entries = {entry.key: entry.value for entry in model.metadata_props}
    told = hints.of_metadata(entries, str(path)) | hints.of_folder(path.parent)
    model, names = without_zip_map(model)
    if names:
        told = Hints(Choice(names, "the graph's ZipMap")) | told
    writer = " ".join(filter(None, (model.producer_name, model.producer_version)))
    return Source(model, path.stem, _about(path, [path], writer or "ONNX"), told)


def without_zip_map(model: onnx.ModelProto) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """The graph with plain numbers where it pairs them with labels, and these labels."""
    for node in model.graph.node:
        if node.op_type == "ZipMap":
            changed = onnx.ModelProto.FromString(model.SerializeToString())
            changed.graph.node.remove(node)
            outputs = [value for value in changed.graph.output if value.name != node.output[0]]
            outputs.append(onnx.helper.make_empty_tensor_value_info(node.input[0]))
            outputs[-1].type.tensor_type.elem_type = onnx.TensorProto.FLOAT
            del changed.graph.output[:]
            changed.graph.output.extend(outputs)
            attributes = {item.name: item for item in node.attribute}
            strings = attributes.get("classlabels_strings")
            names = [each.decode() for each in strings.strings] if strings else []
            numbers = attributes.get("classlabels_int64s")
            return changed, tuple(names or map(str, numbers.ints if numbers else ()))
    return model, ()


def _about(path: Path, files: Iterable[Path], writer: str) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return f"{path.name}, SHA-256 {digest.hexdigest()}, written by {writer}"


def _tensorflow() -> Any:
    """TensorFlow, started; an ONNX file needs none of it."""
    with quiet_start():
        import tensorflow as tf

        tf.config.list_logical_devices()
    return tf


def _keras(path: Path, size: tuple[int, int] | None) -> Source:
    foreign.require_possible(path, KERAS_SIGNS)
    keras = _tensorflow().keras
    try:
        model = keras.models.load_model(path, compile=False)
    except Exception as error:  # whatever a file may make Keras raise
        raise AdoptionError(
            f"{path} cannot be loaded by Keras {keras.__version__}: {_reason(error)}"
        ) from error
    if len(model.inputs) != 1:
        raise AdoptionError(f"{path} takes {len(model.inputs)} inputs; one image is wanted")
    spec = model.inputs[0]
    writer = f"Keras {keras.__version__}"
    about = _about(path, [path], writer)
    source = Source(onnx.ModelProto(), path.stem, about, hints.of_folder(path.parent))
    shape = _sized(tuple(spec.shape), size or _told_size(source))
    return _converted(lambda images: model(images, training=False), shape, source, spec.dtype)


def _told_size(source: Source) -> tuple[int, int] | None:
    return source.hints.size.value if source.hints.size else None


def _reason(error: Exception) -> str:
    """What Keras says, in our words where its own are many."""
    if "Lambda" in str(error):
        return (
            "it has a Lambda layer, Python code that is not run from a file; put a layer in its "
            "place, or give a SavedModel (model.export)"
        )
    return first_line(error)


def _saved_model(folder: Path, size: tuple[int, int] | None) -> Source:
    tf = _tensorflow()
    try:
        loaded = tf.saved_model.load(str(folder))
        signatures = dict(loaded.signatures)
    except Exception as error:  # as above
        raise AdoptionError(f"{folder} cannot be loaded: {first_line(error)}") from error
    function: Any = signatures.get("serving_default") or signatures.get("serve")
    inputs = function.structured_input_signature[1] if function else {}
    if len(inputs) != 1:
        raise AdoptionError(
            f"{folder} has no signature serving_default of one image; it has "
            f"{', '.join(signatures) or 'none'}"
        )
    ((name, spec),) = inputs.items()
    if spec.shape.rank != 4:
        raise AdoptionError(f"{folder} takes no image: {name} {spec.dtype.name} {spec.shape}")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    about = _about(folder, files, f"TensorFlow {loaded.tensorflow_version}")
    source = Source(onnx.ModelProto(), folder.name, about, hints.of_folder(folder))
    shape = _sized(tuple(spec.shape), size or _told_size(source))
    return _converted(lambda images: function(**{name: images}), shape, source, spec.dtype.name)


def _sized(shape: tuple[int | None, ...], size: tuple[int, int] | None) -> tuple[int | None, ...]:
    """[None, H, W, C] with the wanted height and width where they are free."""
    if len(shape) != 4 or size is None or None not in shape[1:3]:
        return shape
    return (shape[0], *size, shape[3])


def _converted(
    call: Callable[[Any], Any], shape: tuple[int | None, ...], source: Source, kind: str = "float32"
) -> Source:
    """The source with the graph of a TensorFlow function, and its answers."""
    tf = _tensorflow()
    from training.export.conversion import to_onnx  # as above

    spec = tf.TensorSpec(shape, kind, name="image")

    def answer(image: Any) -> dict[str, Any]:
        found = tf.nest.flatten(call(image))
        rest = {f"{NUMBERS}_{i}": each for i, each in enumerate(found[1:], 1)}
        return {NUMBERS: found[0], **rest}

    function = tf.function(answer, input_signature=[spec])
    try:
        model = to_onnx(function, spec)
    except Exception as error:  # of operators that have no counterpart, for instance
        raise AdoptionError(
            f"{source.about.split(',')[0]} cannot be converted to ONNX: {first_line(error)}"
        ) from error

    def answers(images: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        found = function(tf.constant(images.astype(kind)))
        return {name: each.numpy().astype(np.float32) for name, each in found.items()}

    return Source(
        model, source.name, source.about, source.hints, answers, learned_on=source.learned_on
    )


def _packaged(size: tuple[int, int]) -> Source:
    """EfficientNet-Lite0 with ImageNet's labels. Raises ConfigError, WeightsError."""
    smallest = ARCHITECTURES[PACKAGED].smallest_for(size)
    if min(size) < smallest:
        raise ConfigError(f"--size: {PACKAGED} takes images of {smallest} pixels a side and more")
    _tensorflow()
    from training.networks import pretrained  # as above

    model = pretrained.imagenet_network(size)
    told = Hints(
        Choice(labels.imagenet(), PACKAGED),
        Choice(PIXELS, "the network scales pixels itself"),
        resize=Choice(PACKAGED_RESIZE, PACKAGED),
    )
    source = Source(onnx.ModelProto(), PACKAGED, pretrained.ABOUT, told, learned_on="ImageNet-1k")
    return _converted(lambda images: model(images, training=False), model.input_shape, source)
