"""gunicorn's configuration: sizes from the settings, hooks for the scoreboard and the metrics."""

import math
import os
import shutil
import signal
import socket
import struct
import sys
import tempfile
from pathlib import Path

# numpy's BLAS would start a thread per core of the host; it has to be told before it is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from gunicorn.arbiter import Arbiter
from gunicorn.workers.base import Worker

from service import logs
from service.capacity import raise_descriptor_limit
from service.memory import fitted_settings, give_back_freed_memory, keep_giving_back
from service.transport.drain import Drain
from service.transport.parser import make_parser
from service.transport.worker import SPARE_DESCRIPTORS
from service.web import metrics
from service.web.reload import ModelWatcher
from service.web.scoreboard import Scoreboard, Seat, take_seat
from service.web.service import service_of

give_back_freed_memory()  # workers inherit it, and this
descriptors = raise_descriptor_limit()
settings, lowered = fitted_settings()

_host = settings.host.strip("[]")
bind = f"[{_host}]:{settings.port}" if ":" in _host else f"{_host}:{settings.port}"
workers = settings.worker_count
worker_class = {
    "loop": "service.transport.worker.Worker",
    "gthread": "service.transport.plain.Worker",
}[settings.worker]
# For gthread: more than predictions may be inside, to tell who is turned away and answer probes.
threads = settings.inside_per_worker + 16
preload_app = False  # onnxruntime sessions do not survive a fork
keepalive = math.ceil(settings.keep_alive)  # gunicorn takes whole seconds only
worker_connections = settings.connections_per_worker
timeout = 60
graceful_timeout = math.ceil(settings.graceful_timeout)
control_socket_disable = True
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108  heartbeats
http_parser = settings.http_parser
accesslog = None  # the application writes a line per request itself
logconfig_dict = logs.configuration(settings)
forwarded_allow_ips = "*"
forwarder_headers = ""  # nobody in front of it may rewrite the path by a header
limit_request_line = 8190

_READ_TIMEOUT = struct.pack("ll", int(settings.body_timeout), int(settings.body_timeout % 1 * 1e6))


def on_starting(server: Arbiter) -> None:
    """Before any fork: what the workers will share."""
    for line in lowered:
        server.log.warning(line)
    try:
        make_parser(settings.http_parser, lambda: False, lambda _: None)
    except ImportError as error:
        sys.exit(f"cannot start: {error}")
    if descriptors < worker_connections + SPARE_DESCRIPTORS:
        server.log.warning(
            "a worker holds %d connections at most, by its limit of open files",
            descriptors - SPARE_DESCRIPTORS,
        )
    server.board = Scoreboard(workers, settings)
    server.slots = {}
    try:
        folder = tempfile.mkdtemp(prefix="labelserve-", dir=worker_tmp_dir)
    except OSError as error:
        sys.exit(f"cannot start: heartbeats and metrics need /dev/shm: {error}")
    os.environ[metrics.FOLDER_VARIABLE] = folder
    server.handle_term = Drain(server, server.board, settings.drain_seconds)
    # gunicorn's own reload would replace the workers, and put up with a model that does not open.
    server.handle_hup = server.board.hang_up


def when_ready(server: Arbiter) -> None:
    """Bound gthread's reads: it has no timeout of its own, but inherits the listeners'."""
    for listener in server.LISTENERS:
        listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _READ_TIMEOUT)


def pre_fork(server: Arbiter, worker: Worker) -> None:
    """Give the new worker a free slot."""
    taken = {server.slots[other] for other in server.WORKERS.values() if other in server.slots}
    server.slots = {w: s for w, s in server.slots.items() if w in server.WORKERS.values()}
    server.slots[worker] = server.board.free_slot(taken)


def post_fork(server: Arbiter, worker: Worker) -> None:
    """In the worker: take the slot, for readiness and for metrics."""
    slot = server.slots[worker]
    take_seat(Seat(server.board, slot))
    metrics.use_slot(slot)


def post_worker_init(worker: Worker) -> None:
    """Make the worker, which can answer now, watch for other models, and keep its memory small."""
    # The master tells of SIGHUP; one to the whole process group must not end the workers.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    ModelWatcher(service_of(worker.wsgi)).start()
    keep_giving_back()


def child_exit(server: Arbiter, worker: Worker) -> None:
    """A worker is gone: it is not ready, and holds no requests."""
    slot = server.slots[worker]
    server.board.clear(slot)
    metrics.forget_slot(slot)


def on_exit(server: Arbiter) -> None:
    """The service is over: its metrics too."""
    shutil.rmtree(os.environ[metrics.FOLDER_VARIABLE], ignore_errors=True)
