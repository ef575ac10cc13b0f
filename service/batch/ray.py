"""Predictions with Ray Data: python -m service.batch.ray MODEL SOURCE... --output FOLDER.

Ray runs on this machine, or on the cluster that the program was submitted to.
"""

import sys
from collections.abc import Iterator, Sequence
from typing import Any

from service.batch.errors import Refused
from service.batch.job import Job, Written, run
from service.batch.parquet import record_batch
from service.batch.predictor import Predictor
from service.inference.image_files import HEIC_SUFFIXES, SUFFIXES
from service.runtime.sizing import MAX_BATCH_SIZE


class Actor:
    """Answers on one core of the cluster."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    def __call__(self, files: Any) -> Iterator[Any]:
        """Tables of answers, for a table of files: ``path`` and ``bytes``.

        It has all files of a read task, up to 128 MiB; only of a few there are copies at a time.
        """
        import pyarrow as pa

        familiarity = self._predictor.has_familiarity
        for start in range(0, len(files), MAX_BATCH_SIZE):
            some = files.slice(start, MAX_BATCH_SIZE)
            names, contents = some["path"].to_pylist(), some["bytes"].to_pylist()
            named = self._predictor.answers(names, contents)
            yield pa.Table.from_batches([record_batch(named, has_familiarity=familiarity)])


def predictions(predictor: Predictor, sources: Sequence[str]) -> Any:
    """A dataset of Ray's with the answers, in the columns of ``columns.column_names``.

    An actor for each core reads the files and answers. Reading asks for as much as an actor has, a
    core, and there is no size of batches: so Ray joins the two, and no image enters its object
    store.
    """
    import ray

    files = ray.data.read_binary_files(
        list(sources), include_paths=True, file_extensions=[*SUFFIXES, *HEIC_SUFFIXES]
    )
    cores = int(ray.cluster_resources()["CPU"])
    return files.map_batches(
        Actor,
        fn_constructor_args=(predictor,),
        batch_size=None,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=cores),
    )


def _work(job: Job) -> Written:
    import ray

    ray.init(include_dashboard=False)
    try:
        found = predictions(job.predictor, job.sources)
        found.write_parquet(job.output, mode="overwrite" if job.overwrite else "error")
    except (OSError, ValueError) as error:
        raise Refused(str(error)) from error
    return Written(0, 0)


if __name__ == "__main__":
    sys.exit(run("ray", _work))
