"""A real nginx for tests, all of it in a folder of the test, with the committed example in it."""

import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.server import ROOT, accepts, eventually

EXAMPLE = (ROOT / "docker" / "nginx" / "labelserve.conf").read_text(encoding="utf-8")

# Workers of root's nginx would run as a user who may not write to the test's folder.
_USER = "user root;" if os.geteuid() == 0 else ""
_AROUND = """
daemon off;
{user}
worker_processes 1;
pid {folder}/nginx.pid;
events {{ worker_connections 2048; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    {http}
}}
"""


def example(port: int, replicas: Sequence[str], *, rate: str | None = None) -> str:
    """The committed file, changed in nothing but addresses.

    Args:
        port: where it listens, on this machine alone.
        replicas: their addresses with ports.
        rate: what one client may send in place of the example's, where it stands for many.
    """
    (options,) = set(re.findall(r"server 127\.0\.0\.1:\d+ (.*;)", EXAMPLE))
    servers = "".join(f"    server {replica} {options}\n" for replica in replicas)
    changes = [
        (r"( +server 127\.0\.0\.1:.*\n)+", servers),
        ("listen 80;", f"listen 127.0.0.1:{port};"),
    ]
    if rate is not None:
        changes.append((r"rate=\w+/s", f"rate={rate}"))
    text = EXAMPLE
    for old, new in changes:
        text, number = re.subn(old, new, text)
        assert number == 1, old
    return text


@contextmanager
def start_nginx(
    program: str, folder: Path, port: int, http: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Run it with ``http`` as that block's content, once it takes connections on ``port``.

    Its errors are in the folder's ``error.log``.
    """
    configuration, errors = folder / "nginx.conf", folder / "error.log"
    configuration.write_text(_AROUND.format(user=_USER, folder=folder, http=http))
    command = [program, "-c", str(configuration), "-e", str(errors)]
    checked = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    assert "[warn]" not in checked.stderr
    process = subprocess.Popen(command)
    try:
        assert eventually(lambda: process.poll() is not None or accepts(port))
        assert process.poll() is None, errors.read_text()
        yield process
    finally:
        process.terminate()
        process.wait(20)
