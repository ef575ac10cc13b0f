"""An address that cannot be listened on ends the start with one line, at once."""

import os
import socket
from pathlib import Path

import pytest

from service.server.listener import listen
from service.settings import Settings, SettingsError
from tests.field.starting import refused
from tests.server import free_port


def test_a_port_that_another_process_listens_on(tiny_model: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        status, lines, seconds = refused(tiny_model, PORT=port)
    assert status == 2
    (line,) = lines
    assert line.startswith("cannot start: ")
    assert f"port {port}" in line
    assert "in use" in line
    assert "another port" in line
    assert seconds < 4  # gunicorn tries for five seconds


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("192.0.2.1", "Cannot assign requested address"),
        ("2001:db8::1", "Cannot assign requested address|not supported"),
        ("[2001:db8::1]", "Cannot assign requested address|not supported"),
        ("*", "no such host"),
        ("0.0.0.0:8000", "no such host"),
        ("http://localhost", "no such host"),
        ("nowhere.invalid", "no such host"),
        ("a..b", "no such host"),
    ],
)
def test_an_address_that_is_not_ours(host: str, reason: str) -> None:
    with pytest.raises(SettingsError, match=reason) as caught:
        listen(Settings(host=host, port=free_port()))
    assert f"host {host} " in str(caught.value)
    assert "0.0.0.0 for every IPv4 address" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_port_that_needs_rights() -> None:
    lowest = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text(encoding="ascii"))
    if lowest < 2:
        pytest.skip("every port is free for everybody here")
    os.seteuid(65534)
    try:
        with pytest.raises(SettingsError, match="1024 or more"):
            listen(Settings(port=1))
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", "::1", "[::]"])  # noqa: S104
def test_a_restart_finds_its_port_free(host: str) -> None:
    """Connections that the service closed itself are in TIME_WAIT for a minute."""
    settings = Settings(host=host, port=free_port())
    for _ in range(2):
        with listen(settings) as listener:
            family = listener.family
            home = "127.0.0.1" if family == socket.AF_INET else "::1"
            with socket.socket(family) as client:
                client.connect((home, settings.port))
                accepted, _ = listener.accept()
                accepted.close()
                assert client.recv(1) == b""
