"""The example of a proxy, in a real nginx before real replicas."""

import json
import re
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from service.settings import Settings
from tests.images import encode, photograph
from tests.nginx import EXAMPLE, example, start_nginx
from tests.server import Reply, Server, assert_problem, free_port, start_server

BURST = int(re.findall(r"burst=(\d+)", EXAMPLE)[0])


class Proxy(Server):
    """Spoken to like a server. nginx answers some requests itself, which no description has."""

    def check(self, method: str, path: str, reply: Reply) -> None:
        """Leave answers alone: those of the service are looked at where it is asked directly."""


@pytest.fixture(scope="module")
def replica(tiny_model: Path) -> Iterator[Server]:
    with start_server(tiny_model) as server:
        yield server


@contextmanager
def start_proxy(nginx: str, folder: Path, first: int, second: int) -> Iterator[Proxy]:
    port, errors = free_port(), folder / "error.log"
    http = example(port, [f"127.0.0.1:{replica}" for replica in (first, second)])
    with start_nginx(nginx, folder, port, http) as process:
        yield Proxy(process, port, errors, errors)


@contextmanager
def failing_replica(answer: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """A socket that takes requests, and gives each the same answer, or closes without one.

    Yields:
        Its port, and the requests that it got so far.
    """
    asked: list[bytes] = []

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            request: bytes = self.request.recv(1 << 20)
            asked.append(request)
            self.request.sendall(answer)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.05])
        thread.start()
        try:
            yield server.server_address[1], asked
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def proxy(nginx: str, replica: Server, tmp_path: Path) -> Iterator[Proxy]:
    """In front of one replica that answers, and of one that is gone."""
    with start_proxy(nginx, tmp_path, replica.port, free_port()) as running:
        yield running


@pytest.fixture(scope="module")
def image() -> bytes:
    return encode(photograph(1, 64, 64), "JPEG")


def test_a_replica_that_is_gone_costs_no_request(proxy: Proxy, image: bytes) -> None:
    replies = [proxy.post("/predict", image) for _ in range(10)]
    assert [reply.status for reply in replies] == [200] * 10
    assert "connect() failed" in proxy.errors.read_text()  # it was tried


@pytest.mark.parametrize(
    ("answer", "statuses"),
    [
        (b"", {200}),  # it took the whole request, and died over it
        (b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", {200}),
        (b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n", {200, 429}),
    ],
    ids=["dies", "503", "429"],
)
def test_another_replica_is_asked_where_that_helps(
    *,
    nginx: str,
    replica: Server,
    tmp_path: Path,
    image: bytes,
    answer: bytes,
    statuses: set[int],
) -> None:
    with (
        failing_replica(answer) as (port, asked),
        start_proxy(nginx, tmp_path, replica.port, port) as proxy,
    ):
        replies = [proxy.post("/predict", image) for _ in range(8)]
    assert {reply.status for reply in replies} == statuses
    assert asked
    if 429 in statuses:
        assert [reply.status for reply in replies].count(429) == len(asked)


def test_answers_and_problems_of_the_service_go_through(
    proxy: Proxy, replica: Server, image: bytes
) -> None:
    asked = {"X-Request-ID": "from-the-client"}
    through = proxy.post("/predict", image, asked)
    assert through.json() == replica.post("/predict", image).json()
    assert through.headers["X-Request-ID"] == "from-the-client"
    assert_problem(proxy.post("/predict", b"no image"), 415, "unsupported-format")
    assert_problem(proxy.post("/predict", image[:300]), 422, "broken-image")
    too_large = bytes(Settings().max_image_bytes + 1)
    assert_problem(proxy.post("/predict", too_large), 413, "body-too-large")


def test_a_client_that_asks_too_often_is_told_in_the_services_words(
    proxy: Proxy, replica: Server, image: bytes
) -> None:
    before = replica.metric("labelserve_requests_total", route="/predict", status="200")
    connection = proxy.connection()
    replies = []
    for _ in range(3 * BURST):
        connection.request("POST", "/predict", body=image)
        answer = connection.getresponse()
        replies.append(Reply(answer.status, answer.headers, answer.read()))
    connection.close()
    assert {reply.status for reply in replies[:BURST]} == {200}
    refused = [reply for reply in replies if reply.status != 200]
    assert refused
    for reply in refused:
        _assert_own_problem(reply, 429)
        assert reply.headers["Retry-After"] == "1"
    after = replica.metric("labelserve_requests_total", route="/predict", status="200")
    assert after - before == len(replies) - len(refused)


def test_what_nginx_refuses_itself_has_the_one_shape(proxy: Proxy) -> None:
    _assert_own_problem(proxy.get("/metrics"), 404)
    limit = int(re.findall(r"client_max_body_size (\d+)m;", EXAMPLE)[0]) << 20
    with proxy.wire() as wire:
        head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: {limit + 1}\r\n\r\n"
        _assert_own_problem(wire.send(head.encode()).reply(), 413)


def test_without_any_replica_clients_are_told_to_come_back(nginx: str, tmp_path: Path) -> None:
    with start_proxy(nginx, tmp_path, free_port(), free_port()) as proxy:
        reply = proxy.get("/health/ready")
        _assert_own_problem(reply, 503)
        assert reply.headers["Retry-After"] == "1"


def test_an_id_that_could_forge_the_answer_is_replaced(proxy: Proxy) -> None:
    reply = proxy.get("/metrics", {"X-Request-ID": 'x","status":200,"y":"'})
    assert re.fullmatch("[0-9a-f]{32}", str(_assert_own_problem(reply, 404)["request_id"]))


def test_times_and_sizes_fit_the_services() -> None:
    settings = Settings()
    seconds = {name: int(value) for name, value in re.findall(r"(\w+_timeout) (\d+)s;", EXAMPLE)}
    assert seconds["proxy_read_timeout"] > settings.request_timeout
    # Of two lines the first is the upstream's.
    upstream = int(re.findall(r"keepalive_timeout (\d+)s;", EXAMPLE)[0])
    assert upstream < settings.keep_alive
    largest = int(re.findall(r"client_max_body_size (\d+)m;", EXAMPLE)[0]) << 20
    assert largest >= settings.largest_body


def _assert_own_problem(reply: Reply, status: int) -> dict[str, object]:
    assert reply.status == status, (reply.status, reply.body)
    assert reply.headers["Content-Type"] == "application/problem+json"
    problem: dict[str, object] = json.loads(reply.body)
    assert set(problem) == {"type", "title", "status", "detail", "request_id"}
    assert problem["status"] == status
    assert problem["request_id"] == reply.headers["X-Request-ID"]
    return problem
