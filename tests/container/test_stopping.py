"""``docker stop`` while clients are being answered: every request that was let in is answered."""

import http.client
import re
import socket
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from PIL import Image

from tests.container.conftest import Run
from tests.container.engine import Container
from tests.images import encode, photograph

CLIENTS = 4  # that ask again and again
HALF_SENT = 4  # whose upload is under way
QUEUED = 12  # whose upload is there, more than are worked on at a time
# Docker's own patience before it kills, which the service has to be well within.
STOP_SECONDS = 10


class Upload:
    """A request of which a part may come later, as from a slow client."""

    def __init__(self, port: int, body: bytes, *, at_first: float) -> None:
        first = int(len(body) * at_first)
        self._rest = body[first:]
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        head = f"POST /predict HTTP/1.1\r\nHost: test\r\nContent-Length: {len(body)}\r\n\r\n"
        self._socket.sendall(head.encode() + body[:first])

    def finish(self) -> int:
        """Send the rest; the status of the answer."""
        with self._socket:
            self._socket.sendall(self._rest)
            answer = http.client.HTTPResponse(self._socket)
            answer.begin()
            answer.read()
            return answer.status


def ask_until_refused(container: Container, body: bytes, outcomes: Counter[str]) -> None:
    """One request after the other, each on a connection of its own, until nothing listens."""
    while True:
        try:
            status, _ = container.ask("POST", "/predict", body)
        except ConnectionRefusedError:
            return
        except (OSError, http.client.HTTPException) as error:
            outcomes[f"{type(error).__name__} after being accepted"] += 1
            return
        outcomes[str(status)] += 1


def in_flight(container: Container) -> int:
    """Predictions that have been let in and not answered."""
    connection = http.client.HTTPConnection("127.0.0.1", container.port, timeout=30)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    values = re.findall(r"^labelserve_requests_in_flight(?:{.*})? (\S+)$", text, re.MULTILINE)
    return int(sum(map(float, values)))


def test_stopped_under_load_every_request_in_flight_is_answered(run: Run) -> None:
    container = run()
    container.wait_ready()
    small = encode(photograph(1, 480, 640), "JPEG", quality=85)
    large = photograph(2, 375, 500).resize((4000, 3000), Image.Resampling.NEAREST)
    slow = encode(large, "PNG", compress_level=1)
    half_sent = [Upload(container.port, small, at_first=0.5) for _ in range(HALF_SENT)]
    outcomes: Counter[str] = Counter()
    clients = [
        threading.Thread(target=ask_until_refused, args=(container, small, outcomes))
        for _ in range(CLIENTS)
    ]
    for client in clients:
        client.start()
    queued = [Upload(container.port, slow, at_first=1) for _ in range(QUEUED)]
    while in_flight(container) < QUEUED // 2:
        time.sleep(0.01)  # the test's own timeout ends this

    with ThreadPoolExecutor(1) as aside:
        started = time.monotonic()
        stop = aside.submit(container.engine.call, "stop", container.id)
        for client in clients:
            client.join()  # until nothing listens any more
        half_sent_statuses = [upload.finish() for upload in half_sent]
        queued_statuses = [upload.finish() for upload in queued]
        stop.result()
    seconds = time.monotonic() - started

    assert half_sent_statuses == [200] * HALF_SENT
    assert queued_statuses == [200] * QUEUED
    # Who came after the signal may be told so. Nobody is left without an answer.
    assert outcomes["200"]
    assert set(outcomes) <= {"200", "503"}, outcomes
    assert container.state["ExitCode"] == 0, container.log
    assert seconds < STOP_SECONDS
    # The service has counted the same answers, and a part of them came after the signal.
    lines = container.log_lines
    (signal,) = [i for i, line in enumerate(lines) if line["message"] == "Handling signal: term"]
    answered = [i for i, line in enumerate(lines) if line.get("status") == 200]
    assert len(answered) == HALF_SENT + QUEUED + outcomes["200"]
    assert sum(i > signal for i in answered) > HALF_SENT


def test_an_idle_service_stops_at_once(run: Run) -> None:
    container = run()
    container.wait_ready()
    started = time.monotonic()
    container.engine.call("stop", container.id)
    assert time.monotonic() - started < STOP_SECONDS / 2
    assert container.state["ExitCode"] == 0, container.log
