"""The only user of onnxruntime: a model file in, probabilities and familiarity out."""

import io
import logging
import math
import os
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated, NamedTuple, Self

import msgspec
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from service.inference.contract import (
    FAMILIARITY_NAME,
    INPUT_NAME,
    METADATA_KEY,
    OUTPUT_NAME,
    ModelCard,
)
from service.inference.errors import (
    CardError,
    ContractMismatch,
    InvalidAnswer,
    ModelUnreadable,
    UnknownProvider,
)
from service.inference.foreign_files import foreign_kind
from service.inference.layout import default_file
from service.inference.model_files import read_model

_LOG = logging.getLogger("labelserve.inference")

# onnxruntime's names of what computes end so; settings may leave the ending out.
_ENDING = "ExecutionProvider"
CPU = "CPUExecutionProvider"
# Inferences that are timed when a model is opened: one alone may meet a pause of the machine's.
TIMED = 3
# How far a probability, or the sum of all, may be from where it has to be.
TOLERANCE = 1e-3
# Of a familiarity: as many as a float32 below 1 has.
_DECIMALS = 6
_WITH_FAMILIARITY = (OUTPUT_NAME, FAMILIARITY_NAME)
_CUDA = ("CUDAExecutionProvider", "TensorrtExecutionProvider")

# What onnxruntime raises when it opens a file; its exceptions share no base but these.
_OPEN_ERRORS = (
    RuntimeError,  # of a provider that does not find its device
    ort.capi.onnxruntime_pybind11_state.EPFail,
    ort.capi.onnxruntime_pybind11_state.EngineError,
    ort.capi.onnxruntime_pybind11_state.Fail,
    ort.capi.onnxruntime_pybind11_state.InvalidArgument,
    ort.capi.onnxruntime_pybind11_state.InvalidGraph,
    ort.capi.onnxruntime_pybind11_state.InvalidProtobuf,
    ort.capi.onnxruntime_pybind11_state.NoSuchFile,
    ort.capi.onnxruntime_pybind11_state.NotImplemented,
    ort.capi.onnxruntime_pybind11_state.RuntimeException,
)


class Prediction(msgspec.Struct, frozen=True):
    """One label and its probability in 0..1."""

    label: str
    probability: Annotated[float, msgspec.Meta(ge=0, le=1)]


class Selection(msgspec.Struct, frozen=True):
    """Which labels of an answer are wanted: those that meet both.

    ``top_k``: so many, the most probable ones, at least 1; None for all. ``min_probability``: only
    those with at least this probability, 0..1.
    """

    top_k: int | None = None
    min_probability: float = 0.0


ALL = Selection()


class Outputs(NamedTuple):
    """What the graph gives for N images.

    ``probabilities``: float32 [N, labels]. ``familiarity``: for each image, in 0..1, the share of
    held-back images that are less like the training images; None of a model without it.
    """

    probabilities: NDArray[np.float32]
    familiarity: list[float] | None


class Classifier:
    """An opened model. ``run`` and ``predict`` may be called from several threads at once.

    ``card``: what the file says of itself; ``seconds_per_image``: one inference, as measured when
    the model was opened; ``providers``: what computes, the first of them as much as it can.
    """

    def __init__(self, session: ort.InferenceSession, card: ModelCard) -> None:
        self._session = session
        self._outputs = [OUTPUT_NAME] if card.familiarity is None else [*_WITH_FAMILIARITY]
        self.card = card
        self.seconds_per_image = 0.0
        self.providers: tuple[str, ...] = tuple(session.get_providers())

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, threads: int = 1) -> Self:
        """Read and open a model file, or a folder's; the rest is as of ``open``.

        Of a folder of versions, it is the default: ``stable``, else the highest number.

        Raises:
            ModelNotFound: no such file, or not readable; no or several files in the folder; a
                label that leads nowhere, or several models.
            ModelError: as of ``open``.
        """
        file = default_file(Path(path))
        return cls.open(read_model(file), file, threads=threads)

    @classmethod
    def open(
        cls,
        data: bytes,
        path: str | os.PathLike[str],
        *,
        threads: int = 1,
        providers: Sequence[str] = (CPU,),
    ) -> Self:
        """Open a model, check it against the contract and answer an image with it.

        Create it after the fork that it is used in: onnxruntime's threads do not survive one.

        Args:
            data: the ``.onnx`` file, with its card and all of its data inside.
            path: where it was, for messages.
            threads: how many threads one inference uses.
            providers: what is to compute, by ``provider_name``'s names, the preferred one first;
                the CPU does what is left, and everything, with a warning, where one is missing or
                cannot be loaded.

        Raises:
            UnknownProvider: as of ``provider_name``.
            ModelUnreadable: not a model that onnxruntime opens, or data outside of the file.
            CardError: no card, or not one of this schema.
            ContractMismatch: inputs, outputs or labels are not as promised.
        """
        kind = foreign_kind(data)
        if kind is not None:
            raise ModelUnreadable(f"model file {path} {kind}")
        session = _open_session(data, path, threads, _usable(providers))
        text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
        if text is None:
            raise CardError(
                f"model file {path} has no card (metadata {METADATA_KEY!r});"
                " `python -m training adopt` makes a model file of it"
            )
        classifier = cls(session, ModelCard.from_json(text))
        _check_graph(session, classifier.card)
        classifier.warm_up()
        return classifier

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) of the images that ``run`` takes."""
        return self.card.input.height, self.card.input.width

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities alone, float32 [N, labels]; the rest is as of ``run``."""
        return self.run(images).probabilities

    def run(self, images: NDArray[np.uint8]) -> Outputs:
        """What the model answers to images, uint8 [N, height, width, 3] RGB.

        Raises:
            ValueError: the array is not of that shape and type.
        """
        expected = (*self.input_size, 3)
        if images.dtype != np.uint8 or images.shape[1:] != expected:
            raise ValueError(
                f"images are {images.dtype} {list(images.shape)},"
                f" uint8 [N, {', '.join(map(str, expected))}] expected"
            )
        probabilities, *others = self._session.run(self._outputs, {INPUT_NAME: images})
        # The graph's float32 is not quite the share it stands for: 0.01 would be below 0.01.
        shares = (
            [round(share, _DECIMALS) for share in others[0].ravel().tolist()] if others else None
        )
        return Outputs(np.asarray(probabilities, np.float32), shares)

    def is_unfamiliar(self, familiarity: float) -> bool:
        """Whether an image with this familiarity is unlike what the model was made for."""
        told = self.card.familiarity
        return told is not None and familiarity < told.threshold

    def rank(
        self, probabilities: NDArray[np.float32], selection: Selection = ALL
    ) -> list[Prediction]:
        """One row of ``predict`` as predictions, most probable first: those that are selected.

        Raises:
            InvalidAnswer: the row has NaN or infinity in it.
        """
        # Plain numbers: to sort a row with numpy and to take it apart again costs more.
        values, labels = probabilities.tolist(), self.card.labels
        if not math.isfinite(sum(values)):  # a sum of finite float32 is finite
            raise InvalidAnswer("the model answered this image with NaN or infinity")
        order = sorted(range(len(values)), key=values.__getitem__, reverse=True)
        order = order[: selection.top_k]
        least = selection.min_probability
        if least:
            order = [i for i in order if values[i] >= least]
        return [Prediction(labels[i], values[i]) for i in order]

    def warm_up(self) -> None:
        """Answer a black image: the first time allocates everything, the next ones are timed.

        Raises:
            ContractMismatch: the answer is not one row of probabilities, one per label, with a
                familiarity where the card has it.
        """
        try:
            black = np.zeros((1, *self.input_size, 3), np.uint8)
            answer, familiarity = self.run(black)
            self.seconds_per_image = min(self._seconds(black) for _ in range(TIMED))
        except _OPEN_ERRORS as error:
            raise ModelUnreadable(f"the model does not answer: {error}") from error
        labels = len(self.card.labels)
        if answer.shape != (1, labels):
            raise ContractMismatch(
                f"the model gives {list(answer.shape)}, the card {labels} labels"
            )
        if not np.isfinite(answer).all():
            raise ContractMismatch("the model answers a black image with NaN or infinity")
        if answer.min() < -TOLERANCE or answer.max() > 1 + TOLERANCE:
            raise ContractMismatch(
                f"the model's output is not one probability per label: it answers a black image"
                f" with numbers from {answer.min():.3g} to {answer.max():.3g}"
            )
        if self.card.activation == "softmax" and abs(float(answer.sum()) - 1) > TOLERANCE:
            raise ContractMismatch(
                f"the probabilities that the model answers a black image with sum to"
                f" {answer.sum():.3g}, not 1: if each label stands alone, its card has to say"
                ' "activation": "sigmoid"'
            )
        if familiarity is not None and not (len(familiarity) == 1 and 0 <= familiarity[0] <= 1):
            raise ContractMismatch(
                f"the familiarity of a black image is {familiarity[:3]}, where one number from 0 to"
                " 1 is promised"
            )

    def _seconds(self, images: NDArray[np.uint8]) -> float:
        begun = time.perf_counter()
        self.run(images)
        return time.perf_counter() - begun


def provider_name(name: str) -> str:
    """What onnxruntime calls a provider: ``cuda`` is short for ``CUDAExecutionProvider``.

    Raises:
        UnknownProvider: it knows no such name; the message lists what is installed.
    """
    known: dict[str, str] = {provider.lower(): provider for provider in ort.get_all_providers()}
    wanted = name.lower().removesuffix(_ENDING.lower()) + _ENDING.lower()
    if wanted not in known:
        installed = (one.removesuffix(_ENDING).lower() for one in ort.get_available_providers())
        raise UnknownProvider(
            f"no provider is called {name!r}; installed are {', '.join(installed)}"
        )
    return known[wanted]


def _usable(wanted: Sequence[str]) -> list[str]:
    """Those of the wanted that this onnxruntime was built with, in order, and the CPU."""
    names = [provider_name(name) for name in wanted]
    installed = ort.get_available_providers()
    for name in names:
        if name not in installed:
            _LOG.warning(
                "%s is not installed, inference goes on without; there are %s",
                name,
                ", ".join(installed),
            )
    usable = [name for name in dict.fromkeys([*names, CPU]) if name in installed]
    if any(name in _CUDA for name in usable):
        # CUDA's libraries may have come as Python packages. What it prints of missing ones is said
        # below, once, as a provider that could not be loaded.
        with redirect_stdout(io.StringIO()):
            ort.preload_dlls()
    return usable


def _open_session(
    data: bytes, path: str | os.PathLike[str], threads: int, providers: list[str]
) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what goes wrong is raised, and said once, by us
    # Waiting threads that spin eat a container's CPU quota.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # A model is one file. Data outside of it would be looked for in the current folder.
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path",
        str(Path(path) / "no-folder-can-be-below-a-file"),
    )
    try:
        # onnxruntime's own second try would be announced on standard output.
        session = ort.InferenceSession(data, options, providers=providers, enable_fallback=0)
    except _OPEN_ERRORS as error:
        suspect = next((name for name in providers if name != CPU), None)
        if suspect is not None:  # or is it the file? Without the provider it will be seen.
            others = [name for name in providers if name != suspect]
            session = _open_session(data, path, threads, others)
            _LOG.warning("%s cannot be used, inference goes on without: %s", suspect, error)
            return session
        raise ModelUnreadable(f"model file {path} cannot be opened: {error}") from error
    for name in providers:
        # Without its libraries, or its device, onnxruntime leaves a provider out.
        if name not in session.get_providers():
            _LOG.warning("%s cannot be loaded, inference goes on without", name)
    return session


def _check_graph(session: ort.InferenceSession, card: ModelCard) -> None:
    size = f"{card.input.height}, {card.input.width}, 3"
    promised = {INPUT_NAME: ("tensor(uint8)", size), OUTPUT_NAME: ("tensor(float)", "labels")}
    if card.familiarity is not None:
        promised[FAMILIARITY_NAME] = ("tensor(float)", "")
    nodes = [*session.get_inputs(), *session.get_outputs()]
    found = [(node.name, node.type) for node in nodes]
    # The batch is free; the width of the output is checked on a real answer.
    fits = found == [(name, kind) for name, (kind, _) in promised.items()]
    free = not any(isinstance(node.shape[0], int) for node in nodes if node.shape)
    if not (fits and free and nodes[0].shape[1:] == [card.input.height, card.input.width, 3]):
        shapes = [node.shape for node in nodes]
        wanted = [
            f"{name}: {kind} [N{', ' * bool(rest)}{rest}]"
            for name, (kind, rest) in promised.items()
        ]
        raise ContractMismatch(
            f"the graph has {found} of shape {shapes} where the card promises {', '.join(wanted)}"
        )
