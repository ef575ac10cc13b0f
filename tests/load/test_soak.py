"""The soak in short: ``make soak`` is the one that proves something about memory."""

import asyncio

import pytest

from tests.load.soak import MODEL, WORKERS, most_threads, soak
from tests.server import start_server

SECONDS, REST_SECONDS = 12.0, 1.0
# Beside other tests, a thread that decodes may be made in the second half only, and keeps its
# buffers. A huge image that stays has more than this.
ROOM_KB = 100_000


@pytest.mark.timeout(180)
def test_a_short_soak_leaves_nothing_behind() -> None:
    with start_server(MODEL, workers=WORKERS) as server:
        seen = asyncio.run(soak(server, SECONDS, REST_SECONDS))
        assert set(seen.answers) <= {200, 400, 415, 422, 429}, seen.answers
        assert seen.left.descriptors <= seen.before.descriptors, seen.samples
        assert seen.left.threads <= most_threads(), seen.samples
        assert seen.left.pss_kb < seen.before.pss_kb + ROOM_KB, seen.samples
        assert not server.tracebacks
