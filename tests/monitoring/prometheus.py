"""A real Prometheus for tests, on a port of its own."""

import json
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.monitoring import files
from tests.server import eventually, free_port

# As short as Prometheus allows: its smallest step is a second.
STEP = "1s"


@dataclass(frozen=True)
class Prometheus:
    """A running Prometheus and its HTTP API."""

    port: int

    def api(self, path: str, **parameters: str) -> Any:
        """The data of an answer.

        Raises:
            urllib.error.HTTPError: the expression or the path is not valid.
        """
        query = urllib.parse.urlencode(parameters)
        address = f"http://127.0.0.1:{self.port}/api/v1/{path}?{query}"
        with urllib.request.urlopen(address, timeout=10) as response:
            return json.load(response)["data"]

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """The samples of an expression now."""
        data = self.api("query", query=expression)
        if data["resultType"] == "scalar":
            return [({}, float(data["result"][1]))]
        return [(sample["metric"], float(sample["value"][1])) for sample in data["result"]]

    def value(self, expression: str) -> float:
        """The only sample of an expression."""
        ((_labels, value),) = self.query(expression)
        return value


@contextmanager
def start_prometheus(program: str, folder: Path, target: str, window: int) -> Iterator[Prometheus]:
    """Run it with the committed files, changed in nothing but addresses and times.

    Args:
        program: where it is.
        folder: for its configuration and data.
        target: what stands for the service's address.
        window: seconds that stand for every window of the rules.
    """
    port = free_port()
    configuration = files.load(files.PROMETHEUS)
    configuration["global"] = {"scrape_interval": STEP, "evaluation_interval": STEP}
    for job in configuration["scrape_configs"]:
        own = job["job_name"] == "prometheus"
        job["static_configs"] = [{"targets": [f"127.0.0.1:{port}" if own else target]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    text = files.shortened(files.ALERTS.read_text(encoding="utf-8"), window)
    rules = yaml.safe_load(text)
    for rule in (rule for group in rules["groups"] for rule in group["rules"]):
        if "for" in rule:
            rule["for"] = STEP
    for name in configuration["rule_files"]:
        (folder / name).write_text(yaml.safe_dump(rules))
    log = folder / "prometheus.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                program,
                f"--config.file={folder}/prometheus.yml",
                f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    prometheus = Prometheus(port)
    try:
        assert eventually(lambda: process.poll() is not None or _answers(prometheus), 30)
        assert process.poll() is None, log.read_text()
        yield prometheus
    finally:
        process.terminate()
        process.wait(20)


def _answers(prometheus: Prometheus) -> bool:
    try:
        return bool(prometheus.query("up"))
    except OSError:
        time.sleep(0.1)
        return False
