"""gunicorn's configuration: sizes, and hooks for what the workers share."""

import logging
import math
import os
import signal
from pathlib import Path

# numpy's BLAS would start a thread per core of the host; it reads this at its import.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from gunicorn.arbiter import Arbiter
from gunicorn.workers.base import Worker

from service.runtime import logs, prometheus
from service.runtime.allocator import return_large_blocks
from service.runtime.machine import SPARE_DESCRIPTORS, raise_descriptor_limit
from service.runtime.shared_folder import make_folder
from service.runtime.shared_state import SharedState, WorkerSlot, take_slot
from service.runtime.sizing import Sizing
from service.server.drain import Drain
from service.server.failed_start import FailedStart
from service.settings import Settings, SettingsError

logging.captureWarnings(True)  # the reader of standard error may sleep as well
return_large_blocks()  # workers inherit it, and this
descriptors = raise_descriptor_limit()
sizing = Sizing.fitted(Settings.from_environ())
settings = sizing.settings

workers = sizing.workers
worker_class = {
    "asyncio": "service.server.worker.Worker",
    "gthread": "service.server.gthread.Worker",
}[settings.worker]
# For gthread: more than predictions may be in flight, to refuse requests and to answer probes.
threads = sizing.max_in_flight + 16
preload_app = False  # onnxruntime sessions do not survive a fork
keepalive = math.ceil(settings.keep_alive)  # gunicorn takes whole seconds only
worker_connections = sizing.connections
timeout = 60
graceful_timeout = math.ceil(settings.graceful_timeout)
control_socket_disable = True
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108  heartbeats
accesslog = None  # the application writes a line per request itself
logconfig_dict = logs.configuration(settings)
forwarded_allow_ips = "*"
forwarder_headers = ""  # no proxy may rewrite the path by a header
limit_request_line = 8190
limit_request_field_size = settings.max_header_bytes


def on_starting(server: Arbiter) -> None:
    """Before any fork: what the workers will share."""
    for line in sizing.lowered:
        server.log.warning(line)
    if "GUNICORN_CMD_ARGS" in os.environ:
        server.log.warning("GUNICORN_CMD_ARGS is not read: LABELSERVE_ variables are the settings")
    if descriptors < worker_connections + SPARE_DESCRIPTORS:
        server.log.warning(
            "a worker holds %d connections at most, by its limit of open files",
            descriptors - SPARE_DESCRIPTORS,
        )
    # As if systemd had made the socket: gunicorn leaves the socket file to who has made it.
    server.systemd = True
    server.state = SharedState(workers, sizing)
    server.slots = {}
    try:
        prometheus.reserve(make_folder(worker_tmp_dir), workers)
    except (OSError, prometheus.NoRoom) as error:
        raise SettingsError(
            f"heartbeats and metrics need {workers * prometheus.SLOT_BYTES // 1024} kB of /dev/shm:"
            f" {error}; see docker run --shm-size, or mount an emptyDir with medium Memory there"
        ) from error
    server.handle_term = Drain(server, server.state, settings.drain_seconds)
    server.handle_chld = server.handle_cld = FailedStart(server, server.state)
    # gunicorn's own reload would replace the workers, and accept a model that does not open.
    server.handle_hup = server.state.hang_up


def pre_fork(server: Arbiter, worker: Worker) -> None:
    """Give the new worker a free slot."""
    taken = {server.slots[other] for other in server.WORKERS.values() if other in server.slots}
    server.slots = {w: s for w, s in server.slots.items() if w in server.WORKERS.values()}
    server.slots[worker] = server.state.free_slot(taken)


def post_fork(server: Arbiter, worker: Worker) -> None:
    """In the worker: take the slot, for readiness and for metrics."""
    number = server.slots[worker]
    take_slot(WorkerSlot(server.state, number))
    prometheus.use_slot(number)


def post_worker_init(worker: Worker) -> None:
    """The worker can answer now: watch for changed files, and keep its memory small."""
    from service.http.current import service_of
    from service.runtime.allocator import start_trimming
    from service.serving.watcher import Watcher

    # The master tells of SIGHUP; one to the whole process group must not end the workers.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    service = service_of(worker.wsgi)
    poll_seconds = service.settings.model_poll_seconds
    Watcher(service.models, service.auth, service.slot.state, poll_seconds).start()
    start_trimming()


def worker_exit(server: Arbiter, worker: Worker) -> None:
    """In the worker, which has answered its last request: what is left of traces goes out."""
    from service.http.current import service_of

    if worker.booted and (traces := service_of(worker.wsgi).traces):
        traces.stop()


def child_exit(server: Arbiter, worker: Worker) -> None:
    """A worker is gone: it is not ready, and has no requests in flight."""
    number = server.slots[worker]
    server.state.clear(number)
    prometheus.forget_slot(number)
