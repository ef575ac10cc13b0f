"""Peak memory as arithmetic: what the settings may add up to, and settings that fit a limit.

    master + workers x (process + two models + decoders x pixels + bodies + copies)

Two models, because a new one is opened beside the old one. Bodies is all that may be buffered;
copies are the parts of the forms that are taken apart at the same time.
"""

import ctypes
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from msgspec.structs import fields, replace

from service.inference.errors import ModelTooLarge
from service.settings import Settings, SettingsError, variable_name

# Measured (docs/operations.md): proportional shares of an idle service, rounded up.
MASTER_BYTES = 60_000_000
PROCESS_BYTES = 70_000_000
# An opened model's memory over its file's size: the file, the graph and the packed weights.
MODEL_FACTOR = 4
# The worst of the formats, beside the file itself (see service.inference.imaging).
BYTES_PER_PIXEL = 17
BYTES_PER_PIXEL_JPEG2000 = 25
# The rest of the limit is left to page cache, fragmentation and what is not counted here.
USABLE_SHARE = 0.9
# A phone's photograph is worth a worker; the least is worth a service.
PHONE_PIXELS = 12_500_000
LEAST_PIXELS = 1_000_000
LEAST_IMAGE_BYTES = 5_000_000

# mallopt(3).
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
_LARGE_BLOCK_BYTES = 1 << 20
TRIM_SECONDS = 2.0
_ARENAS = 2

_CGROUP = Path("/sys/fs/cgroup")


def fitted_settings(
    environ: Mapping[str, str] = os.environ, limit: int | None = None
) -> tuple[Settings, list[str]]:
    """The environment's settings, lowered where they could not fit the memory there is.

    Args:
        environ: the variables.
        limit: bytes; by default the cgroup's limit, or all of the machine's memory.

    Returns:
        The settings, and a line about each that was lowered.

    Raises:
        SettingsError: a variable cannot be understood, or not even the least settings fit.
    """
    wanted = Settings.from_environ(environ)
    limit = available_memory() if limit is None else limit
    settings = wanted
    for lower in _LOWERINGS:
        if _fits(settings, limit):
            break
        settings = lower(settings, wanted, limit)
    if not _fits(settings, limit):
        raise SettingsError(
            f"{limit / 1e6:.0f} MB of memory are too few:"
            f" {needed_bytes(settings) / USABLE_SHARE / 1e6:.0f} MB are the least for this model"
        )
    return settings, _differences(wanted, settings, limit)


def require_room(settings: Settings, limit: int | None = None) -> None:
    """Hold the model file, as large as it is now, against the memory there is.

    Raises:
        ModelTooLarge: the service could grow beyond its limit with it.
    """
    limit = available_memory() if limit is None else limit
    if not _fits(settings, limit):
        needed = needed_bytes(settings) / USABLE_SHARE
        raise ModelTooLarge(
            f"model file {settings.model} needs {needed / 1e6:.0f} MB of memory,"
            f" and there are {limit / 1e6:.0f} MB"
        )


def _fits(settings: Settings, limit: int) -> bool:
    return needed_bytes(settings) <= limit * USABLE_SHARE


def needed_bytes(settings: Settings) -> int:
    """The peak that the settings allow."""
    workers = settings.worker_count
    decoders = settings.decoders_per_worker
    model = MODEL_FACTOR * _file_size(settings.model)
    forms = settings.largest_body + settings.max_image_bytes  # a form of many has a thread
    copies = (decoders + 1) * settings.max_image_bytes + forms
    worker = (
        PROCESS_BYTES
        + 2 * model
        + decoders * _bytes_per_pixel(settings) * settings.max_pixels
        + settings.buffered_bytes_per_worker
        + copies
    )
    return MASTER_BYTES + workers * worker


def give_back_freed_memory() -> None:
    """Have the C library return large blocks to the system as soon as they are freed.

    glibc raises the size from which it does so to that of the largest block freed so far, up to
    32 MB. Pillow's pixels come in blocks of 16 MB: after a few large pictures they would stay, full
    of holes, and the service's memory with them. Another C library does as it does.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK_BYTES)
        libc.mallopt(_M_ARENA_MAX, _ARENAS)


def keep_giving_back() -> None:
    """From a thread of its own, give back every few seconds what smaller freed blocks leave.

    A burst of large bodies, which come in pieces of 64 kB, would leave its mark on the process
    until it ends: the memory is free, and the C library keeps it. malloc_trim(3) takes about 1 ms.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        threading.Thread(target=_trim, args=(libc,), name="trim", daemon=True).start()


def _trim(libc: ctypes.CDLL) -> None:
    while True:
        time.sleep(TRIM_SECONDS)
        libc.malloc_trim(0)


def available_memory(cgroup: Path = _CGROUP) -> int:
    """Bytes that this process may use: the cgroup's limit (v2, else v1), or all there are."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            text = (cgroup / name).read_text().strip()
        except OSError:
            continue
        if text.isdecimal():
            return min(int(text), physical)
    return physical


def _one_decoder(settings: Settings, _wanted: Settings, _limit: int) -> Settings:
    return replace(settings, decoders=settings.worker_count)


def _small_buffer(settings: Settings, _wanted: Settings, _limit: int) -> Settings:
    least = settings.worker_count * settings.largest_body
    return replace(settings, max_buffered_bytes=min(settings.max_buffered_bytes, least))


def _small_batches(settings: Settings, wanted: Settings, limit: int) -> Settings:
    lowered = min(settings.max_batch_bytes, settings.max_image_bytes)
    return _small_buffer(replace(settings, max_batch_bytes=lowered), wanted, limit)


def _fewer_pixels(
    settings: Settings, wanted: Settings, limit: int, least: int = PHONE_PIXELS
) -> Settings:
    fixed = needed_bytes(replace(settings, max_pixels=0))
    each = settings.worker_count * settings.decoders_per_worker * _bytes_per_pixel(settings)
    fitting = int((limit * USABLE_SHARE - fixed) / each)
    return replace(settings, max_pixels=min(wanted.max_pixels, max(fitting, least)))


def _one_worker(settings: Settings, wanted: Settings, limit: int) -> Settings:
    settings = replace(settings, workers=1, decoders=1)
    return _fewer_pixels(_small_buffer(settings, wanted, limit), wanted, limit)


def _least(settings: Settings, wanted: Settings, limit: int) -> Settings:
    lowered = min(settings.max_image_bytes, LEAST_IMAGE_BYTES)
    settings = _small_batches(replace(settings, max_image_bytes=lowered), wanted, limit)
    return _fewer_pixels(settings, wanted, limit, LEAST_PIXELS)


# What is given up first stands first.
_LOWERINGS = (
    _one_decoder,
    _small_buffer,
    _small_batches,
    _fewer_pixels,
    _one_worker,
    _least,
)


def _differences(wanted: Settings, settings: Settings, limit: int) -> list[str]:
    lines = []
    for field in fields(Settings):
        before, after = getattr(wanted, field.name), getattr(settings, field.name)
        if before != after:
            name = variable_name(field.name)
            lines.append(
                f"{name} is lowered from {before} to {after}: memory is {limit // 10**6} MB"
            )
    return lines


def _bytes_per_pixel(settings: Settings) -> int:
    return BYTES_PER_PIXEL_JPEG2000 if "JPEG2000" in settings.formats else BYTES_PER_PIXEL


def _file_size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0  # said by whoever opens it
