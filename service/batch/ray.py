"""Predictions with Ray Data: python -m service.batch.ray MODEL SOURCE... --output FOLDER.

Ray runs on this machine, or on the cluster that the program was submitted to.
"""

import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from service.batch.errors import Refused
from service.batch.job import Job, Written, exists, run
from service.batch.predictor import Predictor
from service.inference.image_files import ALL_SUFFIXES
from service.runtime.sizing import MAX_BATCH_SIZE

# So few files are listed again, to be divided by their number; of more, Ray makes fewer tasks.
_FEW = 100_000
_FILES_OF_TASK = 1_000
_CORES_OF_WRITER = 32


class Actor:
    """Answers on one core of the cluster."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    def __call__(self, files: Any) -> Iterator[Any]:
        """Tables of answers, for a table of files: ``path`` and ``bytes``.

        It has all files of a read task, up to 128 MiB; only of a few there are copies at a time.
        """
        import pyarrow as pa

        for start in range(0, len(files), MAX_BATCH_SIZE):
            some = files.slice(start, MAX_BATCH_SIZE)
            answered = self._predictor.record_batch(some["path"], some["bytes"])
            yield pa.Table.from_batches([answered])


def predictions(predictor: Predictor, sources: Sequence[str]) -> Any:
    """A dataset of Ray's with the answers, in the columns of ``columns.column_names``.

    An actor for each core reads files and answers. Reading asks for as much as an actor has, a
    core, and there is no size of batches: so Ray joins the two, and no image enters its object
    store.

    Raises:
        OSError, ValueError: there is no such source, or nothing in it that is called an image.
    """
    import ray

    cores = _cores()
    return _files(sources, cores).map_batches(
        Actor,
        fn_constructor_args=(predictor,),
        batch_size=None,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=cores),
    )


def _cores() -> int:
    import ray

    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def _files(sources: Sequence[str], cores: int) -> Any:
    """A dataset of ``path`` and ``bytes``, of at most as many read tasks as there are files.

    Where it plans more tasks than there are files, Ray splits what a task reads, and cannot join
    reading and answering: reading would wait for a core, and the actors, with all cores, for it.
    """
    import ray

    read = partial(
        ray.data.read_binary_files,
        list(sources),
        include_paths=True,
        file_extensions=[*ALL_SUFFIXES],
    )
    files = read()
    count = len(files.input_files())
    if count < max(_FEW, 2 * cores):
        tasks = min(count, max(4 * cores, count // _FILES_OF_TASK))
        files = read(override_num_blocks=tasks)
    return files


def _work(job: Job) -> Written:
    import ray
    from pyarrow.dataset import dataset, field

    places, folder = _place(job)
    ray.init(include_dashboard=False)
    try:
        found = predictions(job.predictor, job.sources)
    except (OSError, ValueError) as error:  # nothing there, nothing called an image
        raise Refused(f"images cannot be listed: {error}") from error
    found.write_parquet(
        folder,
        filesystem=places,
        mode="overwrite" if job.overwrite else "error",
        # The actors have all cores until they end: what writes meanwhile must ask for none, and is
        # a few processes, as Ray would start one for each block.
        ray_remote_args={"num_cpus": 0},
        concurrency=1 + _cores() // _CORES_OF_WRITER,
    )
    rows = dataset(folder, filesystem=places, format="parquet")
    return Written(
        rows.count_rows(field("rank") == 1), rows.count_rows(field("problem").is_valid())
    )


def _place(job: Job) -> tuple[Any, str]:
    """The file system of the output, of pyarrow's, and the folder in it.

    Raises:
        Refused: it cannot be written there.
    """
    from pyarrow.fs import FileSystem, FileType

    try:
        uri = job.output if "://" in job.output else str(Path(job.output).absolute())
        places, folder = FileSystem.from_uri(uri)
        kind = places.get_file_info(folder).type
    except (OSError, ValueError) as error:
        raise Refused(f"{job.output} cannot be written: {error}") from error
    if kind != FileType.NotFound and not job.overwrite:
        raise exists(job)
    return places, folder


if __name__ == "__main__":
    sys.exit(run("ray", _work))
