"""Lines of log as they are written, where a whole service would be in the way of seeing it."""

import io
import logging
import os

from service.runtime.logs import LineHandler, written_together


def test_a_log_that_nobody_reads_any_more_stops_nothing() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with io.FileIO(writing, "w") as pipe:  # without a buffer that would be flushed at the end
        handler = LineHandler(io.TextIOWrapper(pipe, write_through=True))
        handler.emit(logging.makeLogRecord({"msg": "nobody hears this"}))
        with written_together():
            handler.write_line("nor this")
