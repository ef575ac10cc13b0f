"""Which folders may be labels, and what a person is told of those that may not."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from training.data.entries import entries, folders_in, is_image
from training.errors import DataError

# Folders that divide the images, rather than labels.
PARTS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "eval": "validation",
    "evaluation": "validation",
    "test": "test",
    "testing": "test",
}
# The same words as data sets write them: training_set, test1, seg_train. They are no parts (a label
# may be called so), but where no label is called anything else, somebody meant parts.
_LIKE_PARTS = re.compile(
    rf"(seg[ _-]?)?({'|'.join(sorted(PARTS, key=len, reverse=True))}|pred)"
    r"[ _-]?(set|data|images|img)?[ _-]?\d*"
)
_SORT = "move each image into a folder that is named after its label, as in cat/1.jpg"
_TABLES = (".csv", ".tsv", ".json", ".xlsx")
_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")


def require_folder(folder: Path) -> None:
    """Raise DataError for what is no folder, and say what to do with an archive or a table."""
    if folder.is_dir():
        return
    if not folder.exists():
        raise DataError(f"data folder {folder} does not exist")
    advice = ""
    if folder.suffix.lower() in _ARCHIVES:
        advice = ": unpack it, and give the folder that holds the label folders"
    elif folder.suffix.lower() in _TABLES:
        advice = f", and tables are not read: {_SORT}, and give the folder that holds these"
    raise DataError(f"data folder {folder} is not a folder{advice}")


def require_labels(folder: Path, folders: Sequence[Path], inside: Sequence[Path]) -> None:
    """Raise DataError where nothing can be a label, and say what to do with what is there."""
    if folders:
        return
    advice = "it needs a folder of images for each label, as in cat/1.jpg"
    archives = [path for path in inside if path.suffix.lower() in _ARCHIVES]
    tables = [path for path in inside if path.suffix.lower() in _TABLES]
    if archives:
        advice = f"unpack {archives[0].name} first"
    elif tables:
        advice = f"{_SORT}, as {tables[0].name} is not read"
    raise DataError(f"{folder} has no label folders; {advice}")


def require_two(folders: Sequence[Path]) -> None:
    """Raise DataError where there is one label."""
    if len(folders) > 1:
        return
    (only,) = folders
    advice = "it needs a folder of images for each of two or more labels"
    if _may_hold_labels(only):
        inner = _innermost(only)
        names = _names(folders_in(inner))
        advice = f"if the folders in it are the labels ({names}), give --data {inner}"
    raise DataError(f"{only.parent} has one label folder only ({only.name}); {advice}")


def require_no_parts(folder: Path, folders: Sequence[Path]) -> None:
    """Raise DataError where all labels are words for parts of a data set."""
    if not all(_LIKE_PARTS.fullmatch(path.name.casefold()) for path in folders):
        return
    deep = [path for path in folders if _may_hold_labels(path)]
    first = next((path for path in deep or folders if "train" in path.name.casefold()), folders[0])
    if first in deep:
        inner = _innermost(first)
        names = _names(folders_in(inner))
        way = f"give --data {inner} to learn its labels ({names}), and measure on the others with "
        way += "evaluate"
    else:
        tables = [path.name for path in entries(folder) if path.suffix.lower() in _TABLES]
        why = f" ({tables[0]} is not read)" if tables else ""
        way = f"in {first} {_SORT}{why}, and give --data {first}"
    raise DataError(
        f"{folder} has no folders but {_names(folders)}: if they are parts of the data, {way}; if "
        f"they are labels, rename one (mv {folders[0]} {folders[0]}-label)"
    )


def require_images_above(folder: Path, folders: Sequence[Path]) -> None:
    """Raise DataError where label folders hold nothing but folders that may be the labels."""
    deep = [path for path in folders if _may_hold_labels(path)]
    if not deep:
        return
    inner = _innermost(deep[0])
    hold = "holds" if len(deep) == 1 else "hold"
    raise DataError(
        f"{_names(deep)} in {folder} {hold} no images but in folders: if these are the labels "
        f"({_names(folders_in(inner))}), give --data {inner}; if the labels are {_names(folders)}, "
        f"move an image of each straight into its folder, as in {deep[0]}/1.jpg"
    )


def _may_hold_labels(folder: Path) -> bool:
    """Whether a folder holds folders and no images beside them.

    One folder of images in it (cat/images/) cannot be meant, as it takes two labels to train.
    """
    inside = entries(folder)
    if any(is_image(path) and path.is_file() for path in inside):
        return False
    folders = [path for path in inside if path.is_dir()]
    return len(folders) > 1 or (len(folders) == 1 and _may_hold_labels(folders[0]))


def _innermost(folder: Path) -> Path:
    """The folder, or what it wraps: training_set/training_set/ of cats/ and dogs/."""
    inside = folders_in(folder)
    return _innermost(inside[0]) if len(inside) == 1 and _may_hold_labels(inside[0]) else folder


def _names(folders: Sequence[Path], most: int = 5) -> str:
    """`a, b and 7 more`."""
    names = ", ".join(path.name for path in folders[:most])
    return names + (f" and {len(folders) - most} more" if len(folders) > most else "")


def require_known(folder: Path, labels: Sequence[str], known: Sequence[str]) -> None:
    """Raise DataError for labels that are not `known`, with the nearest that are."""
    unknown = sorted(set(labels) - set(known))
    if not unknown:
        return
    plain = {label.casefold(): label for label in known}
    near = {
        label: plain[found[0]]
        for label in unknown
        if (found := difflib.get_close_matches(label.casefold(), plain, 1))
    }
    hint = ", ".join(f"rename {label!r} to {other!r}" for label, other in near.items())
    for path in folders_in(folder) if not near else ():
        inner = _innermost(path)
        if {unicodedata.normalize("NFC", each.name) for each in folders_in(inner)} & set(known):
            hint = f"the folders in {inner} are: give --data {inner}"
            break
    raise DataError(
        f"{folder} has labels that the model does not know: {', '.join(unknown)}; "
        f"{hint or 'it knows ' + ', '.join(known)}"
    )


def require_names(folder: Path, labels: Sequence[str]) -> None:
    """Raise DataError for a name that two label folders have, or that is not in UTF-8."""
    for label, times in Counter(labels).items():
        if times > 1:
            raise DataError(
                f"{folder} has {times} folders that are called {label!r}, once their accents are "
                "written alike: make one of them"
            )
        if label != label.encode("utf-8", "replace").decode():
            raise DataError(f"{folder}: the name of label folder {label!r} is not in UTF-8")
