"""The columns of Parquet outputs. pyarrow is an extra: it is imported when it is asked for."""

from collections.abc import Sequence
from typing import Any

from service.batch.answers import Answer
from service.batch.columns import FAMILIARITY, Row, column_names, rows


def schema(*, has_familiarity: bool) -> Any:
    """The types of ``columns.column_names``, a ``pyarrow.Schema``.

    Raises:
        ImportError: pyarrow is not installed.
    """
    import pyarrow as pa

    kinds = {
        "file": pa.string(),
        "rank": pa.int32(),
        "label": pa.string(),
        "probability": pa.float64(),
        "problem": pa.string(),
        FAMILIARITY: pa.float64(),
    }
    names = column_names(has_familiarity=has_familiarity)
    return pa.schema([(name, kinds[name]) for name in names])


def record_batch(table: Sequence[Row], *, has_familiarity: bool) -> Any:
    """At least one of ``columns.rows`` as a ``pyarrow.RecordBatch``."""
    import pyarrow as pa

    kinds = schema(has_familiarity=has_familiarity)
    columns = zip(*table, strict=True)
    arrays = [pa.array(one, kind.type) for one, kind in zip(columns, kinds, strict=True)]
    return pa.record_batch(arrays, schema=kinds)


def table_bytes(named: Sequence[tuple[str, Answer]], *, has_familiarity: bool) -> bytes:
    """Answers, at least one, for the process that writes them."""
    table = rows(named, has_familiarity=has_familiarity)
    return bytes(record_batch(table, has_familiarity=has_familiarity).serialize())
