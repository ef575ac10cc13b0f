"""Predictions with Spark: python -m service.batch.spark MODEL SOURCE... --output FOLDER.

Spark runs on this machine, or on the cluster that `spark-submit` sent the program to.
"""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from service.batch.errors import Refused
from service.batch.job import Job, Written, exists, run
from service.batch.parquet import schema
from service.batch.predictor import Predictor
from service.inference.image_files import ALL_SUFFIXES

# What a session should have; what somebody has set otherwise stays.
SETTINGS = {
    # Files that a worker is handed at a time. The default are 10,000, of any size.
    "spark.sql.execution.arrow.maxRecordsPerBatch": "256",
    "spark.sql.execution.arrow.maxBytesPerBatch": str(16 * 2**20),
    # What opening a file counts as, of the 128 MiB that a task reads. With the default, 4 MiB, a
    # task had 32 small files, and each wrote a Parquet file of its own.
    "spark.sql.files.openCostInBytes": str(128 * 2**10),
}


def predictions(spark: Any, predictor: Predictor, sources: Sequence[str]) -> Any:
    """A data frame of Spark's with the answers, in the columns of ``columns.column_names``.

    Args:
        spark: a session, with ``SETTINGS``.
        predictor: the model.
        sources: folders, files or patterns, as Spark reads them.
    """
    from pyspark.sql.pandas.types import from_arrow_schema

    files = spark.read.format("binaryFile").load(
        list(sources), recursiveFileLookup=True, pathGlobFilter=_pattern()
    )
    types = from_arrow_schema(schema(has_familiarity=predictor.has_familiarity))
    return files.select("path", "content").mapInArrow(_answering(predictor), types)


def _pattern() -> str:
    """Names of images for Hadoop, which compares letters as they are."""
    endings = (
        "".join(f"[{one}{one.upper()}]" if one.isalpha() else one for one in suffix)
        for suffix in ALL_SUFFIXES
    )
    return f"*{{{','.join(endings)}}}"


def _answering(predictor: Predictor) -> Callable[[Iterable[Any]], Iterator[Any]]:
    def answer(batches: Iterable[Any]) -> Iterator[Any]:
        for files in batches:
            yield predictor.record_batch(files["path"], files["content"])

    return answer


def _work(job: Job) -> Written:
    from pyspark.errors import AnalysisException
    from pyspark.sql import Observation, SparkSession
    from pyspark.sql.functions import col, count, when

    # The workers' Python would be the first of PATH.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    spark = SparkSession.builder.appName("labelserve").getOrCreate()
    given = spark.sparkContext.getConf()
    for name, value in SETTINGS.items():
        if not given.contains(name):
            spark.conf.set(name, value)
    seen = Observation()
    answered, problems = count(when(col("rank") == 1, 1)), count("problem")
    try:
        found = predictions(spark, job.predictor, job.sources).observe(
            seen, answered.alias("answered"), problems.alias("problems")
        )
        found.write.parquet(job.output, mode="overwrite" if job.overwrite else "error")
    except AnalysisException as error:
        if error.getCondition() == "PATH_ALREADY_EXISTS":
            raise exists(job) from error
        raise Refused(str(error).splitlines()[0]) from error
    return Written(**seen.get)


if __name__ == "__main__":
    sys.exit(run("spark", _work))
