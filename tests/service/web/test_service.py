from pathlib import Path

from service.settings import Settings
from service.transport.request import Fields
from service.web.errors import CallerGone, DeadlineExceeded
from service.web.scoreboard import Scoreboard, Seat
from service.web.service import Service


def test_a_request_is_counted_as_what_its_client_was_told(tiny_model: Path) -> None:
    """A thread that still works on it learns that nobody waits, which is no news to be counted."""
    service = Service.start(Settings(model=tiny_model), seat=Seat(Scoreboard(1), 0))
    exchange = service.begin("POST", Fields([]))
    told = service.refusal(DeadlineExceeded("too late"), exchange)
    service.finish(exchange, service.refuse(CallerGone("nobody waits"), exchange).status)
    assert told.status == 504
    assert exchange.problem == "deadline-exceeded"
    assert not service.unsettled
