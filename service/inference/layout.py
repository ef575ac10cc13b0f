"""What a model path holds: a model file, versions of a model, or several models.

    model.onnx                                    one version, with the number 1
    models/model.onnx                             the same
    models/1/model.onnx   models/2/model.onnx     versions, by their numbers
    models/stable -> 1    models/canary -> 2      labels: symbolic links beside the versions,
    models/labels.json                            or {"stable": 1, "canary": 2}
    models/pets/1/…       models/signs/…          several models, each as one of the above

Names that begin with a dot do not count: Kubernetes and git-sync keep their own folders there.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from service.inference.errors import ModelNotFound
from service.inference.model_files import is_folder, model_file, model_size, onnx_files, visible

# The number of a model that has no folder of versions.
ONLY_VERSION = 1
# The label of the version that answers where a request names none.
STABLE = "stable"
LABELS_FILE = "labels.json"

# Of a version: zeros and up to 15 digits, as in TensorFlow Serving's folders and in times. More
# are no whole numbers for every reader of JSON.
_NUMBER = re.compile(r"0*[1-9][0-9]{0,14}")
# Of a model's folder, and of a label, which is no number.
_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")
LABEL = re.compile(r"(?!\.|[0-9]+\Z)[A-Za-z0-9._-]{1,128}")
_LABELS = msgspec.json.Decoder(dict[str, int])


@dataclass(frozen=True)
class ModelLayout:
    """What there is of one model; nothing of it is opened.

    ``name``: its folder's in a folder of models, else empty; ``path``: where it is; ``versions``:
    the file, or the folder that has it, of each number; ``labels``: the number that each leads to,
    None where that is no version; ``problems``: a line about each of those, and about what else is
    wrong; ``labels_are_known``: ``labels.json``, if there is one, could be read.
    """

    name: str
    path: Path
    versions: Mapping[int, Path]
    labels: Mapping[str, int | None] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    labels_are_known: bool = True

    @property
    def default(self) -> int | None:
        """The number of what is to answer by default, if its label leads there or it opens."""
        return self.labels.get(STABLE, max(self.versions, default=None))

    @property
    def order(self) -> tuple[int, ...]:
        """The numbers: the default first, then those with labels, then from the highest."""
        labelled = set(self.labels.values())
        return tuple(
            sorted(self.versions, key=lambda n: (n != self.default, n not in labelled, -n))
        )

    def sizes(self, *, labelled: bool) -> tuple[int, ...]:
        """Bytes of the model files of the default and, if wanted, of each version with a label."""
        wanted = {self.default} | (set(self.labels.values()) if labelled else set())
        return tuple(model_size(self.versions[n]) for n in self.order if n in wanted)


def read_layout(path: Path) -> tuple[ModelLayout, ...]:
    """The models at a path, by their names.

    Raises:
        ModelNotFound: a folder that cannot be read, has several model files, or has none.
    """
    one = _model(path, "")
    if one is not None:
        return (one,)
    folders = [entry for entry in visible(path) if is_folder(entry)]
    several = [_named_model(folder) for folder in folders if _NAME.fullmatch(folder.name)]
    found = tuple(model for model in several if model is not None)
    if not found:
        model_file(path)  # says what there is instead
    return found


def read_model_layout(path: Path) -> ModelLayout:
    """The one model at a path.

    Raises:
        ModelNotFound: as of ``read_layout``, or there are several.
    """
    found = read_layout(path)
    if len(found) > 1:
        names = ", ".join(str(model.path) for model in found)
        raise ModelNotFound(f"{path} has several models, name one of them: {names}")
    return found[0]


def default_file(path: Path) -> Path:
    """The model file that a path stands for; of a folder of versions, the default's.

    Raises:
        ModelNotFound: there is none, or there are several, or the default's label leads nowhere.
    """
    layout = read_model_layout(path)
    if layout.default is None:
        raise ModelNotFound("; ".join(layout.problems))
    return model_file(layout.versions[layout.default])


def read_labels_file(path: Path) -> dict[str, int]:
    """What a model folder's ``labels.json`` says; nothing where there is no such file.

    Raises:
        ModelNotFound: it cannot be read, or is not as expected.
    """
    file = path / LABELS_FILE
    try:
        return _LABELS.decode(file.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ModelNotFound(
            f'{file} cannot be used, {{"{STABLE}": 1}} is expected: {reason}'
        ) from error


def _named_model(folder: Path) -> ModelLayout | None:
    try:
        return _model(folder, folder.name)
    except ModelNotFound as error:
        return ModelLayout(folder.name, folder, {}, problems=(str(error),))


def _model(path: Path, name: str) -> ModelLayout | None:
    """The model at a path; None of a folder that has neither a model file nor versions."""
    if not is_folder(path):
        return ModelLayout(name, path, {ONLY_VERSION: path})
    if onnx_files(path):
        model_file(path)  # exactly one
        return ModelLayout(name, path, {ONLY_VERSION: path})
    # Links first: when one leads to a version that has just come, that is found.
    links = {entry.name: os.path.realpath(entry) for entry in visible(path) if _is_label(entry)}
    versions = {int(e.name): e for e in visible(path) if _NUMBER.fullmatch(e.name) and is_folder(e)}
    if not versions:
        return None
    labels, problems = _linked_labels(path, links, versions)
    try:
        written = read_labels_file(path)
    except ModelNotFound as error:
        labels |= {STABLE: None}  # who knows what it says
        return ModelLayout(name, path, versions, labels, (*problems, str(error)), False)
    more, wrong = _written_labels(path, labels, written, versions)
    labels |= more
    if STABLE not in labels and is_folder(path / STABLE):
        labels[STABLE] = None
        wrong.append(
            f"{path / STABLE} is a folder and no link to a version, as copying makes of links: use"
            f" {LABELS_FILE}"
        )
    return ModelLayout(name, path, versions, labels, (*problems, *wrong))


def _is_label(entry: Path) -> bool:
    is_link = os.path.islink(entry) and not os.path.isfile(entry)  # noqa: PTH113, PTH114  as is_folder
    return is_link and LABEL.fullmatch(entry.name) is not None


# Which version each label leads to, and what is wrong with those that lead to none.
_Labels = tuple[dict[str, int | None], list[str]]


def _linked_labels(path: Path, links: Mapping[str, str], versions: Mapping[int, Path]) -> _Labels:
    numbers = {os.path.realpath(folder): number for number, folder in versions.items()}
    labels = {label: numbers.get(target) for label, target in links.items()}
    return labels, [
        f"label {label!r} of {path} leads nowhere by its link: there are the versions"
        f" {_listed(versions)}"
        for label, number in labels.items()
        if number is None
    ]


def _written_labels(
    path: Path,
    linked: Mapping[str, int | None],
    written: Mapping[str, int],
    versions: Mapping[int, Path],
) -> _Labels:
    labels: dict[str, int | None] = {}
    problems = []
    for label, number in written.items():
        labels[label] = None
        if number not in versions or not LABEL.fullmatch(label):
            problems.append(
                f"label {label!r} of {path} leads nowhere by {LABELS_FILE}, which says {number}:"
                f" there are the versions {_listed(versions)}"
            )
        elif linked.get(label, number) != number:
            problems.append(
                f"label {label!r} of {path} leads to {linked[label] or 'nowhere'} by its link and"
                f" to {number} by {LABELS_FILE}: leave one of them"
            )
        else:
            labels[label] = number
    return labels, problems


def _listed(versions: Mapping[int, Path]) -> str:
    return ", ".join(map(str, sorted(versions)))
