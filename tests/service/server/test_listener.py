"""Where the service listens: a socket file, IPv6 and both kinds of addresses."""

import http.client
import os
import runpy
import shutil
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import pytest
from PIL import Image

from service.server.listener import listen, listening
from service.settings import Settings, SettingsError
from tests.images import encode
from tests.server import ROOT, WORKERS, Server, eventually, free_port, launch

RED = encode(Image.new("RGB", (9, 7), (200, 40, 90)), "PNG")
HEALTHCHECK = ROOT / "docker" / "healthcheck.py"

# ---- a socket file -------------------------------------------------------------------------------


class FileConnection(http.client.HTTPConnection):
    """HTTP over a socket file."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=30)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        self.sock.connect(str(self._path))


def checked(environ: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Docker's health check, as the image runs it."""
    command = [sys.executable, "-I", "-S", str(HEALTHCHECK)]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module", params=WORKERS)
def running(
    request: pytest.FixtureRequest, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Server, Path]]:
    """A server on a socket file, in the place of one that a killed service has left."""
    folder = tmp_path_factory.mktemp("run")
    path = folder / "http.sock"
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
    settings = {"worker": request.param, "workers": 1, "body_timeout": 0.5}
    server = launch(tiny_model, folder, host=f"unix:{path}", **settings)
    try:
        environ = {"LABELSERVE_HOST": f"unix:{path}"}
        assert eventually(lambda: checked(environ).returncode == 0, 60), server.story
        yield server, path
    finally:
        server.kill()


def test_it_is_answered_on_as_on_a_port(running: tuple[Server, Path]) -> None:
    server, path = running
    connection = FileConnection(path)
    for _ in range(3):  # kept alive
        connection.request("POST", "/predict?top_k=1", RED)
        reply = connection.getresponse()
        assert reply.status == 200
        assert b'"red"' in reply.read()
    connection.close()
    listening = [r["message"] for r in server.records if "Listening at" in r["message"]]
    assert f"unix:{path} " in listening[0]
    assert not server.tracebacks


def test_a_slow_body_is_ended_there_too(running: tuple[Server, Path]) -> None:
    connection = FileConnection(running[1])
    connection.putrequest("POST", "/predict")
    connection.putheader("Content-Length", "100")
    connection.endheaders(b"not all of it")
    assert connection.getresponse().status == 408
    connection.close()


def test_the_proxys_group_may_connect_and_others_may_not(running: tuple[Server, Path]) -> None:
    status = running[1].stat()
    assert stat.S_IMODE(status.st_mode) == 0o660
    assert status.st_gid == os.getgid()


def test_a_second_service_is_refused(running: tuple[Server, Path]) -> None:
    with pytest.raises(SettingsError, match="in use: another process listens there") as caught:
        listen(Settings(host=f"unix:{running[1]}"))
    assert str(running[1]) in str(caught.value)
    assert running[1].is_socket()


def test_the_file_is_gone_after_the_stop(
    request: pytest.FixtureRequest, running: tuple[Server, Path]
) -> None:
    """The last test that uses these servers. With one of them, it is gone before already."""
    server, path = running
    if request.node.callspec.id == "gthread":
        path.unlink()
    assert server.stop() == 0
    assert not path.exists()
    assert not server.tracebacks


@pytest.mark.parametrize("there", ["nothing", "another service's"])
def test_a_file_that_is_not_its_own_is_not_removed(tmp_path: Path, there: str) -> None:
    """An operator has removed it meanwhile, and perhaps started another service."""
    path = tmp_path / "http.sock"
    with listening(Settings(host=f"unix:{path}")):
        path.rename(tmp_path / "old.sock")
        if there != "nothing":
            path.write_text(there, encoding="ascii")
    assert path.exists() == (there != "nothing")


def test_a_start_that_fails_leaves_no_file(tmp_path: Path) -> None:
    """As where there is no room on /dev/shm: before gunicorn has the socket."""
    path = tmp_path / "http.sock"
    with suppress(SettingsError), listening(Settings(host=f"unix:{path}")):
        assert path.is_socket()
        raise SettingsError
    assert not path.exists()


def test_another_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("mine", encoding="ascii")
    with pytest.raises(SettingsError, match="is no socket: another file is there"):
        listen(Settings(host=f"unix:{path}"))
    assert path.read_text(encoding="ascii") == "mine"


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("", "names no file"),
        ("/nowhere/http.sock", "No such file or directory"),
        ("/tmp/" + "x" * 120, "108 bytes"),  # noqa: S108
    ],
)
def test_a_path_that_cannot_be(path: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said) as caught:
        listen(Settings(host=f"unix:{path}"))
    assert str(caught.value).startswith(f"host unix:{path}")
    assert "\n" not in str(caught.value)


# ---- both kinds of addresses ---------------------------------------------------------------------

# In a network of its own, where the system's settings may be changed.
_IN_A_NETWORK = """
import socket, sys
from pathlib import Path
from service.server.listener import listen
from service.settings import Settings, SettingsError
Path("/proc/sys/net/ipv6", sys.argv[1]).write_text("1")
try:
    listener = listen(Settings(host=sys.argv[2], port=8000))
except SettingsError as error:
    sys.exit(str(error))
for family, home in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
    try:
        socket.socket(family).connect((home, 8000))
        print(home)
    except OSError:
        pass
"""


def in_a_network(setting: str, host: str) -> subprocess.CompletedProcess[str]:
    """What listening gives in a network with a setting of ``net.ipv6`` switched on."""
    script = f"ip link set lo up; exec {sys.executable} -c '{_IN_A_NETWORK}' {setting} {host}"
    command = ["unshare", "--net", "sh", "-c", script]
    if os.geteuid() or not shutil.which("unshare") or not shutil.which("ip"):
        pytest.skip("IPV6 IS NOT TESTED WHERE IT IS OFF: this needs root, unshare and ip")
    if subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False).returncode:
        pytest.skip("IPV6 IS NOT TESTED WHERE IT IS OFF: no network of its own can be made here")
    return subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=60
    )


@pytest.mark.parametrize("host", ["::", "[::]"])
def test_every_address_is_every_address_whatever_the_systems_default(host: str) -> None:
    done = in_a_network("bindv6only", host)
    assert done.stdout.split() == ["127.0.0.1", "::1"], done.stderr


def test_where_ipv6_is_off_one_line_says_so() -> None:
    done = in_a_network("conf/all/disable_ipv6", "::1")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("host ::1 and port 8000 cannot be listened on: ")
    assert "IPv6 is off here; give 0.0.0.0" in line


@pytest.mark.parametrize("host", ["::", "::1", "[2001:db8::1]"])
def test_a_kernel_without_ipv6_is_named(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    def refuse(family: int, *_more: object) -> None:
        assert family == socket.AF_INET6
        raise OSError(97, "Address family not supported by protocol")

    monkeypatch.setattr(socket, "socket", refuse)
    with pytest.raises(SettingsError, match="IPv6 is off here"):
        listen(Settings(host=host))


# ---- Docker's health check -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "arguments"),
    [
        ({}, {}),
        ({"PORT": "81", "LABELSERVE_HOST": "::1"}, {}),
        ({"LABELSERVE_HOST": "unix:/run/labelserve.sock"}, {}),
        ({"AIP_HTTP_PORT": "82", "SAGEMAKER_BIND_TO_PORT": "83"}, {}),
        ({"SAGEMAKER_BIND_TO_PORT": "83"}, {}),
        ({"PORT": "84", "AIP_HTTP_PORT": "82"}, {}),
        ({"PORT": "84", "LABELSERVE_HOST": "::"}, {"port": "85", "host": "127.0.0.1"}),
    ],
)
def test_the_health_check_looks_where_the_service_listens(
    environ: dict[str, str], arguments: dict[str, str]
) -> None:
    given = [f"--{name}={value}" for name, value in arguments.items()]
    command = ["docker-init", "--", "python", "-m", "service", "serve", *given, "--name=pets"]
    settings = Settings.from_environ(environ, arguments)
    found = runpy.run_path(str(HEALTHCHECK))["address"](command, environ)
    assert found == (settings.host, settings.port)


@pytest.mark.parametrize(
    "host",
    ["", "127.0.0.1", "localhost", "0.0.0.0", "::", "::1", "[::]", "[::1]"],  # noqa: S104
)
def test_the_health_check_reaches_every_address(host: str) -> None:
    settings = Settings(host=host, port=free_port())

    def answer() -> None:
        client, _ = listener.accept()
        with client:
            client.recv(1000)
            client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nready")

    with listen(settings) as listener:
        listener.settimeout(30)
        thread = threading.Thread(target=answer)
        thread.start()
        done = checked({"LABELSERVE_HOST": host, "PORT": str(settings.port)})
        thread.join()
    assert (done.returncode, done.stdout) == (0, "200 ready\n")
