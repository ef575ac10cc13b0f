"""docker/compose.yaml: by Compose itself where it is installed, and against the other files."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from service.runtime.machine import Machine
from service.runtime.sizing import Sizing
from service.settings import DEFAULT_MODEL, Settings, variable_name
from tests.monitoring import files
from tests.monitoring.tools import program
from tests.server import ROOT

COMPOSE = files.DOCKER / "compose.yaml"


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    content: dict[str, dict[str, Any]] = files.load(COMPOSE)["services"]
    return content


def test_compose_accepts_the_file() -> None:
    command = _compose()
    done = subprocess.run(
        [*command, "--file", str(COMPOSE), "config"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "labelserve:latest" in done.stdout


def test_it_runs_what_monitoring_needs(services: dict[str, dict[str, Any]]) -> None:
    assert set(services) == {"labelserve", "prometheus", "grafana"}
    for service in services.values():
        # Never "latest" of another project, and nothing for other machines to reach.
        repository, _, tag = service["image"].partition(":")
        assert repository == "labelserve" or re.fullmatch(r"v?\d+\.\d+\.\d+", tag)
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert "mem_limit" in service
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        for mount in service.get("volumes", []):
            host = mount.split(":")[0]
            assert not host.startswith(".") or (COMPOSE.parent / host).exists()
    assert (COMPOSE.parent / services["labelserve"]["build"]["context"]).resolve() == ROOT


def test_prometheus_scrapes_the_service_where_it_listens(
    services: dict[str, dict[str, Any]],
) -> None:
    jobs = {job["job_name"]: job for job in files.load(files.PROMETHEUS)["scrape_configs"]}
    (target,) = jobs["labelserve"]["static_configs"][0]["targets"]
    name, _, port = target.partition(":")
    assert name in services
    assert int(port) == Settings().port
    assert services[name]["ports"] == [f"127.0.0.1:8000:{port}"]


def test_the_service_is_hardened_and_fits(services: dict[str, dict[str, Any]]) -> None:
    service = services["labelserve"]
    assert service["read_only"] is True
    assert service["memswap_limit"] == service["mem_limit"]
    given = service["environment"]
    known = {variable_name(name) for name in Settings.__struct_fields__}
    assert set(given) <= known
    environ = {**given, "LABELSERVE_WORKERS": str(service["cpus"])}
    settings = Settings.from_environ(environ)
    machine = Machine(1, _bytes(service["mem_limit"]))
    assert Sizing.fitted(settings, machine).lowered == ()
    grace = float(service["stop_grace_period"].removesuffix("s"))
    assert grace > settings.drain_seconds + settings.graceful_timeout
    assert settings.model == DEFAULT_MODEL


def _bytes(text: str) -> int:
    """Docker's ``3g``: powers of 1024."""
    return int(text[:-1]) << 10 * ("kmg".index(text[-1]) + 1)


def _compose() -> list[str]:
    """Compose as a plugin of the client, or the older program of its own."""
    for client in ("/usr/bin/docker", shutil.which("docker")):
        if client and Path(client).exists():
            asked = subprocess.run([client, "compose", "version"], capture_output=True, check=False)
            if asked.returncode == 0:
                return [client, "compose"]
    return [program("docker-compose", "docker-compose", "compose.yaml by Compose itself")]
