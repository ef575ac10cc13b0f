"""A package that is missing, or that the processor cannot run, is named in one line."""

import os
import signal
import time
from pathlib import Path

import pytest

from tests.field.starting import refused
from tests.server import eventually, launch

# What numpy 2.4 raises at its import on a processor without SSE4.2, and what it raises where a
# library of its own cannot be loaded.
TOO_OLD = """
raise RuntimeError(
    "NumPy was built with baseline optimizations: \\n"
    "(X86_V2) but your machine doesn't support:\\n(X86_V2)."
)
"""
NO_LIBRARY = """
try:
    raise ImportError("libgfortran.so: cannot open shared object file")
except ImportError as error:
    raise ImportError("\\n\\nIMPORTANT: PLEASE READ THIS\\n\\n" * 9) from error
"""
NOT_THERE = "raise ModuleNotFoundError(\"No module named 'numpy'\", name='numpy')"


@pytest.mark.parametrize("command", [(), ("card", "any.onnx"), ("predict", "any.onnx", "a.png")])
@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (TOO_OLD, "baseline optimizations: (X86_V2) but your machine"),
        (NO_LIBRARY, "libgfortran.so: cannot open"),
        (NOT_THERE, "the package numpy is not installed"),
    ],
    ids=["too-old", "no-library", "not-there"],
)
def test_a_package_that_cannot_be_imported(
    tmp_path: Path, command: tuple[str, ...], code: str, reason: str
) -> None:
    (tmp_path / "numpy").mkdir()
    (tmp_path / "numpy" / "__init__.py").write_text(code, encoding="ascii")
    status, lines, _ = refused(command=command, PYTHONPATH=str(tmp_path))
    assert status == 2
    (line,) = lines
    assert line.startswith("cannot start: ")
    assert reason in line


@pytest.mark.parametrize(
    ("worker", "number"), [("asyncio", signal.SIGILL), ("gthread", signal.SIGKILL)]
)
def test_a_worker_that_is_killed_while_it_starts(
    tmp_path: Path, worker: str, number: signal.Signals
) -> None:
    """An instruction that is not there, or memory that is not: no worker replaces it for ever."""
    model = tmp_path / "model.onnx"
    os.mkfifo(model)  # a worker that opens it waits
    server = launch(model, tmp_path, workers=2, worker=worker, graceful_timeout=0.5)
    try:
        assert eventually(lambda: len(server.workers) == 2)
        time.sleep(0.2)  # both are past gunicorn's part
        os.kill(server.workers[0], number)
        assert server.wait() == 3
        (line,) = [line for line in server.log if "cannot start" in line]
        assert number.name in line
        assert sum("Booting worker" in line for line in server.log) == 2
        assert not server.tracebacks
    finally:
        server.kill()
