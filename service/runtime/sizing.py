"""What the settings mean on this machine, worked out once into a value.

Peak memory is arithmetic:

    master + workers x (process + models + decoders x pixels + bodies + copies + shadow)

Models are all versions that are open, and the largest once more, because a new file is opened
beside the old one. Bodies are the request bodies that may be buffered; copies are the parts of the
forms that are parsed at the same time; shadow is what is kept of answered requests, at most the
bytes of one image. Settings that could not fit into the memory are lowered in a fixed order.
"""

import math
from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec.structs import fields, replace

from service.inference.errors import ModelNotFound
from service.inference.layout import read_layout
from service.runtime.machine import Machine
from service.settings import Settings, SettingsError, variable_name

# A core gains nothing from larger batches.
MAX_BATCH_SIZE = 16
# Predictions that each core always accepts, however long one takes.
IN_FLIGHT_PER_CORE = 64

# Measured (docs/performance.md): proportional shares of an idle service, rounded up.
MASTER_BYTES = 60_000_000
PROCESS_BYTES = 70_000_000
# An opened model's memory over its file's size: the file, the graph and the packed weights.
MODEL_FACTOR = 4
# The largest of the formats, beside the file itself (see service.inference.imaging).
BYTES_PER_PIXEL = 17
BYTES_PER_PIXEL_JPEG2000 = 25
# The rest of the limit is left for the page cache, fragmentation and what is not counted here.
USABLE_SHARE = 0.9
# One worker that decodes a phone's photograph is better than two that do not.
PHONE_PIXELS = 12_500_000
LEAST_PIXELS = 1_000_000
LEAST_IMAGE_BYTES = 5_000_000


class Sizing(msgspec.Struct, frozen=True, kw_only=True):
    """Processes, and what each of them may use.

    ``settings`` are those that fit the machine; ``lowered`` has a line about each that was lowered.
    All numbers but ``workers`` are of one worker.
    """

    settings: Settings
    machine: Machine
    workers: int
    inference_threads: int
    decoders: int
    max_batch_size: int
    max_in_flight: int
    admits_by_wait: bool
    buffered_bytes: int
    connections: int
    lowered: tuple[str, ...] = ()

    @classmethod
    def of(cls, settings: Settings, machine: Machine) -> "Sizing":
        """The numbers that the settings give on this machine, whether or not they fit."""
        cores, whole_cores = machine.cores, max(1, math.ceil(machine.cores))
        workers = settings.workers or whole_cores
        in_flight = settings.max_in_flight or IN_FLIGHT_PER_CORE * whole_cores
        cores_each = min(1.0, cores / workers)
        return cls(
            settings=settings,
            machine=machine,
            workers=workers,
            inference_threads=settings.inference_threads or max(1, int(cores / workers)),
            decoders=_share(settings.decoders or whole_cores, workers),
            max_batch_size=settings.max_batch_size or max(1, round(MAX_BATCH_SIZE * cores_each)),
            max_in_flight=_share(in_flight, workers),
            # gthread has a thread for each request, and not more threads than requests in flight.
            admits_by_wait=not settings.max_in_flight and settings.worker == "asyncio",
            # One body always fits.
            buffered_bytes=max(_share(settings.max_buffered_bytes, workers), settings.largest_body),
            connections=_share(settings.max_connections, workers),
        )

    @classmethod
    def fitted(cls, settings: Settings, machine: Machine | None = None) -> "Sizing":
        """The same with settings lowered until they fit the machine's memory.

        Raises:
            SettingsError: not even the least settings fit.
        """
        machine = machine or Machine.measure()
        for labelled in (True, False):
            files = _model_bytes(settings.model, labelled=labelled)
            sizing = cls._lowered(settings, machine, files)
            if sizing.has_room(*files):
                return replace(sizing, lowered=_differences(settings, sizing))
        raise SettingsError(
            f"{machine.memory / 1e6:.0f} MB of memory are too few:"
            f" {sizing.needed_memory(*files) / 1e6:.0f} MB are the least for this model"
        )

    @classmethod
    def _lowered(cls, settings: Settings, machine: Machine, files: tuple[int, ...]) -> "Sizing":
        sizing = cls.of(settings, machine)
        for lower in _LOWERINGS:
            if sizing.has_room(*files):
                break
            sizing = cls.of(lower(sizing, settings, files), machine)
        return sizing

    def needed_bytes(self, *files: int) -> int:
        """The peak of all processes' memory with open model files of so many bytes."""
        settings = self.settings
        form = settings.largest_body + settings.max_image_bytes  # one form of many at a time
        worker = (
            PROCESS_BYTES
            + MODEL_FACTOR * (sum(files) + max(files, default=0))
            + self.decoders * _bytes_per_pixel(settings) * settings.max_pixels
            + self.buffered_bytes
            + (self.decoders + 1) * settings.max_image_bytes
            + form
            + (settings.max_image_bytes if settings.shadow else 0)
        )
        return MASTER_BYTES + self.workers * worker

    def needed_memory(self, *files: int) -> float:
        """Bytes that a machine must have for this peak."""
        return self.needed_bytes(*files) / USABLE_SHARE

    def has_room(self, *files: int) -> bool:
        """Whether model files of so many bytes fit, all of them open."""
        return self.needed_memory(*files) <= self.machine.memory


def _model_bytes(path: Path, *, labelled: bool) -> tuple[int, ...]:
    """Bytes of each model file that has to fit; none of a path that is refused when it is read.

    Those of all versions with a label may make other settings smaller; what none asks for does not.
    """
    try:
        return tuple(size for model in read_layout(path) for size in model.sizes(labelled=labelled))
    except ModelNotFound:
        return ()


def _share(total: int, workers: int) -> int:
    """One worker's share of a bound on the whole service, at least 1."""
    return max(1, math.ceil(total / workers))


def _bytes_per_pixel(settings: Settings) -> int:
    return BYTES_PER_PIXEL_JPEG2000 if "JPEG2000" in settings.formats else BYTES_PER_PIXEL


# Each takes the sizing so far, the settings that were wanted and the model files' bytes, and gives
# lower settings.
_Lowering = Callable[[Sizing, Settings, tuple[int, ...]], Settings]


def _one_decoder(sizing: Sizing, _wanted: Settings, _files: tuple[int, ...]) -> Settings:
    return replace(sizing.settings, decoders=sizing.workers)


def _small_buffer(sizing: Sizing, _wanted: Settings, _files: tuple[int, ...]) -> Settings:
    least = sizing.workers * sizing.settings.largest_body
    return replace(
        sizing.settings, max_buffered_bytes=min(sizing.settings.max_buffered_bytes, least)
    )


def _small_batches(sizing: Sizing, wanted: Settings, files: tuple[int, ...]) -> Settings:
    settings = sizing.settings
    lowered = min(settings.max_batch_bytes, settings.max_image_bytes)
    small = Sizing.of(replace(settings, max_batch_bytes=lowered), sizing.machine)
    return _small_buffer(small, wanted, files)


def _fewer_pixels(
    sizing: Sizing, wanted: Settings, files: tuple[int, ...], least: int = PHONE_PIXELS
) -> Settings:
    none = Sizing.of(replace(sizing.settings, max_pixels=0), sizing.machine)
    left = sizing.machine.memory * USABLE_SHARE - none.needed_bytes(*files)
    fitting = int(left / (sizing.workers * sizing.decoders * _bytes_per_pixel(sizing.settings)))
    return replace(sizing.settings, max_pixels=min(wanted.max_pixels, max(fitting, least)))


def _one_worker(sizing: Sizing, wanted: Settings, files: tuple[int, ...]) -> Settings:
    one = Sizing.of(replace(sizing.settings, workers=1, decoders=1), sizing.machine)
    small = Sizing.of(_small_buffer(one, wanted, files), sizing.machine)
    return _fewer_pixels(small, wanted, files)


def _least(sizing: Sizing, wanted: Settings, files: tuple[int, ...]) -> Settings:
    lowered = min(sizing.settings.max_image_bytes, LEAST_IMAGE_BYTES)
    small = Sizing.of(replace(sizing.settings, max_image_bytes=lowered), sizing.machine)
    batches = Sizing.of(_small_batches(small, wanted, files), sizing.machine)
    return _fewer_pixels(batches, wanted, files, LEAST_PIXELS)


# What is given up first stands first.
_LOWERINGS: tuple[_Lowering, ...] = (
    _one_decoder,
    _small_buffer,
    _small_batches,
    _fewer_pixels,
    _one_worker,
    _least,
)


def _differences(wanted: Settings, sizing: Sizing) -> tuple[str, ...]:
    return tuple(
        f"{variable_name(field.name)} is lowered from {before} to {after}:"
        f" memory is {sizing.machine.memory // 10**6} MB"
        for field in fields(Settings)
        if (before := getattr(wanted, field.name))
        != (after := getattr(sizing.settings, field.name))
    )
