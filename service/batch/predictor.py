"""A model that travels: to the processes of Ray and of Spark, as a value."""

import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Self

from service.batch.answers import Answer, answers
from service.batch.parquet import record_batch
from service.inference.classifier import ALL, Classifier, Selection
from service.inference.layout import default_file
from service.inference.model_files import read_model
from service.runtime.allocator import return_large_blocks


class Predictor(NamedTuple):
    """A model file's content, and what is asked of it.

    The content travels, and no path: the machines of a cluster need no file of their own, and all
    answer with the same model, whatever becomes of the file meanwhile.

    ``file``: where the model was, for messages; ``has_familiarity``: whether its card tells it.
    """

    model: bytes
    file: str
    selection: Selection
    has_familiarity: bool

    @classmethod
    def load(cls, path: str | os.PathLike[str], selection: Selection = ALL) -> Self:
        """Read a model file, or the default of a folder, and see that it can be used.

        Raises:
            ModelError: as of ``Classifier.load``.
        """
        file = default_file(Path(path))
        model = read_model(file)
        card = Classifier.open(model, file).card
        return cls(model, str(file), selection, card.familiarity is not None)

    def answers(self, names: Sequence[str], contents: Sequence[bytes]) -> list[tuple[str, Answer]]:
        """Names of files with their answers; a process opens the model with its first."""
        found = answers(_opened(self.model, self.file), contents, self.selection)
        return list(zip(names, found, strict=True))

    def record_batch(self, names: Any, contents: Any) -> Any:
        """Arrow's columns of names and contents, at least one, as a ``pyarrow.RecordBatch``."""
        named = self.answers(names.to_pylist(), contents.to_pylist())
        return record_batch(named, has_familiarity=self.has_familiarity)


@lru_cache(maxsize=1)
def _opened(model: bytes, file: str) -> Classifier:
    """With one thread: an engine has a process for each core."""
    return_large_blocks()
    return Classifier.open(model, file, threads=1)
