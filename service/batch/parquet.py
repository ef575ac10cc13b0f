"""The columns of Parquet outputs. pyarrow is an extra: it is imported when it is asked for."""

from collections.abc import Sequence
from typing import Any

from service.batch.answers import Answer
from service.batch.columns import FAMILIARITY, column_names, rows


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


def record_batch(named: Sequence[tuple[str, Answer]], *, has_familiarity: bool) -> Any:
    """Answers, at least one, as a ``pyarrow.RecordBatch``."""
    import pyarrow as pa

    kinds = schema(has_familiarity=has_familiarity)
    columns = zip(*rows(named, has_familiarity=has_familiarity), strict=True)
    arrays = [pa.array(one, kind.type) for one, kind in zip(columns, kinds, strict=True)]
    return pa.record_batch(arrays, schema=kinds)


def table_bytes(named: Sequence[tuple[str, Answer]], *, has_familiarity: bool) -> bytes:
    """The same, for the process that writes."""
    return bytes(record_batch(named, has_familiarity=has_familiarity).serialize())
