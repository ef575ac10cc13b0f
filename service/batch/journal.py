"""How far an output has come: a small file beside it, by which ``--resume`` goes on.

Outputs are in the order of the sources, so a number of images says all. The journal is written anew
every few seconds, after the output is on disk, and takes the old one's place as a whole: whenever
the process is killed, the output is at least as long as its journal says, and is cut back to that.
"""

import os
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

import msgspec

from service.batch.errors import Refused


class Identity(msgspec.Struct, frozen=True):
    """What makes the answers what they are. ``model`` is the SHA-256 of the file."""

    model: str
    format: str
    top_k: int | None
    min_probability: float
    shard: str
    sources: list[str]
    lists: list[str]


class Progress(msgspec.Struct, frozen=True):
    """What is on disk.

    ``images``: of the shard, from the first on; ``failed`` of them could not be answered. ``names``
    is a digest of their names. ``size``: bytes of a file, parts of a folder. ``complete``: there
    are no more images.
    """

    images: int = 0
    failed: int = 0
    names: str = ""
    size: int = 0
    complete: bool = False


class _Content(msgspec.Struct, frozen=True):
    identity: Identity
    progress: Progress
    labelserve_journal: int = 1  # a version, and a mark that the file is one


class Journal:
    """The journal of an output.

    Args:
        output: the file or folder that it is of.
        identity: what this run is asked for.
    """

    def __init__(self, output: Path, identity: Identity) -> None:
        self._path = output.with_name(f"{output.name}.journal")
        self._draft = output.with_name(f".{output.name}.journal.draft")
        self._identity = identity

    def read(self) -> Progress | None:
        """How far an earlier run has come; None if there was none.

        Raises:
            Refused: it was asked for something else, or the file is no journal.
        """
        try:
            content = msgspec.json.decode(self._path.read_bytes(), type=_Content)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError) as error:
            raise Refused(f"{self._path} cannot be read as a journal: {error}") from error
        was = content.identity
        for name in Identity.__struct_fields__:
            if getattr(was, name) != getattr(self._identity, name):
                raise Refused(
                    f"{self._path} is of a run with another {_WORDS.get(name, name)}, which"
                    " --resume cannot go on with; --overwrite begins anew"
                )
        return content.progress

    def write(self, progress: Progress) -> None:
        """Note how far the output on disk has come.

        Raises:
            OSError: it cannot be written; the old journal is still there.
        """
        content = msgspec.json.encode(_Content(self._identity, progress))
        self._draft.write_bytes(content + b"\n")
        replace_on_disk(self._draft, self._path)


def replace_on_disk(draft: Path, path: Path) -> None:
    """Have a file take another's place, so that a loss of power afterwards changes nothing.

    Raises:
        OSError: it cannot be written, or moved.
    """
    _sync(draft)
    draft.replace(path)
    with suppress(OSError):  # some file systems know this of files alone
        _sync(path.parent)  # which has the name


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_WORDS = {
    "top_k": "--top-k",
    "min_probability": "--min-probability",
    "shard": "--shard",
    "sources": "list of sources",
    "lists": "--from",
}


class Names:
    """A digest of names, one after another."""

    def __init__(self) -> None:
        self._digest = blake2b(digest_size=16)

    def add(self, names: list[str]) -> None:
        """Names that come next."""
        self._digest.update("\0".join([*names, ""]).encode(errors="surrogateescape"))

    def __str__(self) -> str:
        return self._digest.hexdigest()
