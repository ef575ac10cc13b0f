"""Files that lie where a model file should, told by their first bytes."""

from collections.abc import Callable

_ADOPT = "`python -m training adopt`"  # makes model files of others'
_HEAD_BYTES = 512

# What it is, and what to do. The first that holds counts.
_KINDS: tuple[tuple[str, Callable[[bytes], bool]], ...] = (
    ("is empty; copy it again", lambda head: not head),
    (
        "is a Git LFS pointer and not the model itself; `git lfs pull` fetches that",
        lambda head: head.startswith(b"version https://git-lfs.github.com/spec/"),
    ),
    (
        "is a web page, as downloads give that want a login; download the file itself",
        lambda head: _text(head).startswith((b"<!doctype", b"<html", b"<?xml")),
    ),
    ("is JSON text; the .onnx file is wanted", lambda head: _text(head).startswith(b"{")),
    (
        f"is an HDF5 file; {_ADOPT} takes Keras', under a name that ends in .h5",
        lambda head: head[:4] == b"\x89HDF",
    ),
    (
        f"is a zip archive; {_ADOPT} takes a .keras, and PyTorch's .pt once it is exported to ONNX",
        lambda head: head[:4] == b"PK\x03\x04",
    ),
    (
        f"is a pickle, such as PyTorch's older .pt; {_ADOPT} takes it once it is exported to ONNX",
        lambda head: head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"),
    ),
    (
        f"holds safetensors, weights without a network; {_ADOPT} takes that exported to ONNX",
        lambda head: head[8:10] == b'{"',
    ),
    (
        f"is a TensorFlow Lite model; {_ADOPT} takes the .keras or SavedModel that it was made of",
        lambda head: head[4:8] == b"TFL3",
    ),
    ("is compressed; unpack it first", lambda head: head.startswith((b"\x1f\x8b", b"BZh"))),
)


def foreign_kind(data: bytes) -> str | None:
    """What a file is that is no model, as the end of a sentence; None of what may be one."""
    head = data[:_HEAD_BYTES]
    return next((kind for kind, holds in _KINDS if holds(head)), None)


def _text(head: bytes) -> bytes:
    """The beginning of what may be text, without what may stand before it, in lower case."""
    return head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
