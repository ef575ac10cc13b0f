"""Every answered request is counted once, as what its client was told."""

import threading
from pathlib import Path

import pytest

from service.runtime.shared_state import SharedState, WorkerSlot
from service.server.messages import Fields
from service.serving.context import RequestContext
from service.serving.errors import ClientDisconnected, DeadlineExceeded
from service.serving.responses import error_response
from service.serving.service import Service
from service.settings import Settings


@pytest.fixture
def service(tiny_model: Path) -> Service:
    return Service.build(Settings(model=tiny_model), slot=WorkerSlot(SharedState(1), 0))


def begin() -> RequestContext:
    return RequestContext.begin("POST", Fields([]), Settings())


def test_a_request_is_counted_as_what_its_client_was_told(service: Service) -> None:
    """A thread that still works on it learns that the client is gone, which is not counted."""
    context = begin()
    told = error_response(DeadlineExceeded("too late"), context)
    service.accounting.add(context, told.status)
    late = error_response(ClientDisconnected("gone"), context)
    service.accounting.add(context, late.status)
    assert (told.status, late.status) == (504, 499)
    assert context.problem == "deadline-exceeded"
    assert service.accounting.pending == 1
    service.accounting.flush()
    assert service.accounting.pending == 0


def finish(service: Service, context: RequestContext, gate: threading.Barrier, status: int) -> None:
    gate.wait()
    service.accounting.add(context, status)


def test_a_deadline_that_races_a_finishing_thread_counts_once(service: Service) -> None:
    """Both find the request unanswered at the same moment; only one of them may count it."""
    rounds = 200
    for _ in range(rounds):
        context, gate = begin(), threading.Barrier(2)

        threads = [
            threading.Thread(target=finish, args=(service, context, gate, status))
            for status in (200, 504)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert service.accounting.pending == rounds
