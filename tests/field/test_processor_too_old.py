"""A package that is missing, or that the processor cannot run, is named in one line."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.field.starting import refused
from tests.images import encode, photograph
from tests.monitoring.tools import program
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


def emulated(processor: str, flags: str, folder: Path) -> tuple[str, ...]:
    """What runs a command on another processor, of which Linux says that it has these flags."""
    qemu = program("qemu-x86_64-static", "qemu-user-static", "old processors")
    cpuinfo = folder / "cpuinfo"
    cpuinfo.write_text(f"flags\t\t: fpu sse sse2 lm {flags}\n", encoding="ascii")
    unshare = ("unshare", "--mount", *(() if os.geteuid() == 0 else ("--map-root-user",)))
    mount = (*unshare, "sh", "-c", f'mount --bind {cpuinfo} /proc/cpuinfo && exec "$@"', "sh")
    if subprocess.run([*mount, "true"], capture_output=True, check=False).returncode:
        pytest.skip("OLD PROCESSORS NOT TESTED: no file can be mounted over /proc/cpuinfo here")
    return (*mount, qemu, "-cpu", processor)


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="x86-64-v2 is of x86")
class TestEmulated:
    """The wheels themselves, on processors that have no more than they say."""

    @pytest.mark.parametrize(
        ("processor", "flags", "lacks"),
        [
            ("qemu64", "pni cx16", "lahf_lm, popcnt, sse4_1, sse4_2, ssse3"),
            ("core2duo", "pni ssse3 cx16 lahf_lm", "popcnt, sse4_1, sse4_2"),
        ],
    )
    def test_too_old(self, tmp_path: Path, processor: str, flags: str, lacks: str) -> None:
        """Of these, importing numpy would end the process without a word."""
        status, (line,), _ = refused(by=emulated(processor, flags, tmp_path))
        assert status == 2
        assert line.startswith("cannot start: the processor, real or virtual, is too old")
        assert f"lacks {lacks}. " in line

    def test_just_new_enough(self, tiny_model: Path, tmp_path: Path) -> None:
        """The least of what docs/container.md names: no package asks for more."""
        nehalem = emulated("Nehalem", "pni cx16 lahf_lm popcnt sse4_1 sse4_2 ssse3", tmp_path)
        image = tmp_path / "image.jpg"
        image.write_bytes(encode(photograph(1, 32, 32), "JPEG"))
        command = ("predict", "--top-k", "1", str(tiny_model), str(image))
        there, here = refused(command=command, by=nehalem), refused(command=command)
        assert there.status == 0, there.lines
        # All but the last digits: without FMA, sums are rounded elsewhere.
        (_, row), (_, expected) = there.lines, here.lines
        assert row.split(",")[:3] == expected.split(",")[:3]


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
