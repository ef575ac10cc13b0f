"""Lines of log as they are written, where a whole service would be in the way of seeing it."""

import io
import logging
import os

from service.runtime.logs import LineHandler, written_together


def test_a_log_without_a_reader_stops_nothing() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with io.FileIO(writing, "w") as pipe:  # without a buffer that would be flushed at the end
        handler = LineHandler(io.TextIOWrapper(pipe, write_through=True))
        handler.emit(logging.makeLogRecord({"msg": "no one reads this"}))
        with written_together():
            handler.write_line("nor this")
